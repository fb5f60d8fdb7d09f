"""Hashes of rows: equal for equal ones, and spread out for others."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.hashing import count_keys, count_table, row_hash, row_keys


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


def test_rows_that_share_a_hash_by_chance_do_not_share_the_next() -> None:
    rows = jnp.array(list(itertools.product(range(800), repeat=2)), jnp.int32)  # 640,000
    first, second = (np.asarray(row_hash(rows, salt)) for salt in range(2))
    # 48 pairs are expected to share the first.
    assert 20 < len(rows) - len(np.unique(first)) < 90
    both = first.astype(np.uint64) << np.uint64(32) | second
    assert len(np.unique(both)) == len(rows)


def test_order_and_salt_matter_and_the_sign_of_zero_does_not() -> None:
    one, other = jnp.array([1.0, 2.0, 0.0]), jnp.array([2.0, 1.0, 0.0])
    assert row_hash(one) != row_hash(other)
    assert row_hash(one) != row_hash(one, salt=1)
    assert row_hash(one) == row_hash(jnp.array([1.0, 2.0, -0.0]))
    assert row_hash(one) != row_hash(one[:2])


@pytest.mark.parametrize(("bits", "missing"), [(12, 0.0), (5, 0.4)])
def test_counts_are_right_or_missing(bits: int, missing: float) -> None:
    """In a table of 4,096 slots none of about 60 things goes without; in one of 32 about half of them do."""
    rng = np.random.default_rng(0)
    rows = np.minimum(rng.geometric(0.15, (40, 8, 3)), 12) // 4
    counted = rng.random((40, 8)) < 0.9
    table, true = count_table(bits), collections.Counter[tuple[int, ...]]()
    count = jax.jit(count_keys)
    lost = total = 0
    for step, mask in zip(rows, counted, strict=True):
        table, found = count(table, row_keys(jnp.asarray(step)), jnp.asarray(mask))
        true.update(tuple(row) for row in step[mask].tolist())
        for row, number, is_counted in zip(step.tolist(), np.asarray(found), mask, strict=True):
            assert number in (0, true[tuple(row)])
            lost, total = lost + int(is_counted and not number), total + int(is_counted)
            assert is_counted or not number
    assert len(true) > 40
    assert lost == 0 if not missing else 0.05 * total < lost
    assert int(table[:, 1].sum()) == total - lost
