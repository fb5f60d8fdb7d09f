"""Policy-gradient losses against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from marl_jax.losses import (
    approximate_kl,
    clipped_surrogate_loss,
    clipped_value_loss,
    constant_entropy_bonus,
    counterfactual_advantage,
    explained_variance,
    importance_weighted_objective,
    masked_mean,
    normalise,
    policy_gradient_loss,
)


def test_masked_mean() -> None:
    x, mask = jnp.array([[1.0, 2.0], [4.0, 100.0]]), jnp.array([[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(masked_mean(x, mask), 2.5)
    np.testing.assert_allclose(masked_mean(x, jnp.zeros_like(mask)), 0.0)


def test_normalise() -> None:
    # 1, 3, 5 and 7 have mean 4 and variance (9 + 1 + 1 + 9) / 4 = 5; the last entry does not count.
    x, mask = jnp.array([1.0, 3.0, 5.0, 7.0, 1e4]), jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])
    expected = np.array([-3.0, -1.0, 1.0, 3.0]) / np.sqrt(5.0)
    np.testing.assert_allclose(normalise(x, mask)[:4], expected, rtol=1e-6)


def test_normalise_has_a_finite_gradient_where_nothing_varies() -> None:
    x, mask = jnp.full((4,), 2.0), jnp.ones((4,))
    np.testing.assert_allclose(normalise(x, mask), np.zeros(4))
    gradient = jax.grad(lambda x: jnp.sum(normalise(x, mask) * jnp.arange(4.0)))(x)
    assert np.isfinite(gradient).all()


def test_constant_entropy_bonus() -> None:
    # Always 1, with the slope 1 / H; and 0, still with a finite slope, where nothing is left.
    for entropy in (2.0, 0.5):
        value, slope = jax.value_and_grad(constant_entropy_bonus)(jnp.array(entropy))
        np.testing.assert_allclose((value, slope), (1.0, 1.0 / entropy), rtol=1e-6)
    value, slope = jax.value_and_grad(constant_entropy_bonus)(jnp.array(0.0))
    assert value == 0.0
    assert np.isfinite(slope)


def test_policy_gradient_loss() -> None:
    # -(2 log 0.5 + 3 log 0.25) / 2 = (2 + 6) log 2 / 2 = 4 log 2
    log_prob = jnp.log(jnp.array([0.5, 0.25, 0.1]))
    advantage, mask = jnp.array([2.0, 3.0, 50.0]), jnp.array([1.0, 1.0, 0.0])
    loss, gradient = jax.value_and_grad(policy_gradient_loss)(log_prob, advantage, mask)
    np.testing.assert_allclose(loss, 4 * np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(gradient, [-1.0, -1.5, 0.0])


def test_importance_weighted_objective() -> None:
    # Ratios 0.5/0.25 = 2 and 0.3/0.6 = 1/2: (2 3 + 1/2 4) / 2 = 4
    new, old = jnp.log(jnp.array([0.5, 0.3, 0.9])), jnp.log(jnp.array([0.25, 0.6, 0.1]))
    advantage, mask = jnp.array([3.0, 4.0, 1e3]), jnp.array([1.0, 1.0, 0.0])
    value, (gradient, behaviour_gradient) = jax.value_and_grad(
        importance_weighted_objective, argnums=(0, 1)
    )(new, old, advantage, mask)
    np.testing.assert_allclose(value, 4.0, rtol=1e-6)
    np.testing.assert_allclose(gradient, [3.0, 1.0, 0.0], rtol=1e-6)  # A ratio / 2
    np.testing.assert_array_equal(behaviour_gradient, np.zeros(3))


def test_importance_weighted_objective_starts_at_the_policy_gradient() -> None:
    log_prob = jnp.log(jnp.array([0.2, 0.7]))
    advantage, mask = jnp.array([1.5, -2.0]), jnp.ones((2,))
    outer = jax.grad(importance_weighted_objective)(log_prob, log_prob, advantage, mask)
    inner = jax.grad(policy_gradient_loss)(log_prob, advantage, mask)
    np.testing.assert_allclose(outer, -inner, rtol=1e-6)


def test_counterfactual_advantage() -> None:
    # Q = 1, 4, 6 under pi = 1/2, 1/4, 1/4: mean 3, so A = -2, 1, 3.
    q_values, probs = jnp.array([1.0, 4.0, 6.0]), jnp.array([0.5, 0.25, 0.25])
    advantages = [counterfactual_advantage(q_values, probs, jnp.int32(a)) for a in range(3)]
    np.testing.assert_allclose(advantages, [-2.0, 1.0, 3.0], rtol=1e-6)


def test_counterfactual_advantages_sum_to_zero_under_the_policy() -> None:
    q_key, pi_key = jax.random.split(jax.random.key(0))
    q_values = 10.0 * jax.random.normal(q_key, (5, 2, 4))
    probs = jax.nn.softmax(jax.random.normal(pi_key, (5, 2, 4)))
    advantages = jnp.stack(
        [
            counterfactual_advantage(q_values, probs, jnp.full((5, 2), a, jnp.int32))
            for a in range(4)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(jnp.sum(probs * advantages, axis=-1), 0.0, atol=1e-5)


def test_the_clipped_surrogate() -> None:
    # Ratios 2, 2, 1/2, 1/2 and 1.1 with eps 0.2: gains are cut off at 1.2 A, losses are not, and
    # the other way round.
    log_prob = jnp.log(jnp.array([2.0, 2.0, 0.5, 0.5, 1.1, 9.0]))
    advantage = jnp.array([1.0, -1.0, 1.0, -1.0, 2.0, 7.0])
    mask = jnp.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])

    def loss(log_prob: jax.Array) -> jax.Array:
        return clipped_surrogate_loss(log_prob, jnp.zeros(6), advantage, 0.2, mask)

    terms = [1.2, -2.0, 0.5, -0.8, 2.2]
    np.testing.assert_allclose(loss(log_prob), -sum(terms) / 5, rtol=1e-6)
    # Where it is cut off nothing is learned.
    slopes = np.array([0.0, -2.0, 0.5, 0.0, 2.2, 0.0]) / -5
    np.testing.assert_allclose(jax.grad(loss)(log_prob), slopes, rtol=1e-6)


def test_the_clipped_value_loss() -> None:
    # Old value 0, clip 0.2, target 1. At 0.5 the clipped value, 0.2, is farther away; at -1 the value itself.
    value, zero, one = jnp.array([0.5, -1.0, 3.0]), jnp.zeros(3), jnp.ones(3)
    mask = jnp.array([1.0, 1.0, 0.0])
    loss = clipped_value_loss(value, zero, one, 0.2, mask)
    np.testing.assert_allclose(loss, 0.5 * (0.8**2 + 2.0**2) / 2, rtol=1e-6)


def test_hubers_value_loss() -> None:
    # Errors 1, -3 and 10 with delta 2, no limit on changes: 1/2, 2 (3 - 1) = 4, 2 (10 - 1) = 18.
    value, target = jnp.array([1.0, -3.0, 10.0, 1e4]), jnp.zeros(4)
    mask = jnp.array([1.0, 1.0, 1.0, 0.0])

    def loss(value: jax.Array) -> jax.Array:
        return clipped_value_loss(value, jnp.zeros(4), target, jnp.inf, mask, 2.0)

    np.testing.assert_allclose(loss(value), 22.5 / 3, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(value), [1 / 3, -2 / 3, 2 / 3, 0.0], rtol=1e-6)


def test_hubers_value_loss_clips_the_value_first() -> None:
    # Old value 0, clip 0.5, target 4, delta 2. At 3 the clipped value is 3.5 away: 2 (3.5 - 1) = 5, and flat; at -3
    # the value itself is 7 away: 2 (7 - 1) = 12.
    def loss(value: jax.Array) -> jax.Array:
        return clipped_value_loss(value, jnp.zeros(2), jnp.full(2, 4.0), 0.5, jnp.ones(2), 2.0)

    value = jnp.array([3.0, -3.0])
    np.testing.assert_allclose(loss(value), (5.0 + 12.0) / 2, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(value), [0.0, -1.0], rtol=1e-6)


def test_the_approximate_divergence() -> None:
    # r = 2 and 1/2: (1 - log 2 + (-1/2 + log 2)) / 2 = 1/4.
    log_ratio, mask = jnp.log(jnp.array([2.0, 0.5, 9.0])), jnp.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(approximate_kl(log_ratio, mask), 0.25, rtol=1e-6)


def test_the_approximate_divergence_is_right_in_the_mean() -> None:
    # Weighted with the old policy it is the divergence itself, as the ratios then have mean 1.
    old, new = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.2, 0.3, 0.5])
    terms = [approximate_kl(jnp.log(new / old)[i], jnp.ones(())) for i in range(3)]
    np.testing.assert_allclose(
        np.dot(old, np.array(terms)), np.sum(old * np.log(old / new)), rtol=1e-5
    )


def test_explained_variance() -> None:
    # Targets 1, 3, 5 have variance 8/3; the errors 0, 1, 2 have 2/3.
    target, mask = jnp.array([1.0, 3.0, 5.0, 50.0]), jnp.array([1.0, 1.0, 1.0, 0.0])
    value = jnp.array([1.0, 2.0, 3.0, -7.0])
    np.testing.assert_allclose(explained_variance(value, target, mask), 0.75, rtol=1e-6)
    # A constant error costs nothing, a constant value explains nothing, the opposite is worse than that.
    np.testing.assert_allclose(explained_variance(target + 4.0, target, mask), 1.0, rtol=1e-6)
    np.testing.assert_allclose(explained_variance(jnp.zeros(4), target, mask), 0.0, atol=1e-6)
    np.testing.assert_allclose(explained_variance(-target, target, mask), -3.0, rtol=1e-6)
