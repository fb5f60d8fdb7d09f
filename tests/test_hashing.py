"""Hashes of rows: equal for equal ones, and spread out for others."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.hashing import count_keys, count_table, row_hash, row_keys

count = jax.jit(count_keys)


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


def random_rows(seed: int) -> np.ndarray:
    """[40, 8, 3] rows, of which there are about 60 different ones, some far more often than others."""
    rng = np.random.default_rng(seed)
    return np.minimum(rng.geometric(0.15, (40, 8, 3)), 12) // 4


@pytest.mark.parametrize("seed", range(20))
def test_counts_are_right(seed: int) -> None:
    """In a table of 4,096 slots nothing goes without."""
    counted = np.random.default_rng(seed).random((40, 8)) < 0.9
    table, true = count_table(12), collections.Counter[tuple[int, ...]]()
    for step, mask in zip(random_rows(seed), counted, strict=True):
        table, found = count(table, row_keys(jnp.asarray(step)), jnp.asarray(mask))
        true.update(tuple(row) for row in step[mask].tolist())
        wanted = [true[tuple(row)] for row in step.tolist()]
        np.testing.assert_array_equal(found, np.where(mask, wanted, 0))
    assert len(true) > 40
    assert int(table[:, 1].sum()) == counted.sum()


def test_two_new_things_that_want_one_slot_both_get_one() -> None:
    rows = jnp.arange(4000)[:, None]
    keys = np.asarray(row_keys(rows))
    place = keys[:, 0] >> 20
    one = int(np.flatnonzero(place == place[0])[0])
    other = int(np.flatnonzero(place == place[0])[1])
    table = count_table(12)
    for time in (1, 2):
        table, found = count(table, jnp.asarray(keys[[one, other]]), jnp.ones(2, bool))
        np.testing.assert_array_equal(found, [time, time])


@pytest.mark.parametrize(
    ("load", "share"), [pytest.param(0.25, 0.005, marks=pytest.mark.slow), (0.5, 0.04)]
)
def test_what_a_table_loses(load: float, share: float) -> None:
    """As the help of the tables' sizes says; and what is lost is lost, while the rest goes on being right."""
    slots = 1 << 14
    keys = row_keys(jnp.arange(int(load * slots))[:, None]).reshape(-1, 64, 2)
    table, lost = count_table(14), 0
    for part in keys:
        table, found = count(table, part, jnp.ones(64, bool))
        lost += int((found == 0).sum())
    assert 0.5 * share < lost / (load * slots) < 1.5 * share
    for part in keys:
        table, found = count(table, part, jnp.ones(64, bool))
        assert set(np.asarray(found).tolist()) <= {0, 2}


def test_a_table_of_fewer_slots_than_one_key_may_have() -> None:
    table, keys = count_table(1), row_keys(jnp.arange(4)[:, None])
    for time in (1, 2):
        table, found = count(table, keys, jnp.ones(4, bool))
        assert sorted(np.asarray(found).tolist()) == [0, 0, time, time]
