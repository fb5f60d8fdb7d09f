"""One page about a run, or a comparison of runs: `python experiments/report.py RUN... --out report.html`.

The page is one file that a browser shows without a network, on a phone too. It holds the learning curves, what was
reached and by which seed, the options, an episode of the first run's team, the pictures of the methods' papers where
they are cheap to make, and what a reader needs to make the runs again.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import contextlib
import dataclasses
import datetime
import io
import json
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro
from numpy.typing import NDArray

from envs.files import user_path
from experiments import command, credits, individuality, intrinsic_rewards, page, roles
from marl_jax import ConfigurationError, load_policy
from marl_jax.plots import learning_curves
from marl_jax.progress import duration
from marl_jax.runs import RETURN_COLUMN, Row, RunDirectory, column_label
from marl_jax.settings import RunSettings, make_settings
from marl_jax.statistics import iqm_interval
from marl_jax.storage import replacing

NONE = "-"
"""What stands where a table has nothing to say."""


@dataclasses.dataclass
class Arguments:
    """Command line."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs, all on one task; the first is the one whose team is shown."""
    out: str = "report.html"
    """The page."""
    columns: tuple[str, ...] = ()
    """Columns of metrics.csv to draw besides the task's headline and the return, such as entropy."""
    seed: int | None = None
    """Whose episode is shown; the best one's if not given."""
    episode: bool = True
    """Show an episode as an animation."""
    figures: bool = True
    """Show the pictures of the methods' papers."""


class Run(NamedTuple):
    """What the page tells of a run.

    Attributes:
        folder: as it was named.
        label: what pictures and tables call it.
        directory: its files.
        settings: its options.
        record: config.json.
        rows: of metrics.csv.
        failures: by seed, what stopped it.
        measured: when its numbers were measured.
        numbers: by name, the value of each seed that ran to the end; what users look at first comes first.
    """

    folder: str
    label: str
    directory: RunDirectory
    settings: RunSettings
    record: Mapping[str, Any]
    rows: list[Row]
    failures: Mapping[int, str]
    measured: str
    numbers: dict[str, dict[int, float]]


class PaperFigure(NamedTuple):
    """A picture of a paper.

    Attributes:
        command: what draws it.
        main: the same as a function of the command line.
        shows: what is to be seen in it.
        together: whether one picture is of all runs.
        flags: that make it cheap.
    """

    command: str
    main: Callable[[Sequence[str]], int]
    shows: str
    together: bool = False
    flags: tuple[str, ...] = ()


FIGURES = {
    "cia": PaperFigure(
        "credits", credits.main, "How the mixer pays each agent (CIA, Figures 4 and 2)", True
    ),
    "eoi": PaperFigure(
        "individuality", individuality.main, "Where each agent goes (EOI, Figures 6 and 7)", True
    ),
    "liir": PaperFigure(
        "intrinsic_rewards",
        intrinsic_rewards.main,
        "What the learned reward pays for (LIIR, Figure 2 and Section 5.2.3)",
        flags=("--episodes", "100"),
    ),
    "roma": PaperFigure("roles", roles.main, "The roles (ROMA, Figures 3, 7 and 8)"),
}
"""By idea. ALITA's takes long, so the page names the command alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the page; returns the exit status."""
    args = command.parse(
        Arguments, "Writes one page of HTML about a run, or a comparison of runs.", arguments
    )
    target = _target(args)
    runs = _load(list(dict.fromkeys(args.runs)))
    names = ", ".join(run.label for run in runs)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        blocks = [
            page.section("Numbers", [_summary(runs), *_of_seeds(runs)]),
            page.section("Learning curves", _curves(runs, args.columns, scratch)),
        ]
        if args.episode:
            blocks.append(page.section("An episode", _episode(runs[0], args.seed, scratch)))
        if args.figures:
            blocks += _paper_figures(runs, scratch)
    blocks += [
        page.section("Options", _options(runs)),
        page.section("Where this comes from", _provenance(runs)),
    ]
    _write(target, page.page(f"{names} on {runs[0].settings.env}", blocks))
    print(f"report: {target}")
    return 0


def _target(args: Arguments) -> Path:
    """The path of the page; checks what can be checked before anything is read."""
    if not args.runs:
        raise ConfigurationError("no run is given; name one or more folders of runs.")
    target = user_path("--out", args.out)
    if target.suffix.lower() not in (".html", ".htm") or not target.parent.is_dir():
        raise ConfigurationError(
            f"--out is {target}; it must be a .html file in a folder that exists."
        )
    return target


