"""Plays one episode and shows it: `experiments/play.py --env NAME --policy scripted --render out.gif`."""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.progress import track

import envs
from envs.base import MultiAgentEnv
from envs.files import gif_path, user_path
from experiments import command
from marl_jax import ConfigurationError, teams
from marl_jax.policy import Episode, play_episode
from marl_jax.settings import MAX_SEED

DESCRIPTION = """Plays one episode of an environment and shows it: as text in the terminal, or with --render as an
animated GIF. --policy is "random" (uniform over the legal actions), "scripted" (the environment's reference policy,
which sees its whole state), the folder of a run or a team (greedy; --env and its options are then its own). Options
of the environment are --env.NAME; this page shows those of the one named on the command line (turn if none is);
[P] marks what a paper says, [R] a public code, [S] a choice of this project. `marl-jax list` shows all environments."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line, plays and shows; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    args = _parse(arguments)
    target = None if args.render is None else gif_path("--render", args.render)
    env, episode = _episode(args)
    if target is None:
        _print(env, episode.states, args.frames_per_second)
    else:
        frames = track(episode.states, "drawing") if sys.stderr.isatty() else episode.states
        with command.writing(target, "--render"):
            env.animate(frames, str(target), args.frames_per_second)

    returns = episode.reward.sum(axis=0)
    rest = "  ".join(f"{name} {value:.4g}" for name, value in episode.extras.items())
    each = f" (each agent: {', '.join(f'{r:.4g}' for r in returns)})" if np.ptp(returns) else ""
    print(f"{len(episode.reward)} steps, return {returns.mean():.4g}{each}  {rest}")
    if target is not None:
        print(f"drew the episode to {target}")
    return 0


def _parse(arguments: list[str]) -> Any:
    """The command line, with the options of the environment that it names."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--env", "--policy"):
        first.add_argument(flag)
    try:
        name = first.parse_known_args(arguments)[0].env
    except argparse.ArgumentError as error:
        raise ConfigurationError(f"{error}; --help lists all options.") from error
    options = envs.world_class(name or "turn").Config()

    @dataclasses.dataclass
    class Arguments:
        """Command line."""

        policy: str = "scripted"
        """random, scripted, the folder of a run, or a team: a file, or one of the library's such as turn/liir."""
        env: str | None = None
        """Environment to play."""
        render: str | None = None
        """Draws the episode as an animated GIF to this file."""
        seed: int = 0
        """Seed of the episode."""
        run_seed: int | None = None
        """Which seed of the run plays; its first if not given."""
        frames_per_second: float = 5.0
        """Steps shown a second."""
        env_options: Annotated[Any, tyro.conf.arg(name="env", constructor=type(options))] = options

    # A run brings the options of its environment along.
    policy = first.parse_known_args(arguments)[0].policy or "scripted"
    options_given = [a.split("=")[0] for a in arguments if a.startswith(("--env.", "--no-env."))]
    if policy not in ("random", "scripted") and options_given:
        raise ConfigurationError(
            f"{options_given[0]} is given with --policy {policy}; a run plays its own environment, only random and "
            "scripted take options."
        )
    args = command.parse(Arguments, DESCRIPTION, arguments)
    if not 0 <= args.seed <= MAX_SEED:
        raise ConfigurationError(f"--seed is {args.seed}; it must be one of 0 to {MAX_SEED}.")
    if not 0 < args.frames_per_second <= 100:
        raise ConfigurationError(
            f"--frames-per-second is {args.frames_per_second}; it must be above 0 and at most 100."
        )
    return args


def _episode(args: Any) -> tuple[MultiAgentEnv[Any], Episode]:
    """Plays what the command line asks for."""
    key = jax.random.key(args.seed)
    if args.policy not in ("random", "scripted"):
        named = user_path("--policy", args.policy)
        if not named.exists() and args.policy not in teams.names():
            raise ConfigurationError(
                f"--policy is {args.policy!r}; it must be random, scripted, the folder of a run, a team's file, or one "
                f"of: {', '.join(teams.names())}."
            )
        if args.env is not None:
            raise ConfigurationError(
                f"--env is given with --policy {args.policy}; a run plays its own environment, "
                "only random and scripted need one."
            )
        policy = next(iter(command.policies(args.policy, args.run_seed).values()))
        return policy.env, policy.episode(key)
    if args.env is None:
        raise ConfigurationError(f"--env is missing; choose from: {', '.join(envs.names())}.")
    if args.run_seed is not None:
        raise ConfigurationError(f"--run-seed is given, but --policy {args.policy} is no run.")
    env = envs.make(args.env, **dataclasses.asdict(args.env_options))

    def act(memory: Any, state: Any, observation: envs.Observation, key: jax.Array) -> Any:
        if args.policy == "scripted":
            return memory, env.scripted_action(state)
        return memory, env.random_action(key, observation.action_mask)

    return env, play_episode(env, act, None, key)


def _print(env: MultiAgentEnv[Any], states: Sequence[Any], frames_per_second: float) -> None:
    """Shows the states one after the other; on a terminal each in the place of the one before."""
    for number, state in enumerate(states):
        if sys.stdout.isatty():
            if number:
                time.sleep(1 / frames_per_second)
            print("\x1b[2J\x1b[H", end="")
        print(env.text(state), end="\n\n", flush=True)


if __name__ == "__main__":
    command.run(main)
