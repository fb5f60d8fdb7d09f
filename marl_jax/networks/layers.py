"""Layers with PyTorch's initialisation, which most of the papers' results were obtained with."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

Initializer = Callable[..., jax.Array]

# U(-1/sqrt(fan_in), 1/sqrt(fan_in)): a uniform law of variance 1 / (3 fan_in).
torch_kernel: Initializer = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def torch_bias(fan_in: int, gain: float = 1.0) -> Initializer:
    """Uniform in +-gain/sqrt(fan_in), as `torch.nn.Linear` draws its bias with gain 1."""
    bound = gain * fan_in**-0.5

    def init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


Initialization = Literal["torch", "glorot", "kaiming", "orthogonal"]
"""How a layer's weights are drawn: as `torch.nn.Linear` does; or, with biases of 0, uniformly by Glorot and Bengio 2010
or He et al. 2015, or orthogonal (Saxe et al. 2014)."""

_NO_BIAS = nn.initializers.zeros_init()
KERNELS: dict[Initialization, Initializer] = {
    "torch": torch_kernel,
    "glorot": nn.initializers.glorot_uniform(),
    "kaiming": nn.initializers.he_uniform(),
    "orthogonal": nn.initializers.orthogonal(),
}


def hidden_gain(initialization: Initialization) -> float:
    """By what orthogonal weights are multiplied if a ReLU follows; the other laws have it in them, or go without."""
    return 2**0.5 if initialization == "orthogonal" else 1.0


class Linear(nn.Module):
    """A dense layer; by default initialised as `torch.nn.Linear`.

    Attributes:
        features: O.
        use_bias: whether a bias is added.
        initialization: how weights are drawn.
        gain: by what they are multiplied then, and torch's biases with them.
    """

    features: int
    use_bias: bool = True
    initialization: Initialization = "torch"
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        """Maps [..., I] to [..., features]."""
        draw = KERNELS[self.initialization]
        dense = nn.Dense(
            self.features,
            use_bias=self.use_bias,
            kernel_init=lambda *args: self.gain * draw(*args),
            bias_init=torch_bias(x.shape[-1], self.gain)
            if self.initialization == "torch"
            else _NO_BIAS,
        )
        # One leading axis: XLA's CPU products and their transposes are twice as fast on matrices.
        return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], self.features)


class MLP(nn.Module):
    """Dense layers with an activation after each one but the last (`activate_last` adds it there too).

    With `layer_norm` what an activation is applied to is normalised first. `gains` are the hidden layers' and the
    last one's.
    """

    features: Sequence[int]
    activate_last: bool = False
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    layer_norm: bool = False
    initialization: Initialization = "torch"
    gains: tuple[float, float] = (1.0, 1.0)

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        """Maps [..., I] to [..., features[-1]]."""
        for i, size in enumerate(self.features):
            last = i == len(self.features) - 1
            x = Linear(size, initialization=self.initialization, gain=self.gains[last])(x)
            if self.activate_last or not last:
                x = self.activation(nn.LayerNorm()(x) if self.layer_norm else x)
        return x
