"""Searches options: `python experiments/sweep.py --method eoi --env pac_men --grid intrinsic_weight=1e-5,1e-4,1e-3`.

Every choice of values is a run of its own in a numbered folder, with the same seeds and the same budget. They are
trained here, one after the other, or by an engine with workers, see `experiments/engines.py`. With --together those
that differ in numbers alone are trained side by side, by one compiled program. The same command goes on where it was
stopped. table.csv holds what each choice reached, the best first. A choice whose training fails, wholly or some of its
seeds, is marked in it; the others go on, and the exit status is 1.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import contextlib
import csv
import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro

from envs.files import user_path
from experiments import command
from experiments.engines import ENGINES, Ended, Resources, Task
from marl_jax import ConfigurationError
from marl_jax.choices import groups
from marl_jax.limits import check_settings
from marl_jax.plots import COLOURS, learning_curves
from marl_jax.runs import RunDirectory
from marl_jax.settings import RunSettings, make_settings
from marl_jax.statistics import interquartile_mean, iqm_interval
from marl_jax.storage import only_writer
from marl_jax.trackers import make_trackers

Choice = dict[str, Any]
"""Values by option, "NAME" of the method or "SECTION.NAME", of which a part's section is "part.PART"."""


class Tried(NamedTuple):
    """What came out of a choice.

    Attributes:
        choice: what was tried.
        run: name of its folder.
        failed: how it failed, or some of its seeds; empty if all ran to the end.
        value: by which choices are ordered.
        numbers: what the table says, by column; None if there is nothing.
    """

    choice: Choice
    run: str
    failed: str
    value: float = -math.inf
    numbers: dict[str, str] | None = None


@dataclasses.dataclass
class Arguments:
    """Command line."""

    method: str
    """Method to train, or its part for a backbone of your choice."""
    env: str
    """Task to train on."""
    grid: tuple[str, ...]
    """NAME=VALUE,VALUE,... for each option to search; part.PART.NAME for one of a part, env.NAME and training.NAME for
    those of task and loop. A single value sets the option in all runs."""
    seeds: int = 4
    """How many seeds of each choice."""
    seed: int = 0
    """The first seed; report what was chosen on others."""
    total_steps: int | None = None
    """Environment steps of each seed; the task's own if not given."""
    preset: str | None = None
    """Options to start from."""
    backbone: str | None = None
    """Backbone to put the method's part on, in place of its own."""
    draws: int | None = None
    """How many choices to try, drawn without repetition; all of the grid if not given."""
    draw_seed: int = 0
    """Seed of the draw, so that it can be repeated."""
    together: bool = False
    """Trains choices that differ in numbers of the method alone, such as lr, by one compiled program. It takes memory
    for all of them at once."""
    out: str = "runs/sweep"
    """Folder for the runs, the table and the picture; one that all workers of an engine can see."""
    track: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Sends the numbers of each run elsewhere too while it trains: tensorboard or wandb; may be given twice."""
    engine: Literal["local", "ray", "slurm"] = "local"
    """Who trains the runs: this process, one after the other; a Ray cluster, by RAY_ADDRESS or this machine's own; or
    SLURM, as a job array."""
    cpus: int = 1
    """Cores of each run that Ray or SLURM trains."""
    gpus: int = 0
    """Its GPUs."""
    engine_options: tuple[str, ...] = ()
    """NAME=VALUE for each more that ray.remote or submitit's update_parameters is to be given."""


