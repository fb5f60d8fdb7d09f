"""What shows that a critic or a policy collapses."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from marl_jax.losses import explained_variance, masked_mean
from marl_jax.types import Metrics


def spread(x: Float[Array, "*shape"], mask: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Standard deviation of `x` where `mask` is 1."""
    return jnp.sqrt(masked_mean((x - masked_mean(x, mask)) ** 2, mask))


def intrinsic_ratio(
    intrinsic: Float[Array, "*shape"],
    advantage: Float[Array, "*shape"],
    mask: Float[Array, "*shape"],
) -> Float[Array, ""]:
    """Spread of what is paid on top of the task's reward, over that of the advantage: near 0 it does not act."""
    return spread(intrinsic, mask) / jnp.maximum(spread(advantage, mask), 1e-8)


def critic_fit(
    value: Float[Array, "*shape"], returns: Float[Array, "*shape"], mask: Float[Array, "*shape"]
) -> Metrics:
    """How well a critic knows returns: what it explains of them, and both means.

    Which returns is up to the caller: lambda-returns for PPO, which lean on the critic itself; those of lambda 1,
    which bootstrap at a time limit alone, for the actor-critics.
    """
    return {
        "explained_variance": explained_variance(value, returns, mask),
        "value_mean": masked_mean(value, mask),
        "discounted_return_mean": masked_mean(returns, mask),
    }
