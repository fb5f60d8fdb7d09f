"""Vectorised episodes for the tests of the worlds."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

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


def mixed_policy(env: MultiAgentEnv[Any], scripted: float = 0.5) -> Policy:
    """Each agent follows the script or chance, anew at every step: things succeed and go wrong."""
    draw = random_policy(env)

    def choose(state: Any, key: jax.Array) -> jax.Array:
        which, key = jax.random.split(key)
        follows = jax.random.bernoulli(which, scripted, (env.num_agents,))
        return jnp.where(follows, env.scripted_action(state), draw(state, key))

    return choose


def episodes_mixed_policy(env: MultiAgentEnv[Any], chance: float) -> Policy:
    """Each agent follows the script or chance, in a share of the steps that an episode draws for itself.

    Args:
        env: the world; its state keeps the episode's key.
        chance: share of the episodes that are left to chance alone.
    """
    draw = random_policy(env)

    def choose(state: Any, key: jax.Array) -> jax.Array:
        lowest = -chance / (1.0 - chance)
        share = jax.random.uniform(jax.random.fold_in(state.key, 12345), minval=lowest)
        which, key = jax.random.split(key)
        follows = jax.random.uniform(which, (env.num_agents,)) < share
        return jnp.where(follows, env.scripted_action(state), draw(state, key))

    return choose


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


class Twin(Protocol):
    """A world once more, in plain NumPy, for B episodes at a time.

    Where agents die it also has a method `alive`, [B, N]. It is made from the batch of states after the
    reset. Of chance it learns through `after`, our own state after the step, from which it may take
    nothing else.
    """

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        """Plays actions [B, N]; returns the reward [B] or [B, N], and whether the task ended [B]."""

    def state(self) -> dict[str, np.ndarray]:
        """Fields of our state, all but `key` and `step_count`."""

    def agents_view(self) -> np.ndarray:
        """[B, N, F]."""

    def action_mask(self) -> np.ndarray:
        """[B, N, A]."""

    def global_state(self) -> np.ndarray:
        """[B, G]."""

    def extras(self) -> dict[str, np.ndarray]:
        """[B] each."""


def side_by_side(
    env: MultiAgentEnv[Any],
    make_twin: Callable[[Any], Twin],
    policy: Policy,
    num_episodes: int,
    seed: int = 0,
) -> np.ndarray:
    """Steps a world and its twin beside each other, and compares everything up to each episode's end.

    Nothing that networks see may leave -5..5.

    Args:
        env: the world.
        make_twin: makes the twin from the batch of states after the reset.
        policy: chooses the actions.
        num_episodes: B, all at once; nothing is kept from one step to the next.
        seed: of the episodes.

    Returns:
        [B] the returns of the first agent.
    """

    split, reset, advance = _programs(env, policy)
    keys, reset_keys = split(jax.random.split(jax.random.key(seed), num_episodes))
    state, timestep = reset(reset_keys)
    ours, numbers = _fetch(timestep, state)
    twin = make_twin(numbers)
    reward, terminated = np.zeros(num_episodes), np.zeros(num_episodes, bool)
    alive, total = np.ones(num_episodes, bool), np.zeros(num_episodes)
    for t in range(env.time_limit + 1):
        if t > 0:
            keys, step_keys = split(keys)
            action, state, timestep = advance(state, step_keys)
            ours, numbers = _fetch(timestep, state)
            reward, terminated = twin.step(np.asarray(action), numbers)
        expected = _of_twin(env, twin, t, reward, terminated)
        found = _of_world(ours, numbers)
        _compare(found, expected, alive, t)
        for name in ("agents_view", "global_state"):
            assert np.all(abs(found[name][alive]) <= 5.0), f"{name} is out of scale at step {t}"
        total[alive] += ours.reward[alive, 0]
        alive &= expected["step_type"] != 2
        if not alive.any():
            break
    assert not alive.any()
    return total


@functools.lru_cache(maxsize=2)
def _programs(env: MultiAgentEnv[Any], policy: Policy) -> tuple[Any, Any, Any]:
    """What splits keys, resets and steps many episodes, compiled once however many batches of them are played."""

    @jax.jit
    def advance(state: Any, keys: jax.Array) -> Any:
        action = jax.vmap(policy)(state, keys)
        return action, *jax.vmap(env.step)(state, action)

    split = jax.jit(jax.vmap(lambda key: tuple(jax.random.split(key))))
    return split, jax.jit(jax.vmap(env.reset)), advance


def _fetch(timestep: TimeStep[Observation], state: Any) -> tuple[TimeStep[Observation], Any]:
    """Both as NumPy arrays, the state without its key."""
    fetched: tuple[TimeStep[Observation], Any] = jax.device_get(
        (timestep, dataclasses.replace(state, key=None))
    )
    return fetched


def _of_twin(
    env: MultiAgentEnv[Any], twin: Twin, t: int, reward: np.ndarray, terminated: np.ndarray
) -> dict[str, np.ndarray]:
    """By name, all that our world must show after step t."""
    num_episodes = len(terminated)
    team = (num_episodes, env.num_agents)
    over = terminated | (t == env.time_limit)
    failed = terminated | (over & env.time_limit_is_termination)
    return {
        "reward": np.broadcast_to(np.reshape(reward, (num_episodes, -1)), team),
        "discount": np.broadcast_to(1.0 - failed[:, None], team),
        "step_type": np.where(over, 2, 0 if t == 0 else 1),
        "agents_view": twin.agents_view(),
        "action_mask": twin.action_mask(),
        "global_state": twin.global_state(),
        "alive": twin.alive() if hasattr(twin, "alive") else np.ones(team, bool),
        "clock": np.full(num_episodes, t),
        "step_count": np.full(num_episodes, t),
        **twin.state(),
        **{f"extras {name}": value for name, value in twin.extras().items()},
    }


def _of_world(ours: TimeStep[Observation], numbers: Any) -> dict[str, np.ndarray]:
    """By name, all that our world shows."""
    fields = [field.name for field in dataclasses.fields(numbers) if field.name != "key"]
    return {
        "reward": np.asarray(ours.reward),
        "discount": np.asarray(ours.discount),
        "step_type": np.asarray(ours.step_type),
        "agents_view": np.asarray(ours.observation.agents_view),
        "action_mask": np.asarray(ours.observation.action_mask),
        "global_state": np.asarray(ours.observation.global_state),
        "alive": np.asarray(ours.observation.alive),
        "clock": np.asarray(ours.observation.step_count),
        **{name: getattr(numbers, name) for name in fields},
        **{f"extras {name}": value for name, value in ours.extras.items()},
    }


def _compare(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], alive: np.ndarray, t: int
) -> None:
    """Of the episodes that were not over before step t."""
    assert set(expected) == set(found), set(expected) ^ set(found)
    for name, value in expected.items():
        x, y = found[name][alive], value[alive].astype(found[name].dtype)
        if not np.array_equal(x, y):
            # XLA divides by a constant with an error in the last digit.
            tolerance = 1e-6 if x.dtype == np.float32 else 0.0
            np.testing.assert_allclose(x, y, tolerance, err_msg=f"{name} at step {t}")
