"""A run on disk.

config.json     the full configuration, versions, commit, hardware
metrics.csv     one row per seed and evaluation
results.json    evaluation episodes, in marl-eval's schema
curve.png       learning curve
failures.json   seeds that met a NaN or an infinity, if any
checkpoints/    the last two states, others if asked for (`keep_every`), the replay in parts, and best.npz: every seed
                as it was at its best evaluation
.lock           keeps a second process from writing here, too

Each is replaced whole, but for metrics.csv, to which lines are added: a last one that is cut is passed over.
"""

import contextlib
import csv
import datetime
import io
import json
import operator
import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.configuration import ConfigurationError, shown
from envs.files import user_path
from envs.registry import world_class
from marl_jax import teams
from marl_jax.checkpointing import Checkpoints
from marl_jax.evaluation import GREEDY, headline_of
from marl_jax.plots import Curve, learning_curves
from marl_jax.runtime import from_writer
from marl_jax.settings import RunSettings
from marl_jax.storage import LOCK, only_writer, replacing

Row = dict[str, float]

RETURN_COLUMN = f"{GREEDY}_mean"
"""The column of greedy returns."""

Results = dict[str, dict[str, Any]]
"""What was measured of one seed, by step, in marl-eval's schema. "step_3" is the evaluation that completes the third
interval, so that all seeds and all methods have the same steps where episodes end early, too."""


