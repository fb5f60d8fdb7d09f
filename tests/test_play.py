"""The command that plays an episode and shows it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import envs
from experiments import play
from tests import tiny
from tests.test_command_line import ROOT, call

SHORT = ["--env.time-limit", "4"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    return Path(tiny.untrained(out, "iac", "windy_maze", 2))


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("turn", "random"),
        ("secret_room", "scripted"),
        *(
            pytest.param(name, "scripted", marks=pytest.mark.slow)
            for name in envs.own_names()
            if name != "secret_room"
        ),
        pytest.param("smax/3m", "random", marks=pytest.mark.slow),
        pytest.param("mpe/simple_spread", "scripted", marks=pytest.mark.slow),
    ],
)
def test_every_world_is_played_as_text(
    name: str, policy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(play, "_print", lambda env, states, _: shown.extend(map(env.text, states)))
    assert call(play.main, ["--env", name, "--policy", policy, *SHORT], monkeypatch) == 0
    assert "4 steps, return " in capsys.readouterr().out
    assert len(shown) == 5
    assert len(set(shown)) == 5, "two steps look the same"
    assert len({text.count("\n") for text in shown}) == 1, "the number of lines changes"
    for text in shown:
        assert max(map(len, text.splitlines())) <= 80


def test_text_goes_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(play.main, ["--env", "turn", *SHORT], monkeypatch) == 0
    text = capsys.readouterr().out
    assert [f"step {i}/4" in text for i in range(6)] == [True] * 5 + [False]
    assert "\x1b" not in text
    assert "penalties 0" in text.splitlines()[-1]


def test_the_same_seed_plays_the_same_episode(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for seed in ("3", "3", "4"):
        arguments = ["--env", "turn", "--policy", "random", *SHORT, "--seed", seed]
        assert call(play.main, arguments, monkeypatch) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_an_animation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gif = tmp_path / "out.gif"
    arguments = ["--env", "windy_maze", "--render", str(gif), "--frames-per-second", "4", *SHORT]
    assert call(play.main, arguments, monkeypatch) == 0
    out = capsys.readouterr().out
    assert f"drew the episode to {gif}" in out
    assert len(out.splitlines()) == 2
    with Image.open(gif) as image:
        assert image.n_frames == 5


def test_a_run_plays_its_own_world(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--policy", str(finished), "--run-seed", "1"]
    assert call(play.main, arguments, monkeypatch) == 0
    out = capsys.readouterr().out
    assert out.count("Windy Maze") == 6, "the run's episodes have 5 steps"
    gif = tmp_path / "run.gif"
    assert call(play.main, [*arguments, "--render", str(gif)], monkeypatch) == 0
    assert gif.read_bytes().startswith(b"GIF89a")


@pytest.mark.slow
def test_a_reader_who_leaves_is_no_error() -> None:
    program = f"{sys.executable} experiments/play.py --env turn --policy random"
    shell = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} | head -1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert shell.stdout.startswith("Turn")
    assert "Error" not in shell.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--env is missing; choose from: battle, "),
        (["--env", "trun"], "Did you mean 'turn'?"),
        (["--env", "turn", "--policy", "best"], "it must be random, scripted, the folder of"),
        (["--policy", "."], " is not a run"),
        (["--policy", ".", "--env", "turn"], "a run plays its own environment"),
        (["--policy", "RUN", "--run-seed", "2"], "seed is 2; it must be one of 0 to 1."),
        (["--env", "turn", "--run-seed", "0"], "--policy scripted is no run."),
        (["--policy", "RUN", "--env.time-limit", "3"], "--env.time-limit is given with --policy"),
        (["--policy", "RUN", "--env.stem=3"], "--env.stem is given with --policy"),
        (["--env", "turn", "--seed", "-1"], "--seed is -1; it must be one of 0 to 4294967295."),
        (["--env", "turn", "--seed", "4294967296"], "it must be one of 0 to 4294967295."),
        (["--env", "turn", "--frames-per-second", "0"], "must be above 0 and at most 100."),
        (["--env", "turn", "--render", "x.png"], "--render is x.png; it must be a .gif file in"),
        (["--env", "turn", "--render", "no/x.gif"], "it must be a .gif file in a folder that"),
        (["--env", "turn", "--env.time-limit", "0"], "time_limit is 0; it must be at least 1."),
        (["--env", "turn", "--env.stem", "2"], "--env.stem"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str],
    sentence: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [str(finished) if argument == "RUN" else argument for argument in arguments]
    assert call(play.main, arguments, monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
