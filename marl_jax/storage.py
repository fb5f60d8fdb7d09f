"""Files that are written whole or not at all, and folders with one writer."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from envs.configuration import ConfigurationError

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
"""Of a folder that is written to. The system frees it when its process ends, however that happens."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Around the writing of a file: what is written to the path that it gives takes the place of `path` at the end.

    If anything goes wrong on the way, `path` stays as it was.
    """
    temporary = path.with_name(f".{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing to a folder that exists; readers are not kept.

    On Windows, and on file systems that know no locks, two writers are not noticed.

    Raises:
        ConfigurationError: if another writer has it.
        OSError: if it cannot be written to.
    """
    with (folder / LOCK).open("a") as stream:
        if sys.platform != "win32":
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationError(
                    f"{folder} is being written by another process; it must end first, or this one must be given "
                    "another folder."
                ) from error
            except OSError:
                pass
        yield
