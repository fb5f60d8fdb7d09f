"""Evaluates and draws what a run learned: `experiments/evaluate.py --run DIR --episodes 100 --render out.gif`.

It plays greedy and sampled episodes from the same starts. Of the greedy ones it also tells what the environment
counts, and on a grid the different cells that each agent has been in, in all episodes together and in the mean of one.
"""

import dataclasses
from typing import Annotated

import jax
import numpy as np
import tyro
from numpy.typing import NDArray

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.api import load, policy_of
from marl_jax.runs import summary
from marl_jax.statistics import Coverage, coverage


@dataclasses.dataclass
class Arguments:
    """Command line."""

    run: str
    """Folder of the run."""
    episodes: int = 100
    """Episodes for each seed: so many greedy ones, and as many sampled ones."""
    checkpoint: int | None = None
    """Which of the run's checkpoints, if not the last: the last two are there, and with --keep-every others, 0, the
    untrained teams, among them."""
    seed: int | None = None
    """Evaluate this seed only; all of them if not given. --render draws it, or the best one."""
    episode_seed: int = 0
    """Seed of the episodes."""
    explore: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """What is counted and drawn is of the sampled episodes, which act as in training, not of the greedy ones."""
    render: str | None = None
    """Draws one episode as an animated GIF to this file."""


def main() -> int:
    """Prints each seed's mean return and cells, and their summaries; returns the exit status."""
    args = command.parse(
        Arguments, "Evaluates and draws what a run learned, and counts the cells visited."
    )
    if args.episodes < 1:
        raise ConfigurationError(f"--episodes is {args.episodes}; it must be at least 1.")
    if not 0 <= args.episode_seed < 2**32:
        raise ConfigurationError(
            f"--episode-seed is {args.episode_seed}; it must be at least 0 and at most {2**32 - 1}."
        )
    target = None if args.render is None else command.gif(args.render, "--render")
    trainer, state, settings = load(args.run, args.checkpoint)
    seeds = (
        [args.seed]
        if args.seed is not None
        else range(settings.seed, settings.seed + settings.seeds)
    )
    key = jax.random.key(args.episode_seed)
    greedy: dict[int, float] = {}
    sampled: dict[int, float] = {}
    covered: list[Coverage] = []
    for seed in seeds:
        policy = policy_of(trainer, state, settings, seed)
        plays = [policy.play(key, args.episodes, explore) for explore in (False, True)]
        returns, drawn = (np.asarray(batch.team_return) for batch, _ in plays)
        greedy[seed], sampled[seed] = float(returns.mean()), float(drawn.mean())
        batch, extras = plays[args.explore]
        rest = "  ".join(f"{name} {np.mean(value):.4g}" for name, value in extras.items())
        print(f"seed {seed}: return {_spread(returns)}, sampled {_spread(drawn)}  {rest}")
        positions = command.cells(policy, key, batch)
        if positions is not None:
            covered.append(coverage(positions, np.asarray(batch.valid)))
            print(f"seed {seed}: {_cells(covered[-1:])}")
    if len(greedy) > 1:
        all_greedy, all_sampled = (np.array(list(means.values())) for means in (greedy, sampled))
        print(f"IQM of {len(greedy)} seeds: {summary(all_greedy)}, sampled {summary(all_sampled)}")
        if covered:
            print(f"mean of {len(greedy)} seeds: {_cells(covered)}")
    if target is not None:
        means = sampled if args.explore else greedy
        best = max(means, key=lambda seed: means[seed])
        with command.writing(target, "--render"):
            policy_of(trainer, state, settings, best).render(target, key, args.explore)
        print(f"drew an episode of seed {best} to {target}")
    return 0


def _spread(returns: NDArray[np.floating]) -> str:
    """Mean and standard deviation over episodes."""
    return f"{returns.mean():.4g} (deviation {returns.std():.3g})"


def _cells(of_seeds: list[Coverage]) -> str:
    """The mean over seeds, agent by agent."""
    together, of_an_episode = np.mean(of_seeds, axis=0)
    return f"cells of each agent {_numbers(together)}, in one episode {_numbers(of_an_episode)}"


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


if __name__ == "__main__":
    command.run(main)
