"""One-step Q-learning against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.distributions import greedy_action
from marl_jax.losses import (
    UNAVAILABLE,
    action_values,
    central_weights,
    greedy_values,
    mask_unavailable,
    one_step_targets,
    optimistic_weights,
    qtran_nopt_loss,
    qtran_opt_loss,
    td_loss,
)

Q = jnp.array([[5.0, 9.0, -1.0], [-4.0, -2.0, -7.0]])
MASK = jnp.array([[True, False, True], [True, False, True]])


def test_unavailable_actions() -> None:
    expected = [[5.0, -9_999_999.0, -1.0], [-4.0, -9_999_999.0, -7.0]]
    np.testing.assert_array_equal(mask_unavailable(Q, MASK), expected)
    assert UNAVAILABLE == -9_999_999
    np.testing.assert_array_equal(greedy_values(Q, MASK), [5.0, -4.0])
    np.testing.assert_array_equal(greedy_action(Q, MASK), [0, 0])
    np.testing.assert_array_equal(greedy_values(Q, jnp.ones_like(MASK)), [9.0, -2.0])
    with pytest.raises(AssertionError):
        greedy_values(Q, MASK[0])


def test_the_gradient_of_a_greedy_value_reaches_that_action_only() -> None:
    gradient = jax.grad(lambda q: greedy_values(q, MASK).sum())(Q)
    np.testing.assert_array_equal(gradient, [[1, 0, 0], [1, 0, 0]])


def test_action_values() -> None:
    action = jnp.array([1, 2])
    np.testing.assert_array_equal(action_values(Q, action), [9.0, -7.0])
    gradient = jax.grad(lambda q: (action_values(q, action) * jnp.array([2.0, 3.0])).sum())(Q)
    np.testing.assert_array_equal(gradient, [[0, 2, 0], [0, 0, 3]])
    with pytest.raises(AssertionError):
        action_values(Q, jnp.array([1]))


def test_double_q_is_the_targets_value_of_the_online_choice() -> None:
    online, target = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[10.0, 20.0, 30.0]])
    everything = jnp.ones((1, 3), bool)
    np.testing.assert_array_equal(action_values(target, greedy_action(online, everything)), [20.0])
    without = jnp.array([[True, False, True]])
    np.testing.assert_array_equal(action_values(target, greedy_action(online, without)), [30.0])


def test_one_step_targets() -> None:
    # gamma = 0.9: on the way, at a time limit (bootstraps) and at a termination.
    targets = one_step_targets(
        jnp.array([1.0, 2.0, 3.0]), jnp.array([0.9, 0.9, 0.0]), jnp.array([10.0, 20.0, 1e6])
    )
    np.testing.assert_allclose(targets, [10.0, 20.0, 3.0], rtol=1e-6)
    with pytest.raises(AssertionError):
        one_step_targets(jnp.zeros((3, 2)), jnp.zeros((3, 2)), jnp.zeros((2,)))


def test_td_loss() -> None:
    # (2^2 + 3^2) / 2 = 6.5; the last entry does not count. d/dq = 2 (q - y) / 2.
    q, target = jnp.array([3.0, 1.0, 50.0]), jnp.array([1.0, 4.0, 0.0])
    mask = jnp.array([1.0, 1.0, 0.0])
    loss, (by_q, by_target) = jax.value_and_grad(td_loss, argnums=(0, 1))(q, target, mask)
    np.testing.assert_allclose(loss, 6.5)
    np.testing.assert_allclose(by_q, [2.0, -3.0, 0.0])
    np.testing.assert_array_equal(by_target, np.zeros(3))
    # Weights are not part of the divisor: (4 / 2 + 9) / 2.
    weight = jnp.array([0.5, 1.0, 1.0])
    np.testing.assert_allclose(td_loss(q, target, mask, weight), 5.5)
    np.testing.assert_allclose(td_loss(q, target, jnp.zeros(3)), 0.0)


def test_td_loss_refuses_to_broadcast() -> None:
    team, agents = jnp.zeros((4, 2)), jnp.zeros((4, 2, 2))
    for arguments in (
        (agents, team, agents),
        (agents, agents, team),
        (team, team, team, jnp.zeros((2,))),
    ):
        with pytest.raises(AssertionError):
            td_loss(*arguments)


def test_optimistic_weights() -> None:
    # Below, at and above the target.
    q_tot, target = jnp.array([1.0, 2.0, 3.0]), jnp.full((3,), 2.0)
    np.testing.assert_allclose(optimistic_weights(q_tot, target, 0.1), [1.0, 0.1, 0.1])


def test_central_weights() -> None:
    # Greedy; one agent not greedy; neither, but y is above the greedy Q*; y at it; greedy with a low y.
    action = jnp.array([[0, 1], [0, 2], [2, 2], [2, 2], [0, 1]])
    greedy = jnp.array([[0, 1], [0, 1], [0, 1], [0, 1], [0, 1]])
    target, greedy_q = jnp.array([1.0, 1.0, 3.0, 2.0, -9.0]), jnp.full((5,), 2.0)
    weights = central_weights(action, greedy, target, greedy_q, 0.25)
    np.testing.assert_allclose(weights, [1.0, 0.25, 1.0, 0.25, 1.0])


def test_weights_are_constants() -> None:
    q_tot, target, mask = jnp.array([1.0, 5.0]), jnp.array([2.0, 3.0]), jnp.ones((2,))

    def loss(q_tot: jax.Array, target: jax.Array) -> jax.Array:
        return td_loss(q_tot, target, mask, optimistic_weights(q_tot, target, 0.1))

    by_q, by_target = jax.grad(loss, argnums=(0, 1))(q_tot, target)
    np.testing.assert_allclose(by_q, [-1.0, 0.2], rtol=1e-6)  # w (q - y)
    np.testing.assert_array_equal(by_target, np.zeros(2))


# Two steps that count, one that does not. sum_i q_i = 3 and 1, Q_jt = 5 and 2, V = 1 and 4: gaps -1 and 3.
QS = jnp.array([[1.0, 2.0], [4.0, -3.0], [50.0, 50.0]])
JOINT, V = jnp.array([5.0, 2.0, 0.0]), jnp.array([1.0, 4.0, 0.0])
COUNTS = jnp.array([1.0, 1.0, 0.0])


def test_qtran_opt_loss() -> None:
    # ((-1)^2 + 3^2) / 2 = 5, with the gradient 2 gap / 2 for q and V, and none for Q_jt.
    loss, gradients = jax.value_and_grad(qtran_opt_loss, argnums=(0, 1, 2))(QS, JOINT, V, COUNTS)
    np.testing.assert_allclose(loss, 5.0)
    by_q, by_joint, by_v = gradients
    np.testing.assert_allclose(by_q, [[-1, -1], [3, 3], [0, 0]])
    np.testing.assert_array_equal(by_joint, np.zeros(3))
    np.testing.assert_allclose(by_v, [-1, 3, 0])


def test_qtran_nopt_loss() -> None:
    # Only the gap below 0 counts: 1 / 2.
    loss, gradients = jax.value_and_grad(qtran_nopt_loss, argnums=(0, 1, 2))(QS, JOINT, V, COUNTS)
    np.testing.assert_allclose(loss, 0.5)
    by_q, by_joint, by_v = gradients
    np.testing.assert_allclose(by_q, [[-1, -1], [0, 0], [0, 0]])
    np.testing.assert_array_equal(by_joint, np.zeros(3))
    np.testing.assert_allclose(by_v, [-1, 0, 0])
