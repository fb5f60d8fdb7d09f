"""COMA on PyMARL's substrate. Source: PyMARL `coma_learner.py`, `critics/coma.py`."""

import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from envs.configuration import Range
from marl_jax.losses import counterfactual_advantage, lambda_returns, masked_mean
from marl_jax.methods.actor_critic import (
    ActorCriticConfig,
    ActorCriticState,
    BaselineMethod,
    CriticSweep,
    append_final_action,
    sweep_critic,
)
from marl_jax.methods.diagnostics import critic_fit
from marl_jax.networks import MLP, Params
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class COMAConfig(ActorCriticConfig):
    """Hyper-parameters of COMA (PyMARL `coma.yaml`)."""

    num_envs: Annotated[int, Range(minimum=1)] = 8
    """Environments played side by side; every iteration learns once from one episode of each."""
    observe_last_action: bool = True
    """Whether an agent sees its own last action; the critic sees everybody's in any case (PyMARL's code)."""
    observe_identity: bool = True
    """Whether an agent sees which one it is; the critic sees it in any case (PyMARL's code)."""
    epsilon_anneal_steps: Annotated[int, Range(minimum=1)] = 100_000
    """Environment steps over which the exploration floor falls linearly."""


@dataclasses.dataclass(frozen=True)
class COMA(BaselineMethod):
    """Counterfactual multi-agent policy gradients (Foerster et al. 2018), as in PyMARL.

    The critic gives each agent the value of each of its actions, with the others' actions fixed; the advantage
    compares the action taken with the policy's mean (Eq. 4).
    """

    Config: ClassVar = COMAConfig

    @property
    def _critic(self) -> MLP:
        return MLP((*self.config.critic_hidden, self.sizes.num_actions))

    def _init_critic(self, key: jax.Array) -> dict[str, Params]:
        size = self.critic_inputs.joint_size
        return {"critic": self.init_network(self._critic, size, key)}

    def _q_values(self, params: Params, inputs: jax.Array) -> jax.Array:
        return self.apply_network(self._critic, params, inputs)

    def _sweep(
        self,
        state: ActorCriticState,
        batch: EpisodeBatch,
        probs: Float[Array, "T+1 B N A"],
        key: jax.Array,
    ) -> tuple[CriticSweep, Float[Array, "T B N"], Metrics]:
        action = append_final_action(batch, probs, key)
        inputs = self.critic_inputs.joint(batch, action)
        taken = jax.nn.one_hot(action, self.sizes.num_actions)
        target_values = jnp.sum(self._q_values(state.target_critic, inputs) * taken, axis=-1)
        discount = self.config.gamma * batch.discount
        targets = lambda_returns(batch.reward, discount, target_values[1:], self.config.td_lambda)
        returns = lambda_returns(batch.reward, discount, target_values[1:], 1.0)
        valid = jnp.broadcast_to(batch.valid[..., None], batch.reward.shape)
        valid = valid.astype(batch.reward.dtype)

        def loss_fn(params: Params, step: Any) -> tuple[jax.Array, jax.Array]:
            x, taken, target, mask = step
            q_values = self._q_values(params, x)
            chosen = jnp.sum(q_values * taken, axis=-1)
            return masked_mean((chosen - target) ** 2, mask), q_values

        sweep = sweep_critic(
            loss_fn,
            state.params["critic"],
            self.critic_optimizer,
            state.optimizer["critic"],
            (inputs[:-1], taken[:-1], targets, valid),
            jnp.max(batch.valid, axis=-1).astype(batch.reward.dtype),
        )
        chosen = jnp.sum(sweep.values * taken[:-1], axis=-1)
        advantage = counterfactual_advantage(sweep.values, probs[:-1], batch.action)
        return sweep, advantage, critic_fit(chosen, returns, valid)
