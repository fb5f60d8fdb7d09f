"""Pictures of `Pursuit1D`."""

from typing import TYPE_CHECKING, Any

from envs.pursuit_1d.state import REWARD, State
from envs.viewer import AGENT_NAMES, BLACK, BLUE, GREEN, GREY, ORANGE, Viewer, one_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (BLUE, ORANGE)
_LETTERS = ("white", BLACK)
_EDGE = 14  # larger values are drawn here, with an arrow


class Pursuit1DViewer(Viewer[State]):
    """Draws the number line with the target, both agents' values and the score."""

    height = 300

    def __init__(self, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            time_limit: steps of an episode, shown beside the step count.
        """
        self._time_limit = time_limit

    def draw(self, figure: "Figure", state: State) -> None:
        """Draws one state; see the base class."""
        from matplotlib.patches import Circle

        title, status, values = self._lines(state)
        centre: Any = {"ha": "center", "va": "center"}
        figure.text(0.5, 0.935, title, fontsize=14, weight="bold", **centre)
        figure.text(0.5, 0.855, status, fontsize=9.5, **centre)
        figure.text(0.5, 0.1, values, fontsize=9.5, **centre)

        # One unit is as long upwards as sideways, so that discs are round.
        axes = figure.add_axes((0.02, 0.13, 0.96, 0.67))
        axes.set_xlim(-_EDGE - 1.5, _EDGE + 1.5)
        axes.set_ylim(-5.4, 8.1)
        axes.set_aspect("equal")
        axes.axis("off")
        axes.plot([0, 0], [-1.6, 6.6], color=GREEN, linewidth=3, linestyle=(0, (2, 1)), zorder=1)
        axes.text(
            0, 6.9, "target", color=GREEN, ha="center", va="bottom", fontsize=11, weight="bold"
        )
        axes.plot([-_EDGE, _EDGE], [-1.6, -1.6], color=BLACK, linewidth=1.5)
        for x in range(-_EDGE, _EDGE + 1):
            axes.plot([x, x], [-1.6, -2.2 if x % 5 == 0 else -1.9], color=BLACK, linewidth=1)
            if x % 5 == 0:
                axes.text(x, -2.5, str(x), ha="center", va="top", fontsize=10)

        for agent, value in enumerate(int(v) for v in state.values):
            x, y = max(-_EDGE, min(_EDGE, value)), (4.8, 1.4)[agent]
            axes.plot([0, x], [y, y], color=_COLOURS[agent], linewidth=3, alpha=0.5, zorder=2)
            disc = Circle((x, y), 1.2, facecolor=_COLOURS[agent], edgecolor=BLACK, zorder=3)
            disc.set_linewidth(1.5)
            axes.add_patch(disc)
            axes.text(
                x,
                y,
                AGENT_NAMES[agent],
                color=_LETTERS[agent],
                ha="center",
                va="center_baseline",
                fontsize=12,
                weight="bold",
                zorder=4,
            )
            axes.plot([x, x], [y - 1.2, -1.6], color=GREY, linewidth=1, linestyle=":", zorder=1)
            if x != value:
                if value > 0:
                    label, side, shift = f"{value} \N{RIGHTWARDS ARROW}", "right", -1.5
                else:
                    label, side, shift = f"\N{LEFTWARDS ARROW} {value}", "left", 1.5
                axes.text(x + shift, y + 0.2, label, ha=side, va="bottom", fontsize=10)

    def text(self, state: State) -> str:
        """Draws a state for a terminal; see the base class."""
        state = one_state(state)
        title, status, values = self._lines(state)
        line = range(-_EDGE, _EDGE + 1)
        picture = [_row({0: "target"})]
        for name, value in zip(AGENT_NAMES, state.values.tolist(), strict=False):
            x = max(-_EDGE, min(_EDGE, value))
            beyond = {-1: f"<{name} ", 0: name, 1: f" {name}>"}[(value > x) - (value < x)]
            picture.append(_row({**dict.fromkeys(line, "."), 0: "|", x: beyond}))
        picture.append(_row({x: str(x) for x in line if x % 5 == 0}))
        return "\n".join([title, status, "", *picture, "", values])

    def _lines(self, state: State) -> tuple[str, str, str]:
        """The title, the line under it and the one at the bottom."""
        a, b = (int(value) for value in state.values)
        return (
            "1D Pursuit: both must approach 0",
            f"step {int(state.step_count)}/{self._time_limit}    "
            f"good moves: {int(state.good_actions)}    "
            f"bad moves: {int(state.bad_actions)}    "
            f"return {REWARD * int(state.net_joint_moves):+.2f}",
            f"A = {a}, B = {b}.  The agents do not know where the target is.",
        )


def _row(marks: dict[int, str]) -> str:
    """Marks on the number line, each centred on its value; later ones cover earlier ones."""
    row = [" "] * (2 * (2 * _EDGE + 1) + 4)
    for x, mark in marks.items():
        start = 2 * (x + _EDGE) + 2 - len(mark) // 2
        row[start : start + len(mark)] = mark
    return "".join(row).rstrip()
