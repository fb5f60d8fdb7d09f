"""What makes a team's agents differ, as parts that a backbone takes.

A method is a backbone and its parts: a part is one idea. All its hooks are pure functions, and a hook that a part
leaves alone does nothing:

- `agents`: what the agents' network is, or is given (roles, latents, heads).
- `init`, `optimizers`: parameters that the backbone learns with its own, and how.
- `bonus`: what agents are paid besides the task's reward, where they learn from a replay.
- `rewards`, `values`: the same where they learn from fresh episodes; the PPO core's critic may learn further values.
- `loss`: what is added to the backbone's loss; where single steps are drawn, what its own parameters descend on the
  whole episodes that it asks for (`drawn`).
- `start`, `watch`, `learn`, `settle`: what it learns and counts by itself.
- `explore`: what its agents do besides the backbone's exploration.

The backbone's state holds what a part learns.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from envs.base import Observation
from envs.configuration import Config
from marl_jax.networks import MixerInputs, Params, TeamAgent
from marl_jax.rows import Rows
from marl_jax.types import EpisodeBatch, Metrics

OWN = 1000
"""Keys from here on are not those that a key is split into."""


class Given(NamedTuple):
    """What agents make their outputs of, at a step or along episodes.

    Attributes:
        out: what their networks put out.
        inputs: what they see.
        latent: what was drawn for the episode, or on the PPO core for the step.
        key: random key, to draw more.
        rows: what is where, if episodes are laid into rows.
        explore: whether they act as in training, or learn.
    """

    out: Float[Array, "... N H"]
    inputs: Float[Array, "... N I"]
    latent: Any
    key: jax.Array
    rows: Rows | None = None
    explore: bool = True


@dataclasses.dataclass(frozen=True)
class Agents(abc.ABC):
    """The networks of a team, and what makes its outputs of theirs. What it draws for an episode is its latent.

    Attributes:
        context_size: features of the latent that a mixer sees beside the state; 0 for none.
    """

    context_size: ClassVar[int] = 0

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Params:
        """Draws the parameters."""

    @abc.abstractmethod
    def networks(self, params: Params) -> tuple[TeamAgent, Params]:
        """The networks that see and remember, and with which parameters."""

    def outputs(self, params: Params, given: Given) -> Float[Array, "*shape N A"]:
        """What the agents put out; by default what their networks do."""
        del params
        return given.out

    def latent(self, num_envs: int, key: jax.Array) -> Any:
        """What is drawn for an episode; an array [B, Z] is kept in the replay, and () is nothing."""
        del num_envs, key
        return ()

    def noise(self, num_envs: int, key: jax.Array) -> Any:
        """What is drawn at a step, [B, N, D], if a policy's update has to see it again; () is nothing."""
        del num_envs, key
        return ()

    def step(
        self,
        params: Params,
        hidden: Float[Array, "B N H"],
        inputs: Float[Array, "B N I"],
        latent: Any,
        key: jax.Array,
        explore: bool,
    ) -> tuple[Float[Array, "B N H"], Float[Array, "B N A"]]:
        """The agents' next hidden states, and their outputs. On the PPO core `latent` is the step's noise."""
        team, own = self.networks(params)
        carried, out = team.step(own, hidden, inputs)
        return carried, self.outputs(params, Given(out, inputs, latent, key, explore=explore))

    def unroll(
        self,
        params: Params,
        inputs: Float[Array, "T B N I"],
        latent: Any,
        key: jax.Array,
        rows: Rows | None = None,
    ) -> tuple[Float[Array, "T B N H"], Float[Array, "T B N A"]]:
        """The same along whole episodes; the latent is that of each episode, [B, Z], or of each entry, [T, B, Z]."""
        team, own = self.networks(params)
        hidden, out = team.unroll(own, inputs, rows)
        return hidden, self.outputs(params, Given(out, inputs, latent, key, rows))


@dataclasses.dataclass(frozen=True)
class PlainAgents(Agents):
    """Agents that are a network each, and draw nothing.

    Attributes:
        team: the networks.
        input_size: I.
        identical: whether all agents start with the first one's parameters.
    """

    team: TeamAgent
    input_size: int
    identical: bool = False

    def init(self, key: jax.Array) -> Params:
        """Draws the parameters."""
        params = self.team.init(key, self.input_size)
        if not self.identical:
            return params
        return jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), params)

    def networks(self, params: Params) -> tuple[TeamAgent, Params]:
        """All that they are."""
        return self.team, params


@dataclasses.dataclass(frozen=True)
class HeadedAgents(Agents):
    """Agents whose outputs are made of hidden states by something else than a layer of their networks.

    Attributes:
        core: the backbone.
        config: all options, as the part that they are of sees them.
    """

    core: Any
    config: Any

    @abc.abstractmethod
    def init_head(self, key: jax.Array) -> dict[str, Params]:
        """Parameters of what makes the outputs. The first split of the key is not its own."""

    def init(self, key: jax.Array) -> Params:
        """Draws the parameters."""
        own = self.init_head(key)
        size = self.core.agent_input_size
        return {"body": self.core.networks(0).init(jax.random.split(key)[0], size), **own}

    def networks(self, params: Params) -> tuple[TeamAgent, Params]:
        """The backbone's, without their outputs."""
        return self.core.networks(0), params["body"]


