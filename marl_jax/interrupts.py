"""Stops from the user while compiled programs run."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import jax

from marl_jax.progress import Progress

T = TypeVar("T")
BESIDE = "marl_jax: compiles or computes"
"""Name of the thread in which a run's compiled programs are made and called."""
AWAKE = 0.2
"""Seconds after which the main thread looks for signals."""


def beside(
    function: Callable[..., T], *arguments: Any, meanwhile: Callable[[], None] = lambda: None
) -> T:
    """Calls a function in a thread of its own and waits: the main thread, in which signals arrive, stays awake.

    Whoever interrupts the wait leaves the thread behind, to end when it is done.

    Args:
        function: what is called in the thread.
        *arguments: of the function.
        meanwhile: what the main thread does before it waits. What it raises is raised when the function has ended,
            since a compiled program cannot be stopped.
    """
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(jax.block_until_ready(function(*arguments)))
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=work, name=BESIDE, daemon=True)
    thread.start()
    failed: Exception | None = None
    try:
        meanwhile()
    except Exception as error:
        failed = error
    while thread.is_alive():
        # Not for ever: a signal that arrives in a thread of another library wakes nobody.
        thread.join(AWAKE)
    if failed is not None:
        raise failed
    return done.result()


@contextlib.contextmanager
def stop_signals(progress: Progress) -> Iterator[threading.Event]:
    """Turns the first SIGINT or SIGTERM into a request to stop after the current chunk.

    The second one acts at once, as if this were not here; where the process was to ignore them, it ends it.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(*_: Any) -> None:
        stop.set()
        restore()
        for number, handler in before.items():
            # A shell's background jobs are started so. Who has sent one signal means the second.
            if handler is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        progress.message("stopping after this chunk; once more to stop at once")

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
