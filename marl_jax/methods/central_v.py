"""Central-V on PyMARL's substrate.

Source: MAVEN's copy of PyMARL, `actor_critic_learner.py`, `critics/centralV.py`. No public code of LIIR's runs exists.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marl_jax.methods.actor_critic import (
    ActorCriticState,
    BaselineMethod,
    CriticSweep,
    sweep_state_value,
)
from marl_jax.methods.iac import IACConfig
from marl_jax.networks import MLP, Params
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class CentralV(BaselineMethod):
    """Central-V (Foerster et al. 2018): one critic V(s) of the team for decentralised actors.

    The critic sees the state, all observations and all last actions. The advantage of every agent is
    r + gamma V(s') - V(s), both values as recorded during the sweep (MAVEN's copy of PyMARL). That code puts V in
    the place of r at the last column of a batch; here the last step is treated like any other.
    """

    Config: ClassVar = IACConfig

    @property
    def _critic(self) -> MLP:
        return MLP((*self.config.critic_hidden, 1))

    def _init_critic(self, key: jax.Array) -> dict[str, Params]:
        return {"critic": self._critic.init(key, jnp.zeros((self.critic_inputs.team_size,)))}

    def _values(self, params: Params, inputs: jax.Array) -> jax.Array:
        value: jax.Array = self._critic.apply(params, inputs)  # type: ignore[assignment]
        return value[..., 0]

    def _sweep(
        self,
        state: ActorCriticState,
        batch: EpisodeBatch,
        probs: Float[Array, "T+1 B N A"],
        key: jax.Array,
    ) -> tuple[CriticSweep, Float[Array, "T B N"], Metrics]:
        del probs, key
        sweep, advantage, fit = sweep_state_value(
            self._values,
            state,
            self.critic_optimizer,
            self.critic_inputs.team(batch),
            batch.reward.mean(-1),
            self.config.gamma * batch.discount.mean(-1),
            batch.valid.astype(batch.reward.dtype),
            self.config.td_lambda,
        )
        return sweep, jnp.broadcast_to(advantage[..., None], batch.reward.shape), fit
