"""Pictures of `Turn`."""

from typing import TYPE_CHECKING, Any

from envs.turn.state import SIZE, State
from envs.viewer import (
    AGENT_NAMES,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    Viewer,
    one_state,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (BLUE, ORANGE)
_LETTERS = ("white", BLACK)


class TurnViewer(Viewer[State]):
    """Draws the field, the agents (the trapped one behind bars), the apple and the score."""

    def __init__(self, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            time_limit: steps of an episode, shown beside the step count.
        """
        self._time_limit = time_limit

    def draw(self, figure: "Figure", state: State) -> None:
        """Draws one state; see the base class."""
        free = int(state.turn)
        title, status = self._headlines(state)
        centre: Any = {"ha": "center", "va": "center"}
        figure.text(0.5, 0.96, title, fontsize=14, weight="bold", **centre)
        figure.text(0.5, 0.915, status, fontsize=11, **centre)

        field = _axes(figure, (0.09, 0.11, 0.82, 0.7289), (-0.5, SIZE - 0.5), (SIZE - 0.5, -0.5))
        field.set_xticks(range(SIZE))
        field.set_yticks(range(SIZE))
        field.tick_params(length=0, labelsize=9, colors="#555555", labeltop=True, labelbottom=False)
        for i in range(SIZE + 1):
            field.axhline(i - 0.5, color="#BBBBBB", linewidth=1, clip_on=False)
            field.axvline(i - 0.5, color="#BBBBBB", linewidth=1, clip_on=False)
        row, column = state.apple
        _apple(field, column, row - 0.25, 0.15)
        for agent, (row, column) in enumerate(state.positions):
            _agent(field, column + (-0.23, 0.23)[agent], row + 0.2, 0.22, agent, agent != free)

        legend = _axes(figure, (0.02, 0.005, 0.96, 0.095), (0.0, 9.6), (1.0, -0.0689))
        _agent(legend, 0.5, 0.45, 0.3, free, False)
        legend.text(0.95, 0.45, "free: moves, eats", va="center", fontsize=9.5)
        _agent(legend, 4.0, 0.45, 0.3, 1 - free, True)
        legend.text(4.45, 0.45, "trapped: must stay", va="center", fontsize=9.5)
        _apple(legend, 7.7, 0.45, 0.22)
        legend.text(8.05, 0.45, "apple: +10", va="center", fontsize=9.5)
        legend.axis("off")

    def text(self, state: State) -> str:
        """Draws a state for a terminal; see the base class."""
        state = one_state(state)
        free = int(state.turn)
        names = list(AGENT_NAMES[:2])
        names[1 - free] = f"[{names[1 - free]}]"
        cells = [["" for _ in range(SIZE)] for _ in range(SIZE)]
        for name, (row, column) in zip((*names, "o"), (*state.positions, state.apple), strict=True):
            cells[row][column] += name
        field = ["".join(f"{cell or '.':<6}" for cell in row).rstrip() for row in cells]
        legend = f"{names[free]} free: moves, eats   {names[1 - free]} trapped: must stay   "
        return "\n".join([*self._headlines(state), "", *field, "", legend + "o apple: +10"])

    def _headlines(self, state: State) -> tuple[str, str]:
        """The title and the line under it."""
        free = int(state.turn)
        apples, penalties = int(state.apples_eaten), int(state.penalties)
        return (
            f"Turn: agent {AGENT_NAMES[free]} is free, {AGENT_NAMES[1 - free]} is trapped",
            f"step {int(state.step_count)}/{self._time_limit}    apples eaten {apples}    "
            f"return so far {10 * apples - penalties:+d}",
        )


def _axes(figure: "Figure", box: Any, x: tuple[float, float], y: tuple[float, float]) -> "Axes":
    axes = figure.add_axes(box)
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _agent(axes: "Axes", x: float, y: float, radius: float, agent: int, trapped: bool) -> None:
    """A disc with the agent's letter; behind bars if trapped, in a thick ring if free."""
    from matplotlib.patches import Circle, Rectangle

    edge, thickness = (GREY, 1.0) if trapped else (BLACK, 2.5)
    axes.add_patch(
        Circle((x, y), radius, facecolor=_COLOURS[agent], edgecolor=edge, linewidth=thickness)
    )
    axes.text(
        x,
        y,
        AGENT_NAMES[agent],
        color=_LETTERS[agent],
        ha="center",
        va="center_baseline",
        fontsize=13,
        weight="bold",
        zorder=4,
    )
    if trapped:
        corner, side = (x - 1.1 * radius, y - 1.1 * radius), 2.2 * radius
        cage = Rectangle(corner, side, side, fill=False, edgecolor="#444444", linewidth=2)
        axes.add_patch(cage)
        for bar in (-0.62, 0.62):
            ends = [y - 1.1 * radius, y + 1.1 * radius]
            axes.plot([x + bar * radius] * 2, ends, color="#444444", linewidth=2, zorder=3)


def _apple(axes: "Axes", x: float, y: float, radius: float) -> None:
    """A disc with a stalk and a leaf."""
    from matplotlib.patches import Circle, Ellipse

    stalk = [y - 0.8 * radius, y - 1.4 * radius]
    axes.plot([x, x + 0.2 * radius], stalk, color=BLACK, linewidth=1.5)
    axes.add_patch(Circle((x, y), radius, facecolor=VERMILLION, edgecolor=BLACK, linewidth=1))
    leaf = (x + 0.65 * radius, y - 1.2 * radius)
    axes.add_patch(Ellipse(leaf, 0.9 * radius, 0.45 * radius, angle=-20, facecolor=GREEN))
