"""What `Pursuit1D` needs to go on."""

import dataclasses

import jax

REWARD = 0.01
"""Paid for every net joint move towards the target."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that `Pursuit1D` needs to go on.

    Attributes:
        key: random key; the steps draw nothing from it.
        step_count: [] int32, steps since the reset.
        values: [2] int32, the number that each agent holds.
        good_actions: [] int32, moves of either agent towards the target since the reset.
        bad_actions: [] int32, moves of either agent away from it since the reset.
        net_joint_moves: [] int32, steps in which both approached less those in which both moved
            away.
    """

    key: jax.Array
    step_count: jax.Array
    values: jax.Array
    good_actions: jax.Array
    bad_actions: jax.Array
    net_joint_moves: jax.Array
