"""The script for accelerators runs on a CPU, too."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_line_for_every_number_of_seeds() -> None:
    command = [sys.executable, "benchmarks/accelerator.py", "--small", "--methods", "qmix"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr
    cells = [line.split() for line in said.stdout.splitlines()[2:]]
    assert [line[:2] for line in cells] == [["qmix", "1"], ["qmix", "2"]]
    assert all(float(line[3].replace(",", "")) > 0 for line in cells)
    assert all(0 <= float(line[6].rstrip("%")) <= 100 for line in cells)
