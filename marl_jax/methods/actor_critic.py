"""What the on-policy methods on PyMARL's substrate share: IAC, Central-V, COMA, LICA and LIIR as its paper has it.

That is the actor (a recurrent or feed-forward network with a floor under its exploration), the way the critic is
trained (one optimiser step per time step, backwards through the episodes) and the policy-gradient step. They differ in
what the critic sees and in the advantage.

Sources: PyMARL `coma_learner.py`; MAVEN's copy of PyMARL, `actor_critic_learner.py`.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from envs.base import Observation
from envs.configuration import Range
from marl_jax.distributions import floored_categorical, greedy_action, masked_categorical
from marl_jax.lengths import longest_of, scan_back
from marl_jax.losses import (
    lambda_returns,
    masked_mean,
    normalise,
    policy_gradient_loss,
)
from marl_jax.methods.critic_inputs import CriticInputs
from marl_jax.methods.diagnostics import critic_fit, intrinsic_ratio
from marl_jax.methods.part import OWN
from marl_jax.methods.team import (
    AgentMemory,
    NotNegative,
    Positive,
    TeamConfig,
    TeamMethod,
    Unit,
)
from marl_jax.networks import Params
from marl_jax.optimizers import OptimizerName, make_optimizer
from marl_jax.schedules import linear
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig(TeamConfig):
    """What IAC, Central-V, COMA and LIIR have in common; defaults are LIIR's own (LIIR 5.2.1, `liir_smac.yaml`).

    The exploration rate is the weight of the uniform law in the policy.
    """

    num_envs: Annotated[int, Range(minimum=1)] = 32
    """Environments played side by side; every iteration learns once from one episode of each."""
    epsilon_start: Annotated[float, Unit] = 0.5
    """Exploration rate at the start."""
    epsilon_finish: Annotated[float, Unit] = 0.01
    """Exploration rate in the end."""
    epsilon_anneal_steps: Annotated[int, Range(minimum=1)] = 50_000
    """Environment steps over which it falls linearly."""
    critic_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (128, 128)
    """Units of the critic's hidden layers."""
    gamma: Annotated[float, Unit] = 0.99
    """Discount factor."""
    td_lambda: Annotated[float, Unit] = 0.8
    """Lambda of the critic's TD(lambda) targets."""
    target_update_interval: Annotated[int, Range(minimum=1)] = 200
    """Critic steps (one per time step of a batch) after which the target critic is copied; looked at once a batch."""
    target_update_rate: Annotated[float, Unit] = 0.0
    """Above 0: after every batch the target critic goes this part of the way to the critic, in place of being copied
    now and then; 1 copies it after every batch."""
    optimizer: OptimizerName = "rmsprop"
    """Optimiser of every parameter group; rmsprop is PyTorch's with decay 0.99 and eps 1e-5."""
    actor_lr: Annotated[float, Positive] = 5e-4
    """Learning rate of the actor."""
    critic_lr: Annotated[float, Positive] = 5e-4
    """Learning rate of the critic."""
    max_grad_norm: Annotated[float, NotNegative] = 10.0
    """Global norm to which the gradients of actor and critic are clipped; 0 for never."""
    mask_before_softmax: bool = False
    """Whether unavailable actions are removed before the softmax or after it."""
    normalise_advantage: bool = False
    """Whether advantages are scaled to mean 0 and deviation 1 over the batch."""
    entropy_weight: Annotated[float, NotNegative] = 0.0
    """Weight of the policy's entropy in the actor's loss at the start; the papers have none. The entropy is that of the
    policy itself, without exploration floor."""
    entropy_weight_final: Annotated[float, NotNegative] = 0.0
    """Weight of the policy's entropy in the end."""
    entropy_anneal_steps: Annotated[int, Range(minimum=1)] = 1_000_000
    """Environment steps over which the weight of the entropy changes linearly."""


