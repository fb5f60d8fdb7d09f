"""What methods on PyMARL's substrate share: the agents' networks, what they see, their exploration rate."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from envs.base import Observation
from envs.configuration import Config, ConfigurationError, Range
from marl_jax.lengths import LEAST
from marl_jax.methods.base import Sizes
from marl_jax.methods.part import OWN, Agents, Episodes, Paid, Part, PlainAgents
from marl_jax.networks import (
    GRUAgent,
    MLPAgent,
    Params,
    Sharing,
    TeamAgent,
    apply_per_agent,
    init_per_agent,
)
from marl_jax.replay import EpisodeReplay, ReplayState
from marl_jax.schedules import linear
from marl_jax.types import EpisodeBatch, Metrics

Positive = Range(above=0)
NotNegative = Range(minimum=0)
Unit = Range(minimum=0, maximum=1)


class PartFields(NamedTuple):
    """Where a part's options are.

    Attributes:
        kind: the class of its options.
        fields: by option, the field that holds it: of the same name, or PART_OPTION where something else has that.
    """

    kind: type[Config]
    fields: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class TeamConfig(Config):
    """The agents.

    Attributes:
        parts: by name, the parts whose options stand beside these.
    """

    parts: ClassVar[Mapping[str, PartFields]] = {}

    agent: Literal["gru", "mlp"] = "gru"
    """Network of one agent: recurrent, or feed-forward."""
    hidden_size: Annotated[int, Range(minimum=1)] = 64
    """Units of the agent network."""
    head_sizes: tuple[Annotated[int, Range(minimum=1)], ...] = ()
    """Units of further layers between a recurrent agent's memory and its outputs; ROMA's QMIX-LAR has 80 25."""
    sharing: Sharing = "shared"
    """Whether agents share parameters or have their own (QMIX-NPS)."""
    observe_last_action: bool = True
    """Whether an agent sees its own last action."""
    observe_identity: bool = True
    """Whether an agent sees which one it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.agent == "mlp" and self.head_sizes:
            raise ConfigurationError(
                f"head_sizes is {self.head_sizes}; it must be empty unless agent is 'gru'."
            )
        for name in self.parts:
            self.of_part(name)

    def of_part(self, name: str) -> Config:
        """A part's options, by their own names."""
        kind, fields = self.parts[name]
        return kind(**{option: getattr(self, field) for option, field in fields.items()})


class ReplayRates(NamedTuple):
    """What a replay learner's rates, stated in environment steps, come to on a task.

    Attributes:
        num_envs: W, environments played side by side.
        num_episodes: B, episodes of an iteration.
        gradient_steps: gradient steps of an iteration.
        episodes: episodes of the time limit's length that the replay has room for.
    """

    num_envs: int
    num_episodes: int
    gradient_steps: int
    episodes: int


def replay_rates(
    config: Any, time_limit: int, drawn: Mapping[str, int], episodes_per_env: int = 1
) -> ReplayRates:
    """Environments, gradient steps and episodes of a learner with `num_envs`, `update_interval` and `replay_capacity`.

    Episodes count with their time limit, since an iteration's work is fixed before it is played. For learners that
    count what was played, that is the most that an iteration can have.

    Args:
        config: the learner's options.
        time_limit: T, the task's.
        drawn: how many episodes of T steps a batch takes, by the option that says so.
        episodes_per_env: episodes that each environment plays in an iteration.

    Raises:
        ConfigurationError: if the replay would not hold a batch, or an iteration's episodes.
    """
    episodes_of_a_step = math.ceil(config.update_interval / time_limit)
    num_envs = max(config.num_envs, math.ceil(episodes_of_a_step / episodes_per_env))
    episodes = config.replay_capacity // time_limit
    num_episodes = num_envs * episodes_per_env
    for name, needed in {"an iteration": num_episodes, **drawn}.items():
        if episodes < needed:
            raise ConfigurationError(
                f"replay_capacity is {config.replay_capacity}; it must be at least {needed * time_limit} environment "
                f"steps here, {needed} episodes of {time_limit}, for {name}."
            )
    steps = round(num_episodes * time_limit / config.update_interval)
    return ReplayRates(num_envs, num_episodes, steps, episodes)


