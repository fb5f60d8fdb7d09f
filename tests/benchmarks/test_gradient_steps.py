"""What the comparison of updates with another commit prints, and when it fails."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, gradient_steps
from marl_jax import ConfigurationError


class FakeSide:
    """Takes 2 ms for a step; here QMIX takes 2.5."""

    def __init__(self, checkout: Path, kind: str, name: str, options: dict[str, Any]) -> None:
        assert (kind, options) == ("update", {"env": "turn", "batch_size": 32})
        self.speed = 400.0 if name == "qmix" and checkout == compare.ROOT else 500.0

    def __enter__(self) -> "FakeSide":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measure(self) -> dict[str, Any]:
        return {"speed": self.speed, "compile": 3.0}


@pytest.fixture(autouse=True)
def nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "Side", FakeSide)
    monkeypatch.setattr(compare, "checked_out", lambda commit: contextlib.nullcontext(Path("old")))
    monkeypatch.setattr(compare, "commit_of", lambda name, flag: name)


def test_a_method_that_got_slower_fails(capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--env", "turn", "--against", "main", "--methods"]
    assert gradient_steps.main([*start, "qmix", "eoi@mappo"]) == 1
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [" ".join(line.split()) for line in lines] == [
        "qmix 2.00 2.50 0.80 0.80 to 0.80 3.0 and 3.0 slower",
        "eoi@mappo 2.00 2.00 1.00 1.00 to 1.00 3.0 and 3.0",
    ]
    assert gradient_steps.main([*start, "eoi@mappo"]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--against", "main", "--repeats", "5"], "--repeats is 5; it must be at least 6"),
        (["--repeats", "0"], "--repeats is 0; it must be at least 1"),
        (["--methods", "qmix", "mappo"], "all must be value methods, or none"),
    ],
)
def test_wrong_arguments_get_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        gradient_steps.main(arguments)
