"""What a run tells while it goes."""

import io

import pytest

from marl_jax.progress import Live, Plain, duration


def test_plain_lines_are_rare_but_the_last_one_comes() -> None:
    stream = io.StringIO()
    progress = Plain(stream, interval=1000.0)
    for fraction in (0.1, 0.2, 1.0):
        progress.chunk(fraction, 1234.0, "return 5", 65.0)
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["10%", "100%"]
    assert "1,234 env steps/s  return 5  1 min 05 s left" in lines[0]


def test_live_display_runs(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Live()
    progress.message("compiling ... [not markup]")
    progress.chunk(0.5, 10.0, "return 1", 3.0)
    progress.close()
    assert "compiling ... [not markup]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3700, "1 h 01 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
