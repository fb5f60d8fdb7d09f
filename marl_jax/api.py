"""Train and load, from Python. The command line in `experiments/` is a thin layer over this."""

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from envs.configuration import ConfigurationError
from envs.registry import make as make_env
from marl_jax import methods
from marl_jax.evaluation import evaluate
from marl_jax.plots import Curve
from marl_jax.policy import Policy
from marl_jax.progress import Progress, Silent, default_progress, duration
from marl_jax.runs import Row, RunDirectory, curve_of, summary
from marl_jax.runtime import use_compilation_cache
from marl_jax.settings import RunSettings, environment_record, make_settings
from marl_jax.training import ChunkMetrics, RunState, Trainer

ABSOLUTE_KEY = 20_260_101
"""Seed of the episodes of the final evaluation, which no training evaluation plays."""
ABSOLUTE_FACTOR = 10
"""How many times more episodes it plays."""


@dataclasses.dataclass
class TrainResult:
    """What a training run gives back.

    Attributes:
        settings: the run's full configuration.
        rows: one per seed and evaluation, as in metrics.csv.
        final_returns: mean return of each healthy seed in the final evaluation, [S'].
        state: the run state of all seeds.
        trainer: the compiled loop and what it was made of.
        failures: by seed, what stopped it.
        interrupted: whether the run was stopped before its end.
        directory: where the run is on disk, if anywhere.
    """

    settings: RunSettings
    rows: list[Row]
    final_returns: NDArray[np.float64]
    state: RunState
    trainer: Trainer
    failures: dict[int, str]
    interrupted: bool
    directory: Path | None

    def curve(self, column: str = "eval_return_mean") -> Curve:
        """Steps [K] and values [S, K] of a column of `rows`."""
        return curve_of(self.rows, column)

    def policy(self, seed: int | None = None) -> Policy:
        """The team of one seed, the first by default."""
        return policy_of(self.trainer, self.state, self.settings, seed)


def policy_of(
    trainer: Trainer, state: RunState, settings: RunSettings, seed: int | None = None
) -> Policy:
    """The team of one seed, the first by default, out of the run state of all seeds.

    Raises:
        ConfigurationError: if the run has no such seed.
    """
    seed = settings.seed if seed is None else seed
    if not settings.seed <= seed < settings.seed + settings.seeds:
        last = settings.seed + settings.seeds - 1
        raise ConfigurationError(f"seed is {seed}; it must be one of {settings.seed} to {last}.")
    learner = jax.tree.map(lambda x: x[seed - settings.seed], state.method)
    return Policy(trainer.env, trainer.method, learner)


def make_trainer(settings: RunSettings) -> Trainer:
    """The training loop of a run, with its task and its method; nothing is compiled yet."""
    env = make_env(settings.env, **dataclasses.asdict(settings.env_options))
    method = methods.make(settings.method, env, **dataclasses.asdict(settings.method_options))
    return Trainer(env, method, settings.training, settings.seeds, settings.seed)


def load(run: str | Path, evaluation: int | None = None) -> tuple[Trainer, RunState, RunSettings]:
    """Loads a checkpoint of a run, on whatever devices are here; without its replay.

    Args:
        run: the run's folder.
        evaluation: after which evaluation it was saved, 0 for the untrained teams; the last one by default.

    Raises:
        ConfigurationError: if the folder is not a run, its checkpoint is damaged, or there is none of that evaluation.
    """
    directory = RunDirectory.open(run)
    settings = directory.settings()
    trainer = make_trainer(settings)
    step = directory.latest_checkpoint()
    if evaluation is not None:
        kept = directory.checkpoints.steps()
        if evaluation not in kept:
            raise ConfigurationError(
                f"evaluation is {evaluation}; {run} holds checkpoints of {', '.join(map(str, kept))}."
            )
        step = evaluation
    like = trainer.abstract_state()._replace(replay=None)
    return trainer, directory.checkpoints.restore(step, like), settings


def load_policy(run: str | Path, seed: int | None = None, evaluation: int | None = None) -> Policy:
    """Loads the team of one seed of a run, the first by default.

    Args:
        run: the run's folder.
        seed: which team.
        evaluation: as for `load`.

    Raises:
        ConfigurationError: if the folder is not a run, its checkpoint is damaged, or it has no such seed or checkpoint.
    """
    trainer, state, settings = load(run, evaluation)
    return policy_of(trainer, state, settings, seed)


