"""Initialisation and normalisation of dense layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.networks import MLP, Initialization, Linear

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (7, 30))


@pytest.mark.parametrize(
    ("initialization", "bound"),
    [("torch", 30**-0.5), ("glorot", (6 / (30 + 20)) ** 0.5), ("kaiming", (6 / 30) ** 0.5)],
)
def test_uniform_weights_within_their_bound(initialization: Initialization, bound: float) -> None:
    params = Linear(20, initialization=initialization).init(KEY, X)["params"]["Dense_0"]
    kernel = np.asarray(params["kernel"])
    assert np.abs(kernel).max() <= bound
    # A uniform law's deviation; 600 draws.
    np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.06)
    assert (np.asarray(params["bias"]) == 0).all() == (initialization != "torch")


def test_orthogonal_weights() -> None:
    kernel = Linear(20, initialization="orthogonal").init(KEY, X)["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(20), atol=1e-5)


def test_hidden_layers_are_normalised_before_their_activation_and_the_output_is_not() -> None:
    seen: list[np.ndarray] = []

    def keep(x: jax.Array) -> jax.Array:
        seen.append(np.asarray(x))
        return x

    network = MLP((16, 8, 3), activation=keep, layer_norm=True)
    params = network.init(KEY, X)
    seen.clear()
    output = network.apply(params, 5.0 * X)
    assert [x.shape[-1] for x in seen] == [16, 8]
    for x in seen:
        np.testing.assert_allclose(x.mean(-1), 0.0, atol=1e-5)
        np.testing.assert_allclose(x.std(-1), 1.0, rtol=1e-3)
    assert float(jnp.abs(jnp.asarray(output).mean(-1)).max()) > 0.01
