"""Independent actor-critic on PyMARL's substrate."""

import dataclasses
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from envs.configuration import Range
from marl_jax.methods.actor_critic import (
    ActorCriticConfig,
    ActorCriticState,
    BaselineMethod,
    CriticSweep,
    sweep_state_value,
)
from marl_jax.networks import MLP, Params
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class IACConfig(ActorCriticConfig):
    """Hyper-parameters of IAC and Central-V: COMA's settings with LIIR's 32 environments (LIIR 5.2.1)."""

    observe_last_action: bool = True
    """Whether an agent sees its own last action, and IAC's critic with it; Central-V's sees everybody's in any case
    (PyMARL's code)."""
    observe_identity: bool = True
    """Whether an agent sees which one it is, and IAC's critic with it; Central-V's is one for the team."""
    epsilon_anneal_steps: Annotated[int, Range(minimum=1)] = 100_000
    """Environment steps over which the exploration floor falls linearly."""
    mask_before_softmax: bool = True
    """Whether unavailable actions are removed before the softmax or after it."""


@dataclasses.dataclass(frozen=True)
class IAC(BaselineMethod):
    """Independent actor-critic (Foerster et al. 2018): each agent's critic V_i sees what the agent sees.

    No code of the runs in LIIR's paper exists: this is Central-V's learner with a decentralised critic
    V(o_i, last action, identity), the last two where the agent sees them.
    """

    Config: ClassVar = IACConfig

    @property
    def _critic(self) -> MLP:
        return MLP((*self.config.critic_hidden, 1))

    def _init_critic(self, key: jax.Array) -> dict[str, Params]:
        size = self.critic_inputs.local_size
        return {"critic": self.init_network(self._critic, size, key)}

    def _values(self, params: Params, inputs: jax.Array) -> jax.Array:
        return self.apply_network(self._critic, params, inputs)[..., 0]

    def _sweep(
        self,
        state: ActorCriticState,
        batch: EpisodeBatch,
        probs: Float[Array, "T+1 B N A"],
        key: jax.Array,
    ) -> tuple[CriticSweep, Float[Array, "T B N"], Metrics]:
        del probs, key
        inputs = self.critic_inputs.local(batch)
        valid = jnp.broadcast_to(batch.valid[..., None], batch.reward.shape)
        return sweep_state_value(
            self._values,
            state,
            self.critic_optimizer,
            inputs,
            batch.reward,
            self.config.gamma * batch.discount,
            valid.astype(batch.reward.dtype),
            self.config.td_lambda,
        )
