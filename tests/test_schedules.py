"""Schedules, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.schedules import linear


@pytest.mark.parametrize(
    ("env_steps", "expected"),
    [(0, 0.5), (100, 0.5), (150, 0.4), (200, 0.3), (300, 0.1), (999, 0.1)],
)
def test_a_straight_line_between_two_levels(env_steps: int, expected: float) -> None:
    value = linear(0.5, 0.1, 100, 300, jnp.asarray(env_steps))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_it_may_end_after_more_steps_than_32_bits_hold() -> None:
    np.testing.assert_allclose(
        linear(1.0, 0.0, 0, 8_000_000_000, jnp.asarray(2_000_000_000)), 0.75, rtol=1e-6
    )
