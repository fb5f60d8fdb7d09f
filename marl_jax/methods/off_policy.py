"""What actor-critics share that learn from single steps of a replay: MAAC and the MADDPG family."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from envs.configuration import Range
from marl_jax.lengths import of_all, scan_while
from marl_jax.methods.part import OWN, Part
from marl_jax.methods.team import (
    Positive,
    ReplayRates,
    TeamConfig,
    TeamMethod,
    Unit,
    make_replay,
    replay_rates,
)
from marl_jax.networks import Params, Sharing
from marl_jax.optimizers import for_each
from marl_jax.replay import EpisodeReplay, ReplayState
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class OffPolicyConfig(TeamConfig):
    """A team that learns from single steps."""

    agent: Literal["mlp"] = "mlp"
    """Network of one agent: feed-forward, since single steps are drawn from the replay."""
    head_sizes: tuple[()] = ()
    """None: there is no memory to put layers behind."""
    sharing: Sharing = "independent"
    """Whether agents share parameters or have their own."""
    observe_last_action: Literal[False] = False
    """Not possible: single steps are drawn from the replay."""
    observe_identity: bool = False
    """Whether an agent sees which one it is."""
    num_envs: Annotated[int, Range(minimum=1)] = 1
    """Environments played side by side, at least: where an iteration, one episode of each, would be shorter than
    update_interval, there are as many as it takes."""
    update_interval: Annotated[int, Range(minimum=1)] = 100
    """Environment steps for each gradient step (elsewhere train_frequency). Where actions are continuous and episodes
    end early, those count that were played. Elsewhere episodes count with their time limit, and an iteration's gradient
    steps are rounded to whole ones."""
    batch_size: Annotated[int, Range(minimum=1)] = 1024
    """Steps drawn for a gradient step; learning starts when there are as many."""
    replay_capacity: Annotated[int, Range(minimum=1)] = 500_000
    """Environment steps kept, in whole episodes that count with their time limit. The authors keep a million."""
    gamma: Annotated[float, Unit] = 0.99
    """Discount factor."""
    target_update_rate: Annotated[float, Range(above=0, maximum=1)] = 1e-3
    """Share of the way that the targets go after every gradient step."""
    actor_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the policies (Adam)."""
    critic_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the critics (Adam)."""


class OffPolicyState(NamedTuple):
    """All that a learner learns and counts.

    Attributes:
        params: parameters by part ("actor", "critic", and what a method adds).
        target: the delayed copies of actors and critics, or of critics alone.
        optimizer: optimiser states by part.
        env_steps: environment steps taken.
        updates: gradient steps taken.
        parts: what each part learns and counts by itself.
    """

    params: dict[str, Params]
    target: dict[str, Params]
    optimizer: dict[str, optax.OptState]
    env_steps: Int[Array, ""]
    updates: Int[Array, ""]
    parts: tuple[Any, ...] = ()


class Sampled(NamedTuple):
    """What parts see of a gradient step.

    Attributes:
        params: parameters by part; what a loss is differentiated in is among them.
        state: the learner before the step.
        batch: single steps (T is 1), which parts pay for; or whole episodes, for the loss of a part that draws some.
        key: random key of a loss; None where parts pay, which is not by chance.
    """

    params: dict[str, Params]
    state: OffPolicyState
    batch: EpisodeBatch
    key: jax.Array | None


@dataclasses.dataclass(frozen=True)
class OffPolicyMethod(TeamMethod):
    """Base of the actor-critics that learn from single steps of a replay: feed-forward, without the last action.

    Attributes:
        delayed: the parts that have a delayed copy.
    """

    hooks: ClassVar = ("init", "bonus", "drawn")
    delayed: ClassVar[tuple[str, ...]] = ("actor", "critic")

    def __post_init__(self) -> None:
        # Refuses a replay that is too small.
        _ = self.rates
        super().__post_init__()

    @property
    def rates(self) -> ReplayRates:
        """Environments, gradient steps of an iteration, and episodes kept."""
        return replay_rates(self.config, self.sizes.time_limit, self._drawn)

    @property
    def _drawn(self) -> dict[str, int]:
        """How many episodes a batch takes, by the option that says so."""
        steps = {"batch_size": math.ceil(self.config.batch_size / self.sizes.time_limit)}
        return steps | {name: num for part in self.parts for name, num in part.drawn.items()}

    @property
    def num_envs(self) -> int:
        """W."""
        return self.rates.num_envs

    @property
    def replay(self) -> EpisodeReplay:
        """The last `replay_capacity` steps' episodes, of which single steps are drawn."""
        return make_replay(self.rates, self.sizes)

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

    def initial_memory(self, state: Any, num_envs: int, key: jax.Array) -> Any:
        """Nothing."""
        return ()

    def init(self, key: jax.Array) -> OffPolicyState:
        """Draws the parameters."""
        own, parts, key = self.init_parts(key)
        params = {**self._init_params(key), **own}
        # A copy, not the same buffers: the training loop donates both.
        target = {name: jax.tree.map(jnp.copy, params[name]) for name in self.delayed}
        optimizer = {name: opt.init(params[name]) for name, opt in self.optimizers.items()}
        zero = jnp.zeros((), jnp.int32)
        return OffPolicyState(params, target, optimizer, zero, zero, parts)

    def update(
        self, state: OffPolicyState, fresh: EpisodeBatch, replay: ReplayState | None, key: jax.Array
    ) -> tuple[OffPolicyState, Metrics]:
        """Takes a gradient step for every `update_interval` steps, each on steps drawn anew.

        Where actions are continuous steps count that were played, elsewhere episodes with their time limit.
        """
        assert replay is not None
        state, watched = self.watch_parts(state, fresh)
        before = state.env_steps
        state = state._replace(env_steps=before + jnp.sum(fresh.valid, dtype=jnp.int32))
        enough = self.replay.transitions(replay) >= self.config.batch_size
        state, context = self._begin(state, fresh, replay)
        interval = self.config.update_interval
        due = state.env_steps // interval - before // interval

        def step(state: OffPolicyState, key: jax.Array) -> tuple[OffPolicyState, Metrics]:
            learned, metrics = self._step(state, context, replay, key)
            learned = learned._replace(updates=state.updates + 1)
            # Not a `cond`: under `vmap` over seeds it would be turned into this anyway.
            return jax.tree.map(
                lambda new, old: jnp.where(enough, new, old), learned, state
            ), metrics

        if self.sizes.continuous and self.sizes.ends_early:
            most = math.ceil(self.num_episodes * self.sizes.time_limit / interval)
            state, metrics = _so_many(due, step, state, jax.random.split(key, most))
        else:
            keys = jax.random.split(key, self.rates.gradient_steps)
            state, metrics = jax.lax.scan(step, state, keys)
            metrics = jax.tree.map(jnp.mean, metrics)
        metrics = {name: jnp.where(enough, x, 0.0) for name, x in metrics.items()}
        return state, {**metrics, **watched}

    # Steps of an update.

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Of all that is learned by one step each on every batch."""
        own = {name: one for part in self.parts for name, one in part.optimizers.items()}
        return {**self._optimizers, **own}

    def teach_parts(
        self, state: OffPolicyState, replay: ReplayState, key: jax.Array
    ) -> tuple[OffPolicyState, Metrics]:
        """A step of each part's own parameters by its own loss, on the whole episodes that it draws."""
        metrics: Metrics = {}
        for k, part in enumerate(self.parts):
            if not part.drawn:
                continue
            (num,) = part.drawn.values()
            sample_key, loss_key = jax.random.split(jax.random.fold_in(key, OWN + k) if k else key)
            episodes = self.replay.sample(replay, sample_key, num)
            own = {name: state.params[name] for name in part.optimizers}
            given = Sampled(state.params, state, episodes, loss_key)
            grads, said = jax.grad(_loss_of_part, has_aux=True)(own, part, given)
            for name in own:
                state = self._apply(state, name, grads[name])
            metrics |= said
        return state, metrics

    def over_agents(self, losses: Float[Array, "N ..."]) -> Float[Array, ""]:
        """The agents' losses as one: their mean where they share parameters, and else the sum.

        So a gradient is clipped at the norm of one agent's, whoever shares.
        """
        total = jnp.sum(losses)
        return total / self.sizes.num_agents if self.config.sharing == "shared" else total

    def paid(
        self, state: OffPolicyState, steps: EpisodeBatch, reward: Float[Array, "B N"]
    ) -> Float[Array, "B N"]:
        """A reward of single steps, and what the parts pay on top to those that live."""
        for part in self.parts:
            bonus = part.bonus(Sampled(state.params, state, steps, None))
            if bonus is not None:
                reward = reward + bonus[0] * bonus[1][0] * steps.alive[0]
        return reward

    def _inputs(self, observation: Float[Array, "*shape N F"]) -> Float[Array, "*shape N I"]:
        return self.agent_inputs(observation, observation[..., :0])

    def _per_agent(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        """The optimiser of a part with parameters for each agent, whose gradient is clipped by its own norm."""
        return for_each(optimizer, int(self.config.sharing == "independent"))

    def _sample(self, replay: ReplayState, key: jax.Array) -> EpisodeBatch:
        """The single steps of a gradient step."""
        with jax.named_scope("replay"):
            return self.replay.sample_transitions(replay, key, self.config.batch_size)

    def _descend(
        self, state: OffPolicyState, part: str, loss: Callable[..., Any], *given: Any
    ) -> tuple[OffPolicyState, Any]:
        """One optimiser step of one part, and what its loss of the parameters and `given` says besides."""
        grads, said = jax.grad(loss, has_aux=True)(state.params[part], *given)
        return self._apply(state, part, grads), said

    def _apply(self, state: OffPolicyState, part: str, grads: Params) -> OffPolicyState:
        """One optimiser step of one part."""
        old = state.params[part]
        updates, optimizer = self.optimizers[part].update(grads, state.optimizer[part], old)
        return state._replace(
            params={**state.params, part: optax.apply_updates(old, updates)},
            optimizer={**state.optimizer, part: optimizer},
        )

    def _follow(self, state: OffPolicyState) -> OffPolicyState:
        """Takes the targets a share of the way to what they are copies of."""
        learned = {name: state.params[name] for name in state.target}
        rate = self.config.target_update_rate
        return state._replace(target=optax.incremental_update(learned, state.target, rate))


def _loss_of_part(own: dict[str, Params], part: Part, given: Sampled) -> tuple[jax.Array, Metrics]:
    """A part's loss, in its own parameters."""
    return part.loss(given._replace(params={**given.params, **own}))


def _so_many(
    due: Int[Array, ""],
    step: Callable[[OffPolicyState, jax.Array], tuple[OffPolicyState, Metrics]],
    state: OffPolicyState,
    keys: jax.Array,
) -> tuple[OffPolicyState, Metrics]:
    """The first `due` of some gradient steps, and the means of what they say; it ends with the last of all seeds."""

    def maybe(
        state: OffPolicyState, now: tuple[Int[Array, ""], jax.Array]
    ) -> tuple[OffPolicyState, Metrics]:
        index, key = now
        learned, metrics = step(state, key)
        # Other seeds may have more to take.
        counts = index < due
        state = jax.tree.map(lambda new, old: jnp.where(counts, new, old), learned, state)
        return state, {name: jnp.where(counts, x, 0.0) for name, x in metrics.items()}

    most = of_all(due)
    numbered = (jnp.arange(len(keys)), keys)
    state, metrics, _ = scan_while(maybe, state, numbered, lambda time, _: time < most)
    return state, {name: jnp.sum(x, axis=0) / jnp.maximum(due, 1) for name, x in metrics.items()}


def random_at_first(
    state: OffPolicyState, random_steps: int, action: jax.Array, key: jax.Array
) -> jax.Array:
    """Continuous actions, or uniform ones in place of them for so many environment steps."""
    anything = jax.random.uniform(jax.random.fold_in(key, 1), action.shape, minval=-1.0)
    return jnp.where(state.env_steps < random_steps, anything, action)


def ended_by_death(steps: EpisodeBatch) -> EpisodeBatch:
    """Single steps after which nothing comes for an agent that is dead then."""
    return steps._replace(discount=steps.discount * steps.alive[1:])
