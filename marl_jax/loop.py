"""The Python loop around `Trainer.train_chunk`: logs, draws, saves and stops."""

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from envs.configuration import ConfigurationError, shown
from marl_jax import teams
from marl_jax.evaluation import GREEDY, SAMPLED, evaluate, headline_of
from marl_jax.interrupts import beside, stop_signals
from marl_jax.limits import ABSOLUTE_FACTOR, check_settings
from marl_jax.loading import (
    load_best,
    make_trainer,
    policy_of,
    start_from,
)
from marl_jax.memory import described, kept, program_size
from marl_jax.plots import Curve
from marl_jax.policy import Policy
from marl_jax.progress import Progress, Silent, default_progress, duration
from marl_jax.runs import Results, Row, RunDirectory, curve_of, summary
from marl_jax.runtime import (
    anywhere,
    from_writer,
    lost_process,
    memory_size,
    on_host,
    placed,
    several_processes,
    use_compilation_cache,
    writes,
)
from marl_jax.settings import RunSettings
from marl_jax.trackers import Tracker, Trackers
from marl_jax.training import ChunkMetrics, RunState, Trainer

ABSOLUTE_KEY = 20_260_101
"""Seed of the episodes of the final evaluation, which no training evaluation plays."""


@dataclasses.dataclass
class TrainResult:
    """What a training run gives back.

    Attributes:
        settings: the run's full configuration.
        rows: one per seed and evaluation, as in metrics.csv.
        final_returns: mean greedy return of each healthy seed in the final evaluation, [S'].
        final_sampled_returns: the same of its sampled episodes, [S'].
        final_headline: the same of the task's `headline` in its greedy episodes, such as battles won, [S']; None
            where the task has none.
        state: the run state of all seeds, which rows without a seed may follow (`Trainer.num_rows`).
        trainer: the compiled loop and what it was made of.
        failures: by seed, what stopped it.
        interrupted: whether the run was stopped before its end.
        directory: where the run is on disk, if anywhere.
    """

    settings: RunSettings
    rows: list[Row]
    final_returns: NDArray[np.float64]
    final_sampled_returns: NDArray[np.float64]
    final_headline: NDArray[np.float64] | None
    state: RunState
    trainer: Trainer
    failures: dict[int, str]
    interrupted: bool
    directory: Path | None

    def curve(self, column: str = "eval_return_mean") -> Curve:
        """Steps [K] and values [S, K] of a column of `rows`, see `runs.curve_of`.

        >>> steps, sampled = result.curve("eval_sampled_return_mean")

        Raises:
            ConfigurationError: if nothing was measured, or there is no such column.
        """
        return curve_of(self.rows, column, self.failures)

    def __repr__(self) -> str:
        settings = self.settings
        of = f"{settings.method} on {settings.env}, {settings.seeds} seed{'s' * (settings.seeds > 1)}"
        end = " interrupted," if self.interrupted else ""
        return (
            f"TrainResult({of},{end} final returns {np.array2string(self.final_returns, precision=4, threshold=32)}, "
            f"{len(self.failures)} failed, directory {str(self.directory)!r})"
        )

    def policy(self, seed: int | None = None) -> Policy:
        """The team of one seed, the first by default."""
        return policy_of(self.trainer, self.state, self.settings, seed)


class Assignment(NamedTuple):
    """A run to train.

    Attributes:
        settings: all that it is.
        directory: where it goes; nowhere if None.
        resumed: whether it goes on from its last checkpoint.
        trackers: where its numbers go while it trains.
    """

    settings: RunSettings
    directory: RunDirectory | None = None
    resumed: bool = False
    trackers: Sequence[Tracker] = ()


def run_training(
    settings: RunSettings,
    directory: RunDirectory | None,
    progress: Progress | bool = True,
    resumed: bool = False,
    trackers: Sequence[Tracker] = (),
) -> TrainResult:
    """Trains one run, see `run_together`."""
    return run_together([Assignment(settings, directory, resumed, trackers)], progress)[0]


