"""Agents of the PPO core whose actions are continuous."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marl_jax.methods.part import Agents
from marl_jax.networks import Params
from marl_jax.rows import Rows

DEVIATION = "log_deviation"
"""Its name among the agents' parameters."""


@dataclasses.dataclass(frozen=True)
class DeviatingAgents(Agents):
    """Agents whose outputs are means, and beside them the logarithms of deviations, which depend on nothing.

    Attributes:
        means: the agents that put out the means.
        shape: of the deviations: [A], or [N, A] where agents have parameters of their own.
        deviation: at the start.
    """

    means: Agents
    shape: tuple[int, ...]
    deviation: float

    def init(self, key: jax.Array) -> Params:
        """Draws the parameters."""
        start = jnp.full(self.shape, math.log(self.deviation))
        return {**self.means.init(key), DEVIATION: start}

    def latent(self, num_envs: int, key: jax.Array) -> Any:
        """What the means are made with."""
        return self.means.latent(num_envs, key)

    def noise(self, num_envs: int, key: jax.Array) -> Any:
        """What the means are made with."""
        return self.means.noise(num_envs, key)

    def step(
        self,
        params: Params,
        hidden: Float[Array, "B N H"],
        inputs: Float[Array, "B N I"],
        latent: Any,
        key: jax.Array,
        explore: bool,
    ) -> tuple[Float[Array, "B N H"], Float[Array, "B N 2A"]]:
        """One step."""
        given = (hidden, inputs, latent, key, explore)
        hidden, mean = self.means.step(_without_deviation(params), *given)
        return hidden, _beside(mean, params)

    def unroll(
        self,
        params: Params,
        inputs: Float[Array, "T B N I"],
        latent: Any,
        key: jax.Array,
        rows: Rows | None = None,
    ) -> tuple[Float[Array, "T B N H"], Float[Array, "T B N 2A"]]:
        """All steps."""
        hidden, mean = self.means.unroll(_without_deviation(params), inputs, latent, key, rows)
        return hidden, _beside(mean, params)


def _without_deviation(params: Params) -> Params:
    return {name: own for name, own in params.items() if name != DEVIATION}


def _beside(mean: jax.Array, params: Params) -> jax.Array:
    """Means and logarithms of deviations, one after the other."""
    return jnp.concatenate([mean, jnp.broadcast_to(params[DEVIATION], mean.shape)], axis=-1)