def main() -> int:
    """Trains every choice and prints the table; returns the exit status."""
    args = command.parse(Arguments, "Searches options of a method on a task.")
    choices = _choices(args)
    # All of them are checked before the first is trained.
    settings = [_settings(args, choice) for choice in choices]
    for setting in settings:
        check_settings(setting)
    programs = [[number] for number in range(len(choices))]
    if args.together:
        programs = groups(settings)
        print(f"{len(choices)} choices in {len(programs)} programs", flush=True)
        for program in programs:
            check_settings(*(settings[number] for number in program))
    make_trackers(args.track)
    resources = _resources(args)
    out = user_path("--out", args.out)
    _refuse_another_sweep(out, settings)
    with contextlib.ExitStack() as stack:
        with command.writing(out, "--out"):
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_writer(out))
        tasks = _tasks(args, choices, settings, programs, out)
        return _sweep(args, choices, programs, ENGINES[args.engine](tasks, resources), out)


def _resources(args: Arguments) -> Resources:
    """What each run is given by an engine that has workers."""
    for name, least in (("cpus", 1), ("gpus", 0)):
        if getattr(args, name) < least:
            raise ConfigurationError(
                f"--{name} is {getattr(args, name)}; it must be at least {least}."
            )
    options = command.named_values("--engine-options", args.engine_options)
    if args.engine == "local" and (args.cpus, args.gpus, args.engine_options) != (1, 0, ()):
        raise ConfigurationError(
            "--cpus, --gpus or --engine-options is given with --engine local; it needs --engine ray or slurm."
        )
    return Resources(args.cpus, args.gpus, options)


def _sweep(
    args: Arguments,
    choices: list[Choice],
    programs: list[list[int]],
    training: Iterator[Ended],
    out: Path,
) -> int:
    """Trains every choice and prints the table; returns the exit status.

    Args:
        args: the command line.
        choices: what is tried.
        programs: the choices that each program trains, by their numbers.
        training: of each program, as it ends.
        out: folder of the sweep.
    """
    tried: list[Tried] = []
    rows: list[dict[str, str]] = []
    interrupted = False
    for program, ended in training:
        if ended is False:
            interrupted = True
            continue
        for number in programs[program]:
            tried.append(_ended(choices[number], out / f"{number:03d}", ended))
            said = f"failed: {tried[-1].failed}" if tried[-1].failed else "is done"
            print(f"choice {number + 1} {said}", flush=True)
        with command.writing(out / "table.csv", "--out"):
            rows = _write_table(out / "table.csv", tried)
    if interrupted:
        print("go on with the same command")
        return 130
    for row in rows[:10]:
        print("  ".join(f"{name} {value}" for name, value in row.items() if value))
    best = [row["run"] for row in rows if row["return"]][: len(COLOURS)]
    if best:
        with command.writing(out / "sweep.png", "--out"):
            curves = {name: RunDirectory(out / name).curve() for name in best}
            title = f"{command.pair(args.method, args.backbone)} on {args.env}: the best choices"
            learning_curves(curves, out / "sweep.png", title)
    picture = f"  picture: {out / 'sweep.png'}" if best else ""
    print(f"table: {out / 'table.csv'}{picture}")
    failed = sum(bool(each.failed) for each in tried)
    if failed:
        print(f"{failed} of {len(tried)} choices failed; the table says how")
    return 1 if failed else 0


def _tasks(
    args: Arguments,
    choices: list[Choice],
    settings: list[RunSettings],
    programs: list[list[int]],
    out: Path,
) -> list[Task]:
    """The runs, in the order of the programs, each with those that are trained with it."""
    tasks = []
    for number, (choice, setting) in enumerate(zip(choices, settings, strict=True)):
        text = ", ".join(f"{name}={value}" for name, value in choice.items())
        folder = str((out / f"{number:03d}").absolute())
        name = f"choice {number + 1} of {len(choices)}: {text}"
        tasks.append(Task(name, folder, setting.to_json(), args.track))
    return [
        tasks[first]._replace(
            name="\n".join(tasks[number].name for number in (first, *others)),
            others=tuple(tasks[number] for number in others),
        )
        for first, *others in programs
    ]


