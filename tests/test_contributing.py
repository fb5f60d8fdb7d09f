"""CONTRIBUTING.md's own environment, made by following its text word for word in a copy of the code."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(language: str) -> list[str]:
    """The code blocks of "Add your own environment", without their indentation."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## Add your own environment")[1].split("\n## ")[0]
    found = re.findall(rf"^   ```{language}\n(.*?)^   ```", section, re.DOTALL | re.MULTILINE)
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in found]


@pytest.mark.slow
def test_add_your_own_environment(tmp_path: Path) -> None:
    world, line = blocks("python")
    assert len(world.splitlines()) < 60
    for folder in ("envs", "marl_jax", "experiments"):
        ignore = shutil.ignore_patterns("results", "__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    (tmp_path / "envs" / "meeting.py").write_text(world)
    registry = tmp_path / "envs" / "registry.py"
    registry.write_text(registry.read_text().replace("_WORLDS = {\n", "_WORLDS = {\n" + line, 1))

    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (commands,) = blocks("bash")
    outputs = []
    for command in commands.strip().splitlines():
        # The interpreter of these tests for the one on the path; everything else as written.
        command = re.sub(r"^python ", f'"{sys.executable}" ', command)
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "10 steps, return" in outputs[1]
    assert (tmp_path / "meeting" / "curve.png").exists()
    assert (tmp_path / "meeting.gif").read_bytes().startswith(b"GIF")
