"""Pictures of `WindyMaze`."""

import numpy as np

from envs.grid import Layout
from envs.grid_viewer import WALL, GridViewer, Kind, Scene
from envs.viewer import AGENT_NAMES, VERMILLION, YELLOW
from envs.windy_maze.state import State

_DOT = Kind("dot", "o", YELLOW, "disc")
_WIND = Kind("wind to the right", ">", "#D3ECFA", "wind")
_BLOWN = Kind("blown just now", "", VERMILLION, "ring")


class WindyMazeViewer(GridViewer[State]):
    """Draws the maze, the wind, the dots, the agents and whom the wind has just moved."""

    height = 320

    def __init__(
        self, layout: Layout, windy_cells: np.ndarray, ends: np.ndarray, time_limit: int
    ) -> None:
        """Makes the viewer.

        Args:
            layout: the map.
            windy_cells: [_, 2] where the wind blows.
            ends: [2, 2] where the dots lie.
            time_limit: steps of an episode, shown beside the step count.
        """
        super().__init__(layout.height, layout.width, (_DOT, WALL, _WIND, _BLOWN))
        self._walls = np.argwhere(layout.walls)
        self._windy_cells, self._ends, self._time_limit = windy_cells, ends, time_limit

    def scene(self, state: State) -> Scene:
        """What lies where; see the base class."""
        dots = np.asarray(state.dots)
        blown = np.flatnonzero(state.blown).tolist()
        return Scene(
            title="Windy Maze: eat the dots at both ends",
            status=(
                f"step {int(state.step_count)}/{self._time_limit}    "
                f"dots eaten {2 - int(dots.sum())}/2    "
                f"blown: {' and '.join(AGENT_NAMES[agent] for agent in blown) or 'nobody'}"
            ),
            things=[
                (WALL, self._walls),
                (_WIND, self._windy_cells),
                (_DOT, self._ends[dots]),
            ],
            agents=np.asarray(state.positions),
            marked=blown,
        )
