"""The own environment and part of the docs: their text followed word for word beside a copy of the code."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page's list, without their indentation."""
    text = (ROOT / "docs" / "howto" / f"{page}.md").read_text()
    found = re.findall(rf"^   ```{language}\n(.*?)^   ```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in found]


def copy_to(folder: Path) -> None:
    for name in ("envs", "marl_jax", "experiments"):
        ignore = shutil.ignore_patterns("results", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)


def run(commands: str, folder: Path) -> list[str]:
    """What each command prints; the interpreter of these tests for the one on the path, else as written."""
    outputs = []
    for command in commands.strip().splitlines():
        done = subprocess.run(
            re.sub(r"^python ", f'"{sys.executable}" ', command),
            shell=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    return outputs


@pytest.mark.slow
def test_add_your_own_environment(tmp_path: Path) -> None:
    (world,) = blocks("own_task", "python")
    assert len(world.splitlines()) < 60
    copy_to(tmp_path)
    (tmp_path / "meeting.py").write_text(world)
    (commands,) = blocks("own_task", "bash")
    outputs = run(commands, tmp_path)
    assert "10 steps, return" in outputs[1]
    assert (tmp_path / "first" / "curve.png").exists()
    assert (tmp_path / "meeting.gif").read_bytes().startswith(b"GIF")


@pytest.mark.slow
def test_add_a_part(tmp_path: Path) -> None:
    (part,) = blocks("own_method", "python")
    assert len(part.splitlines()) <= 40
    copy_to(tmp_path)
    (tmp_path / "apart.py").write_text(part)
    (commands,) = blocks("own_method", "bash")
    first, second = run(commands, tmp_path)
    assert "apart:Apart@qplex on turn" in first
    assert "apart:Apart+gre@qmix on turn" in second
