"""What `PacMen` needs to go on."""

import dataclasses
from typing import Literal

import jax

RewardKind = Literal["total", "min_over_rooms", "dense"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that `PacMen` needs to go on.

    Attributes:
        key: random key of the episode; it stays the same, each step folds its own number into it.
        step_count: [] int32, steps since the reset.
        positions: [4, 2] int32, (row, column) of each agent.
        dots: [4, D, 2] int32, (row, column) of the dots of each room: top, bottom, left, right.
        left: [4, D] bool, which of them have not been eaten.
        eaten: [4] int32, dots eaten in each room since the reset.
    """

    key: jax.Array
    step_count: jax.Array
    positions: jax.Array
    dots: jax.Array
    left: jax.Array
    eaten: jax.Array