def _write(target: Path, text: str) -> None:
    """All of it or nothing."""
    with command.writing(target, "--out"), replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _load(folders: Sequence[str]) -> list[Run]:
    """The runs, by what the page needs of them.

    Raises:
        ConfigurationError: if one is no run, holds no measurements or is on another task than the first.
    """
    directories = [RunDirectory.open(folder) for folder in folders]
    settings = [directory.settings() for directory in directories]
    command.refuse_different_tasks(folders, settings)
    labels = command.labels([each.method for each in settings], folders)
    runs = []
    for folder, label, directory, each in zip(folders, labels, directories, settings, strict=True):
        rows, failures = directory.rows(), directory.failures()
        if not rows:
            raise ConfigurationError(f"{folder} holds no measurements yet.")
        record = json.loads((directory.path / "config.json").read_text())
        measured, numbers = _numbers(directory, rows, failures)
        runs.append(Run(folder, label, directory, each, record, rows, failures, measured, numbers))
    return runs


def _numbers(
    directory: RunDirectory, rows: Sequence[Row], failures: Mapping[int, str]
) -> tuple[str, dict[str, dict[int, float]]]:
    """`measured` and `numbers` of a `Run`: its final evaluation, or the last one if it has not ended."""
    names = dict.fromkeys(
        _name(column)
        for column in (directory.headline_column(), RETURN_COLUMN, "eval_sampled_return_mean")
    )
    results = directory.read_results().items()
    final = {
        int(seed.removeprefix("seed_")): steps["absolute_metrics"]
        for seed, steps in results
        if "absolute_metrics" in steps
    }
    if final:
        episodes = len(next(iter(final.values()))["return"])
        measured = f"final evaluation, {episodes} episodes a seed"
        found = {
            name: {seed: float(np.mean(each[name])) for seed, each in final.items() if name in each}
            for name in names
        }
    else:
        last = {int(row["seed"]): row for row in rows}
        last = {seed: row for seed, row in last.items() if seed not in failures} or last
        steps_taken = max(int(row["env_steps"]) for row in last.values())
        measured = f"evaluation after {steps_taken:,} environment steps"
        found = {
            name: {seed: row[_column(name)] for seed, row in last.items() if _column(name) in row}
            for name in names
        }
    return measured, {name: values for name, values in found.items() if values}


def _name(column: str) -> str:
    """Of a measured number: eval_won_mean is "won"."""
    return column.removeprefix("eval_").removesuffix("_mean")


def _column(name: str) -> str:
    return f"eval_{name}_mean"


def _interval(values: NDArray[np.float64]) -> str:
    interval = iqm_interval(values)
    return f"{interval.estimate:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def _summary(runs: Sequence[Run]) -> str:
    """What every run reached."""
    names = list(dict.fromkeys(name for run in runs for name in run.numbers))
    rows = [
        [
            run.label,
            *(
                _interval(np.array(list(run.numbers[name].values())))
                if name in run.numbers
                else NONE
                for name in names
            ),
            f"{run.settings.seeds - len(run.failures)} of {run.settings.seeds}",
            run.measured,
        ]
        for run in runs
    ]
    said = [name.replace("_", " ") for name in names]
    return page.table(
        "Interquartile mean of the seeds, with its 95% bootstrap interval",
        ["run", *said, "seeds", "measured"],
        rows,
    )


def _of_seeds(runs: Sequence[Run]) -> Iterator[str]:
    """A table for each run, with the numbers of every seed."""
    for run in runs:
        steps = {int(row["seed"]): int(row["env_steps"]) for row in run.rows}
        seeds = range(run.settings.seed, run.settings.seed + run.settings.seeds)
        rows = [
            [
                str(seed),
                *(
                    f"{values[seed]:.4g}" if seed in values else NONE
                    for values in run.numbers.values()
                ),
                f"{steps[seed]:,}" if seed in steps else NONE,
                run.failures.get(seed, ""),
            ]
            for seed in seeds
        ]
        header = ["seed", *(name.replace("_", " ") for name in run.numbers), "env steps", "stopped"]
        # An empty column says nothing.
        width = len(header) if run.failures else len(header) - 1
        table = page.table(
            f"{run.label}: {run.measured}", header[:width], [row[:width] for row in rows]
        )
        yield page.folded(f"Each seed of {run.label}", [table], opened=len(runs) == 1)


