"""Paths from the user."""

import os
from pathlib import Path

from envs.configuration import ConfigurationError, shown


def user_path(name: str, value: str | os.PathLike[str]) -> Path:
    """A path as the user gave it, with `~` written out.

    Raises:
        ConfigurationError: if it is no path.
    """
    try:
        text = os.fspath(value)
        if isinstance(text, str) and text and text.isprintable():
            return Path(text).expanduser()
    except (TypeError, RuntimeError):  # no path; nobody of that name
        pass
    raise ConfigurationError(f"{name} is {shown(value)}; it must be a path.")


def gif_path(name: str, value: str | os.PathLike[str]) -> Path:
    """The path of an animation to be written.

    Raises:
        ConfigurationError: if it is no .gif file in a folder that exists.
    """
    path = user_path(name, value)
    if path.suffix.lower() != ".gif" or path.is_dir() or not path.parent.is_dir():
        raise ConfigurationError(
            f"{name} is {value}; it must be a .gif file in a folder that exists."
        )
    return path