def _choices(args: Arguments) -> list[Choice]:
    """The grid, or a draw from it."""
    names, values = [], []
    for entry in args.grid:
        name, _, listed = entry.partition("=")
        if not name or not listed:
            raise ConfigurationError(f"--grid is {entry!r}; it must be NAME=VALUE,VALUE,...")
        if name in names:
            raise ConfigurationError(f"--grid names {name} twice; it must name an option once.")
        names.append(name)
        values.append([command.option_value(text) for text in listed.split(",")])
        if any(values[-1].count(value) > 1 for value in values[-1]):
            raise ConfigurationError(f"--grid is {entry!r}; it must name a value once.")
    grid = [dict(zip(names, choice, strict=True)) for choice in itertools.product(*values)]
    if args.draws is None:
        return grid
    if args.draw_seed < 0:
        raise ConfigurationError(f"--draw-seed is {args.draw_seed}; it must be at least 0.")
    if not 1 <= args.draws <= len(grid):
        raise ConfigurationError(
            f"--draws is {args.draws}; it must be at least 1 and at most {len(grid)}, the choices of the grid."
        )
    drawn = np.random.default_rng(args.draw_seed).choice(len(grid), args.draws, replace=False)
    return [grid[i] for i in drawn]


def _settings(args: Arguments, choice: Choice) -> RunSettings:
    options = command.option_sections(choice)
    if args.total_steps is not None:
        options["training"].setdefault("total_steps", args.total_steps)
    method = command.pair(args.method, args.backbone)
    return make_settings(method, args.env, args.seeds, args.seed, options, preset=args.preset)


def _refuse_another_sweep(out: Path, settings: list[RunSettings]) -> None:
    """A folder serves one sweep: the runs in it must be these."""
    for number, setting in enumerate(settings):
        folder = out / f"{number:03d}"
        made = (folder / "config.json").is_file()
        if made and RunDirectory.open(folder).settings() != setting:
            raise ConfigurationError(
                f"{folder} holds a run of another sweep; give --out a new folder, or the command it was made with."
            )


def _ended(choice: Choice, folder: Path, ended: bool | Exception) -> Tried:
    """What came out of a choice whose training has ended, or failed."""
    try:
        if isinstance(ended, Exception):
            raise ended
        return _tried(choice, folder)
    except Exception as error:  # whatever it is, the other choices are tried
        return Tried(choice, folder.name, " ".join(f"{type(error).__name__}: {error}".split()))


def _tried(choice: Choice, folder: Path) -> Tried:
    """What came out of a choice: IQM over seeds of the greedy returns in each one's last tenth of steps.

    The IQM of the sampled returns stands beside it.
    """
    run = RunDirectory.open(folder)
    failed = "; ".join(f"seed {seed}: {text}" for seed, text in run.failures().items())
    if not run.rows():
        return Tried(choice, folder.name, failed or "nothing was measured")
    last, sampled = (
        np.array([y[10 * x > 9 * x[-1]].mean() for x, y in run.series(column)])
        for column in ("eval_return_mean", "eval_sampled_return_mean")
    )
    interval = iqm_interval(last)
    numbers = {
        "return": f"{float(interval.estimate):.4g}",
        "low": f"{float(interval.low):.4g}",
        "high": f"{float(interval.high):.4g}",
        "seeds": " ".join(f"{x:.4g}" for x in last),
        "sampled": f"{float(interquartile_mean(sampled)):.4g}",
    }
    return Tried(choice, folder.name, failed, float(interval.estimate), numbers)


def _write_table(path: Path, tried: list[Tried]) -> list[dict[str, str]]:
    """Writes and returns one row a choice, the best first, those without a number last."""
    table = []
    for each in sorted(tried, key=lambda each: -each.value):
        options = {name: json.dumps(value) for name, value in each.choice.items()}
        empty = dict.fromkeys(("return", "low", "high", "seeds", "sampled"), "")
        numbers = {**empty, **(each.numbers or {})}
        table.append({"run": each.run, **numbers, "failed": each.failed, **options})
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return table


if __name__ == "__main__":
    command.run(main)
