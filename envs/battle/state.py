"""What `Battle` needs to go on."""

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that `Battle` needs to go on, for N agents and E units of the other side, U = N + E.

    Attributes:
        key: random key of the episode; it stays the same, each step folds its own number into it.
        step_count: [] int32, steps since the reset.
        positions: [N, 2] int32, (row, column) of each agent; the dead keep their last one.
        enemies: [E, 2] int32, the same of the units that the script plays; E is 0 in self-play.
        health: [U] int32, in tenths, first the agents'; who has less than 0 is dead.
        hit: [U] bool, who was hit in the last step and lives on.
        lots: [3, U] float32 in [0, 1), the last step's draws for each unit: when it attacks, what it does at
            random, where it comes back.
        kills: [] int32, deaths of blue units since the reset.
        deaths: [] int32, deaths of red units since the reset.
        earned: [] int32, what the red team has earned since the reset, in units of 1, with MAgent's rules of
            0.005.
    """

    key: jax.Array
    step_count: jax.Array
    positions: jax.Array
    enemies: jax.Array
    health: jax.Array
    hit: jax.Array
    lots: jax.Array
    kills: jax.Array
    deaths: jax.Array
    earned: jax.Array
