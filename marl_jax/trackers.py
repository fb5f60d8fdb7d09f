"""Where a run's numbers go while it trains, besides its folder: TensorBoard, Weights & Biases, a function of your own.

>>> marl_jax.train("liir", "turn", out="runs/first", trackers=["tensorboard", print])
"""

import dataclasses
import importlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from envs.configuration import ConfigurationError, unknown_name
from marl_jax.runs import Row
from marl_jax.settings import RunSettings

Log = Callable[[int, int, Mapping[str, float]], object]
"""A function of a seed, how many environment steps it has had, and its numbers by name."""


@runtime_checkable
class Tracker(Protocol):
    """Gets every row of metrics.csv as numbers, once the state that it was measured on is saved."""

    def start(
        self, settings: RunSettings, folder: Path | None, env_steps: Mapping[int, int]
    ) -> None:
        """A run begins or goes on.

        Args:
            settings: its whole configuration.
            folder: where it is on disk, if anywhere.
            env_steps: by seed, after how many environment steps it goes on; 0 at the beginning.
        """
        ...

    def log(self, seed: int, env_steps: int, numbers: Mapping[str, float]) -> None:
        """A seed was evaluated. What was measured just before a run was killed may be told to no tracker.

        Args:
            seed: which.
            env_steps: how many environment steps it has had; more at every call, unless the run went on from an
                older checkpoint than its last.
            numbers: the row of metrics.csv, without these two.
        """
        ...

    def close(self) -> None:
        """No more will come."""
        ...


@dataclasses.dataclass(frozen=True)
class Function:
    """A function as a tracker.

    Attributes:
        function: gets every row.
    """

    function: Log

    def start(
        self, settings: RunSettings, folder: Path | None, env_steps: Mapping[int, int]
    ) -> None:
        """Nothing to do."""

    def log(self, seed: int, env_steps: int, numbers: Mapping[str, float]) -> None:
        """Calls the function."""
        self.function(seed, env_steps, numbers)

    def close(self) -> None:
        """Nothing to do."""


