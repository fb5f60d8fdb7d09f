"""Losses of policies that are paid for their entropy: soft actor-critic."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def soft_value(
    q: Float[Array, "*shape"],
    log_prob: Float[Array, "*shape"],
    temperature: Float[Array, "*#shape"] | float,
) -> Float[Array, "*shape"]:
    """V(s) = Q(s, u) - alpha log pi(u | s) of a drawn action u; SAC (Haarnoja et al. 2018b) Eq. 3.

    Minus its mean over drawn actions, through which gradients go, is the policy's loss (Eq. 9).

    Args:
        q: Q, the smaller of twin critics'.
        log_prob: log pi(u | s).
        temperature: alpha.
    """
    chex.assert_equal_shape([q, log_prob])
    return q - temperature * log_prob


def temperature_loss(
    log_temperature: Float[Array, "*#shape"],
    log_prob: Float[Array, "*shape"],
    target_entropy: Float[Array, "*#shape"] | float,
) -> Float[Array, "*shape"]:
    """-alpha (log pi(u | s) + H), with log pi constant; SAC (Haarnoja et al. 2018b) Eq. 18.

    Its descent raises alpha where policies are less random than H asks for.

    Args:
        log_temperature: log alpha, in which it is differentiated.
        log_prob: log pi(u | s) of drawn actions.
        target_entropy: H.
    """
    missing = jax.lax.stop_gradient(log_prob + target_entropy)
    return -jnp.exp(log_temperature) * missing
