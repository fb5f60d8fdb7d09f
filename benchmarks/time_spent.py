"""Where the time of training goes on a CPU: environment, replay, agents, critic or mixer, optimiser; of any method.

`python benchmarks/time_spent.py --method qmix --env turn` profiles one seed's training loop, adds up its operations by
the part of the program that they come from, and apart from that products of matrices and everything else (gates,
activations, copies). The reference in the same run is the loop's time without the profiler.
"""

import collections
import dataclasses
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.loading import make_trainer
from marl_jax.settings import make_settings

# The first pattern found in an operation's origin decides.
PARTS = {
    "evaluation": r"/evaluate/",
    "playing: environment and acting": r"/play/",
    "replay": r"/replay/",
    "optimiser": r"/optimizer/",
    "parts: what is paid, meta-gradients, roles": r"/part/|Encoder|RoleDecoder|Dissimilarity",
    "critic, backwards": r"transpose\(.*(/critic/|AttentionTo)|(/critic/|AttentionTo).*transpose\(",
    "critic, forwards": r"/critic/|AttentionTo",
    "agents, backwards": r"transpose\(.*(GRU|MLP)Agent",
    "agents, forwards": r"(GRU|MLP)Agent",
    "mixer and joint values": r"QMIX|QPLEX|Mixer|QTRAN|\bvalue\b",
    "other networks: critics, estimators, classifiers": r"MLP|Linear",
    "inputs, targets, loss, the rest": "",
}


@dataclasses.dataclass
class Arguments:
    """Command line."""

    method: str = "qmix"
    """Method to profile."""
    env: str = "turn"
    """Task to profile it on."""
    preset: str | None = None
    """Options to start from."""
    iterations: int = 64
    """Iterations of a timed chunk."""
    options: tuple[str, ...] = ()
    """What is to differ from the task's options: NAME=VALUE of the method, env.NAME=VALUE, training.NAME=VALUE."""


def main() -> int:
    """Profiles, and prints a table; returns the exit status."""
    args = command.parse(Arguments, "Where the time of training goes.")
    options = command.option_sections(command.named_values("--options", args.options))
    settings = make_settings(args.method, args.env, 1, 0, options, preset=args.preset)
    trainer = make_trainer(settings)
    if args.iterations < 1:
        raise ConfigurationError(f"--iterations is {args.iterations}; it must be at least 1.")
    steps = args.iterations * trainer.steps_per_iteration
    config = dataclasses.replace(settings.training, eval_interval=steps)
    trainer = dataclasses.replace(trainer, config=config)

    state = trainer.init()
    program = trainer.train_chunk.lower(state, trainer.everyone).compile()
    seconds, taken = [], [0]
    for _ in range(5):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(program(state, trainer.everyone))
        seconds.append(time.perf_counter() - began)
        taken.append(int(metrics.env_steps[0]))
    # While the replay fills, nothing is learned; it is all computed nevertheless.
    chunk = statistics.median(seconds[1:])
    # Where episodes end early, fewer than there is time for.
    steps = (taken[-1] - taken[1]) / (len(taken) - 2)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(program(state, trainer.everyone))
        spent = _by_part(Path(folder), program.as_text())

    total = sum(spent.values())
    print(f"{args.method} on {args.env}, 1 seed, {jax.devices()[0].device_kind}")
    print(f"{1e3 * chunk / args.iterations:.2f} ms an iteration, {steps / chunk:,.0f} env steps/s")
    budget = settings.training.total_steps
    print(f"{budget:,} env steps take {budget / steps * chunk / 60:.1f} min, without compilation")
    print(f"{'products':>10}{'others':>10}  share of the profiled time")
    for part in PARTS:
        products, others = spent[part, True] / total, spent[part, False] / total
        print(f"{products:10.1%}{others:10.1%}  {part}")
    return 0


def events(folder: Path) -> Iterator[tuple[str, Any]]:
    """What a profiler has written to a folder: names of the machine's parts, such as "/device:GPU:0", and events."""
    (file,) = folder.rglob("*.xplane.pb")
    profile: Any = jax.profiler.ProfileData.from_file(str(file))
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                yield plane.name, event


def origins(program: str) -> dict[str, str]:
    """Where the operations of a compiled program come from, by name."""
    return dict(re.findall(r'%(\S+) = .*op_name="([^"]*)"', program))


def contains_others(name: str) -> bool:
    """Whether an operation's time is that of the operations in it, as a loop's is."""
    return bool(re.match(r"while|call|cond", name))


def _by_part(folder: Path, program: str) -> collections.Counter[tuple[str, bool]]:
    """Nanoseconds by part, and by whether the operation is a product of matrices."""
    origin, spent = origins(program), collections.Counter[tuple[str, bool]]()
    for _, event in events(folder):
        if event.name not in origin or contains_others(event.name):
            continue
        where = origin[event.name]
        part = next(part for part, pattern in PARTS.items() if re.search(pattern, where))
        spent[part, bool(re.search(r"dot_general|/transpose$", where))] += event.duration_ns
    return spent


if __name__ == "__main__":
    command.run(main)
