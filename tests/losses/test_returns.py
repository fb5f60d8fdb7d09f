"""Returns against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from marl_jax.losses import lambda_returns


def test_lambda_returns_with_a_truncation_at_the_end() -> None:
    # gamma = 1/2, lambda = 3/4, next values 4, 8, 16.
    # G_2 = 3 + 1/2 16                         = 11
    # G_1 = 2 + 1/2 (1/4 8 + 3/4 11)           = 2 + 1/2 10.25    = 7.125
    # G_0 = 1 + 1/2 (1/4 4 + 3/4 7.125)        = 1 + 1/2 6.34375  = 4.171875
    returns = lambda_returns(
        jnp.array([1.0, 2.0, 3.0]), jnp.full((3,), 0.5), jnp.array([4.0, 8.0, 16.0]), 0.75
    )
    np.testing.assert_allclose(returns, [4.171875, 7.125, 11.0], rtol=1e-6)


def test_lambda_returns_with_a_termination_in_the_middle() -> None:
    # The discount after step 1 is 0: G_1 = 2, whatever is stored after it.
    # G_0 = 1 + 1/2 (1/4 4 + 3/4 2) = 2.25
    returns = lambda_returns(
        jnp.array([1.0, 2.0, 1e6]),
        jnp.array([0.5, 0.0, 0.5]),
        jnp.array([4.0, 1e6, -1e6]),
        0.75,
    )
    np.testing.assert_allclose(returns[:2], [2.25, 2.0], rtol=1e-6)


def test_lambda_0_and_1_are_one_step_and_monte_carlo() -> None:
    reward, discount = jnp.array([1.0, 2.0, 3.0]), jnp.full((3,), 0.5)
    value = jnp.array([4.0, 8.0, 16.0])
    # One-step: r + V' / 2. Monte Carlo: 3 + 8 = 11, 2 + 5.5 = 7.5, 1 + 3.75 = 4.75.
    np.testing.assert_allclose(lambda_returns(reward, discount, value, 0), [3, 6, 11])
    np.testing.assert_allclose(lambda_returns(reward, discount, value, 1), [4.75, 7.5, 11])


def test_batch_axes_are_independent() -> None:
    key = jax.random.key(0)
    reward, discount, value = jax.random.uniform(key, (3, 5, 2, 3))
    together = lambda_returns(reward, discount, value, 0.6)
    assert together.shape == (5, 2, 3)
    for b in range(2):
        for n in range(3):
            alone = lambda_returns(reward[:, b, n], discount[:, b, n], value[:, b, n], 0.6)
            np.testing.assert_allclose(together[:, b, n], alone, rtol=1e-6)


def test_a_reward_reaches_the_returns_of_earlier_steps() -> None:
    # dG_0 / dr_2 = (gamma lambda)^2 = (1/2 3/4)^2; LIIR's meta-gradient lives on this chain.
    gradient = jax.grad(lambda r: lambda_returns(r, jnp.full((3,), 0.5), jnp.zeros((3,)), 0.75)[0])(
        jnp.zeros((3,))
    )
    np.testing.assert_allclose(gradient, [1.0, 0.375, 0.140625])
