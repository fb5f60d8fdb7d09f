"""ROMA's losses on pairs of agents; Wang et al. 2020, section 3.2.

A pair is (i, i - s mod N) for a shift s, so that an array over pairs has the shape [..., N, S]: S = N - 1 shifts are
all ordered pairs of different agents, S = N also the agents with themselves.
"""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SMALLEST_RANGE = 1e-3
"""Numbers that lie closer together than this are not stretched any further, which keeps the slope finite (ours; the
paper divides by their range, the authors' code by that and 1e-12)."""


def partners(x: Float[Array, "*batch N D"], self_pairs: bool) -> Float[Array, "*batch N S D"]:
    """For each agent i and shift s = 1, 2, ... what belongs to its partner i - s mod N.

    Args:
        x: what belongs to each agent.
        self_pairs: whether the last shift is N, at which an agent is its own partner.
    """
    num_agents = x.shape[-2]
    shifts = range(1, num_agents + self_pairs)
    if not shifts:
        return jnp.zeros((*x.shape[:-1], 0, x.shape[-1]), x.dtype)
    return jnp.stack([jnp.roll(x, shift, axis=-2) for shift in shifts], axis=-2)


def scale_to_unit(x: Float[Array, "*batch N S"]) -> Float[Array, "*batch N S"]:
    """(x - min) / (max - min) over the pairs of one episode at one step; the slope passes minimum and maximum.

    Where all are the same within `SMALLEST_RANGE`, the range counts as that.
    """
    if x.size == 0:
        return x
    low = jnp.min(x, axis=(-2, -1), keepdims=True)
    high = jnp.max(x, axis=(-2, -1), keepdims=True)
    return (x - low) / jnp.maximum(high - low, SMALLEST_RANGE)


def specialisation_loss(
    information: Float[Array, "*batch N S"],
    dissimilarity: Float[Array, "*batch N S"],
    norm: Literal["frobenius", "l1"],
) -> Float[Array, "*batch"]:
    """||D|| - sum over pairs of min(I + D, 1); ROMA Eq. 6 with U = 1.

    Args:
        information: I, scaled to 0..1 over the pairs.
        dissimilarity: D, scaled likewise.
        norm: frobenius, the paper's, with slope 0 where D is 0; or l1, the authors'.
    """
    chex.assert_equal_shape([information, dissimilarity])
    pairs = (-2, -1)
    if norm == "frobenius":
        size = jnp.sqrt(jnp.maximum(jnp.sum(dissimilarity**2, axis=pairs), 1e-12))
    else:
        size = jnp.sum(jnp.abs(dissimilarity), axis=pairs)
    return size - jnp.sum(jnp.minimum(information + dissimilarity, 1.0), axis=pairs)


def softplus_of_clamped(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """log(1 + exp(min(x, 2000))), without overflow; around 0 half the slope of x (the authors' loss L_I)."""
    return jax.nn.softplus(jnp.minimum(x, 2000.0))
