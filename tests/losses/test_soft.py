"""Soft actor-critic's losses against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from marl_jax.losses import soft_value, temperature_loss

LOG_PROB = jnp.array([-2.0, 0.5])


def test_soft_value() -> None:
    # 3 - 0.2 * -2 and 1 - 0.2 * 0.5.
    value = soft_value(jnp.array([3.0, 1.0]), LOG_PROB, 0.2)
    np.testing.assert_allclose(value, [3.4, 0.9], rtol=1e-6)


def test_temperature_rises_where_policies_are_less_random_than_asked_for() -> None:
    """Alpha = 2, H = 1: -2 (-2 + 1) and -2 (0.5 + 1); the slope in log alpha is the loss itself."""
    log_temperature = jnp.log(2.0)
    loss = temperature_loss(log_temperature, LOG_PROB, 1.0)
    np.testing.assert_allclose(loss, [2.0, -3.0], rtol=1e-6)
    slope = jax.jacobian(temperature_loss)(log_temperature, LOG_PROB, 1.0)
    np.testing.assert_allclose(slope, [2.0, -3.0], rtol=1e-6)


def test_what_was_drawn_is_constant_to_the_temperature() -> None:
    slope = jax.grad(lambda x: temperature_loss(jnp.zeros(()), x, 1.0).sum())(LOG_PROB)
    np.testing.assert_array_equal(slope, 0.0)
