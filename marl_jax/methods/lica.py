"""LICA: agents that climb a central critic of their joint policy.

Paper: Zhou, Liu, Sui, Li and Chung 2020, "Learning Implicit Credit Assignment for Cooperative Multi-Agent
Reinforcement Learning". Authors' code: github.com/mzho7212/LICA; pymarl2, `lica_learner.py`, `critics/lica.py`.
"""

import dataclasses
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from envs.configuration import Range
from marl_jax.losses import constant_entropy_bonus, lambda_returns, masked_mean
from marl_jax.methods.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    ActorCriticState,
    append_final_action,
)
from marl_jax.methods.diagnostics import critic_fit
from marl_jax.methods.team import NotNegative, Positive, Unit
from marl_jax.networks import JointPolicyCritic, Params
from marl_jax.optimizers import OptimizerName
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class LICAConfig(ActorCriticConfig):
    """Hyper-parameters of LICA; defaults are the authors' `lica.yaml` unless said otherwise."""

    epsilon_start: Annotated[float, Unit] = 0.0
    """Share of random actions at the start; LICA draws from its policies as they are."""
    epsilon_finish: Annotated[float, Unit] = 0.0
    """Share of random actions in the end."""
    mask_before_softmax: bool = True
    """Whether unavailable actions are removed before the softmax or after it."""
    normalise_advantage: Literal[False] = False
    """Not possible: there is no advantage."""
    critic_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (64,)
    """Units of the hidden layers of the networks that make the critic's weights from the state. 64 is pymarl2's; the
    authors have 64 for every action of every agent, which is billions of weights for 27 agents with 36 actions."""
    mixer_size: Annotated[int, Range(minimum=1)] = 64
    """Units of the critic's own hidden layer."""
    target_update_interval: Annotated[int, Range(minimum=1)] = 20
    """Critic steps (one an iteration) after which the target critic is copied; our choice, the authors have 200."""
    optimizer: OptimizerName = "adam"
    """Optimiser of every parameter group; rmsprop is PyTorch's with decay 0.99 and eps 1e-5."""
    actor_lr: Annotated[float, Positive] = 2.5e-3
    """Learning rate of the actor."""
    entropy_weight: Annotated[float, NotNegative] = 0.06
    """What the entropy's bonus is worth at the start, however large the entropy. The authors have 0.11 in `lica.yaml`,
    0.06 for most maps and 0.03 for 3s5z_vs_3s6z; pymarl2 has 0.06."""
    entropy_weight_final: Annotated[float, NotNegative] = 0.06
    """The same in the end; the authors' does not change."""


@dataclasses.dataclass(frozen=True)
class LICA(ActorCritic):
    """LICA (Zhou et al. 2020): one critic of all agents' action probabilities, whose slope is what each agent climbs.

    The critic learns the value of the actions taken; the agents then go up its slope at their own probabilities, all at
    once. Nobody's credit is worked out. The bonus for entropy keeps its size, so that it pushes the harder, the less
    entropy there is.
    """

    Config: ClassVar = LICAConfig
    takes_no_parts: ClassVar = (
        "its agents climb one critic of the team, which has no place for what each is paid"
    )

    @property
    def _critic(self) -> JointPolicyCritic:
        return JointPolicyCritic(self.config.mixer_size, self.config.critic_hidden)

    def _init_critic(self, key: jax.Array) -> dict[str, Params]:
        s = self.sizes
        actions = jnp.zeros((s.num_agents, s.num_actions))
        return {"critic": self._critic.init(key, actions, jnp.zeros((s.global_state,)))}

    def _value(
        self,
        params: Params,
        actions: Float[Array, "*batch N A"],
        global_state: Float[Array, "*batch G"],
    ) -> Float[Array, "*batch"]:
        value: jax.Array = self._critic.apply(params, actions, global_state)  # type: ignore[assignment]
        return value

    def _critic_loss(
        self,
        params: Params,
        state: ActorCriticState,
        batch: EpisodeBatch,
        probs: Float[Array, "T+1 B N A"],
        key: jax.Array,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Mean squared error of the actions taken to their TD(lambda) returns, and how well they fit the returns."""
        taken = self.one_hot(append_final_action(batch, probs, key))
        ahead = self._value(state.target_critic, taken, batch.global_state)
        reward, discount = batch.reward.mean(-1), self.config.gamma * batch.discount.mean(-1)
        targets = lambda_returns(reward, discount, ahead[1:], self.config.td_lambda)
        value = self._value(params, taken[:-1], batch.global_state[:-1])
        mask = batch.valid.astype(reward.dtype)
        fit = critic_fit(value, lambda_returns(reward, discount, ahead[1:], 1.0), mask)
        return masked_mean((value - jax.lax.stop_gradient(targets)) ** 2, mask), fit

    def _team_loss(
        self,
        logits: Float[Array, "T+1 B N A"],
        critic: Params,
        state: ActorCriticState,
        batch: EpisodeBatch,
    ) -> Float[Array, ""]:
        """What all agents descend: minus the critic's value of their policies, minus the entropy's bonus.

        As in the authors' code the entropy is the mean over all agents; those with one legal action have none.
        """
        probs = self._probs(logits[:-1], batch.action_mask[:-1], self.epsilon(state))
        mask = batch.valid.astype(batch.reward.dtype)
        value = masked_mean(self._value(critic, probs, batch.global_state[:-1]), mask)
        everyone = jnp.broadcast_to(mask[..., None], batch.reward.shape)
        entropy = self._entropy(logits[:-1], batch, everyone)
        return -value - self.entropy_weight(state) * constant_entropy_bonus(entropy)

    def _learn(
        self, state: ActorCriticState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[ActorCriticState, Metrics]:
        """One step of the critic, then one of all agents."""
        inputs = self.agent_inputs(batch.observation, batch.last_action)
        logits, backward = jax.vjp(lambda p: self.agent.unroll(p, inputs)[1], state.params["actor"])
        probs = self._probs(logits, batch.action_mask, self.epsilon(state))

        loss_and_grad = jax.value_and_grad(self._critic_loss, has_aux=True)
        (critic_loss, fit), of_critic = loss_and_grad(
            state.params["critic"], state, batch, probs, key
        )
        params, optimizer = self._step(state, "critic", of_critic)
        loss, grad_logits = jax.value_and_grad(self._team_loss)(
            logits, params["critic"], state, batch
        )
        (of_actor,) = backward(grad_logits)
        learned = state._replace(params=params, optimizer=optimizer)
        params, optimizer = self._step(learned, "actor", of_actor)
        metrics = {
            "actor_loss": loss,
            "actor_grad_norm": optax.tree.norm(of_actor),
            "critic_loss": critic_loss,
            "critic_grad_norm": optax.tree.norm(of_critic),
            **fit,
            "entropy": self._entropy(logits[:-1], batch, self._agent_mask(batch)),
            "entropy_weight": self.entropy_weight(state),
            "epsilon": self.epsilon(state),
        }
        target, steps = self._refresh_target(state, params, jnp.ones((), jnp.int32))
        env_steps = state.env_steps + jnp.sum(batch.valid, dtype=jnp.int32)
        return ActorCriticState(params, target, optimizer, steps, env_steps), metrics

    def _step(
        self, state: ActorCriticState, group: str, grads: Params
    ) -> tuple[dict[str, Params], dict[str, optax.OptState]]:
        """Parameters and optimisers after one optimiser step of one group."""
        old = state.params[group]
        updates, optimizer = self._optimizers[group].update(grads, state.optimizer[group], old)
        learned = {**state.params, group: optax.apply_updates(old, updates)}
        return learned, {**state.optimizer, group: optimizer}
