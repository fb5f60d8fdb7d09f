"""Pictures of `PushBox`."""

import numpy as np

from envs.grid_viewer import WALL, GridViewer, Kind, Scene
from envs.push_box.state import State
from envs.viewer import AGENT_NAMES

_SMALL_BOX = Kind("box", "X", "#A6713A", "square")
_LARGE_BOX = Kind("box", "X", "#A6713A")
_WALL = Kind("wall: the goal", "#", WALL.colour)
_EDGE = Kind("edge: the goal", ",", "#C9C9C9")
_WAYS = ("up", "down", "left", "right")


class PushBoxViewer(GridViewer[State]):
    """Draws the field, the goal, the box and the agents, and says who can push it where."""

    def __init__(self, variant: str, size: int, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            variant: "edti" or "cmae".
            size: rows and columns.
            time_limit: steps of an episode, shown beside the step count.
        """
        edti = variant == "edti"
        self._radius = 0 if edti else 1
        self._goal, self._box = (_WALL, _SMALL_BOX) if edti else (_EDGE, _LARGE_BOX)
        super().__init__(size, size, (self._goal, self._box))
        self._size = size
        self._time_limit = time_limit
        cells = np.indices((size, size)).reshape(2, -1).T
        self._border = cells[((cells == 0) | (cells == size - 1)).any(axis=1)]
        self._cells = cells

    def scene(self, state: State) -> Scene:
        """What lies where; see the base class."""
        box = self._cells[(np.abs(self._cells - state.box) <= self._radius).all(axis=1)]
        status = (
            f"step {int(state.step_count)}/{self._time_limit}    "
            f"boxes delivered {int(state.boxes_delivered)}    {self._situation(state)}"
        )
        return Scene(
            title="Push-Box: both push the box to the wall",
            status=status,
            things=[(self._goal, self._border), (self._box, box)],
            agents=np.asarray(state.positions),
        )

    def _situation(self, state: State) -> str:
        away = min(state.box.min(), (self._size - 1 - state.box).min()) - self._radius
        if away <= 0:
            return "the box is at the wall"
        ways = [self._way(offset) for offset in state.box - state.positions]
        if ways[0] is not None and ways[0] == ways[1]:
            return f"both can push it {ways[0]}"
        able = [(AGENT_NAMES[i], way) for i, way in enumerate(ways) if way is not None]
        if len(able) == 2:
            return f"A can push {ways[0]}, B {ways[1]}"
        if able:
            return "only {} can push it {}".format(*able[0])
        return "nobody is at the box"

    def _way(self, offset: np.ndarray) -> str | None:
        """The way in which an agent can push a box that lies at `offset` [2] from it."""
        down, right = offset.tolist()
        if abs(right) <= self._radius and abs(down) == self._radius + 1:
            return _WAYS[int(down > 0)]
        if abs(down) <= self._radius and abs(right) == self._radius + 1:
            return _WAYS[2 + int(right > 0)]
        return None
