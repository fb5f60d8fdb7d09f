"""Agents of the PPO core whose actions are continuous."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marl_jax.methods.part import Agents, Given
from marl_jax.networks import Params, TeamAgent

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

    def networks(self, params: Params) -> tuple[TeamAgent, Params]:
        """Those of the means."""
        return self.means.networks(_without_deviation(params))

    def outputs(self, params: Params, given: Given) -> Float[Array, "*shape N 2A"]:
        """Means and logarithms of deviations, one after the other."""
        mean = self.means.outputs(_without_deviation(params), given)
        return jnp.concatenate([mean, jnp.broadcast_to(params[DEVIATION], mean.shape)], axis=-1)


def _without_deviation(params: Params) -> Params:
    return {name: own for name, own in params.items() if name != DEVIATION}
