"""Layers with PyTorch's initialisation, which the papers' results were obtained with."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

Initializer = Callable[..., jax.Array]

# U(-1/sqrt(fan_in), 1/sqrt(fan_in)): a uniform law of variance 1 / (3 fan_in).
torch_kernel: Initializer = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def torch_bias(fan_in: int) -> Initializer:
    """Uniform in +-1/sqrt(fan_in), as `torch.nn.Linear` draws its bias."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Linear(nn.Module):
    """A dense layer initialised as `torch.nn.Linear`."""

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        """Maps [..., I] to [..., features]."""
        dense = nn.Dense(
            self.features,
            use_bias=self.use_bias,
            kernel_init=torch_kernel,
            bias_init=torch_bias(x.shape[-1]),
        )
        # One leading axis: XLA's CPU products and their transposes are twice as fast on matrices.
        return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], self.features)


class MLP(nn.Module):
    """Dense layers with an activation after each one but the last (`activate_last` adds it there too)."""

    features: Sequence[int]
    activate_last: bool = False
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        """Maps [..., I] to [..., features[-1]]."""
        for i, size in enumerate(self.features):
            x = Linear(size)(x)
            if self.activate_last or i < len(self.features) - 1:
                x = self.activation(x)
        return x
