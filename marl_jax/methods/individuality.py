"""EOI on QMIX: agents are paid for being told apart by what they observe, and DIAYN's reward in its place.

Paper: Jiang and Lu 2021, "The Emergence of Individuality". No code of what it defines was ever published. The authors'
later version (`variant="released"`): github.com/jiechuanjiang/eoi_pymarl, `EOI.py`.
"""

import dataclasses
import functools
import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from envs.base import Observation
from envs.configuration import ConfigurationError, Range
from marl_jax.distributions import greedy_action
from marl_jax.losses import (
    action_values,
    conditional_entropy,
    earlier_steps,
    identity_cross_entropy,
    masked_mean,
    one_step_targets,
    positive_distance,
    td_loss,
)
from marl_jax.methods.team import (
    AgentMemory,
    NotNegative,
    Positive,
    TeamConfig,
    TeamMethod,
    Unit,
)
from marl_jax.methods.value_decomposition import (
    Learning,
    QMIXConfig,
    QMIXMethod,
    ValueState,
)
from marl_jax.networks import (
    MLP,
    GRUAgent,
    MLPAgent,
    Params,
    Sharing,
    TeamAgent,
    apply_per_agent,
    init_per_agent,
)
from marl_jax.optimizers import make_optimizer
from marl_jax.replay import ReplayState
from marl_jax.rows import Rows, by_episode
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class IndividualityConfig(TeamConfig):
    """The classifier and what agents are paid for being told apart.

    The paper's values were never published; these are ours, and so is the classifier's size (that of the authors'
    later code).
    """

    sharing: Sharing = "independent"
    """Whether agents share parameters or have their own, as the paper's do in grid worlds."""
    observe_identity: bool = False
    """Whether an agent sees which one it is. It says nothing new to agents with parameters of their own; agents that
    share them need it. The classifier never sees it."""
    observe_last_action: bool = False
    """Whether an agent sees its own last action."""
    intrinsic_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the intrinsic reward (alpha)."""
    intrinsic_anneal_steps: Annotated[int, NotNegative] = 0
    """Environment steps over which the weight falls linearly to 0 (the paper's large tasks); 0 for never."""
    intrinsic_reward: Literal["probability", "log_ratio"] = "probability"
    """probability: p(i | o_i), EOI's. log_ratio: log p(i | o_i) - log 1/N, DIAYN's with a skill per agent."""
    positive_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the classifier's positive distance (beta 1)."""
    positive_window: Annotated[int, Range(minimum=1)] = 4
    """Steps before an observation from which its positive is drawn (delta-t)."""
    information_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the classifier's mutual information (beta 2)."""
    classifier: Literal["mlp", "gru"] = "mlp"
    """What the classifier sees: the observation, or all observations of the episode up to it through a recurrent
    network of its own (the agents' own hidden states would give away whose parameters made them)."""
    classifier_hidden: Annotated[int, Range(minimum=1)] = 64
    """Units of the classifier's layers."""
    classifier_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the classifier (Adam)."""


@dataclasses.dataclass(frozen=True)
class Individuality(TeamMethod):
    """A learner with EOI's classifier."""

    Config: ClassVar[type[IndividualityConfig]]

    @property
    def classifier(self) -> TeamAgent:
        """Maps each agent's observation to scores of the N agents that it may be of; the same for all."""
        n, hidden = self.sizes.num_agents, self.config.classifier_hidden
        network = (GRUAgent if self.config.classifier == "gru" else MLPAgent)(n, hidden)
        return TeamAgent(network, n, "shared")

    def _init_classifier(self, key: jax.Array) -> Params:
        return self.classifier.init(key, self.sizes.observation)

    def _identity_logits(
        self, params: Params, observation: Float[Array, "T B N F"], rows: Rows | None = None
    ) -> Float[Array, "T B N N"]:
        """Scores along episodes from their start."""
        return self.classifier.unroll(params, observation, rows)[1]

    def _classifier_loss(
        self, params: Params, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, ""], Metrics]:
        """EOI section 3.2: cross-entropy with the agents' numbers, positive distance and mutual information."""
        c, n = self.config, self.sizes.num_agents
        rows = batch.rows
        logits = self._identity_logits(params, batch.observation[:-1], rows)
        lots = by_episode(rows, logits.shape[:-1], functools.partial(jax.random.uniform, key))
        time = None if rows is None else rows.time[:-1]
        steps, exists = earlier_steps(lots, c.positive_window, time)
        positives = jnp.take_along_axis(
            jax.lax.stop_gradient(logits), steps[..., None], axis=0, mode="clip"
        )
        valid = jnp.broadcast_to(batch.valid[..., None], logits.shape[:-1]).astype(logits.dtype)
        agent = jnp.broadcast_to(jnp.arange(n), logits.shape[:-1])
        own = masked_mean(identity_cross_entropy(logits, agent), valid)
        distance = positive_distance(logits, positives)
        distance = masked_mean(distance, valid * exists)
        entropy = masked_mean(conditional_entropy(logits), valid)
        loss = own + c.positive_weight * distance + c.information_weight * entropy
        return loss, {
            "identity_loss": own,
            "positive_distance": distance,
            "identity_entropy": entropy,
        }

    def _intrinsic_reward(self, params: Params, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """What each agent is paid for each observation of episodes from their start; constant."""
        log_p = self._log_recognition(params, batch)
        if self.config.intrinsic_reward == "log_ratio":
            return log_p + math.log(self.sizes.num_agents)
        return jnp.exp(log_p)

    def _log_recognition(self, params: Params, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """The logarithm of p(i | o_i); constant."""
        logits = self._identity_logits(params, batch.observation[:-1], batch.rows)
        logits = jax.lax.stop_gradient(logits)
        return jnp.diagonal(jax.nn.log_softmax(logits), axis1=-2, axis2=-1)

    def _intrinsic_weight(self, env_steps: Int[Array, ""]) -> Float[Array, ""] | float:
        """Alpha after so many environment steps."""
        c = self.config
        if not c.intrinsic_anneal_steps:
            return c.intrinsic_weight
        left = 1.0 - env_steps / c.intrinsic_anneal_steps
        return c.intrinsic_weight * jnp.maximum(left, 0.0)

    def intrinsic_rewards(self, state: Any, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """What the classifier pays each agent along episodes, before it is weighted."""
        return self._intrinsic_reward(state.params["classifier"], batch)

    def recognition(self, state: Any, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """p(i | o_i): how surely the classifier tells each agent by what it observes along episodes."""
        return jnp.exp(self._log_recognition(state.params["classifier"], batch))

    def update(
        self, state: Any, fresh: EpisodeBatch, replay: ReplayState | None, key: jax.Array
    ) -> tuple[Any, Metrics]:
        """As the learner's that this one extends; also logs what a step of the fresh episodes paid, unweighted."""
        reward = self.intrinsic_rewards(state, fresh).mean(-1)
        paid = masked_mean(reward, fresh.valid.astype(reward.dtype))
        state, metrics = super().update(state, fresh, replay, key)  # type: ignore[safe-super]
        return state, {**metrics, "intrinsic_reward": paid}


@dataclasses.dataclass(frozen=True)
class EOIConfig(IndividualityConfig, QMIXConfig):
    """Hyper-parameters of EOI on QMIX."""

    variant: Literal["paper", "released"] = "paper"
    """paper: a value of the intrinsic reward that takes the agent's whole vector of action values, whose slope in them
    is added to the agents' gradient. released: a value of each action that is used to explore, and no more
    (`eoi_pymarl`; its intrinsic_gamma is 0.92, its positive_weight 0 and its lr of both networks 1e-4)."""
    intrinsic_weight: Annotated[float, NotNegative] = 1e-4
    """Weight of the intrinsic value's slope (alpha). With standardised vectors it decides where an agent's action
    values differ by less than about its root, so it has to fit the task's rewards and discount; search it."""
    intrinsic_gamma: Annotated[float, Unit] = 0.99
    """Discount factor of the intrinsic reward."""
    intrinsic_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (64, 64)
    """Units of the intrinsic value function's hidden layers."""
    intrinsic_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the intrinsic value function (Adam)."""
    intrinsic_input: Literal["executed", "acted", "current"] = "executed"
    """The vector of action values that the intrinsic value function learns from. acted: the one that the agent acted
    on, from the replay, where the paper draws it, as DDPG draws actions. executed: the same with the best value and
    that of the action taken exchanged, since exploration may take another than the best (ours). current: the one it
    has now, which did not cause what followed."""
    intrinsic_scaling: Literal["none", "standardised"] = "standardised"
    """Whether the intrinsic value function sees a vector of action values as it is, or shifted and scaled to mean 0 and
    deviation 1 (ours: values that differ little, or more and more, give a network little to go by)."""
    identical_agents: bool = False
    """Whether all agents start with the same parameters (EOI Figure 9)."""
    released_scale: Annotated[float, NotNegative] = 10.0
    """variant released: factor of the intrinsic reward."""
    released_episodes: Annotated[float, Unit] = 0.4
    """variant released: share of the episodes in which the intrinsic values explore."""
    released_steps: Annotated[float, Unit] = 0.05
    """variant released: share of the steps of such an episode at which one agent follows them; 0.2 and 0.8 on the
    authors' hard maps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sharing == "shared" and not self.observe_identity:
            raise ConfigurationError(
                "observe_identity is False; it must be true where agents share parameters, or they cannot differ."
            )
        if self.identical_agents and self.sharing == "shared":
            raise ConfigurationError(
                "identical_agents is True; it must be false where agents share parameters, which are the same anyway."
            )


class ExploringMemory(NamedTuple):
    """What the agents of the released variant carry.

    Attributes:
        agents: what all agents carry.
        explores: whether the intrinsic values explore in this episode.
    """

    agents: AgentMemory
    explores: Bool[Array, " B"]


RELEASED_TARGET_RATE = 0.005
"""What the released code's moving target is meant to have; it writes 0.995, with which values grow 199-fold."""


def _standardise(q: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
    centred = q - q.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)


def swap_best(
    q: Float[Array, "*batch A"], action: Int[Array, "*batch"], action_mask: Bool[Array, "*batch A"]
) -> Float[Array, "*batch A"]:
    """The values with those of the best available action and of `action` exchanged, so that `action` is the best."""
    best = greedy_action(q, action_mask)
    was, now = action_values(q, best)[..., None], action_values(q, action)[..., None]
    is_best, is_action = (jax.nn.one_hot(a, q.shape[-1], dtype=bool) for a in (best, action))
    return jnp.where(is_action, was, jnp.where(is_best, now, q))


@dataclasses.dataclass(frozen=True)
class EOI(Individuality, QMIXMethod):
    """EOI (Jiang and Lu 2021) on QMIX: every agent also climbs its own value of being recognised."""

    Config: ClassVar = EOIConfig

    @property
    def intrinsic_value(self) -> MLP:
        """The intrinsic value function Q^p of one agent: of a vector of action values, or of each action."""
        outputs = self.sizes.num_actions if self._released else 1
        return MLP((*self.config.intrinsic_hidden, outputs))

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """QMIX's for agents and mixer, Adam for the classifier and for the intrinsic values."""
        c = self.config
        groups = {
            "team": super().optimizer,
            "classifier": make_optimizer("adam", c.classifier_lr, 0.0),
            "intrinsic": make_optimizer("adam", c.intrinsic_lr, 0.0),
        }
        names = ("agent", "mixer", "classifier", "intrinsic")
        return optax.multi_transform(groups, {k: k if k in groups else "team" for k in names})

    @property
    def _released(self) -> bool:
        return self.config.variant == "released"

    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        base_key, classifier_key, intrinsic_key = jax.random.split(key, 3)
        params = super()._init_params(base_key)
        if self.config.identical_agents:
            first = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), params["agent"])
            params["agent"] = first
        c, sizes = self.config, self.sizes
        size = sizes.observation + sizes.num_agents * (c.sharing == "shared")
        x = jnp.zeros((size + (0 if self._released else sizes.num_actions),))
        intrinsic = init_per_agent(
            lambda k: self.intrinsic_value.init(k, x), intrinsic_key, sizes.num_agents, c.sharing
        )
        return {
            **params,
            "classifier": self._init_classifier(classifier_key),
            "intrinsic": intrinsic,
        }

    def _kept(self, memory: AgentMemory, q: Float[Array, "B N A"]) -> Any:
        return () if self.config.intrinsic_input == "current" or self._released else q

    def initial_memory(self, state: ValueState, num_envs: int, key: jax.Array) -> Any:
        """As QMIX's; the released variant also draws the episodes in which it explores."""
        memory = super().initial_memory(state, num_envs, key)
        if not self._released:
            return memory
        explores = jax.random.bernoulli(key, self.config.released_episodes, (num_envs,))
        return ExploringMemory(memory, explores)

    def act(
        self,
        state: ValueState,
        memory: Any,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[Any, jax.Array, Any]:
        """Epsilon-greedy, or greedy; the released variant now and then lets an agent seek to be recognised."""
        if not self._released:
            return super().act(state, memory, observation, key, explore)
        agents, action, kept = super().act(state, memory.agents, observation, key, explore)
        if explore:
            coin_key, agent_key = jax.random.split(jax.random.fold_in(key, 4))
            num_envs, n = action.shape
            coin = jax.random.bernoulli(coin_key, self.config.released_steps, (num_envs,))
            who = jax.random.randint(agent_key, (num_envs,), 0, n)
            chosen = (who[:, None] == jnp.arange(n)) & (coin & memory.explores)[:, None]
            values = self._intrinsic_values(state.params["intrinsic"], observation.agents_view)
            action = jnp.where(chosen, greedy_action(values, observation.action_mask), action)
            agents = agents._replace(last_action=self._one_hot(action))
        return ExploringMemory(agents, memory.explores), action, kept

    def _follow(self, state: ValueState, learned: jax.Array) -> ValueState:
        followed = super()._follow(state, learned)
        if not self._released:
            return followed
        rate = jnp.where(learned, RELEASED_TARGET_RATE, 0.0)
        intrinsic = optax.incremental_update(
            state.params["intrinsic"], state.target["intrinsic"], rate
        )
        return followed._replace(target={**followed.target, "intrinsic": intrinsic})

    def _intrinsic_values(
        self, params: Params, observation: Float[Array, "*shape N F"], *more: jax.Array
    ) -> Float[Array, "*shape N O"]:
        """Q^p of each agent, of what it observes and `more`."""
        if self.config.intrinsic_scaling == "standardised":
            more = tuple(_standardise(x) for x in more)
        parts = [observation, *more]
        if self.config.sharing == "shared":
            parts.append(self._identity(observation.shape[:-2]))
        x = jnp.concatenate(parts, axis=-1)
        values: jax.Array = apply_per_agent(
            self.intrinsic_value.apply, params, x, sharing=self.config.sharing
        )
        return values

    def _regulariser(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        added, metrics = super()._regulariser(learning)
        params, batch = learning.params, learning.batch
        classifier_loss, of_classifier = self._classifier_loss(
            params["classifier"], batch, learning.key
        )
        reward = self._intrinsic_reward(params["classifier"], batch)
        intrinsic = self._released_loss if self._released else self._intrinsic_loss
        intrinsic_loss, of_values = intrinsic(learning, reward)
        return added + classifier_loss + intrinsic_loss, {**metrics, **of_classifier, **of_values}

    @property
    def _intrinsic_range(self) -> tuple[float, float]:
        """Between what an episode's intrinsic rewards can sum up to, discounted."""
        gamma, steps = self.config.intrinsic_gamma, self.sizes.time_limit
        most = steps if gamma == 1.0 else (1.0 - gamma**steps) / (1.0 - gamma)
        if self.config.intrinsic_reward == "log_ratio":
            return -math.inf, most * math.log(self.sizes.num_agents)
        return 0.0, most

    def _intrinsic_loss(
        self, learning: Learning, reward: Float[Array, "T B N"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """EOI section 3.3: Q^p's own loss, and what makes the agents climb it.

        Each side holds the other constant. The agents' part is a sum over agents, so that each agent's parameters get
        alpha times the slope of its own mean value.
        """
        params, target, batch = learning.params, learning.state.target, learning.batch
        observation, valid = batch.observation, batch.valid.astype(reward.dtype)
        q = learning.values.online[:-1]
        seen = q if self.config.intrinsic_input == "current" else batch.extras
        if self.config.intrinsic_input == "executed":
            seen = swap_best(seen, batch.action, batch.action_mask[:-1])

        value = self._intrinsic_values(
            params["intrinsic"], observation[:-1], jax.lax.stop_gradient(seen)
        )
        ahead = self._intrinsic_values(
            target["intrinsic"], observation[1:], learning.values.target[1:]
        )
        discount = self.config.intrinsic_gamma * batch.discount
        y = jnp.clip(one_step_targets(reward, discount, ahead[..., 0]), *self._intrinsic_range)
        mask = jnp.broadcast_to(valid[..., None], y.shape)
        loss = td_loss(value[..., 0], y, mask)

        climbed = self._intrinsic_values(
            jax.lax.stop_gradient(params["intrinsic"]), observation[:-1], q
        )
        alpha = self._intrinsic_weight(learning.state.env_steps)
        gain = masked_mean(jnp.sum(climbed[..., 0], axis=-1), valid)
        metrics = {"intrinsic_loss": loss, "intrinsic_value": gain / self.sizes.num_agents}
        return loss - alpha * gain, metrics

    def _released_loss(
        self, learning: Learning, reward: Float[Array, "T B N"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Q-learning of the intrinsic reward; every action counts as available, as in the authors' code."""
        params, target, batch = learning.params, learning.state.target, learning.batch
        values = self._intrinsic_values(params["intrinsic"], batch.observation[:-1])
        ahead = self._intrinsic_values(target["intrinsic"], batch.observation[1:])
        discount = self.config.intrinsic_gamma * batch.discount
        y = one_step_targets(self.config.released_scale * reward, discount, ahead.max(-1))
        value = action_values(values, batch.action)
        mask = jnp.broadcast_to(batch.valid[..., None], y.shape).astype(y.dtype)
        loss = td_loss(value, y, mask)
        return loss, {"intrinsic_loss": loss, "intrinsic_value": masked_mean(value, mask)}