def run_together(
    assignments: Sequence[Assignment], progress: Progress | bool = True
) -> list[TrainResult]:
    """The Python loop around `Trainer.train_chunk`: logs, draws, saves and stops.

    Several runs are trained by one compiled program, each with rows of the run state of its own. Where several
    processes train together each calls it with the same run; one of them writes and tells.

    Args:
        assignments: the runs; where there are several they are one of `choices.groups`.
        progress: a display, or whether to show the default one.

    Raises:
        ConfigurationError: if another process writes to a folder, or it cannot be written any longer; or one of those
            that train together has ended.
    """
    use_compilation_cache()
    if any(one.resumed for one in assignments):
        # What they started from may be gone.
        check_settings(*(dataclasses.replace(one.settings, init_from=None) for one in assignments))
    progress = display(progress if writes() else False)
    with contextlib.ExitStack() as stack:
        stack.callback(progress.close)
        runs = []
        for settings, directory, resumed, trackers in assignments:
            tracking = Trackers(trackers if writes() else (), progress.message)
            stack.callback(tracking.close)
            stack.enter_context(_together(directory))
            if directory is not None and writes():
                stack.enter_context(directory.locked())
            runs.append(_Run(settings, directory, resumed, progress, tracking))
        stop = stack.enter_context(stop_signals(progress))
        return _Loop(runs, progress, stop).run()


