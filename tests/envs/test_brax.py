"""brax's walkers beside their source: each agent's body is brax's own."""

import importlib
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import ConfigurationError, bridges
from envs.bridges.brax_split import SPLITS
from envs.bridges.brax_viewer import BraxViewer
from envs.bridges.states import BraxState
from envs.viewer import one_state
from tests.documented import ROOT, tables
from tests.methods.learners import fast_jit

TASKS = [name for name in envs.names() if name.startswith("brax/")]
SHARED = [name for name in envs.names() if name.startswith("mabrax/")]


def test_names_and_options_are_known_without_brax(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    assert [name.split("/")[1] for name in TASKS] == sorted(bridges._BRAX)
    assert [name.split("/")[1] for name in SHARED] == sorted(SPLITS)
    kinds = [envs.world_class(name) for name in ("brax/ant", "mabrax/ant_4x2")]
    assert kinds[0].Config().num_agents == 2
    monkeypatch.setattr(importlib, "import_module", missing)
    for kind in kinds:
        with pytest.raises(ConfigurationError, match=r'needs brax; install it with.* "\.\[brax\]"'):
            kind()


@pytest.mark.parametrize(
    ("name", "sizes", "of_first"),
    [
        # Of the sizes the ant's, the cheetah's and the hopper's are MABrax's.
        ("ant_4x2", [18] * 4, [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, *range(13, 19), 19, 20]),
        ("halfcheetah_6x1", [9, 9, 8, 9, 9, 8], [0, 1, 2, 3, 5, 8, 9, 10, 11]),
        ("hopper_3x1", [8, 9, 8], [0, 1, 2, 3, 5, 6, 7, 8]),
        ("walker2d_2x3", [12, 12], [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]),
    ],
)
def test_joints_are_shared_out(name: str, sizes: list[int], of_first: list[int]) -> None:
    """Each joint is moved by one agent; together they see everything."""
    split = SPLITS[name]
    num = len(split.torques)
    assert sorted(joint for own in split.joints for joint in own) == list(range(num))
    assert sorted(split.torques) == list(range(num))
    seen = [split.seen(agent) for agent in range(len(split.joints))]
    assert [len(numbers) for numbers in seen] == sizes
    assert seen[0] == of_first
    assert set().union(*seen) == set(range(sum(split.root) + 2 * num))
    for own, beside in zip(split.joints, split.beside, strict=True):
        assert not set(own) & set(beside)


class Level(NamedTuple):
    """What stands for brax's nested states."""

    inner: Any

    pipeline_state = x = pos = property(lambda self: self.inner)


def test_bodies_are_drawn_side_by_side_wherever_they_have_come_to() -> None:
    """A trunk with a leg each; A has walked 100 m, B has fallen."""
    joints = jnp.array([[[100.0, 0, 1.2], [100.2, 0, 0.6]], [[0.0, 0, 0.1], [0.3, 0, 0.1]]])
    bodies = Level(Level(Level(joints)))
    state = BraxState(
        jax.random.key(0), jnp.int32(7), bodies, jnp.array([False, True]), jnp.array([12.4, 3.0])
    )
    source = types.SimpleNamespace(sys=types.SimpleNamespace(link_parents=(-1, 0)))
    viewer = BraxViewer("hopper", source, 1000)
    scene = viewer.scene(one_state(state))
    places = [thing.place for thing in scene.things]
    np.testing.assert_allclose(
        places, [(1.25, 1.2), (1.45, 0.6), (3.75, 0.1), (4.05, 0.1)], rtol=1e-5
    )
    assert len(scene.shots) == 2
    text = viewer.text(state)
    assert "1 of 2 on their feet" in text
    assert "step 7/1000    return A 12, B 3" in text
    assert viewer.render(state).shape == (540, 480, 3)


@pytest.fixture
def brax() -> Any:
    """brax's environments; without it, this says why nothing was tested."""
    pytest.importorskip("brax", reason="brax is not installed: pip install -e '.[brax]'")
    # Making one imports brax without its warnings.
    envs.make("brax/hopper", time_limit=2)
    return importlib.import_module("brax.envs")


@pytest.mark.slow
def test_sizes_are_those_of_the_page(brax: Any) -> None:
    del brax
    (_, _, *rows), *_ = tables(ROOT / "docs" / "worlds" / "continuous.md")
    documented = {world.strip("`"): [int(x) for x in sizes] for world, *sizes in rows}
    assert documented.keys() == {*TASKS, *SHARED}
    for world, sizes in documented.items():
        env = envs.make(world)
        found = [env.num_agents, env.num_actions, env.time_limit]
        assert sizes == [*found, env.agents_view_size, env.global_state_size]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_bodies_are_braxs_until_they_fall(brax: Any) -> None:
    """Views and rewards, side by side with two hoppers of brax's own; one falls before the other."""
    env = envs.make("brax/hopper", raw_view=True)
    source = brax.get_environment("hopper", backend="spring")
    key = jax.random.key(1)
    state, timestep = fast_jit(env.reset)(key)
    their_reset, step, their_step = map(fast_jit, (source.reset, env.step, source.step))
    theirs = [their_reset(jax.random.fold_in(key, agent)) for agent in range(2)]
    rng, down, earned = np.random.default_rng(0), [False, False], np.zeros(2)
    for _ in range(400):
        seen = timestep.observation.agents_view
        for agent in range(2):
            expected = np.zeros(11) if down[agent] else theirs[agent].obs
            np.testing.assert_allclose(seen[agent], expected, rtol=1e-3, atol=1e-3)
        action = jnp.asarray(rng.uniform(-1, 1, (2, 3)), jnp.float32)
        state, timestep = step(state, action)
        for agent in range(2):
            if down[agent]:
                assert float(timestep.reward[agent]) == 0.0
                continue
            theirs[agent] = their_step(theirs[agent], action[agent])
            reward = float(theirs[agent].reward)
            np.testing.assert_allclose(timestep.reward[agent], reward, rtol=1e-2, atol=1e-2)
            earned[agent] += reward
            down[agent] = bool(theirs[agent].done)
        np.testing.assert_array_equal(timestep.observation.alive, np.logical_not(down))
        if timestep.last():
            break
    assert all(down)
    assert "0 of 2 on their feet" in env.text(state)
    assert env.render(state).shape == (540, 480, 3)
    assert (np.asarray(timestep.discount) == 0.0).all()
    np.testing.assert_allclose(timestep.extras["best_return"], earned.max(), rtol=1e-2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(SPLITS))
def test_tables_are_the_bodys(name: str, brax: Any) -> None:
    """Joints and torques as brax has them, and who hangs on whom."""
    split = SPLITS[name]
    system = brax.get_environment(split.body, backend="spring").sys
    unseen, speeds = (2 if split.body == "ant" else 1), split.root[1]
    joints = [q - unseen - split.root[0] for q in np.asarray(system.actuator.q_id)]
    assert [split.torques[joint] for joint in joints] == list(range(len(joints)))
    assert joints == [qd - speeds for qd in np.asarray(system.actuator.qd_id)]
    # Links behind the trunk have a joint each; joints on one link, or on the trunk, are next to each other.
    parents = dict(enumerate(system.link_parents[1:]))
    assert len(parents) == len(joints)
    for own, beside in zip(split.joints, split.beside, strict=True):
        near = {
            other
            for joint in own
            for other in parents
            if parents[other] - 1 == joint
            or parents[joint] - 1 == other
            or parents[other] == parents[joint]
        }
        assert sorted(near - set(own)) == sorted(beside)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_shared_body_is_the_whole_one(brax: Any) -> None:
    """Views are put together to brax's, and the agents' torques move brax's hopper as they are."""
    env = envs.make("mabrax/hopper_3x1", raw_view=True)
    source = brax.get_environment("hopper", backend="spring")
    key = jax.random.key(1)
    state, timestep = fast_jit(env.reset)(key)
    theirs = fast_jit(source.reset)(jax.random.fold_in(key, 0))
    step, their_step = fast_jit(env.step), fast_jit(source.step)
    rng = np.random.default_rng(0)
    for _ in range(10):
        np.testing.assert_allclose(
            timestep.observation.global_state, theirs.obs, rtol=1e-3, atol=1e-3
        )
        for agent in range(3):
            seen, view = env.split.seen(agent), timestep.observation.agents_view[agent]
            np.testing.assert_allclose(view[: len(seen)], theirs.obs[np.array(seen)], atol=1e-3)
            np.testing.assert_array_equal(view[len(seen) :], 0.0)
        action = jnp.asarray(rng.uniform(-1, 1, (3, 1)), jnp.float32)
        state, timestep = step(state, action)
        theirs = their_step(theirs, action[:, 0])
        np.testing.assert_allclose(timestep.reward, [float(theirs.reward)] * 3, rtol=1e-2)
    assert "1 of 1 on their feet" in env.text(state)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["brax/hopper", "brax/halfcheetah", "mabrax/walker2d_2x3"])
def test_it_keeps_the_contract(name: str, brax: Any) -> None:
    """One that falls, the one that does not, and one that agents share."""
    del brax
    envs.check_environment(envs.make(name, time_limit=60), jax.random.key(0), 4)
