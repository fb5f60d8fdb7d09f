"""Pure grid arithmetic that the grid worlds share.

A cell is (row, column), int32, row 0 at the top, column 0 at the left. Every function takes arrays
with any leading axes. They compare and add instead of indexing where they can: on a CPU, XLA does not
vectorise a loop that gathers. `Layout` looks a few entries of fixed maps up, which was no slower.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

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


def encode(numbers: jax.Array, size: int, how: str) -> jax.Array:
    """Rows and columns as features.

    Args:
        numbers: [..., K] int32, each in 0..size-1.
        size: rows and columns of the map.
        how: "one_hot", each as a one-hot vector of `size` entries; "coordinates", divided by `size`;
            "cells", as they are.

    Returns:
        [..., K size] or [..., K] float32.
    """
    if how == "one_hot":
        hot = jax.nn.one_hot(numbers, size, dtype=jnp.float32)
        return hot.reshape(*numbers.shape[:-1], -1)
    scale = 1 / size if how == "coordinates" else 1.0
    return numbers.astype(jnp.float32) * np.float32(scale)


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


def square(radius: int) -> np.ndarray:
    """The offsets of a square view centred on the viewer, row by row.

    Args:
        radius: cells seen on each side; 2 gives 5x5.

    Returns:
        [K, 2] int32 with K = (2 radius + 1)**2.
    """
    reach = tuple(range(-radius, radius + 1))
    return window(reach, reach)


def local_bits(viewer: jax.Array, things: jax.Array, there: jax.Array, radius: int) -> jax.Array:
    """What each viewer sees of some things in a square around itself, one bit for each cell.

    Bits are as good as maps and much cheaper to make: one operation for a thing instead of one for
    each cell of the view. `unpack` makes maps of them.

    Args:
        viewer: [..., N, 2] int32, the viewers' cells.
        things: [..., M, 2] int32, the things' cells.
        there: [..., M] or [..., N, M] bool, which things exist (for which viewer).
        radius: cells seen on each side, at most 2.

    Returns:
        [..., N] int32: bit k is set if at least one thing is in cell k of the view, row by row.
    """
    if there.ndim < things.ndim:
        there = there[..., None, :]
    side = 2 * radius + 1
    place = things[..., None, :, :] - viewer[..., None, :] + radius
    seen = inside(place, side, side) & there
    return pack(place[..., 0] * side + place[..., 1], seen)


def pack(number: jax.Array, there: jax.Array) -> jax.Array:
    """Sets one bit for each thing.

    Args:
        number: [..., M] int32, each thing's bit, 0 to 30 where it is there.
        there: [..., M] bool, which things are there.

    Returns:
        [...] int32.
    """
    bit = jnp.where(there, 1 << jnp.where(there, number, 0), 0)
    return jax.lax.reduce(bit, np.int32(0), jax.lax.bitwise_or, (bit.ndim - 1,))


def unpack(bits: jax.Array, size: int) -> jax.Array:
    """Bits as numbers.

    Args:
        bits: [...] int32.
        size: how many, from the lowest on.

    Returns:
        [..., size] float32, 0 or 1.
    """
    # Without the barrier XLA would make the bits anew for every number.
    bits = jax.lax.optimization_barrier(bits)
    return ((bits[..., None] >> jnp.arange(size)) & 1).astype(jnp.float32)


def draw_distinct(key: jax.Array, cells: np.ndarray, num: int) -> jax.Array:
    """Draws different cells, every choice and order equally likely.

    Each cell gets a uniform float32 with 23 random bits, and the smallest `num` win; of two equal
    ones, which meet about once in 100,000 draws of 12, the first.

    Args:
        key: random key.
        cells: [..., M, 2], the cells to draw from, for each leading index on its own.
        num: how many, at most M.

    Returns:
        [..., num, 2] int32.
    """
    lots = jax.random.uniform(key, cells.shape[:-1])
    first = np.tril(np.ones((cells.shape[-2],) * 2, bool), -1)
    mine, other = lots[..., :, None], lots[..., None, :]
    rank = jnp.sum((other < mine) | ((other == mine) & first), axis=-1)
    chosen = rank[..., None, :] == jnp.arange(num)[:, None]
    return jnp.sum(chosen[..., None] * jnp.asarray(cells, jnp.int32)[..., None, :, :], axis=-2)


class Layout:
    """A map with walls, read from text: one line a row, `#` a wall, anything else a free cell.

    Attributes:
        height: number of rows, H.
        width: number of columns, W.
        walls: [H, W] bool.
        free: [K, 2] int32, the cells that are no walls, row by row.
    """

    def __init__(self, text: str) -> None:
        """Reads the map.

        Args:
            text: the lines; blank lines before and after are ignored.

        Raises:
            ValueError: if the lines differ in length.
        """
        lines = text.strip("\n").splitlines()
        if len({len(line) for line in lines}) != 1:
            raise ValueError("the lines of a map must all have the same length.")
        self._characters = np.array([list(line) for line in lines])
        self.height, self.width = self._characters.shape
        self.walls = self._characters == "#"
        self.free = np.argwhere(~self.walls).astype(np.int32)

    def cells(self, characters: str) -> np.ndarray:
        """[K, 2] int32, the cells drawn with any of these characters, row by row."""
        return np.argwhere(np.isin(self._characters, list(characters))).astype(np.int32)

    def move(self, cell: jax.Array, action: jax.Array) -> jax.Array:
        """Where a move ends: a wall or the edge of the map stops it.

        Args:
            cell: [..., 2] int32, free cells of the map.
            action: [...] int32; every number but `UP`, `DOWN`, `LEFT`, `RIGHT` keeps the cell.

        Returns:
            [..., 2] int32.
        """
        wanted = cell + displacement(action)
        allowed = inside(wanted, self.height, self.width) & ~self._at(self.walls, wanted)
        return jnp.where(allowed[..., None], wanted, cell)

    def index(self, cell: jax.Array) -> jax.Array:
        """[...] int32, the number of a free cell [..., 2] in `free`."""
        numbers = np.zeros((self.height, self.width), np.int32)
        numbers[tuple(self.free.T)] = np.arange(len(self.free))
        return self._at(numbers, cell)

    def wall_bits(self, cell: jax.Array, radius: int) -> jax.Array:
        """The walls around a cell, one bit for each cell as in `local_bits`; off the map is wall.

        Args:
            cell: [..., 2] int32, a cell of the map.
            radius: cells seen on each side, at most 2.

        Returns:
            [...] int32.
        """
        return self.map_bits(self.walls, cell, radius, outside=True)

    def map_bits(self, map_: np.ndarray, cell: jax.Array, radius: int, outside: bool) -> jax.Array:
        """A fixed map around a cell, one bit for each cell as in `local_bits`.

        Args:
            map_: [H, W] bool.
            cell: [..., 2] int32, a cell of the map.
            radius: cells seen on each side, at most 2.
            outside: what lies off the map.

        Returns:
            [...] int32.
        """
        padded = np.pad(map_, radius, constant_values=outside)
        side = 2 * radius + 1
        views = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
        bits = np.sum(views.reshape(*map_.shape, -1) << np.arange(side * side), axis=-1)
        return self._at(bits.astype(np.int32), cell)

    def distance(self, start: jax.Array, target: jax.Array) -> jax.Array:
        """Steps of the shortest way between free cells; for scripts, it looks up a large table.

        Args:
            start: [..., 2] int32.
            target: [..., 2] int32, of a shape that broadcasts with `start`.

        Returns:
            [...] float32, infinite if there is no way.
        """
        table, _ = self._ways
        return jnp.asarray(table)[self.index(start), self.index(target)]

    def towards(self, start: jax.Array, target: jax.Array) -> jax.Array:
        """The first action of a shortest way between free cells.

        Args:
            start: [..., 2] int32.
            target: [..., 2] int32, of a shape that broadcasts with `start`.

        Returns:
            [...] int32 in `UP`, `DOWN`, `LEFT`, `RIGHT`; -1 at the target and where there is no
            way.
        """
        _, table = self._ways
        return jnp.asarray(table)[self.index(start), self.index(target)]

    @functools.cached_property
    def _ways(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances and first actions between all pairs of free cells, [K, K] each."""
        steps = np.abs(self.free[:, None] - self.free[None]).sum(-1)
        distances = shortest_path(csr_array(steps == 1), unweighted=True).astype(np.float32)
        actions = np.full(distances.shape, -1, np.int32)
        numbers = {tuple(cell): i for i, cell in enumerate(self.free.tolist())}
        moves = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}
        for (row, column), start in numbers.items():
            for action, (down, right) in moves.items():
                neighbour = numbers.get((row + down, column + right))
                if neighbour is not None:
                    nearer = distances[neighbour] < distances[start]
                    actions[start, nearer] = action
        return distances, actions

    def _at(self, table: np.ndarray, cell: jax.Array) -> jax.Array:
        """[...] + the table's further axes: `table` [H, W, ...] at cells [..., 2]."""
        return jnp.asarray(table)[cell[..., 0], cell[..., 1]]