def train(
    method: str,
    env: str,
    seeds: int = 16,
    *,
    seed: int = 0,
    total_steps: int | None = None,
    out: str | None = None,
    training_options: Mapping[str, Any] | None = None,
    method_options: Mapping[str, Any] | None = None,
    env_options: Mapping[str, Any] | None = None,
    preset: str | None = None,
    progress: Progress | bool = True,
) -> TrainResult:
    """Trains `seeds` teams side by side.

    >>> result = marl_jax.train(method="liir", env="turn", seeds=4, total_steps=100_000)

    Args:
        method: name of the method.
        env: name of the task.
        seeds: how many seeds.
        seed: the first of them.
        total_steps: environment steps for each seed; the task's default if None.
        out: folder for the run; nothing is written to disk if None.
        training_options: fields of `TrainingConfig`.
        method_options: fields of the method's `Config`.
        env_options: fields of the task's `Config`.
        preset: name of a set of options, which those given here override.
        progress: a display, or whether to show the default one.

    Raises:
        ConfigurationError: if a name is unknown, a value is not allowed or `out` cannot be written.
    """
    training = dict(training_options or {})
    if total_steps is not None:
        training["total_steps"] = total_steps
    settings = make_settings(
        method,
        env,
        seeds,
        seed,
        {"training": training, "method": method_options or {}, "env": env_options or {}},
        preset=preset,
    )
    # Refuses what does not fit the task before anything is written.
    make_trainer(settings)
    directory = None
    if out is not None:
        directory = RunDirectory.create(settings, environment_record(), out)
    return run_training(settings, directory, progress)


def resume(
    run: str | Path, total_steps: int | None = None, progress: Progress | bool = True
) -> TrainResult:
    """Goes on with a run from its last checkpoint, bit for bit as if it had never stopped.

    Args:
        run: folder of the run.
        total_steps: a new budget for each seed; the run's own if None.
        progress: a display, or whether to show the default one.

    Raises:
        ConfigurationError: if the folder is not a run, or its checkpoint is damaged.
    """
    directory = RunDirectory.open(run)
    settings = directory.settings()
    if total_steps is not None:
        training = dataclasses.replace(settings.training, total_steps=total_steps)
        settings = dataclasses.replace(settings, training=training)
    return run_training(settings, directory, progress, resumed=True)


def run_training(
    settings: RunSettings,
    directory: RunDirectory | None,
    progress: Progress | bool = True,
    resumed: bool = False,
) -> TrainResult:
    """The Python loop around `Trainer.train_chunk`: logs, draws, saves and stops."""
    use_compilation_cache()
    if isinstance(progress, bool):
        progress = default_progress() if progress else Silent()
    try:
        with _stop_signals(progress) as stop:
            return _Loop(settings, directory, progress, stop).run(resumed)
    finally:
        progress.close()