def _curves(runs: Sequence[Run], columns: Sequence[str], scratch: Path) -> Iterator[str]:
    """Headline, return and what else was asked for."""
    file = scratch / "curve.svg"
    for column in dict.fromkeys([runs[0].directory.headline_column(), RETURN_COLUMN, *columns]):
        # If none has it, the first one's refusal says what there is.
        having = [run for run in runs if column in run.rows[0]] or runs[:1]
        curves = {run.label: run.directory.curve(column) for run in having}
        sampled = {}
        if column == RETURN_COLUMN:
            beside = {run.label: run.directory.sampled_curve() for run in having}
            sampled = {label: curve for label, curve in beside.items() if curve is not None}
        label = column_label(column)
        learning_curves(curves, file, runs[0].settings.env, label, sampled=sampled)
        ends = "; ".join(
            f"{name} ends at {_interval(values[:, -1])} after {steps[-1]:,.0f} steps"
            for name, (steps, values) in curves.items()
        )
        alt = f"{label} against environment steps, interquartile mean with 95% interval: {ends}."
        yield page.picture(file.read_bytes(), file.suffix, alt, f"Column {column} of metrics.csv.")


def _episode(run: Run, seed: int | None, scratch: Path) -> Iterator[str]:
    """A greedy episode of the seed asked for, or of the best one."""
    values = next(iter(run.numbers.values()))
    best = seed is None and len(values) > 1
    seed = max(values, key=lambda each: values[each]) if seed is None else seed
    settings = run.settings
    if not settings.seed <= seed < settings.seed + settings.seeds:
        raise ConfigurationError(
            f"--seed is {seed}; {run.folder} has seeds {settings.seed} to {settings.seed + settings.seeds - 1}."
        )
    try:
        policy = load_policy(run.directory.path, seed)
    except ConfigurationError as error:
        # The numbers of a run are worth a page without its checkpoints, too.
        yield page.paragraph(f"There is no team to show: {error}")
        return
    episode = policy.episode(jax.random.key(0))
    file = scratch / "episode.gif"
    policy.env.animate(episode.states, str(file))
    rest = ", ".join(f"{name} {value:.4g}" for name, value in episode.extras.items())
    told = (
        f"{run.label}, seed {seed}{' (the best one)' if best else ''}, after {policy.env_steps:,} environment steps: "
        f"{len(episode.reward)} steps, return {episode.reward.sum(axis=0).mean():.4g}"
        + (f", {rest}" if rest else "")
    )
    drawn = page.picture(
        file.read_bytes(), file.suffix, f"Animation of one greedy episode: {told}.", f"{told}."
    )
    yield page.folded("One greedy episode", [drawn], opened=True)


def _ideas(method: str) -> list[str]:
    """Of a method's name: liir_paper has "liir"; gre+roma@qplex "gre", "roma" and "qplex"."""
    return [name.partition("_")[0] for name in re.split(r"[+@]", method)]


def _paper_figures(runs: Sequence[Run], scratch: Path) -> Iterator[str]:
    """A section for each picture that the runs' papers have."""
    for idea, figure in FIGURES.items():
        own = [run.folder for run in runs if idea in _ideas(run.settings.method)]
        if not own:
            continue
        blocks: list[str] = []
        if figure.together:
            every = [run.folder for run in runs]
            # Beside the baselines, where they have what it shows.
            drawn = _draw(figure, every, scratch / idea)
            if isinstance(drawn, ConfigurationError) and own != every:
                drawn = _draw(figure, own, scratch / f"{idea}_own")
            blocks += _shown(figure, drawn)
        else:
            for number, folder in enumerate(own):
                blocks += _shown(figure, _draw(figure, [folder], scratch / f"{idea}_{number}"))
        yield page.section(figure.shows, blocks)
    alita = [run.folder for run in runs if "alita" in _ideas(run.settings.method)]
    if alita:
        line = shlex.join(["marl-jax", "influence", *alita, "--out", "influence.png"])
        told = page.paragraph("Returns are played for it, which takes a while; this draws it:")
        yield page.section("Influence (ALITA, Figure 1)", [told, page.verbatim(line)])


class Drawn(NamedTuple):
    """What a command has made: its command line, what it printed and its pictures."""

    line: str
    printed: str
    pictures: list[bytes]


def _draw(figure: PaperFigure, folders: Sequence[str], scratch: Path) -> Drawn | ConfigurationError:
    """Runs a command on some runs; what it refuses comes back."""
    scratch.mkdir()
    named = ["--run", *folders] if figure.command == "intrinsic_rewards" else [*folders]
    arguments = [*named, *figure.flags]
    out, printed = ["--out", str(scratch / f"{figure.command}.png")], io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            figure.main([*arguments, *out])
    except ConfigurationError as error:
        return error
    lines = [x for x in printed.getvalue().splitlines() if not x.startswith("picture: ")]
    pictures = [file.read_bytes() for file in sorted(scratch.glob("*.png"))]
    line = shlex.join(["marl-jax", figure.command.replace("_", "-"), *arguments])
    return Drawn(line, "\n".join(lines), pictures)


