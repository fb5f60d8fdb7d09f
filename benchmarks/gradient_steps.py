"""Time of a gradient step of value methods, or of a whole update of others, beside the first of them in the same run.

`python benchmarks/gradient_steps.py --methods qmix roma --env pac_men` compiles each method's gradient step (drawing
nothing, on one batch of exploring episodes, one seed) and prints the median of several timed runs of many steps. Of
methods that are no Q-learners it times updates on one iteration's episodes: `--methods mappo liir eoi@mappo`. The
methods take turns, so that a machine that gets busier does not decide.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

import envs
from experiments import command
from marl_jax import ConfigurationError, methods
from marl_jax.methods.q_learner import QLearner
from marl_jax.rollout import rollout

STEPS = 20
"""Gradient steps of a timed run."""


@dataclasses.dataclass
class Arguments:
    """Command line."""

    methods: tuple[str, ...] = ("qmix", "roma", "maven", "scds", "cds")
    """Methods or pairs, all value methods or all others; the first is the reference."""
    env: str = "pac_men"
    """Task."""
    batch_size: int = 32
    """Episodes of a value method's gradient step."""
    repeats: int = 9
    """Timed runs, after one to warm up."""


def main() -> int:
    """Prints the table; returns the exit status."""
    args = command.parse(Arguments, "Time of a gradient step, or of an update.")
    for flag, value in (("--batch-size", args.batch_size), ("--repeats", args.repeats)):
        if value < 1:
            raise ConfigurationError(f"{flag} is {value}; it must be at least 1.")
    if not args.methods:
        raise ConfigurationError("--methods is empty; it must name one or more methods.")
    kinds = {_is_value_method(name.replace("-", "_")) for name in args.methods}
    if len(kinds) > 1:
        raise ConfigurationError(
            f"--methods is {' '.join(args.methods)}; all must be value methods, or none."
        )
    unit = "step" if kinds == {True} else "update"
    programs = {name: _program(name.replace("-", "_"), args) for name in args.methods}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(args.repeats):
        for name, program in programs.items():
            began = time.perf_counter()
            program()
            seconds[name].append((time.perf_counter() - began) / STEPS)
    print(f"{args.env}, {jax.devices()[0].device_kind}")
    print(f"{'method':24}{'ms a ' + unit:>14}{'against ' + args.methods[0]:>24}")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    reference = medians[args.methods[0]]
    for name, median in medians.items():
        print(f"{name:24}{1e3 * median:14.2f}{median / reference:24.2f}")
    return 0


def _is_value_method(name: str) -> bool:
    return issubclass(methods.recipe(name).backbone, QLearner)


def _program(name: str, args: Arguments) -> Callable[[], Any]:
    """Runs `STEPS` gradient steps or updates, compiled and warmed up."""
    env, of_values = envs.make(args.env), _is_value_method(name)
    method: Any = methods.make(name, env, **({"batch_size": args.batch_size} if of_values else {}))
    num = args.batch_size if of_values else method.num_episodes
    key = jax.random.key(0)
    state = jax.jit(method.init)(key)
    batch, _ = jax.jit(lambda state: rollout(env, method, state, key, num, explore=True))(state)
    replay = None
    if not of_values and method.replay is not None:
        replay = jax.jit(lambda b: method.replay.add(method.replay.init(b), b))(batch)

    def steps(state: Any, batch: Any, replay: Any) -> Any:
        def step(state: Any, key: jax.Array) -> tuple[Any, None]:
            if of_values:
                return method.gradient_step(state, batch, key)[0], None
            return method.update(state, batch, replay, key)[0], None

        return jax.lax.scan(step, state, jax.random.split(key, STEPS))[0]

    compiled = jax.jit(steps).lower(state, batch, replay).compile()

    def program() -> Any:
        return jax.block_until_ready(compiled(state, batch, replay))

    program()
    return program


if __name__ == "__main__":
    command.run(main)
