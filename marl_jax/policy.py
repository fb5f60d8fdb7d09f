"""A trained team, to call, to play and to watch."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from envs import registry
from envs.base import MultiAgentEnv, Observation
from envs.configuration import ConfigurationError, plain, shown, whole_number
from envs.cpu import refuse_forked_process
from envs.files import gif_path, user_path
from marl_jax import methods, teams
from marl_jax.methods.base import Method
from marl_jax.rollout import check_num_episodes, retrace, rollout
from marl_jax.settings import RunSettings, environment_record
from marl_jax.types import EpisodeBatch, Metrics

Key = jax.Array | int | None
"""A random key, or a seed to make one of; None is seed 0."""


class Episode(NamedTuple):
    """One episode of one environment, off the device.

    Attributes:
        states: the environment's states, T+1 of them, the first from the reset.
        reward: [T, N] float32.
        extras: the environment's extras at the end.
    """

    states: list[Any]
    reward: np.ndarray
    extras: dict[str, float]


# (memory, state, observation without a batch axis, key) -> memory, actions [N].
Act = Callable[[Any, Any, Observation, jax.Array], tuple[Any, jax.Array]]


def play_episode(env: MultiAgentEnv[Any], act: Act, memory: Any, key: jax.Array) -> Episode:
    """Plays one episode step by step, keeping every state.

    Args:
        env: the world.
        act: chooses the actions; it is compiled.
        memory: what `act` gets at the first step.
        key: random key.
    """
    reset_key, key = jax.random.split(key)
    state, timestep = jax.jit(env.reset)(reset_key)

    @jax.jit
    def advance(memory: Any, state: Any, observation: Observation, key: jax.Array) -> Any:
        memory, action = act(memory, state, observation, key)
        return memory, *env.step(state, action)

    states, rewards = [state], []
    while not timestep.last():
        key, step_key = jax.random.split(key)
        memory, state, timestep = advance(memory, state, timestep.observation, step_key)
        states.append(state)
        rewards.append(np.asarray(timestep.reward))
    extras = {name: float(value) for name, value in timestep.extras.items()}
    return Episode(states, np.array(rewards), extras)


# Compiled once for all policies that come from one trainer, such as a run's seeds: they share world and method.
_rollout = jax.jit(rollout, static_argnums=(0, 1, 4, 5))
_retrace = jax.jit(retrace, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class Policy:
    """One seed's team.

    >>> memory = policy.initial_memory(num_envs=1)
    >>> action, memory = policy(observation, memory)

    Attributes:
        env: the task it was trained on.
        method: the method that trained it.
        state: what it learned.
        env_steps: how many environment steps it was trained for.
        settings: the run's, with this seed as its only one.
    """

    env: MultiAgentEnv[Any]
    method: Method
    state: Any
    env_steps: int
    settings: RunSettings

    def save(self, path: str | Path) -> None:
        """Writes the team to one file, usually NAME.npz, that `load` reads; it holds no pickle and no optimiser.

        Raises:
            OSError: if the file cannot be written.
        """
        record = {**self.settings.to_json(), **environment_record(), "env_steps": self.env_steps}
        arrays = teams.arrays_of(teams.kept(self.state))
        teams.write(user_path("path", path), arrays, record)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The team that `save` has written, here or on another machine.

        A file that names an own class, `module:Class`, has that module imported: read only whose you trust.

        Raises:
            ConfigurationError: if it is no such file, is damaged, or belongs to another version.
        """
        arrays, record = teams.read(user_path("path", path))
        settings = RunSettings.from_json(record)
        env = registry.make(settings.env, **dataclasses.asdict(settings.env_options))
        options = dataclasses.asdict(settings.method_options)
        method = methods.make(settings.method, env, **options)
        state = jax.eval_shape(method.init, jax.random.key(0))
        state = teams.put(state, teams.like(teams.kept(state), arrays, str(path)))
        steps = whole_number("env_steps", record.get("env_steps"), 0)
        return cls(env, method, state, steps, settings)

    def __repr__(self) -> str:
        return f"Policy({type(self.method).__name__} on {self.env}, after {self.env_steps:,} env steps)"

    def __getstate__(self) -> dict[str, Any]:
        """What pickle keeps: the fields, without compiled programs."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def initial_memory(self, num_envs: int = 1, key: Key = 0) -> Any:
        """What the actors carry, at the start of an episode in each of `num_envs` environments.

        Raises:
            ConfigurationError: if there is no such number or key.
        """
        num_envs = whole_number("num_envs", num_envs, 1)
        return self.method.initial_memory(self.state, num_envs, random_key(key))

    def __call__(
        self, observation: Observation, memory: Any, key: Key = 0, explore: bool = False
    ) -> tuple[jax.Array, Any]:
        """Chooses actions.

        Args:
            observation: fields with a leading axis of environments.
            memory: from `initial_memory` or the last call.
            key: random key or a seed, for methods that draw.
            explore: whether to act as in training; otherwise greedily.

        Returns:
            Actions [B, N] int32, and the next memory.

        Raises:
            ConfigurationError: if something is not of the shapes that the task has.
        """
        self._check(observation, memory)
        acted = self._act(self.state, memory, observation, random_key(key), _flag(explore))
        memory, action, _ = acted
        return action, memory

    def _check(self, observation: Observation, memory: Any) -> None:
        """Refuses what has other shapes than a batch of the task's observations, and the memory of as many actors.

        Raises:
            ConfigurationError: if it has.
        """
        env = self.env
        wanted = {
            "agents_view": (env.num_agents, env.agents_view_size),
            "action_mask": (env.num_agents, env.num_actions),
        }
        for name, shape in wanted.items():
            found = getattr(getattr(observation, name, None), "shape", None)
            if found is None or found[1:] != shape:
                sizes = ", ".join(map(str, shape))
                raise ConfigurationError(
                    f"{name} of the observation has shape {found}; it must be [environments, {sizes}], as of "
                    "jax.tree.map(lambda x: x[None], observation) for one environment."
                )
        num_envs = observation.agents_view.shape[0]
        if _shapes(memory) != self._memory_shapes(num_envs):
            raise ConfigurationError(
                f"the memory is not that of {num_envs} environments; it must come from initial_memory({num_envs}) or "
                "the call before."
            )

    @functools.cached_property
    def _memory_shapes(self) -> Callable[[int], Any]:
        """The shapes of what the actors of so many environments carry."""
        return functools.cache(lambda n: _shapes(jax.eval_shape(lambda: self.initial_memory(n))))

    @functools.cached_property
    def _act(self) -> Any:
        return jax.jit(self.method.act, static_argnums=4)

    def play(
        self, key: Key, num_episodes: int, explore: bool = False
    ) -> tuple[EpisodeBatch, Metrics]:
        """Plays episodes side by side; returns them, and the environment's extras at their ends.

        Args:
            key: random key, or a seed.
            num_episodes: how many.
            explore: whether to act as in training; otherwise greedily.

        Raises:
            ConfigurationError: if there is no such key or number, or no memory for so many.
        """
        number = check_num_episodes(self.env, "num_episodes", num_episodes)
        given = (self.env, self.method, self.state, random_key(key), number, _flag(explore))
        return _rollout(*given)

    def states(self, key: Key, batch: EpisodeBatch) -> Any:
        """The environment's states, [T+1, B, ...], along the episodes that `play` has returned for this key.

        Raises:
            ConfigurationError: if there is no such key, or these are no episodes.
        """
        if not isinstance(batch, EpisodeBatch):
            raise ConfigurationError(f"batch is {shown(batch)}; it must be what play has returned.")
        return _retrace(self.env, random_key(key), batch.action)

    def episode(self, key: Key, explore: bool = False) -> Episode:
        """Plays one episode, greedily or as in training; `key` is a random key, or a seed.

        Raises:
            ConfigurationError: if there is no such key.
        """
        explore = _flag(explore)

        def act(memory: Any, state: Any, observation: Observation, key: jax.Array) -> Any:
            batch = jax.tree.map(lambda x: x[None], observation)
            memory, action, _ = self.method.act(self.state, memory, batch, key, explore)
            return memory, action[0]

        memory_key, episode_key = jax.random.split(random_key(key))
        return play_episode(self.env, act, self.initial_memory(1, memory_key), episode_key)

    def render(self, path: str | os.PathLike[str], key: Key = 0, explore: bool = False) -> None:
        """Plays one episode, greedily or as in training, and draws it as an animated GIF.

        Raises:
            ConfigurationError: if `path` is no .gif file in a folder that exists, or there is no such key.
        """
        target = gif_path("path", path)
        self.env.animate(self.episode(key, explore).states, target)


def random_key(key: Key) -> jax.Array:
    """A user's random key, typed or raw, as a typed one; a seed or None makes one.

    Raises:
        ConfigurationError: if it is neither, or nothing can be computed in this process.
    """
    refuse_forked_process()
    if key is None:
        key = 0
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
            return key
        if key.dtype == jnp.uint32 and key.shape == (2,):
            return jax.random.wrap_key_data(key)
    seed = None if isinstance(key, jax.Array) and key.ndim else plain(key)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ConfigurationError(
            f"key is {shown(key)}; it must be one random key, such as jax.random.key(0), or a seed at least 0 and at "
            f"most {2**32 - 1}."
        )
    return jax.random.key(seed)


def _flag(explore: Any) -> bool:
    """Whether to act as in training.

    Raises:
        ConfigurationError: if it is neither true nor false.
    """
    given = plain(explore)
    if not isinstance(given, bool):
        raise ConfigurationError(f"explore is {shown(explore)}; it must be true or false.")
    return given


def _shapes(tree: Any) -> Any:
    """A tree's structure and the shapes of its leaves."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [np.shape(x) for x in leaves]
