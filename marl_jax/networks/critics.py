"""The PPO core's critic: the values of all agents along episodes."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marl_jax.networks.agents import (
    GRUAgent,
    Params,
    Sharing,
    TeamAgent,
    apply_per_agent,
    init_per_agent,
)
from marl_jax.networks.layers import MLP
from marl_jax.rows import Rows


@dataclasses.dataclass(frozen=True)
class Critic:
    """K values of each of N agents.

    Attributes:
        network: one network; its outputs are one agent's values, or all agents' (`joint`).
        num_agents: N.
        num_values: K.
        joint: whether one evaluation gives all agents' values.
        sharing: whether agents share parameters.
        separate: whether every value has parameters of its own.
    """

    network: MLP | GRUAgent
    num_agents: int
    num_values: int
    joint: bool
    sharing: Sharing
    separate: bool

    @property
    def independent(self) -> bool:
        """Whether every agent has parameters of its own."""
        return self.sharing == "independent"

    def init(self, key: jax.Array, input_size: int) -> Params:
        """Draws the parameters."""

        def draw(key: jax.Array) -> Params:
            def network(key: jax.Array) -> Params:
                x = jnp.zeros((input_size,))
                if isinstance(self.network, MLP):
                    return self.network.init(key, x)
                return self.network.init(key, jnp.zeros((self.network.memory_size,)), x)

            return init_per_agent(network, key, self.num_agents, self.sharing)

        if not self.separate:
            return draw(key)
        return jax.vmap(draw)(jax.random.split(key, self.num_values))

    def __call__(
        self, params: Params, x: Float[Array, "T B M C"], rows: Rows | None = None
    ) -> Float[Array, "T B N K"]:
        """All values along whole episodes."""
        with jax.named_scope("critic"):
            if self.separate:
                values = jax.vmap(lambda p: self._heads(p, x, rows), out_axes=-1)(params)
                return values[..., 0, :]
            return self._heads(params, x, rows)

    def _heads(
        self, params: Params, x: Float[Array, "T B M C"], rows: Rows | None
    ) -> Float[Array, "T B N _"]:
        if isinstance(self.network, MLP):
            out = apply_per_agent(self.network.apply, params, x, sharing=self.sharing)
        else:
            members = 1 if self.joint else self.num_agents
            out = TeamAgent(self.network, members, self.sharing).unroll(params, x, rows)[1]
        return out.reshape(*x.shape[:2], self.num_agents, -1)
