"""Worlds of jumanji and gymnax beside their sources."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.environments.routing.lbf.env import LevelBasedForaging as Source

import envs
from envs import ConfigurationError

gymnax = pytest.importorskip("gymnax")


def played(env: Any, episodes: int, script: bool) -> Any:
    """Return and length of so many episodes, each by itself."""

    def step(carry: Any, key: jax.Array) -> Any:
        state, mask, live = carry
        action = env.scripted_action(state) if script else env.random_action(key, mask)
        state, timestep = env.step(state, action)
        on = live & ~timestep.last()
        return (state, timestep.observation.action_mask, on), (live * timestep.reward.mean(), live)

    def episode(key: jax.Array) -> Any:
        state, first = env.reset(key)
        carry = (state, first.observation.action_mask, jnp.bool_(True))
        _, (rewards, live) = jax.lax.scan(step, carry, jax.random.split(key, env.time_limit))
        return rewards.sum(), live.sum()

    return jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), episodes))


def test_lbf_keeps_the_contract() -> None:
    envs.check_environment(envs.make("jumanji/lbf"), jax.random.key(0))


@pytest.mark.slow
def test_lbf_keeps_the_contract_with_options() -> None:
    options = {"num_agents": 3, "num_food": 3, "fov": 2, "force_coop": False, "size": 9}
    env = envs.make("jumanji/lbf", common_reward=False, **options)
    envs.check_environment(env, jax.random.key(1), 2)


@pytest.mark.slow
def test_lbf_is_jumanjis() -> None:
    """The same levels, places, views, masks and rewards, up to the end."""
    env, source = envs.make("jumanji/lbf", common_reward=False), Source()
    key, both = jax.random.key(4), jax.jit(env.step)
    state, first = env.reset(key)
    theirs, their_first = source.reset(key)
    np.testing.assert_allclose(
        first.observation.agents_view * 8, their_first.observation.agents_view
    )
    their_step = jax.jit(source.step)
    paid, rng = 0.0, np.random.default_rng(0)
    for _ in range(60):
        action = env.scripted_action(state) if rng.random() < 0.8 else jnp.array([1, 4])
        state, timestep = both(state, action)
        theirs, their_timestep = their_step(theirs, action)
        seen, their_seen = timestep.observation, their_timestep.observation
        np.testing.assert_allclose(seen.agents_view * 8, their_seen.agents_view, atol=1e-5)
        np.testing.assert_array_equal(seen.action_mask, their_seen.action_mask)
        np.testing.assert_allclose(timestep.reward, their_timestep.reward, rtol=1e-6)
        np.testing.assert_array_equal(timestep.discount, their_timestep.discount)
        paid += float(timestep.reward.sum())
        if timestep.last():
            break
    assert timestep.last()
    assert float(timestep.extras["eaten"]) == 1.0
    assert paid == pytest.approx(1.0)


def test_lbf_script() -> None:
    assert played(envs.make("jumanji/lbf"), 64, script=True)[0].mean() > 0.9


@pytest.mark.slow
def test_lbf_chance() -> None:
    assert played(envs.make("jumanji/lbf"), 64, script=False)[0].mean() < 0.3


def test_lbf_sees_itself_where_it_says() -> None:
    env = envs.make("jumanji/lbf")
    state, first = env.reset(jax.random.key(2))
    own = np.asarray(first.observation.agents_view)[env.body_features].reshape(2, 2)
    np.testing.assert_allclose(own * 8, state.inner.agents.position)
    assert env.own_features[0].tolist() == [True] * 9 + [False] * 3


def test_lbf_refuses_more_food_than_fits() -> None:
    with pytest.raises(ConfigurationError, match="num_food is 9; it must be at most 6"):
        envs.make("jumanji/lbf", num_food=9)


def test_cart_pole_is_gymnaxs() -> None:
    env = envs.make("gymnax/CartPole-v1")
    source, params = gymnax.make("CartPole-v1")
    state, _ = env.reset(jax.random.key(0))
    ours, theirs = jax.jit(env.step), jax.jit(source.step_env)
    inner = state.inner
    for step in range(40):
        action = jnp.array([step % 3 // 2])
        state, timestep = ours(state, action)
        seen, inner, reward, done, _ = theirs(jax.random.key(9), inner, action[0], params)
        np.testing.assert_allclose(timestep.observation.agents_view[0], seen, rtol=1e-5)
        assert float(timestep.reward[0]) == float(reward)
        assert bool(timestep.last()) == bool(done)
        if done:
            break
    assert done
    assert float(timestep.discount[0]) == 0.0


TASKS = [name for name in envs.names() if name.startswith("gymnax/")]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if "Catch" in n else [pytest.mark.slow]) for n in TASKS]
)
def test_gymnax_keeps_the_contract(name: str) -> None:
    env = envs.make(name, time_limit=20)
    envs.check_environment(env, jax.random.key(0), 4)
    assert envs.registry.summary(name).startswith("gymnax, one agent")


def test_a_time_limit_is_a_truncation() -> None:
    env = envs.make("gymnax/MountainCar-v0", time_limit=3)
    state, _ = env.reset(jax.random.key(0))
    for _ in range(3):
        state, timestep = env.step(state, jnp.array([0]))
    assert timestep.last()
    assert float(timestep.discount[0]) == 1.0
