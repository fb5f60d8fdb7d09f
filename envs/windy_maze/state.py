"""What `WindyMaze` needs to go on."""

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that `WindyMaze` needs to go on.

    Attributes:
        key: random key of the episode; it stays the same, each step folds its own number into it.
        step_count: [] int32, steps since the reset.
        positions: [2, 2] int32, (row, column) of agent 0 and of agent 1.
        dots: [2] bool, whether the left and the right dot are still there.
        blown: [2] bool, which agents the wind moved, or tried to move, in the last step.
    """

    key: jax.Array
    step_count: jax.Array
    positions: jax.Array
    dots: jax.Array
    blown: jax.Array
