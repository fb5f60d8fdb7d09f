"""ROMA's losses on pairs of agents, against numbers worked out by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.distributions import gaussian
from marl_jax.losses import (
    partners,
    scale_to_unit,
    softplus_of_clamped,
    specialisation_loss,
)

LOG_2, LOG_2PI = np.log(2.0), np.log(2.0 * np.pi)


def test_the_gaussian_terms() -> None:
    """One number with mean 0 and variance 1, one with mean 3 and variance 4."""
    p = gaussian(jnp.array([0.0, 3.0]), jnp.array([1.0, 4.0]))
    q = gaussian(jnp.array([1.0, 3.0]), jnp.array([2.0, 1.0]))
    # (ln 2 + (1 + 1)/2 - 1)/2, and (-ln 4 + 4 - 1)/2.
    np.testing.assert_allclose(p.kl_divergence(q), [LOG_2 / 2, 1.5 - LOG_2], rtol=1e-6)
    half = 0.5 * (1.0 + LOG_2PI)
    np.testing.assert_allclose(p.entropy(), [half, half + LOG_2], rtol=1e-6)
    density = p.log_prob(jnp.array([2.0, 1.0]))
    np.testing.assert_allclose(density, [-2.0 - LOG_2PI / 2, -0.5 - LOG_2 - LOG_2PI / 2], rtol=1e-6)


def test_which_pairs_are_counted() -> None:
    x = jnp.arange(3.0)[:, None]
    others = partners(x, self_pairs=False)[..., 0]
    # Agent 0 meets 2 and 1, agent 1 meets 0 and 2, agent 2 meets 1 and 0.
    np.testing.assert_array_equal(others, [[2, 1], [0, 2], [1, 0]])
    everyone = partners(x, self_pairs=True)[..., 0]
    np.testing.assert_array_equal(everyone, [[2, 1, 0], [0, 2, 1], [1, 0, 2]])
    assert partners(x[:1], self_pairs=False).shape == (1, 0, 1)


def test_scaling_is_of_each_row_on_its_own() -> None:
    x = jnp.array([[[1.0, 2.0], [3.0, 5.0]], [[10.0, 30.0], [20.0, 10.0]]])
    expected = [[[0.0, 0.25], [0.5, 1.0]], [[0.0, 1.0], [0.5, 0.0]]]
    np.testing.assert_allclose(scale_to_unit(x), expected)


def test_the_slope_passes_minimum_and_maximum() -> None:
    """The middle one of (1, 2, 5) is 1/4; d/dmin = (x - max)/(max - min)^2 = -3/16, d/dmax = -1/16."""
    slope = jax.grad(lambda x: scale_to_unit(x)[0, 1])(jnp.array([[1.0, 2.0, 5.0]]))
    np.testing.assert_allclose(slope, [[-3 / 16, 1 / 4, -1 / 16]])


def test_equal_numbers_have_a_finite_slope() -> None:
    for width in (0.0, 1e-7):
        x = jnp.array([[1.0, 1.0 + width]])
        assert np.isfinite(scale_to_unit(x)).all()
        slope = jax.grad(
            lambda x: specialisation_loss(jnp.zeros((1, 2)), scale_to_unit(x), "frobenius")
        )(x)
        assert np.abs(slope).max() <= 2e3


@pytest.mark.parametrize(("norm", "size"), [("frobenius", 1.3), ("l1", 1.7)])
def test_specialisation_loss(norm: str, size: float) -> None:
    """D = (0.5, 1.2): norm 1.3 or 1.7. I + D = (0.75, 1.4), of which the second counts as 1."""
    information = jnp.array([[0.25, 0.2]])
    loss = specialisation_loss(information, jnp.array([[0.5, 1.2]]), norm)  # type: ignore[arg-type]
    np.testing.assert_allclose(loss, size - 1.75, rtol=1e-6)


def test_a_met_constraint_teaches_nothing() -> None:
    """Above U = 1 only the norm is left."""
    d = jnp.array([[0.6, 0.8]])
    slopes = jax.grad(specialisation_loss, (0, 1))(jnp.array([[0.9, 0.1]]), d, "frobenius")
    np.testing.assert_allclose(slopes[0], [[0.0, -1.0]])
    np.testing.assert_allclose(slopes[1], [[0.6, 0.8 - 1.0]], rtol=1e-6)


def test_softplus_halves_the_slope_and_never_overflows() -> None:
    value, slope = jax.value_and_grad(softplus_of_clamped)(0.0)
    np.testing.assert_allclose([value, slope], [LOG_2, 0.5], rtol=1e-6)
    np.testing.assert_allclose(softplus_of_clamped(jnp.array([89.0, 1e30])), [89.0, 2000.0])


@pytest.mark.parametrize("self_pairs", [False, True])
def test_pairs_and_shifts_cover_each_ordered_pair_once(self_pairs: bool) -> None:
    index = jnp.arange(4.0)[:, None]
    other = np.asarray(partners(index, self_pairs))[..., 0]
    found = sorted((i, int(j)) for i, row in enumerate(other) for j in row)
    expected = [(i, j) for i, j in itertools.product(range(4), repeat=2) if self_pairs or i != j]
    assert found == expected
