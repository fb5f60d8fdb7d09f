"""Policies as distributions. The only module that imports distrax."""

import distrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def floored_categorical(
    logits: Float[Array, "... A"],
    action_mask: Bool[Array, "... A"],
    epsilon: Float[Array, ""] | float,
    mask_before_softmax: bool,
) -> distrax.Categorical:
    """The actor-critic policy of PyMARL: softmax, mixed with a uniform law of weight epsilon.

    pi = (1 - epsilon) softmax(logits) + epsilon / K, then unavailable actions get probability 0 and the rest is
    renormalised. Source: PyMARL `basic_controller.py`, `action_selectors.py`.

    Args:
        logits: the network's output.
        action_mask: available actions; a row without any (padding may have them) counts as one with all.
        epsilon: weight of the uniform law.
        mask_before_softmax: if true, unavailable actions are left out of the softmax and K counts the available
            ones; if false, K is A and they are removed afterwards.
    """
    action_mask |= ~jnp.any(action_mask, axis=-1, keepdims=True)
    if mask_before_softmax:
        logits = jnp.where(action_mask, logits, -1e10)
        count = jnp.sum(action_mask, axis=-1, keepdims=True)
    else:
        count = jnp.asarray(logits.shape[-1])
    probs = (1.0 - epsilon) * jax.nn.softmax(logits) + epsilon / count
    # The tiny constant keeps a row alive whose available actions have all underflowed.
    probs = jnp.where(action_mask, probs + 1e-10, 0.0)
    return distrax.Categorical(probs=probs / jnp.sum(probs, axis=-1, keepdims=True))


def masked_categorical(
    logits: Float[Array, "... A"], action_mask: Bool[Array, "... A"]
) -> distrax.Categorical:
    """Softmax over the available actions, with finite gradients everywhere.

    Args:
        logits: the network's output.
        action_mask: available actions; a row without any counts as one with all.
    """
    return distrax.Categorical(logits=jnp.where(action_mask, logits, -1e10))


def gaussian(mean: Float[Array, "*batch D"], variance: Float[Array, "*batch D"]) -> distrax.Normal:
    """Independent normal laws of D numbers; log-densities, entropies and divergences come one for each of them."""
    return distrax.Normal(mean, jnp.sqrt(variance))


def greedy_action(scores: Float[Array, "... A"], action_mask: Bool[Array, "... A"]) -> jax.Array:
    """The available action with the highest score: [...] int32."""
    return jnp.argmax(jnp.where(action_mask, scores, -jnp.inf), axis=-1).astype(jnp.int32)


def gumbel_softmax(
    key: jax.Array,
    logits: Float[Array, "... A"],
    action_mask: Bool[Array, "... A"],
    temperature: float,
    straight_through: bool = False,
) -> Float[Array, "... A"]:
    """A relaxed draw from a categorical law: softmax((logits + g) / temperature) with Gumbel noise g.

    Its largest component is distributed as the law itself. Jang et al. 2017, Eq. 2 and section 2.2.

    Args:
        key: random key.
        logits: the network's output.
        action_mask: available actions; the others' components are 0. A row without any counts as one with all.
        temperature: near 0 the draw is nearly one-hot.
        straight_through: whether to return the largest component one-hot, with the relaxed draw's gradient.
    """
    noisy = (logits + jax.random.gumbel(key, logits.shape, logits.dtype)) / temperature
    relaxed = jax.nn.softmax(jnp.where(action_mask, noisy, -1e10))
    if not straight_through:
        return relaxed
    hard = jax.nn.one_hot(jnp.argmax(relaxed, axis=-1), logits.shape[-1], dtype=logits.dtype)
    return hard + relaxed - jax.lax.stop_gradient(relaxed)
