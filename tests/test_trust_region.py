"""A step inside of a trust region: its Fisher matrix written out, its direction solved for, its line search by hand."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from marl_jax.distributions import ContinuousPolicy, masked_categorical
from marl_jax.trust_region import Taken, TrustRegion, fisher_product, trust_region_step
from tests.methods.learners import fast_jit

SIGHTS, FEATURES, ACTIONS = 6, 2, 3
REGION = TrustRegion(damping=0.0)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


SIGHT = drawn(0, SIGHTS, FEATURES)
LEGAL = np.ones((SIGHTS, ACTIONS), bool)
LEGAL[0, 1] = False
WEIGHTS = {"kernel": drawn(1, FEATURES, ACTIONS)}
DEVIATIONS = {**WEIGHTS, "log_deviation": 0.3 * drawn(2, ACTIONS)}


def policy(params: Any) -> Any:
    """Linear in what is seen."""
    outputs = SIGHT @ params["kernel"]
    if "log_deviation" not in params:
        return masked_categorical(outputs, LEGAL)
    deviation = jnp.broadcast_to(params["log_deviation"], outputs.shape)
    return ContinuousPolicy(outputs, deviation, LEGAL, squashed=False)


def divergence_from(before: Any) -> Callable[[Any], jax.Array]:
    return lambda params: jnp.mean(policy(before).kl_divergence(policy(params)))


def fisher_matrix(params: Any) -> np.ndarray:
    """The mean of the products of the log-probabilities' slopes, by their formulas."""
    if "log_deviation" not in params:
        # Slope in W_fa: x_f (1[a was done] - pi(a)).
        probs = np.asarray(policy(params).probs, np.float64)
        seen = np.einsum("ba,ac->bac", probs, np.eye(ACTIONS)) - np.einsum(
            "ba,bc->bac", probs, probs
        )
        return np.einsum("bf,bg,bac->fagc", SIGHT, SIGHT, seen).reshape(6, 6) / SIGHTS
    # In the means 1 / deviation^2, in the logarithms of the deviations 2; where an action's number is used.
    precision = LEGAL * np.exp(-2.0 * params["log_deviation"])
    means = np.einsum("bf,bg,ba,ac->fagc", SIGHT, SIGHT, precision, np.eye(ACTIONS)).reshape(6, 6)
    matrix = np.zeros((9, 9))
    matrix[:6, :6] = means / SIGHTS
    matrix[6:, 6:] = 2.0 * np.diag(LEGAL.mean(0))
    return matrix


@pytest.mark.parametrize("params", [WEIGHTS, DEVIATIONS], ids=["categorical", "normal"])
def test_products_with_the_fisher_matrix_are_those_of_the_matrix(params: Any) -> None:
    flat, unflat = ravel_pytree(params)

    def product(v: jax.Array) -> jax.Array:
        return ravel_pytree(fisher_product(divergence_from(params), params)(unflat(v)))[0]

    matrix = fast_jit(jax.vmap(product))(jnp.eye(len(flat)))
    np.testing.assert_allclose(matrix, fisher_matrix(params), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_it_goes_where_the_natural_gradient_points_and_as_far_as_the_bound(damping: float) -> None:
    slope = {"kernel": drawn(3, FEATURES, ACTIONS), "log_deviation": drawn(4, ACTIONS)}
    region = TrustRegion(max_kl=1e-5, damping=damping, cg_steps=30)
    divergence = divergence_from(DEVIATIONS)

    def gain(params: Any) -> jax.Array:
        return sum(map(jnp.vdot, jax.tree.leaves(slope), jax.tree.leaves(params)))

    taken = fast_jit(lambda: trust_region_step(gain, divergence, DEVIATIONS, region))()
    step = jax.tree.map(lambda new, old: (new - old) / taken.share, taken.params, DEVIATIONS)
    step, gradient = (np.asarray(ravel_pytree(x)[0]) for x in (step, slope))
    matrix = fisher_matrix(DEVIATIONS) + damping * np.eye(9)
    direction = jnp.linalg.solve(jnp.asarray(matrix, jnp.float32), gradient)
    length = np.sqrt(2e-5 / (gradient @ direction))
    np.testing.assert_allclose(step, length * direction, rtol=0.01, atol=2e-6)
    np.testing.assert_allclose(taken.grad_norm, np.linalg.norm(gradient), rtol=1e-5)
    # The damping counts in the bound, too.
    whole = step @ fisher_matrix(DEVIATIONS) @ step / 2.0
    np.testing.assert_allclose(whole * taken.share**2, taken.divergence, rtol=0.05)
    assert whole > 0.99e-5 if damping == 0.0 else 0.1e-5 < whole < 0.9e-5


def along_a_line(gain: Any, divergence: Any, **options: Any) -> Taken:
    """From 0, where the Fisher matrix is 1; the longest step is 1."""
    region = dataclasses.replace(REGION, max_kl=0.5, **options)
    return fast_jit(lambda: trust_region_step(gain, divergence, jnp.zeros(()), region))()


@pytest.mark.parametrize(
    ("gain", "divergence", "options", "share"),
    [
        (lambda x: x, lambda x: x**2 / 2, {}, 1.0),
        # x - x^2 must be half of x, or anything.
        (lambda x: x - x**2, lambda x: x**2 / 2, {}, 0.8**4),
        (lambda x: x - x**2, lambda x: x**2 / 2, {"accept_ratio": 0.0}, 0.8),
        # 0.64: 0.20 + 0.17; 0.8: 0.32 + 0.41.
        (lambda x: x, lambda x: x**2 / 2 + x**4, {}, 0.8**2),
        (lambda x: x, lambda x: x**2 / 2 + x**4, {"backtracks": 2}, 0.0),
        (lambda x: 0.0 * x, lambda x: x**2 / 2, {}, 0.0),
    ],
)
def test_the_first_length_that_is_good_is_taken(
    gain: Any, divergence: Any, options: dict[str, Any], share: float
) -> None:
    taken = along_a_line(gain, divergence, **options)
    np.testing.assert_allclose(taken.share, share, rtol=1e-5)
    np.testing.assert_allclose(taken.params, share, rtol=1e-5)
    np.testing.assert_allclose(taken.gain, gain(share), rtol=1e-5)
    np.testing.assert_allclose(taken.divergence, divergence(share), rtol=1e-5)
