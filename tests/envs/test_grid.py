"""Grid arithmetic against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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


def test_numbers_as_features() -> None:
    numbers = jnp.array([[1, 0], [2, 2]])
    hot = [[0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]]
    for how, expected in (
        ("one_hot", hot),
        ("coordinates", np.array([[1, 0], [2, 2]]) / 3),
        ("cells", [[1, 0], [2, 2]]),
    ):
        features = grid.encode(numbers, 3, how)
        np.testing.assert_allclose(features, expected, rtol=2e-7)
        assert features.dtype == jnp.float32


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


MAP = """
#####
#a.b#
#.###
#..c#
#####
"""


def test_a_layout_is_read_from_text() -> None:
    layout = grid.Layout(MAP)
    assert (layout.height, layout.width) == (5, 5)
    assert layout.free.tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [3, 1], [3, 2], [3, 3]]
    assert layout.cells("cb").tolist() == [[1, 3], [3, 3]]
    assert layout.cells("z").shape == (0, 2)
    assert layout.walls.sum() == 18
    with pytest.raises(ValueError, match="same length"):
        grid.Layout("##\n###")


def test_walls_and_edges_stop_moves() -> None:
    layout = grid.Layout("..\n#.")
    cell = jnp.array([[0, 0]] * 5)
    actions = jnp.array([grid.UP, grid.DOWN, grid.LEFT, grid.RIGHT, 4])
    assert layout.move(cell, actions).tolist() == [[0, 0], [0, 0], [0, 0], [0, 1], [0, 0]]
    assert layout.move(jnp.array([0, 1]), jnp.array(grid.DOWN)).tolist() == [1, 1]


def test_a_map_around_a_cell() -> None:
    layout = grid.Layout("..\n#.")
    bits = layout.wall_bits(jnp.array([[0, 0], [1, 1]]), 1)
    view = grid.unpack(bits, 9).reshape(2, 3, 3)
    assert view[0].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert view[1].tolist() == [[0, 0, 1], [1, 0, 1], [1, 1, 1]]
    river = np.array([[False, True], [False, False]])
    bits = layout.map_bits(river, jnp.array([0, 0]), 1, outside=False)
    view = grid.unpack(bits, 9).reshape(3, 3)
    assert view.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_shortest_ways() -> None:
    layout = grid.Layout(MAP)
    b, c, a = jnp.array([1, 3]), jnp.array([3, 3]), jnp.array([1, 1])
    assert float(layout.distance(b, c)) == 6
    assert float(layout.distance(c, c)) == 0
    assert int(layout.towards(b, c)) == grid.LEFT
    assert int(layout.towards(a, c)) == grid.DOWN
    assert int(layout.towards(c, c)) == -1
    apart = grid.Layout(".#.")
    left, right = jnp.array([0, 0]), jnp.array([0, 2])
    assert float(apart.distance(left, right)) == np.inf
    assert int(apart.towards(left, right)) == -1
    # Every first action of every pair leads one step nearer.
    free = jnp.asarray(layout.free)
    start, target = (jnp.repeat(free, 7, axis=0), jnp.tile(free, (7, 1)))
    after = layout.move(start, layout.towards(start, target))
    nearer = layout.distance(start, target) - layout.distance(after, target)
    assert nearer.tolist() == (layout.distance(start, target) > 0).astype(float).tolist()
    assert layout.index(free).tolist() == list(range(7))


def test_local_bits_by_hand() -> None:
    viewers = jnp.array([[0, 0], [2, 2]])
    things = jnp.array([[0, 1], [2, 2], [1, 1], [1, 1]])
    there = jnp.array([True, True, True, False])
    maps = grid.unpack(grid.local_bits(viewers, things, there, 1), 9).reshape(2, 3, 3)
    assert maps[0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert maps[1].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    # Which things there are may differ from viewer to viewer.
    each = jnp.array([[True, False, False, False], [False, False, False, True]])
    maps = grid.unpack(grid.local_bits(viewers, things, each, 1), 9).reshape(2, 3, 3)
    assert np.argwhere(np.asarray(maps)).tolist() == [[0, 1, 2], [1, 0, 0]]


def test_drawn_cells_differ_and_are_uniform() -> None:
    cells = np.array([[0, 0], [0, 1], [5, 5], [7, 1]])
    keys = jax.random.split(jax.random.PRNGKey(0), 12_000)
    drawn = np.asarray(jax.vmap(lambda key: grid.draw_distinct(key, cells, 2))(keys))
    numbers = (drawn[:, :, None] == cells).all(-1)
    assert (numbers.sum(-1) == 1).all(), "a cell that was not offered"
    first, second = numbers.argmax(-1).T
    counts = np.zeros((4, 4))
    np.add.at(counts, (first, second), 1)
    assert (np.diag(counts) == 0).all(), "a cell was drawn twice"
    expected = 12_000 / 12
    chi_square = ((counts[~np.eye(4, dtype=bool)] - expected) ** 2 / expected).sum()
    assert chi_square < 31.3  # the 99.9% point with 11 degrees of freedom
    # Leading axes draw on their own, and all cells can be asked for.
    both = grid.draw_distinct(keys[0], np.stack([cells, cells + 10]), 4)
    assert sorted(both[0].tolist()) == cells.tolist()
    assert sorted(both[1].tolist()) == (cells + 10).tolist()
    assert both.dtype == jnp.int32
