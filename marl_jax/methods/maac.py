"""MAAC: soft actor-critic of a team whose critics attend to each other.

Paper: Iqbal and Sha 2019, "Actor-Attention-Critic for Multi-Agent Reinforcement Learning". Authors' code:
github.com/shariqiqbal2810/MAAC.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from envs.base import Observation
from envs.configuration import ConfigurationError, Range
from marl_jax.distributions import greedy_action, masked_categorical
from marl_jax.losses import action_values
from marl_jax.methods.off_policy import OffPolicyConfig, OffPolicyMethod, OffPolicyState
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import AttentionCritic, Params, Sharing
from marl_jax.optimizers import make_optimizer
from marl_jax.replay import ReplayState
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class MAACConfig(OffPolicyConfig):
    """Hyper-parameters of MAAC; defaults are the authors' `main.py` unless said otherwise.

    Their batch normalisation of all inputs is left out: it would scale a bit of a map that is rarely set up to
    300-fold.
    """

    num_envs: Annotated[int, Range(minimum=1)] = 12
    """Environments played side by side, at least: where an iteration, one episode of each, would be shorter than
    update_interval, there are as many as it takes."""
    hidden_size: Annotated[int, Range(minimum=1)] = 128
    """Units of the policies' layers."""
    sharing: Sharing = "independent"
    """Whether agents share parameters or have their own; the attention is one for all."""
    update_interval: Annotated[int, Range(minimum=1)] = 25
    """Environment steps for each gradient step (elsewhere train_frequency), where episodes count with their time limit;
    an iteration's gradient steps are rounded to whole ones. The authors take 4 for 100 steps."""
    critic_weight_decay: Annotated[float, NotNegative] = 1e-3
    """Weight decay of the critics."""
    actor_max_grad_norm: Annotated[float, NotNegative] = 0.5
    """Norm to which each policy's gradient is clipped; 0 for never."""
    critic_max_grad_norm: Annotated[float, NotNegative] = 10.0
    """Norm to which the critics' gradient is clipped, times the number of agents; 0 for never."""
    critic_size: Annotated[int, Range(minimum=1)] = 128
    """Units of the critics' layers, and of all heads of the attention together."""
    attention_heads: Annotated[int, Range(minimum=1)] = 4
    """Heads of the attention."""
    attention_weight: Annotated[float, NotNegative] = 1e-3
    """Weight of the attention's squared logits in the critics' loss."""
    logit_weight: Annotated[float, NotNegative] = 1e-3
    """Weight of the policies' squared logits in their loss."""
    reward_scale: Annotated[float, Positive] = 100.0
    """Inverse of the entropy's weight (temperature); rewards are not multiplied by it."""
    entropy_target: Literal["paper", "authors"] = "paper"
    """paper: the entropy is part of the next step's value, discounted and gone where the episode ends. authors: their
    code adds it undiscounted, at the end too."""
    standardise_rewards: Literal["shift_and_scale", "scale", "no"] = "shift_and_scale"
    """shift_and_scale: each agent's environment reward gets mean 0 and deviation 1 over the whole replay, as in the
    authors' code. Rewards paid at an episode's end only are mostly zeros, and would be small beside the entropy and the
    squared logits. scale: it is divided by its root mean square there, for tasks whose episodes differ in length: a
    shift pays the same for every step. no: it is left as it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic_size % self.attention_heads:
            raise ConfigurationError(
                f"critic_size is {self.critic_size}; it must be a multiple of attention_heads, "
                f"{self.attention_heads}."
            )


class RewardScale(NamedTuple):
    """What each agent's environment reward is standardised by.

    Attributes:
        mean: is taken off.
        scale: is divided by.
    """

    mean: Float[Array, " N"]
    scale: Float[Array, " N"]


class Decision(NamedTuple):
    """What policies say of a batch.

    Attributes:
        logits: the networks' outputs.
        probs: probabilities of the actions.
        action: one drawn from them.
        log_prob: its log-probability.
        entropy: of the probabilities, in nats.
    """

    logits: Float[Array, "B N A"]
    probs: Float[Array, "B N A"]
    action: Int[Array, "B N"]
    log_prob: Float[Array, "B N"]
    entropy: Float[Array, "B N"]


@dataclasses.dataclass(frozen=True)
class MAAC(OffPolicyMethod):
    """MAAC (Iqbal and Sha 2019): off-policy soft actor-critic, each agent's critic attending to the others."""

    Config: ClassVar = MAACConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sizes.num_agents < 2:
            raise ConfigurationError(
                "the task has 1 agent; MAAC needs at least 2, since its critics attend to the other agents."
            )

    @property
    def critic(self) -> AttentionCritic:
        """All agents' critics."""
        c, sizes = self.config, self.sizes
        return AttentionCritic(
            sizes.num_agents, sizes.num_actions, c.critic_size, c.attention_heads, c.sharing
        )

    @property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        c = self.config
        norm = c.critic_max_grad_norm * self.sizes.num_agents
        return {
            "actor": self._per_agent(make_optimizer("adam", c.actor_lr, c.actor_max_grad_norm)),
            "critic": make_optimizer("adam", c.critic_lr, norm, c.critic_weight_decay),
        }

    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        actor_key, critic_key = jax.random.split(key)
        return {
            "actor": self.agent.init(actor_key, self.agent_input_size),
            "critic": self.critic.init(critic_key, self.agent_input_size),
        }

    def _rewards(
        self, state: OffPolicyState, batch: EpisodeBatch, scale: RewardScale
    ) -> Float[Array, "B N"]:
        """What the critics learn from: the environment's reward, and what the parts pay."""
        return self.paid(state, batch, (batch.reward[0] - scale.mean) / scale.scale)

    # The method's contract.

    def act(
        self,
        state: OffPolicyState,
        memory: Any,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[Any, jax.Array, tuple[()]]:
        """Draws from the policies; or takes the most probable actions."""
        view, mask = observation.agents_view, observation.action_mask
        decision = self._decide(state.params["actor"], view, mask, key)
        action = decision.action if explore else greedy_action(decision.logits, mask)
        return memory, action, ()

    def _begin(
        self, state: OffPolicyState, fresh: EpisodeBatch, replay: ReplayState
    ) -> tuple[OffPolicyState, RewardScale]:
        """Goes through the whole replay, so not at every gradient step."""
        del fresh
        return state, self._reward_scale(replay)

    # Parts.

    def _reward_scale(self, replay: ReplayState) -> RewardScale:
        """Of everything stored; 0 or 1 for what is not done to rewards."""
        stored, valid = replay.rows.reward, self.replay.steps(replay)[:, None]
        zero = jnp.zeros(stored.shape[-1])
        if self.config.standardise_rewards == "no":
            return RewardScale(zero, zero + 1.0)
        count = jnp.maximum(jnp.sum(valid), 1)
        mean = jnp.sum(stored * valid, axis=0) / count
        shift = mean if self.config.standardise_rewards == "shift_and_scale" else zero
        square = jnp.sum((stored - shift) ** 2 * valid, axis=0) / count
        return RewardScale(shift, jnp.sqrt(jnp.maximum(square, 1e-8)))

    def _step(
        self, state: OffPolicyState, context: RewardScale, replay: ReplayState, key: jax.Array
    ) -> tuple[OffPolicyState, Metrics]:
        """One gradient step of critics, then of policies, and the targets after them."""
        part_key, sample_key, critic_key, actor_key = jax.random.split(key, 4)
        state, metrics = self.teach_parts(state, replay, part_key)
        batch = self._sample(replay, sample_key)
        reward = self._rewards(state, batch, context)
        grad = jax.grad(self._critic_loss, has_aux=True)
        grads, of_critic = grad(state.params["critic"], state, batch, reward, critic_key)
        # The attention serves all agents, and gets the mean of what they ask of it (`critics.py`).
        shared = jax.tree.map(lambda x: x / self.sizes.num_agents, grads["attention"])
        state = self._apply(state, "critic", {**grads, "attention": shared})
        state, of_actor = self._descend(state, "actor", self._actor_loss, state, batch, actor_key)
        return self._follow(state), {**metrics, **of_critic, **of_actor}

    def _decide(
        self,
        params: Params,
        observation: Float[Array, "B N F"],
        action_mask: Bool[Array, "B N A"],
        key: jax.Array,
    ) -> Decision:
        memory = self.agent.initial_memory(observation.shape[0])
        _, logits = self.agent.step(params, memory, self._inputs(observation))
        policy = masked_categorical(logits, action_mask)
        action = policy.sample(seed=key)
        return Decision(logits, policy.probs, action, policy.log_prob(action), policy.entropy())

    def _critic_loss(
        self,
        params: Params,
        state: OffPolicyState,
        batch: EpisodeBatch,
        reward: Float[Array, "B N"],
        key: jax.Array,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Sum over agents of the mean squared error to the soft one-step target; MAAC Eq. 7."""
        c, target = self.config, state.target
        now, then = batch.observation
        decision = self._decide(target["actor"], then, batch.action_mask[1], key)
        ahead, _ = self.critic.apply(
            target["critic"], self._inputs(then), self.one_hot(decision.action)
        )
        next_q = action_values(ahead, decision.action)
        entropy = -decision.log_prob / c.reward_scale
        discount = c.gamma * batch.discount[0]
        if c.entropy_target == "paper":
            y = reward + discount * (next_q + entropy)
        else:
            y = reward + discount * next_q + entropy
        action = batch.action[0]
        values, squared = self.critic.apply(params, self._inputs(now), self.one_hot(action))
        error = action_values(values, action) - jax.lax.stop_gradient(y)
        td = jnp.sum(jnp.mean(error**2, axis=0))
        attention = c.attention_weight * jnp.sum(jnp.mean(squared, axis=0))
        metrics = {"critic_loss": td, "attention_loss": attention, "value": next_q.mean()}
        return td + attention, metrics

    def _actor_loss(
        self, params: Params, state: OffPolicyState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, ""], Metrics]:
        """Over agents, the soft policy gradient with the counterfactual baseline; MAAC Eq. 8 and 9."""
        c = self.config
        decision = self._decide(params, batch.observation[0], batch.action_mask[0], key)
        values, _ = self.critic.apply(
            state.params["critic"],
            self._inputs(batch.observation[0]),
            self.one_hot(decision.action),
        )
        baseline = jnp.sum(decision.probs * values, axis=-1)
        advantage = action_values(values, decision.action) - baseline
        weight = jax.lax.stop_gradient(decision.log_prob / c.reward_scale - advantage)
        gradient = jnp.mean(decision.log_prob * weight, axis=0)
        logits = c.logit_weight * jnp.mean(decision.logits**2, axis=(0, 2))
        return self.over_agents(gradient + logits), {"entropy": decision.entropy.mean()}
