"""Pictures of `Firefighters`."""

import numpy as np

from envs.firefighters.state import State
from envs.grid_viewer import WALL, GridViewer, Kind, Scene
from envs.viewer import SKY_BLUE, VERMILLION

_FIRE = Kind("fire", "^", VERMILLION, "flame")
_RIVER = Kind("river", "~", SKY_BLUE)


class FirefightersViewer(GridViewer[State]):
    """Draws the map with rivers and fires, the agents and what the tank holds."""

    def __init__(self, walls: np.ndarray, river: np.ndarray, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            walls: [H, W] bool.
            river: [H, W] bool.
            time_limit: steps of an episode, shown beside the step count.
        """
        super().__init__(walls.shape[0], walls.shape[1], [_FIRE, _RIVER, WALL])
        self._walls = np.argwhere(walls)
        self._river = np.argwhere(river)
        self._time_limit = time_limit

    def scene(self, state: State) -> Scene:
        """What lies where; see the base class."""
        return Scene(
            title="Firefighters: put out all fires",
            status=f"step {int(state.step_count)}/{self._time_limit}    "
            f"put out {int((~state.burning).sum())} of {state.burning.size}    "
            f"water in the tank: {int(state.tank)}",
            things=[
                (WALL, self._walls),
                (_RIVER, self._river),
                (_FIRE, np.asarray(state.fires)[state.burning]),
            ],
            agents=np.asarray(state.positions),
        )
