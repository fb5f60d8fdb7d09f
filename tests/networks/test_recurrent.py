"""The GRU against PyTorch's formulas in NumPy: values, derivatives forwards and backwards, both biases."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marl_jax.networks.recurrent import GRU

STEPS, ROWS, INPUTS, UNITS = 5, 3, 2, 4
MODULE = GRU(INPUTS, UNITS)
KERNELS = {"kernel_ih": (INPUTS, 3 * UNITS), "kernel_hh": (UNITS, 3 * UNITS)}
SHAPES = KERNELS | {"bias_ih": (3 * UNITS,), "bias_hh": (3 * UNITS,)}


def draw(seed: int) -> dict[str, Any]:
    """Parameters, memory `h`, inputs `xs` and weights of a sum of the hidden states."""
    rng = np.random.default_rng(seed)
    shapes = SHAPES | {"h": (ROWS, UNITS), "xs": (STEPS, ROWS, INPUTS)}
    arrays = {name: 0.5 * rng.normal(size=shape) for name, shape in shapes.items()}
    return arrays | {"weights": rng.normal(size=(STEPS, ROWS, UNITS))}


def by_formula(a: dict[str, Any]) -> Any:
    """`torch.nn.GRU`'s documentation, in NumPy's float64."""

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    h, hidden = a["h"], []
    for x in a["xs"]:
        ir, iz, i_n = np.split(x @ a["kernel_ih"] + a["bias_ih"], 3, axis=-1)
        hr, hz, hn = np.split(h @ a["kernel_hh"] + a["bias_hh"], 3, axis=-1)
        r, z = sigmoid(ir + hr), sigmoid(iz + hz)
        h = (1 - z) * np.tanh(i_n + r * hn) + z * h
        hidden.append(h)
    return np.stack(hidden)


def by_module(a: dict[str, Any]) -> jax.Array:
    params = {"params": {name: a[name] for name in SHAPES}}
    return MODULE.apply(params, a["h"], a["xs"], method="unroll")  # type: ignore[no-any-return]


def single(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}


def test_one_unit_by_hand() -> None:
    # r = z = s(0.5 + 0.5 0.4 + 0.1 - 0.3) = s(0.5) = 0.622459,
    # n = tanh(0.5 + 0.1 + 0.622459 (0.2 - 0.3)) = tanh(0.537754) = 0.491286,
    # h' = 0.377541 0.491286 + 0.622459 0.4 = 0.434464
    params = {
        "kernel_ih": jnp.full((1, 3), 0.5),
        "kernel_hh": jnp.full((1, 3), 0.5),
        "bias_ih": jnp.full((3,), 0.1),
        "bias_hh": jnp.full((3,), -0.3),
    }
    h = GRU(1, 1).apply({"params": params}, jnp.array([0.4]), jnp.array([1.0]))
    np.testing.assert_allclose(h, [0.434464], rtol=1e-5)


def test_values_and_derivatives_are_pytorchs() -> None:
    arrays, dots = draw(0), draw(1)
    expected = by_formula(arrays)
    hidden, change = jax.jit(lambda *x: jax.jvp(by_module, *x))((single(arrays),), (single(dots),))
    np.testing.assert_allclose(hidden, expected, rtol=1e-5, atol=1e-6)
    params = {"params": {name: single(arrays)[name] for name in SHAPES}}
    h = single(arrays)["h"]
    for x, after in zip(single(arrays)["xs"], expected, strict=True):
        h = MODULE.apply(params, h, x)
        np.testing.assert_allclose(h, after, rtol=1e-5, atol=1e-6)

    eps = 1e-6
    moved = [
        by_formula({name: x + sign * dots[name] for name, x in arrays.items()})
        for sign in (eps, -eps)
    ]
    np.testing.assert_allclose(change, (moved[0] - moved[1]) / (2 * eps), rtol=1e-4, atol=1e-5)

    loss = jax.jit(jax.grad(lambda a: jnp.sum(a["weights"] * by_module(a))))
    for name, found in loss(single(arrays)).items():
        differences = np.zeros(found.shape)
        for i in np.ndindex(found.shape):
            both = []
            for sign in (eps, -eps):
                other = {**arrays, name: arrays[name].copy()}
                other[name][i] += sign
                both.append(np.sum(other["weights"] * by_formula(other)))
            differences[i] = (both[0] - both[1]) / (2 * eps)
        np.testing.assert_allclose(found, differences, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("optimizer", [optax.adam(0.01), optax.sgd(0.01)])
def test_two_equal_biases_move_the_sum_twice_as_far(optimizer: Any) -> None:
    """The two biases of r and z are two parameters: each gets the whole gradient of their sum, and takes its step."""
    arrays = single(draw(4))
    params = {name: arrays[name] for name in SHAPES}
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(arrays["weights"] * by_module({**arrays, **p}))))(
        params
    )
    updates, _ = optimizer.update(gradient, optimizer.init(params))
    first, second = (updates[name][: 2 * UNITS] for name in ("bias_ih", "bias_hh"))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    # One bias alone in the same place, from the same gradient: what the sum would move with one.
    one = {"bias": gradient["bias_ih"][: 2 * UNITS]}
    alone = optimizer.update(one, optimizer.init(one))[0]["bias"]
    assert jnp.min(jnp.abs(alone)) > 0
    np.testing.assert_allclose(first + second, 2 * alone, rtol=1e-5)
    # The candidate's second bias is behind the reset gate.
    n_first, n_second = (gradient[name][2 * UNITS :] for name in ("bias_ih", "bias_hh"))
    assert jnp.min(jnp.abs(n_first - n_second)) > 1e-4