class ActorCriticState(NamedTuple):
    """All that an actor-critic learner learns and counts.

    Attributes:
        params: parameters by group ("actor", "critic", ...).
        target_critic: the critic's delayed copy.
        optimizer: optimiser states by group.
        critic_steps: critic steps since the target was copied.
        env_steps: environment steps learned from, which drives the exploration schedule.
        parts: what each part learns and counts by itself.
    """

    params: dict[str, Params]
    target_critic: Params
    optimizer: dict[str, optax.OptState]
    critic_steps: Int[Array, ""]
    env_steps: Int[Array, ""]
    parts: tuple[Any, ...] = ()


class FreshEpisodes(NamedTuple):
    """An iteration's episodes, as parts that pay for them see them.

    Attributes:
        batch: the episodes.
        alive: 1 on the steps of episodes where an agent lives.
    """

    batch: EpisodeBatch
    alive: Float[Array, "T B N"]


class Taught(NamedTuple):
    """What a part learns from once the policies have learned.

    Attributes:
        experience: the episodes.
        key: a random key.
    """

    experience: FreshEpisodes
    key: jax.Array


class CriticSweep(NamedTuple):
    """What a sweep through the episodes leaves behind.

    Attributes:
        params: the critic after it.
        optimizer: its optimiser after it.
        num_steps: optimiser steps taken.
        values: the critic's predictions for each step, made just before it learned from that step.
        loss: mean loss over the steps.
        grad_norm: mean norm of the gradients over the steps, before they are clipped.
    """

    params: Params
    optimizer: optax.OptState
    num_steps: Int[Array, ""]
    values: Any
    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]


def sweep_critic(
    loss_fn: Callable[[Params, Any], tuple[jax.Array, Any]],
    params: Params,
    optimizer: optax.GradientTransformation,
    optimizer_state: optax.OptState,
    steps: Any,
    step_mask: Float[Array, " T"],
) -> CriticSweep:
    """Trains a critic backwards in time, one optimiser step per time step, as PyMARL's COMA does.

    Args:
        loss_fn: maps parameters and one time step of `steps` to a loss and the predictions for that step.
        params: the critic.
        optimizer: its optimiser.
        optimizer_state: and its state.
        steps: a tree of arrays with a leading time axis T.
        step_mask: [T], 0 for a time step that no episode reaches; the critic takes no step there. After the last that
            one reaches there are zeros in the place of its predictions.
    """

    def step(carry: Any, inputs: Any) -> Any:
        params, optimizer_state = carry
        inputs, active = inputs
        (loss, values), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, inputs)

        updates, next_state = optimizer.update(grads, optimizer_state, params)
        learned = (optax.apply_updates(params, updates), next_state)
        # Not a `cond`: the mask is data, and `vmap` over seeds would turn one into this anyway.
        carry = jax.tree.map(
            lambda new, old: jnp.where(active > 0, new, old), learned, (params, optimizer_state)
        )
        return carry, (loss, optax.tree.norm(grads), values)

    (params, optimizer_state), (losses, norms, values) = scan_back(
        step, (params, optimizer_state), (steps, step_mask), longest_of(step_mask > 0)
    )
    num_steps = jnp.sum(step_mask).astype(jnp.int32)
    loss, norm = masked_mean(losses, step_mask), masked_mean(norms, step_mask)
    return CriticSweep(params, optimizer_state, num_steps, values, loss, norm)


