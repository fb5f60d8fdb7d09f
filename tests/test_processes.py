"""Seeds over the devices of several processes: the same results, bit for bit, as in one with as many devices."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marl_jax import loading, runtime
from marl_jax.runs import RunDirectory
from marl_jax.settings import make_settings
from tests import tiny

ROOT = Path(__file__).parent.parent
SEEDS = 3
"""Rows beyond them are needed with two devices and with four."""


def start(devices: int, *arguments: str) -> "subprocess.Popen[str]":
    """`run.py` in a process of so many CPU devices."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "experiments" / "run.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
        },
    )


def start_together(devices: int, *arguments: str) -> list["subprocess.Popen[str]"]:
    """Two of them that know each other."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = f"--distributed --coordinator localhost:{port} --processes 2 --process".split()
    return [start(devices, *arguments, *together, str(number)) for number in range(2)]


def finish(*processes: "subprocess.Popen[str]", statuses: tuple[int, ...] = (0,)) -> list[str]:
    """What they have said, once they have ended with one of these."""
    try:
        said = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert {process.returncode for process in processes} <= set(statuses), said
    return said


def new_run(out: Path, chunks: int, method: str = "qmix") -> list[str]:
    flags = tiny.VALUE_FLAGS if method == "qmix" else tiny.FLAGS
    size = f"--seeds {SEEDS} --total-steps {chunks * tiny.CHUNK_STEPS} --out {out}"
    return ["--method", method, "--env", "turn", *flags, *size.split()]


def assert_same(one: Path, other: Path) -> None:
    """All that was measured, and all that was learned."""
    rows = [
        [{k: v for k, v in row.items() if k != "train_seconds"} for row in RunDirectory(run).rows()]
        for run in (one, other)
    ]
    assert rows[0] == rows[1]
    assert (one / "results.json").read_bytes() == (other / "results.json").read_bytes()
    learned = [
        jax.tree.map(lambda x: np.asarray(x)[:SEEDS], loading.load(run)[1].method)
        for run in (one, other)
    ]
    jax.tree.map(np.testing.assert_array_equal, *learned)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("devices", [1, 2])
def test_two_processes_do_what_one_does(devices: int, tmp_path: Path) -> None:
    finish(start(2 * devices, *new_run(tmp_path / "one", 4)))
    said = finish(*start_together(devices, *new_run(tmp_path / "two", 4)))
    assert "final return" in said[0]
    assert "return" not in said[1]
    assert (tmp_path / "two" / "curve.png").is_file()
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", ["qmix", "iac"])
def test_another_number_of_devices_changes_rounding_only(method: str, tmp_path: Path) -> None:
    """What docs/howto/resume.md says of it, after 16 iterations."""
    for devices in (1, 2):
        finish(start(devices, *new_run(tmp_path / str(devices), 8, method)))
    one, two = (
        jax.tree.map(lambda x: np.asarray(x)[:SEEDS], loading.load(tmp_path / name)[1].method)
        for name in ("1", "2")
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), one, two)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    """Begun in one, gone on with in two, ended in one: as one alone, bit for bit."""
    finish(start(2, *new_run(tmp_path / "one", 4)))
    finish(start(2, *new_run(tmp_path / "more", 2)))
    resume = ["--resume", str(tmp_path / "more"), "--total-steps"]
    finish(*start_together(1, *resume, str(3 * tiny.CHUNK_STEPS)))
    finish(start(2, *resume, str(4 * tiny.CHUNK_STEPS)))
    assert_same(tmp_path / "one", tmp_path / "more")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_process_ends_the_run_with_a_sentence(victim: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    processes = start_together(1, *new_run(out, 1_000_000))
    while len(RunDirectory(out).rows()) < SEEDS:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    processes[victim].kill()
    (said,) = finish(processes[1 - victim], statuses=(2,))
    finish(processes[victim], statuses=(-9,))
    sentence = said.splitlines()[-1]
    assert sentence.startswith("error: a process that trains together with this one has ended")
    assert f"--resume {out}" in sentence
    steps = RunDirectory(out).latest_checkpoint() * tiny.CHUNK_STEPS
    finish(start(1, "--resume", str(out), "--total-steps", str(steps + tiny.CHUNK_STEPS)))


def test_what_one_process_finds_is_missing_gets_one_sentence() -> None:
    (said,) = finish(start(1, "--list", "--distributed", "--coordinator", "x:1"), statuses=(2,))
    assert said == (
        "error: the processes of --distributed did not find each other (Number of processes must be defined); each "
        "must be given --coordinator HOST:PORT of process 0, --processes and its own --process, where the environment "
        "does not say so.\n"
    )


def test_one_process_alone_needs_no_others() -> None:
    array = jax.numpy.arange(6.0).reshape(3, 2)
    assert runtime.from_writer(lambda: "told") == "told"
    assert not runtime.anywhere(False)
    np.testing.assert_array_equal(runtime.on_host({"x": array})["x"], array)
    np.testing.assert_array_equal(runtime.own_part(array), array)
    assert runtime.own_rows(array.sharding, 3).tolist() == [0, 1, 2]


def test_any_number_of_seeds_uses_all_devices() -> None:
    devices = len(jax.devices())
    for seeds in (1, devices, devices + 1):
        options: dict[str, Any] = {"training": tiny.TRAINING, "env": tiny.ENV}
        settings = make_settings("iac", "turn", seeds, 0, options)
        trainer = loading.make_trainer(settings)
        assert trainer.mesh.size == min(seeds, devices)
        assert trainer.num_rows % trainer.mesh.size == 0
        assert np.asarray(trainer.everyone).sum() == seeds
        assert trainer.row_seeds.tolist()[:seeds] == list(range(seeds))
        assert trainer.row_seeds.max() == seeds - 1
