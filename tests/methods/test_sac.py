"""SAC: targets and losses worked out a second time, temperatures, and a world that it must solve."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.types import EpisodeBatch
from tests.methods.learners import SIZES, drawn_state, greedy_returns
from tests.methods.test_maddpg import KEY, SMALL, SOLVER, make, transitions
from tests.probes import ACTIONS, Aim

CONTINUOUS = SIZES._replace(continuous=True)


def continuous_steps(steps: EpisodeBatch) -> EpisodeBatch:
    """Single steps with continuous actions in place of discrete ones."""
    action = np.random.default_rng(6).uniform(-1.0, 1.0, (*steps.reward.shape, ACTIONS))
    return steps._replace(action=jnp.asarray(action, jnp.float32), extras=())


def learner(**options: Any) -> tuple[Any, Any, EpisodeBatch]:
    """One with two temperatures and a lagging target, and steps, before one of which an agent is dead."""
    method = make("sac", CONTINUOUS, reward_scale=3.0, **options)
    state = drawn_state(method, 0)
    steps = continuous_steps(transitions())
    return method, state, steps._replace(alive=steps.alive.at[:, 2, 0].set(False))


def test_targets_are_soft_values_of_the_target_critics() -> None:
    method, state, steps = learner()
    batch = method._transitions(state, steps, KEY)
    inputs = steps.observation[1]
    policy = method._policy(state.params["actor"], inputs, steps.action_mask[1])
    drawn, log_prob = policy.sample_and_log_prob(seed=KEY)
    q = np.asarray(method._values(state.target["critic"], inputs, jnp.tanh(drawn)))
    temperature = np.exp(np.asarray(state.params["temperature"]))
    after = np.minimum(q[..., 0], q[..., 1]) - temperature * np.asarray(log_prob)
    goes_on = np.asarray(steps.discount[0] * steps.alive[1])
    expected = 3.0 * np.asarray(steps.reward[0]) + 0.9 * goes_on * after
    np.testing.assert_allclose(batch.target, expected, rtol=1e-5)
    assert 0 < goes_on.sum() < goes_on.size


def test_losses_are_means_over_the_living() -> None:
    method, state, steps = learner()
    batch = method._transitions(state, steps, KEY)
    alive = np.asarray(steps.alive[0], float)
    q = np.asarray(method._values(state.params["critic"], batch.inputs, batch.action))
    error = ((q - np.asarray(batch.target)[..., None]) ** 2).sum(-1) / 2
    expected = ((error * alive).sum(0) / alive.sum(0)).sum()
    loss, _ = method._critic_loss(state.params["critic"], batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)

    loss, (log_prob, _) = method._actor_loss(state.params["actor"], state, batch, KEY)
    policy = method._policy(state.params["actor"], batch.inputs, batch.used)
    drawn, again = policy.sample_and_log_prob(seed=KEY)
    np.testing.assert_allclose(log_prob, again, rtol=1e-5)
    q = np.asarray(method._values(state.params["critic"], batch.inputs, jnp.tanh(drawn)))
    cost = np.exp(np.asarray(state.params["temperature"])) * np.asarray(again) - q.min(-1)
    np.testing.assert_allclose(loss, ((cost * alive).sum(0) / alive.sum(0)).sum(), rtol=1e-4)


@pytest.mark.parametrize(("target_entropy", "goal"), [(None, -2.0), (0.25, 0.25)])
def test_temperatures_follow_entropy(target_entropy: float | None, goal: float) -> None:
    """Two of three numbers have an effect. Descent lowers the temperature of an agent that is random enough."""
    method, state, steps = learner(target_entropy=target_entropy)
    steps = steps._replace(action_mask=jnp.ones_like(steps.action_mask).at[..., 0].set(False))
    batch = method._transitions(state, steps, KEY)
    log_prob = jnp.broadcast_to(-goal + jnp.array([0.5, -0.5]), batch.target.shape)
    log_temperature = jnp.log(jnp.array([2.0, 4.0]))
    slope = jax.grad(method._temperature_loss)(log_temperature, log_prob, batch)
    # -alpha times what entropy is short of the goal.
    np.testing.assert_allclose(slope, [-1.0, 2.0], rtol=1e-5)


def test_only_critics_have_a_delayed_copy() -> None:
    method, state, _ = learner()
    assert state.target.keys() == {"critic"}
    assert state.params["temperature"].shape == (2,)
    first = method._init_params(KEY)["temperature"]
    np.testing.assert_allclose(first, np.log([1.0, 1.0]))


@pytest.mark.slow
def test_it_aims() -> None:
    """Standing still gets -0.36."""
    options = {**SMALL, **SOLVER, "update_interval": 4, "random_steps": 500}
    options |= {"critic_lr": 3e-3, "temperature_lr": 3e-3}
    del options["exploration_noise"]
    assert (greedy_returns("sac", Aim(), 400, 2, options) > -0.1).all()
