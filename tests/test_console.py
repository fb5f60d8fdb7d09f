"""The command `marl-jax`."""

import importlib
import os
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest

from experiments import console, run
from tests import tiny
from tests.test_command_line import ROOT


def ended(*arguments: str) -> int:
    """The exit status."""
    with pytest.raises(SystemExit) as stopped:
        console.main(arguments)
    return int(stopped.value.code or 0)


def test_it_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["marl-jax"].partition(":")
    assert getattr(importlib.import_module(module), function) is console.main


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(*arguments) == 0
    text = capsys.readouterr().out
    for name, command in console.COMMANDS.items():
        assert f"  {name} " in text
        assert command.does in text


def test_every_entry_point_is_a_command() -> None:
    """All of the folder that can be called as scripts, each with its own help."""
    folder = ROOT / "experiments"
    scripts = {
        file.stem
        for file in folder.glob("*.py")
        if "command.run(main)" in file.read_text() and file.stem != "console"
    }
    assert {command.module for command in console.COMMANDS.values()} == scripts


@pytest.mark.parametrize("name", console.COMMANDS)
def test_a_commands_own_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["unused"])
    assert ended(name, "--help") == 0
    text = capsys.readouterr().out
    assert "methods:" in text if name == "list" else f"usage: marl-jax {name} " in text


def test_version_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--version") == 0
    assert capsys.readouterr().out.startswith("marl-jax 0.")
    assert ended("trian", "--method", "liir") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown command 'trian'; choose from: credits, evaluate, ")
    assert error.endswith("Did you mean 'train'?\n")
    assert error.count("\n") == 1


def test_a_stopped_run_names_the_command_that_was_typed(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["unused"])
    stopped = SimpleNamespace(interrupted=True, failures={})
    monkeypatch.setattr(run, "run_training", lambda *_, **__: stopped)
    out = f"{tmp_path}/run"
    flags = [*tiny.FLAGS, "--out", out, "--track", "tensorboard"]
    assert ended("train", "--method", "iac", "--env", "turn", *flags) == 130
    line = f"go on with: marl-jax train --resume {out} --track tensorboard\n"
    assert capsys.readouterr().out == line


def test_it_starts_at_once() -> None:
    """Nothing heavy is imported before a command is known."""
    code = (
        "import sys, experiments.console as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    )
    code += "print([m for m in ('jax', 'numpy', 'tyro', 'matplotlib') if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert shown.stdout.splitlines()[-1] == "[]"
