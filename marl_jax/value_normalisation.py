"""Running normalisation of values: ValueNorm of Yu et al. 2022 (on-policy, `valuenorm.py`)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MIN_VARIANCE = 1e-2
"""Returns are never taken to vary less than this."""


class ValueNorm(NamedTuple):
    """Exponential means of the returns of K values, begun at 0, and the weight that is in them so far.

    Attributes:
        mean: of the returns.
        mean_square: of their squares.
        weight: what corrects both for having begun at 0.
    """

    mean: Float[Array, " K"]
    mean_square: Float[Array, " K"]
    weight: Float[Array, ""]

    @classmethod
    def start(cls, num_values: int) -> "ValueNorm":
        """Nothing seen yet: mean 0 and deviation 0.1."""
        return cls(jnp.zeros((num_values,)), jnp.zeros((num_values,)), jnp.zeros(()))

    @property
    def location(self) -> Float[Array, " K"]:
        """Mean of the returns."""
        return self.mean / jnp.maximum(self.weight, 1e-5)

    @property
    def scale(self) -> Float[Array, " K"]:
        """Their standard deviation."""
        square = self.mean_square / jnp.maximum(self.weight, 1e-5)
        return jnp.sqrt(jnp.maximum(square - self.location**2, MIN_VARIANCE))

    def update(
        self, returns: Float[Array, "*batch K"], mask: Float[Array, "*batch"], decay: float
    ) -> "ValueNorm":
        """After these returns, of which those count where `mask` is 1; m becomes decay m + (1 - decay) mean."""
        axes = tuple(range(returns.ndim - 1))
        count = jnp.maximum(jnp.sum(mask), 1.0)

        def mean(x: jax.Array) -> jax.Array:
            return jnp.sum(x * mask[..., None], axis=axes) / count

        return ValueNorm(
            decay * self.mean + (1.0 - decay) * mean(returns),
            decay * self.mean_square + (1.0 - decay) * mean(returns**2),
            decay * self.weight + (1.0 - decay),
        )

    def normalise(self, x: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
        """From returns to what networks put out."""
        return (x - self.location) / self.scale

    def denormalise(self, x: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
        """From what networks put out to returns."""
        return x * self.scale + self.location