@contextlib.contextmanager
def _together(directory: RunDirectory | None) -> Iterator[None]:
    """Around what several processes do together: that one has ended is noticed by what the others cannot exchange.

    Raises:
        ConfigurationError: if one has.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if not lost_process(error):
            raise
        reason = " ".join(str(error).split())[:200]
        way = "" if directory is None else f" go on with: {directory.resume_command()}"
        raise ConfigurationError(
            f"a process that trains together with this one has ended ({reason}); start all of them again.{way}"
        ) from error


def display(progress: Progress | bool) -> Progress:
    """The display that a user asks for.

    Raises:
        ConfigurationError: if it is none.
    """
    if isinstance(progress, bool):
        return default_progress() if progress else Silent()
    if not isinstance(progress, Progress):
        raise ConfigurationError(
            f"progress is {shown(progress)}; it must be true, false or a display as in marl_jax.progress."
        )
    return progress


class _Loop:
    """The runs that one program trains; see `run_together`.

    Several processes go through it in step, and know the same of all seeds.
    """

    def __init__(self, runs: "Sequence[_Run]", progress: Progress, stop: threading.Event) -> None:
        self.runs = runs
        self.progress = progress
        self.stop = stop
        self.trainer = make_trainer(*(run.settings for run in runs))
        self.later: list[Callable[[], None]] = []

    def run(self) -> list[TrainResult]:
        state = self._begin()
        steps = self._of_seeds(state.env_steps)
        if self._active(steps).any():
            for run, its in self._each(steps):
                run.start_trackers(its)
            train_chunk = self._compile(state)
            began, first_steps = time.monotonic(), steps
            while self._active(steps).any() and not beside(anywhere, self.stop.is_set()):
                chunk_began, active = time.monotonic(), self._active(steps)
                now = (state, self._rows_of(active), self.trainer.row_options)
                state, found = beside(train_chunk, *now, meanwhile=self._write)
                metrics: ChunkMetrics = self._of_seeds(found)
                steps = np.asarray(metrics.env_steps)
                self._keep(state, metrics, active, time.monotonic() - chunk_began)
                self._report(steps, first_steps, time.monotonic() - began)
            self._write()
        interrupted = bool(self._active(steps).any())
        final = None if interrupted else self._final_evaluation(state)
        return [
            run.finish(self._state_of(state, index), measured, interrupted)
            for index, (run, measured) in enumerate(self._each(final))
        ]

    def _each(self, tree: Any) -> "Iterator[tuple[_Run, Any]]":
        """Each run, and what is its own of arrays [C * S, ...]."""
        seeds = self.trainer.num_seeds
        for index, run in enumerate(self.runs):
            own = slice(index * seeds, (index + 1) * seeds)
            yield run, jax.tree.map(lambda x, own=own: x[own], tree)

    def _of_seeds(self, tree: Any) -> Any:
        """Arrays [R, ...] as NumPy's [C * S, ...], in all processes."""
        return jax.tree.map(lambda x: x[: self.trainer.num_used], beside(on_host, tree))

    def _rows_of(self, active: NDArray[np.bool_]) -> jax.Array:
        """[R], which rows of the run state are active."""
        return self.trainer.spread(np.pad(active, (0, self.trainer.num_rows - len(active))))

    def _active(self, steps: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which rows go on, [C * S]: those of runs that are a chunk ahead, as after a kill, wait for the others."""
        active = {run: run.active(its) for run, its in self._each(steps)}
        behind = min((run.chunks for run, its in active.items() if its.any()), default=0)
        return np.concatenate([its & (run.chunks == behind) for run, its in active.items()])

    def _state_of(self, state: RunState, index: int) -> RunState:
        """The run state of one run: its own rows, or all where it is the only one."""
        return state if len(self.runs) == 1 else self.trainer.choice(state, index)

    def _begin(self) -> RunState:
        """The run state to go on with; what begins is saved, too."""
        if all(run.resumed for run in self.runs):
            return self.trainer.joined([run.resume() for run in self.runs])
        state = self._start()
        begun = []
        for index, run in enumerate(self.runs):
            if run.resumed:
                begun.append(run.resume())
            else:
                begun.append(self._state_of(state, index))
                run.save(begun[-1])()
        return self.trainer.joined(begun) if any(run.resumed for run in self.runs) else state

    def _start(self) -> RunState:
        state = self.trainer.init()
        source = self.runs[0].settings.init_from
        if source is not None:
            found = start_from(source, self.trainer)
            learner = teams.put(on_host(state.method), found)
            place = lambda x, old: placed(np.asarray(x), old.sharding)  # noqa: E731
            state = state._replace(method=jax.tree.map(place, learner, state.method))
            self.progress.message(f"starting from {source}")
        return state

    def _compile(self, state: RunState) -> Any:
        settings = self.runs[0].settings
        choices = f"{len(self.runs)} choices x " * (len(self.runs) > 1)
        self.progress.message(
            f"{settings.method} on {settings.env}: {choices}{settings.seeds} seed{'s' * (settings.seeds > 1)}, "
            f"{settings.training.total_steps:,} env steps each, on "
            f"{self.trainer.mesh.size} x {jax.devices()[0].device_kind}"
        )
        self.progress.message(f"each seed keeps {described(kept(self.trainer))}")
        self.progress.message("compiling ...")
        began = time.monotonic()
        given = (state, self.trainer.everyone, self.trainer.row_options)
        compiled = beside(self.trainer.train_chunk.lower(*given).compile)
        seconds, size = time.monotonic() - began, program_size(compiled, self.trainer.mesh)
        takes = f", takes {size / 1e9:.3g} GB of memory" if size else ""
        self.progress.message(f"compiled in {seconds:.1f} s{takes}")
        have = memory_size(self.trainer.mesh)
        if have is not None and size > have:
            self.progress.message(
                f"there is {have / 1e9:.3g} GB, which may not be enough; fewer seeds, fewer environments or a smaller "
                "replay take less"
            )
        return compiled

    def _keep(
        self, state: RunState, metrics: ChunkMetrics, active: NDArray[np.bool_], seconds: float
    ) -> None:
        """Records a chunk that took so long, and prepares what is written while the next one is computed."""
        for index, (run, (its, who)) in enumerate(self._each((metrics, active))):
            if who.any():
                rows = run.record(its, who, seconds)
                self.later.append(run.save(self._state_of(state, index)))
                # A run that is killed goes on from what is saved, and so no tracker is told anything twice.
                self.later.append(functools.partial(run.trackers.log, rows))
        if several_processes():
            # What they exchange to write must not meet what they exchange to compute.
            self._write()

    def _write(self) -> None:
        """Writes what there is to write."""
        for write in self.later:
            write()
        self.later.clear()

    def _report(
        self, steps: NDArray[np.int32], first_steps: NDArray[np.int32], seconds: float
    ) -> None:
        total = self.trainer.total_steps
        taken = steps - first_steps
        healthy = np.concatenate([run.healthy for run in self.runs])
        value = max(run.latest() for run in self.runs)[1]
        if len(self.runs) > 1:
            value = f"best choice: {value}"
        fraction, left = 1.0, 0.0
        learning = np.flatnonzero(healthy & (taken > 0))
        if learning.size:
            # The slowest goes on as fast as it has been so far.
            slowest = learning[steps[learning].argmin()]
            fraction = min(1.0, steps[slowest] / total)
            left = max(0, total - steps[slowest]) / taken[slowest] * seconds
        self.progress.chunk(fraction, taken.sum() / seconds, value, left)

    def _final_evaluation(self, state: RunState) -> Any:
        """Many fresh episodes of each seed: by name, see `_Run.final_names`, [C * S, episodes]; None if all seeds have
        failed."""
        if not any(run.healthy.any() for run in self.runs):
            return None
        trainer, names = self.trainer, self.runs[0].final_names
        episodes = ABSOLUTE_FACTOR * trainer.config.eval_episodes

        def final(state: RunState, own: dict[str, jax.Array]) -> Any:
            key, method = jax.random.key(ABSOLUTE_KEY), trainer.with_options(own).method
            evaluation = evaluate(trainer.env, method, state.method, key, episodes)
            return {name: evaluation[name] for name in names}

        given = (state, trainer.row_options)
        play = beside(trainer.compiled(trainer.over_seeds(final)).lower(*given).compile)
        return self._of_seeds(beside(play, *given))


class _Run:
    """One run: what is recorded and written of it.

    Several processes know the same of all its seeds.
    """

    def __init__(
        self,
        settings: RunSettings,
        directory: RunDirectory | None,
        resumed: bool,
        progress: Progress,
        trackers: Trackers,
    ) -> None:
        self.settings = settings
        self.folder = directory
        # To write to.
        self.directory = directory if writes() else None
        self.resumed = resumed
        self.progress = progress
        self.trackers = trackers
        self.trainer = make_trainer(settings)
        self.rows: list[Row] = []
        self.failures: dict[int, str] = {}
        self.chunks = 0
        self.seconds = 0.0
        self.best: teams.Arrays = {}
        self.scores = np.full(settings.seeds, -np.inf)
        self.improved = np.zeros(settings.seeds, bool)

    def finish(
        self, state: RunState, measured: Mapping[str, NDArray[Any]] | None, interrupted: bool
    ) -> TrainResult:
        """Says how it ended, and gives that back.

        Args:
            state: its run state.
            measured: the final evaluation, by name, [S, episodes]; None if there was none.
            interrupted: whether training was stopped.
        """
        final = {name: np.array([]) for name in self.final_names}
        if measured is not None and self.healthy.any():
            final = self._final_means(measured)
        self._close(final, interrupted)
        return TrainResult(
            self.settings,
            self.rows,
            final[GREEDY],
            final[SAMPLED],
            None if self._headline is None else final[self._headline],
            state,
            self.trainer,
            self.failures,
            interrupted,
            self.folder.path if self.folder else None,
        )

    def _of_seeds(self, tree: Any) -> Any:
        """Arrays [R, ...] as NumPy's [S, ...], in all processes."""
        return jax.tree.map(lambda x: x[: self.settings.seeds], beside(on_host, tree))

    @property
    def _headline(self) -> str | None:
        return headline_of(self.trainer.env)

    @property
    def final_names(self) -> list[str]:
        """What the final evaluation measures: what is named first is said first."""
        return [*([] if self._headline is None else [self._headline]), GREEDY, SAMPLED]

    @property
    def healthy(self) -> NDArray[np.bool_]:
        """Which seeds have not failed, [S]."""
        seeds = range(self.settings.seeds)
        return np.array([self._seed(i) not in self.failures for i in seeds])

    def active(self, steps: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Who goes on: healthy seeds that have not had their budget, [S]."""
        return self.healthy & (steps < self.trainer.total_steps)

    def resume(self) -> RunState:
        """Its run state as it was saved last, and what had been measured up to there."""
        assert self.folder is not None
        folder, say = self.folder, self.progress.message
        newest = from_writer(folder.latest_checkpoint)
        # What cannot be read is told before anything is written.
        self.failures = from_writer(folder.failures)
        step, state = folder.checkpoints.restore_newest(self.trainer.abstract_state())
        if step < newest:
            say(f"checkpoint {newest} is damaged; going on from {step}, the newest that is whole")
        self.chunks = step
        steps = self._of_seeds(state.env_steps)

        def keep() -> tuple[int, list[Row]]:
            with folder.writing():
                lost = folder.keep_measurements(
                    {self._seed(i): int(n) for i, n in enumerate(steps)}
                )
            return lost, folder.rows()

        lost, self.rows = from_writer(keep)
        if lost:
            say(
                f"{lost} evaluations before that checkpoint are missing in metrics.csv or results.json"
            )
        self.seconds = max((row.get("train_seconds", 0.0) for row in self.rows), default=0.0)
        self._resume_best(state, steps)
        say(f"resuming {folder.path} after {steps.min():,} env steps")
        return state

    def _seed(self, index: int | np.integer[Any]) -> int:
        return self.settings.seed + int(index)

    def start_trackers(self, steps: NDArray[np.int32]) -> None:
        """Tells them of its seeds, which have taken so many steps, [S]."""
        folder = None if self.directory is None else self.directory.path
        env_steps = {self._seed(index): int(taken) for index, taken in enumerate(steps)}
        self.trackers.start(self.settings, folder, env_steps)

    def record(self, metrics: ChunkMetrics, active: NDArray[np.bool_], seconds: float) -> list[Row]:
        """Adds the measurements of a chunk that took so long, of the seeds that went on, and returns them."""
        self.chunks += 1
        self.seconds += seconds
        new_failures: dict[int, str] = {}
        rows: list[Row] = []
        results: dict[int, Results] = {}
        for index in np.flatnonzero(active):
            seed = self._seed(index)
            failure = self._find_failure(metrics, index)
            if failure is not None:
                new_failures[seed] = failure
                continue
            if not metrics.evaluated[index]:
                continue
            evaluation = {name: x[index] for name, x in metrics.evaluation.items()}
            steps = int(metrics.env_steps[index])
            chunk = int(metrics.iteration[index]) // self.trainer.iterations_per_chunk
            name = f"step_{steps // self.trainer.eval_interval}"
            row: Row = {"seed": seed, "env_steps": steps, "chunk": chunk}
            row |= {f"{name}_mean": float(x.mean()) for name, x in evaluation.items()}
            row |= {name: float(x[index].mean()) for name, x in metrics.training.items()}
            row["train_seconds"] = self.seconds
            rows.append(row)
            self.improved[index] = row[self._score_column] > self.scores[index]
            self.scores[index] = max(self.scores[index], row[self._score_column])
            results[seed] = {name: {"step_count": steps, **self._episodes(evaluation)}}
        for seed, failure in new_failures.items():
            self.progress.message(f"seed {seed} stopped: {failure}; the other seeds go on.")
        self.failures |= new_failures
        self.rows += rows
        if self.directory is not None:
            with self.directory.writing():
                if rows:
                    self.directory.append(rows)
                    self.directory.add_results(results)
                if new_failures:
                    self.directory.write_failures(self.failures)
        return rows

    def _find_failure(self, metrics: ChunkMetrics, index: int | np.integer[Any]) -> str | None:
        """What a seed's first NaN or infinity in this chunk was, if there is one."""
        found = []
        for name, x in metrics.training.items():
            bad = np.flatnonzero(~np.isfinite(x[index]))
            if bad.size:
                found.append((int(bad[0]), name, x[index][bad[0]]))
        if not found:
            return None
        iteration, name, value = min(found)
        before = int(metrics.iteration[index]) - self.trainer.iterations_per_chunk
        done = before + iteration + 1
        # As if all iterations had taken as many.
        steps = int(metrics.env_steps[index]) * done // int(metrics.iteration[index])
        return f"{name} became {value} at iteration {done} (about {steps:,} env steps)"

    @property
    def _score_column(self) -> str:
        """What the best checkpoint is chosen by."""
        return f"{self._headline or GREEDY}_mean"

    def save(self, state: RunState) -> Callable[[], None]:
        """Copies what is saved of its run state, and returns what writes it."""
        if self.folder is None:
            return lambda: None
        folder = self.folder
        write = folder.checkpoints.prepare(self.chunks, state, self.settings.training.keep_every)
        improved = self._keep_best(state)

        def save() -> None:
            with folder.writing():
                write()
                if improved:
                    self._write_best()

        return save

    def _keep_best(self, state: RunState) -> bool:
        """Puts the seeds that have improved into `best` as they are now; returns whether there are any."""
        if not self.improved.any():
            return False
        learner, env_steps = self._of_seeds((teams.kept(state.method), state.env_steps))
        now = teams.arrays_of({"learner": learner, "env_steps": env_steps})
        before = self.best or now
        self.best = {
            name: np.where(self.improved.reshape(-1, *[1] * (x.ndim - 1)), x, before[name])
            for name, x in now.items()
        }
        self.improved[:] = False
        return True

    def _write_best(self) -> None:
        if self.directory is not None:
            self.directory.write_best(self.best)

    def _resume_best(self, state: RunState, now: NDArray[np.int32]) -> None:
        """Takes up the best evaluations' teams: those on disk, and of an evaluation that was not written there any more
        those of now."""
        assert self.folder is not None
        folder, held = self.folder, np.full(self.settings.seeds, -1)
        with contextlib.suppress(ConfigurationError):
            self.best = from_writer(lambda: _kept(load_best(folder, self.trainer)))
            held = self.best["['env_steps']"]
        for row in self.rows:
            index, score = int(row["seed"]) - self.settings.seed, row[self._score_column]
            known = row["env_steps"] <= held[index] or row["env_steps"] == now[index]
            if score > self.scores[index] and known:
                self.scores[index] = score
                self.improved[index] = row["env_steps"] > held[index]
        if self._keep_best(state):
            with folder.writing():
                self._write_best()

    def latest(self) -> tuple[float, str]:
        """What the latest evaluations of its healthy seeds came to: by what runs are compared, and as a person reads
        it."""
        if not self.healthy.any():
            return -np.inf, "no healthy seed"
        by_seed = {int(row["seed"]): row for row in self.rows}
        seeds = {self._seed(i) for i in np.flatnonzero(self.healthy)}
        rows = [row for seed, row in by_seed.items() if seed in seeds]
        if not rows:
            return -np.inf, "not evaluated yet"
        means = {n: float(np.mean([row[f"{n}_mean"] for row in rows])) for n in self.final_names}
        value = f"return {means[GREEDY]:.4g} (sampled {means[SAMPLED]:.4g})"
        if self._headline is not None:
            value = f"{self._said(self._headline)} {means[self._headline]:.3g}  {value}"
        return means[self._headline or GREEDY], value

    def _final_means(self, measured: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """Means of each healthy seed over its episodes of the final evaluation, [S'] each, which are written."""
        healthy = np.flatnonzero(self.healthy)
        if self.directory is not None:
            with self.directory.writing():
                self.directory.finish_results(
                    {
                        self._seed(i): self._episodes({name: x[i] for name, x in measured.items()})
                        for i in healthy
                    }
                )
        return {
            name: measured[name][healthy].mean(axis=1, dtype=np.float64)
            for name in self.final_names
        }

    def _episodes(self, evaluation: Mapping[str, Any]) -> dict[str, list[float]]:
        """One seed's episodes, arrays [episodes], as results.json names and rounds them."""
        return {
            name.removeprefix("eval_"): [float(f"{x:.6g}") for x in evaluation[name]]
            for name in self.final_names
        }

    @staticmethod
    def _said(name: str) -> str:
        """A measured name as a person reads it."""
        return name.removeprefix("eval_").replace("_", " ")

    def _close(self, final: Mapping[str, NDArray[np.float64]], interrupted: bool) -> None:
        """Says how it ended, with numbers and a picture."""
        say = self.progress.message
        if final[GREEDY].size:
            episodes = ABSOLUTE_FACTOR * self.settings.training.eval_episodes
            over = f"IQM of {final[GREEDY].size} seeds x {episodes} episodes"
            for name in self.final_names[:-1]:
                values = final[name]
                beside = f", sampled {summary(final[SAMPLED])}" if name == GREEDY else ""
                each = ", ".join(f"{x:.4g}" for x in values)
                say(f"final {self._said(name)}, {over}: {summary(values)}{beside}; per seed {each}")
        for seed, failure in self.failures.items():
            say(f"seed {seed} did not finish: {failure}")
        say(f"training took {duration(self.seconds)}, without compilation")
        if self.directory is not None:
            with self.directory.writing():
                picture = self.directory.draw()
            say(f"run: {self.directory.path}" + (f"  picture: {picture}" if picture else ""))
        if interrupted:
            say("stopped before the end, everything is saved" if self.directory else "stopped")


def _kept(state: RunState) -> teams.Arrays:
    """What is kept of the best evaluations, by path."""
    return teams.arrays_of({"learner": teams.kept(state.method), "env_steps": state.env_steps})
