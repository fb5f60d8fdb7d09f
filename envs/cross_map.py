"""The cross-shaped map of four rooms around a centre: that of Pac-Men, and here of Firefighters too.

Source of the sizes: github.com/lich14/CDS, pacmen_env/gym_foo/envs/pac_men.py. EOI's paper shows such
a map without giving any.
"""

import numpy as np

from envs.grid import Layout

ROOMS = ("top", "bottom", "left", "right")
SIZES = {"tini": 1, "small": 2, "large": 4}

_MARGIN = 2
_LENGTH, _WIDTH = 5, 3  # of a room
# Direction of each room from the centre, and its corridor's length in units.
_WAYS = (((-1, 0), 3), ((1, 0), 1), ((0, -1), 2), ((0, 1), 2))


class CrossMap:
    """Four rooms of 15 cells, joined to a centre of 3x3 cells by corridors one cell wide.

    The corridors to the top, bottom, left and right room are 3, 1, 2 and 2 times `SIZES[size]` cells
    long. A room is 3 cells wide and 5 long; its inner cells are the 12 that do not lie in the row
    next to the corridor.

    Attributes:
        layout: the map, within a margin of two walls.
        centre: [9, 2] int32, row by row.
        rooms: [4, 15, 2] int32, the cells of each room, in the order of `ROOMS`, row by row.
        inner: [4, 12, 2] int32, the inner cells of each room, row by row.
        corridors: four arrays [L, 2] int32, the cells of each room's corridor, row by row.
    """

    def __init__(self, size: str) -> None:
        """Makes the map.

        Args:
            size: a key of `SIZES`.
        """
        unit = SIZES[size]
        top, bottom, left, right = (2 + steps * unit + _LENGTH + _MARGIN for _, steps in _WAYS)
        map_ = np.full((top + bottom - 1, left + right - 1), "#")
        middle = np.array([top - 1, left - 1])

        def paint(first: np.ndarray, last: np.ndarray, character: str) -> None:
            (low_row, low_column), (row, column) = np.minimum(first, last), np.maximum(first, last)
            map_[low_row : row + 1, low_column : column + 1] = character

        for number, (way, steps) in enumerate(_WAYS):
            out, side = np.array(way), np.abs(way[::-1])
            mouth = middle + (2 + steps * unit) * out
            paint(middle, mouth - out, "tblr"[number])
            paint(mouth - side, mouth + side, str(number))
            paint(mouth + out - side, mouth + (_LENGTH - 1) * out + side, "TBLR"[number])
        paint(middle - 1, middle + 1, "A")

        self.layout = Layout("\n".join("".join(row) for row in map_))
        self.centre = self.layout.cells("A")
        self.rooms = np.stack([self.layout.cells(pair) for pair in ("0T", "1B", "2L", "3R")])
        self.inner = np.stack([self.layout.cells(letter) for letter in "TBLR"])
        self.corridors = [self.layout.cells(letter) for letter in "tblr"]
