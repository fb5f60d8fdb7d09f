"""The guard of the CPU backend."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from marl_jax.runtime import compiler_options, seed_mesh

ROOT = Path(__file__).parent.parent
PROGRAM = "import envs, jax, os; print(os.environ['PJRT_NPROC'], len(jax.devices()))"


def run(program: str, timeout: float = 60.0, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("PJRT_NPROC", "JAX_NUM_CPU_DEVICES")}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=True,
    ).stdout


def test_guard_is_set_on_import_and_every_core_is_a_device() -> None:
    cores = len(os.sched_getaffinity(0))
    threads, devices = run(PROGRAM).split()
    assert int(threads) == max(8, 2 * cores)
    assert int(devices) == cores


def test_a_users_own_values_win() -> None:
    assert run(PROGRAM, PJRT_NPROC="5", JAX_NUM_CPU_DEVICES="3").split() == ["5", "3"]


@pytest.mark.skipif(sys.platform == "win32", reason="PJRT_NPROC is read on Linux and macOS")
def test_import_after_the_backend_has_started() -> None:
    program = "import jax; jax.devices(); import marl_jax; print(len(jax.devices()))"
    assert int(run(program)) == 1


@pytest.mark.slow
def test_many_calls_of_an_off_policy_learner_end() -> None:
    """The kind of program that has been seen to dead-lock; see `stress_program.py`."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PJRT_NPROC", "JAX_NUM_CPU_DEVICES")}
    finished = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "stress_program.py"), "60"],
        env={**clean, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert finished.stdout.split()[-1] == "60"


@pytest.mark.parametrize(
    ("flags", "fewer", "options"),
    [
        ("", False, {"xla_backend_optimization_level": 1}),
        ("--xla_backend_optimization_level=3", False, {}),
        ("", True, {}),
    ],
)
def test_programs_compile_quickly_unless_a_user_has_chosen(
    flags: str, fewer: bool, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", flags)
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", fewer)
    try:
        assert compiler_options(seed_mesh(1)) == options
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
