"""1D Pursuit: hand-worked transitions, known returns, a plain-NumPy twin, pictures."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.pursuit_1d import Pursuit1D, State
from tests.envs.rollouts import (
    Policy,
    constant_policy,
    mixed_policy,
    random_policy,
    returns,
    rollout,
    scripted_policy,
    side_by_side,
)
from tests.envs.twins.pursuit_1d import Pursuit1DTwin

PLUS, MINUS, KEEP = range(3)

ENV = Pursuit1D()
STEP = jax.jit(ENV.step)


def make_state(x: int, y: int, step_count: int = 0) -> State:
    state, _ = ENV.reset(jax.random.PRNGKey(0))
    values = jnp.array([x, y], jnp.int32)
    return dataclasses.replace(state, values=values, step_count=jnp.int32(step_count))


def play(state: State, *actions: int) -> tuple[State, Any]:
    return STEP(state, jnp.array(actions, jnp.int32))


@pytest.mark.parametrize(
    ("values", "actions", "after", "reward"),
    [
        ((3, -4), (MINUS, PLUS), (2, -3), 0.01),  # both approach
        ((-1, 1), (PLUS, MINUS), (0, 0), 0.01),  # both arrive
        ((3, -4), (PLUS, MINUS), (4, -5), -0.01),  # both move away
        ((0, 0), (PLUS, MINUS), (1, -1), -0.01),  # leaving the target is moving away
        ((0, 5), (PLUS, PLUS), (1, 6), -0.01),
        ((3, -4), (MINUS, MINUS), (2, -5), 0.0),  # one each way
        ((3, -4), (MINUS, KEEP), (2, -4), 0.0),  # one approaches, one keeps
        ((3, -4), (PLUS, KEEP), (4, -4), 0.0),
        ((0, 4), (KEEP, MINUS), (0, 3), 0.0),  # keeping at the target is no approach
        ((10, 10), (PLUS, PLUS), (11, 11), -0.01),  # nothing stops the values at 10
        ((7, 8), (KEEP, KEEP), (7, 8), 0.0),
    ],
)
def test_transitions_by_hand(values: Any, actions: Any, after: Any, reward: float) -> None:
    state, timestep = play(make_state(*values), *actions)
    np.testing.assert_array_equal(state.values, after)
    np.testing.assert_allclose(timestep.reward, [reward, reward], rtol=1e-6)
    assert timestep.mid()


def test_observation_by_hand() -> None:
    _, timestep = play(make_state(3, -8, step_count=4), PLUS, KEEP)
    np.testing.assert_allclose(
        timestep.observation.agents_view, [[0.4, -0.8], [-0.8, 0.4]], rtol=1e-6
    )
    # The clock: 5 of 20 steps are over.
    np.testing.assert_allclose(timestep.observation.global_state, [0.4, -0.8, 0.25], rtol=1e-6)
    np.testing.assert_array_equal(timestep.observation.action_mask, np.ones((2, 3), bool))


def test_the_time_limit_is_a_truncation() -> None:
    _, timestep = play(make_state(1, 1, step_count=18), MINUS, MINUS)
    assert timestep.mid(), "both at the target ends nothing"
    _, timestep = play(make_state(1, 1, step_count=19), MINUS, MINUS)
    assert timestep.last()
    np.testing.assert_array_equal(timestep.discount, [1, 1])


def test_terminate_at_target_is_a_termination() -> None:
    env = Pursuit1D(terminate_at_target=True)
    _, timestep = env.step(make_state(1, -1), jnp.array([MINUS, PLUS]))
    assert timestep.last()
    np.testing.assert_array_equal(timestep.discount, [0, 0])
    np.testing.assert_allclose(timestep.reward, [0.01, 0.01], rtol=1e-6)
    _, timestep = env.step(make_state(1, -2), jnp.array([MINUS, PLUS]))
    assert timestep.mid()


def test_clip_stops_the_values_and_a_stopped_action_is_neither_good_nor_bad() -> None:
    env = Pursuit1D(clip=10)
    state, timestep = env.step(make_state(10, -10), jnp.array([PLUS, MINUS]))
    np.testing.assert_array_equal(state.values, [10, -10])
    np.testing.assert_array_equal(timestep.reward, [0, 0])
    kinds = env.classify_actions(jnp.array([10, -10]), jnp.array([PLUS, PLUS]))
    np.testing.assert_array_equal(kinds, [0, 1])


def test_classify_actions_from_observations_of_any_shape() -> None:
    # Each of the values -1, 0, 1 under each of the actions +1, -1, 0.
    expected = {-1: (1, -1, 0), 0: (-1, -1, 0), 1: (-1, 1, 0)}
    for value, kinds in expected.items():
        view = jnp.full((3, 2, 2), value / 10)
        actions = jnp.stack([jnp.arange(3)] * 2, axis=1)
        found = ENV.classify_actions(10 * view[..., 0], actions)
        assert found.shape == (3, 2)
        np.testing.assert_array_equal(found[:, 0], kinds)
        np.testing.assert_array_equal(found[:, 1], kinds)


def test_classify_actions_survives_the_scaling_of_every_value() -> None:
    values = jnp.arange(-30, 31)
    scaled = values.astype(jnp.float32) / 10
    action = jnp.full_like(values, PLUS)
    kinds = ENV.classify_actions(10 * scaled, action)
    np.testing.assert_array_equal(kinds, np.where(np.arange(-30, 31) < 0, 1, -1))


@pytest.mark.parametrize(
    ("policy", "mean", "within"),
    [
        (scripted_policy(ENV), 0.0349, 0.0015),
        (constant_policy(KEEP, KEEP), 0.0, 0.0),
    ],
    ids=["straight", "keep"],
)
def test_known_returns(policy: Policy, mean: float, within: float) -> None:
    _, timesteps, _ = rollout(ENV, policy, 5000)
    assert abs(returns(timesteps).mean() - mean) <= within


def test_random_play_earns_what_the_rules_say() -> None:
    # Away from the target an action is good or bad with probability 1/3 each; at the target,
    # where an agent is with probability z, it is bad with probability 2/3. So a step earns
    # 0.01 [((1 - z) / 3)^2 - ((1 + z) / 3)^2].
    chances = np.zeros(81)
    chances[30:51] = 1 / 21  # index 40 is the target
    expected = 0.0
    for _ in range(ENV.time_limit):
        z = chances[40]
        expected += 0.01 * ((1 - z) ** 2 - (1 + z) ** 2) / 9
        chances = np.convolve(chances, [1 / 3, 1 / 3, 1 / 3], mode="same")
    assert abs(expected + 0.0042) < 1e-4
    _, timesteps, _ = rollout(ENV, random_policy(ENV), 20_000)
    # The standard error is 0.00015.
    assert abs(returns(timesteps).mean() - expected) < 0.0006


def test_the_script_earns_what_walking_straight_can_from_every_start() -> None:
    starts = np.array([(x, y) for x in range(-10, 11) for y in range(-10, 11)])

    def play_out(values: jax.Array) -> jax.Array:
        state = dataclasses.replace(make_state(0, 0), values=values)

        def step(state: State, _: None) -> Any:
            state, timestep = ENV.step(state, ENV.scripted_action(state))
            return state, timestep.reward[0]

        return jax.lax.scan(step, state, None, ENV.time_limit)[1].sum()

    found = jax.jit(jax.vmap(play_out))(jnp.asarray(starts, jnp.int32))
    best = 0.01 * np.abs(starts).min(axis=1)
    np.testing.assert_allclose(found, best, atol=1e-6)
    assert abs(best.mean() - 0.0349) < 5e-5


def test_starting_values_are_uniform_and_independent() -> None:
    keys = jax.random.split(jax.random.PRNGKey(1), 42_000)
    values = np.asarray(jax.vmap(lambda key: ENV.reset(key)[0].values)(keys))
    for column in values.T:
        counts = np.bincount(column + 10, minlength=21)
        assert counts.shape == (21,)
        chi_square = ((counts - 2000.0) ** 2 / 2000.0).sum()
        # The 0.1% and 99.9% points of chi-square with 20 degrees of freedom.
        assert 5.9 < chi_square < 45.4
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.02


def test_the_return_is_what_the_extras_say() -> None:
    _, timesteps, _ = rollout(ENV, random_policy(ENV), 50)
    net = timesteps.extras["net_joint_moves"][:, -1]
    np.testing.assert_allclose(returns(timesteps), 0.01 * net, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    values=st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    actions=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_what_may_never_happen(values: tuple[int, int], actions: tuple[int, int]) -> None:
    before = make_state(*values)
    after, timestep = play(before, *actions)
    change = np.asarray(after.values - before.values)
    assert (np.abs(change) <= 1).all()
    assert not (np.array(actions) == KEEP)[change != 0].any()
    closer = np.abs(after.values).sum() - np.abs(before.values).sum()
    reward = float(timestep.reward[0])
    assert (reward > 0) == (closer == -2)
    assert (reward < 0) == (closer == 2)
    # Swapping the agents swaps everything.
    swapped, timestep_swapped = play(make_state(*values[::-1]), *actions[::-1])
    np.testing.assert_array_equal(swapped.values, after.values[::-1])
    np.testing.assert_array_equal(
        timestep_swapped.observation.agents_view, timestep.observation.agents_view[::-1]
    )


@pytest.mark.parametrize(
    ("options", "num_random", "num_mixed"),
    [
        ({}, 10_000, 5000),
        pytest.param({"clip": 10, "time_limit": 60}, 2000, 2000, marks=pytest.mark.slow),
        ({"terminate_at_target": True}, 2000, 2000),
    ],
    ids=["default", "clip", "terminate"],
)
def test_the_twin_agrees_at_every_step(
    options: dict[str, Any], num_random: int, num_mixed: int
) -> None:
    env = Pursuit1D(**options)

    def make_twin(start: State) -> Pursuit1DTwin:
        return Pursuit1DTwin(start.values, **options)

    totals = side_by_side(env, make_twin, random_policy(env), num_random)
    assert (totals > 0).any()
    assert (totals < 0).any()
    totals = side_by_side(env, make_twin, mixed_policy(env), num_mixed)
    assert totals.mean() > 0.01, "no target was reached"


def test_pictures_tell_states_apart() -> None:
    base = ENV.render(make_state(3, -2))
    for other in (make_state(4, -2), make_state(3, -3), make_state(3, -2, step_count=1)):
        assert (ENV.render(other) != base).any()
    # Values that lie beyond the drawn line still differ in the picture.
    assert (ENV.render(make_state(17, 0)) != ENV.render(make_state(18, 0))).any()


def test_text_by_hand() -> None:
    state = make_state(3, -20, step_count=7)
    state = dataclasses.replace(state, good_actions=jnp.int32(4), net_joint_moves=jnp.int32(-2))
    assert ENV.text(state).splitlines() == [
        "1D Pursuit: both must approach 0",
        "step 7/20    good moves: 4    bad moves: 0    return -0.02",
        "",
        "                           target",
        "  . . . . . . . . . . . . . . | . . A . . . . . . . . . . .",
        " <B . . . . . . . . . . . . . | . . . . . . . . . . . . . .",
        "         -10       -5         0         5        10",
        "",
        "A = 3, B = -20.  The agents do not know where the target is.",
    ]
    beyond = ENV.text(make_state(0, 14)), ENV.text(make_state(15, 14))
    assert beyond[0].splitlines()[4:6] == [
        "  . . . . . . . . . . . . . . A . . . . . . . . . . . . . .",
        "  . . . . . . . . . . . . . . | . . . . . . . . . . . . . B",
    ]
    assert beyond[1].splitlines()[4].endswith(". . A>")
