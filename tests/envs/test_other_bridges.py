"""Worlds of jumanji, gymnax and JaxMARL beside their sources."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.environments.routing.lbf.env import LevelBasedForaging as Source

import envs
from envs import ConfigurationError
from envs.viewer import FieldsViewer

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


def test_lbf_picture() -> None:
    """Food with its level, and what agents do; of a world without pictures all that its state holds."""
    env = envs.make("jumanji/lbf")
    state = env.reset(jax.random.key(3))[0]
    text = env.viewer.text(state)
    rows = [line.split() for line in text.splitlines()[3:11]]
    for (row, column), level in zip(
        state.inner.food_items.position, state.inner.food_items.level, strict=True
    ):
        assert rows[row][column] == str(level)
    assert "2 of 2 left" in text
    assert env.viewer.render(state).ndim == 3
    fields: FieldsViewer[Any] = FieldsViewer()
    told = fields.text(state)
    assert "inner.food_items.eaten: [False False]" in told
    assert "key" not in told
    assert fields.render(state).ndim == 3


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


def test_overcooked_is_jaxmarls() -> None:
    """The same views, rewards and kitchens, up to a soup that is delivered."""
    pytest.importorskip("jaxmarl")
    from jaxmarl.environments.overcooked import Overcooked, overcooked_layouts

    env = envs.make("overcooked/asymm_advantages", shaped_reward=0.5, time_limit=60)
    with pytest.warns(DeprecationWarning, match="OvercookedV2"):
        source = Overcooked(overcooked_layouts["asymm_advantages"], max_steps=60)
    state, first = env.reset(jax.random.key(0))
    _, reset_key = jax.random.split(jax.random.key(0))
    seen, inner = source.reset(reset_key)
    scale = np.where(np.arange(26) == 20, 0.05, 1.0)
    ours, script, theirs = jax.jit(env.step), jax.jit(env.scripted_action), jax.jit(source.step_env)
    paid, timestep = 0.0, first
    for _ in range(60):
        for name, view in zip(source.agents, timestep.observation.agents_view, strict=True):
            np.testing.assert_allclose(view, (np.asarray(seen[name]) * scale).ravel(), rtol=1e-6)
        action = script(state)
        state, timestep = ours(state, action)
        actions = dict(zip(source.agents, action, strict=True))
        seen, inner, reward, _, info = theirs(jax.random.key(0), inner, actions)
        shaped = [0.5 * float(info["shaped_reward"][name]) for name in source.agents]
        np.testing.assert_allclose(timestep.reward, reward["agent_0"] + np.array(shaped))
        np.testing.assert_array_equal(state.inner.maze_map, inner.maze_map)
        paid += float(reward["agent_0"])
    assert timestep.last()
    assert (timestep.discount == 1.0).all()
    assert paid == 20.0 * int(timestep.extras["soups"]) > 0.0
    assert f"{int(timestep.extras['soups'])} soups" in env.text(state)


KITCHENS = [name for name in envs.names() if name.startswith("overcooked/")]


@pytest.mark.slow
@pytest.mark.parametrize("name", KITCHENS)
def test_overcooked_keeps_the_contract(name: str) -> None:
    pytest.importorskip("jaxmarl")
    env = envs.make(name, time_limit=50)
    envs.check_environment(env, jax.random.key(0), 2)
    # Parted cooks can hand nothing over by going where it lies.
    soups = played(envs.make(name, shaped_reward=0.0), 8, script=True)[0].mean() / 20
    assert soups == 0.0 if name.endswith("forced_coord") else soups > 1.0


@pytest.mark.slow
def test_rware_is_jumanjis() -> None:
    """The same places, views, masks and rewards; a collision ends it, the time limit cuts it off."""
    from jumanji.environments.routing.robot_warehouse.env import RobotWarehouse

    env, source = envs.make("jumanji/rware"), RobotWarehouse()
    envs.check_environment(envs.make("jumanji/rware", time_limit=20), jax.random.key(0), 2)
    ours, theirs = jax.jit(env.step), jax.jit(source.step)
    ended = False
    for seed in range(8):
        key = jax.random.key(seed)
        state, timestep = env.reset(key)
        other, other_timestep = source.reset(key)
        for step in range(60):
            seen, expected = timestep.observation, other_timestep.observation
            view = np.asarray(expected.agents_view, np.float32)
            view[:, :2] /= 20
            np.testing.assert_allclose(seen.agents_view, view, rtol=1e-6)
            np.testing.assert_array_equal(seen.action_mask, expected.action_mask)
            assert bool(timestep.last()) == bool(other_timestep.last())
            if timestep.last():
                assert (timestep.discount == 0.0).all()
                ended = True
                break
            action = env.random_action(jax.random.fold_in(key, step), seen.action_mask)
            state, timestep = ours(state, action)
            other, other_timestep = theirs(other, action)
            np.testing.assert_array_equal(timestep.reward, float(other_timestep.reward))
    assert ended


@pytest.mark.slow
def test_a_shelf_that_is_asked_for_pays_when_it_is_brought() -> None:
    from jumanji.environments.routing.robot_warehouse import constants

    env = envs.make(
        "jumanji/rware", num_agents=2, shelf_rows=1, column_height=2, request_queue_size=2
    )
    state, _ = env.reset(jax.random.key(0))
    inner = state.inner
    goal_column, goal_row = (int(x) for x in env.source.goals[0])
    wanted = int(inner.request_queue[0])
    # Robot 0 stands before the goal with the shelf and looks at it; robot 1 stands in a corner.
    agents, shelves = inner.agents, inner.shelves
    rows = agents.position.x.at[:].set(jnp.array([goal_row - 1, 0]))
    columns = agents.position.y.at[:].set(jnp.array([goal_column, 0]))
    grid = inner.grid.at[:, :, :].set(0)
    grid = grid.at[constants._AGENTS, rows, columns].set(jnp.array([1, 2]))
    grid = grid.at[constants._SHELVES, goal_row - 1, goal_column].set(wanted + 1)
    place = shelves.position._replace(
        x=shelves.position.x.at[wanted].set(goal_row - 1),
        y=shelves.position.y.at[wanted].set(goal_column),
    )
    inner = inner.replace(
        grid=grid,
        agents=agents._replace(
            position=agents.position._replace(x=rows, y=columns),
            direction=jnp.array([2, 2], agents.direction.dtype),
            is_carrying=agents.is_carrying.at[0].set(1),
        ),
        shelves=shelves._replace(position=place),
        action_mask=jnp.ones((2, 5), bool),
    )
    state = dataclasses.replace(state, inner=inner)
    state, timestep = jax.jit(env.step)(state, jnp.array([1, 0]))
    np.testing.assert_array_equal(timestep.reward, [1.0, 1.0])
    assert int(timestep.extras["delivered"]) == 1
    assert "1 delivered" in env.text(state)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shelf_columns": 2}, "shelf_columns is 2; it must be an odd number."),
        ({"request_queue_size": 500}, "request_queue_size is 500; it must be below 80,"),
    ],
)
def test_rware_refuses_what_cannot_be_built(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        envs.make("jumanji/rware", **options)
