"""Compares runs in one picture: `python experiments/plot.py DIR... --out curves.png`.

What users of the task look at first is drawn with its interval, such as battles won. Elsewhere it is the greedy return,
and beside it, thin and dashed, the sampled one of runs that have it. `--column` draws another column alone.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import dataclasses
from typing import Annotated

import tyro

from envs.files import user_path
from experiments import command
from marl_jax import ConfigurationError
from marl_jax.plots import learning_curves
from marl_jax.runs import RETURN_COLUMN, RunDirectory, column_label, summary


@dataclasses.dataclass
class Arguments:
    """Command line."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of the runs."""
    out: str = "curves.png"
    """The picture."""
    column: str | None = None
    """Column of metrics.csv to draw alone, such as eval_sampled_return_mean; if not given, the task's headline, or the
    greedy and the sampled returns where it has none, or where the runs are of several tasks."""


def main() -> int:
    """Draws the runs and prints their last values; returns the exit status."""
    args = command.parse(Arguments, "Compares runs in one picture.")
    if not args.runs:
        raise ConfigurationError("no run is given; name one or more folders of runs.")
    runs = [RunDirectory.open(name) for name in args.runs]
    settings = [run.settings() for run in runs]
    tasks = list(dict.fromkeys(each.env for each in settings))
    headlines = {run.headline_column() for run in runs}
    column = args.column or (headlines.pop() if len(headlines) == 1 else RETURN_COLUMN)
    curves, sampled = {}, {}
    named = [
        each.method if len(tasks) == 1 else f"{each.method} on {each.env}" for each in settings
    ]
    for label, run, of in zip(command.labels(named, args.runs), runs, settings, strict=True):
        curves[label] = run.curve(column)
        steps, values = curves[label]
        beside = run.sampled_curve() if args.column is None and column == RETURN_COLUMN else None
        if beside is not None:
            sampled[label] = beside
        print(
            f"{label}{f' on {of.env}' * (len(tasks) == 1)}: {column} after {steps[-1]:,.0f} env steps, "
            f"IQM of {len(values)} seeds {summary(values[:, -1])}"
            + ("" if beside is None else f", sampled {summary(beside[1][:, -1])}")
        )
    target = user_path("--out", args.out)
    with command.writing(target, "--out"):
        learning_curves(curves, target, ", ".join(tasks), column_label(column), sampled=sampled)
    print(f"picture: {target}")
    return 0


if __name__ == "__main__":
    command.run(main)
