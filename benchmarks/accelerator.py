"""What one device does with one, 16 and 256 seeds: compile time, environment steps a second, memory, and waiting.

`bash benchmarks/accelerator.sh` runs it, and JaxMARL's QMIX and MAPPO beside ours if it is told where that is. A GPU
takes under 10 minutes: after `--seconds` no further line is begun. `--small` is for a CPU, to see that everything runs.
"""

import dataclasses
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from time_spent import contains_others, events, origins
from training import compiled, timed

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.loading import make_trainer
from marl_jax.memory import kept, program_size
from marl_jax.settings import make_settings
from marl_jax.training import Trainer

WORLDS = {"qmix": "turn", "cia": "turn", "mappo": "turn", "liir": "turn", "eoi": "pac_men"}
"""What is trained, and on what."""


@dataclasses.dataclass
class Arguments:
    methods: tuple[str, ...] = tuple(WORLDS)
    """Which of qmix, cia, mappo, liir and eoi."""
    seeds: tuple[int, ...] = (1, 16, 256)
    """Seeds trained at once."""
    iterations: int = 4
    """Iterations of a timed chunk."""
    chunks: int = 3
    """Chunks timed after one to warm up; the median counts."""
    seconds: int = 480
    """After so many no further line is begun."""
    small: bool = False
    """One and two seeds, and chunks of one iteration."""


def waiting(spans: Iterable[tuple[float, float]]) -> float:
    """Share of the time from the first beginning to the last end in which nothing was done."""
    ordered = sorted(spans)
    if not ordered:
        return float("nan")
    busy, until = 0.0, ordered[0][0]
    for begin, end in ordered:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return 1.0 - busy / (until - ordered[0][0])


def waits(program: Any, trainer: Trainer) -> float:
    """Share of the time of two chunks, one right after the other, in which the device did nothing."""
    state = jax.block_until_ready(trainer.init())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(2):
                state, metrics = program(state, trainer.everyone)
                jax.block_until_ready(metrics)
        origin = origins(program.as_text())
        found = [
            (plane.startswith("/device:"), event.name, event.start_ns, event.duration_ns)
            for plane, event in events(Path(folder))
        ]
    # A CPU's operations are those of the program; a device has a plane of its own.
    own = any(on_device for on_device, *_ in found)
    return waiting(
        (start, start + duration)
        for on_device, name, start, duration in found
        if (on_device if own else name in origin) and not contains_others(name)
    )


def measured(method: str, seeds: int, args: Arguments) -> list[str]:
    """A line of the table."""
    settings = make_settings(method, WORLDS[method], seeds, 0)
    trainer = make_trainer(settings)
    interval = args.iterations * trainer.steps_per_iteration
    config = dataclasses.replace(settings.training, eval_interval=interval)
    trainer = dataclasses.replace(trainer, config=config)
    made = compiled(trainer)
    _, rate = timed(trainer, made.program, args.chunks)
    return [
        method,
        f"{seeds}",
        f"{made.lowering + made.compiling:.1f}",
        f"{rate:,.0f}",
        f"{sum(kept(trainer).values()) / 1e6:.3g}",
        f"{program_size(made.program, trainer.mesh) / 1e9:.3g}",
        f"{waits(made.program, trainer):.0%}",
    ]


def main() -> int:
    args = command.parse(Arguments, "Speed, memory and waiting on one device.")
    command.refuse_unknown("--methods", args.methods, WORLDS)
    for name in ("iterations", "chunks", "seconds"):
        if getattr(args, name) < 1:
            raise ConfigurationError(f"--{name} is {getattr(args, name)}; it must be at least 1.")
    if args.small:
        args = dataclasses.replace(args, seeds=(1, 2), iterations=1, chunks=1)
    began = time.monotonic()
    print(f"{len(jax.devices())} x {jax.devices()[0].device_kind}, jax {jax.__version__}")
    heads = ("method", "seeds", "compile s", "env steps/s", "MB a seed", "GB in all", "waits")
    print("".join(f"{head:>13}" for head in heads))
    for seeds in args.seeds:
        for method in args.methods:
            cells = [method, f"{seeds}", "left out: no time"]
            if time.monotonic() - began < args.seconds:
                cells = measured(method, seeds, args)
                jax.clear_caches()
            print("".join(f"{cell:>13}" for cell in cells), flush=True)
    return 0


if __name__ == "__main__":
    command.run(main)
