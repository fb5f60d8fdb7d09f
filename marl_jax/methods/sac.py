"""SAC on continuous actions, for every agent by itself.

Papers: Haarnoja et al. 2018, "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with a
Stochastic Actor"; Haarnoja et al. 2018b, "Soft Actor-Critic Algorithms and Applications", which learns the temperature.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from envs.base import Observation
from envs.configuration import Range
from marl_jax.distributions import ContinuousPolicy
from marl_jax.losses import masked_mean, one_step_targets, soft_value, temperature_loss
from marl_jax.methods.maddpg import Critics
from marl_jax.methods.off_policy import (
    OffPolicyConfig,
    OffPolicyMethod,
    OffPolicyState,
    ended_by_death,
    random_at_first,
)
from marl_jax.methods.part import OWN
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import MLP, Initialization, Params
from marl_jax.optimizers import make_optimizer
from marl_jax.replay import ReplayState
from marl_jax.types import EpisodeBatch, Metrics

LOG_DEVIATION = (-20.0, 2.0)
"""Bounds of the policies' second outputs; the authors'."""


@dataclasses.dataclass(frozen=True)
class SACConfig(OffPolicyConfig):
    """Hyper-parameters of SAC; defaults are the second paper's (appendix D) unless said otherwise."""

    hidden_size: Annotated[int, Range(minimum=1)] = 256
    """Units of both hidden layers, of policies and of critics."""
    layer_norm: bool = False
    """Whether hidden layers are normalised before their ReLU."""
    initialization: Initialization = "torch"
    """How weights are drawn."""
    target_update_rate: Annotated[float, Range(above=0, maximum=1)] = 0.005
    """Share of the way that the target critics go after every gradient step."""
    actor_lr: Annotated[float, Positive] = 3e-4
    """Learning rate of the policies (Adam)."""
    critic_lr: Annotated[float, Positive] = 3e-4
    """Learning rate of the critics (Adam)."""
    max_grad_norm: Annotated[float, NotNegative] = 0.0
    """Norm to which the gradient of each agent's policy and critic is clipped; 0 for never."""
    update_interval: Annotated[int, Range(minimum=1)] = 1
    """Environment steps for each gradient step; those of an iteration are taken after its episodes."""
    batch_size: Annotated[int, Range(minimum=1)] = 256
    """Steps drawn for a gradient step; learning starts when there are as many."""
    random_steps: Annotated[int, NotNegative] = 10_000
    """Environment steps at first in which actions are drawn uniformly (OpenAI's Spinning Up)."""
    reward_scale: Annotated[float, Positive] = 1.0
    """Rewards are multiplied by it before anything learns from them."""
    temperature: Annotated[float, Positive] = 1.0
    """What a nat of entropy is worth at the start, in scaled rewards."""
    temperature_lr: Annotated[float, NotNegative] = 3e-4
    """Learning rate of the temperature (Adam), which every agent has for itself; 0 leaves it as it is."""
    target_entropy: Annotated[float, Range(minimum=-1000, maximum=1000)] | None = None
    """Entropy of an agent's actions that the temperature is learned for, in nats; None: minus how many numbers of an
    action have an effect."""


class SoftTransitions(NamedTuple):
    """What is learned from: B single steps.

    Attributes:
        inputs: what agents saw before the step.
        action: what they did.
        used: which numbers of an action had an effect.
        target: the critics' targets.
        alive: 1 where an agent lived.
    """

    inputs: Float[Array, "B N I"]
    action: Float[Array, "B N A"]
    used: Bool[Array, "B N A"]
    target: Float[Array, "B N"]
    alive: Float[Array, "B N"]


