"""MAVEN: all agents follow one latent z, drawn once for an episode, on QMIX.

Paper: Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration". Authors' code:
github.com/AnujMahajanOxf/MAVEN `noise_q_learner.py`, `noise_rnn_agent.py`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from envs.configuration import Config, Range
from marl_jax.losses import mask_unavailable, masked_mean
from marl_jax.methods.part import Given, HeadedAgents, Part
from marl_jax.methods.q_learner import (
    Learning,
    only_q_learner,
)
from marl_jax.methods.team import NotNegative
from marl_jax.networks import MLP, Params
from marl_jax.networks.generated import GeneratedLinear
from marl_jax.types import Metrics


@dataclasses.dataclass(frozen=True)
class LatentOptions(Config):
    """Options of MAVEN; the authors' `noisemix_smac.yaml`."""

    latent_size: Annotated[int, Range(minimum=1)] = 2
    """Values that the latent z can take; `noise_dim` of the authors' file."""
    information_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the discriminator's loss, which bounds the mutual information of z and behaviour (`mi_loss`). The
    authors' is for StarCraft's returns of up to 20; where they are about 1, it can make some z behave badly."""
    discriminator_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (64, 64, 64)
    """Units of the discriminator's hidden layers."""


@dataclasses.dataclass(frozen=True)
class LatentAgents(HeadedAgents):
    """Agents whose action values are W(z, i) h, with h what a network makes of an agent's history."""

    @property
    def context_size(self) -> int:  # type: ignore[override]
        """Values that z can take."""
        return int(self.config.latent_size)

    @property
    def head(self) -> GeneratedLinear:
        """From an agent's hidden state, and z with the agent's number, to its action values."""
        return GeneratedLinear(self.core.sizes.num_actions, use_bias=False)

    def init_head(self, key: jax.Array) -> dict[str, Params]:
        """What makes W."""
        hidden = jnp.zeros((self.config.hidden_size,))
        code = jnp.zeros((self.context_size + self.core.sizes.num_agents,))
        return {"head": self.head.init(jax.random.split(key)[1], hidden, code)}

    def latent(self, num_envs: int, key: jax.Array) -> Float[Array, "B Z"]:
        """z, one-hot; uniform."""
        size = self.context_size
        return jax.nn.one_hot(jax.random.randint(key, (num_envs,), 0, size), size)

    def outputs(self, params: Params, given: Given) -> Float[Array, "*shape N A"]:
        """W(z, i) h."""
        z: Float[Array, "*#shape B Z"] = given.latent
        identity = self.core.identities(z.shape[:-1])
        latent = jnp.broadcast_to(z[..., None, :], (*identity.shape[:-1], z.shape[-1]))
        code = jnp.concatenate([latent, identity], axis=-1)
        values: Any = self.head.apply(params["head"], given.out, code)
        return values


@dataclasses.dataclass(frozen=True)
class Latent(Part):
    """MAVEN: agents that follow z, and a discriminator that tells it by what they do.

    The mixer sees z beside the state. At every step the discriminator tells z from the state and softmax_a of every
    agent's action values, and its loss trains the agents too, so that each z gets a behaviour of its own. z is uniform,
    in training and in greedy play. What the authors' configuration leaves off is not here: the bandit that learns which
    z to draw, and the recurrent discriminator. They take a gradient step for eight episodes.
    """

    name: ClassVar = "maven"
    Options: ClassVar = LatentOptions
    # z makes the output layer, of agents that are alike.
    fixed: ClassVar = {"sharing": "shared", "head_sizes": ()}

    @classmethod
    def defaults_on(cls, backbone: type) -> Mapping[str, Any]:
        """The papers'."""
        del backbone
        return {"num_envs": 8, "update_interval": 800}

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Only the Q-learner has its losses."""
        return only_q_learner(backbone)

    @property
    def agents(self) -> LatentAgents:
        """Agents that follow z."""
        return LatentAgents(self.core, self.config)

    @property
    def discriminator(self) -> MLP:
        """From the agents' policies and the state to a score for each z."""
        c = self.config
        return MLP((*c.discriminator_hidden, c.latent_size))

    def init(self, key: jax.Array) -> dict[str, Params]:
        """The discriminator."""
        sizes = self.core.sizes
        seen = jnp.zeros((sizes.num_agents * sizes.num_actions + sizes.global_state,))
        return {"discriminator": self.discriminator.init(jax.random.split(key)[1], seen)}

    def loss(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        """The discriminator's cross-entropy, whose gradient passes the softmax of the action values."""
        batch = learning.batch
        q = mask_unavailable(learning.values.online[:-1], batch.action_mask[:-1])
        policies = jax.nn.softmax(q).reshape(*q.shape[:-2], -1)
        seen = jnp.concatenate([policies, batch.global_state[:-1]], axis=-1)
        scores: Any = self.discriminator.apply(learning.params["discriminator"], seen)
        loss = optax.softmax_cross_entropy(scores, batch.extras.latent)
        loss = masked_mean(loss, batch.valid.astype(loss.dtype))
        return self.config.information_weight * loss, {"discriminator_loss": loss}
