"""Returns of whole episodes."""

import jax
import rlax
from jaxtyping import Array, Float


def lambda_returns(
    reward: Float[Array, "T *batch"],
    discount: Float[Array, "T *batch"],
    next_value: Float[Array, "T *batch"],
    lambda_: float,
) -> Float[Array, "T *batch"]:
    """TD(lambda) returns: G_t = r_t + d_t ((1 - lambda) V_{t+1} + lambda G_{t+1}), G_T = V_T.

    The same recursion as PyMARL's `build_td_lambda_targets` on every step of an episode. A termination has
    d_t = 0; whatever is stored after it never enters.

    Args:
        reward: r_t.
        discount: gamma times the environment's discount.
        next_value: V_{t+1}.
        lambda_: 0 gives one-step targets, 1 Monte-Carlo returns.
    """
    if lambda_ == 0:
        return reward + discount * next_value

    def along_time(r: jax.Array, d: jax.Array, v: jax.Array) -> jax.Array:
        return rlax.lambda_returns(r, d, v, float(lambda_))

    for _ in range(reward.ndim - 1):
        along_time = jax.vmap(along_time, in_axes=-1, out_axes=-1)
    return along_time(reward, discount, next_value)