@dataclasses.dataclass(frozen=True)
class SAC(OffPolicyMethod):
    """SAC (Haarnoja et al. 2018) on continuous actions: every agent by itself, its temperature learned."""

    Config: ClassVar[type[SACConfig]] = SACConfig
    continuous: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    delayed: ClassVar[tuple[str, ...]] = ("critic",)

    @property
    def _policy_network(self) -> MLP:
        c = self.config
        sizes = (c.hidden_size, c.hidden_size, 2 * self.sizes.num_actions)
        return MLP(sizes, layer_norm=c.layer_norm, initialization=c.initialization)

    @property
    def _critic_network(self) -> Critics:
        c = self.config
        return Critics(c.hidden_size, 2, c.layer_norm, c.initialization)

    @property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        c = self.config
        return {
            "actor": self._per_agent(make_optimizer("adam", c.actor_lr, c.max_grad_norm)),
            "critic": self._per_agent(make_optimizer("adam", c.critic_lr, c.max_grad_norm)),
            "temperature": make_optimizer("adam", c.temperature_lr, 0.0),
        }

    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        actor_key, critic_key = jax.random.split(key)
        size = self.agent_input_size
        start = jnp.full((self.sizes.num_agents,), self.config.temperature)
        return {
            "actor": self.init_network(self._policy_network, size, actor_key),
            "critic": self.init_network(
                self._critic_network, size + self.sizes.num_actions, critic_key
            ),
            "temperature": jnp.log(start),
        }

    def act(
        self,
        state: OffPolicyState,
        memory: Any,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[Any, jax.Array, Any]:
        """Draws from the policies, at first uniformly; or acts greedily."""
        inputs = self._inputs(observation.agents_view)
        policy = self._policy(state.params["actor"], inputs, observation.action_mask)
        if not explore:
            return memory, policy.action(policy.mode()), ()
        action = policy.action(policy.sample_and_log_prob(seed=key)[0])
        return memory, random_at_first(state, self.config.random_steps, action, key), ()

    def _step(
        self, state: OffPolicyState, context: Any, replay: ReplayState, key: jax.Array
    ) -> tuple[OffPolicyState, Metrics]:
        """One gradient step of critics, then of policies and temperatures, and the target critics after them."""
        del context
        sample_key, target_key, actor_key = jax.random.split(key, 3)
        state, taught = self.teach_parts(state, replay, jax.random.fold_in(key, OWN))
        batch = self._transitions(state, self._sample(replay, sample_key), target_key)
        state, of_critic = self._descend(state, "critic", self._critic_loss, batch)
        given = (state, batch, actor_key)
        state, (log_prob, of_actor) = self._descend(state, "actor", self._actor_loss, *given)
        grads = jax.grad(self._temperature_loss)(state.params["temperature"], log_prob, batch)
        state = self._apply(state, "temperature", grads)
        told = {"temperature": jnp.mean(jnp.exp(state.params["temperature"]))}
        return self._follow(state), {**of_critic, **of_actor, **told, **taught}

    def _policy(
        self, params: Params, inputs: Float[Array, "*shape N I"], used: Bool[Array, "*shape N A"]
    ) -> ContinuousPolicy:
        """The policies: squashed normal laws, whose deviations depend on what is seen, too."""
        outputs = self.apply_network(self._policy_network, params, inputs)
        mean, log_deviation = jnp.split(outputs, 2, axis=-1)
        return ContinuousPolicy(mean, jnp.clip(log_deviation, *LOG_DEVIATION), used, True)

    def _values(
        self, params: Params, inputs: Float[Array, "B N I"], action: Float[Array, "B N A"]
    ) -> Float[Array, "B N 2"]:
        """The values of actions to both critics of each agent."""
        seen = jnp.concatenate([inputs, action], axis=-1)
        return self.apply_network(self._critic_network, params, seen)

    def _transitions(
        self, state: OffPolicyState, steps: EpisodeBatch, key: jax.Array
    ) -> SoftTransitions:
        """Single steps with the critics' targets, y = r + d (min Q'(o', u') - alpha log pi(u' | o')); u' is drawn."""
        c, steps = self.config, ended_by_death(steps)
        inputs = self._inputs(steps.observation)
        policy = self._policy(state.params["actor"], inputs[1], steps.action_mask[1])
        drawn, log_prob = policy.sample_and_log_prob(seed=key)
        values = self._values(state.target["critic"], inputs[1], policy.action(drawn)).min(-1)
        after = soft_value(values, log_prob, jnp.exp(state.params["temperature"]))
        reward = self.paid(state, steps, c.reward_scale * steps.reward[0])
        target = one_step_targets(reward, c.gamma * steps.discount[0], after)
        alive = steps.alive[0].astype(target.dtype)
        return SoftTransitions(inputs[0], steps.action[0], steps.action_mask[0], target, alive)

    def _critic_loss(
        self, params: Params, batch: SoftTransitions
    ) -> tuple[Float[Array, ""], Metrics]:
        """The mean squared errors of the agents' critics, halved; Eq. 5 of the second paper."""
        values = self._values(params, batch.inputs, batch.action)
        error = 0.5 * jnp.sum((values - batch.target[..., None]) ** 2, axis=-1)
        loss = self._over_agents(error, batch.alive)
        return loss, {"critic_loss": loss, "value": values.mean()}

    def _actor_loss(
        self, params: Params, state: OffPolicyState, batch: SoftTransitions, key: jax.Array
    ) -> tuple[Float[Array, ""], tuple[Float[Array, "B N"], Metrics]]:
        """Minus the soft value of the agents' own actions, drawn anew; and how likely those are."""
        policy = self._policy(params, batch.inputs, batch.used)
        drawn, log_prob = policy.sample_and_log_prob(seed=key)
        values = self._values(state.params["critic"], batch.inputs, policy.action(drawn)).min(-1)
        worth = soft_value(values, log_prob, jnp.exp(state.params["temperature"]))
        loss = -self._over_agents(worth, batch.alive)
        told = {"actor_loss": loss, "entropy": -masked_mean(log_prob, batch.alive)}
        return loss, (log_prob, told)

    def _temperature_loss(
        self,
        log_temperature: Float[Array, " N"],
        log_prob: Float[Array, "B N"],
        batch: SoftTransitions,
    ) -> Float[Array, ""]:
        """The temperatures' losses."""
        goal = self.config.target_entropy
        wanted = -jnp.sum(batch.used, axis=-1) if goal is None else goal
        return self._over_agents(temperature_loss(log_temperature, log_prob, wanted), batch.alive)

    def _over_agents(self, x: Float[Array, "B N"], alive: Float[Array, "B N"]) -> Float[Array, ""]:
        """The agents' losses as one, of each the mean over the steps at which it lived."""
        return self.over_agents(jax.vmap(masked_mean, -1)(x, alive))
