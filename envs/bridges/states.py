"""What worlds of other libraries need to go on, and what their viewers ask of it."""

import dataclasses
from typing import Any

import jax

REACHED = 0.1
"""An agent this near to a landmark has covered or reached it; the original MPE's bound."""
FULL, READY = 20, 0
"""A pot's number: 23 is empty, each onion takes one off; from 20, which is full, it counts down to 0: it is ready."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class SMAXState:
    """Everything that `SMAX` needs to go on.

    Attributes:
        key: random key of the episode; it stays the same, each step folds its own number into it.
        step_count: [] int32, steps since the reset.
        inner: JaxMARL's state: `inner.state` has the units, allies first,
            `inner.enemy_policy_state` what the enemies remember.
        ally_targets: [N, 2] float32, (x, y) where the scripted policy sends each ally while it sees
            no enemy: its start, mirrored at the centre of the map.
    """

    key: jax.Array
    step_count: jax.Array
    inner: Any
    ally_targets: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class MPEState:
    """Everything that a task of `MPE` needs to go on.

    Attributes:
        key: random key of the episode; it stays the same, each step folds its own number into it.
        step_count: [] int32, steps since the reset.
        inner: JaxMARL's state: `p_pos` and `p_vel` [N + L, 2] float32, agents first, then L
            landmarks; `c` [N, C] float32, what was said; `goal` [] int32, a landmark, or None.
        totals: sums over the steps so far of what `extras` counts or averages, [] each.
    """

    key: jax.Array
    step_count: jax.Array
    inner: Any
    totals: dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class OvercookedState:
    """State.

    Attributes:
        key: random key of the episode.
        step_count: [] int32.
        soups: [] int32, soups delivered so far.
        inner: JaxMARL's state.
    """

    key: jax.Array
    step_count: jax.Array
    soups: jax.Array
    inner: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class LevelBasedForagingState:
    """State.

    Attributes:
        key: random key.
        step_count: [] int32.
        inner: jumanji's state.
    """

    key: jax.Array
    step_count: jax.Array
    inner: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class RobotWarehouseState:
    """State.

    Attributes:
        key: random key; jumanji's state has another, which its own steps draw from.
        step_count: [] int32.
        delivered: [] int32, shelves delivered so far.
        inner: jumanji's state.
    """

    key: jax.Array
    step_count: jax.Array
    delivered: jax.Array
    inner: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class BraxState:
    """State.

    Attributes:
        key: random key.
        step_count: [] int32.
        bodies: brax's states, each leaf with a leading axis N; a body that has fallen stays as it was then.
        fallen: [N] bool, whose body has fallen.
        earned: [N] float32, each agent's return so far.
    """

    key: jax.Array
    step_count: jax.Array
    bodies: Any
    fallen: jax.Array
    earned: jax.Array
