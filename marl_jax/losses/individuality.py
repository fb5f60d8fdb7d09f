"""Losses of EOI's classifier p(agent | observation); Jiang and Lu 2021, section 3.2.

All take logits over the N agents that an observation may belong to, and return one number per row.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def identity_cross_entropy(
    logits: Float[Array, "*shape N"], agent: Int[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """CE(p(.|o_i), one_hot(i)) = -log p(i | o_i): the observation is taken for its agent's.

    Args:
        logits: of p(. | o_i).
        agent: i.
    """
    chex.assert_equal_shape_prefix([logits, agent], agent.ndim)
    log_p = jax.nn.log_softmax(logits)
    # Not a gather: its transpose is a scatter, slower for a few agents.
    return -jnp.sum(log_p * jax.nn.one_hot(agent, logits.shape[-1], dtype=log_p.dtype), axis=-1)


def positive_distance(
    logits: Float[Array, "*shape N"], positive_logits: Float[Array, "*shape N"]
) -> Float[Array, "*shape"]:
    """CE(p(.|o_t), p(.|o_t')) = -sum_j p(j | o_t') log p(j | o_t): an observation is taken for what an earlier one is.

    The positive is the label, and constant; only the anchor learns.

    Args:
        logits: of the anchor's p(. | o_t).
        positive_logits: of the positive's p(. | o_t').
    """
    chex.assert_equal_shape([logits, positive_logits])
    label = jax.nn.softmax(jax.lax.stop_gradient(positive_logits))
    return -jnp.sum(label * jax.nn.log_softmax(logits), axis=-1)


def conditional_entropy(logits: Float[Array, "*shape N"]) -> Float[Array, "*shape"]:
    """CE(p(.|o), p(.|o)) = H(p(. | o)); its mean is H(I | O), and its fall the rise of MI(I; O).

    The gradient passes both factors: with the label held constant it would be zero everywhere.
    """
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def earlier_steps(
    lots: Float[Array, "T B ..."], window: int, time: Int[Array, "T B"] | None = None
) -> tuple[Int[Array, " T ..."], Float[Array, " T ..."]]:
    """For each step of an episode one of the `window` steps before it, all equally likely: a positive's place.

    The lag is at least 1, and no draw falls before the episode's start.

    Args:
        lots: drawn uniformly from [0, 1), one for each step.
        window: delta-t of the paper, in steps.
        time: steps since the episode's start, where rows hold several; None: the places along the first axis.

    Returns:
        The steps, [T, B, ...] in 0..T-1; and whether there is one, with as many axes: 0 for a first step, else 1.
    """
    place = jnp.arange(len(lots)).reshape(-1, *(1,) * (lots.ndim - 1))
    time = place if time is None else time.reshape(*time.shape, *(1,) * (lots.ndim - time.ndim))
    choices = jnp.minimum(time, window)
    # Times the number of choices, which rounding could bring up to that number itself.
    lag = 1 + jnp.floor(lots * choices).astype(jnp.int32)
    lag = jnp.minimum(lag, jnp.maximum(choices, 1))
    return jnp.maximum(place - lag, 0), (time > 0).astype(jnp.float32)