@dataclasses.dataclass(frozen=True)
class ActorCritic(TeamMethod):
    """Base of the family: acting, the policy-gradient step, the target critic."""

    Config: ClassVar[type[ActorCriticConfig]]

    def _optimizer(self, learning_rate: float) -> optax.GradientTransformation:
        return make_optimizer(self.config.optimizer, learning_rate, self.config.max_grad_norm)

    @property
    def actor_optimizer(self) -> optax.GradientTransformation:
        """Optimiser of the actor."""
        return self._optimizer(self.config.actor_lr)

    @property
    def critic_optimizer(self) -> optax.GradientTransformation:
        """Optimiser of the critic."""
        return self._optimizer(self.config.critic_lr)

    @property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        """The optimiser of each parameter group."""
        return {"actor": self.actor_optimizer, "critic": self.critic_optimizer}

    # What a member of the family defines.

    @abc.abstractmethod
    def _init_critic(self, key: jax.Array) -> dict[str, Params]:
        """Draws the parameters of every group but the actor's."""

    @abc.abstractmethod
    def _learn(
        self, state: ActorCriticState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[ActorCriticState, Metrics]:
        """Learns from B fresh episodes."""

    # The method's contract.

    def update(
        self, state: ActorCriticState, fresh: EpisodeBatch, replay: Any, key: jax.Array
    ) -> tuple[ActorCriticState, Metrics]:
        """Learns from B fresh episodes."""
        del replay
        return self._learn(state, fresh, key)

    def init(self, key: jax.Array) -> ActorCriticState:
        """Draws the parameters."""
        actor_key, critic_key = jax.random.split(key)
        params = {
            "actor": self.agent.init(actor_key, self.agent_input_size),
            **self._init_critic(critic_key),
        }
        optimizer = {group: self._optimizers[group].init(tree) for group, tree in params.items()}
        zero = jnp.zeros((), jnp.int32)
        # The target is a copy, not the same buffers: the training loop donates both.
        target = jax.tree.map(jnp.copy, self._target_source(params))
        return ActorCriticState(params, target, optimizer, zero, zero)

    def act(
        self,
        state: ActorCriticState,
        memory: AgentMemory,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[AgentMemory, jax.Array, tuple[()]]:
        """Samples from the floored policy, or takes the most probable action."""
        x = self.agent_inputs(observation.agents_view, memory.last_action)
        hidden, logits = self.agent.step(state.params["actor"], memory.hidden, x)
        if explore:
            policy = floored_categorical(
                logits,
                observation.action_mask,
                self.epsilon(state),
                self.config.mask_before_softmax,
            )
            action = policy.sample(seed=key).astype(jnp.int32)
        else:
            action = greedy_action(logits, observation.action_mask)
        last_action = jax.nn.one_hot(action, self.sizes.num_actions)
        return AgentMemory(hidden, last_action), action, ()

    # Parts that the members share.

    @property
    def critic_inputs(self) -> CriticInputs:
        """What critics can see."""
        c = self.config
        return CriticInputs(self.sizes, c.observe_last_action, c.observe_identity)

    def _agent_mask(self, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """1 where an agent lives and can choose: an agent with one legal action has nothing to learn."""
        chooses = batch.alive[:-1] & (jnp.sum(batch.action_mask[:-1], axis=-1) > 1)
        return (batch.valid[..., None] & chooses).astype(batch.reward.dtype)

    def _probs(
        self, logits: Float[Array, "T B N A"], mask: jax.Array, epsilon: jax.Array
    ) -> Float[Array, "T B N A"]:
        return floored_categorical(logits, mask, epsilon, self.config.mask_before_softmax).probs

    def _log_prob(
        self, logits: Float[Array, "T B N A"], batch: EpisodeBatch, epsilon: jax.Array
    ) -> Float[Array, "T B N"]:
        """Log-probability of the actions taken; 0 in padding."""
        probs = self._probs(logits, batch.action_mask[:-1], epsilon)
        one_hot = jax.nn.one_hot(batch.action, self.sizes.num_actions, dtype=probs.dtype)
        taken = jnp.sum(probs * one_hot, axis=-1)
        # Padding may hold anything, an unavailable action included, and 0 times log 0 is no number.
        return jnp.log(jnp.where(batch.valid[..., None], taken, 1.0))

    def _entropy(
        self, logits: Float[Array, "T B N A"], batch: EpisodeBatch, mask: Float[Array, "T B N"]
    ) -> Float[Array, ""]:
        """Mean entropy of the policy itself, without exploration floor."""
        policy = masked_categorical(logits, batch.action_mask[:-1])
        return masked_mean(policy.entropy(), mask)

    def entropy_weight(self, state: ActorCriticState) -> Float[Array, ""]:
        """Weight of the entropy after `state.env_steps` environment steps."""
        c = self.config
        return linear(
            c.entropy_weight, c.entropy_weight_final, 0, c.entropy_anneal_steps, state.env_steps
        )

    def _actor_loss(
        self,
        logits: Float[Array, "T+1 B N A"],
        state: ActorCriticState,
        batch: EpisodeBatch,
        advantage: Float[Array, "T B N"],
    ) -> Float[Array, ""]:
        """What the actor descends: the policy-gradient loss minus its weighted entropy."""
        logits, mask = logits[:-1], self._agent_mask(batch)
        log_prob = self._log_prob(logits, batch, self.epsilon(state))
        bonus = self.entropy_weight(state) * self._entropy(logits, batch, mask)
        return policy_gradient_loss(log_prob, advantage, mask) - bonus

    def _target_source(self, params: dict[str, Params]) -> Params:
        """What the target critic is a copy of."""
        return params["critic"]

    def _refresh_target(
        self, state: ActorCriticState, params: dict[str, Params], num_steps: Int[Array, ""]
    ) -> tuple[Params, Int[Array, ""]]:
        """The target critic and its counter after an update with so many critic steps."""
        source, rate = self._target_source(params), self.config.target_update_rate
        if rate > 0:
            tracking = optax.incremental_update(source, state.target_critic, rate)
            return tracking, jnp.zeros_like(num_steps)
        steps = state.critic_steps + num_steps
        due = steps >= self.config.target_update_interval
        target = jax.tree.map(
            lambda new, old: jnp.where(due, new, old), source, state.target_critic
        )
        return target, jnp.where(due, 0, steps)

    def _finish(
        self,
        state: ActorCriticState,
        batch: EpisodeBatch,
        sweep: CriticSweep,
        params: dict[str, Params],
        optimizer: dict[str, optax.OptState],
    ) -> ActorCriticState:
        """The state after an update."""
        target, critic_steps = self._refresh_target(state, params, sweep.num_steps)
        env_steps = state.env_steps + jnp.sum(batch.valid, dtype=jnp.int32)
        return ActorCriticState(params, target, optimizer, critic_steps, env_steps)


@dataclasses.dataclass(frozen=True)
class BaselineMethod(ActorCritic):
    """A member whose update is: sweep the critic, then one policy-gradient step on an advantage.

    Parts pay its agents, and learn after them.
    """

    hooks: ClassVar = ("rewards",)

    def init(self, key: jax.Array) -> ActorCriticState:
        """Draws the parameters."""
        _, parts, _ = self.init_parts(key)
        return super().init(key)._replace(parts=parts)

    def update(
        self, state: ActorCriticState, fresh: EpisodeBatch, replay: Any, key: jax.Array
    ) -> tuple[ActorCriticState, Metrics]:
        """Learns from B fresh episodes, whose rewards are what the parts make of the task's."""
        del replay
        alive = (fresh.valid[..., None] & fresh.alive[:-1]).astype(fresh.reward.dtype)
        experience = FreshEpisodes(fresh, alive)
        parts, paid = self.pay(state.parts, experience, state.env_steps)
        earned = fresh._replace(reward=paid.reward)
        after, metrics = self._learn(state, earned, key, paid.bonus)
        parts, taught = self.teach(parts, Taught(experience, jax.random.fold_in(key, OWN)))
        return after._replace(parts=parts), {**metrics, **paid.metrics, **taught}

    @abc.abstractmethod
    def _sweep(
        self,
        state: ActorCriticState,
        batch: EpisodeBatch,
        probs: Float[Array, "T+1 B N A"],
        key: jax.Array,
    ) -> tuple[CriticSweep, Float[Array, "T B N"], Metrics]:
        """Trains the critic; returns it, the advantage of the actions taken, and the critic's fit to the returns."""

    def _learn(
        self,
        state: ActorCriticState,
        batch: EpisodeBatch,
        key: jax.Array,
        bonus: Float[Array, "T B N"] | None = None,
    ) -> tuple[ActorCriticState, Metrics]:
        """One sweep of the critic and one step of the actor; `bonus` is what of the rewards is the parts'."""
        params, optimizer = dict(state.params), dict(state.optimizer)
        epsilon, mask = self.epsilon(state), self._agent_mask(batch)

        # One forward pass serves the policy's probabilities and, through `backward`, its gradient.
        inputs = self.agent_inputs(batch.observation, batch.last_action)
        logits, backward = jax.vjp(lambda p: self.agent.unroll(p, inputs)[1], params["actor"])
        probs = self._probs(logits, batch.action_mask, epsilon)

        sweep, advantage, fit = self._sweep(state, batch, probs, key)
        params["critic"], optimizer["critic"] = sweep.params, sweep.optimizer
        if bonus is not None:
            fit = {**fit, "intrinsic_ratio": intrinsic_ratio(bonus, advantage, mask)}
        if self.config.normalise_advantage:
            advantage = normalise(advantage, mask)

        loss, grad_logits = jax.value_and_grad(self._actor_loss)(logits, state, batch, advantage)
        (grads,) = backward(grad_logits)
        updates, optimizer["actor"] = self.actor_optimizer.update(
            grads, optimizer["actor"], params["actor"]
        )
        params["actor"] = optax.apply_updates(params["actor"], updates)
        metrics = {
            "actor_loss": loss,
            "actor_grad_norm": optax.tree.norm(grads),
            "critic_loss": sweep.loss,
            "critic_grad_norm": sweep.grad_norm,
            **fit,
            "entropy": self._entropy(logits[:-1], batch, mask),
            "entropy_weight": self.entropy_weight(state),
            "epsilon": epsilon,
        }
        return self._finish(state, batch, sweep, params, optimizer), metrics


def sweep_state_value(
    value_fn: Callable[[Params, jax.Array], jax.Array],
    state: ActorCriticState,
    optimizer: optax.GradientTransformation,
    inputs: Float[Array, "T+1 *batch I"],
    reward: Float[Array, "T *batch"],
    discount: Float[Array, "T *batch"],
    valid: Float[Array, "T *batch"],
    td_lambda: float,
) -> tuple[CriticSweep, Float[Array, "T *batch"], Metrics]:
    """Trains a state-value critic on TD(lambda) targets of its target copy.

    Returns:
        The sweep; the one-step advantage r + d V(s') - V(s) from the values that the sweep recorded; and how well these
        fit the discounted returns, which bootstrap at a time limit alone.
    """
    target_values = value_fn(state.target_critic, inputs)
    returns = lambda_returns(reward, discount, target_values[1:], 1.0)
    targets = lambda_returns(reward, discount, target_values[1:], td_lambda)

    def loss_fn(params: Params, step: Any) -> tuple[jax.Array, jax.Array]:
        x, target, mask = step
        value = value_fn(params, x)
        return masked_mean((value - target) ** 2, mask), value

    critic = state.params["critic"]
    final_value = value_fn(critic, inputs[-1])
    step_mask = jnp.max(valid.reshape(valid.shape[0], -1), axis=-1)
    sweep = sweep_critic(
        loss_fn,
        critic,
        optimizer,
        state.optimizer["critic"],
        (inputs[:-1], targets, valid),
        step_mask,
    )
    next_values = jnp.concatenate([sweep.values[1:], final_value[None]])
    advantage = reward + discount * next_values - sweep.values
    return sweep, advantage, critic_fit(sweep.values, returns, valid)


def append_final_action(
    batch: EpisodeBatch, probs: Float[Array, "T+1 B N A"], key: jax.Array
) -> Int[Array, "T+1 B N"]:
    """The actions taken, and one more drawn from the policy at the last observation, which critics of actions
    need there to bootstrap past a time limit (PyMARL's runner draws it too)."""
    final = jax.random.categorical(key, jnp.log(jnp.where(probs[-1] > 0, probs[-1], 1e-30)))
    return jnp.concatenate([batch.action, final[None].astype(batch.action.dtype)])
