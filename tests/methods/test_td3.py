"""TD3: what it is beside DDPG, and a world that it must solve."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax import methods
from tests.methods.learners import SIZES, drawn_state, fast_jit, greedy_returns, make_batch
from tests.methods.test_maddpg import KEY, SMALL, SOLVER, make, transitions
from tests.methods.test_sac import continuous_steps
from tests.probes import ACTIONS, LIMIT, Aim

CONTINUOUS = SIZES._replace(continuous=True)


def test_its_defaults_are_the_parts_that_make_it_td3() -> None:
    config: Any = methods.recipe("td3").Config()
    assert (config.twin_critics, config.policy_delay, config.target_noise) == (True, 2, 0.2)
    assert jax.eval_shape(make("td3", CONTINUOUS).init, KEY).params["critic"]["params"].keys() == {
        "critic_0",
        "critic_1",
    }


def test_first_actions_are_uniform() -> None:
    method = make("ddpg", CONTINUOUS, random_steps=100, exploration_noise=0.0)
    state = drawn_state(method, 0)
    sight = jax.tree.map(lambda x: jnp.stack([x] * 500), Aim().reset(KEY)[1].observation)

    def action(steps: int, explore: bool) -> np.ndarray:
        now = state._replace(env_steps=jnp.asarray(steps))
        return np.asarray(method.act(now, (), sight, KEY, explore)[1])

    first, later, greedy = action(99, True), action(100, True), action(99, False)
    np.testing.assert_array_equal(later, greedy)
    assert np.ptp(greedy, axis=0).max() < 1e-6
    np.testing.assert_allclose(first.mean(0), 0.0, atol=0.1)
    np.testing.assert_allclose(first.std(0), 1 / np.sqrt(3), atol=0.05)


@pytest.mark.parametrize("name", ["td3", "alita"])
def test_nothing_comes_after_an_agents_death(name: str) -> None:
    method = make(name, CONTINUOUS)
    steps = continuous_steps(transitions())
    # A step on which it dies is paid what the method pays; one after that is not.
    gone = 1 if name == "td3" else slice(None)
    steps = steps._replace(alive=steps.alive.at[gone, :, 0].set(False))
    target = method._transitions(drawn_state(method, 0), steps, KEY).target
    np.testing.assert_allclose(target[:, 0], steps.reward[0, :, 0], rtol=1e-6)
    goes_on = np.asarray(steps.discount[0, :, 1]) > 0
    assert not np.isclose(target[:, 1], steps.reward[0, :, 1])[goes_on].any()


@pytest.mark.parametrize(
    ("continuous", "interval", "lengths", "before", "expected"),
    [
        # Six of twelve steps were played: 5 // 2 gradient steps before, 11 // 2 now.
        (True, 2, (1, 2, 3), 5, 3),
        (False, 2, (1, 2, 3), 5, 6),
        # 3 // 5 and 15 // 5, where an iteration's own steps are 12 / 5.
        (True, 5, (4, 4, 4), 3, 3),
    ],
)
def test_gradient_steps_follow_what_was_played_where_actions_are_continuous(
    continuous: bool,
    interval: int,
    lengths: tuple[int, ...],
    before: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"num_envs": 3, "update_interval": interval, "replay_capacity": 4 * LIMIT}
    method = make("ddpg", SIZES._replace(continuous=continuous, ends_early=True), **options)
    state = drawn_state(method, 0)._replace(env_steps=jnp.asarray(before))
    batch = make_batch(lengths=lengths, terminated=(True, True, True))
    vectors = jnp.zeros((*batch.action.shape, ACTIONS))
    batch = batch._replace(**{"action" if continuous else "extras": vectors})
    replay = method.replay.add(method.replay.init(batch), batch)
    monkeypatch.setattr(type(method), "_step", lambda _, state, *__: (state, {"one": jnp.ones(())}))
    after, metrics = fast_jit(method.update)(state, batch, replay, KEY)
    assert (int(after.updates), float(metrics["one"])) == (expected, 1.0)


@pytest.mark.slow
def test_it_aims() -> None:
    """Standing still gets -0.36."""
    options = {**SMALL, **SOLVER, "update_interval": 4, "critic_lr": 3e-3, "random_steps": 500}
    assert (greedy_returns("td3", Aim(), 400, 2, options) > -0.05).all()
