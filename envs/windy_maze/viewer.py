"""Pictures of `WindyMaze`."""

import numpy as np

from envs.grid_viewer import WALL, GridViewer, Kind, Scene
from envs.viewer import AGENT_NAMES, VERMILLION, YELLOW
from envs.windy_maze.env import State, WindyMaze

_DOT = Kind("dot", "o", YELLOW, "disc")
_WIND = Kind("wind to the right", ">", "#D3ECFA", "wind")
_BLOWN = Kind("blown just now", "", VERMILLION, "ring")


class WindyMazeViewer(GridViewer[State]):
    """Draws the maze, the wind, the dots, the agents and whom the wind has just moved."""

    height = 320

    def __init__(self, env: WindyMaze) -> None:
        """Makes the viewer.

        Args:
            env: the world, for its map and options.
        """
        super().__init__(env.layout.height, env.layout.width, (_DOT, WALL, _WIND, _BLOWN))
        self._env = env

    def scene(self, state: State) -> Scene:
        """What lies where; see the base class."""
        env = self._env
        dots = np.asarray(state.dots)
        blown = np.flatnonzero(state.blown).tolist()
        return Scene(
            title="Windy Maze: eat the dots at both ends",
            status=(
                f"step {int(state.step_count)}/{env.time_limit}    "
                f"dots eaten {2 - int(dots.sum())}/2    "
                f"blown: {' and '.join(AGENT_NAMES[agent] for agent in blown) or 'nobody'}"
            ),
            things=[
                (WALL, np.argwhere(env.layout.walls)),
                (_WIND, env.windy_cells),
                (_DOT, env.ends[dots]),
            ],
            agents=np.asarray(state.positions),
            marked=blown,
        )
