"""Hashes of rows: equal for equal ones, and spread out for others."""

import itertools

import jax.numpy as jnp
import numpy as np

from marl_jax.hashing import row_hash


def test_equal_rows_have_equal_hashes_and_others_do_not() -> None:
    grid = np.array(list(itertools.product(range(15), repeat=4)))  # 50,625 rows
    for rows in (grid.astype(np.int32), (grid / 15).astype(np.float32)):
        numbers = np.asarray(row_hash(jnp.asarray(rows)))
        # 32 bits: 0.3 collisions expected among so many.
        assert len(np.unique(numbers)) >= len(grid) - 4
        again = row_hash(jnp.asarray(rows[::-1]))[::-1]
        np.testing.assert_array_equal(numbers, again)
        # The high bits alone, which index tables, are spread evenly too.
        counts = np.bincount(numbers >> 24, minlength=256)
        assert counts.min() > 120
        assert counts.max() < 280


def test_order_and_salt_matter_and_the_sign_of_zero_does_not() -> None:
    one, other = jnp.array([1.0, 2.0, 0.0]), jnp.array([2.0, 1.0, 0.0])
    assert row_hash(one) != row_hash(other)
    assert row_hash(one) != row_hash(one, salt=1)
    assert row_hash(one) == row_hash(jnp.array([1.0, 2.0, -0.0]))
    assert row_hash(one) != row_hash(one[:2])
