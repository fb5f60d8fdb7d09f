"""The cross maps as drawn in CDS, and vectorised views of maps, for the twins."""

import numpy as np

TINI = """
#####################
#####################
#########ddd#########
#########ddd#########
#########ddd#########
#########ddd#########
#########...#########
##########.##########
##########.##########
##########.##########
##dddd.##AAA##.dddd##
##dddd...AAA...dddd##
##dddd.##AAA##.dddd##
##########.##########
#########...#########
#########ddd#########
#########ddd#########
#########ddd#########
#########ddd#########
#####################
#####################
"""

SMALL = """
#########################
#########################
###########ddd###########
###########ddd###########
###########ddd###########
###########ddd###########
###########...###########
############.############
############.############
############.############
############.############
############.############
############.############
##dddd.####AAA####.dddd##
##dddd.....AAA.....dddd##
##dddd.####AAA####.dddd##
############.############
############.############
###########...###########
###########ddd###########
###########ddd###########
###########ddd###########
###########ddd###########
#########################
#########################
"""


def _large() -> str:
    """CDS's slices of its 33x33 map; the bottom dots in the bottom room, where CDS fails to put them."""
    map_ = np.full((33, 33), "#")
    for rows, columns in (
        ((2, 6), (15, 17)),
        ((26, 30), (15, 17)),
        ((19, 21), (2, 6)),
        ((19, 21), (26, 30)),
        ((7, 18), (16, 16)),
        ((22, 25), (16, 16)),
        ((20, 20), (7, 14)),
        ((20, 20), (18, 25)),
    ):
        map_[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = "."
    map_[19:22, 15:18] = "A"
    map_[2:6, 15:18] = map_[27:31, 15:18] = map_[19:22, 2:6] = map_[19:22, 27:31] = "d"
    return "\n".join("".join(row) for row in map_)


LARGE = _large()

MOVES = {0: (-1, 0), 1: (1, 0), 2: (0, -1), 3: (0, 1)}


def letters(text: str) -> np.ndarray:
    """[H, W] characters."""
    return np.array([list(line) for line in text.split()])


def rooms(map_: np.ndarray, cells: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """The cells in the top, bottom, left and right room, each row by row."""
    starts = np.argwhere(map_ == "A")
    (low_row, low_column), (high_row, high_column) = starts.min(0), starts.max(0)
    return [
        [cell for cell in cells if cell[0] < low_row - 1],
        [cell for cell in cells if cell[0] > high_row + 1],
        [cell for cell in cells if cell[1] < low_column - 1],
        [cell for cell in cells if cell[1] > high_column + 1],
    ]


def room_cells(map_: np.ndarray) -> list[list[tuple[int, int]]]:
    """All 15 cells of each room: in a corridor, free cells lie on two opposite sides only."""
    free = map_ != "#"
    found = []
    for row, column in np.argwhere(free).tolist():
        beside = [bool(free[row + i, column + j]) for i, j in MOVES.values()]
        if map_[row, column] != "A" and beside not in ([1, 1, 0, 0], [0, 0, 1, 1]):
            found.append((row, column))
    return rooms(map_, found)


def walk(map_: np.ndarray, agents: np.ndarray, action: np.ndarray) -> np.ndarray:
    """[B, N, 2] where the agents stand after their moves."""
    agents = agents.copy()
    for number, way in MOVES.items():
        wanted = agents + np.array(way)
        open_ = map_[wanted[..., 0], wanted[..., 1]] != "#"
        agents = np.where(((action == number) & open_)[..., None], wanted, agents)
    return agents


def crop(maps: np.ndarray, agents: np.ndarray) -> np.ndarray:
    """[B, N, 25]: the 5x5 cells around each agent, of maps [B, H, W] or [B, N, H, W]."""
    b, n, _ = agents.shape
    if maps.ndim == 3:
        maps = np.repeat(maps[:, None], n, axis=1)
    out = np.zeros((b, n, 5, 5), maps.dtype)
    episode, agent = np.indices((b, n))
    for i in range(5):
        for j in range(5):
            out[:, :, i, j] = maps[episode, agent, agents[..., 0] + i - 2, agents[..., 1] + j - 2]
    return out.reshape(b, n, 25)


def others(shape: tuple[int, int], agents: np.ndarray) -> np.ndarray:
    """[B, N, H, W]: where the agents other than each one stand."""
    b, n, _ = agents.shape
    out = np.zeros((b, n, *shape), bool)
    for me in range(n):
        for other in range(n):
            if me != other:
                out[np.arange(b), me, agents[:, other, 0], agents[:, other, 1]] = True
    return out
