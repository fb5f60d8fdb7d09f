"""The contract of every world: a jumanji environment with an agent axis.

Axes: N agents, A actions, F observation features, G global-state features.
"""

import abc
import dataclasses
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jumanji import specs
from jumanji.env import Environment
from jumanji.types import StepType, TimeStep

from envs.configuration import Config, ConfigurationError
from envs.cpu import refuse_forked_process

if TYPE_CHECKING:
    from envs.viewer import Viewer

__all__ = [
    "Config",
    "ConfigurationError",
    "MultiAgentEnv",
    "Observation",
    "WorldState",
    "check_environment",
    "random_action",
]


class Observation(NamedTuple):
    """What a team sees at one step.

    Attributes:
        agents_view: [N, F] float32, each agent's own observation. Never contains the agent's identity.
        action_mask: [N, A] bool, the actions each agent may take; at least one is true for every agent.
        global_state: [G] float32, for centralised critics and mixers only.
        alive: [N] bool, which agents still take part; true for all where nobody dies. Where actions are continuous an
            agent that has died is expected to earn nothing more.
        step_count: [] int32, steps since the reset.
    """

    agents_view: jax.Array
    action_mask: jax.Array
    global_state: jax.Array
    alive: jax.Array
    step_count: jax.Array


class WorldState(Protocol):
    """What every state carries besides its own dynamics."""

    key: jax.Array
    step_count: jax.Array


StateT = TypeVar("StateT", bound=WorldState)


