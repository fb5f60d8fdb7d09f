"""Pictures of `PacMen`."""

import numpy as np

from envs.cross_map import ROOMS
from envs.grid_viewer import WALL, GridViewer, Kind, Scene
from envs.pac_men.state import RewardKind, State
from envs.viewer import YELLOW

_DOT = Kind("dot", "o", YELLOW, "disc")
_GOALS = {
    "total": "eat all dots in time",
    "min_over_rooms": "eat in every room",
    "dense": "eat as many dots as you can",
}


class PacMenViewer(GridViewer[State]):
    """Draws the maze, the agents, the dots that are left and what was eaten in each room."""

    def __init__(self, walls: np.ndarray, time_limit: int, reward: RewardKind) -> None:
        """Makes the viewer.

        Args:
            walls: [H, W] bool.
            time_limit: steps of an episode, shown beside the step count.
            reward: what is paid, told in the title.
        """
        super().__init__(walls.shape[0], walls.shape[1], [_DOT, WALL])
        self._walls = np.argwhere(walls)
        self._time_limit = time_limit
        self._goal = _GOALS[reward]

    def scene(self, state: State) -> Scene:
        """What lies where; see the base class."""
        counts = ", ".join(
            f"{room} {count}" for room, count in zip(ROOMS, state.eaten, strict=True)
        )
        return Scene(
            title=f"Pac-Men: {self._goal}",
            status=f"step {int(state.step_count)}/{self._time_limit}    "
            f"dots eaten {int(state.eaten.sum())}  ({counts})",
            things=[(WALL, self._walls), (_DOT, np.asarray(state.dots)[state.left])],
            agents=np.asarray(state.positions),
        )
