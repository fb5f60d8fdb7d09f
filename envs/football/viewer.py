"""Pictures of `Football`."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.football.rules import LENGTH, POST, WIDTH
from envs.football.state import State
from envs.plane_viewer import Look, PlaneViewer, Scene, Thing
from envs.viewer import BLACK, BLUE, GREY, SKY_BLUE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AGENT = Look("agent", "A", "disc", VERMILLION)
_DEFENDER = Look("defender", "d", "disc", BLUE)
_KEEPER = Look("keeper", "K", "square", SKY_BLUE)
_BALL = Look("ball", "o", "disc", BLACK)
_FLIGHT = Look("its way", "", "line", GREY)
_SIDE = 1.0  # half the pitch's length, so that players are to be seen; the picture follows the ball


class FootballViewer(PlaneViewer[State]):
    """Draws both sides, the ball and where it flies, on the half of the pitch where it is."""

    legend = (_AGENT, _DEFENDER, _KEEPER, _BALL, _FLIGHT)

    def __init__(self, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            time_limit: steps of an episode, shown beside the step count.
        """
        self._time_limit = time_limit

    def scene(self, state: State) -> Scene:
        """What lies where; see the base class."""
        ball, flight = np.asarray(state.ball) / LENGTH, np.asarray(state.flight) / LENGTH
        # Steps of a quarter, so that the picture does not creep.
        left = (
            min(max(math.floor(4 * (float(ball[0]) - 0.6 * _SIDE)) / 4, -1.0), 1.0 - _SIDE) + 0.03
        )
        agents = [Thing(_AGENT, place, 0.018) for place in _places(state.positions)]
        keeper, *field = _places(state.defenders)
        defenders = [Thing(_DEFENDER, place, 0.018) for place in field]
        things = [*defenders, Thing(_KEEPER, keeper, 0.018), *agents]
        things.append(Thing(_BALL, (float(ball[0]), float(ball[1])), 0.009))
        return Scene(
            title="Football: agents attack the goal on the right",
            status=f"step {int(state.step_count)}/{self._time_limit}    {self._whose(state)}",
            corner=(left, -_SIDE / 2),
            side=_SIDE,
            things=[thing for thing in things if left <= thing.place[0] <= left + _SIDE],
            shots=[(ball, ball + flight, GREY)] if flight.any() else [],
            note="aim: a goal, before a defender has the ball or it is out",
        )

    def _whose(self, state: State) -> str:
        owner, agents = int(state.owner), len(state.positions)
        if state.scored:
            return "goal"
        if owner < 0:
            return "the ball is free"
        return f"agent {owner} has the ball" if owner < agents else "a defender has the ball"

    def decorate(self, field: "Axes", scene: Scene) -> None:
        """Draws the lines of the pitch and the goal."""
        from matplotlib.patches import Rectangle

        width, post = WIDTH / LENGTH, POST / LENGTH
        pitch = Rectangle((-1, -width), 2, 2 * width, facecolor="#E9F3E4", zorder=0)
        pitch.set(edgecolor="#7A9A6A", linewidth=1.5)
        field.add_patch(pitch)
        field.plot([0, 0], [-width, width], color="#7A9A6A", linewidth=1, zorder=1)
        field.plot([1, 1], [-post, post], color=BLACK, linewidth=5, zorder=1)


def _places(positions: Any) -> list[tuple[float, float]]:
    """(x, y) of positions [K, 2], in halves of the pitch's length."""
    return [(float(x), float(y)) for x, y in positions / LENGTH]
