"""What a command line does before it imports what takes seconds; each imports this first.

Ctrl-C ends an import quietly, and another package in the place of one of ours gets one sentence. Nothing happens where
the program is not one of these.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any


def _ours() -> bool:
    """Whether the program is one of this folder, or the console command."""
    program = Path(sys.argv[0])
    return program.stem == "marl-jax" or program.resolve().parent == Path(__file__).resolve().parent


def interrupted(*_: Any) -> None:
    """Ends the program at once: in the midst of an import there is nothing to save."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if _ours():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    try:
        import marl_jax  # noqa: F401
    except ImportError as error:
        if error.name not in ("envs", "experiments"):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
