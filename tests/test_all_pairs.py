"""Every method takes a few steps on every world, in every variant of its networks."""

from collections.abc import Iterator

import jax
import numpy as np
import pytest

import envs
import marl_jax
from marl_jax import methods
from tests import tiny


@pytest.fixture(autouse=True, scope="module")
def quick_compilation() -> Iterator[None]:
    """These programs run for a moment; compiling them well would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# Of JaxMARL's: one scenario of SMAX (units die, actions are masked), and the tasks of MPE whose
# agents differ from each other.
BRIDGED = ("smax/3m", "mpe/simple_speaker_listener", "mpe/simple_adversary")


@pytest.mark.parametrize("env", [*envs.own_names(), *BRIDGED])
@pytest.mark.parametrize("method", methods.names())
def test_pair(method: str, env: str) -> None:
    result = marl_jax.train(method, env, seeds=2, **tiny.options(1))
    assert not result.failures
    assert np.isfinite(result.final_returns).all()


@pytest.mark.parametrize("method", methods.names())
def test_recurrent_and_independent(method: str) -> None:
    options = tiny.options(1)
    options["method_options"] = {**tiny.METHOD, "agent": "gru", "sharing": "independent"}
    result = marl_jax.train(method, "turn", seeds=1, **options)
    assert not result.failures


@pytest.mark.parametrize(
    "variant",
    [
        {"critic": "shared_trunk", "advantage": "td_lambda", "likelihood_ratio": "joint"},
        {"meta_gradient": "batch"},
        {"inner_update": "sgd", "optimizer": "adam", "normalise_advantage": False},
    ],
)
def test_variants_of_liir(variant: dict[str, object]) -> None:
    options = tiny.options(1)
    options["method_options"] = {**tiny.METHOD, **variant}
    result = marl_jax.train("liir", "pursuit_1d", seeds=1, **options)
    assert not result.failures
