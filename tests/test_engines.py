"""What trains the runs of a sweep: ordinary run folders, whoever does it, and a lost worker costs a chunk at most."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments import engines, sweep
from experiments.engines import Resources, Task
from marl_jax.runs import RunDirectory
from marl_jax.settings import make_settings
from tests import tiny
from tests.test_command_line import call
from tests.test_runs import rows_of


def tasks(out: Path, *chunks: int) -> list[Task]:
    """Tiny runs of so many chunks."""
    found = []
    for number, count in enumerate(chunks):
        training = {**tiny.TRAINING, "total_steps": count * tiny.CHUNK_STEPS}
        options = {"training": training, "env": tiny.ENV, "method": tiny.method_options("iac")}
        settings = make_settings("iac", "turn", 1, number, options)
        found.append(Task(f"run {number}", str(out / f"{number:03d}"), settings.to_json()))
    return found


def evaluations(task: Task) -> int:
    return len(RunDirectory(Path(task.folder)).rows())


SMALL = ["--method", "iac", "--env", "turn", "--seeds", "1", "--grid", "gamma=0.9", "--out"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cpus", "4"], "is given with --engine local; it needs --engine ray or slurm."),
        (["--engine", "ray", "--cpus", "0"], "--cpus is 0; it must be at least 1."),
        (["--engine", "ray", "--engine-options", "x"], "--engine-options has 'x'; each must be"),
        (["--track", "tensorbord"], "unknown tracker 'tensorbord'"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "sweep"
    assert call(sweep.main, [*SMALL, str(out), *arguments], monkeypatch) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_engine_gets_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(engines.ConfigurationError, match="install it with: pip install ray"):
        list(engines.by_ray([], Resources()))


def test_slurm_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(engines.ConfigurationError, match="where sbatch can be"):
        list(engines.by_slurm([], Resources()))


@pytest.mark.slow
def test_a_sweep_tells_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = [
        "agent=mlp",
        "hidden_size=4",
        "num_envs=2",
        "training.eval_interval=20",
        "env.time_limit=5",
    ]
    out = ["--out", str(tmp_path), "--track", "tensorboard", "--total-steps", "20"]
    start = ["--method", "iac", "--env", "turn", "--seeds", "1"]
    assert call(sweep.main, [*start, *out, "--grid", *grid], monkeypatch) == 0
    assert list((tmp_path / "000" / "tensorboard" / "seed_0").iterdir())


def holder(folder: Path) -> int | None:
    """The process that is writing to a run, other than this one."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            held = {os.readlink(file) for file in (process / "fd").iterdir()}
        except OSError:
            continue
        if str(folder / ".lock") in held and int(process.name) != os.getpid():
            return int(process.name)
    return None


def kill_once_it_trains(task: Task, killed: list[int]) -> None:
    """Kills the worker of a run after its first evaluation."""
    while not (evaluations(task) and (number := holder(Path(task.folder)))):
        time.sleep(0.05)
    os.kill(number, signal.SIGKILL)
    killed.append(number)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers are found in /proc")
def test_ray_starts_a_run_again_whose_worker_was_killed(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    queue, killed = tasks(tmp_path, 200, 3), []
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        threading.Thread(target=kill_once_it_trains, args=(queue[0], killed), daemon=True).start()
        ended = dict(engines.by_ray(queue, Resources()))
    finally:
        ray.shutdown()
    assert killed
    assert ended == {0: True, 1: True}
    assert [evaluations(task) for task in queue] == [200, 3]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_submitit_trains_ordinary_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its local executor."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setenv("PYTHONPATH", "")
    queue = tasks(tmp_path, 2, 3)
    broken = queue[1]._replace(settings={**queue[1].settings, "method": "nobody"})
    resources = Resources(options={"timeout_min": 10})
    ended = dict(engines.by_slurm([*queue, broken], resources, cluster="local"))
    assert [ended[0], ended[1]] == [True, True]
    assert "nobody" in str(ended[2])
    assert [evaluations(task) for task in queue] == [2, 3]
    with pytest.raises(engines.ConfigurationError, match="slurm refuses them"):
        list(engines.by_slurm(queue, Resources(options={"minutes": 1}), cluster="local"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers are found in /proc")
def test_a_requeued_job_goes_on_where_it_was(tmp_path: Path) -> None:
    """A node is lost on the way. What submitit starts again is the same task, and ends as if nothing had been."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    (task,), (whole,) = tasks(tmp_path, 60), tasks(tmp_path / "whole", 60)
    again = engines.Requeued().checkpoint(task)
    assert again.args == (task,)

    lost = multiprocessing.get_context("spawn").Process(target=engines.Requeued(), args=(task,))
    lost.start()
    killed: list[int] = []
    kill_once_it_trains(task, killed)
    lost.join()
    assert killed == [lost.pid]
    assert evaluations(task) < 60

    assert again.function(*again.args)
    assert engines.Requeued()(whole)
    assert rows_of(Path(task.folder)) == rows_of(Path(whole.folder))
