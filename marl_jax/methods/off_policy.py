"""What actor-critics share that learn from single steps of a replay: MAAC and the MADDPG family."""

import abc
import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from envs.configuration import ConfigurationError, Range
from marl_jax.methods.team import Positive, SingleStepMethod, TeamConfig, Unit, gradient_steps
from marl_jax.networks import Params, Sharing
from marl_jax.replay import EpisodeReplay, ReplayState
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class OffPolicyConfig(TeamConfig):
    """A team that learns from single steps."""

    agent: Literal["mlp"] = "mlp"
    """Network of one agent: feed-forward, since single steps are drawn from the replay."""
    sharing: Sharing = "independent"
    """Whether agents share parameters or have their own."""
    observe_last_action: Literal[False] = False
    """Not possible: single steps are drawn from the replay."""
    observe_identity: bool = False
    """Whether an agent sees which one it is."""
    updates_per_episode: Annotated[float, Range(above=0)] = 1.0
    """Gradient steps for each new episode, whatever num_envs is: an iteration takes num_envs times as many, which must
    be a whole number."""
    batch_size: Annotated[int, Range(minimum=1)] = 1024
    """Steps drawn for a gradient step; learning starts when there are as many."""
    replay_capacity: Annotated[int, Range(minimum=1)] = 5000
    """Episodes kept. The authors keep a million steps."""
    gamma: Annotated[float, Unit] = 0.99
    """Discount factor."""
    target_update_rate: Annotated[float, Range(above=0, maximum=1)] = 1e-3
    """Share of the way that the targets go after every gradient step."""
    actor_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the policies (Adam)."""
    critic_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the critics (Adam)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        gradient_steps(self.num_envs, self.updates_per_episode)
        if self.replay_capacity < self.num_envs:
            raise ConfigurationError(
                f"replay_capacity is {self.replay_capacity}; it must be at least num_envs, {self.num_envs}."
            )


class OffPolicyState(NamedTuple):
    """All that a learner learns and counts.

    Attributes:
        params: parameters by part ("actor", "critic", and what a method adds).
        target: the delayed copy of actors and critics.
        optimizer: optimiser states by part.
        env_steps: environment steps taken.
        updates: gradient steps taken.
    """

    params: dict[str, Params]
    target: dict[str, Params]
    optimizer: dict[str, optax.OptState]
    env_steps: Int[Array, ""]
    updates: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class OffPolicyMethod(SingleStepMethod):
    """Base of the actor-critics that learn from single steps of a replay."""

    @property
    def replay(self) -> EpisodeReplay:
        """The last `replay_capacity` episodes, of which single steps are drawn."""
        return EpisodeReplay(self.config.replay_capacity)

    # What a member of the family defines.

    @property
    @abc.abstractmethod
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Of the parts that are learned by one step each on every batch."""

    @abc.abstractmethod
    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        """Parameters by part."""

    @abc.abstractmethod
    def _step(
        self, state: OffPolicyState, context: Any, replay: ReplayState, key: jax.Array
    ) -> tuple[OffPolicyState, Metrics]:
        """One gradient step of everything, without the counting."""

    def _begin(
        self, state: OffPolicyState, fresh: EpisodeBatch, replay: ReplayState
    ) -> tuple[OffPolicyState, Any]:
        """What happens once in an iteration: the state to learn from, and what its gradient steps have in common."""
        del fresh, replay
        return state, ()

    # The method's contract.

    def init(self, key: jax.Array) -> OffPolicyState:
        """Draws the parameters."""
        params = self._init_params(key)
        # A copy, not the same buffers: the training loop donates both.
        target = {name: jax.tree.map(jnp.copy, params[name]) for name in ("actor", "critic")}
        optimizer = {name: opt.init(params[name]) for name, opt in self._optimizers.items()}
        zero = jnp.zeros((), jnp.int32)
        return OffPolicyState(params, target, optimizer, zero, zero)

    def update(
        self, state: OffPolicyState, fresh: EpisodeBatch, replay: ReplayState | None, key: jax.Array
    ) -> tuple[OffPolicyState, Metrics]:
        """Takes num_envs times updates_per_episode gradient steps, each on steps drawn anew."""
        assert replay is not None
        state = state._replace(env_steps=state.env_steps + jnp.sum(fresh.valid, dtype=jnp.int32))
        enough = self.replay.transitions(replay) >= self.config.batch_size
        state, context = self._begin(state, fresh, replay)

        def step(state: OffPolicyState, key: jax.Array) -> tuple[OffPolicyState, Metrics]:
            learned, metrics = self._step(state, context, replay, key)
            learned = learned._replace(updates=state.updates + 1)
            # Not a `cond`: under `vmap` over seeds it would be turned into this anyway.
            return jax.tree.map(
                lambda new, old: jnp.where(enough, new, old), learned, state
            ), metrics

        steps = gradient_steps(self.num_envs, self.config.updates_per_episode)
        state, metrics = jax.lax.scan(step, state, jax.random.split(key, steps))
        return state, {name: jnp.where(enough, jnp.mean(x), 0.0) for name, x in metrics.items()}

    # Parts.

    def _apply(self, state: OffPolicyState, part: str, grads: Params) -> OffPolicyState:
        """One optimiser step of one part."""
        old = state.params[part]
        updates, optimizer = self._optimizers[part].update(grads, state.optimizer[part], old)
        return state._replace(
            params={**state.params, part: optax.apply_updates(old, updates)},
            optimizer={**state.optimizer, part: optimizer},
        )

    def _follow(self, state: OffPolicyState) -> OffPolicyState:
        """Takes the targets a share of the way to what they are copies of."""
        learned = {name: state.params[name] for name in state.target}
        rate = self.config.target_update_rate
        return state._replace(target=optax.incremental_update(learned, state.target, rate))