class MultiAgentEnv(Environment[StateT, specs.Array, Observation], Generic[StateT]):
    """A world with N agents, each choosing one of A discrete actions per step.

    `reset` and `step` are pure functions of their arguments; nothing is stored on the object. Reward and
    discount are [N] (a team reward is the same number N times). A goal or a failure is a termination
    (discount 0). The time limit is a truncation (last step, discount 1) unless the source task defines it as its
    end; such a class sets `time_limit_is_termination`. A world never resets itself.

    A subclass defines `Config`, sets `num_agents`, `num_actions`, `time_limit`, `agents_view_size` and
    `global_state_size` in `_setup`, and implements `reset`, `step` and `scripted_action`, and `_make_viewer` to
    be drawn well.
    Options of the constructor are the fields of `Config`.

    Attributes:
        num_agents: N.
        num_actions: A.
        time_limit: number of steps after which an episode ends at the latest.
        agents_view_size: F.
        global_state_size: G.
        time_limit_is_termination: whether the end at the time limit has discount 0.
        headline: the name in `extras` of the number that users look at first, such as whether a battle was won;
            None where that is the return.
        ends_early: whether an episode may end before the time limit; where none does there is less to compile.
        continuous_actions: whether an action is A numbers between -1 and 1 in place of one of A choices; `step` then
            takes [N, A] float32. An agent's numbers at which `action_mask` is false have no effect.
        binary: which of `agents_view` and `global_state` hold 0 and 1 alone; replays keep them as bits.
        config: the options this world was made with.
    """

    Config: ClassVar[type[Config]]
    time_limit_is_termination: ClassVar[bool] = False
    headline: ClassVar[str | None] = None
    continuous_actions: bool = False
    ends_early: bool = True
    binary: tuple[str, ...] = ()

    num_agents: int
    num_actions: int
    time_limit: int
    agents_view_size: int
    global_state_size: int

    def __init__(self, viewer: "Viewer[StateT] | None" = None, **options: Any) -> None:
        """Makes the world.

        Args:
            viewer: draws states; the world's own viewer by default.
            **options: fields of the class's `Config`.

        Raises:
            ConfigurationError: if an option is unknown, its value is not allowed, or the process was forked.
        """
        refuse_forked_process()
        self.config: Any = self.Config.from_mapping(options, type(self).__name__)
        self._setup()
        self._viewer = viewer
        super().__init__()

    @abc.abstractmethod
    def _setup(self) -> None:
        """Sets the sizes (`num_agents`, ...) from `self.config`."""

    @abc.abstractmethod
    def scripted_action(self, state: StateT) -> jax.Array:
        """The reference policy: [N] int32 actions, computed from the full state."""

    def random_action(self, key: jax.Array, action_mask: jax.Array) -> jax.Array:
        """Uniformly random actions, of the agents that [..., N, A] `action_mask` is for."""
        if self.continuous_actions:
            return jax.random.uniform(key, action_mask.shape, minval=-1.0, maxval=1.0)
        return random_action(key, action_mask)

    def _make_viewer(self) -> "Viewer[StateT]":
        """The world's own viewer; without one, the fields of a state are listed."""
        from envs.viewer import FieldsViewer

        return FieldsViewer()

    @property
    def own_features(self) -> np.ndarray:
        """[N, F] bool: which features of an agent's view are about itself and the things around, not about teammates.

        Methods that count an agent's own states count these; all of them, unless a world knows better.
        """
        return np.ones((self.num_agents, self.agents_view_size), bool)

    @property
    def body_features(self) -> np.ndarray:
        """[N, F] bool: which of an agent's own features its own moves alone can change, such as where it is.

        Methods that count where a step brings an agent count these; all of its own, unless a world knows better.
        """
        return self.own_features

    def __repr__(self) -> str:
        options = ", ".join(
            f"{field.name}={getattr(self.config, field.name)!r}"
            for field in dataclasses.fields(self.config)
        )
        return f"{type(self).__name__}({options})"

    @cached_property
    def observation_spec(self) -> specs.Spec[Observation]:
        """Shapes, types and bounds of `Observation`."""
        n = self.num_agents
        return specs.Spec(
            Observation,
            "ObservationSpec",
            agents_view=specs.Array((n, self.agents_view_size), jnp.float32, "agents_view"),
            action_mask=specs.BoundedArray((n, self.num_actions), bool, False, True, "action_mask"),
            global_state=specs.Array((self.global_state_size,), jnp.float32, "global_state"),
            alive=specs.BoundedArray((n,), bool, False, True, "alive"),
            step_count=specs.BoundedArray((), jnp.int32, 0, self.time_limit, "step_count"),
        )

    @cached_property
    def action_spec(self) -> specs.Array:
        """[N] int32, each in 0..A-1; continuous: [N, A] float32, each in -1..1."""
        if self.continuous_actions:
            shape = (self.num_agents, self.num_actions)
            return specs.BoundedArray(shape, jnp.float32, -1.0, 1.0, "action")
        return specs.MultiDiscreteArray(
            num_values=jnp.full((self.num_agents,), self.num_actions, jnp.int32), name="action"
        )

    @cached_property
    def reward_spec(self) -> specs.Array:
        """[N] float32."""
        return specs.Array((self.num_agents,), jnp.float32, "reward")

    @cached_property
    def discount_spec(self) -> specs.BoundedArray:
        """[N] float32 in 0..1."""
        return specs.BoundedArray((self.num_agents,), jnp.float32, 0.0, 1.0, "discount")

    def _restart(
        self, observation: Observation, extras: dict[str, jax.Array]
    ) -> TimeStep[Observation]:
        """The first time step of an episode."""
        n = self.num_agents
        return TimeStep(
            step_type=StepType.FIRST,  # type: ignore[arg-type]
            reward=jnp.zeros((n,), jnp.float32),
            discount=jnp.ones((n,), jnp.float32),
            observation=observation,
            extras=extras,
        )

    def _transition(
        self,
        observation: Observation,
        reward: jax.Array,
        terminated: jax.Array,
        extras: dict[str, jax.Array],
    ) -> TimeStep[Observation]:
        """A later time step; decides between mid-episode, termination and truncation.

        Args:
            observation: what the team sees now.
            reward: [] for the team, or [N].
            terminated: [] bool, true if the task itself has ended.
            extras: scalars worth logging.
        """
        at_limit = observation.step_count >= self.time_limit
        if self.time_limit_is_termination:
            terminated = terminated | at_limit
        shape = (self.num_agents,)
        return TimeStep(
            step_type=jnp.where(  # type: ignore[arg-type]
                terminated | at_limit, StepType.LAST, StepType.MID
            ),
            reward=jnp.broadcast_to(reward, shape).astype(jnp.float32),
            discount=jnp.broadcast_to(1.0 - terminated, shape).astype(jnp.float32),
            observation=observation,
            extras=extras,
        )

    @property
    def viewer(self) -> "Viewer[StateT]":
        """The viewer that draws this world's states."""
        if self._viewer is None:
            self._viewer = self._make_viewer()
        return self._viewer

    def render(self, state: StateT) -> np.ndarray:
        """Draws one state: [height, width, 3] uint8."""
        return self.viewer.render(state)

    def text(self, state: StateT) -> str:
        """Draws one state for a terminal: lines of at most 80 characters."""
        return self.viewer.text(state)

    def animate(
        self, states: Iterable[StateT], path: str | Path, frames_per_second: float = 5.0
    ) -> None:
        """Draws an episode as an animated GIF at `path`.

        Raises:
            ConfigurationError: if that is no .gif file in a folder that exists.
        """
        self.viewer.animate(states, path, frames_per_second)