class RunDirectory:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        """Names the folder; see `create` and `open`."""
        self.path = path
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.best = path / "checkpoints" / "best.npz"
        self._results: dict[str, Results] | None = None

    @classmethod
    def create(
        cls, settings: RunSettings, record: Mapping[str, Any], out: str | None
    ) -> "RunDirectory":
        """Makes the folder of a new run: exactly `out`, or `runs/ENV/METHOD/STAMP`.

        Raises:
            ConfigurationError: if it cannot be written or holds something already.
        """
        # One of several processes names the folder and makes it.
        return cls(from_writer(lambda: cls._make(settings, record, out)))

    @classmethod
    def _make(cls, settings: RunSettings, record: Mapping[str, Any], out: str | None) -> Path:
        """Makes the folder of a new run, see `create`."""
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        names = [name.replace(":", ".") for name in (settings.env, settings.method)]
        path = Path("runs", *names, stamp) if out is None else user_path("out", out)
        try:
            _refuse_full(path)
            path.mkdir(parents=True, exist_ok=True)
            with only_writer(path):
                # Another process may have been quicker.
                _refuse_full(path)
                cls(path)._write_json("config.json", {**settings.to_json(), **record})
        except OSError as error:
            raise ConfigurationError(
                f"cannot write to {path} ({error.strerror}); give --out a folder that can be written."
            ) from error
        return path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """Opens an existing run.

        Raises:
            ConfigurationError: if the folder is not a run.
        """
        path = user_path("the run", path)
        if not (path / "config.json").is_file():
            raise ConfigurationError(
                f"{path} is not a run: it must be a folder that holds a config.json written by a training run."
            )
        return cls(path)

    def settings(self) -> RunSettings:
        """The configuration it was made with.

        Raises:
            ConfigurationError: if it cannot be read.
        """
        try:
            record = json.loads((self.path / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{self.path / 'config.json'} cannot be read; it must be the JSON a training run wrote."
            ) from error
        return RunSettings.from_json(record)

    def latest_checkpoint(self) -> int:
        """Step of the last complete checkpoint.

        Raises:
            ConfigurationError: if there is none.
        """
        steps = self.checkpoints.steps()
        if not steps:
            raise ConfigurationError(
                f"{self.path} holds no complete checkpoint; only a run that has saved one can be loaded or resumed."
            )
        return steps[-1]

    def write_best(self, arrays: teams.Arrays) -> None:
        """Writes every seed as it was at its best evaluation."""
        self.best.parent.mkdir(exist_ok=True)
        teams.write(self.best, arrays, self.settings().to_json())

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Around what is written to the folder while a run goes on: what the system refuses becomes one sentence.

        Raises:
            ConfigurationError: if it cannot be written, as on a full disk. What was saved before is whole.
        """
        try:
            yield
        except (OSError, ConfigurationError) as error:
            if not (self.path / "config.json").is_file():
                raise ConfigurationError(
                    f"{self.path} was removed while the run was writing to it; begin again with another folder."
                ) from error
            if isinstance(error, ConfigurationError):
                raise
            why = f"cannot write to {self.path} ({error.strerror or error})"
            if self.checkpoints.steps():
                way = f"what is saved there is whole: once it can be written, go on with: {self.resume_command()}"
            else:
                way = "nothing to go on from is saved there; begin again with a folder that can be written."
            raise ConfigurationError(f"{why}; {way}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing here meanwhile.

        Raises:
            ConfigurationError: if another is writing, or nothing can be written.
        """
        with contextlib.ExitStack() as stack:
            with self.writing():
                stack.enter_context(only_writer(self.path))
            yield

    def resume_command(
        self, total_steps: int | None = None, program: str = "marl-jax train"
    ) -> str:
        """The command that goes on with the run; with a new budget if there is one."""
        more = ""
        if total_steps is not None and total_steps != self.settings().training.total_steps:
            more = f" --total-steps {total_steps}"
        return f"{program} --resume {shlex.quote(str(self.path))}{more}"

    # Metrics.

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows to metrics.csv; all rows of a run have the same columns.

        Raises:
            ConfigurationError: if it has other columns, as another version wrote them.
        """
        file = self.path / "metrics.csv"
        new = not file.exists()
        if not new:
            with file.open(newline="") as stream:
                if next(csv.reader(stream), []) != list(rows[0]):
                    raise ConfigurationError(
                        f"{file} has other columns than are measured now; a run must be resumed by the version that "
                        "began it."
                    )
        with file.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            if new:
                writer.writeheader()
            writer.writerows({k: _text(v) for k, v in row.items()} for row in rows)

    def rows(self) -> list[Row]:
        """All rows of metrics.csv; none if there is no such file yet.

        A last line without its end is left out: it is being written, or was cut when the run was killed.

        Raises:
            ConfigurationError: if it cannot be read.
        """
        file = self.path / "metrics.csv"
        if not file.is_file():
            return []
        try:
            with file.open(newline="") as stream:
                lines, end, _ = stream.read().rpartition("\n")
            table = csv.DictReader(io.StringIO(lines + end))
            rows = [{k: float(v) for k, v in row.items()} for row in table]
            for row in rows:
                int(row["seed"]), int(row["env_steps"])
        except (OSError, ValueError, TypeError, LookupError, OverflowError, csv.Error) as error:
            raise ConfigurationError(
                f"{file} cannot be read; it must be the table of numbers that a training run wrote."
            ) from error
        return rows

    def keep_measurements(self, env_steps: Mapping[int, int]) -> int:
        """Keeps what was measured up to so many steps of each seed; the rest a resumed run measures again.

        Returns:
            How many evaluations up to there are only in one of metrics.csv and results.json, as after damage.
        """
        rows = [
            row for row in self.rows() if row["env_steps"] <= env_steps.get(int(row["seed"]), -1)
        ]
        results, file = self.read_results(), self.path / "metrics.csv"
        if rows:
            with replacing(file) as temporary, temporary.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows({k: _text(v) for k, v in row.items()} for row in rows)
        else:
            file.unlink(missing_ok=True)
        for seed, kept in env_steps.items():
            measured = results.get(f"seed_{seed}", {})
            for name in list(measured):
                if name == "absolute_metrics" or measured[name]["step_count"] > kept:
                    del measured[name]
        self._write_results(results)
        in_results = {
            (seed, measured["step_count"])
            for seed in env_steps
            for measured in results.get(f"seed_{seed}", {}).values()
        }
        differing = in_results ^ {(int(row["seed"]), int(row["env_steps"])) for row in rows}
        # A finished run has no results of seeds that failed.
        return len([seed for seed, _ in differing if seed not in self.failures()])

    def curve(self, column: str = "eval_return_mean") -> Curve:
        """Steps [K] and values [S, K] of a column, see `curve_of`.

        Raises:
            ConfigurationError: if nothing was measured yet, or there is no such column.
        """
        return common_steps(self.series(column))

    def sampled_curve(self) -> Curve | None:
        """The curve of the sampled episodes; None if the run was made before they were played."""
        column = "eval_sampled_return_mean"
        return self.curve(column) if column in self.rows()[0] else None

    def series(self, column: str) -> list[NDArray[np.float64]]:
        """Each seed's environment steps and values of a column, see `series_of`.

        Raises:
            ConfigurationError: if nothing was measured yet, or there is no such column.
        """
        return series_of(self.rows(), column, self.failures(), str(self.path))

    # Results in marl-eval's schema.

    def read_results(self) -> dict[str, Results]:
        """What was measured, by seed ("seed_0").

        Raises:
            ConfigurationError: if it cannot be read.
        """
        file = self.path / "results.json"
        if self._results is None and file.is_file():
            settings = self.settings()
            try:
                tree = json.loads(file.read_text())
                results = tree["marl_jax"][settings.env][settings.method]
                for measured in results.values():
                    for name, values in measured.items():
                        if name != "absolute_metrics":
                            operator.index(values["step_count"])
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise ConfigurationError(
                    f"{file} cannot be read; it must be the JSON a training run wrote."
                ) from error
            self._results = results
        return self._results if self._results is not None else {}

    def finished(self) -> bool:
        """Whether its final policies have been evaluated."""
        return any("absolute_metrics" in steps for steps in self.read_results().values())

    def add_results(self, by_seed: Mapping[int, Results]) -> None:
        """Adds what was measured of some seeds to results.json."""
        results = self.read_results()
        for seed, measured in by_seed.items():
            results.setdefault(f"seed_{seed}", {}).update(measured)
        self._write_results(results)

    def finish_results(self, final: Mapping[int, Mapping[str, list[float]]]) -> None:
        """Adds the final evaluation of the seeds that ran to the end: by metric, the value of each episode.

        marl-eval needs the others to be left out.
        """
        results = self.read_results()
        self._write_results(
            {
                f"seed_{seed}": {
                    **results.get(f"seed_{seed}", {}),
                    "absolute_metrics": dict(metrics),
                }
                for seed, metrics in final.items()
            }
        )

    def _write_results(self, results: dict[str, Results]) -> None:
        self._results = results
        settings = self.settings()
        self._write_json(
            "results.json", {"marl_jax": {settings.env: {settings.method: results}}}, indent=None
        )

    # Failures and pictures.

    def failures(self) -> dict[int, str]:
        """What stopped each failed seed.

        Raises:
            ConfigurationError: if it cannot be read.
        """
        file = self.path / "failures.json"
        if not file.is_file():
            return {}
        try:
            return {int(seed): str(text) for seed, text in json.loads(file.read_text()).items()}
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"{file} cannot be read; it must be the JSON a training run wrote."
            ) from error

    def write_failures(self, failures: Mapping[int, str]) -> None:
        """Records the failed seeds."""
        self._write_json("failures.json", {str(seed): text for seed, text in failures.items()})

    def draw(self) -> Path | None:
        """Draws the learning curve of the task's headline; returns its path, or None if there is nothing to draw."""
        if not self.rows():
            return None
        settings, column = self.settings(), self.headline_column()
        method, path, sampled = settings.method, self.path / "curve.png", None
        if column == RETURN_COLUMN:
            sampled = self.sampled_curve()
        with replacing(path) as temporary:
            learning_curves(
                {method: self.curve(column)},
                temporary,
                f"{method} on {settings.env}",
                column_label(column),
                sampled={} if sampled is None else {method: sampled},
            )
        return path

    def headline_column(self) -> str:
        """The column that users of its task look at first: a headline, such as battles won, or the return."""
        name = headline_of(world_class(self.settings().env))
        return RETURN_COLUMN if name is None else f"{name}_mean"

    def _write_json(self, name: str, value: Any, indent: int | None = 2) -> None:
        with replacing(self.path / name) as temporary:
            temporary.write_text(json.dumps(value, indent=indent))


def _refuse_full(path: Path) -> None:
    """Refuses a path that holds anything, but for a lock.

    Raises:
        ConfigurationError: if it does.
    """
    if path.exists() and (not path.is_dir() or any(f.name != LOCK for f in path.iterdir())):
        raise ConfigurationError(
            f"{path} exists already; give --out a new or empty folder, or go on with --resume {path}."
        )


def column_label(column: str) -> str:
    """What a picture calls a column of metrics.csv."""
    name = column.removeprefix("eval_").removesuffix("_mean").replace("_", " ")
    return f"evaluation: {name}" if column.startswith("eval_") else name


def curve_of(rows: Sequence[Row], column: str, failed: Collection[int] = ()) -> Curve:
    """Steps [K] and values [S, K] of a column: `common_steps` of the seeds' `series_of` it.

    Raises:
        ConfigurationError: if there is no row, or no such column.
    """
    return common_steps(series_of(rows, column, failed))


def series_of(
    rows: Sequence[Row], column: str, failed: Collection[int] = (), run: str = "the run"
) -> list[NDArray[np.float64]]:
    """Each seed's environment steps and values of a column, [2, K] with a K of its own.

    Args:
        rows: of metrics.csv.
        column: which of their values.
        failed: seeds that did not run to the end. They are left out, unless all are among them.
        run: whose they are, for the error's sentence.

    Raises:
        ConfigurationError: if there is no row, or no such column.
    """
    if not rows:
        raise ConfigurationError(f"{run} holds no measurements yet.")
    if not isinstance(column, str) or column not in rows[0]:
        raise ConfigurationError(
            f"{run} has no column {shown(column)}; choose from: {', '.join(rows[0])}."
        )
    by_seed: dict[int, list[Row]] = {}
    for row in rows:
        by_seed.setdefault(int(row["seed"]), []).append(row)
    chosen = [series for seed, series in by_seed.items() if seed not in failed]
    return [
        np.array([(row["env_steps"], row[column]) for row in series]).T
        for series in chosen or by_seed.values()
    ]


def common_steps(series: Sequence[NDArray[np.float64]]) -> Curve:
    """Steps [K] and values [S, K] of S series [2, K'] of steps and values.

    If all have the same steps, as where every episode takes as long, these. Otherwise as many as the shortest has,
    evenly from where the last of them begins to where the first ends, and values interpolated between the series' own.
    """
    steps = series[0][0]
    if not all(np.array_equal(x[0], steps) for x in series):
        first, last = max(x[0, 0] for x in series), min(x[0, -1] for x in series)
        num = min(x.shape[1] for x in series)
        steps = np.rint(np.linspace(min(first, last), last, num))
    return steps, np.array([np.interp(steps, *x) for x in series])


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"


def summary(values: NDArray[np.float64]) -> str:
    """IQM of final values [S] with its interval, as text."""
    from marl_jax.statistics import iqm_interval

    interval = iqm_interval(values)
    return f"{interval.estimate:.4g} (95% interval {interval.low:.4g} to {interval.high:.4g})"