class TensorBoard:
    """Writes what `tensorboard --logdir runs` shows, a series for each seed."""

    def __init__(self, folder: str | Path | None = None) -> None:
        """Writes to `folder`, or to `tensorboard` in the run's own.

        Raises:
            ConfigurationError: if tensorboardX is not installed.
        """
        self._package = _import("tensorboardX")
        self._folder = None if folder is None else Path(folder).expanduser()
        self._writers: dict[int, Any] = {}

    def start(
        self, settings: RunSettings, folder: Path | None, env_steps: Mapping[int, int]
    ) -> None:
        """Opens a file for each seed.

        Raises:
            ConfigurationError: if there is no folder to write to.
        """
        if self._folder is None and folder is None:
            raise ConfigurationError(
                "the tracker tensorboard needs a folder; give out=..., or TensorBoard(folder) as the tracker."
            )
        target = self._folder or Path(folder or "", "tensorboard")
        text = json.dumps(settings.to_json(), indent=2).replace("\n", "\n    ")
        for seed, steps in env_steps.items():
            # What came after the step at which the run goes on is hidden. The name is another one within a second, too.
            self._writers[seed] = self._package.SummaryWriter(
                str(target / f"seed_{seed}"),
                purge_step=steps + 1 if steps else None,
                filename_suffix=f".{steps}",
            )
            if not steps:
                self._writers[seed].add_text("configuration", f"    {text}")

    def log(self, seed: int, env_steps: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers, grouped as those of evaluations and those of training."""
        writer = self._writers[seed]
        for name, value in numbers.items():
            group = "evaluation" if name.startswith("eval_") else "training"
            writer.add_scalar(f"{group}/{name}", value, env_steps)
        writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()


class WandB:
    """Sends numbers to Weights & Biases: a run for each seed, in one group.

    The environment variables of `wandb` hold, such as WANDB_MODE=offline and WANDB_ENTITY.
    """

    def __init__(self, project: str | None = None) -> None:
        """Sends to `project`, or to that of WANDB_PROJECT, or to marl_jax.

        Raises:
            ConfigurationError: if wandb is not installed.
        """
        self._package = _import("wandb")
        self._project = project or os.environ.get("WANDB_PROJECT", "marl_jax")
        self._runs: dict[int, Any] = {}

    def start(
        self, settings: RunSettings, folder: Path | None, env_steps: Mapping[int, int]
    ) -> None:
        """Begins a run for each seed, or goes on with it."""
        token = _token(folder)
        for seed in env_steps:
            self._runs[seed] = self._package.init(
                project=self._project,
                group=f"{settings.env} {settings.method} {token}",
                name=f"{settings.method} seed {seed}",
                id=f"{token}-{seed}",
                resume="allow",
                config={**settings.to_json(), "seed": seed},
                dir=None if folder is None else str(folder),
                reinit="create_new",
                # The progress display is ours.
                settings=self._package.Settings(console="off", silent=True),
            )

    def log(self, seed: int, env_steps: int, numbers: Mapping[str, float]) -> None:
        """Sends the numbers; environment steps are the steps of the series."""
        self._runs[seed].log(dict(numbers), step=env_steps)

    def close(self) -> None:
        """Waits until everything is sent."""
        for run in self._runs.values():
            run.finish()


TRACKERS: dict[str, Callable[[], Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB}
"""By name."""


def make_trackers(chosen: Iterable[str | Tracker | Log]) -> list[Tracker]:
    """Trackers from their names, from functions, and as they are.

    Raises:
        ConfigurationError: if a name is unknown, something is none of these or a package is missing.
    """
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        raise ConfigurationError(
            f"trackers is {chosen!r}; it must be a list of names ({', '.join(TRACKERS)}), trackers and functions."
        )
    made: list[Tracker] = []
    for each in chosen:
        if isinstance(each, str):
            if each not in TRACKERS:
                raise unknown_name("tracker", each, TRACKERS)
            made.append(TRACKERS[each]())
        elif isinstance(each, type) or not (isinstance(each, Tracker) or callable(each)):
            raise ConfigurationError(
                f"a tracker is {each!r}; it must be one of {', '.join(TRACKERS)}, a tracker or a function."
            )
        else:
            made.append(each if isinstance(each, Tracker) else Function(each))
    return made


class Trackers:
    """Those of a run. One that raises is named once and left out; the run goes on."""

    def __init__(self, trackers: Sequence[Tracker], say: Callable[[str], None]) -> None:
        """Uses `trackers`, and `say` to tell what went wrong."""
        self._trackers = list(trackers)
        self._say = say
        self._started: list[Tracker] = []

    def start(
        self, settings: RunSettings, folder: Path | None, env_steps: Mapping[int, int]
    ) -> None:
        """See `Tracker.start`.

        Raises:
            ConfigurationError: if one does not fit the run.
        """

        def start(tracker: Tracker) -> None:
            tracker.start(settings, folder, env_steps)
            self._started.append(tracker)

        for tracker in self._trackers:
            self._try(tracker, start)

    def log(self, rows: Sequence[Row]) -> None:
        """Tells all of some rows of metrics.csv."""

        def log(tracker: Tracker) -> None:
            for row in rows:
                numbers = {k: v for k, v in row.items() if k not in ("seed", "env_steps")}
                tracker.log(int(row["seed"]), int(row["env_steps"]), numbers)

        for tracker in list(self._started):
            self._try(tracker, log)

    def close(self) -> None:
        """See `Tracker.close`."""
        for tracker in list(self._started):
            self._try(tracker, lambda tracker: tracker.close())
        self._started = []

    def _try(self, tracker: Tracker, call: Callable[[Tracker], None]) -> None:
        try:
            call(tracker)
        except Exception as error:
            if tracker in self._started:
                self._started.remove(tracker)
            elif isinstance(error, ConfigurationError):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._say(f"the tracker {type(tracker).__name__} stopped ({reason}); the run goes on.")


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigurationError(
            f"{package} cannot be imported ({error}); install it with: pip install {package}"
        ) from error


def _token(folder: Path | None) -> str:
    """What Weights & Biases knows a run by; it stays in the run's folder, so that a resumed run is the same one."""
    if folder is None:
        return secrets.token_hex(4)
    file = folder / "wandb" / "id"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        file.write_text(secrets.token_hex(4))
    return file.read_text().strip()
