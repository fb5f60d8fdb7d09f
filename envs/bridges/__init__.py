"""Other libraries' environments as worlds of ours: SMAX and MPE, as JaxMARL has them.

>>> env = bridged_class("smax/3m")()

The names are known without JaxMARL; it is imported when one of them is asked for.
"""

import dataclasses
import functools
import importlib
import io
import sys
from typing import Any

from envs.base import MultiAgentEnv
from envs.configuration import ConfigurationError, unknown_name

__all__ = ["bridged_class", "names", "require_jaxmarl", "summary"]

# Scenario of SMAX -> who fights whom. All but corridor and 8m_vs_9m are JaxMARL's own.
_SMAX = {
    "3m": "3 marines against 3 marines",
    "8m": "8 marines against 8 marines",
    "25m": "25 marines against 25 marines",
    "5m_vs_6m": "5 marines against 6 marines",
    "8m_vs_9m": "8 marines against 9 marines",
    "10m_vs_11m": "10 marines against 11 marines",
    "27m_vs_30m": "27 marines against 30 marines",
    "2s3z": "2 stalkers and 3 zealots against the same",
    "3s5z": "3 stalkers and 5 zealots against the same",
    "3s5z_vs_3s6z": "3 stalkers and 5 zealots against 3 stalkers and 6 zealots",
    "3s_vs_5z": "3 stalkers against 5 zealots",
    "6h_vs_8z": "6 hydralisks against 8 zealots",
    "corridor": "6 zealots against 24 zerglings",
    "smacv2_5_units": "5 units of random types and places against 5",
    "smacv2_10_units": "10 units of random types and places against 10",
    "smacv2_20_units": "20 units of random types and places against 20",
}

# Task of MPE -> (class in `envs.bridges.jaxmarl`, what it is about).
_MPE = {
    "simple_spread": ("SimpleSpread", "N agents cover N landmarks without touching"),
    "simple_speaker_listener": (
        "SimpleSpeakerListener",
        "one knows the goal and speaks, the other listens and moves",
    ),
    "simple_adversary": ("SimpleAdversary", "good agents hide their target from an adversary"),
}


def names() -> tuple[str, ...]:
    """All names that `bridged_class` knows, sorted, whether JaxMARL is installed or not."""
    return tuple(sorted([f"smax/{name}" for name in _SMAX] + [f"mpe/{name}" for name in _MPE]))


def summary(name: str) -> str:
    """One line on what a name stands for, known without JaxMARL.

    Raises:
        ConfigurationError: if the name is unknown.
    """
    family, task = _split(name)
    return f"SMAX: {_SMAX[task]}." if family == "smax" else f"MPE: {_MPE[task][1]}."


@functools.cache
def bridged_class(name: str) -> type[MultiAgentEnv[Any]]:
    """The class behind a name, always the same one; its `Config` has the options.

    Args:
        name: one of `names()`, "smax/SCENARIO" or "mpe/TASK".

    Raises:
        ConfigurationError: if the name is unknown or JaxMARL is not installed.
    """
    family, task = _split(name)
    require_jaxmarl()
    worlds = importlib.import_module("envs.bridges.jaxmarl")
    if family == "mpe":
        return getattr(worlds, _MPE[task][0])
    details = {
        "__doc__": f"{summary(name)}\n\n{worlds.SMAX.__doc__}",
        "__module__": worlds.__name__,
        "scenario": task,
        # The class cannot be found by pickle.
        "__reduce__": lambda env: (_again, (name, dataclasses.asdict(env.config))),
    }
    return type(f"SMAX_{task}", (worlds.SMAX,), details)


def _again(name: str, options: dict[str, Any]) -> MultiAgentEnv[Any]:
    """A world out of a pickle."""
    return bridged_class(name)(**options)


def require_jaxmarl() -> None:
    """Imports JaxMARL, without the lines that it prints then.

    JaxMARL's import also resets `sys.stdout` and `sys.stderr`, which would take the output away
    from a notebook; they are put back.

    Raises:
        ConfigurationError: if it is not installed.
    """
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr", "__stdout__")}
    silence = io.StringIO()
    try:
        for name in ("stdout", "__stdout__"):
            setattr(sys, name, silence)
        importlib.import_module("jaxmarl")
    except ModuleNotFoundError as error:
        if error.name != "jaxmarl":
            raise
        raise ConfigurationError(
            "SMAX and MPE need JaxMARL; install it with, in the clone of marl_jax: "
            'pip install -e ".[jaxmarl]".'
        ) from error
    finally:
        for name, stream in streams.items():
            setattr(sys, name, stream)


def _split(name: str) -> tuple[str, str]:
    if name not in names():
        raise unknown_name("environment", name, names())
    family, _, task = name.partition("/")
    return family, task
