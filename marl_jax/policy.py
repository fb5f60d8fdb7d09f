"""A trained team, to call, to play and to watch."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax

from envs.base import MultiAgentEnv, Observation
from marl_jax.methods.base import Method
from marl_jax.rollout import rollout
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class Policy:
    """One seed's team.

    >>> memory = policy.initial_memory(num_envs=1)
    >>> action, memory = policy(observation, memory)

    Attributes:
        env: the task it was trained on.
        method: the method that trained it.
        state: what it learned.
    """

    env: MultiAgentEnv[Any]
    method: Method
    state: Any

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
        return self._play(self.state, key, num_episodes, explore)

    @functools.cached_property
    def _play(self) -> Any:
        return jax.jit(
            lambda state, key, num_episodes, explore: rollout(
                self.env, self.method, state, key, num_episodes, explore
            ),
            static_argnums=(2, 3),
        )

    def episode(self, key: jax.Array) -> list[Any]:
        """Plays one greedy episode; returns the environment's states, the first included."""
        reset_key, memory_key, key = jax.random.split(key, 3)
        state, timestep = jax.jit(self.env.reset)(reset_key)
        step = jax.jit(self.env.step)
        memory, states = self.initial_memory(1, memory_key), [state]
        while not timestep.last():
            key, act_key = jax.random.split(key)
            observation = jax.tree.map(lambda x: x[None], timestep.observation)
            action, memory = self(observation, memory, act_key)
            state, timestep = step(state, action[0])
            states.append(state)
        return states

    def render(self, path: str | Path, key: jax.Array | None = None) -> None:
        """Plays one greedy episode and draws it as an animated GIF."""
        key = jax.random.key(0) if key is None else key
        self.env.animate(self.episode(key), str(path))