class _Loop:
    """One run of the loop; see `run_training`."""

    def __init__(
        self,
        settings: RunSettings,
        directory: RunDirectory | None,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.progress = progress
        self.stop = stop
        self.trainer = make_trainer(settings)
        self.rows: list[Row] = []
        self.failures: dict[int, str] = {}
        self.evaluations = 0
        self.seconds = 0.0

    def run(self, resumed: bool) -> TrainResult:
        state = self._resume() if resumed else self._start()
        steps = np.asarray(state.env_steps)
        if not self._finished(steps):
            train_chunk = self._compile(state)
            began, first_steps = time.monotonic(), steps
            while not self._finished(steps) and not self.stop.is_set():
                chunk_began = time.monotonic()
                state, metrics = train_chunk(state)
                steps = np.asarray(metrics.env_steps)
                self.seconds += time.monotonic() - chunk_began
                self._record(jax.tree.map(np.asarray, metrics))
                self._save(state)
                self._report(steps, first_steps, time.monotonic() - began)
        interrupted = not self._finished(steps)
        final = np.array([]) if interrupted else self._final_evaluation(state)
        self._close(final, interrupted)
        return TrainResult(
            self.settings,
            self.rows,
            final,
            state,
            self.trainer,
            self.failures,
            interrupted,
            self.directory.path if self.directory else None,
        )

    def _finished(self, steps: NDArray[np.int32]) -> bool:
        all_failed = len(self.failures) == self.settings.seeds
        return all_failed or bool(steps.min() >= self.settings.training.total_steps)

    def _start(self) -> RunState:
        state = self.trainer.init()
        self._save(state)
        return state

    def _resume(self) -> RunState:
        assert self.directory is not None
        step = self.directory.latest_checkpoint()
        state = self.directory.checkpoints.restore(step, self.trainer.abstract_state())
        self.evaluations = step
        self.directory.keep_evaluations(step)
        self.rows = self.directory.rows()
        self.failures = self.directory.failures()
        self.seconds = max((row["train_seconds"] for row in self.rows), default=0.0)
        self.progress.message(f"resuming {self.directory.path} after evaluation {step}")
        return state

    def _compile(self, state: RunState) -> Any:
        settings = self.settings
        self.progress.message(
            f"{settings.method} on {settings.env}: {settings.seeds} seed{'s' * (settings.seeds > 1)}, "
            f"{settings.training.total_steps:,} env steps each, on "
            f"{self.trainer.mesh.size} x {jax.devices()[0].device_kind}"
        )
        self.progress.message("compiling ...")
        began = time.monotonic()
        compiled = self.trainer.train_chunk.lower(state).compile()
        self.progress.message(f"compiled in {time.monotonic() - began:.1f} s")
        return compiled

    def _seed(self, index: int) -> int:
        return self.settings.seed + index

    def _record(self, metrics: ChunkMetrics) -> None:
        """Adds a chunk's measurements of all healthy seeds."""
        self.evaluations += 1
        new_failures = {}
        rows, results = [], {}
        for index in range(self.settings.seeds):
            seed = self._seed(index)
            if seed in self.failures:
                continue
            failure = self._find_failure(metrics, index)
            if failure is not None:
                new_failures[seed] = failure
                continue
            evaluation = {name: x[index] for name, x in metrics.evaluation.items()}
            steps = int(metrics.env_steps[index])
            row: Row = {"seed": seed, "env_steps": steps, "evaluation": self.evaluations}
            row |= {f"{name}_mean": float(x.mean()) for name, x in evaluation.items()}
            row |= {name: float(x[index].mean()) for name, x in metrics.training.items()}
            row["train_seconds"] = self.seconds
            rows.append(row)
            returns = [float(f"{x:.6g}") for x in evaluation["eval_return"]]
            results[seed] = {"step_count": steps, "return": returns}
        for seed, failure in new_failures.items():
            self.progress.message(f"seed {seed} stopped: {failure}; the other seeds go on.")
        self.failures |= new_failures
        self.rows += rows
        if self.directory is not None:
            if rows:
                self.directory.append(rows)
                self.directory.add_results(self.evaluations, results)
            if new_failures:
                self.directory.write_failures(self.failures)

    def _find_failure(self, metrics: ChunkMetrics, index: int) -> str | None:
        """What a seed's first NaN or infinity in this chunk was, if there is one."""
        found = []
        for name, x in metrics.training.items():
            bad = np.flatnonzero(~np.isfinite(x[index]))
            if bad.size:
                found.append((int(bad[0]), name, x[index][bad[0]]))
        if not found:
            return None
        iteration, name, value = min(found)
        done = (self.evaluations - 1) * self.trainer.iterations_per_chunk + iteration + 1
        steps = done * self.trainer.steps_per_iteration
        return f"{name} became {value} at iteration {done} (about {steps:,} env steps)"

    def _save(self, state: RunState) -> None:
        if self.directory is not None:
            keep_every = self.settings.training.keep_every
            self.directory.checkpoints.save(self.evaluations, state, keep_every)

    def _report(
        self, steps: NDArray[np.int32], first_steps: NDArray[np.int32], seconds: float
    ) -> None:
        total = self.settings.training.total_steps
        done, taken = int(steps.min()), int((steps - first_steps).sum())
        rate = taken / seconds
        left = max(0, total - done) * self.settings.seeds / rate
        latest = [r["eval_return_mean"] for r in self.rows if r["evaluation"] == self.evaluations]
        value = f"return {np.mean(latest):.4g}" if latest else "no healthy seed"
        self.progress.chunk(min(1.0, done / total), rate, value, left)

    def _final_evaluation(self, state: RunState) -> NDArray[np.float64]:
        """Mean return of each healthy seed over many fresh episodes."""
        if len(self.failures) == self.settings.seeds:
            return np.array([])
        trainer, episodes = self.trainer, ABSOLUTE_FACTOR * self.settings.training.eval_episodes

        def final(state: RunState) -> Any:
            key = jax.random.key(ABSOLUTE_KEY)
            return evaluate(trainer.env, trainer.method, state.method, key, episodes)["eval_return"]

        returns = np.asarray(jax.jit(trainer.over_seeds(final))(state))
        healthy = [i for i in range(self.settings.seeds) if self._seed(i) not in self.failures]
        if self.directory is not None:
            by_seed = {
                self._seed(i): {"return": [float(f"{x:.6g}") for x in returns[i]]} for i in healthy
            }
            self.directory.add_results(None, by_seed)
        return returns[healthy].mean(axis=1).astype(np.float64)

    def _close(self, final: NDArray[np.float64], interrupted: bool) -> None:
        """Says how it ended, with numbers and a picture."""
        say = self.progress.message
        if final.size:
            episodes = ABSOLUTE_FACTOR * self.settings.training.eval_episodes
            say(
                f"final return, IQM of {final.size} seeds x {episodes} episodes: {summary(final)}; "
                f"per seed {', '.join(f'{x:.4g}' for x in final)}"
            )
        for seed, failure in self.failures.items():
            say(f"seed {seed} did not finish: {failure}")
        say(f"training took {duration(self.seconds)}, without compilation")
        if self.directory is not None:
            picture = self.directory.draw()
            say(f"run: {self.directory.path}" + (f"  picture: {picture}" if picture else ""))
        if interrupted:
            say("stopped before the end, everything is saved" if self.directory else "stopped")


@contextlib.contextmanager
def _stop_signals(progress: Progress) -> Iterator[threading.Event]:
    """Turns the first SIGINT or SIGTERM into a request to stop after the current chunk.

    The second one acts at once, as if this were not here.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(*_: Any) -> None:
        stop.set()
        restore()
        progress.message("stopping after this chunk; once more to stop at once")

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
