"""ValueNorm against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from marl_jax.value_normalisation import ValueNorm


def test_nothing_seen_yet_means_0_and_deviation_a_tenth() -> None:
    norm = ValueNorm.start(2)
    np.testing.assert_allclose(norm.normalise(jnp.array([1.0, -2.0])), [10.0, -20.0], rtol=1e-6)
    np.testing.assert_allclose(norm.denormalise(jnp.array([3.0, 0.0])), [0.3, 0.0], rtol=1e-6)


def test_two_updates_by_hand() -> None:
    # Returns 2, 4 and 6: mean 4, mean square 56/3, so variance 8/3 whatever the decay, as the mean is corrected.
    returns, mask = jnp.array([[2.0], [4.0], [6.0], [1e4]]), jnp.array([1.0, 1.0, 1.0, 0.0])
    once = ValueNorm.start(1).update(returns, mask, 0.9)
    np.testing.assert_allclose(
        [once.mean[0], once.mean_square[0], once.weight], [0.4, 5.6 / 3, 0.1], rtol=1e-5
    )
    np.testing.assert_allclose(once.location, [4.0], rtol=1e-5)
    np.testing.assert_allclose(once.scale, [np.sqrt(8 / 3)], rtol=1e-5)
    # Then -1 and 1: m = 0.9 0.4 = 0.36, q = 0.9 5.6/3 + 0.1 = 1.78, d = 0.19.
    mask = jnp.array([1.0, 1.0, 0.0, 0.0])
    twice = once.update(jnp.array([[-1.0], [1.0], [7.0], [8.0]]), mask, 0.9)
    mean = 0.36 / 0.19
    np.testing.assert_allclose(twice.location, [mean], rtol=1e-5)
    np.testing.assert_allclose(twice.scale, [np.sqrt(1.78 / 0.19 - mean**2)], rtol=1e-5)


def test_returns_are_never_taken_to_vary_less_than_the_floor() -> None:
    norm = ValueNorm.start(1).update(jnp.full((5, 1), 3.0), jnp.ones(5), 0.99)
    np.testing.assert_allclose(norm.scale, [0.1], rtol=1e-5)
    np.testing.assert_allclose(norm.normalise(jnp.array([3.5])), [5.0], rtol=1e-4)


def test_the_mean_of_nearly_everything_with_yu_et_als_decay() -> None:
    # 1 - 0.99999 rounded to 32 bits must not make the correction wrong.
    norm = ValueNorm.start(1)
    for value in (1.0, 3.0):
        norm = norm.update(jnp.full((1, 1), value), jnp.ones(1), 0.99999)
    np.testing.assert_allclose(norm.location, [2.0], rtol=1e-3)
    np.testing.assert_allclose(norm.scale, [1.0], rtol=1e-2)


def test_values_have_statistics_of_their_own_and_normalising_is_undone() -> None:
    returns = jnp.stack([jnp.arange(6.0), 100.0 * jnp.arange(6.0)], axis=-1).reshape(2, 3, 2)
    norm = jax.jit(lambda r: ValueNorm.start(2).update(r, jnp.ones((2, 3)), 0.5))(returns)
    np.testing.assert_allclose(norm.location, [2.5, 250.0], rtol=1e-5)
    normalised = norm.normalise(returns)
    np.testing.assert_allclose(normalised.reshape(-1, 2).mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(normalised.reshape(-1, 2).std(0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(norm.denormalise(normalised), returns, rtol=1e-5, atol=1e-4)
