"""What `Firefighters` needs to go on."""

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that `Firefighters` needs to go on.

    Attributes:
        key: random key of the episode; the steps draw nothing from it.
        step_count: [] int32, steps since the reset.
        positions: [4, 2] int32, (row, column) of each agent.
        fires: [2, D, 2] int32, (row, column) of the cells that burned at the start: of the bottom
            room, then of the top room.
        burning: [2, D] bool, which of them still burn.
        tank: [] int32, units of water.
        pumped: [] int32, units pumped since the reset.
    """

    key: jax.Array
    step_count: jax.Array
    positions: jax.Array
    fires: jax.Array
    burning: jax.Array
    tank: jax.Array
    pumped: jax.Array
