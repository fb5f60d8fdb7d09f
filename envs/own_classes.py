"""Classes of a user's own, by the names that command lines, configurations and runs know them by.

>>> find("my_tasks.corridor:Corridor", MultiAgentEnv, "env")
"""

import importlib
import os
import sys
from typing import Any, TypeVar

from envs.configuration import ConfigurationError

T = TypeVar("T")


def is_own(name: str) -> bool:
    """Whether a name is `package.module:Class`, which no registered name is."""
    return ":" in name


def find(name: str, kind: type[T], what: str) -> type[T]:
    """The class that `package.module:Class` names; the module is looked for in the working directory, too.

    Args:
        name: "__main__:Class" is a class of the script or notebook that runs now.
        kind: what it must derive from.
        what: the option that names it, for the error's sentence.

    Raises:
        ConfigurationError: if the module cannot be imported, or has no such class.
    """
    module_name, _, path = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigurationError(
            f"{what} is {name!r}; it must be package.module:Class, and importing {module_name!r} gave "
            f"{type(error).__name__}: {error}."
        ) from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, kind)):
        again = " (a script's or notebook's class must be defined again before it is loaded)"
        raise ConfigurationError(
            f"{what} is {name!r}; {module_name} must hold a class {path} that derives from {kind.__name__}"
            f"{again if module_name == '__main__' else ''}."
        )
    return found


def name_of(kind: type) -> str:
    """The name by which `find` finds a class again.

    Raises:
        ConfigurationError: if it is defined within a function.
    """
    if "<locals>" in kind.__qualname__:
        raise ConfigurationError(
            f"{kind.__qualname__} is defined within a function; it must stand at the top level of a module, script "
            "or notebook, where a run can find it again."
        )
    return f"{kind.__module__}:{kind.__qualname__}"
