"""What importing the package does to a notebook: nothing."""

import subprocess
import sys

import pytest

# As in a Jupyter kernel: IPython's shell is up, ipykernel has been imported, the backend has been chosen.
PROGRAM = """
import builtins
import sys
import types

import matplotlib
from IPython.core.interactiveshell import InteractiveShell

InteractiveShell.instance()
sys.modules["ipykernel"] = types.ModuleType("ipykernel")
matplotlib.use("svg")
import {package}

import matplotlib.pyplot
print(matplotlib.get_backend(), builtins.__IPYTHON__)
"""


def kernel(package: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(package=package)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )


def test_matplotlib_stays_as_it_was_in_a_kernel() -> None:
    done = kernel("marl_jax")
    assert done.stdout.split() == ["svg", "True"], done.stderr
    assert done.stderr == ""


@pytest.mark.slow
def test_jumanji_itself_changes_it() -> None:
    """Once this fails `envs/imports.py` has nothing left to do."""
    assert "ipympl" in kernel("jumanji").stderr
