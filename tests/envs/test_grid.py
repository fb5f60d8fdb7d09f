"""Grid arithmetic against numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import grid


def test_displacement_up_down_left_right_and_nothing_else() -> None:
    moves = grid.displacement(jnp.arange(6))
    np.testing.assert_array_equal(moves, [[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0], [0, 0]])
    assert moves.dtype == jnp.int32


def test_inside_a_grid_of_two_rows_and_three_columns() -> None:
    cells = jnp.array([[0, 0], [1, 2], [2, 0], [0, 3], [-1, 0], [0, -1], [2, 3]])
    expected = [True, True, False, False, False, False, False]
    np.testing.assert_array_equal(grid.inside(cells, 2, 3), expected)


def test_same_cell_needs_both_coordinates() -> None:
    a = jnp.array([[1, 2], [1, 2], [1, 2], [1, 2]])
    b = jnp.array([[1, 2], [1, 3], [0, 2], [2, 1]])
    np.testing.assert_array_equal(grid.same_cell(a, b), [True, False, False, False])


def test_one_hot_counts_row_by_row() -> None:
    # Row 1, column 2 of a 2x3 grid is the last of its six cells; row 1, column 0 the fourth.
    maps = grid.one_hot(jnp.array([[1, 2], [1, 0]]), 2, 3)
    np.testing.assert_array_equal(maps, [[0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]])
    assert maps.dtype == jnp.float32


def test_window_goes_row_by_row_in_the_given_order() -> None:
    np.testing.assert_array_equal(
        grid.window((0, -1), (0, 1, 2)), [[0, 0], [0, 1], [0, 2], [-1, 0], [-1, 1], [-1, 2]]
    )


def test_local_view_is_one_at_the_offset_and_empty_beyond() -> None:
    offsets = grid.window((-1, 0, 1), (-1, 0, 1))
    views = grid.local_view(jnp.array([[-1, 1], [0, 0], [2, 0], [0, -2]]), offsets)
    expected = np.zeros((4, 9))
    expected[0, 2] = expected[1, 4] = 1
    np.testing.assert_array_equal(views, expected)


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(0, 8))
def test_one_hot_agrees_with_indexing(row: int, column: int) -> None:
    expected = np.zeros((7, 9))
    expected[row, column] = 1
    np.testing.assert_array_equal(
        grid.one_hot(jnp.array([row, column]), 7, 9), expected.reshape(-1)
    )
