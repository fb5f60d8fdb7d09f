"""Policies against probabilities and densities worked out by hand, and against distrax."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.distributions import (
    ContinuousPolicy,
    floored_categorical,
    greedy_action,
    gumbel_softmax,
)

# exp: 1, 2, 1, 4. Action 1 is not available.
LOGITS = jnp.log(jnp.array([1.0, 2.0, 1.0, 4.0]))
MASK = jnp.array([True, False, True, True])


@pytest.mark.parametrize(
    ("epsilon", "before", "expected"),
    [
        # Softmax over all: 1/8, 1/4, 1/8, 1/2; without action 1: 1, 0, 1, 4 sixths.
        (0.0, False, [1 / 6, 0, 1 / 6, 4 / 6]),
        # Half of it plus 1/8 each: 3/16, 4/16, 3/16, 6/16; without action 1: 3, 0, 3, 6 twelfths.
        (0.5, False, [1 / 4, 0, 1 / 4, 1 / 2]),
        # Softmax over the available ones: 1/6, 0, 1/6, 4/6; half of it plus 1/6 each.
        (0.0, True, [1 / 6, 0, 1 / 6, 4 / 6]),
        (0.5, True, [1 / 4, 0, 1 / 4, 1 / 2]),
        (1.0, True, [1 / 3, 0, 1 / 3, 1 / 3]),
    ],
)
def test_probabilities(epsilon: float, before: bool, expected: list[float]) -> None:
    probs = floored_categorical(LOGITS, MASK, epsilon, before).probs
    np.testing.assert_allclose(probs, expected, rtol=1e-6)


def test_masking_before_and_after_differ_where_the_unavailable_action_is_likely() -> None:
    # Softmax over all: 1, 14, 3 of 18; over the available ones: 1, 3 of 4.
    logits, mask = jnp.log(jnp.array([1.0, 14.0, 3.0])), jnp.array([True, False, True])
    after = np.array([0.9 / 18 + 0.1 / 3, 0, 0.9 * 3 / 18 + 0.1 / 3])
    before = np.array([0.9 / 4 + 0.1 / 2, 0, 0.9 * 3 / 4 + 0.1 / 2])
    np.testing.assert_allclose(
        floored_categorical(logits, mask, 0.1, False).probs, after / after.sum(), rtol=1e-6
    )
    np.testing.assert_allclose(
        floored_categorical(logits, mask, 0.1, True).probs, before, rtol=1e-6
    )


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_an_unavailable_action_is_never_sampled(before: bool, epsilon: float) -> None:
    # The unavailable action is by far the likeliest.
    logits = jnp.array([0.0, 200.0, -200.0, 1.0])
    sample = floored_categorical(logits, MASK, epsilon, before).sample(
        seed=jax.random.key(0), sample_shape=(2000,)
    )
    counts = np.bincount(sample, minlength=4)
    assert counts[1] == 0
    assert counts.sum() == 2000
    if epsilon == 1.0:
        assert (counts[[0, 2, 3]] > 500).all()


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 0.01])
def test_extreme_logits_have_finite_gradients(before: bool, epsilon: float) -> None:
    def log_prob(logits: jax.Array, action: int) -> jax.Array:
        return jnp.log(floored_categorical(logits, MASK, epsilon, before).probs[action])

    for logits in ([1e4, -1e4, -1e4, -1e4], [-1e4, 1e4, -1e4, -1e4], [0.0, -1e30, 1e30, 0.0]):
        for action in (0, 2, 3):
            value, gradient = jax.value_and_grad(log_prob)(jnp.array(logits), action)
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("before", [False, True])
def test_a_row_without_any_available_action_is_no_trap(before: bool) -> None:
    # Padding may hold such rows, and NaN times a mask of 0 is NaN.
    mask = jnp.zeros((3,), bool)

    def first(logits: jax.Array) -> jax.Array:
        return floored_categorical(logits, mask, 0.0, before).probs[0]

    value, gradient = jax.value_and_grad(first)(jnp.zeros((3,)))
    np.testing.assert_allclose(value, 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(gradient, [2 / 9, -1 / 9, -1 / 9], rtol=1e-5)


def test_greedy_action() -> None:
    scores = jnp.array([[1.0, 9.0, 3.0], [-5.0, -2.0, -9.0]])
    mask = jnp.array([[True, False, True], [True, False, True]])
    action = greedy_action(scores, mask)
    np.testing.assert_array_equal(action, [2, 0])
    assert action.dtype == jnp.int32


def test_the_largest_component_of_a_relaxed_draw_follows_the_law() -> None:
    keys = jax.random.split(jax.random.key(0), 20_000)
    draws = jax.vmap(lambda k: gumbel_softmax(k, LOGITS, MASK, 0.7))(keys)
    np.testing.assert_allclose(draws.sum(-1), 1.0, rtol=1e-5)
    assert float(draws[:, 1].max()) == 0.0
    frequency = np.bincount(np.argmax(draws, -1), minlength=4) / len(keys)
    np.testing.assert_allclose(frequency, [1 / 6, 0, 1 / 6, 4 / 6], atol=0.012)


def test_straight_through_plays_one_action_with_the_relaxed_draws_gradient() -> None:
    key, weight = jax.random.key(3), jnp.array([1.0, 5.0, -2.0, 3.0])

    def score(logits: jax.Array, straight: bool) -> jax.Array:
        return jnp.sum(weight * gumbel_softmax(key, logits, MASK, 0.7, straight))

    hard = gumbel_softmax(key, LOGITS, MASK, 0.7, True)
    soft = gumbel_softmax(key, LOGITS, MASK, 0.7)
    np.testing.assert_allclose(hard, jax.nn.one_hot(jnp.argmax(soft), 4), atol=1e-6)
    slopes = [jax.grad(score)(LOGITS, straight) for straight in (False, True)]
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-6)
    # By hand: d softmax_k / d logit_l = p_k (1[k = l] - p_l) / temperature.
    jacobian = (jnp.diag(soft) - jnp.outer(soft, soft)) / 0.7
    np.testing.assert_allclose(slopes[0], weight @ jacobian, rtol=1e-4, atol=1e-6)


# --- Continuous actions ---

MEAN, DEVIATION = jnp.array([0.5, -1.0, 3.0]), jnp.array([2.0, 0.5, 0.1])
ALL, FIRST = jnp.array([True, True, True]), jnp.array([True, False, False])


def continuous(squashed: bool, used: jax.Array = ALL) -> ContinuousPolicy:
    return ContinuousPolicy(MEAN, jnp.log(DEVIATION), used, squashed)


@pytest.mark.parametrize(
    ("squashed", "expected"),
    [
        # -(1.5 - 0.5)^2 / (2 * 2^2) - log 2 - log(2 pi) / 2.
        (False, -0.125 - 0.693147 - 0.918939),
        # Minus log(1 - tanh(1.5)^2) = log 0.180707.
        (True, -0.125 - 0.693147 - 0.918939 + 1.710880),
    ],
)
def test_continuous_log_density(squashed: bool, expected: float) -> None:
    """Of the first number; the others have no effect."""
    log_prob = continuous(squashed, FIRST).log_prob(jnp.array([1.5, 7.0, -7.0]))
    assert float(log_prob) == pytest.approx(expected, abs=1e-5)


def test_continuous_densities_are_those_of_distrax() -> None:
    drawn = jnp.array([[0.2, -1.1, 2.9], [-3.0, 0.4, 3.2]])
    normal = distrax.MultivariateNormalDiag(MEAN, DEVIATION)
    np.testing.assert_allclose(continuous(False).log_prob(drawn), normal.log_prob(drawn), rtol=1e-5)
    np.testing.assert_allclose(continuous(False).entropy(), normal.entropy(), rtol=1e-5)
    squashed = distrax.Transformed(normal, distrax.Block(distrax.Tanh(), 1))
    np.testing.assert_allclose(
        continuous(True).log_prob(drawn), squashed.log_prob(jnp.tanh(drawn)), rtol=1e-3
    )


def test_entropy_of_squashed_actions_is_their_mean_surprise() -> None:
    """And at most that of uniform ones."""
    mean, deviation = jnp.array([[0.0], [0.5], [-2.0]]), jnp.array([[0.8], [0.2], [1.5]])
    policy = ContinuousPolicy(mean, jnp.log(deviation), jnp.ones((3, 1), bool), True)
    keys = jax.random.split(jax.random.key(0), 20_000)
    _, log_prob = jax.jit(jax.vmap(lambda key: policy.sample_and_log_prob(seed=key)))(keys)
    np.testing.assert_allclose(policy.entropy(), -log_prob.mean(0), atol=0.03)
    assert (policy.entropy() < np.log(2.0)).all()


@pytest.mark.parametrize("squashed", [False, True])
def test_continuous_actions_and_gradients_have_bounds(squashed: bool) -> None:
    far = jnp.array([400.0, -400.0, 0.3])
    action = continuous(squashed).action(far)
    np.testing.assert_allclose(action, [1.0, -1.0, np.tanh(0.3) if squashed else 0.3], rtol=1e-6)
    slope = jax.grad(lambda x: continuous(squashed).log_prob(x))(far)
    assert np.isfinite(slope).all()
