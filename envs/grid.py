"""Pure grid arithmetic that the grid worlds share.

A cell is (row, column), int32, row 0 at the top, column 0 at the left. Every function takes arrays
with any leading axes. They compare and add instead of indexing: on a CPU, XLA does not vectorise a
loop that gathers.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

# The first four actions of every grid world.
UP, DOWN, LEFT, RIGHT = range(4)


def displacement(action: jax.Array) -> jax.Array:
    """The change of cell that an action asks for.

    Args:
        action: [...] int32; every number other than `UP`, `DOWN`, `LEFT` and `RIGHT` asks for no
            change.

    Returns:
        [..., 2] int32, each in -1..1.
    """
    rows = (action == DOWN).astype(jnp.int32) - (action == UP).astype(jnp.int32)
    columns = (action == RIGHT).astype(jnp.int32) - (action == LEFT).astype(jnp.int32)
    return jnp.stack([rows, columns], axis=-1)


def inside(cell: jax.Array, height: int, width: int) -> jax.Array:
    """Whether a cell lies on the grid.

    Args:
        cell: [..., 2] int32.
        height: number of rows.
        width: number of columns.

    Returns:
        [...] bool.
    """
    row, column = cell[..., 0], cell[..., 1]
    return (row >= 0) & (row < height) & (column >= 0) & (column < width)


def same_cell(a: jax.Array, b: jax.Array) -> jax.Array:
    """Whether two cells are one.

    Args:
        a: [..., 2] int32.
        b: [..., 2] int32, of a shape that broadcasts with `a`.

    Returns:
        [...] bool.
    """
    return (a[..., 0] == b[..., 0]) & (a[..., 1] == b[..., 1])


def one_hot(cell: jax.Array, height: int, width: int) -> jax.Array:
    """A map of the grid, flattened row by row, that is 1 at one cell and 0 elsewhere.

    Args:
        cell: [..., 2] int32; a cell off the grid gives a map that may be 1 at the wrong place.
        height: number of rows.
        width: number of columns.

    Returns:
        [..., height * width] float32.
    """
    index = cell[..., 0] * width + cell[..., 1]
    return (index[..., None] == jnp.arange(height * width)).astype(jnp.float32)


def window(rows: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
    """The offsets that a local view looks at, row by row, in the given order.

    Args:
        rows: offsets in rows, e.g. (-1, 0, 1).
        columns: offsets in columns.

    Returns:
        [K, 2] int32 with K = len(rows) * len(columns).
    """
    return np.asarray(list(itertools.product(rows, columns)), np.int32)


def local_view(offset: jax.Array, offsets: np.ndarray) -> jax.Array:
    """A local map that is 1 where a thing lies, and all 0 if it lies outside the window.

    Args:
        offset: [..., 2] int32, the thing's cell minus the viewer's.
        offsets: [K, 2], the window, in the order of the entries.

    Returns:
        [..., K] float32.
    """
    return same_cell(offset[..., None, :], jnp.asarray(offsets)).astype(jnp.float32)
