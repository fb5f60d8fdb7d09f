"""The worlds by name.

>>> env = make("turn", time_limit=50)
"""

import importlib
from typing import Any

import jumanji

from envs.base import MultiAgentEnv
from envs.configuration import unknown_name

# Name -> (module, class, jumanji id). A world's version goes up when its dynamics change.
_WORLDS = {
    "turn": ("envs.turn", "Turn", "Turn-v0"),
    "pursuit_1d": ("envs.pursuit_1d", "Pursuit1D", "Pursuit1D-v0"),
}


def names() -> tuple[str, ...]:
    """All names that `make` knows, sorted."""
    return tuple(sorted(_WORLDS))


def world_class(name: str) -> type[MultiAgentEnv[Any]]:
    """The class behind a name.

    Raises:
        ConfigurationError: if there is no such world.
    """
    if name not in _WORLDS:
        raise unknown_name("environment", name, _WORLDS)
    module, attribute, _ = _WORLDS[name]
    return getattr(importlib.import_module(module), attribute)


def make(name: str, **options: Any) -> MultiAgentEnv[Any]:
    """Makes the world called `name`.

    Args:
        name: one of `names()`.
        **options: fields of the world's `Config`.

    Raises:
        ConfigurationError: if the name or an option is unknown, or a value is not allowed.
    """
    return world_class(name)(**options)


def register_with_jumanji() -> None:
    """Registers every world with jumanji, so that `jumanji.make("Turn-v0")` works."""
    for module, attribute, jumanji_id in _WORLDS.values():
        if jumanji_id not in jumanji.registered_environments():
            jumanji.register(jumanji_id, entry_point=f"{module}:{attribute}")
