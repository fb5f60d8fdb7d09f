"""Vectorised episodes for the tests of the worlds."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation

# (state, key) -> [N] actions.
Policy = Callable[[Any, jax.Array], jax.Array]


def random_policy(env: MultiAgentEnv[Any]) -> Policy:
    """Uniformly random actions."""
    return lambda state, key: jax.random.randint(
        key, (env.num_agents,), 0, env.num_actions, jnp.int32
    )


def scripted_policy(env: MultiAgentEnv[Any]) -> Policy:
    """The world's reference policy."""
    return lambda state, key: env.scripted_action(state)


def constant_policy(*actions: int) -> Policy:
    """The same actions at every step."""
    return lambda state, key: jnp.array(actions, jnp.int32)


@functools.lru_cache(maxsize=8)
def rollout(
    env: MultiAgentEnv[Any], policy: Policy, num_episodes: int, seed: int = 0
) -> tuple[Any, TimeStep[Observation], np.ndarray]:
    """Plays whole episodes side by side, `time_limit` steps each.

    The same arguments give the same arrays again, without playing: nobody may write into them.

    Returns:
        The states and time steps [num_episodes, time_limit + 1, ...] from the reset on, and the
        actions [num_episodes, time_limit, N], all as NumPy arrays.
    """

    def episode(key: jax.Array) -> Any:
        reset_key, key = jax.random.split(key)
        start = env.reset(reset_key)

        def step(state: Any, key: jax.Array) -> Any:
            action = policy(state, key)
            state, timestep = env.step(state, action)
            return state, (state, timestep, action)

        _, (states, timesteps, actions) = jax.lax.scan(
            step, start[0], jax.random.split(key, env.time_limit)
        )
        states, timesteps = jax.tree.map(
            lambda x, y: jnp.concatenate([x[None], y]), start, (states, timesteps)
        )
        return states, timesteps, actions

    keys = jax.random.split(jax.random.PRNGKey(seed), num_episodes)
    return jax.device_get(jax.jit(jax.vmap(episode))(keys))


def returns(timesteps: TimeStep[Observation]) -> np.ndarray:
    """[num_episodes] the first agent's return; rewards after an episode's end do not count."""
    last = np.asarray(timesteps.step_type) == 2
    alive = np.cumsum(last, axis=1) - last == 0
    return (np.asarray(timesteps.reward)[..., 0] * alive).sum(axis=1)
