"""The worlds by name.

>>> env = make("turn", time_limit=50)
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import jumanji

from envs import bridges, own_classes
from envs.base import MultiAgentEnv
from envs.configuration import ConfigurationError, shown, unknown_name

# Name -> (module, class, jumanji id). A world's version goes up when its dynamics change.
_WORLDS = {
    "turn": ("envs.turn", "Turn", "Turn-v0"),
    "pac_men": ("envs.pac_men", "PacMen", "PacMen-v0"),
    "sparse_pac_men": ("envs.pac_men", "SparsePacMen", "SparsePacMen-v0"),
    "windy_maze": ("envs.windy_maze", "WindyMaze", "WindyMaze-v0"),
    "firefighters": ("envs.firefighters", "Firefighters", "Firefighters-v0"),
    "push_box": ("envs.push_box", "PushBox", "PushBox-v0"),
    "secret_room": ("envs.secret_room", "SecretRoom", "SecretRoom-v0"),
    "pursuit_1d": ("envs.pursuit_1d", "Pursuit1D", "Pursuit1D-v0"),
    "battle": ("envs.battle", "Battle", "Battle-v0"),
    "football": ("envs.football", "Football", "Football-v0"),
}


def own_names() -> tuple[str, ...]:
    """The names of this project's own worlds, sorted."""
    return tuple(sorted(_WORLDS))


def names() -> tuple[str, ...]:
    """All names that `make` knows: this project's own worlds, then those of other libraries.

    The latter are known whether their library is installed or not.
    """
    return own_names() + bridges.names()


def world_class(name: str) -> type[MultiAgentEnv[Any]]:
    """The class behind a name: one of `names()`, or `package.module:Class` for a world of your own.

    Raises:
        ConfigurationError: if there is no such world, or it needs a library that is not installed.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"env is {shown(name)}; it must be the name of an environment.")
    if own_classes.is_own(name):
        kind: type[Any] = MultiAgentEnv
        return own_classes.find(name, kind, "env")
    if name in bridges.names():
        return bridges.bridged_class(name)
    if name not in _WORLDS:
        error = unknown_name("environment", name, names())
        raise ConfigurationError(f"{error} A world of your own is package.module:Class.")
    module, attribute, _ = _WORLDS[name]
    return getattr(importlib.import_module(module), attribute)


def summary(name: str) -> str:
    """What a world is, in one line."""
    if name in bridges.names():
        return bridges.summary(name)
    return (world_class(name).__doc__ or "").strip().splitlines()[0]


def make(name: str, **options: Any) -> MultiAgentEnv[Any]:
    """Makes the world called `name`.

    Args:
        name: one of `names()`, or `package.module:Class` for a world of your own.
        **options: fields of the world's `Config`.

    Raises:
        ConfigurationError: if the name or an option is unknown, a value is not allowed, or the world
            needs a library that is not installed.
    """
    return world_class(name)(**options)


def describe(env: MultiAgentEnv[Any]) -> tuple[str, Mapping[str, Any]]:
    """The name and the options that `make` makes the same world from.

    Raises:
        ConfigurationError: if it cannot: its class is defined within a function, or takes more than its options.
    """
    kind, options = (
        type(env),
        {f.name: getattr(env.config, f.name) for f in dataclasses.fields(env.config)},
    )
    known = [name for name in names() if _is_class_of(kind, name)]
    name = known[0] if known else own_classes.name_of(kind)
    try:
        again = world_class(name)(**options)
    except TypeError as error:
        raise ConfigurationError(
            f"{kind.__name__} cannot be made again ({error}); all that it is made from must be fields of its Config."
        ) from error
    if type(again) is not kind:
        raise ConfigurationError(
            f"{name} is another class now than that of the environment; make the environment anew."
        )
    return name, options


def _is_class_of(kind: type, name: str) -> bool:
    """Whether a registered name stands for a class, without importing another library for it."""
    if name in bridges.names():
        # What is not installed cannot be its class.
        with contextlib.suppress(ConfigurationError):
            return (
                kind.__module__.startswith("envs.bridges.") and bridges.bridged_class(name) is kind
            )
        return False
    module, attribute, _ = _WORLDS[name]
    return kind.__module__.startswith(module) and kind.__name__ == attribute


def register_with_jumanji() -> None:
    """Registers every world of our own with jumanji, so that `jumanji.make("Turn-v0")` works."""
    for module, attribute, jumanji_id in _WORLDS.values():
        if jumanji_id not in jumanji.registered_environments():
            jumanji.register(jumanji_id, entry_point=f"{module}:{attribute}")
