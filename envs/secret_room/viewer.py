"""Pictures of `SecretRoom`."""

import numpy as np

from envs.grid_viewer import WALL, GridViewer, Kind, Scene
from envs.secret_room.state import Geometry, State
from envs.viewer import AGENT_NAMES

_CLOSED = Kind("door, closed", "+", "#8C510A")
_OPEN = Kind("door, open", "-", "#A5DDD3")
_TARGET = Kind("target room", ",", "#FFF0A8")
_SWITCH_COLOUR = "#E0B4CF"
_SWITCHES = tuple(Kind("", character, _SWITCH_COLOUR, "letter") for character in "L123")
_LEGEND = (
    WALL,
    _TARGET,
    _CLOSED,
    _OPEN,
    Kind("switch: L all, 1-3 own", "L", _SWITCH_COLOUR, "letter"),
)


class SecretRoomViewer(GridViewer[State]):
    """Draws rooms, doors, switches and agents, and says which doors are open."""

    def __init__(self, geometry: Geometry, size: int, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            geometry: of the map.
            size: rows and columns.
            time_limit: steps of an episode, shown beside the step count.
        """
        super().__init__(size, size, _LEGEND)
        self._geometry = geometry
        self._time_limit = time_limit
        rows, columns = np.indices((size, size))
        between = np.isin(rows, geometry.wall_rows) & (columns > geometry.wall_column)
        wall = (columns == geometry.wall_column) | between
        target = (rows <= geometry.target_row) & (columns >= geometry.target_column)
        self._doors = [
            np.array([(row, geometry.wall_column) for row in range(first, last + 1)])
            for first, last in geometry.door_rows
        ]
        self._fixed = [(WALL, np.argwhere(wall)), (_TARGET, np.argwhere(target & ~wall))]
        reach = np.arange(-geometry.reach, geometry.reach + 1)
        for kind, (row, column) in zip(_SWITCHES, geometry.switches, strict=True):
            block = [(row + down, column + right) for down in reach for right in reach]
            around = Kind("", kind.character, kind.colour)
            self._fixed += [(around, np.array(block)), (kind, np.array([(row, column)]))]

    def scene(self, state: State) -> Scene:
        """What lies where; see the base class."""
        is_open = (state.doors > 0).tolist()
        doors = [
            (_OPEN if flag else _CLOSED, cells)
            for flag, cells in zip(is_open, self._doors, strict=True)
        ]
        open_doors = ", ".join(str(i + 1) for i, flag in enumerate(is_open) if flag)
        g = self._geometry
        row, column = state.positions.T
        inside = (row <= g.target_row) & (column >= g.target_column)
        there = ", ".join(AGENT_NAMES[i] for i in np.flatnonzero(inside)) or "nobody"
        status = (
            f"step {int(state.step_count)}/{self._time_limit}    "
            f"open doors: {open_doors or 'none'}    "
            f"{'solved' if inside.all() else f'in the target: {there}'}"
        )
        return Scene(
            title="Secret Room: both into the target room",
            status=status,
            things=[*self._fixed, *doors],
            agents=np.asarray(state.positions),
        )