def history(hidden: Float[Array, "T B N H"], rows: Rows | None = None) -> Float[Array, "T B N H"]:
    """The hidden state before each step, zeros before an episode's first; constant."""
    before = jnp.concatenate([jnp.zeros_like(hidden[:1]), hidden[:-1]])
    if rows is not None:
        before = jnp.where(rows.start[: len(hidden), :, None, None], 0.0, before)
    return jax.lax.stop_gradient(before)


class Steps(NamedTuple):
    """The steps of a gradient step, as a loss sees them on any backbone.

    Attributes:
        params: the parameters that the loss is differentiated in.
        network: those of the agents' networks among them.
        inputs: what the agents' networks see.
        before: their hidden states before each step; constant.
        mask: 1 on the steps of episodes.
        normal: normal numbers of a shape [T, B, ...]; on a policy's backbone those that the agents acted with.
        parts: what each part learns and counts by itself; on a policy's backbone as it was before the iteration.
    """

    params: dict[str, Params]
    network: Params
    inputs: Float[Array, "T B N I"]
    before: Float[Array, "T B N H"]
    mask: Float[Array, "T B"]
    normal: Callable[[tuple[int, ...]], jax.Array]
    parts: tuple[Any, ...] = ()


class Episodes(Protocol):
    """An iteration's episodes on a backbone that learns from them once."""

    @property
    def batch(self) -> EpisodeBatch:
        """The episodes."""
        ...

    @property
    def alive(self) -> Float[Array, "T B N"]:
        """1 on the steps of episodes where an agent lives."""
        ...


class Learned(NamedTuple):
    """What a part learns by an optimiser of its own.

    Attributes:
        params: parameters.
        optimizer: its state.
    """

    params: Params
    optimizer: optax.OptState

    def after(self, optimizer: optax.GradientTransformation, gradient: Params) -> "Learned":
        """The same after a step down a gradient."""
        updates, state = optimizer.update(gradient, self.optimizer, self.params)
        return Learned(optax.apply_updates(self.params, updates), state)


class Paid(NamedTuple):
    """What a part makes of the rewards of an iteration's episodes.

    Attributes:
        reward: what agents are paid with it.
        bonus: what of it is its own, whose spread is logged beside that of the advantage; None to log nothing.
        metrics: what to log.
        values: what each of its `values` sums up.
    """

    reward: Float[Array, "T B N"]
    bonus: Float[Array, "T B N"] | None
    metrics: Metrics
    values: tuple[jax.Array, ...] = ()


