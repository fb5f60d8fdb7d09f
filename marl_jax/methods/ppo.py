"""One PPO core: agents, a critic and a part that says what they are paid. IPPO, MAPPO and HAPPO are settings of it.

Papers: Schulman et al. 2017 (PPO); Yu et al. 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent
Games" (MAPPO, IPPO; code: marlbenchmark/on-policy).

An iteration plays whole episodes, computes generalised advantages under the critic as it is, and passes several times
over minibatches of whole episodes, from whose starts recurrent networks are unrolled.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from envs.base import Observation
from envs.configuration import ConfigurationError, Range
from marl_jax.distributions import ContinuousPolicy, greedy_action, masked_categorical
from marl_jax.lengths import of_all
from marl_jax.losses import (
    approximate_kl,
    clipped_surrogate_loss,
    clipped_value_loss,
    explained_variance,
    masked_mean,
    normalise,
)
from marl_jax.methods.continuous import DeviatingAgents
from marl_jax.methods.diagnostics import critic_fit, intrinsic_ratio
from marl_jax.methods.part import OWN, Agents, Part, Steps, history, settle
from marl_jax.methods.team import (
    AgentMemory,
    NotNegative,
    Positive,
    TeamConfig,
    TeamMethod,
    Unit,
)
from marl_jax.networks import (
    MLP,
    Critic,
    GRUAgent,
    MLPAgent,
    Params,
    Sharing,
    TeamAgent,
    hidden_gain,
)
from marl_jax.optimizers import clip_by_global_norm, for_each
from marl_jax.replay import ReplayState
from marl_jax.rows import Rows, in_rows, row_returns
from marl_jax.schedules import linear
from marl_jax.types import EpisodeBatch, Metrics, action_features
from marl_jax.value_normalisation import ValueNorm

MIN_EPISODES = 4
"""An iteration has at least so many whole episodes, however long they are."""
ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh}
"""Activations by the name that options give them."""


@dataclasses.dataclass(frozen=True)
class PPOConfig(TeamConfig):
    """Hyper-parameters of the core."""

    num_envs: Annotated[int, Range(minimum=1)] | None = None
    """Environments played side by side. None: as many as make batch_steps, with episodes_per_env episodes each;
    batch_steps counts only then."""
    episodes_per_env: Annotated[int, Range(minimum=1)] = 1
    """Episodes of an iteration for each environment. With several, one that is over makes room for the next, and an
    iteration does not wait for its longest episode so often."""
    batch_steps: Annotated[int, Range(minimum=1)] = 3200
    """Environment steps of an iteration, if its episodes last until the time limit; rounded to whole episodes, at least
    four, that the minibatches divide."""
    hidden_layers: Annotated[int, Range(minimum=1)] = 2
    """Hidden layers of a feed-forward agent."""
    activation: Literal["relu", "tanh"] = "relu"
    """Activation of feed-forward agents and critics."""
    initialization: Literal["orthogonal", "torch"] = "orthogonal"
    """How weights are drawn: orthogonal, with gain sqrt 2 (1 in a GRU), and biases of 0; or as PyTorch does it."""
    policy_gain: Annotated[float, Positive] = 0.01
    """Gain of the policies' last layer, if orthogonal (else 1): first policies are nearly uniform."""
    action_bound: Literal["clip", "tanh"] = "clip"
    """How continuous actions are kept between -1 and 1, whose policies are normal laws. clip: they are cut off, and
    policies learn from what was drawn. tanh: they are squashed, and entropy is that of the actions, which has a
    maximum."""
    action_deviation: Annotated[float, Positive] = 1.0
    """Deviation of the normal laws of continuous actions at the start. It is learned, for each number of an action, and
    does not depend on what is seen (Stable-Baselines3, HARL)."""
    critic_input: Literal["own", "state", "joint"] = "state"
    """What a value is a function of. own: what its agent sees. state: the global state, the clock, and what its agent
    sees (Yu et al.'s agent-specific state). joint: the global state, the clock, and what all agents see; one network
    then puts out all agents' values, which is faster. There is a clock where the time limit ends the task. Where it
    only cuts episodes off, values do not depend on it, and none is ever learned of the last clock's sight (Pardo et al.
    2018)."""
    critic: Literal["mlp", "gru"] = "mlp"
    """Network of the critic: feed-forward, or recurrent."""
    critic_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (64, 64)
    """Units of the critic's hidden layers; a recurrent critic has one layer and a memory, both of the last number."""
    critic_trunk: Literal["shared", "separate"] = "shared"
    """Where a method learns several values (LIIR, EDTI): heads of one network, or a network each."""
    mask_dead_inputs: bool = True
    """Whether a central critic sees zeros in place of a dead agent's inputs, but for its identity where agents observe
    theirs (Yu et al.'s death masking)."""
    mask_dead_values: bool = False
    """Whether values of dead agents are left out of the loss. Yu et al.'s scripts learn them."""
    share_reward: bool = True
    """Whether everyone is paid the mean of all rewards; no difference where the task pays a team."""
    gamma: Annotated[float, Unit] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, Unit] = 0.95
    """Lambda of the generalised advantages."""
    normalise_advantage: Literal["batch", "agent", "minibatch"] = "batch"
    """Over what advantages get mean 0 and deviation 1: over an iteration's living agents; over those, every agent by
    itself; or over the steps of a minibatch at which an agent has a choice."""
    clip: Annotated[float, Positive] = 0.2
    """How far the probability ratio may depart from 1."""
    epochs: Annotated[int, Range(minimum=1)] = 2
    """Passes over an iteration's episodes."""
    minibatches: Annotated[int, Range(minimum=1)] = 4
    """Parts of each pass, one gradient step each. What does not fill a part is left out of that pass."""
    minibatch_unit: Literal["episodes", "steps"] = "episodes"
    """What a minibatch is made of: whole episodes; or, with feed-forward networks, single steps. Minibatches of steps
    keep their size, so where episodes end early there are fewer, at least one."""
    lr: Annotated[float, Positive] = 1.5e-3
    """Learning rate at the start (Adam)."""
    lr_final: Annotated[float, NotNegative] = 2e-4
    """Learning rate in the end."""
    lr_anneal_start: Annotated[int, NotNegative] = 1_200_000
    """Environment steps after which the learning rate begins to change linearly."""
    lr_anneal_end: Annotated[int, Range(minimum=1)] = 2_400_000
    """Environment steps after which it has its final value."""
    max_grad_norm: Annotated[float, NotNegative] = 0.5
    """Norm to which the gradients of policies and of values are clipped, each by itself; 0 for never."""
    value_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the values' halved squared errors."""
    value_normalisation: bool = True
    """Whether values are learned in units of the returns' running mean and deviation (ValueNorm)."""
    value_norm_decay: Annotated[float, Range(minimum=0, maximum=0.999999)] = 0.9
    """What of the running mean an iteration leaves. Yu et al.: 0.99999 for each gradient step."""
    value_clip: Annotated[float, NotNegative] = 0.0
    """How far a value may depart from its old one before the loss says no more, in normalised units; 0 for no limit."""
    huber_delta: Annotated[float, NotNegative] = 0.0
    """Error, in normalised units, from which on a value's loss is linear (Yu et al.: 10); 0 for never."""
    entropy_weight: Annotated[float, NotNegative] = 0.15
    """Weight of the policies' entropy at the start, in nats."""
    entropy_weight_final: Annotated[float, NotNegative] = 0.01
    """Weight of the policies' entropy in the end."""
    entropy_anneal_start: Annotated[int, NotNegative] = 0
    """Environment steps after which the weight begins to change linearly."""
    entropy_anneal_end: Annotated[int, Range(minimum=1)] = 1_000_000
    """Environment steps after which it has its final value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "entropy"):
            start, end = (getattr(self, f"{name}_anneal_{which}") for which in ("start", "end"))
            if end <= start:
                raise ConfigurationError(
                    f"{name}_anneal_end is {end}; it must be above {name}_anneal_start, which is {start}."
                )
        if self.critic == "gru" and not self.critic_hidden:
            raise ConfigurationError("critic_hidden is empty; it must not be if critic is 'gru'.")
        if self.minibatch_unit == "steps" and "gru" in (self.agent, self.critic):
            raise ConfigurationError(
                "minibatch_unit is 'steps'; it must be 'episodes' unless agent and critic are 'mlp'."
            )


class Acted(NamedTuple):
    """What is kept of an action.

    Attributes:
        log_prob: its log-probability.
        noise: what the agents had drawn; () if nothing.
        drawn: what a continuous action was made of, [T, B, N, A]; () for discrete ones.
    """

    log_prob: Float[Array, "T B N"]
    noise: Any = ()
    drawn: Any = ()


class Experience(NamedTuple):
    """An iteration's episodes, and what the learner makes of them before it learns. K values are learned.

    Attributes:
        batch: the episodes.
        inputs: what the agents' networks see.
        critic_inputs: what the critic sees, of each agent, or of all together (M is N or 1).
        value: the values then, in units of returns.
        played: 1 on the steps of episodes.
        alive: 1 where an agent also lives.
        chooses: 1 where it also has a choice, so that there is a policy to learn.
        logits: what the agents' networks put out then, for parts that look at it.
    """

    batch: EpisodeBatch
    inputs: Float[Array, "T+1 B N I"]
    critic_inputs: Float[Array, "T+1 B M C"]
    value: Float[Array, "T+1 B N K"]
    played: Float[Array, "T B N"]
    alive: Float[Array, "T B N"]
    chooses: Float[Array, "T B N"]
    logits: Float[Array, "T B N A"] | None


class Lessons(NamedTuple):
    """What a gradient step learns from; with single steps, T is 1 and B counts steps.

    Attributes:
        inputs: what the agents' networks see.
        critic_inputs: what the critic sees.
        action_mask: what agents may do.
        action: what they did; of a continuous action what it was made of, [T, B, N, A].
        log_prob: its log-probability then.
        advantage: how good it was.
        value: what the critic put out then.
        target: what it should put out.
        mask: 1 where a policy learns.
        value_mask: 1 where values learn.
        weight: what a policy's loss is multiplied with (HAPPO's M); 1 otherwise.
        noise: what agents had drawn when they acted; () if nothing.
        rows: what is where, if the episodes are laid into rows; B counts rows then.
    """

    inputs: Float[Array, "T B N I"]
    critic_inputs: Float[Array, "T B M C"]
    action_mask: Bool[Array, "T B N A"]
    action: Int[Array, "T B N"] | Float[Array, "T B N A"]
    log_prob: Float[Array, "T B N"]
    advantage: Float[Array, "T B N"]
    value: Float[Array, "T B N K"]
    target: Float[Array, "T B N K"]
    mask: Float[Array, "T B N"]
    value_mask: Float[Array, "T B N"]
    weight: Float[Array, "T B N"]
    noise: Any = ()
    rows: Rows | None = None


class PolicyLearning(NamedTuple):
    """What parts see in a gradient step.

    Attributes:
        lessons: what it learns from.
        steps: what parts of any backbone may look at.
    """

    lessons: Lessons
    steps: Steps


class Rates(NamedTuple):
    """What is the same in all gradient steps of an iteration.

    Attributes:
        lr: learning rate.
        entropy_weight: weight of the policies' entropy.
        parts: what each part learns and counts by itself, as it was before the iteration.
    """

    lr: Float[Array, ""]
    entropy_weight: Float[Array, ""]
    parts: tuple[Any, ...] = ()


class Learner(NamedTuple):
    """Parameters and optimiser states of agents ("actor") and critic ("critic")."""

    params: dict[str, Params]
    optimizer: dict[str, optax.OptState]


LearnerT = TypeVar("LearnerT")
LessonsT = TypeVar("LessonsT", bound="Divisible")


class PPOState(NamedTuple):
    """All that a learner learns and counts.

    Attributes:
        params: parameters of "actor" and "critic".
        optimizer: their optimisers' states.
        value_norm: what normalises values.
        parts: what each part learns and counts by itself.
        env_steps: environment steps learned from, which drives the schedules.
    """

    params: dict[str, Params]
    optimizer: dict[str, optax.OptState]
    value_norm: ValueNorm
    parts: tuple[Any, ...]
    env_steps: Int[Array, ""]


class Lesson(NamedTuple):
    """What a part learns from once the policies have learned.

    Attributes:
        experience: the episodes.
        lessons: what the policies learned from; the advantages are normalised.
        before: agents and critic before that.
        rates: of the schedules.
        order: the random key that ordered the minibatches.
        key: another one.
    """

    experience: Experience
    lessons: Lessons
    before: Learner
    rates: Rates
    order: jax.Array
    key: jax.Array


@dataclasses.dataclass(frozen=True)
class PPO(TeamMethod):
    """PPO of a team. Values go on past a time limit."""

    Config: ClassVar[type[PPOConfig]] = PPOConfig
    takes_agents: ClassVar = True
    hooks: ClassVar[tuple[str, ...]] = ("init", "rewards", "loss")
    continuous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        c = self.config
        most = self._episodes
        if c.minibatch_unit == "steps":
            most *= self.sizes.time_limit
        if c.minibatches > most:
            raise ConfigurationError(
                f"minibatches is {c.minibatches}; it must be at most {most}, the {c.minibatch_unit} of an iteration."
            )
        super().__post_init__()

    @property
    def num_envs(self) -> int:
        """W."""
        return -(-self.num_episodes // self.config.episodes_per_env)

    @property
    def num_episodes(self) -> int:
        """B."""
        c = self.config
        if c.num_envs is not None or c.minibatch_unit == "steps":
            return self._episodes
        return c.minibatches * round(self._episodes / c.minibatches)

    @property
    def _episodes(self) -> int:
        """Episodes of an iteration, before they are rounded so that minibatches divide them."""
        c = self.config
        if c.num_envs is not None:
            return c.num_envs * c.episodes_per_env
        least = MIN_EPISODES if c.minibatch_unit == "episodes" else 1
        return max(least, round(c.batch_steps / self.sizes.time_limit))

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the K values that the critic learns; the policies follow the first."""
        return ("value", *(name for part in self.parts for name in part.values))

    def values_of(self, part: Part, experience: "Experience") -> Float[Array, "T+1 B N _"]:
        """Those that it learns for a part."""
        own = self.parts.index(part)
        first = 1 + sum(len(before.values) for before in self.parts[:own])
        return experience.value[..., first : first + len(part.values)]

    @property
    def agent(self) -> TeamAgent:
        """The policies' networks."""
        c, outputs = self.config, self.sizes.num_actions
        gain = c.policy_gain if c.initialization == "orthogonal" else 1.0
        network: GRUAgent | MLPAgent
        if c.agent == "gru":
            network = GRUAgent(outputs, c.hidden_size, c.head_sizes, c.initialization, gain)
        else:
            activation = ACTIVATIONS[c.activation]
            layers = c.hidden_layers
            network = MLPAgent(outputs, c.hidden_size, layers, activation, c.initialization, gain)
        return TeamAgent(network, self.sizes.num_agents, c.sharing)

    def networks(self, outputs: int) -> TeamAgent:
        """Networks like the policies', with so many outputs; with 0 they put out their hidden states."""
        network = dataclasses.replace(self.agent.network, num_outputs=outputs)
        return TeamAgent(network, self.sizes.num_agents, self.config.sharing)

    @property
    def agents(self) -> Agents:
        """The policies: a part's, or plain ones."""
        return self.acting(super().agents)

    def acting(self, agents: Agents) -> Agents:
        """The same, with deviations if actions are continuous."""
        if not self.sizes.continuous:
            return agents
        n, a = self.sizes.num_agents, self.sizes.num_actions
        shape = (n, a) if self.config.sharing == "independent" else (a,)
        return DeviatingAgents(agents, shape, self.config.action_deviation)

    def policy(
        self, outputs: Float[Array, "*shape N O"], action_mask: Bool[Array, "*shape N A"]
    ) -> Any:
        """What the agents' outputs stand for: a `distrax.Categorical`, or a `ContinuousPolicy`."""
        if not self.sizes.continuous:
            return masked_categorical(outputs, action_mask)
        mean, log_deviation = jnp.split(outputs, 2, axis=-1)
        squashed = self.config.action_bound == "tanh"
        return ContinuousPolicy(mean, log_deviation, action_mask, squashed)

    def decisions(self, batch: EpisodeBatch) -> jax.Array:
        """What policies have log-probabilities of: actions [T, B, N], or what continuous ones were made of."""
        drawn: jax.Array = batch.extras.drawn if self.sizes.continuous else batch.action
        return drawn

    @property
    def critic(self) -> Critic:
        """The values' network."""
        c, n = self.config, self.sizes.num_agents
        num_values = len(self.values)
        joint = c.critic_input == "joint"
        separate = c.critic_trunk == "separate" and num_values > 1
        outputs = (n if joint else 1) * (1 if separate else num_values)
        network: MLP | GRUAgent
        if c.critic == "gru":
            network = GRUAgent(outputs, c.critic_hidden[-1], initialization=c.initialization)
        else:
            network = MLP(
                (*c.critic_hidden, outputs),
                activation=ACTIVATIONS[c.activation],
                initialization=c.initialization,
                gains=(hidden_gain(c.initialization), 1.0),
            )
        sharing: Sharing = c.sharing if c.critic_input == "own" else "shared"
        return Critic(network, n, num_values, joint, sharing, separate)

    # What networks see.

    @property
    def critic_input_size(self) -> int:
        """C."""
        s, c = self.sizes, self.config
        if c.critic_input == "own":
            return self.agent_input_size
        shared = s.global_state + int(s.time_limit_is_termination)
        if c.critic_input == "joint":
            return shared + s.num_agents * s.observation
        return shared + self.agent_input_size

    def _critic_inputs(self, batch: EpisodeBatch) -> Float[Array, "T+1 B M C"]:
        c = self.config
        if c.critic_input == "own":
            return self.agent_inputs(batch.observation, batch.last_action)
        alive = batch.alive[..., None] | (not c.mask_dead_inputs)
        views = jnp.where(alive, batch.observation, 0.0)
        steps, envs = views.shape[:2]
        shared = batch.global_state[:, :, None]
        if self.sizes.time_limit_is_termination:
            clock = jnp.arange(steps, dtype=views.dtype) / self.sizes.time_limit
            clock = jnp.broadcast_to(clock[:, None, None, None], (steps, envs, 1, 1))
            shared = jnp.concatenate([shared, clock], axis=-1)
        if c.critic_input == "joint":
            views = views.reshape(steps, envs, 1, -1)
            return jnp.concatenate([shared, views], axis=-1)
        shared = jnp.where(alive, shared, 0.0)
        last_action = jnp.where(alive, batch.last_action, 0.0)
        return jnp.concatenate([shared, self.agent_inputs(views, last_action)], axis=-1)

    # The method's contract.

    @property
    def one_optimizer(self) -> optax.GradientTransformation:
        """Clips, and gives Adam's direction, which the learning rate multiplies."""
        # The root of 0 has no slope, which a gradient through a whole iteration (LIIR) would meet.
        steps = [optax.scale_by_adam(eps=1e-5, eps_root=1e-20)]
        if self.config.max_grad_norm > 0:
            steps.insert(0, clip_by_global_norm(self.config.max_grad_norm))
        return optax.chain(*steps)

    @property
    def optimizer(self) -> dict[str, optax.GradientTransformation]:
        """Of each group; where every agent or value has parameters of its own it has an optimiser of its own."""
        one, critic = self.one_optimizer, self.critic
        names = jax.eval_shape(self._own_params, jax.random.key(0))
        return {
            "actor": for_each(one, int(self.config.sharing == "independent")),
            "critic": for_each(one, critic.separate + critic.independent),
            **dict.fromkeys(names, one),
        }

    def _own_params(self, key: jax.Array) -> dict[str, Params]:
        """Parameters of the parts that the loss trains."""
        # The first has the key itself.
        keys = (jax.random.fold_in(key, OWN + k) if k else key for k in range(len(self.parts)))
        drawn = (part.init(k) for part, k in zip(self.parts, keys, strict=True))
        return {name: own for each in drawn for name, own in each.items()}

    def init(self, key: jax.Array) -> PPOState:
        """Draws the parameters."""
        actor_key, critic_key, part_key = jax.random.split(key, 3)
        params = {
            "actor": self.agents.init(actor_key),
            "critic": self.critic.init(critic_key, self.critic_input_size),
            **self._own_params(jax.random.fold_in(part_key, OWN)),
        }
        optimizer = {name: self.optimizer[name].init(p) for name, p in params.items()}
        value_norm = ValueNorm.start(len(self.values))
        zero = jnp.zeros((), jnp.int32)
        keys = (
            part_key,
            *(jax.random.fold_in(part_key, OWN + k) for k in range(1, len(self.kinds))),
        )
        parts = tuple(part.start(key) for part, key in zip(self.parts, keys, strict=False))
        return PPOState(params, optimizer, value_norm, parts, zero)

    def act(
        self,
        state: PPOState,
        memory: AgentMemory,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[AgentMemory, jax.Array, Acted]:
        """Draws from the policies, or takes the most probable actions; keeps the log-probabilities of what it draws."""
        x = self.agent_inputs(observation.agents_view, memory.last_action)
        noise = self.agents.noise(len(x), jax.random.fold_in(key, 3))
        given = (memory.hidden, x, noise, key, explore)
        hidden, logits = self.agents.step(state.params["actor"], *given)
        policy = self.policy(logits, observation.action_mask)
        continuous = isinstance(policy, ContinuousPolicy)
        if explore:
            drawn, log_prob = policy.sample_and_log_prob(seed=key)
        else:
            drawn = policy.mode() if continuous else greedy_action(logits, observation.action_mask)
            log_prob = jnp.zeros(x.shape[:-1])
        if continuous:
            action, acted = policy.action(drawn), Acted(log_prob, noise, drawn)
        else:
            action, acted = drawn.astype(jnp.int32), Acted(log_prob, noise)
        seen = action_features(action, self.sizes.num_actions)
        return AgentMemory(hidden, seen), action, acted

    def logits(
        self,
        actor: Params,
        inputs: Float[Array, "T B N I"],
        noise: Any,
        rows: Rows | None = None,
    ) -> tuple[Float[Array, "T B N H"], Float[Array, "T B N O"]]:
        """The policies' hidden states and outputs along episodes, with the noise that they acted with."""
        # Nothing is drawn anew.
        return self.agents.unroll(actor, inputs, noise, jax.random.key(0), rows)

    def update(
        self,
        state: PPOState,
        fresh: EpisodeBatch,
        replay: ReplayState | None,
        key: jax.Array,
    ) -> tuple[PPOState, Metrics]:
        """Several passes over this iteration's episodes."""
        del replay
        experience = self.experience(state, fresh)
        # The scopes show in profiles (`benchmarks/time_spent.py`).
        with jax.named_scope("part"):
            parts, reward, paid = self.rewards(state, experience)
        returns = self.returns(experience, reward)
        value_mask = experience.alive if self.config.mask_dead_values else experience.played
        value_norm = state.value_norm
        if self.config.value_normalisation:
            value_norm = value_norm.update(returns, value_mask, self.config.value_norm_decay)
        lessons = self._lessons(experience, returns, state.value_norm, value_norm, value_mask)
        rates = self.rates(state.env_steps)._replace(parts=parts)
        before = Learner(state.params, state.optimizer)
        after, learned = self.learn(before, lessons, rates, key)
        lesson = Lesson(experience, lessons, before, rates, order=key, key=key)
        with jax.named_scope("part"):
            parts, taught = self.teach(parts, lesson)
        env_steps = state.env_steps + jnp.sum(fresh.valid, dtype=jnp.int32)
        metrics = {
            **learned,
            **self._diagnostics(experience, returns, value_mask),
            "lr": rates.lr,
            "entropy_weight": rates.entropy_weight,
            **paid,
            **taught,
        }
        parts, params = settle(self.parts, parts, after.params, learned, env_steps, key)
        return PPOState(params, after.optimizer, value_norm, parts, env_steps), metrics

    # What an iteration learns from.

    def experience(self, state: PPOState, batch: EpisodeBatch) -> Experience:
        """Values and masks of episodes, before anything is learned from them."""
        if self.config.share_reward:
            mean = batch.reward.mean(-1, keepdims=True)
            batch = batch._replace(reward=jnp.broadcast_to(mean, batch.reward.shape))
        played = jnp.broadcast_to(batch.valid[..., None], batch.reward.shape)
        alive = played & batch.alive[:-1]
        # One number of a continuous action is a choice; one discrete action is none.
        least = 1 if self.sizes.continuous else 2
        chooses = alive & (jnp.sum(batch.action_mask[:-1], axis=-1) >= least)
        seen = self._critic_inputs(batch)
        inputs = self.agent_inputs(batch.observation, batch.last_action)

        def forward(
            seen: tuple[jax.Array, Any], rows: Rows | None
        ) -> tuple[jax.Array, jax.Array | None]:
            value, logits = self.critic(state.params["critic"], seen[0], rows), None
            if seen[1] is not None:
                inputs, noise = seen[1]
                logits = self.logits(state.params["actor"], inputs, noise, rows)[1]
            out = (value, logits)
            return out if rows is None else jax.tree.map(rows.unpack, out)

        counts = self.sizes.row_counts(batch.valid.shape[1])
        keeps_logits = any(part.keeps_logits for part in self.parts)
        both = (seen, (inputs[:-1], batch.extras.noise) if keeps_logits else None)
        value, logits = in_rows(counts, batch.valid, both, forward)
        value = self._denormalise(state.value_norm, value)
        played, alive, chooses = (x.astype(value.dtype) for x in (played, alive, chooses))
        return Experience(batch, inputs, seen, value, played, alive, chooses, logits)

    def rewards(
        self, state: PPOState, experience: Experience
    ) -> tuple[tuple[Any, ...], Float[Array, "T B N K"], Metrics]:
        """The parts' states after these episodes, what each value sums up, and what to log."""
        after, paid = self.pay(state.parts, experience, state.env_steps)
        said = paid.metrics
        if paid.bonus is not None:
            advantage = self.advantage(experience, paid.reward)
            said["intrinsic_ratio"] = intrinsic_ratio(paid.bonus, advantage, experience.alive)
        return after, jnp.stack([paid.reward, *paid.values], axis=-1), said

    def returns(
        self, experience: Experience, reward: Float[Array, "T B N K"]
    ) -> Float[Array, "T B N K"]:
        """TD(lambda) returns, which are generalised advantages plus values."""
        discount = self.config.gamma * experience.batch.discount[..., None]
        discount = jnp.broadcast_to(discount, reward.shape)
        return self._returns(experience, reward, discount, experience.value[1:])

    def advantage(
        self,
        experience: Experience,
        reward: Float[Array, "T B N"],
        value: Float[Array, "T+1 B N"] | None = None,
    ) -> Float[Array, "T B N"]:
        """Generalised advantages of a reward over a value of it; the policies' own if none is given."""
        value = experience.value[..., 0] if value is None else value
        discount = self.config.gamma * experience.batch.discount
        discount = jnp.broadcast_to(discount, reward.shape)
        return self._returns(experience, reward, discount, value[1:]) - value[:-1]

    def _returns(
        self, experience: Experience, reward: jax.Array, discount: jax.Array, next_value: jax.Array
    ) -> jax.Array:
        """Within each episode, also where rows hold several."""
        batch = experience.batch
        c = self.config
        return row_returns(batch.rows, batch.valid, reward, discount, next_value, c.gae_lambda)

    def normalised(
        self, experience: Experience, advantage: Float[Array, "T B N"]
    ) -> Float[Array, "T B N"]:
        """An advantage as the policies follow it, normalised over living agents."""
        if self.config.normalise_advantage == "batch":
            return normalise(advantage, experience.alive)
        if self.config.normalise_advantage == "agent":
            return jax.vmap(normalise, -1, -1)(advantage, experience.alive)
        return advantage

    def rates(self, env_steps: Int[Array, ""]) -> Rates:
        """The schedules after so many environment steps."""
        c = self.config
        return Rates(
            linear(c.lr, c.lr_final, c.lr_anneal_start, c.lr_anneal_end, env_steps),
            linear(
                c.entropy_weight,
                c.entropy_weight_final,
                c.entropy_anneal_start,
                c.entropy_anneal_end,
                env_steps,
            ),
        )

    def _normalise(self, value_norm: ValueNorm, x: jax.Array) -> jax.Array:
        return value_norm.normalise(x) if self.config.value_normalisation else x

    def _denormalise(self, value_norm: ValueNorm, x: jax.Array) -> jax.Array:
        return value_norm.denormalise(x) if self.config.value_normalisation else x

    def _lessons(
        self,
        experience: Experience,
        returns: Float[Array, "T B N K"],
        before: ValueNorm,
        value_norm: ValueNorm,
        value_mask: Float[Array, "T B N"],
    ) -> Lessons:
        batch = experience.batch
        lessons = Lessons(
            inputs=experience.inputs[:-1],
            critic_inputs=experience.critic_inputs[:-1],
            action_mask=batch.action_mask[:-1],
            action=self.decisions(batch),
            log_prob=batch.extras.log_prob,
            advantage=self.normalised(experience, returns[..., 0] - experience.value[:-1, ..., 0]),
            # What the network put out, from which it departs whatever returns are measured in now.
            value=self._normalise(before, experience.value[:-1]),
            target=self._normalise(value_norm, returns),
            mask=experience.chooses,
            value_mask=value_mask,
            weight=jnp.ones_like(experience.chooses),
            noise=batch.extras.noise,
        )
        if self.config.minibatch_unit == "episodes":
            return lessons
        return jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), lessons)

    def _diagnostics(
        self,
        experience: Experience,
        returns: Float[Array, "T B N K"],
        mask: Float[Array, "T B N"],
    ) -> Metrics:
        """How well values foretell returns."""
        value, names = experience.value[:-1], self.values
        fit = critic_fit(value[..., 0], returns[..., 0], mask)
        for k, name in enumerate(names[1:], 1):
            explained = explained_variance(value[..., k], returns[..., k], mask)
            fit[f"{name}_explained_variance"] = explained
        return fit

    # Learning.

    def learn(
        self, learner: Learner, lessons: Lessons, rates: Rates, key: jax.Array
    ) -> tuple[Learner, Metrics]:
        """All passes, each over minibatches in a new order."""

        def step(learner: Learner, part: Lessons) -> tuple[Learner, Metrics]:
            return self._gradient_step(self.loss, self.optimizer, learner, part, rates)

        return self.over_minibatches(step, learner, lessons, key)

    def learn_values(
        self, learner: Learner, lessons: Lessons, rates: Rates, key: jax.Array
    ) -> tuple[Learner, Metrics]:
        """All passes of the critic alone, for learners whose policies learn otherwise."""

        def loss(
            params: dict[str, Params], lessons: Lessons, rates: Rates
        ) -> tuple[Float[Array, ""], Metrics]:
            del rates
            value_loss = self.value_loss(params["critic"], lessons)
            return self.config.value_weight * value_loss, {"value_loss": value_loss}

        def step(learner: Learner, part: Lessons) -> tuple[Learner, Metrics]:
            return self._gradient_step(loss, self.optimizer, learner, part, rates)

        critic = Learner(*({"critic": x["critic"]} for x in learner))
        return self.over_minibatches(step, critic, lessons, key)

    def row_counts(self, num: int) -> tuple[int, ...]:
        """The numbers of rows that so many episodes are laid into; single steps are not."""
        alone = any(part.own_rows for part in self.parts)
        whole = self.config.minibatch_unit == "episodes" and not alone
        return self.sizes.row_counts(num) if whole else (num,)

    def over_minibatches(
        self,
        step: Callable[[LearnerT, LessonsT], tuple[LearnerT, Metrics]],
        learner: LearnerT,
        lessons: LessonsT,
        key: jax.Array,
    ) -> tuple[LearnerT, Metrics]:
        """Takes a gradient step on each minibatch of each pass; metrics are means over those.

        Whatever learns, and from whatever lessons: their masks and the key decide what each minibatch holds.
        """
        c = self.config
        num = lessons.value_mask.shape[1]
        size = num // c.minibatches
        episodes = c.minibatch_unit == "episodes"
        counts = self.row_counts(size)
        # Dead agents may have no values to learn; where all that are here are dead, there is nothing to learn at all.
        steps = jnp.any(lessons.value_mask > 0, axis=2)
        played = jnp.any(steps, axis=0)
        if c.minibatches == 1:

            def passes(lessons: LessonsT, rows: Rows | None) -> tuple[LearnerT, Metrics]:
                laid = lessons._replace(rows=rows)
                return jax.lax.scan(
                    lambda learner, _: step(learner, laid), learner, length=c.epochs
                )

            learner, metrics = in_rows(counts, steps, lessons, passes)
            return learner, jax.tree.map(jnp.mean, metrics)

        def new_order(key: jax.Array) -> Int[Array, "P K"]:
            order = jax.random.permutation(key, num)
            if c.minibatch_unit == "steps":
                # What was played first, so that minibatches are full.
                order = order[jnp.argsort(~played[order], stable=True)]
            return order[: size * c.minibatches].reshape(c.minibatches, size)

        def learn(learner: LearnerT, chosen: Int[Array, " K"]) -> tuple[LearnerT, Metrics]:
            return in_rows(
                counts,
                steps,
                lessons,
                lambda part, rows: step(learner, part._replace(rows=rows)),
                chosen,
            )

        orders = jax.vmap(new_order)(jax.random.split(key, c.epochs))
        if episodes:
            learner, metrics = jax.lax.scan(learn, learner, orders.reshape(-1, size))
            return learner, jax.tree.map(jnp.mean, metrics)

        return self._over_full(learn, learner, orders, played)

    def _over_full(
        self,
        learn: Callable[[LearnerT, Int[Array, " K"]], tuple[LearnerT, Metrics]],
        learner: LearnerT,
        orders: Int[Array, "E P K"],
        played: Bool[Array, " B"],
    ) -> tuple[LearnerT, Metrics]:
        """A gradient step on each minibatch of single steps that is full, or at least half so; one in every pass."""

        def maybe(
            learner: LearnerT, now: tuple[Int[Array, " K"], Bool[Array, ""]]
        ) -> tuple[LearnerT, Metrics]:
            chosen, counts = now
            metrics = jax.eval_shape(learn, learner, chosen)[1]
            nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)

            def take(learner: LearnerT, chosen: Int[Array, " K"]) -> tuple[LearnerT, Metrics]:
                after, said = learn(learner, chosen)
                keep = functools.partial(jnp.where, counts)
                return jax.tree.map(keep, after, learner), said

            # Without the work where it counts for no seed.
            anyone = of_all(counts.astype(jnp.int32)) > 0
            return jax.lax.cond(
                anyone, take, lambda learner, _: (learner, nothing), learner, chosen
            )

        size = orders.shape[-1]
        taken = (2 * jnp.sum(played[orders], axis=-1) >= size).at[:, 0].set(True)
        orders, taken = orders.reshape(-1, size), taken.reshape(-1)
        learner, metrics = jax.lax.scan(maybe, learner, (orders, taken))
        return learner, jax.tree.map(lambda x: jnp.mean(x, where=taken), metrics)

    def _gradient_step(
        self,
        loss: "Loss",
        optimizer: dict[str, optax.GradientTransformation],
        learner: Learner,
        lessons: Lessons,
        rates: Rates,
    ) -> tuple[Learner, Metrics]:
        """One step of every group that `learner` holds."""
        grads, metrics = jax.grad(loss, has_aux=True)(learner.params, lessons, rates)
        params, moments = {}, {}
        for name, before in learner.params.items():
            with jax.named_scope("optimizer"):
                updates, moments[name] = optimizer[name].update(
                    grads[name], learner.optimizer[name], before
                )
                updates = jax.tree.map(lambda x: -rates.lr * x, updates)
                params[name] = optax.apply_updates(before, updates)
            metrics[f"{name}_grad_norm"] = optax.tree.norm(grads[name])
        return Learner(params, moments), metrics

    def loss(
        self, params: dict[str, Params], lessons: Lessons, rates: Rates
    ) -> tuple[Float[Array, ""], Metrics]:
        """PPO's losses of policies and values."""
        given = (lessons.inputs, lessons.noise, lessons.rows)
        hidden, logits = self.logits(params["actor"], *given)
        actor_loss, metrics = self.actor_loss(logits, lessons, rates)
        value_loss = self.value_loss(params["critic"], lessons)
        total = actor_loss + self.config.value_weight * value_loss
        metrics["value_loss"] = value_loss
        steps = Steps(
            params,
            params["actor"],
            lessons.inputs,
            history(hidden, lessons.rows),
            jnp.max(lessons.value_mask, axis=-1),
            lambda shape: jnp.broadcast_to(lessons.noise, shape),
            rates.parts,
        )
        for part in self.parts:
            added, said = part.loss(PolicyLearning(lessons, steps))
            total, metrics = total + added, {**metrics, **said}
        return total, metrics

    def actor_loss(
        self, logits: Float[Array, "T B N O"], lessons: Lessons, rates: Rates
    ) -> tuple[Float[Array, ""], Metrics]:
        """Clipped surrogate (Eq. 7) and entropy of the agents in `lessons`.

        Agents with parameters of their own each have a mean of their own; the loss is their sum.
        """
        c = self.config
        policy = self.policy(logits, lessons.action_mask)
        log_prob, entropy = policy.log_prob(lessons.action), policy.entropy()
        advantage = lessons.advantage

        def mean_loss(
            log_prob: jax.Array,
            entropy: jax.Array,
            old: jax.Array,
            advantage: jax.Array,
            weight: jax.Array,
            mask: jax.Array,
        ) -> tuple[jax.Array, jax.Array]:
            if c.normalise_advantage == "minibatch":
                advantage = normalise(advantage, mask)
            # The weight is positive, so it goes through the minimum.
            surrogate = clipped_surrogate_loss(log_prob, old, weight * advantage, c.clip, mask)
            return surrogate, masked_mean(entropy, mask)

        if c.sharing == "independent":
            mean_loss = jax.vmap(mean_loss, in_axes=-1)
        surrogate, mean_entropy = mean_loss(
            log_prob, entropy, lessons.log_prob, advantage, lessons.weight, lessons.mask
        )
        log_ratio = log_prob - lessons.log_prob
        clipped = (jnp.abs(jnp.exp(log_ratio) - 1.0) > c.clip).astype(log_prob.dtype)
        return jnp.sum(surrogate - rates.entropy_weight * mean_entropy), {
            "actor_loss": jnp.mean(surrogate),
            "entropy": jnp.mean(mean_entropy),
            "approx_kl": approximate_kl(log_ratio, lessons.mask),
            "clip_fraction": masked_mean(clipped, lessons.mask),
        }

    def value_loss(self, critic: Params, lessons: Lessons) -> Float[Array, ""]:
        """Squared (or Huber's) errors in normalised units, summed over the K values."""
        c = self.config
        value = self.critic(critic, lessons.critic_inputs, lessons.rows)
        limit = c.value_clip or jnp.inf

        def mean_loss(
            value: jax.Array, old: jax.Array, target: jax.Array, mask: jax.Array
        ) -> jax.Array:
            mask = jnp.broadcast_to(mask[..., None], value.shape)
            return clipped_value_loss(value, old, target, limit, mask, c.huber_delta)

        if self.critic.independent:
            mean_loss = jax.vmap(mean_loss, in_axes=(2, 2, 2, 2))
        k = value.shape[-1]
        return k * jnp.sum(mean_loss(value, lessons.value, lessons.target, lessons.value_mask))


def only_ppo(backbone: type) -> str | None:
    """Why a part of the PPO core makes no sense elsewhere, see `Part.refusal`."""
    if issubclass(backbone, PPO):
        return None
    return "it is paid to the PPO core: ippo, mappo, happo, trpo or hatrpo"


class Divisible(Protocol):
    """Lessons that minibatches are made of: a named tuple of arrays, episodes or steps along their second axis.

    One of its fields is `rows`: what is where, once they are laid into rows; before that None.
    """

    @property
    def value_mask(self) -> Float[Array, "T B N"]:
        """1 where values learn."""
        ...

    def _replace(self: LessonsT, *, rows: Rows | None) -> LessonsT:
        """The same with other fields."""
        ...


class Loss(Protocol):
    """A loss of some groups of parameters."""

    def __call__(
        self, params: dict[str, Params], lessons: Lessons, rates: Rates, /
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss, and what to log."""
        ...
