"""What `Turn` needs to go on."""

import dataclasses

import jax

SIZE = 5
"""Rows and columns of the field."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that `Turn` needs to go on.

    Attributes:
        key: random key of the episode; it stays the same, each step folds its own number into it.
        step_count: [] int32, steps since the reset.
        positions: [2, 2] int32, (row, column) of agent 0 and of agent 1.
        apple: [2] int32, (row, column).
        turn: [] int32, 0 or 1: the agent that is free.
        apples_eaten: [] int32, since the reset.
        penalties: [] int32, punishments of 1 since the reset.
    """

    key: jax.Array
    step_count: jax.Array
    positions: jax.Array
    apple: jax.Array
    turn: jax.Array
    apples_eaten: jax.Array
    penalties: jax.Array
