"""Time of a gradient step of value methods, beside that of the first of them in the same run.

`python benchmarks/gradient_steps.py --methods qmix roma --env pac_men` compiles each method's gradient step (drawing
nothing, on one batch of exploring episodes, one seed) and prints the median of several timed runs of many steps. The
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
    """Value methods; the first is the reference."""
    env: str = "pac_men"
    """Task."""
    batch_size: int = 32
    """Episodes of a gradient step."""
    repeats: int = 9
    """Timed runs, after one to warm up."""


def main() -> int:
    """Prints the table; returns the exit status."""
    args = command.parse(Arguments, "Time of a gradient step of value methods.")
    for flag, value in (("--batch-size", args.batch_size), ("--repeats", args.repeats)):
        if value < 1:
            raise ConfigurationError(f"{flag} is {value}; it must be at least 1.")
    if not args.methods:
        raise ConfigurationError("--methods is empty; it must name one or more value methods.")
    programs = {name: _program(name.replace("-", "_"), args) for name in args.methods}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(args.repeats):
        for name, program in programs.items():
            began = time.perf_counter()
            program()
            seconds[name].append((time.perf_counter() - began) / STEPS)
    print(f"{args.env}, {args.batch_size} episodes, {jax.devices()[0].device_kind}")
    print(f"{'method':12}{'ms a step':>10}{'against ' + args.methods[0]:>18}")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    reference = medians[args.methods[0]]
    for name, median in medians.items():
        print(f"{name:12}{1e3 * median:10.2f}{median / reference:18.2f}")
    return 0


def _program(name: str, args: Arguments) -> Callable[[], Any]:
    """Runs `STEPS` gradient steps, compiled and warmed up."""
    env = envs.make(args.env)
    options = {"batch_size": args.batch_size}
    if not issubclass(methods.recipe(name).backbone, QLearner):
        raise ConfigurationError(f"--methods has {name}; all must be value methods.")
    method: Any = methods.make(name, env, **options)
    key = jax.random.key(0)
    state = jax.jit(method.init)(key)
    batch, _ = jax.jit(
        lambda state: rollout(env, method, state, key, args.batch_size, explore=True)
    )(state)

    def steps(state: Any, batch: Any) -> Any:
        def step(state: Any, key: jax.Array) -> tuple[Any, None]:
            return method.gradient_step(state, batch, key)[0], None

        return jax.lax.scan(step, state, jax.random.split(key, STEPS))[0]

    compiled = jax.jit(steps).lower(state, batch).compile()

    def program() -> Any:
        return jax.block_until_ready(compiled(state, batch))

    program()
    return program


if __name__ == "__main__":
    command.run(main)
