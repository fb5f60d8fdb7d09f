"""When a difference of speed is a slowdown, and what the comparison of two commits writes."""

import contextlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare
from marl_jax import ConfigurationError

STEADY = [100.0] * 9


def test_the_interval_is_of_the_second_lowest_and_second_highest_of_nine() -> None:
    # P(at most 1 of 9 on one side) = 10 / 512 = 2.0%; at most 2: 9.0%.
    new = [70.0, 80.0, 85.0, 90.0, 91.0, 92.0, 95.0, 97.0, 130.0]
    found = compare.ratio(STEADY, new, margin=0.05)
    assert found == (0.91, 0.8, 0.97, True)


@pytest.mark.parametrize(
    ("new", "slower"),
    [
        ([90.0] * 9, True),
        ([96.0] * 9, False),  # within the margin
        ([90.0] * 7 + [101.0] * 2, False),  # noise reaches 1
        ([90.0] * 8 + [101.0], True),
        ([110.0] * 9, False),
    ],
)
def test_only_what_is_beyond_noise_and_margin_is_slower(new: list[float], slower: bool) -> None:
    assert compare.ratio(STEADY, new, margin=0.05).slower is slower


def test_fewest_turns_have_an_interval() -> None:
    turns = compare.FEWEST_TURNS
    assert compare.ratio([1.0] * turns, [float(i + 1) for i in range(turns)], 0.05)[1:3] == (1, 6)


@pytest.fixture
def checkouts(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Nothing is measured: QMIX has become slower by a fifth. Gives the folders of the commits."""
    folders = []

    def measured(old: Path, new: Path, args: compare.Arguments) -> Iterator[tuple[str, Any]]:
        assert (old / "marl_jax").is_dir()
        assert (new / "marl_jax").is_dir()
        folders.extend([old, new])
        yield "world turn", {"old": STEADY, "new": STEADY}
        returns = {"old": [1.0, 2.0], "new": [1.0, 3.0]}
        yield "method qmix", {"old": STEADY, "new": [80.0] * 9, "returns": returns}

    monkeypatch.setattr(compare, "measured", measured)
    return folders


@pytest.mark.skipif(not (compare.ROOT / ".git").exists(), reason="no checkout of the repository")
def test_a_slowdown_fails_and_both_sides_numbers_are_kept(
    checkouts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main(["HEAD", "--out", str(tmp_path / "numbers")]) == 1
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.endswith("slower")] == [
        "method qmix                        100            80    0.80    0.80 to 0.80  slower"
    ]
    assert "method qmix: return 1.5 (95% interval 1 to 2), now 2 (95% interval 1 to 3)" in said
    kept = json.loads((tmp_path / "numbers" / "numbers.json").read_text())
    assert kept["old"] == kept["new"] == compare.git("rev-parse", "HEAD")
    assert kept["measured"]["method qmix"]["new"] == [80.0] * 9
    assert kept["versions"]["jax"] == version("jax")
    assert (tmp_path / "numbers" / "ratios.png").read_bytes().startswith(b"\x89PNG")
    old, new = checkouts
    assert old != new
    assert not any(folder.exists() for folder in checkouts)
    assert str(old) not in compare.git("worktree", "list")


def test_a_small_slowdown_passes(
    checkouts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = contextlib.nullcontext(compare.ROOT)
    monkeypatch.setattr(compare, "checked_out", lambda commit: here)
    monkeypatch.setattr(compare, "commit_of", lambda name, flag: name)
    assert compare.main(["a", "b", "--margin", "0.25", "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no-such-commit"], "OLD is 'no-such-commit'; it must be a commit"),
        (["HEAD", "HEAD^{tree}"], "NEW is 'HEAD.*'; it must be a commit"),
        (["HEAD", "--turns", "5"], "--turns is 5; it must be at least 6"),
        (["HEAD", "--margin", "1"], "--margin is 1.0; it must be from 0 to below 1"),
    ],
)
def test_wrong_arguments_get_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        compare.main(arguments)
