"""Optimisers against PyTorch's formulas, worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marl_jax.optimizers import clip_by_global_norm, make_optimizer


def run(optimizer: optax.GradientTransformation, grads: list[list[float]]) -> np.ndarray:
    """The updates for a sequence of gradients, one row each."""
    params = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    state, updates = optimizer.init(params), []
    for a, b in grads:
        update, state = optimizer.update({"a": jnp.float32(a), "b": jnp.float32(b)}, state, params)
        updates.append([float(update["a"]), float(update["b"])])
    return np.array(updates)


def test_rmsprop_is_pytorchs() -> None:
    # v <- 0.99 v + 0.01 g^2;  update = -0.1 g / (sqrt(v) + 1e-5)
    # g =  2:   v = 0.04                    sqrt 0.2           update -0.1 2 / 0.20001
    # g = -1:   v = 0.0396 + 0.01           sqrt 0.2227106     update  0.1 / 0.2227206
    # g =  0.5: v = 0.049104 + 0.0025       sqrt 0.2271651     update -0.05 / 0.2271751
    # The second parameter's gradient is small enough for eps to show: v = 1e-12, sqrt 1e-6.
    expected_a = [-0.2 / 0.20001, 0.1 / 0.2227206, -0.05 / 0.2271751]
    updates = run(make_optimizer("rmsprop", 0.1, 0.0), [[2, 1e-5], [-1, 0], [0.5, 0]])
    np.testing.assert_allclose(updates[:, 0], expected_a, rtol=1e-6)
    np.testing.assert_allclose(updates[:, 1], [-0.1 * 1e-5 / 1.1e-5, 0, 0], rtol=1e-5)


def test_adam() -> None:
    # First step: m / (1 - b1) = g, v / (1 - b2) = g^2, so the update is -lr g / (|g| + 1e-8).
    updates = run(make_optimizer("adam", 0.1, 0.0), [[2, -1e-8]])
    np.testing.assert_allclose(updates, [[-0.1, 0.05]], rtol=1e-5)


@pytest.mark.parametrize(
    ("limit", "expected"),
    # The norm of (3, 4) is 5, over the whole tree.
    [(0.0, [-0.3, -0.4]), (10.0, [-0.3, -0.4]), (1.0, [-0.06, -0.08])],
)
def test_clipping(limit: float, expected: list[float]) -> None:
    updates = run(make_optimizer("sgd", 0.1, limit), [[3, 4]])
    np.testing.assert_allclose(updates, [expected], rtol=1e-6)


def test_clipping_comes_before_rmsprop() -> None:
    # Clipped to (0.6, 0.8): v = 0.0036, 0.0064; had the update been clipped, its norm would be 0.1.
    updates = run(make_optimizer("rmsprop", 0.1, 1.0), [[3, 4]])
    np.testing.assert_allclose(updates, [[-0.06 / 0.06001, -0.08 / 0.08001]], rtol=1e-5)


def test_clipping_has_a_slope_everywhere() -> None:
    """(3, 4) becomes (0.6, 0.8); 0 stays 0, and what changes with x around it changes as much."""
    clip = clip_by_global_norm(1.0)

    def clipped(x: jax.Array) -> jax.Array:
        return clip.update(x, optax.EmptyState())[0]

    np.testing.assert_allclose(clipped(jnp.array([3.0, 4.0])), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(clipped(jnp.array([0.3, 0.4])), [0.3, 0.4], rtol=1e-6)
    np.testing.assert_allclose(clipped(jnp.zeros(2)), 0.0)
    np.testing.assert_allclose(jax.jacobian(clipped)(jnp.zeros(2)), np.eye(2), rtol=1e-6)
