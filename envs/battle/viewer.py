"""Pictures of `Battle`."""

import numpy as np

from envs.battle.state import State
from envs.grid_viewer import WALL, GridViewer, Kind, Scene
from envs.viewer import BLUE, SKY_BLUE, VERMILLION, YELLOW

_AGENT = Kind("agent", "A", VERMILLION, "square")
_WEAK_AGENT = Kind("agent, weak", "a", "#F4B183", "square")
_ENEMY = Kind("enemy", "E", BLUE, "square")
_WEAK_ENEMY = Kind("enemy, weak", "e", SKY_BLUE, "square")
_HIT = Kind("hit just now", "", YELLOW, "disc")


class BattleViewer(GridViewer[State]):
    """Draws both sides, paler where less than half of a unit's health is left, and who was hit."""

    def __init__(self, size: int, is_red: np.ndarray, most: np.ndarray, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            size: side of the map.
            is_red: [U] bool, which units are of the first side.
            most: [U] int32, health at the start.
            time_limit: steps of an episode, shown beside the step count.
        """
        legend = (_AGENT, _WEAK_AGENT, _ENEMY, _WEAK_ENEMY, _HIT, WALL)
        super().__init__(size, size, legend)
        self._is_red, self._most, self._time_limit = is_red, most, time_limit
        inside = np.pad(np.ones((size - 2, size - 2), bool), 1)
        self._walls = np.argwhere(~inside)

    def scene(self, state: State) -> Scene:
        """What lies where; see the base class."""
        cells = np.concatenate([state.positions, state.enemies])
        red, alive = self._is_red, state.health >= 0
        weak = state.health < self._most / 2
        return Scene(
            title="Battle: red agents fight blue enemies",
            status=(
                f"step {int(state.step_count)}/{self._time_limit}    "
                f"{int(state.kills)} kills, {int(state.deaths)} deaths    "
                f"{int((red & alive).sum())} against {int((~red & alive).sum())}"
            ),
            things=[
                (WALL, self._walls),
                (_AGENT, cells[alive & red & ~weak]),
                (_WEAK_AGENT, cells[alive & red & weak]),
                (_ENEMY, cells[alive & ~red & ~weak]),
                (_WEAK_ENEMY, cells[alive & ~red & weak]),
                (_HIT, cells[alive & np.asarray(state.hit)]),
            ],
            agents=np.zeros((0, 2), int),
        )