def random_action(key: jax.Array, action_mask: jax.Array) -> jax.Array:
    """Uniformly random legal actions.

    Args:
        key: random key.
        action_mask: [..., A] bool, with at least one legal action each.

    Returns:
        [...] int32.
    """
    lots = jnp.where(action_mask, jax.random.uniform(key, action_mask.shape), -1.0)
    return jnp.argmax(lots, axis=-1).astype(jnp.int32)


def check_environment(
    env: MultiAgentEnv[Any], key: jax.Array, num_episodes: int = 8, largest: float = 5.0
) -> None:
    """Puts an environment through its contract with random legal actions; use it on worlds of your own.

    Args:
        env: the world to check.
        key: random key.
        num_episodes: episodes played, side by side.
        largest: no number that networks see is larger, or below its negative; `math.inf` for an option that shows a
            source's numbers raw.

    Raises:
        AssertionError: naming the first broken promise.
    """
    _check_structure(env, key)

    def episode(key: jax.Array) -> tuple[TimeStep[Observation], TimeStep[Observation]]:
        reset_key, key = jax.random.split(key)
        state, first = env.reset(reset_key)

        def step(carry: Any, key: jax.Array) -> Any:
            state, mask = carry
            state, timestep = env.step(state, env.random_action(key, mask))
            return (state, timestep.observation.action_mask), timestep

        keys = jax.random.split(key, env.time_limit)
        _, rest = jax.lax.scan(step, (state, first.observation.action_mask), keys)
        return first, rest

    keys = jax.random.split(key, num_episodes)
    firsts, rests = jax.device_get(jax.jit(jax.vmap(episode))(keys))
    _check_specs(env, (_at(firsts, 0), _at(rests, (0, 0))))
    _check_resets(firsts)
    _check_steps(env, firsts, rests)
    _check_seen(env, firsts, rests, largest)
    again = jax.device_get(jax.jit(jax.vmap(episode))(keys))
    same = jax.tree.map(lambda x, y: np.array_equal(x, y, equal_nan=True), (firsts, rests), again)
    assert all(jax.tree.leaves(same)), "two runs with the same key differ"


def _check_specs(env: MultiAgentEnv[Any], timesteps: tuple[TimeStep[Observation], ...]) -> None:
    for timestep in timesteps:
        for spec, value in (
            (env.observation_spec, timestep.observation),
            (env.reward_spec, timestep.reward),
            (env.discount_spec, timestep.discount),
        ):
            try:
                spec.validate(jax.tree.map(jnp.asarray, value))
            except ValueError as error:
                raise AssertionError(f"{spec.name} is not met: {error}") from error


def _check_resets(firsts: TimeStep[Observation]) -> None:
    """The first time steps of all episodes, [E, ...]."""
    assert np.all(firsts.step_type == int(StepType.FIRST)), "reset does not give a first time step"
    assert np.all(firsts.reward == 0.0), "the reward is not 0 at reset"
    assert np.all(firsts.discount == 1.0), "the discount is not 1 at reset"
    assert np.all(firsts.observation.step_count == 0), "step_count is not 0 at reset"


