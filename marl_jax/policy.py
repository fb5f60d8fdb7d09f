"""A trained team, to call, to play and to watch."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from envs import registry
from envs.base import MultiAgentEnv, Observation
from marl_jax import methods, teams
from marl_jax.methods.base import Method
from marl_jax.rollout import retrace, rollout
from marl_jax.settings import RunSettings, environment_record
from marl_jax.types import EpisodeBatch, Metrics


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
        teams.write(Path(path).expanduser(), arrays, record)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The team that `save` has written, here or on another machine.

        Raises:
            ConfigurationError: if it is no such file, is damaged, or belongs to another version.
        """
        arrays, record = teams.read(Path(path).expanduser())
        settings = RunSettings.from_json(record)
        env = registry.make(settings.env, **dataclasses.asdict(settings.env_options))
        options = dataclasses.asdict(settings.method_options)
        method = methods.make(settings.method, env, **options)
        state = jax.eval_shape(method.init, jax.random.key(0))
        state = teams.put(state, teams.like(teams.kept(state), arrays, str(path)))
        return cls(env, method, state, record["env_steps"], settings)

    def initial_memory(self, num_envs: int = 1, key: jax.Array | None = None) -> Any:
        """What the actors carry, at the start of an episode in each of `num_envs` environments."""
        key = jax.random.key(0) if key is None else key
        return self.method.initial_memory(self.state, num_envs, key)

    def __call__(
        self,
        observation: Observation,
        memory: Any,
        key: jax.Array | None = None,
        explore: bool = False,
    ) -> tuple[jax.Array, Any]:
        """Chooses actions.

        Args:
            observation: fields with a leading axis of environments.
            memory: from `initial_memory` or the last call.
            key: random key, for methods that draw.
            explore: whether to act as in training; otherwise greedily.

        Returns:
            Actions [B, N] int32, and the next memory.
        """
        key = jax.random.key(0) if key is None else key
        memory, action, _ = self._act(self.state, memory, observation, key, explore)
        return action, memory

    @functools.cached_property
    def _act(self) -> Any:
        return jax.jit(self.method.act, static_argnums=4)

    def play(
        self, key: jax.Array, num_episodes: int, explore: bool = False
    ) -> tuple[EpisodeBatch, Metrics]:
        """Plays episodes side by side; returns them, and the environment's extras at their ends."""
        return _rollout(self.env, self.method, self.state, key, num_episodes, explore)

    def states(self, key: jax.Array, batch: EpisodeBatch) -> Any:
        """The environment's states, [T+1, B, ...], along the episodes that `play` has returned for this key."""
        return _retrace(self.env, key, batch.action)

    def episode(self, key: jax.Array, explore: bool = False) -> Episode:
        """Plays one episode, greedily or as in training."""

        def act(memory: Any, state: Any, observation: Observation, key: jax.Array) -> Any:
            batch = jax.tree.map(lambda x: x[None], observation)
            memory, action, _ = self.method.act(self.state, memory, batch, key, explore)
            return memory, action[0]

        memory_key, key = jax.random.split(key)
        return play_episode(self.env, act, self.initial_memory(1, memory_key), key)

    def render(self, path: str | Path, key: jax.Array | None = None, explore: bool = False) -> None:
        """Plays one episode, greedily or as in training, and draws it as an animated GIF."""
        key = jax.random.key(0) if key is None else key
        self.env.animate(self.episode(key, explore).states, str(path))
