"""What `PushBox` needs to go on."""

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that `PushBox` needs to go on.

    Attributes:
        key: random key of the episode; it stays the same, each step folds its own number into it.
        step_count: [] int32, steps since the reset.
        positions: [2, 2] int32, (row, column) of agent 0 and of agent 1.
        box: [2] int32, (row, column) of the box's centre.
        boxes_delivered: [] int32, boxes brought to the wall since the reset.
    """

    key: jax.Array
    step_count: jax.Array
    positions: jax.Array
    box: jax.Array
    boxes_delivered: jax.Array