def _check_steps(
    env: MultiAgentEnv[Any], firsts: TimeStep[Observation], rests: TimeStep[Observation]
) -> None:
    """All other time steps, [E, time_limit, ...]: legal up to an episode's own end; what follows it is never used."""
    last = np.asarray(rests.step_type) == int(StepType.LAST)
    ended = np.cumsum(last, axis=1)
    alive = np.concatenate([np.ones((len(last), 1), bool), ended[:, :-1] == 0], axis=1)
    assert np.all(ended[:, -1] > 0), "an episode went on past time_limit"
    steps = rests.observation.step_count
    expected = np.broadcast_to(np.arange(1, env.time_limit + 1), steps.shape)
    assert np.all(steps[alive] == expected[alive]), "step_count does not count the steps"
    for name, at_reset, later in (
        ("agents_view", firsts.observation.agents_view, rests.observation.agents_view),
        ("global_state", firsts.observation.global_state, rests.observation.global_state),
        ("reward", firsts.reward, rests.reward),
        *((f"extras[{name!r}]", x, rests.extras[name]) for name, x in firsts.extras.items()),
    ):
        assert np.all(np.isfinite(at_reset)), f"{name} is not finite at reset"
        assert np.all(np.isfinite(later[alive])), f"{name} is not finite"
    assert np.all(firsts.observation.alive), "an agent is dead at reset"
    masks = (firsts.observation.action_mask, rests.observation.action_mask[alive & ~last])
    assert all(mask.any(-1).all() for mask in masks), "an agent has no legal action"

    assert np.all(rests.discount[alive & ~last] == 1.0), "the discount is not 1 before the end"
    early = alive & last & (steps < env.time_limit)
    assert env.ends_early or not early.any(), (
        "ends_early is False, but an episode ended before time_limit"
    )
    assert np.all(rests.discount[early] == 0.0), (
        "an end before time_limit has a discount other than 0"
    )
    if env.time_limit_is_termination:
        late = alive & last & (steps == env.time_limit)
        assert np.all(rests.discount[late] == 0.0), (
            "the end at time_limit has a discount other than 0"
        )


def _check_seen(
    env: MultiAgentEnv[Any],
    firsts: TimeStep[Observation],
    rests: TimeStep[Observation],
    largest: float,
) -> None:
    """Up to each episode's own end; what follows it is never used."""
    last = np.asarray(rests.step_type) == int(StepType.LAST)
    before_end = np.cumsum(last, axis=1) - last == 0
    for name in ("agents_view", "global_state"):
        first, rest = getattr(firsts.observation, name), getattr(rests.observation, name)
        seen = np.concatenate([first.ravel(), rest[before_end].ravel()])
        assert name not in env.binary or np.isin(seen, (0.0, 1.0)).all(), (
            f"{name} is said to be binary, but holds numbers other than 0 and 1"
        )
        found = np.abs(seen).max()
        assert found <= largest, (
            f"{name} holds a number of size {found:g}, networks want at most {largest:g}: divide it by its range"
        )


def _check_structure(env: MultiAgentEnv[Any], key: jax.Array) -> None:
    """The part of `check_environment` that needs shapes only."""
    state, first = jax.eval_shape(env.reset, key)
    for field in ("key", "step_count"):
        assert hasattr(state, field), f"the state has no field {field!r}"
    mask, expected = first.observation.action_mask, (env.num_agents, env.num_actions)
    assert mask.shape == expected, f"action_mask has shape {mask.shape}, expected {expected}"

    action = jax.eval_shape(env.action_spec.generate_value)
    next_state, later = jax.eval_shape(env.step, state, action)
    assert _form(state) == _form(next_state), (
        "the state's structure, shapes or types change in step"
    )
    assert _form(first.extras) == _form(later.extras), "extras differ between reset and step"
    assert _form(first.observation) == _form(later.observation), (
        "the observation's shapes or types differ between reset and step"
    )
    scalars = all(leaf.shape == () for leaf in jax.tree.leaves(first.extras))
    assert scalars, "extras holds something other than scalars"


def _form(tree: Any) -> tuple[Any, list[tuple[tuple[int, ...], Any]]]:
    """Structure, shapes and types."""
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def _at(tree: Any, index: Any) -> Any:
    return jax.tree.map(lambda x: x[index], tree)