def _shown(figure: PaperFigure, drawn: Drawn | ConfigurationError) -> list[str]:
    if isinstance(drawn, ConfigurationError):
        return [page.paragraph(f"There is no picture: {drawn}")]
    alt = f"{figure.shows}. {' '.join(drawn.printed.splitlines())}"
    pictures = [page.picture(data, ".png", alt) for data in drawn.pictures]
    return [*pictures, page.verbatim(drawn.printed), page.paragraph(f"Drawn by: {drawn.line}")]


def _flags(settings: RunSettings) -> dict[str, Any]:
    """Every option of a run by the flag that sets it."""
    sections = {
        "--": settings.training,
        "--method.": settings.method_options,
        "--env.": settings.env_options,
    }
    run = {
        "--seeds": settings.seeds,
        "--seed": settings.seed,
        "--init-from": settings.init_from,
    }
    return run | {
        f"{prefix}{field.name.replace('_', '-')}": getattr(options, field.name)
        for prefix, options in sections.items()
        for field in dataclasses.fields(options)
    }


def _changed(settings: RunSettings) -> dict[str, tuple[Any, Any]]:
    """By flag, the value and what the command line would have used without it, where they differ."""
    defaults = _flags(make_settings(settings.method, settings.env, 16, 0))
    return {
        flag: (value, defaults[flag])
        for flag, value in _flags(settings).items()
        if value != defaults[flag]
    }


def command_of(settings: RunSettings) -> list[str]:
    """The arguments with which the command line trains such a run."""
    line = ["--method", settings.method, "--env", settings.env]
    for flag, (value, _) in _changed(settings).items():
        if isinstance(value, bool):
            head, dot, name = flag.removeprefix("--").rpartition(".")
            line.append(flag if value else f"--{head}{dot}no-{name}")
        elif isinstance(value, tuple):
            line += [flag, *map(str, value)]
        else:
            line += [flag, str(value)]
    return line


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _options(runs: Sequence[Run]) -> Iterator[str]:
    """What differs between the runs, and what from the defaults."""
    if len(runs) > 1:
        flags = [_flags(run.settings) for run in runs]
        differ = [
            flag
            for flag in dict.fromkeys(flag for each in flags for flag in each)
            if len({_said(each[flag]) for each in flags if flag in each}) > 1
        ]
        rows = [
            [flag, *(_said(each[flag]) if flag in each else NONE for each in flags)]
            for flag in differ
        ]
        caption = (
            f"Options that differ between the runs; {NONE} where a method has none of that name"
        )
        if rows:
            yield page.table(caption, ["option", *(run.label for run in runs)], rows)
        else:
            yield page.paragraph("The options that the runs have in common are the same.")
    for run in runs:
        rows = [
            [flag, _said(value), _said(default)]
            for flag, (value, default) in _changed(run.settings).items()
        ]
        of = f"--method {run.settings.method} --env {run.settings.env}"
        if rows:
            caption = f"{run.label}: options that differ from those of {of} alone"
            yield page.table(caption, ["option", "value", "default"], rows)
        else:
            yield page.paragraph(f"{run.label}: all options are those of {of} alone.")


def _provenance(runs: Sequence[Run]) -> Iterator[str]:
    """What a reader needs to make the runs again."""
    packages = dict.fromkeys(name for run in runs for name in run.record.get("versions", {}))
    took = [duration(max(row["train_seconds"] for row in run.rows)) for run in runs]
    rows = [
        ["folder", *(run.folder for run in runs)],
        ["commit", *(run.record.get("commit") or NONE for run in runs)],
        ["hardware", *(run.record.get("hardware", NONE) for run in runs)],
        ["training took", *took],
        ["Python", *(run.record.get("python", NONE) for run in runs)],
        *(
            [name, *(run.record.get("versions", {}).get(name) or NONE for run in runs)]
            for name in packages
        ),
    ]
    yield page.table("Made with", ["", *(run.label for run in runs)], rows)
    yield page.paragraph("These commands train such runs:")
    lines = [shlex.join(["marl-jax", "train", *command_of(run.settings)]) for run in runs]
    yield page.verbatim("\n".join(lines))
    yield page.paragraph(f"This page was written on {datetime.date.today():%d %B %Y}.")


if __name__ == "__main__":
    command.run(main)
