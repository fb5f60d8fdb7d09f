"""Other libraries' environments as worlds of ours: of JaxMARL, jumanji, gymnax and brax.

>>> env = bridged_class("smax/3m")()

The names are known without the libraries; one is imported when a world of it is asked for.
"""

import dataclasses
import functools
import importlib
import io
import sys
import warnings
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

# Task of MPE -> (class in `envs.bridges.mpe`, what it is about).
_MPE = {
    "simple_spread": ("SimpleSpread", "N agents cover N landmarks without touching"),
    "simple_speaker_listener": (
        "SimpleSpeakerListener",
        "one knows the goal and speaks, the other listens and moves",
    ),
    "simple_adversary": ("SimpleAdversary", "good agents hide their target from an adversary"),
    "simple_reference": ("SimpleReference", "each knows the other's goal, both speak and move"),
    "simple_tag": ("SimpleTag", "slow hunters catch faster prey"),
}

# Kitchen of Overcooked -> what it is like.
_OVERCOOKED = {
    "cramped_room": "two cooks in one small kitchen",
    "asymm_advantages": "two kitchens, each near to other things",
    "coord_ring": "a ring in which two cooks must go the same way",
    "forced_coord": "two kitchens, neither with all it takes",
    "counter_circuit": "a long ring, and a counter to hand things over",
}

# Task of jumanji -> (module, class, what it is about).
_JUMANJI = {
    "lbf": (
        "jumanji_lbf",
        "LevelBasedForaging",
        "level-based foraging: food that only enough agents can lift together",
    ),
    "rware": (
        "jumanji_rware",
        "RobotWarehouse",
        "robots fetch shelves without running into each other",
    ),
}

_GYMNAX = {
    "CartPole-v1": "a pole is kept upright",
    "Acrobot-v1": "a double pendulum is swung up",
    "MountainCar-v0": "a car gains height by swinging",
    "Catch-bsuite": "a falling ball is caught",
    "Asterix-MinAtar": "MinAtar",
    "Breakout-MinAtar": "MinAtar",
    "Freeway-MinAtar": "MinAtar",
    "SpaceInvaders-MinAtar": "MinAtar",
}

# Body of brax -> what it is, and whether its fall ends an episode.
_BRAX = {
    "ant": ("four legs", True),
    "halfcheetah": ("two legs in the plane, which cannot fall", False),
    "hopper": ("one leg in the plane", True),
    "humanoid": ("a whole body", True),
    "walker2d": ("two legs in the plane, upright", True),
}

# Body of brax that agents share -> how.
_MABRAX = {
    "ant_4x2": "an ant, a leg each",
    "halfcheetah_6x1": "a cheetah in the plane, a joint each",
    "hopper_3x1": "a leg in the plane, a joint each",
    "walker2d_2x3": "a walker in the plane, a leg each",
}

_FAMILIES = {
    "brax": {
        task: f"brax, continuous actions, a body for each agent: {text}."
        for task, (text, _) in _BRAX.items()
    },
    "gymnax": {task: f"gymnax, one agent: {text}." for task, text in _GYMNAX.items()},
    "jumanji": {task: f"jumanji: {text}." for task, (_, _, text) in _JUMANJI.items()},
    "mabrax": {
        task: f"brax, continuous actions, agents that share one body: {text}."
        for task, text in _MABRAX.items()
    },
    "mpe": {task: f"MPE: {text}." for task, (_, text) in _MPE.items()},
    "overcooked": {task: f"Overcooked: {text}." for task, text in _OVERCOOKED.items()},
    "smax": {task: f"SMAX: {text}." for task, text in _SMAX.items()},
}


def names() -> tuple[str, ...]:
    """All names that `bridged_class` knows, sorted, whether their libraries are installed or not."""
    return tuple(
        f"{family}/{task}" for family in sorted(_FAMILIES) for task in sorted(_FAMILIES[family])
    )


def summary(name: str) -> str:
    """One line on what a name stands for, known without its library.

    Raises:
        ConfigurationError: if the name is unknown.
    """
    family, task = _split(name)
    return _FAMILIES[family][task]


@functools.cache
def bridged_class(name: str) -> type[MultiAgentEnv[Any]]:
    """The class behind a name, always the same one; its `Config` has the options.

    Args:
        name: one of `names()`, such as "smax/SCENARIO" or "mpe/TASK".

    Raises:
        ConfigurationError: if the name is unknown, or its library is not installed.
    """
    family, task = _split(name)
    if family == "jumanji":
        module, kind, _ = _JUMANJI[task]
        return getattr(importlib.import_module(f"envs.bridges.{module}"), kind)
    if family == "brax":
        walker = importlib.import_module("envs.bridges.brax_worlds").Brax
        return _named(walker, name, task=task, falls=_BRAX[task][1])
    if family == "mabrax":
        shared = importlib.import_module("envs.bridges.brax_split")
        split = shared.SPLITS[task]
        alone = bridged_class(f"brax/{split.body}")
        return _named(shared.SplitBody, name, split=split, alone=alone)
    if family == "gymnax":
        _require_gymnax()
        single = importlib.import_module("envs.bridges.gymnax_worlds").Gymnax
        return _named(single, name, task=task)
    require_jaxmarl()
    if family == "overcooked":
        kitchen = importlib.import_module("envs.bridges.overcooked").Overcooked
        return _named(kitchen, name, layout=task)
    if family == "mpe":
        return getattr(importlib.import_module("envs.bridges.mpe"), _MPE[task][0])
    smax = importlib.import_module("envs.bridges.jaxmarl").SMAX
    return _named(smax, name, scenario=task)


def _named(kind: type, name: str, **details: Any) -> type[MultiAgentEnv[Any]]:
    """A class for one task of a family."""
    _, task = _split(name)
    details |= {
        "__doc__": f"{summary(name)}\n\n{kind.__doc__}",
        "__module__": kind.__module__,
        # The class cannot be found by pickle; a user's own that derives from it can.
        "__reduce__": lambda env: (
            (_again, (name, dataclasses.asdict(env.config)))
            if type(env) is bridged_class(name)
            else object.__reduce_ex__(env, 2)
        ),
    }
    return type(f"{kind.__name__}_{task.replace('-', '_')}", (kind,), details)


def _require_gymnax() -> None:
    """Imports gymnax.

    Raises:
        ConfigurationError: if it is not installed.
    """
    try:
        importlib.import_module("gymnax")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "this task needs gymnax; install it with: pip install gymnax."
        ) from error


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
        with warnings.catch_warnings():
            # Where brax is installed JaxMARL imports it, and what it needs calls itself outdated.
            warnings.simplefilter("ignore", DeprecationWarning)
            importlib.import_module("jaxmarl")
    except ModuleNotFoundError as error:
        if error.name != "jaxmarl":
            raise
        raise ConfigurationError(
            "SMAX, MPE and Overcooked need JaxMARL; install it with, in the clone of marl_jax: "
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
