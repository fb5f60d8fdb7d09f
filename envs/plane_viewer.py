"""Pictures of worlds in the plane: a subclass says what lies where, as a `Scene`; it is drawn and printed."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from envs.viewer import BLACK, Viewer, one_state

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

StateT = TypeVar("StateT")
_Place = tuple[float, float]

# Of the field in a terminal, where a character is about twice as high as wide.
_COLUMNS, _ROWS = 60, 24


@dataclasses.dataclass(frozen=True)
class Look:
    """How one kind of thing looks.

    Attributes:
        name: in the legend.
        character: in a terminal, and in the legend there.
        shape: of the picture; a "line" is for the legend only.
        colour: of the picture.
    """

    name: str
    character: str
    shape: Literal["disc", "square", "diamond", "cross", "ring", "line"]
    colour: str


@dataclasses.dataclass(frozen=True)
class Thing:
    """One thing in the plane.

    Attributes:
        look: how it looks.
        place: (x, y) of its centre.
        radius: half its width.
        letter: written on it; also its character in a terminal, if it has no other.
        character: in a terminal.
        health: fraction in 0..1, how high it is filled with colour.
        lift: how far its letter stands above its centre, in radii; a lifted letter is smaller.
        says: in a bubble above it.
    """

    look: Look
    place: _Place
    radius: float
    letter: str = ""
    character: str = ""
    health: float = 1.0
    lift: float = 0.0
    says: str = ""


@dataclasses.dataclass(frozen=True)
class Scene:
    """One state as things in the plane.

    Attributes:
        title: in bold at the top.
        status: the line under it.
        corner: the smallest x and the smallest y that are shown.
        side: of the square that is shown.
        things: later ones cover earlier ones.
        shots: (from [2], to [2], colour).
        note: the line under the legend.
    """

    title: str
    status: str
    corner: tuple[float, float]
    side: float
    things: Sequence[Thing]
    shots: Sequence[tuple[np.ndarray, np.ndarray, str]] = ()
    note: str = ""


class PlaneViewer(Viewer[StateT]):
    """Draws things in the plane. A subclass implements `scene` and sets `legend`."""

    legend: Sequence[Look]

    @abc.abstractmethod
    def scene(self, state: StateT) -> Scene:
        """What lies where.

        Args:
            state: one state, its arrays as NumPy arrays.
        """

    def decorate(self, field: "Axes", scene: Scene) -> None:
        """Draws what lies under all things: nothing, if a subclass does not say otherwise."""

    def draw(self, figure: "Figure", state: StateT) -> None:
        """Draws one state; see the base class."""
        scene = self.scene(state)
        figure.text(0.5, 0.966, scene.title, fontsize=13, weight="bold", ha="center", va="center")
        figure.text(0.5, 0.925, scene.status, fontsize=10.5, ha="center", va="center")
        pixels = 0.885 * self.width
        (left, bottom), side = scene.corner, scene.side
        box = (0.06, 0.11, 0.885, pixels / self.height)
        field = _axes(figure, box, (left, left + side), (bottom, bottom + side))
        self.decorate(field, scene)
        for start, end, colour in scene.shots:
            field.plot(*zip(start, end, strict=True), color=colour, linewidth=1.2, zorder=2)
        points = 0.72 * pixels / side
        for i, thing in enumerate(scene.things):
            _draw(field, thing, points, 3 + i / len(scene.things))

        width, height = 0.96 * self.width, 0.085 * self.height
        legend = _axes(figure, (0.02, 0.0, 0.96, 0.085), (0.0, width), (0.0, height))
        legend.axis("off")
        x = 12.0
        for look in self.legend:
            _draw(legend, Thing(look, (x, 33.0), 7.5), 0.72, 3)
            text = legend.text(x + 13, 33, look.name, va="center_baseline", fontsize=9)
            x += 13 + text.get_window_extent().width + 22
        legend.text(4, 12, scene.note, va="center_baseline", fontsize=9)

    def text(self, state: StateT) -> str:
        """Draws a state for a terminal; see the base class."""
        scene = self.scene(one_state(state))
        grid = np.full((_ROWS, _COLUMNS), " ")
        for thing in reversed(scene.things):  # what is on top has the first choice
            character = thing.character or thing.letter or thing.look.character
            x = (thing.place[0] - scene.corner[0]) / scene.side
            y = (thing.place[1] - scene.corner[1]) / scene.side
            if character:
                grid[_free_cell(grid, x, y)] = character
        border = "+" + "-" * _COLUMNS + "+"
        known = [f"{look.character} {look.name}" for look in self.legend if look.character]
        lines = [scene.title, scene.status, border]
        lines += ["|" + "".join(row) + "|" for row in grid]
        lines += [border, "   ".join(known), scene.note]
        return "\n".join(lines)


def _free_cell(grid: np.ndarray, x: float, y: float) -> tuple[int, int]:
    """The cell for (x, y), each in 0..1, or the free one nearest to it in the same row."""
    row = min(max(int((1 - y) * _ROWS), 0), _ROWS - 1)
    distance = np.abs(np.arange(_COLUMNS) + 0.5 - x * _COLUMNS) + _COLUMNS * (grid[row] != " ")
    return row, int(distance.argmin())


def _axes(
    figure: "Figure",
    box: tuple[float, float, float, float],
    x: tuple[float, float],
    y: tuple[float, float],
) -> "Axes":
    axes = figure.add_axes(box)
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#F7F7F7")
    for spine in axes.spines.values():
        spine.set_edgecolor("#888888")
    return axes


def _draw(axes: "Axes", thing: Thing, points: float, layer: float) -> None:
    """Draws one thing; `points` is the length of 1 in typographic points."""
    (x, y), r, look = thing.place, thing.radius, thing.look
    if look.shape == "line":
        axes.plot([x - r, x + r], [y, y], color=look.colour, linewidth=1.2, zorder=layer)
    elif look.shape == "cross":
        for rise in (-r, r):
            ends = [y - rise, y + rise]
            axes.plot([x - r, x + r], ends, color=look.colour, linewidth=1.8, zorder=layer)
    else:
        _draw_shape(axes, thing, layer)
    if thing.letter:
        size = (0.85 if thing.lift else 1.25) * r * points
        _write(axes, x, y + thing.lift * r, thing.letter, size, layer + 0.002)
    if thing.says:
        bubble = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "#666666"}
        axes.text(x, y + 1.6 * r, thing.says, ha="center", fontsize=9, bbox=bubble, zorder=9)


def _draw_shape(axes: "Axes", thing: Thing, layer: float) -> None:
    """Draws what has an inside, filled from the bottom as far as its health goes."""
    from matplotlib.patches import Circle, Patch, Polygon, Rectangle

    (x, y), r, look = thing.place, thing.radius, thing.look
    outline: Patch
    if look.shape == "square":
        outline = Rectangle((x - 0.9 * r, y - 0.9 * r), 1.8 * r, 1.8 * r)
    elif look.shape == "diamond":
        outline = Polygon([(x - r, y), (x, y + r), (x + r, y), (x, y - r)])
    else:
        outline = Circle((x, y), r)
    if look.shape == "ring":
        outline.set(fill=False, edgecolor=look.colour, linewidth=3, zorder=layer)
        axes.add_patch(outline)
        return
    edge, width = (BLACK, 0.9) if thing.health == 1.0 else (look.colour, 1.5)
    outline.set(fill=False, edgecolor=edge, linewidth=width, zorder=layer + 0.001)
    axes.add_patch(outline)
    for share, colour in ((1.0, "white"), (thing.health, look.colour)):
        filling = Rectangle((x - r, y - r), 2 * r, 2 * r * share, facecolor=colour)
        filling.set(linewidth=0, zorder=layer)
        axes.add_patch(filling)
        filling.set_clip_path(outline)


def _write(axes: "Axes", x: float, y: float, letter: str, size: float, layer: float) -> None:
    """A black letter with a white edge, to be read on every colour."""
    from matplotlib.patheffects import withStroke

    text = axes.text(x, y, letter, ha="center", va="center_baseline", fontsize=size, zorder=layer)
    text.set(weight="bold", path_effects=[withStroke(linewidth=size / 5, foreground="white")])
