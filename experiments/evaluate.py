"""Evaluates and draws what a run learned: `experiments/evaluate.py --run DIR --episodes 100 --render out.gif`."""

import dataclasses
from typing import Annotated

import jax
import numpy as np
import tyro

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.api import load, policy_of
from marl_jax.runs import summary


@dataclasses.dataclass
class Arguments:
    """Command line."""

    run: str
    """Folder of the run."""
    episodes: int = 100
    """Episodes for each seed, greedy without --explore."""
    seed: int | None = None
    """Evaluate this seed only; all of them if not given. --render draws it, or the best one."""
    episode_seed: int = 0
    """Seed of the episodes."""
    explore: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Act as in training instead of greedily."""
    render: str | None = None
    """Draws one episode as an animated GIF to this file; as in training with --explore."""


def main() -> int:
    """Prints each seed's mean return and their IQM; returns the exit status."""
    args = command.parse(Arguments, "Evaluates and draws what a run learned.")
    if args.episodes < 1:
        raise ConfigurationError(f"--episodes is {args.episodes}; it must be at least 1.")
    if not 0 <= args.episode_seed < 2**32:
        raise ConfigurationError(
            f"--episode-seed is {args.episode_seed}; it must be at least 0 and at most {2**32 - 1}."
        )
    target = None if args.render is None else command.gif(args.render, "--render")
    trainer, state, settings = load(args.run)
    seeds = (
        [args.seed]
        if args.seed is not None
        else range(settings.seed, settings.seed + settings.seeds)
    )
    key, means = jax.random.key(args.episode_seed), {}
    for seed in seeds:
        policy = policy_of(trainer, state, settings, seed)
        batch, extras = policy.play(key, args.episodes, args.explore)
        returns = np.asarray(batch.team_return)
        means[seed] = float(returns.mean())
        rest = "  ".join(f"{name} {np.mean(value):.4g}" for name, value in extras.items())
        print(f"seed {seed}: return {returns.mean():.4g} (deviation {returns.std():.3g})  {rest}")
    if len(means) > 1:
        print(f"IQM of {len(means)} seeds: {summary(np.array(list(means.values())))}")
    if target is not None:
        best = max(means, key=lambda seed: means[seed])
        with command.writing(target, "--render"):
            policy_of(trainer, state, settings, best).render(target, key, args.explore)
        print(f"drew an episode of seed {best} to {target}")
    return 0


if __name__ == "__main__":
    command.run(main)
