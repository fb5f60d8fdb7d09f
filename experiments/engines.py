"""What trains the runs of a sweep: this process, one after the other, or an engine that has workers, Ray or SLURM.

Every run is one of its own in a folder that all workers can see, and goes on where it was if its worker was lost. The
queue, restarts and resources are the engine's.
"""

import importlib
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from marl_jax import ConfigurationError
from marl_jax.loop import Assignment, run_together
from marl_jax.runs import RunDirectory
from marl_jax.settings import RunSettings, environment_record
from marl_jax.trackers import make_trackers

ROOT = Path(__file__).parent.parent


class Task(NamedTuple):
    """A run to train.

    Attributes:
        name: how users are told of it.
        folder: where it goes, or is.
        settings: as `RunSettings.to_json` gives them.
        trackers: names of trackers.
        others: runs that are trained with it, by one program; their names are not told.
    """

    name: str
    folder: str
    settings: dict[str, Any]
    trackers: tuple[str, ...] = ()
    others: "tuple[Task, ...]" = ()


class Resources(NamedTuple):
    """What a run is given by an engine that has workers.

    Attributes:
        cpus: cores, each of which becomes a JAX device.
        gpus: cards.
        options: of the engine's own, by name.
    """

    cpus: int = 1
    gpus: int = 0
    options: dict[str, Any] = {}


Ended = tuple[int, bool | Exception]
"""The number of a task, and whether it came to its end rather than being stopped; or what it raised."""


def train(task: Task, progress: bool = True) -> bool:
    """Trains a run and those with it, or what is left of them; returns whether they came to their end.

    Args:
        task: the run.
        progress: whether to show how it goes.

    Raises:
        ConfigurationError: as `run_together`.
    """
    left = [found for one in (task, *task.others) if (found := _left(one)) is not None]
    return not left or not any(one.interrupted for one in run_together(left, progress))


def _left(task: Task) -> Assignment | None:
    """What is left to train of one run; None if it is finished."""
    setting, trackers = RunSettings.from_json(task.settings), make_trackers(task.trackers)
    if not (Path(task.folder) / "config.json").is_file():
        run = RunDirectory.create(setting, environment_record(), task.folder)
        return Assignment(setting, run, trackers=trackers)
    run = RunDirectory.open(task.folder)
    if run.finished():
        return None
    return Assignment(setting, run, bool(run.checkpoints.steps()), trackers)


def local(tasks: Sequence[Task], resources: Resources) -> Iterator[Ended]:
    """Trains them here, one after the other, on all devices; ends after one that was stopped."""
    del resources
    for number, task in enumerate(tasks):
        print(task.name, flush=True)
        try:
            ended: bool | Exception = train(task)
        except Exception as error:  # whatever it is, the others are trained
            ended = error
        yield number, ended
        if ended is False:
            return


def by_ray(tasks: Sequence[Task], resources: Resources) -> Iterator[Ended]:
    """Trains them on a Ray cluster, that of RAY_ADDRESS or else one of this machine.

    A run whose worker was lost is started again, and goes on from its last checkpoint.

    Raises:
        ConfigurationError: if Ray is not installed, or refuses an option.
    """
    ray = _import("ray")
    cpus = str(resources.cpus)

    def work(task: Task) -> bool:
        # In a process of its own, before JAX starts there.
        os.environ["JAX_NUM_CPU_DEVICES"] = cpus
        sys.path.insert(0, str(ROOT))
        from experiments.engines import train

        return train(task, progress=False)

    wanted = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": -1}
    try:
        remote = ray.remote(**{**wanted, **resources.options})(work)
    except (ValueError, TypeError) as error:
        raise _refused("ray", error) from error
    ours = not ray.is_initialized()
    if ours:
        with warnings.catch_warnings():
            # It forks to start programs of its own, which is what JAX warns of, and computes nothing there.
            warnings.filterwarnings("ignore", r"os\.fork", RuntimeWarning)
            ray.init(log_to_driver=False)
    try:
        waiting = {remote.remote(task): number for number, task in enumerate(tasks)}
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            number = waiting.pop(done)
            try:
                yield number, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                yield number, error.cause if isinstance(error.cause, Exception) else error
            except ray.exceptions.RayError as error:
                yield number, error
    finally:
        if ours:
            ray.shutdown()


class Requeued:
    """`train`, which submitit starts again when it is preempted or out of time; it then goes on where it was."""

    def __call__(self, task: Task) -> bool:
        """See `train`."""
        return train(task)

    def checkpoint(self, task: Task) -> Any:
        """What submitit starts again; all that it needs was saved after its last chunk."""
        return _import("submitit").helpers.DelayedSubmission(self, task)


def by_slurm(
    tasks: Sequence[Task], resources: Resources, cluster: str = "slurm"
) -> Iterator[Ended]:
    """Trains them as a SLURM job array, by submitit; its files go beside the runs.

    Args:
        tasks: the runs.
        resources: of each.
        cluster: "slurm"; "local" or "debug" as submitit has them, to try it without.

    Raises:
        ConfigurationError: if submitit is not installed, refuses an option, or there is no SLURM.
    """
    submitit = _import("submitit")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ConfigurationError(
            "--engine is slurm; it must be called where sbatch can be, such as on a cluster's login node."
        )
    if not tasks:
        return
    executor = submitit.AutoExecutor(Path(tasks[0].folder).parent / "slurm", cluster=cluster)
    try:
        executor.update_parameters(
            cpus_per_task=resources.cpus, gpus_per_node=resources.gpus, **resources.options
        )
    except (ValueError, TypeError, NameError) as error:
        raise _refused("slurm", error) from error
    # A job's process takes this one's environment.
    os.environ["JAX_NUM_CPU_DEVICES"] = str(resources.cpus)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.getenv("PYTHONPATH")]))
    jobs = executor.map_array(Requeued(), tasks)
    numbers = {job.job_id: number for number, job in enumerate(jobs)}
    try:
        for job in submitit.helpers.as_completed(jobs):
            try:
                yield numbers[job.job_id], job.result()
            except Exception as error:  # whatever it is, the others are trained
                yield numbers[job.job_id], error
    except KeyboardInterrupt:
        for job in jobs:
            job.cancel()
        raise


ENGINES: dict[str, Callable[[Sequence[Task], Resources], Iterator[Ended]]] = {
    "local": local,
    "ray": by_ray,
    "slurm": by_slurm,
}
"""By name."""


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigurationError(
            f"{package} cannot be imported ({error}); install it with: pip install {package}"
        ) from error


def _refused(engine: str, error: Exception) -> ConfigurationError:
    reason = " ".join(str(error).split()).rstrip(".")
    return ConfigurationError(f"--engine-options: {engine} refuses them ({reason}).")