def make_replay(rates: ReplayRates, sizes: Sizes) -> EpisodeReplay:
    """The replay of such a learner; where episodes may end early, it has an index for eight times as many."""
    limit = sizes.time_limit
    shortest = -(-limit // 8) if sizes.ends_early and limit >= LEAST else None
    bits: list[tuple[str, tuple[int, ...]]] = []
    if "agents_view" in sizes.binary:
        bits.append(("observation", (sizes.num_agents, sizes.observation)))
    if "global_state" in sizes.binary:
        bits.append(("global_state", (sizes.global_state,)))
    return EpisodeReplay(rates.episodes, limit, shortest, tuple(bits))


class AgentMemory(NamedTuple):
    """What the agents carry.

    Attributes:
        hidden: the network's memory.
        last_action: one-hot.
        latent: what a method draws once for a whole episode, such as MAVEN's; most draw nothing.
    """

    hidden: Float[Array, "B N H"]
    last_action: Float[Array, "B N A"]
    latent: Any = ()


@dataclasses.dataclass(frozen=True)
class TeamMethod(abc.ABC):
    """Base of the methods: a team of agent networks.

    Attributes:
        continuous: whether it can learn continuous actions.
        discrete: whether it can learn discrete ones.
        takes_no_parts: why it takes no parts; None if it does.
        takes_agents: whether a part may bring agents that share their parameters.
        hooks: those of `marl_jax.methods.part.WAYS` that it calls; "drawn" for a loss of whole episodes that are drawn.
        config: hyper-parameters.
        sizes: sizes of the task.
        kinds: the parts that it takes.
    """

    Config: ClassVar[type[TeamConfig]]
    continuous: ClassVar[bool] = False
    discrete: ClassVar[bool] = True
    takes_no_parts: ClassVar[str | None] = None
    takes_agents: ClassVar[bool] = False
    hooks: ClassVar[tuple[str, ...]] = ()

    config: Any
    sizes: Sizes
    kinds: tuple[type[Part], ...] = ()

    def __post_init__(self) -> None:
        for part in self.parts:
            for name, value in part.fixed.items():
                given = getattr(self.config, name)
                if given != value:
                    allowed = {False: "false", (): "empty"}.get(value, repr(value))
                    raise ConfigurationError(
                        f"{name} is {given!r}; it must be {allowed} for {part.name}."
                    )
            part.check()

    @property
    def parts(self) -> tuple[Part, ...]:
        """What makes the agents differ."""
        return tuple(kind(self) for kind in self.kinds)

    @property
    def num_envs(self) -> int:
        """W."""
        return self.config.num_envs

    @property
    def num_episodes(self) -> int:
        """B: one in each environment."""
        return self.num_envs

    @property
    def replay(self) -> EpisodeReplay | None:
        """None: learns from fresh episodes only."""
        return None

    @property
    def agent(self) -> TeamAgent:
        """The agents' networks."""
        return self.networks(self.sizes.num_actions)

    @property
    def agents(self) -> Agents:
        """What acts: a part's agents, or plain ones."""
        for part in self.parts:
            if part.agents is not None:
                return part.agents
        return PlainAgents(self.agent, self.agent_input_size)

    def init_parts(self, key: jax.Array) -> tuple[dict[str, Params], tuple[Any, ...], jax.Array]:
        """Parameters of the parts by name, what each learns and counts by itself, and a key for the others."""
        keys = (jax.random.fold_in(key, OWN + k) for k in range(len(self.kinds)))
        states = tuple(part.start(k) for part, k in zip(self.parts, keys, strict=True))
        params: dict[str, Params] = {}
        for part in self.parts:
            drawn = part.init(key)
            if drawn:
                params, key = {**params, **drawn}, jax.random.split(key)[0]
        return params, states, key

    def watch_parts(self, state: Any, fresh: EpisodeBatch) -> tuple[Any, Metrics]:
        """The learner once its parts have looked at fresh episodes, and what they log."""
        seen = zip(self.parts, state.parts, strict=True)
        watched = [part.watch(state, own, fresh) for part, own in seen]
        said = {name: x for _, logged in watched for name, x in logged.items()}
        return state._replace(parts=tuple(own for own, _ in watched)), said

    def pay(
        self, states: tuple[Any, ...], experience: Episodes, env_steps: Int[Array, ""]
    ) -> tuple[tuple[Any, ...], Paid]:
        """The parts' states after fresh episodes, and what all of them make of the task's reward."""
        paid = Paid(experience.batch.reward, None, {})
        after = []
        for part, own in zip(self.parts, states, strict=True):
            own, its = part.rewards(own, experience, paid.reward, env_steps)
            after.append(own)
            bonuses = [x for x in (paid.bonus, its.bonus) if x is not None]
            bonus = sum(bonuses[1:], bonuses[0]) if bonuses else None
            said = {**paid.metrics, **its.metrics}
            paid = Paid(its.reward, bonus, said, (*paid.values, *its.values))
        return tuple(after), paid

    def teach(self, states: tuple[Any, ...], lesson: Any) -> tuple[tuple[Any, ...], Metrics]:
        """The parts' states once they have learned from fresh episodes, each with draws of its own; what they log."""
        taught = []
        for k, (part, own) in enumerate(zip(self.parts, states, strict=True)):
            # The lesson's key has been used, and those from OWN on are settle's.
            key = jax.random.fold_in(lesson.key, 2 * OWN + k)
            taught.append(part.learn(own, lesson._replace(key=key)))
        said = {name: x for _, logged in taught for name, x in logged.items()}
        return tuple(own for own, _ in taught), said

    def networks(self, outputs: int) -> TeamAgent:
        """Networks with so many outputs; with 0 they put out their hidden states."""
        c = self.config
        network = (
            GRUAgent(outputs, c.hidden_size, c.head_sizes)
            if c.agent == "gru"
            else MLPAgent(outputs, c.hidden_size)
        )
        return TeamAgent(network, self.sizes.num_agents, c.sharing)

    def init_network(self, network: nn.Module, size: int, key: jax.Array) -> Params:
        """Parameters of one agent's network that sees `size` features, shared or for each as the agents' are."""
        n, sharing = self.sizes.num_agents, self.config.sharing
        return init_per_agent(lambda k: network.init(k, jnp.zeros((size,))), key, n, sharing)

    def apply_network(
        self, network: nn.Module, params: Params, x: Float[Array, "*shape N I"]
    ) -> Float[Array, "*shape N O"]:
        """What it makes of what each agent sees."""
        out: jax.Array = apply_per_agent(network.apply, params, x, sharing=self.config.sharing)
        return out

    @property
    def agent_input_size(self) -> int:
        """Features that an agent's network sees."""
        n, a = self.sizes.num_agents, self.sizes.num_actions
        seen = a * self.config.observe_last_action + n * self.config.observe_identity
        return self.sizes.observation + seen

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Any:
        """See `Method`."""

    @abc.abstractmethod
    def act(
        self, state: Any, memory: Any, observation: Observation, key: jax.Array, explore: bool
    ) -> tuple[Any, jax.Array, Any]:
        """See `Method`."""

    @abc.abstractmethod
    def update(
        self, state: Any, fresh: EpisodeBatch, replay: ReplayState | None, key: jax.Array
    ) -> tuple[Any, Metrics]:
        """See `Method`."""

    def initial_memory(self, state: Any, num_envs: int, key: jax.Array) -> AgentMemory:
        """Zeros, and no last action."""
        del state, key
        n, a = self.sizes.num_agents, self.sizes.num_actions
        return AgentMemory(self.agent.initial_memory(num_envs), jnp.zeros((num_envs, n, a)))

    def epsilon(self, state: Any) -> Float[Array, ""]:
        """The exploration rate after `state.env_steps` environment steps."""
        c = self.config
        return linear(c.epsilon_start, c.epsilon_finish, 0, c.epsilon_anneal_steps, state.env_steps)

    def one_hot(self, action: Int[Array, "*batch"]) -> Float[Array, "*batch A"]:
        """Actions, one-hot."""
        return jax.nn.one_hot(action, self.sizes.num_actions)

    def identities(self, shape: tuple[int, ...]) -> Float[Array, "*shape N N"]:
        """Every agent's number, one-hot."""
        n = self.sizes.num_agents
        return jnp.broadcast_to(jnp.eye(n), (*shape, n, n))

    def agent_inputs(
        self, observation: Float[Array, "*shape N F"], last_action: Float[Array, "*shape N A"]
    ) -> Float[Array, "*shape N I"]:
        """What the agents' networks see: observations first, then what the options add."""
        parts = [observation]
        if self.config.observe_last_action:
            parts.append(last_action)
        if self.config.observe_identity:
            parts.append(self.identities(observation.shape[:-2]))
        return jnp.concatenate(parts, axis=-1)
