"""Speed and learning of two commits, measured in turn on this machine: `python benchmarks/compare.py OLD [NEW]`.

Each commit is checked out into a temporary folder; what is not committed is not measured. A world steps with random
actions, a method trains on one task. Both commits take turns, A B A B, each in a process of its own that has compiled
everything before. The ratio of a turn is the new speed by the old one. The table has the median ratio and a 95%
interval of it that holds whatever the noise looks like: the binomial one, of the ratios in order.

Slower is what has a median ratio more than `--margin` below 1 and an interval below 1. Then the exit status is 1. What
both have learned in those chunks is printed too, and fails nothing: a change may mean to change it.

In the folder `--out` are `numbers.json` (both sides' numbers, commits, hardware, versions) and `ratios.png`. Both sides
run with the packages that are installed here.
"""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.plots import COLOURS
from marl_jax.runs import summary
from marl_jax.settings import environment_record

ROOT = Path(__file__).parent.parent
FEWEST_TURNS = 6
"""With fewer not even the whole range of ratios is a 95% interval of their median."""


@dataclasses.dataclass
class Arguments:
    """Command line."""

    old: tyro.conf.Positional[str]
    """Commit to compare with."""
    new: tyro.conf.Positional[str] = "HEAD"
    """Commit that may be slower."""
    worlds: tuple[str, ...] = ("turn", "pac_men", "firefighters")
    """Worlds to step."""
    methods: tuple[str, ...] = ("mappo", "qmix", "central_v", "maac", "maddpg")
    """Methods to train: one of each family."""
    env: str = "turn"
    """Task to train them on."""
    seeds: int = 4
    """Seeds trained at once."""
    steps: int = 8_000
    """Environment steps of each seed in a turn."""
    num_envs: int = 1024
    """Environments of a world, stepped side by side."""
    world_steps: int = 200
    """Steps of each of them in a turn."""
    turns: int = 9
    """Turns of each commit; there is one more before, to warm up."""
    margin: float = 0.05
    """A slowdown of less does not count: two processes that run the same code differ by some per cent."""
    out: Path = Path("runs/benchmarks")
    """Folder of numbers.json and ratios.png."""


class Ratio(NamedTuple):
    """New speed by old speed.

    Attributes:
        median: of the turns.
        low, high: bounds of its 95% interval.
        slower: whether this is a slowdown beyond noise.
    """

    median: float
    low: float
    high: float
    slower: bool


def ratio(old: Sequence[float], new: Sequence[float], margin: float) -> Ratio:
    """Compares the speeds of turns, `FEWEST_TURNS` or more on each side."""
    from scipy import stats

    ordered = sorted(b / a for a, b in zip(old, new, strict=True))
    # The k-th lowest and the k-th highest enclose the median with at least 95%.
    k = int(stats.binom.ppf(0.025, len(ordered), 0.5))
    median, low, high = statistics.median(ordered), ordered[k - 1], ordered[-k]
    return Ratio(median, low, high, median < 1 - margin and high < 1)


