"""Battle: hand-worked transitions, known returns, a NumPy twin, MAgent itself, pictures."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.battle import Battle, State
from tests.envs.rollouts import Policy, mixed_policy, random_policy, returns, rollout
from tests.envs.rollouts import scripted_policy, side_by_side
from tests.envs.twins.battle import BattleTwin


def halves(env: Battle) -> Policy:
    """Half script, half chance."""
    return mixed_policy(env, 0.5)


TWINS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "eoi": ({}, {}),
    "noise": ({"enemy_noise": 0.3, "map_size": 16, "time_limit": 40}, {"noise": 0.3, "size": 16, "time_limit": 40}),
    "to the end": ({"respawn": False, "map_size": 14}, {"respawn": False, "size": 14}),
    "magent": (
        {"variant": "magent", "map_size": 16, "time_limit": 60},
        {"magent": True, "size": 16, "time_limit": 60, "respawn": False},
    ),
    "self-play": (
        {"variant": "magent", "map_size": 20, "time_limit": 60, "self_play": True},
        {"magent": True, "size": 20, "time_limit": 60, "respawn": False, "self_play": True},
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_the_twin_agrees_at_every_step(name: str) -> None:
    options, twin = TWINS[name]
    env = Battle(**options)
    totals = side_by_side(env, lambda start: BattleTwin(start, **twin), halves(env), 20)
    print(name, totals.mean())
