"""The Python loop around `Trainer.train_chunk`: logs, draws, saves and stops."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    on_host,
    placed,
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


def run_training(
    settings: RunSettings,
    directory: RunDirectory | None,
    progress: Progress | bool = True,
    resumed: bool = False,
    trackers: Sequence[Tracker] = (),
) -> TrainResult:
    """The Python loop around `Trainer.train_chunk`: logs, draws, saves and stops.

    Where several processes train together each calls it with the same settings; one of them writes and tells.

    Raises:
        ConfigurationError: if another process writes to the folder, or it cannot be written any longer; or one of those
            that train together has ended.
    """
    use_compilation_cache()
    if resumed:
        # What they started from may be gone.
        check_settings(dataclasses.replace(settings, init_from=None))
    progress = display(progress if writes() else False)
    tracking = Trackers(trackers if writes() else (), progress.message)
    try:
        locked: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if directory is not None and writes():
            locked = directory.locked()
        with _together(directory), locked, stop_signals(progress) as stop:
            return _Loop(settings, directory, progress, stop, tracking).run(resumed)
    finally:
        tracking.close()
        progress.close()


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
    """One run of the loop; see `run_training`.

    Several processes go through it in step, and know the same of all seeds.
    """

    def __init__(
        self,
        settings: RunSettings,
        directory: RunDirectory | None,
        progress: Progress,
        stop: threading.Event,
        trackers: Trackers,
    ) -> None:
        self.settings = settings
        self.folder = directory
        # To write to.
        self.directory = directory if writes() else None
        self.progress = progress
        self.stop = stop
        self.trackers = trackers
        self.trainer = make_trainer(settings)
        self.rows: list[Row] = []
        self.failures: dict[int, str] = {}
        self.chunks = 0
        self.seconds = 0.0
        self.best: teams.Arrays = {}
        self.scores = np.full(settings.seeds, -np.inf)
        self.improved = np.zeros(settings.seeds, bool)

    def run(self, resumed: bool) -> TrainResult:
        state = self._resume() if resumed else self._start()
        steps = self._of_seeds(state.env_steps)
        if not self._finished(steps):
            self._start_trackers(steps)
            train_chunk = self._compile(state)
            began, first_steps = time.monotonic(), steps
            while not self._finished(steps) and not beside(anywhere, self.stop.is_set()):
                chunk_began, active = time.monotonic(), self._active(steps)
                state, found = beside(train_chunk, state, self._rows_of(active))
                metrics: ChunkMetrics = self._of_seeds(found)
                steps = np.asarray(metrics.env_steps)
                self.seconds += time.monotonic() - chunk_began
                rows = self._record(metrics, active)
                self._save(state)
                # A run that is killed goes on from what is saved, and so no tracker is told anything twice.
                self.trackers.log(rows)
                self._report(steps, first_steps, time.monotonic() - began)
        interrupted = not self._finished(steps)
        final = {name: np.array([]) for name in self._final_names}
        if not interrupted and self._healthy.any():
            final = self._final_evaluation(state)
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

    def _rows_of(self, active: NDArray[np.bool_]) -> jax.Array:
        """[R], which rows of the run state are active."""
        return self.trainer.spread(np.pad(active, (0, self.trainer.num_rows - len(active))))

    @property
    def _headline(self) -> str | None:
        return headline_of(self.trainer.env)

    @property
    def _final_names(self) -> list[str]:
        """What the final evaluation measures: what is named first is said first."""
        return [*([] if self._headline is None else [self._headline]), GREEDY, SAMPLED]

    @property
    def _healthy(self) -> NDArray[np.bool_]:
        """Which seeds have not failed, [S]."""
        seeds = range(self.settings.seeds)
        return np.array([self._seed(i) not in self.failures for i in seeds])

    def _active(self, steps: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Who goes on: healthy seeds that have not had their budget, [S]."""
        return self._healthy & (steps < self.trainer.total_steps)

    def _finished(self, steps: NDArray[np.int32]) -> bool:
        return not self._active(steps).any()

    def _start(self) -> RunState:
        state = self.trainer.init()
        source = self.settings.init_from
        if source is not None:
            found = start_from(source, self.trainer)
            learner = teams.put(on_host(state.method), found)
            place = lambda x, old: placed(np.asarray(x), old.sharding)  # noqa: E731
            state = state._replace(method=jax.tree.map(place, learner, state.method))
            self.progress.message(f"starting from {source}")
        self._save(state)
        return state

    def _resume(self) -> RunState:
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

    def _compile(self, state: RunState) -> Any:
        settings = self.settings
        self.progress.message(
            f"{settings.method} on {settings.env}: {settings.seeds} seed{'s' * (settings.seeds > 1)}, "
            f"{settings.training.total_steps:,} env steps each, on "
            f"{self.trainer.mesh.size} x {jax.devices()[0].device_kind}"
        )
        self.progress.message(f"each seed keeps {described(kept(self.trainer))}")
        self.progress.message("compiling ...")
        began = time.monotonic()
        compiled = beside(self.trainer.train_chunk.lower(state, self.trainer.everyone).compile)
        seconds, size = time.monotonic() - began, program_size(compiled, self.trainer.mesh)
        takes = f", takes {size / 1e9:.3g} GB of memory" if size else ""
        self.progress.message(f"compiled in {seconds:.1f} s{takes}")
        return compiled

    def _seed(self, index: int | np.integer[Any]) -> int:
        return self.settings.seed + int(index)

    def _start_trackers(self, steps: NDArray[np.int32]) -> None:
        folder = None if self.directory is None else self.directory.path
        env_steps = {self._seed(index): int(taken) for index, taken in enumerate(steps)}
        self.trackers.start(self.settings, folder, env_steps)

    def _record(self, metrics: ChunkMetrics, active: NDArray[np.bool_]) -> list[Row]:
        """Adds a chunk's measurements of the seeds that went on, and returns them."""
        self.chunks += 1
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

    def _save(self, state: RunState) -> None:
        if self.folder is None:
            return
        with self.folder.writing():
            keep_every = self.settings.training.keep_every
            self.folder.checkpoints.save(self.chunks, state, keep_every)
            if self.improved.any():
                self._keep_best(state)

    def _keep_best(self, state: RunState) -> None:
        """Puts the seeds that have improved into `best` as they are now, and writes it."""
        learner, env_steps = self._of_seeds((teams.kept(state.method), state.env_steps))
        now = teams.arrays_of({"learner": learner, "env_steps": env_steps})
        before = self.best or now
        better = {
            name: np.where(self.improved.reshape(-1, *[1] * (x.ndim - 1)), x, before[name])
            for name, x in now.items()
        }
        self.best = better
        self.improved[:] = False
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
        if self.improved.any():
            with folder.writing():
                self._keep_best(state)

    def _report(
        self, steps: NDArray[np.int32], first_steps: NDArray[np.int32], seconds: float
    ) -> None:
        total = self.trainer.total_steps
        taken, healthy = steps - first_steps, self._healthy
        value = "no healthy seed"
        if healthy.any():
            latest = {int(row["seed"]): row for row in self.rows}
            seeds = {self._seed(i) for i in np.flatnonzero(healthy)}
            value = self._latest([row for seed, row in latest.items() if seed in seeds])
        fraction, left = 1.0, 0.0
        learning = np.flatnonzero(healthy & (taken > 0))
        if learning.size:
            # The slowest goes on as fast as it has been so far.
            slowest = learning[steps[learning].argmin()]
            fraction = min(1.0, steps[slowest] / total)
            left = max(0, total - steps[slowest]) / taken[slowest] * seconds
        self.progress.chunk(fraction, taken.sum() / seconds, value, left)

    def _latest(self, rows: list[Row]) -> str:
        """What the latest evaluations came to, one for each seed."""
        if not rows:
            return "not evaluated yet"
        means = {n: np.mean([row[f"{n}_mean"] for row in rows]) for n in self._final_names}
        value = f"return {means[GREEDY]:.4g} (sampled {means[SAMPLED]:.4g})"
        if self._headline is not None:
            value = f"{self._said(self._headline)} {means[self._headline]:.3g}  {value}"
        return value

    def _final_evaluation(self, state: RunState) -> dict[str, NDArray[np.float64]]:
        """Means of each healthy seed over many fresh episodes, [S'] each: by name, see `_final_names`."""
        trainer, episodes = self.trainer, ABSOLUTE_FACTOR * self.settings.training.eval_episodes

        def final(state: RunState) -> Any:
            key = jax.random.key(ABSOLUTE_KEY)
            evaluation = evaluate(trainer.env, trainer.method, state.method, key, episodes)
            return {name: evaluation[name] for name in self._final_names}

        play = beside(jax.jit(trainer.over_seeds(final)).lower(state).compile)
        measured = self._of_seeds(beside(play, state))
        healthy = np.flatnonzero(self._healthy)
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
            for name in self._final_names
        }

    def _episodes(self, evaluation: Mapping[str, Any]) -> dict[str, list[float]]:
        """One seed's episodes, arrays [episodes], as results.json names and rounds them."""
        return {
            name.removeprefix("eval_"): [float(f"{x:.6g}") for x in evaluation[name]]
            for name in self._final_names
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
            for name in self._final_names[:-1]:
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
