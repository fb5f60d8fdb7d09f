"""What a command line does before it imports what takes seconds; each imports this first.

Ctrl-C ends an import quietly, and another package in the place of one of ours gets one sentence. With `--distributed`
the processes of a run find each other, which must come before JAX starts its backend. Nothing happens where the program
is not one of these.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
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


def start_together(arguments: Sequence[str]) -> None:
    """Joins the other processes of a run, if the command line asks for it.

    What it does not say is taken from the environment, as JAX finds it: SLURM, Open MPI, TPU, Kubernetes.

    Raises:
        ValueError: if something is missing, or the others cannot be reached; its text is one sentence.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--distributed", action="store_true")
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    try:
        given = parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError:
        return  # whoever reads the whole command line says what is wrong with it
    if not given.distributed:
        return
    import jax

    # So that the end of one process is an error in the others, not their end without a word.
    jax.config.update("jax_enable_recoverability", True)
    # SIGTERM is ours.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(given.coordinator, given.processes, given.process)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"the processes of --distributed did not find each other ({reason}); each must be given --coordinator "
            "HOST:PORT of process 0, --processes and its own --process, where the environment does not say so."
        ) from error


if _ours():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    try:
        start_together(sys.argv[1:])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    try:
        import marl_jax  # noqa: F401
    except ImportError as error:
        if error.name not in ("envs", "experiments"):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
