"""The fast GRU against a scan over flax's cell: values, derivatives forwards and backwards."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.test_util import check_grads

from marl_jax.networks.recurrent import Gates, gru

STEPS, ROWS, UNITS = 6, 3, 4


def arguments(seed: int) -> tuple[jax.Array, Gates, jax.Array, Gates]:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return (
        draw(ROWS, UNITS),
        Gates(*(draw(UNITS, UNITS) for _ in range(3))),
        draw(UNITS),
        Gates(*(draw(STEPS, ROWS, UNITS) for _ in range(3))),
    )


def by_cell(memory: jax.Array, kernels: Gates, bias: jax.Array, inputs: Gates) -> jax.Array:
    """flax's cell, whose inputs are the products already: its input kernels pick their gate's."""
    cell, zero = nn.GRUCell(UNITS), jnp.zeros((UNITS,))
    picks = jnp.eye(3 * UNITS).reshape(3 * UNITS, 3, UNITS)
    params: Any = {
        name: {"kernel": picks[:, i], "bias": zero} for i, name in enumerate(("ir", "iz", "in"))
    }
    for name, kernel in zip(("hr", "hz", "hn"), kernels, strict=True):
        params[name] = {"kernel": kernel}
    params["hn"]["bias"] = bias

    def step(h: jax.Array, x: jax.Array) -> Any:
        return cell.apply({"params": params}, h, x)

    return jax.lax.scan(step, memory, jnp.concatenate(inputs, axis=-1))[1]


def test_values_and_derivatives_are_those_of_the_cell() -> None:
    primals, tangents, weights = arguments(0), arguments(1), np.random.default_rng(2)
    weight = jnp.asarray(weights.normal(size=(STEPS, ROWS, UNITS)), jnp.float32)
    found = jax.jvp(gru, primals, tangents)
    expected = jax.jvp(by_cell, primals, tangents)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)

    def gradient(function: Any) -> Any:
        return jax.grad(lambda *x: jnp.sum(weight * function(*x)), argnums=(0, 1, 2, 3))(*primals)

    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5),
        gradient(gru),
        gradient(by_cell),
    )


def test_derivatives_against_differences() -> None:
    check_grads(gru, arguments(3), order=1, modes=("fwd", "rev"), atol=0.02, rtol=0.02, eps=1e-2)
