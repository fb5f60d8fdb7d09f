"""ROMA's small networks: of a role's distribution, of an agent's output layer, of how unlike two agents are.

Wang et al. 2020, appendix B.1: one hidden layer of 12 units each.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from marl_jax.networks.generated import GeneratedLinear
from marl_jax.networks.layers import Linear, torch_bias

LARGEST_LOG_VARIANCE = 10.0
"""The logarithm of the largest variance of a role; ours, so that nothing overflows."""


class Gaussian(NamedTuple):
    """Independent normal laws of D numbers.

    Attributes:
        mean: mu.
        variance: sigma squared.
    """

    mean: Float[Array, "*batch D"]
    variance: Float[Array, "*batch D"]


class HiddenLayer(nn.Module):
    """Linear and activation, with batch normalisation between them if asked for.

    Attributes:
        size: units.
        activation: what follows.
        batch_axes: axes over which a unit is normalised to mean 0 and variance 1, always with the statistics of what is
            being computed (the authors' networks never leave their training mode); none for no normalisation.
    """

    size: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    batch_axes: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        """Maps [..., I] to [..., size]."""
        x = Linear(self.size)(x)
        if self.batch_axes:
            # The library's layer norm, over the batch in place of the features.
            x = nn.LayerNorm(epsilon=1e-5, reduction_axes=self.batch_axes, feature_axes=-1)(x)
        return self.activation(x)


class GaussianEncoder(nn.Module):
    """A normal law of a role: the role encoder p(role | o), or the trajectory encoder q(role | tau, o).

    Attributes:
        hidden: the hidden layer.
        role_size: D.
        min_variance: the least variance; below it the slope is 0.
    """

    hidden: HiddenLayer
    role_size: int
    min_variance: float

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Gaussian:
        """Encodes [..., I]."""
        mean, log_variance = jnp.split(Linear(2 * self.role_size)(self.hidden(x)), 2, axis=-1)
        log_variance = jnp.clip(log_variance, math.log(self.min_variance), LARGEST_LOG_VARIANCE)
        return Gaussian(mean, jnp.exp(log_variance))


class RoleDecoder(nn.Module):
    """An agent's output layer, generated from its role.

    Attributes:
        hidden: the hidden layer.
        num_outputs: A.
    """

    hidden: HiddenLayer
    num_outputs: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "... H"], role: Float[Array, "... D"]
    ) -> Float[Array, "... A"]:
        """Action values of an agent with these features in this role."""
        values: jax.Array = GeneratedLinear(self.num_outputs, use_bias=True)(
            features, self.hidden(role)
        )
        return values


class Dissimilarity(nn.Module):
    """d(x_i, x_j): how unlike two agents are; one hidden layer over both, and a number.

    Attributes:
        size: units of the hidden layer.
        activation: its activation.
        batch_norm: whether to normalise its units over environments and agents, for each shift on its own.
        absolute: whether the number is made positive, as the authors do.
    """

    size: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    batch_norm: bool = False
    absolute: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "... N I"], others: Callable[[jax.Array], jax.Array]
    ) -> Float[Array, "... N S"]:
        """Compares each agent with its partners.

        Args:
            x: what is known of each agent.
            others: gives each agent's partners, [..., N, O] to [..., N, S, O].
        """
        # The layer on both agents' features side by side, as one product an agent and not one a pair.
        law = torch_bias(2 * x.shape[-1])
        kernel = self.param("kernel", law, (x.shape[-1], 2 * self.size))
        bias = self.param("bias", law, (self.size,))
        products = (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)
        own, partner = jnp.split(products, 2, axis=-1)
        joint = (own + bias)[..., None, :] + others(partner)
        if self.batch_norm:
            joint = nn.LayerNorm(epsilon=1e-5, reduction_axes=(-4, -3), feature_axes=-1)(joint)
        d = Linear(1)(self.activation(joint))[..., 0]
        return jnp.abs(d) if self.absolute else d
