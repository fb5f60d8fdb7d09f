"""MAAC's critic: each agent's action values, informed by attention to what the others see and do."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from marl_jax.networks.agents import Params, Sharing, apply_per_agent, init_per_agent
from marl_jax.networks.layers import MLP, Linear


class AttentionToOthers(nn.Module):
    """Multi-head attention of each agent to all others; MAAC Eq. 6.

    Attributes:
        num_heads: heads.
        size: units of all heads together.
    """

    num_heads: int
    size: int

    @nn.compact
    def __call__(
        self, own: Float[Array, "*batch N H"], others: Float[Array, "*batch N H"]
    ) -> tuple[Float[Array, "*batch N size"], Float[Array, "*batch N"]]:
        """What each agent gathers, and the sum over heads of its mean squared logit.

        Args:
            own: what each agent asks with.
            others: what it is to others.
        """
        depth, n = self.size // self.num_heads, own.shape[-2]

        def by_head(x: jax.Array) -> jax.Array:
            return x.reshape(*x.shape[:-1], self.num_heads, depth)

        query = by_head(Linear(self.size, use_bias=False, name="query")(own))
        key = by_head(Linear(self.size, use_bias=False, name="key")(others))
        value = by_head(nn.leaky_relu(Linear(self.size, name="value")(others)))
        logits = jnp.einsum("...ihd,...jhd->...hij", query, key)
        other = ~jnp.eye(n, dtype=bool)
        weights = jax.nn.softmax(jnp.where(other, logits / depth**0.5, -jnp.inf))
        gathered = jnp.einsum("...hij,...jhd->...ihd", weights, value)
        squared = jnp.sum(jnp.where(other, logits**2, 0.0), axis=-1) / (n - 1)
        return gathered.reshape(*own.shape[:-1], self.size), squared.sum(-2)


@dataclasses.dataclass(frozen=True)
class AttentionCritic:
    """MAAC's critic of a team (Iqbal and Sha 2019); `utils/critics.py` without its input normalisation.

    Each agent has its own encoders and head (one set for all under "shared"); the attention is one for all.

    Attributes:
        num_agents: N, at least 2.
        num_actions: A.
        hidden_size: units of every layer, all heads together.
        num_heads: heads of the attention.
        sharing: "independent" or "shared".
    """

    num_agents: int
    num_actions: int
    hidden_size: int = 128
    num_heads: int = 4
    sharing: Sharing = "independent"

    @property
    def _encoder(self) -> MLP:
        return MLP((self.hidden_size,), activate_last=True, activation=nn.leaky_relu)

    @property
    def _attention(self) -> AttentionToOthers:
        return AttentionToOthers(self.num_heads, self.hidden_size)

    @property
    def _head(self) -> MLP:
        return MLP((self.hidden_size, self.num_actions), activation=nn.leaky_relu)

    def init(self, key: jax.Array, input_size: int) -> dict[str, Params]:
        """Draws the parameters: "own", "other" (encoders), "attention" and "head"."""
        own_key, other_key, head_key, attention_key = jax.random.split(key, 4)

        def each(module: MLP, size: int, key: jax.Array) -> Params:
            x = jnp.zeros((size,))
            return init_per_agent(lambda k: module.init(k, x), key, self.num_agents, self.sharing)

        x = jnp.zeros((self.num_agents, self.hidden_size))
        return {
            "own": each(self._encoder, input_size, own_key),
            "other": each(self._encoder, input_size + self.num_actions, other_key),
            "head": each(self._head, 2 * self.hidden_size, head_key),
            "attention": self._attention.init(attention_key, x, x),
        }

    def apply(
        self,
        params: dict[str, Params],
        x: Float[Array, "*batch N I"],
        action: Float[Array, "*batch N A"],
    ) -> tuple[Float[Array, "*batch N A"], Float[Array, "*batch N"]]:
        """Each agent's values of its own actions, the others' given; and the attention's squared logits.

        Args:
            params: from `init`.
            x: what each agent sees.
            action: what each agent does, one-hot; its own does not change its values.
        """

        def each(name: str, module: MLP, inputs: jax.Array) -> Any:
            return apply_per_agent(module.apply, params[name], inputs, sharing=self.sharing)

        own = each("own", self._encoder, x)
        other = each("other", self._encoder, jnp.concatenate([x, action], axis=-1))
        attended: Any = self._attention.apply(params["attention"], own, other)
        gathered, squared = attended
        values = each("head", self._head, jnp.concatenate([own, gathered], axis=-1))
        return values, squared
