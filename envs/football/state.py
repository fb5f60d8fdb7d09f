"""What `Football` needs to go on."""

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that `Football` needs to go on, for N agents and D defenders.

    Lengths are thousandths of half the pitch's length, (x, y) with x towards the goal that is attacked.

    Attributes:
        key: random key of the episode; it stays the same, each step folds its own number into it.
        step_count: [] int32, steps since the reset.
        positions: [N, 2] int32, where each agent is.
        moved: [N, 2] int32, how far each agent came in the last step.
        defenders: [D, 2] int32, the same as `positions` of the other side, its keeper first.
        ball: [2] int32, where the ball is; where its owner is, if it has one.
        flight: [2] int32, how far the ball flies in the next step; 0 if somebody has it.
        owner: [] int32, who has the ball: an agent's number, N + a defender's, or -1 if nobody has it.
        lots: [D + 1] float32 in [0, 1), the last step's draws: whether each defender's tackle succeeds, and where
            a shot goes.
        scored: [] bool, whether the ball is in the goal.
    """

    key: jax.Array
    step_count: jax.Array
    positions: jax.Array
    moved: jax.Array
    defenders: jax.Array
    ball: jax.Array
    flight: jax.Array
    owner: jax.Array
    lots: jax.Array
    scored: jax.Array