class Side:
    """A process that measures one thing with one commit's code."""

    def __init__(self, checkout: Path, kind: str, name: str, options: Mapping[str, Any]) -> None:
        script = Path(__file__).with_name("one_side.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), kind, name, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )

    def __enter__(self) -> "Side":
        self.hear()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def measure(self) -> dict[str, Any]:
        """One measurement, see `one_side.py`."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """What it says next.

        Raises:
            ConfigurationError: if it has stopped; what it said of that is on standard error.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        *_, kind, name, _ = self.process.args
        raise ConfigurationError(
            f"{kind} {name} cannot be measured in one of the commits; it must be there in both."
        )


def git(*arguments: str) -> str:
    """What git says in this repository."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the files of a commit, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        git("worktree", "add", "--detach", "--force", folder, commit)
        try:
            yield Path(folder)
        finally:
            git("worktree", "remove", "--force", folder)


def commit_of(name: str, flag: str) -> str:
    """The whole hash of a commit.

    Raises:
        ConfigurationError: if git does not know it.
    """
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise ConfigurationError(
            f"{flag} is {name!r}; it must be a commit of this repository."
        ) from error


def measured(old: Path, new: Path, args: Arguments) -> Iterator[tuple[str, dict[str, Any]]]:
    """By name, the `old` and `new` speeds of all turns, and of methods the `returns` [S] of both after the last."""
    training = {"env": args.env, "seeds": args.seeds, "steps": args.steps}
    stepping = {"num_envs": args.num_envs, "steps": args.world_steps}
    things = [("world", name, stepping) for name in args.worlds]
    things += [("method", name, training) for name in args.methods]
    for kind, name, options in things:
        with Side(old, kind, name, options) as before, Side(new, kind, name, options) as after:
            turns = [(before.measure(), after.measure()) for _ in range(args.turns)]
        found = {
            side: [turn[i]["speed"] for turn in turns] for i, side in enumerate(("old", "new"))
        }
        if kind == "method":
            a, b = turns[-1]
            found["returns"] = {"old": a["returns"], "new": b["returns"]}
        yield f"{kind} {name}", found


def row(name: str, numbers: Mapping[str, Any], compared: Ratio) -> str:
    """A line of the table."""
    old, new = (f"{statistics.median(numbers[side]):>14,.0f}" for side in ("old", "new"))
    interval = f"{compared.low:.2f} to {compared.high:.2f}"
    return (
        f"{name:<24}{old}{new}{compared.median:>8.2f}{interval:>16}{'  slower' * compared.slower}"
    )


def learned(name: str, returns: Mapping[str, Sequence[float]]) -> str:
    """What both sides' seeds have learned, in a line."""
    if returns["old"] == returns["new"]:
        return f"{name}: return {summary(returns['new'])}, the same in every bit"
    return f"{name}: return {summary(returns['old'])}, now {summary(returns['new'])}"


def draw(ratios: Mapping[str, Ratio], title: str, path: Path) -> None:
    """Draws the ratios with their intervals to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.5 + 0.35 * len(ratios)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(1, color="0.4", linewidth=0.9, linestyle="--")
    for i, (median, low, high, slower) in enumerate(ratios.values()):
        colour = COLOURS[1] if slower else COLOURS[0]
        axes.plot([low, high], [i, i], color=colour)
        axes.plot(median, i, "o", color=colour)
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.set_ylim(len(ratios) - 0.5, -0.5)
    axes.set_xlabel("new speed / old speed, median and 95% interval")
    axes.set_title(title, fontsize=11)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, writes numbers and picture; returns the exit status."""
    args = command.parse(Arguments, "Speed and learning of two commits.", arguments)
    if args.turns < FEWEST_TURNS:
        raise ConfigurationError(f"--turns is {args.turns}; it must be at least {FEWEST_TURNS}.")
    if not 0 <= args.margin < 1:
        raise ConfigurationError(f"--margin is {args.margin}; it must be from 0 to below 1.")
    old, new = commit_of(args.old, "OLD"), commit_of(args.new, "NEW")
    record = environment_record()
    kept = {"old": old, "new": new, "margin": args.margin}
    kept |= {name: record[name] for name in ("hardware", "python", "versions")}
    print(f"{old[:12]} and {new[:12]}, {args.turns} turns, {record['hardware']}")
    print(f"{'env steps/s':<24}{'old':>14}{'new':>14}{'ratio':>8}{'95% interval':>16}")
    ratios: dict[str, Ratio] = {}
    numbers: dict[str, Any] = {}
    with checked_out(old) as before, checked_out(new) as after:
        for name, found in measured(before, after, args):
            numbers[name] = found
            ratios[name] = ratio(found["old"], found["new"], args.margin)
            print(row(name, found, ratios[name]), flush=True)
    for name, found in numbers.items():
        if "returns" in found:
            print(learned(name, found["returns"]))
    with command.writing(args.out, "--out"):
        args.out.mkdir(parents=True, exist_ok=True)
        found = {name: numbers[name] | ratios[name]._asdict() for name in numbers}
        (args.out / "numbers.json").write_text(json.dumps(kept | {"measured": found}, indent=1))
        draw(ratios, f"{old[:12]} and {new[:12]}", args.out / "ratios.png")
    return 1 if any(compared.slower for compared in ratios.values()) else 0


if __name__ == "__main__":
    command.run(main)
