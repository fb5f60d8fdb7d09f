"""What a run tells while it goes: a live line on a terminal, a plain line now and then elsewhere."""

import sys
import time
from typing import Protocol, TextIO, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Told by the training loop what happens."""

    def message(self, text: str) -> None:
        """A line that stays."""
        ...

    def chunk(self, fraction: float, steps_per_second: float, value: str, left: float) -> None:
        """A chunk is done.

        Args:
            fraction: how much of the run is done, 0 to 1.
            steps_per_second: environment steps per second, all seeds together.
            value: the latest evaluation, as text.
            left: seconds left.
        """
        ...

    def close(self) -> None:
        """No more will come."""
        ...


class Silent:
    """Says nothing."""

    def message(self, text: str) -> None:
        """Says nothing."""

    def chunk(self, fraction: float, steps_per_second: float, value: str, left: float) -> None:
        """Says nothing."""

    def close(self) -> None:
        """Says nothing."""


class Plain:
    """A line every few seconds, for log files."""

    def __init__(self, stream: TextIO | None = None, interval: float = 15.0) -> None:
        """Writes to `stream`, standard output by default, at most once every `interval` seconds."""
        self._stream = stream or sys.stdout
        self._interval = interval
        self._last = -interval

    def message(self, text: str) -> None:
        """Writes the line."""
        print(text, file=self._stream, flush=True)

    def chunk(self, fraction: float, steps_per_second: float, value: str, left: float) -> None:
        """Writes a line, unless the last one is too recent."""
        now = time.monotonic()
        if now - self._last >= self._interval or fraction >= 1.0:
            self._last = now
            self.message(
                f"{fraction:4.0%}  {steps_per_second:>9,.0f} env steps/s  {value}  {duration(left)} left"
            )

    def close(self) -> None:
        """Nothing to do."""


class Live:
    """A progress bar, by rich."""

    def __init__(self) -> None:
        """Starts the display."""
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.percentage:3.0f}%"), BarColumn(), TextColumn("{task.description}")
        )
        self._task = self._progress.add_task("", total=1.0)
        self._progress.start()

    def message(self, text: str) -> None:
        """Prints the line above the bar."""
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def chunk(self, fraction: float, steps_per_second: float, value: str, left: float) -> None:
        """Moves the bar."""
        text = f"{steps_per_second:,.0f} env steps/s  {value}  {duration(left)} left"
        self._progress.update(self._task, completed=fraction, description=text)

    def close(self) -> None:
        """Ends the display."""
        self._progress.stop()


def default_progress() -> Progress:
    """A live bar on a terminal, plain lines elsewhere."""
    return Live() if sys.stdout.isatty() else Plain()


def duration(seconds: float) -> str:
    """Seconds as text, e.g. "3 min 05 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