WAYS = (("bonus", "rewards"), ("loss",), ("explore",), ("init",))
"""Hooks that each do one thing. A backbone that calls none of those that a part has cannot do that thing."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Base of the parts; by itself it does nothing.

    Attributes:
        name: what it is called where options are given (`--part.NAME.OPTION`); its class's name if it says none.
        Options: its options, which stand beside the backbone's.
        fixed: options of the backbone, by name, of which it takes one value alone.
        continuous: whether it knows what to make of continuous actions, too.
        core: the backbone that learns with it. The task's sizes are in `core.sizes`.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Config]] = Config
    fixed: ClassVar[Mapping[str, Any]] = {}
    continuous: ClassVar[bool] = False

    core: Any

    def __init_subclass__(cls) -> None:
        cls.name = cls.__dict__.get("name", cls.__name__)

    @property
    def config(self) -> Any:
        """All options, each by its name: the backbone's and other parts', and over them its own."""
        c = self.core.config
        return SimpleNamespace(**vars(c) | vars(c.of_part(self.name)))

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Why it makes no sense on a backbone: one sentence; None if it does. By default by its hooks alone."""
        if cls.agents is not Part.agents and not getattr(backbone, "takes_agents", False):
            return (
                "it brings agents' networks of its own, which vdn, qmix, qplex, ippo and mappo take"
            )
        called = set(getattr(backbone, "hooks", ()))
        if "drawn" in called and cls.drawn is not Part.drawn:
            called.add("loss")
        for ways in WAYS:
            own = [hook for hook in ways if getattr(cls, hook) is not getattr(Part, hook)]
            if own and called.isdisjoint(own):
                return f"nothing there calls its {own[0]}"
        return None

    @classmethod
    def defaults_on(cls, backbone: type) -> Mapping[str, Any]:
        """Defaults of a backbone's options, by name, where the idea asks for others."""
        del backbone
        return {}

    @classmethod
    def needs_on(cls, backbone: type) -> Mapping[str, Any]:
        """Values of a backbone's options, by name, without which the idea makes no sense.

        They are its defaults, and in a pair go over what a task's file or a preset says of the backbone. What is not
        `fixed` among them may still be given otherwise.
        """
        del backbone
        return cls.fixed

    @classmethod
    def options_on(cls, backbone: type) -> type[Config]:
        """Its options on a backbone."""
        del backbone
        return cls.Options

    def check(self) -> None:
        """Refuses options or tasks that make no sense with it."""

    @property
    def agents(self) -> Agents | None:
        """The agents' networks, if they are others than the backbone's; at most one part has some."""
        return None

    def init(self, key: jax.Array) -> dict[str, Params]:
        """Parameters, by name. The first split of the key is not its own: others draw from it."""
        del key
        return {}

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Of those of its parameters that have one of their own, by name; the others are learned as the team is.

        Where single steps are drawn, nothing is learned without one.
        """
        return {}

    @property
    def target_rates(self) -> dict[str, float]:
        """By name, the share of the way that targets go after every gradient step; others move as the team's do."""
        return {}

    @property
    def keeps_values(self) -> bool:
        """Whether the replay keeps the action values that the agents acted on."""
        return False

    @property
    def own_rows(self) -> bool:
        """Whether it looks across a batch, so that every episode must have a row of its own."""
        return False

    @property
    def drawn(self) -> dict[str, int]:
        """On single steps of a replay, how many whole episodes its loss draws, by the option that says so; or none."""
        return {}

    def bonus(self, learning: Any) -> tuple[Any, Float[Array, "T B N"]] | None:
        """What each agent is paid besides the task's reward, which is constant: the weight, and what is weighed."""
        del learning
        return None

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values that a critic learns for it, besides that of what the policies follow."""
        return ()

    @property
    def keeps_logits(self) -> bool:
        """Whether it looks at the policies as they were."""
        return False

    def start(self, key: jax.Array) -> Any:
        """The first state of what it learns and counts by itself: a tree of arrays."""
        del key
        return ()

    def rewards(
        self, state: Any, experience: Any, paid: Float[Array, "T B N"], env_steps: Int[Array, ""]
    ) -> tuple[Any, Paid]:
        """What agents are paid for an iteration's episodes.

        Args:
            state: its own.
            experience: the episodes.
            paid: what they are paid without it.
            env_steps: environment steps learned from so far.

        Returns:
            Its state after them, and what they are paid with it.
        """
        del experience, env_steps
        return state, Paid(paid, None, {})

    def learn(self, state: Any, lesson: Any) -> tuple[Any, Metrics]:
        """Its state after the backbone has learned from these episodes, and what to log."""
        del lesson
        return state, {}

    def settle(
        self,
        state: Any,
        params: dict[str, Params],
        metrics: Metrics,
        env_steps: Int[Array, ""],
        key: jax.Array,
    ) -> tuple[Any, dict[str, Params]]:
        """What it makes of a gradient step of the Q-learner, or of an iteration's on the PPO core.

        Args:
            state: its own.
            params: the backbone's, after the step.
            metrics: what was logged of it; of several the means.
            env_steps: environment steps learned from so far.
            key: random key.

        Returns:
            Its state after it, and the parameters, which it may change.
        """
        del metrics, env_steps, key
        return state, params

    def loss(self, learning: Any) -> tuple[jax.Array, Metrics]:
        """What is added to the loss, and what to log."""
        del learning
        return jnp.zeros(()), {}

    def explore(
        self,
        state: Any,
        latent: Any,
        observation: Observation,
        action: Int[Array, "B N"],
        key: jax.Array,
    ) -> Int[Array, "B N"]:
        """What the agents do in training, once the backbone has chosen."""
        del state, latent, observation, key
        return action

    def watch(self, state: Any, own: Any, fresh: EpisodeBatch) -> tuple[Any, Metrics]:
        """Looks at an iteration's episodes where there is a replay, before anything is learned.

        Args:
            state: the backbone's.
            own: what the part learns and counts by itself.
            fresh: the episodes.

        Returns:
            Its own state after them, and what to log.
        """
        del state, fresh
        return own, {}

    def credits(
        self, params: dict[str, Params], taken: MixerInputs
    ) -> Float[Array, "*batch N"] | None:
        """The agents' credits, if it sees others than the mixer's exact ones."""
        del params, taken
        return None


def settle(
    parts: tuple[Part, ...],
    states: tuple[Any, ...],
    params: dict[str, Params],
    metrics: Metrics,
    env_steps: Int[Array, ""],
    key: jax.Array,
) -> tuple[tuple[Any, ...], dict[str, Params]]:
    """What all parts make of a gradient step, one after the other: their states, and the parameters."""
    after = []
    for k, (part, own) in enumerate(zip(parts, states, strict=True)):
        part_key = jax.random.fold_in(key, OWN + k)
        own, params = part.settle(own, params, metrics, env_steps, part_key)
        after.append(own)
    return tuple(after), params


PartT = TypeVar("PartT", bound=Part)


def part_of(method: Any, kind: type[PartT]) -> PartT | None:
    """The part of a kind that a method has, or None."""
    for part in getattr(method, "parts", ()):
        if isinstance(part, kind):
            return part
    return None
