"""Evaluates and draws what a run learned: `experiments/evaluate.py --run DIR --episodes 100 --render out.gif`.

It plays greedy and sampled episodes from the same starts. Of the greedy ones it also tells what the environment
counts, and on a grid the different cells that each agent has been in, in all episodes together and in the mean of one.

`experiments/evaluate.py --env turn --policy random --episodes 1000` plays no run but random legal actions or, scripted,
the environment's reference policy, which sees its whole state.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import argparse
import dataclasses
import sys
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from numpy.typing import NDArray

import envs
from envs.base import MultiAgentEnv
from envs.files import gif_path
from experiments import command
from marl_jax import ConfigurationError
from marl_jax.rollout import check_num_episodes
from marl_jax.runs import summary
from marl_jax.statistics import Coverage, coverage


@dataclasses.dataclass
class Arguments:
    """Command line."""

    run: str | None = None
    """Folder of the run, or a team: its file, or the name of one that comes with the library, such as turn/liir."""
    policy: str | None = None
    """In place of a run: random (uniform over the legal actions) or scripted (the environment's reference policy)."""
    env: str | None = None
    """With --policy: the environment to play; its options are --env.NAME."""
    episodes: int = 100
    """Episodes for each seed: so many greedy ones, and as many sampled ones."""
    checkpoint: int | Literal["best"] | None = None
    """Which of the run's checkpoints, if not the last: the last two are there, with --keep-every others, 0, the
    untrained teams, among them, and best, every seed as it was at its best evaluation."""
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
    args = _parse(sys.argv[1:])
    if args.episodes < 1:
        raise ConfigurationError(f"--episodes is {args.episodes}; it must be at least 1.")
    if not 0 <= args.episode_seed < 2**32:
        raise ConfigurationError(
            f"--episode-seed is {args.episode_seed}; it must be at least 0 and at most {2**32 - 1}."
        )
    if args.run is None:
        return _play_policy(args)
    target = None if args.render is None else gif_path("--render", args.render)
    policies = command.policies(args.run, args.seed, args.checkpoint)
    key = jax.random.key(args.episode_seed)
    greedy: dict[int, float] = {}
    sampled: dict[int, float] = {}
    headline, first = next(iter(policies.values())).env.headline, {}
    covered: list[Coverage] = []
    for seed, policy in policies.items():
        plays = [policy.play(key, args.episodes, explore) for explore in (False, True)]
        returns, drawn = (np.asarray(batch.team_return) for batch, _ in plays)
        greedy[seed], sampled[seed] = float(returns.mean()), float(drawn.mean())
        batch, extras = plays[args.explore]
        means = {name: float(np.mean(value)) for name, value in extras.items()}
        said = [f"return {_spread(returns)}, sampled {_spread(drawn)}"]
        if headline is not None:
            first[seed] = means.pop(headline)
            said.insert(0, f"{headline} {first[seed]:.4g}")
        said += [f"{name} {value:.4g}" for name, value in means.items()]
        print(f"seed {seed}: {'  '.join(said)}")
        positions = command.cells(policy, key, batch)
        if positions is not None:
            covered.append(coverage(positions, np.asarray(batch.valid)))
            print(f"seed {seed}: {_cells(covered[-1:])}")
    if len(greedy) > 1:
        all_greedy, all_sampled = (np.array(list(means.values())) for means in (greedy, sampled))
        if headline is not None:
            wins = np.array(list(first.values()))
            print(f"{headline}, IQM of {len(first)} seeds: {summary(wins)}")
        print(
            f"return, IQM of {len(greedy)} seeds: {summary(all_greedy)}, sampled {summary(all_sampled)}"
        )
        if covered:
            print(f"mean of {len(greedy)} seeds: {_cells(covered)}")
    if target is not None:
        means = sampled if args.explore else greedy
        best = max(means, key=lambda seed: means[seed])
        with command.writing(target, "--render"):
            policies[best].render(target, key, args.explore)
        print(f"drew an episode of seed {best} to {target}")
    return 0


def _parse(arguments: list[str]) -> Any:
    """The command line, with the options of the environment that it names."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--env")
    try:
        name = first.parse_known_args(arguments)[0].env
    except argparse.ArgumentError as error:
        raise ConfigurationError(f"{error}; --help lists all options.") from error
    options = envs.world_class(name or "turn").Config()

    @dataclasses.dataclass
    class WithOptions(Arguments):
        """Command line."""

        env_options: Annotated[Any, tyro.conf.arg(name="env", constructor=type(options))] = options

    args = command.parse(
        WithOptions,
        "Evaluates and draws what a run learned, and counts the cells visited; or plays a random or scripted policy.",
        arguments,
    )
    # What is allowed with a run, and with a policy in its place.
    given = [argument.split("=")[0] for argument in arguments if argument.startswith("--")]
    of_policies = [x for x in given if x == "--env" or x.startswith(("--env.", "--no-env."))]
    of_runs = [
        x for x in given if x in ("--run", "--checkpoint", "--seed", "--explore", "--render")
    ]
    if args.policy is None:
        if of_policies:
            raise ConfigurationError(
                f"{of_policies[0]} is given without --policy; a run plays its own environment, only --policy random "
                "and scripted need one."
            )
        if args.run is None:
            raise ConfigurationError(
                "--run is missing; give the folder of a run, or --policy random or scripted with --env."
            )
    elif args.policy not in ("random", "scripted"):
        raise ConfigurationError(f"--policy is {args.policy!r}; it must be random or scripted.")
    elif of_runs:
        raise ConfigurationError(f"{of_runs[0]} is given with --policy; it must go with a run.")
    elif args.env is None:
        raise ConfigurationError(f"--env is missing; choose from: {', '.join(envs.names())}.")
    return args


def _play_policy(args: Any) -> int:
    """Prints the mean return of a random or scripted policy with its interval; returns the exit status."""
    env = envs.make(args.env, **dataclasses.asdict(args.env_options))
    check_num_episodes(env, "--episodes", args.episodes)
    key = jax.random.key(args.episode_seed)
    returns = _returns(env, args.policy == "scripted", key, args.episodes)
    mean = float(returns.mean())
    # 1.96 deviations of the mean: there are many episodes.
    error = 1.96 * float(returns.std(ddof=min(1, args.episodes - 1))) / args.episodes**0.5
    print(
        f"{args.policy} on {args.env}: mean return of {args.episodes} "
        f"episode{'s' * (args.episodes > 1)} {mean:.4g} "
        f"(95% interval {mean - error:.4g} to {mean + error:.4g})"
    )
    return 0


def _returns(
    env: MultiAgentEnv[Any], scripted: bool, key: jax.Array, num_episodes: int
) -> NDArray[np.float64]:
    """The team's returns, [num_episodes], from the same starts as a run's evaluation with this key."""
    reset_key, _, act_key = jax.random.split(key, 3)

    def episode(reset_key: jax.Array, act_key: jax.Array) -> jax.Array:
        def step(carry: Any, key: jax.Array) -> Any:
            state, mask, alive, total = carry
            action = env.scripted_action(state) if scripted else env.random_action(key, mask)
            state, timestep = env.step(state, action)
            total += jnp.where(alive, timestep.reward.mean(), 0.0)
            mask = timestep.observation.action_mask
            return (state, mask, alive & ~timestep.last(), total), None

        state, first = env.reset(reset_key)
        carry = (state, first.observation.action_mask, jnp.array(True), jnp.array(0.0))
        carry, _ = jax.lax.scan(step, carry, jax.random.split(act_key, env.time_limit))
        return carry[-1]

    keys = (jax.random.split(each, num_episodes) for each in (reset_key, act_key))
    return np.asarray(jax.jit(jax.vmap(episode))(*keys), np.float64)


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
