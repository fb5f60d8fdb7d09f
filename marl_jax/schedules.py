"""Schedules over environment steps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def linear(
    start: float, final: float, begin: int, end: int, env_steps: jax.Array
) -> Float[Array, ""]:
    """`start` until `begin` environment steps, `final` from `end` on, and a straight line between."""
    fraction = jnp.clip((env_steps - float(begin)) / float(end - begin), 0.0, 1.0)
    return start + fraction * (final - start)
