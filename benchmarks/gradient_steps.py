"""Time of a gradient step of value methods, or of a whole update of others, beside the first of them or another commit.

`python benchmarks/gradient_steps.py --methods qmix roma --env pac_men` compiles each method's gradient step (drawing
nothing, on one batch of exploring episodes, one seed) and prints the median of several timed runs of many steps. Of
methods that are no Q-learners it times updates on one iteration's episodes: `--methods mappo liir eoi@mappo`. The
methods take turns, so that a machine that gets busier does not decide.

`python benchmarks/gradient_steps.py --methods qmix mappo alita --against main` times each method of this folder, as it
is, beside the same at that commit, in turn, each in a process of its own. It fails if one is slower than before by more
than 5% and beyond noise, as `compare.py` says it.
"""

import dataclasses
import statistics
from collections.abc import Sequence

import jax

from benchmarks import compare, one_side
from experiments import command
from marl_jax import ConfigurationError, methods
from marl_jax.methods.q_learner import QLearner

MARGIN = 0.05
"""A slowdown of less does not count."""


@dataclasses.dataclass
class Arguments:
    """Command line."""

    methods: tuple[str, ...] = ("qmix", "roma", "maven", "scds", "cds")
    """Methods or pairs; unless --against is given all value methods or all others, and the first is the reference."""
    env: str = "pac_men"
    """Task."""
    batch_size: int = 32
    """Episodes of a value method's gradient step."""
    repeats: int = 9
    """Timed runs, after one to warm up."""
    against: str | None = None
    """Commit to compare with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit status."""
    args = command.parse(Arguments, "Time of a gradient step, or of an update.", arguments)
    least = 1 if args.against is None else compare.FEWEST_TURNS
    for flag, value, low in (
        ("--batch-size", args.batch_size, 1),
        ("--repeats", args.repeats, least),
    ):
        if value < low:
            raise ConfigurationError(f"{flag} is {value}; it must be at least {low}.")
    if not args.methods:
        raise ConfigurationError("--methods is empty; it must name one or more methods.")
    args.methods = tuple(name.replace("-", "_") for name in args.methods)
    kinds = {_is_value_method(name) for name in args.methods}
    print(f"{args.env}, {jax.devices()[0].device_kind}")
    if args.against is not None:
        return _against(compare.commit_of(args.against, "--against"), args)
    if len(kinds) > 1:
        raise ConfigurationError(
            f"--methods is {' '.join(args.methods)}; all must be value methods, or none."
        )
    _side_by_side("step" if kinds == {True} else "update", args)
    return 0


def _side_by_side(unit: str, args: Arguments) -> None:
    """Prints the methods' times beside the first one's."""
    programs = {name: one_side.update(name, args.env, args.batch_size) for name in args.methods}
    turns = [
        {name: program()["speed"] for name, program in programs.items()}
        for _ in range(args.repeats)
    ]
    print(f"{'method':24}{'ms a ' + unit:>14}{'against ' + args.methods[0]:>24}")
    medians = {name: statistics.median(1.0 / turn[name] for turn in turns) for name in programs}
    reference = medians[args.methods[0]]
    for name, median in medians.items():
        print(f"{name:24}{1e3 * median:14.2f}{median / reference:24.2f}")


def _against(commit: str, args: Arguments) -> int:
    """Prints each method's times beside those at a commit; returns the exit status."""
    options = {"env": args.env, "batch_size": args.batch_size}
    print(
        f"{'':24}{'ms before':>12}{'now':>10}{'speed':>8}{'95% interval':>16}{'s to compile':>20}"
    )
    slower = False
    with compare.checked_out(commit) as folder:
        for name in args.methods:
            given = ("update", name, options)
            with (
                compare.Side(folder, *given) as before,
                compare.Side(compare.ROOT, *given) as now,
            ):
                turns = [(before.measure(), now.measure()) for _ in range(args.repeats)]
            old, new = ([turn[i]["speed"] for turn in turns] for i in (0, 1))
            found = compare.ratio(old, new, MARGIN)
            slower |= found.slower
            times = "".join(
                f"{1e3 / statistics.median(x):>{w}.2f}" for x, w in ((old, 12), (new, 10))
            )
            interval = f"{found.low:.2f} to {found.high:.2f}"
            compiled = " and ".join(f"{side['compile']:.1f}" for side in turns[-1])
            print(
                f"{name:24}{times}{found.median:>8.2f}{interval:>16}{compiled:>20}"
                f"{'  slower' * found.slower}",
                flush=True,
            )
    return int(slower)


def _is_value_method(name: str) -> bool:
    return issubclass(methods.recipe(name).backbone, QLearner)


if __name__ == "__main__":
    command.run(main)
