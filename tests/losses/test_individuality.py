"""EOI's classifier losses against numbers worked out by hand, and whom their gradients reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.losses import (
    conditional_entropy,
    earlier_steps,
    identity_cross_entropy,
    positive_distance,
)

# softmax is (1/2, 1/2), (1/4, 3/4).
EVEN, ODD = [0.0, 0.0], [0.0, float(np.log(3.0))]


def test_cross_entropy_with_the_agents_own_number() -> None:
    logits = jnp.array([EVEN, ODD, ODD])
    found = identity_cross_entropy(logits, jnp.array([1, 0, 1]))
    np.testing.assert_allclose(found, -np.log([0.5, 0.25, 0.75]), rtol=1e-6)


def test_positive_distance_is_the_anchors_cross_entropy_with_the_positive_as_label() -> None:
    found = positive_distance(jnp.array([EVEN, ODD]), jnp.array([ODD, EVEN]))
    expected = [-(0.25 * np.log(0.5) + 0.75 * np.log(0.5)), -0.5 * (np.log(0.25) + np.log(0.75))]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_only_the_anchor_learns_from_the_positive_distance() -> None:
    anchor, positive = jnp.array(EVEN), jnp.array(ODD)
    grads = jax.grad(positive_distance, argnums=(0, 1))(anchor, positive)
    # d/dz of a cross-entropy: p(. | anchor) - label.
    np.testing.assert_allclose(grads[0], [0.5 - 0.25, 0.5 - 0.75], rtol=1e-6)
    np.testing.assert_array_equal(grads[1], 0.0)


def test_conditional_entropy() -> None:
    found = conditional_entropy(jnp.array([EVEN, ODD]))
    expected = [np.log(2.0), -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_entropys_gradient_passes_both_factors() -> None:
    found = jax.grad(conditional_entropy)(jnp.array(ODD))
    # dH/dz_j = -p_j (log p_j + H); a constant label would give exactly zero.
    p = np.array([0.25, 0.75])
    entropy = -np.sum(p * np.log(p))
    np.testing.assert_allclose(found, -p * (np.log(p) + entropy), rtol=1e-5)
    assert np.abs(found).min() > 0.1


def test_an_entropy_of_certainty_is_zero_and_finite() -> None:
    logits = jnp.array([1e4, -1e4])
    np.testing.assert_array_equal(conditional_entropy(logits), 0.0)
    assert np.isfinite(jax.grad(conditional_entropy)(logits)).all()


@pytest.mark.parametrize("window", [1, 3, 10])
def test_positives_are_the_steps_just_before_all_equally_likely(window: int) -> None:
    steps, exists = earlier_steps(jax.random.uniform(jax.random.key(0), (6, 6000)), window)
    np.testing.assert_array_equal(exists[:, 0], [0, 1, 1, 1, 1, 1])
    for t in range(1, 6):
        allowed = np.arange(max(0, t - window), t)
        found, count = np.unique(np.asarray(steps[t]), return_counts=True)
        np.testing.assert_array_equal(found, allowed)
        np.testing.assert_allclose(count / 6000, 1 / len(allowed), atol=0.03)
