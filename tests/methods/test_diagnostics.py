"""Explained variance and spread, by numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np

from marl_jax.losses import explained_variance
from marl_jax.methods.diagnostics import critic_fit, spread

MASK = jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])
RETURNS = jnp.array([0.0, 2.0, 4.0, 6.0, 1e6])  # mean 3, variance 5 where the mask is 1


def test_the_spread_is_the_standard_deviation_of_what_counts() -> None:
    np.testing.assert_allclose(spread(RETURNS, MASK), np.sqrt(5.0), rtol=1e-6)


def test_a_critic_explains_what_it_leaves_of_the_variance() -> None:
    # Errors 0, 1, 1, 2: mean 1, variance 1/2, which is a tenth of 5. What is off by a constant explains as much.
    value = RETURNS - jnp.array([0.0, 1.0, 1.0, 2.0, 5.0])
    np.testing.assert_allclose(explained_variance(value, RETURNS, MASK), 0.9, rtol=1e-6)
    np.testing.assert_allclose(explained_variance(value + 7.0, RETURNS, MASK), 0.9, rtol=1e-6)
    np.testing.assert_allclose(explained_variance(0 * value, RETURNS, MASK), 0.0, atol=1e-6)
    # Errors twice the returns: four times their variance.
    np.testing.assert_allclose(explained_variance(-RETURNS, RETURNS, MASK), -3.0, rtol=1e-6)
    # Nothing to explain.
    np.testing.assert_array_equal(explained_variance(value, jnp.ones(5), MASK), 0.0)


def test_the_fit_tells_both_means() -> None:
    fit = critic_fit(RETURNS + 2.0, RETURNS, MASK)
    np.testing.assert_allclose(fit["explained_variance"], 1.0, rtol=1e-6)
    np.testing.assert_allclose(fit["value_mean"], 5.0, rtol=1e-6)
    np.testing.assert_allclose(fit["discounted_return_mean"], 3.0, rtol=1e-6)
