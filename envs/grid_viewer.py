"""Pictures of grid worlds: a subclass says what lies where, as a `Scene`; it is drawn and printed."""

import abc
import dataclasses
import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from envs.viewer import (
    AGENT_NAMES,
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
    Viewer,
    one_state,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AGENT_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
_LETTERS = ("white", BLACK, "white", BLACK)
_FLOOR = "#F4F4F4"

StateT = TypeVar("StateT")

Shape = Literal["tile", "wind", "disc", "flame", "square", "ring", "letter"]
_FLAT = ("tile", "wind")

_LINE = 24.3  # pixels from one line of text to the next
_LEAST_RADIUS = 6  # pixels of an agent's disc, which may reach over its cell on a large map


@dataclasses.dataclass(frozen=True)
class Kind:
    """How one kind of thing looks.

    Attributes:
        name: in the legend.
        character: in a terminal; "" if it is seen in pictures only.
        colour: of the picture.
        shape: "tile" fills the cell and is drawn first, "wind" too, with small arrows to the
            right; "ring" is for the legend, see `Scene.marked`; the others lie on the cell,
            "letter" as a tile with its character on it.
    """

    name: str
    character: str
    colour: str
    shape: Shape = "tile"


WALL = Kind("wall", "#", "#4D4D4D")


@dataclasses.dataclass(frozen=True)
class Scene:
    """One state as things on a grid.

    Attributes:
        title: in bold at the top.
        status: the line under it.
        things: kinds and the cells [K, 2] (row, column) where they lie; later ones cover earlier
            ones.
        agents: [N, 2] (row, column); none where a world draws its agents as things.
        marked: numbers of agents that are drawn in a thick ring, to say what happened to them.
    """

    title: str
    status: str
    things: Sequence[tuple[Kind, np.ndarray]]
    agents: np.ndarray
    marked: Sequence[int] = ()


class GridViewer(Viewer[StateT]):
    """Draws a grid world. A subclass implements `scene`.

    In a picture an agent is a disc with its letter; agents in one cell stand beside each other. In
    a terminal it is its letter, and an asterisk where several agents share a cell.
    """

    def __init__(self, height: int, width: int, legend: Sequence[Kind]) -> None:
        """Makes the viewer.

        Args:
            height: rows of the grid.
            width: columns of the grid.
            legend: the kinds that the legend explains.
        """
        self._rows = height
        self._columns = width
        self._legend = tuple(legend)

    @abc.abstractmethod
    def scene(self, state: StateT) -> Scene:
        """What lies where.

        Args:
            state: one state, its arrays as NumPy arrays.
        """

    def draw(self, figure: "Figure", state: StateT) -> None:
        """Draws one state; see the base class."""
        scene = self.scene(state)
        centre: Any = {"ha": "center", "va": "center"}
        line = _LINE / self.height
        figure.text(0.5, 1 - 0.78 * line, scene.title, fontsize=14, weight="bold", **centre)
        # A long line is set smaller, so that it stays within the picture.
        size = 10.5 * min(1.0, 0.125 * self.width / len(scene.status))
        figure.text(0.5, 1 - 1.73 * line, scene.status, fontsize=size, **centre)
        entries: list[Kind | None] = [*([None] if len(scene.agents) else []), *self._legend]
        lines = math.ceil(len(entries) / 3)
        bottom = (0.45 + lines) * line
        share = 1 - 2.55 * line - bottom

        field = _axes(figure, (0.02, bottom + 0.2 * line, 0.96, share))
        field.set_xlim(-0.5, self._columns - 0.5)
        field.set_ylim(self._rows - 0.5, -0.5)
        _fill(field, (-0.5, -0.5), self._columns, self._rows, _FLOOR)
        occupied = set()
        for kind, cells in sorted(scene.things, key=lambda thing: thing[0].shape not in _FLAT):
            for row, column in np.asarray(cells).reshape(-1, 2).tolist():
                _thing(field, column, row, kind)
                if kind.shape not in _FLAT:
                    occupied.add((row, column))
        for i in range(self._rows + 1):
            field.plot([-0.5, self._columns - 0.5], [i - 0.5] * 2, color="#D9D9D9", linewidth=0.5)
        for i in range(self._columns + 1):
            field.plot([i - 0.5] * 2, [-0.5, self._rows - 0.5], color="#D9D9D9", linewidth=0.5)
        points_per_cell = self._points_per_cell(share)
        least = min(_LEAST_RADIUS * 0.72 / points_per_cell, 0.42)
        for agent, (x, y, radius) in enumerate(_places(scene.agents, occupied, least)):
            _agent(field, x, y, radius, agent, points_per_cell)
            if agent in scene.marked:
                _ring(field, x, y, radius)

        legend = _axes(figure, (0.03, 0.2 * line, 0.94, bottom - 0.2 * line))
        legend.set_xlim(0, 3 * 6.6)
        legend.set_ylim(lines, 0)
        legend.set_aspect("auto")
        points = 0.72 * _LINE
        for i, entry in enumerate(entries):
            x, y = 6.6 * (i % 3), i // 3 + 0.5
            box = _axes(figure, (0, 0, 0.05, 0.03))
            left, top = 0.03 + 0.94 * x / (3 * 6.6), bottom - (bottom - 0.2 * line) * y / lines
            box.set_position((left, top - 0.38 * line, 0.038, 0.76 * line))
            box.set_xlim(-0.53, 0.53)
            box.set_ylim(0.53, -0.53)
            if entry is None:
                _agent(box, 0, 0, 0.45, 0, points)
            else:
                if entry.shape not in _FLAT:
                    _fill(box, (-0.5, -0.5), 1, 1, _FLOOR)
                _thing(box, 0, 0, entry)
            name = "agents A, B, ..." if entry is None else entry.name
            if entry is None and len(scene.agents) <= 4:
                name = "agents " + ", ".join(AGENT_NAMES[: len(scene.agents)])
            legend.text(x + 1.05, y, name, va="center", fontsize=9.5)

    def text(self, state: StateT) -> str:
        """Draws a state for a terminal; see the base class."""
        scene = self.scene(one_state(state))
        grid = np.full((self._rows, self._columns), ".")
        for kind, cells in sorted(scene.things, key=lambda thing: thing[0].shape not in _FLAT):
            if kind.character:
                grid[tuple(np.asarray(cells).reshape(-1, 2).T)] = kind.character
        for agent, cell in enumerate(map(tuple, scene.agents.tolist())):
            here = int((scene.agents == cell).all(-1).sum())
            grid[cell] = AGENT_NAMES[agent] if here == 1 else "*"
        kinds = [kind for kind in self._legend if kind.character]
        # No line breaks within an entry.
        entries = [f"{kind.character} {kind.name}".replace(" ", "\0") for kind in kinds]
        legend = textwrap.fill("   ".join(entries), 80).replace("\0", " ")
        shared = "* several agents in one cell"
        places = "  ".join(
            f"{AGENT_NAMES[i]} at ({row}, {column})"
            for i, (row, column) in enumerate(scene.agents.tolist())
        )
        lines = [scene.title, scene.status, ""]
        gap = " " if self._columns <= 40 else ""
        lines += [gap.join(row) for row in grid]
        lines += ["", places, legend, shared] if len(scene.agents) else ["", legend]
        return "\n".join(lines)

    def _points_per_cell(self, share: float) -> float:
        pixels = min(0.96 * self.width / self._columns, share * self.height / self._rows)
        return 0.72 * pixels


def _axes(figure: "Figure", box: tuple[float, float, float, float]) -> "Axes":
    axes = figure.add_axes(box)
    axes.set_aspect("equal")
    axes.axis("off")
    return axes


def _places(
    agents: np.ndarray, occupied: set[tuple[int, int]], least: float
) -> list[tuple[float, float, float]]:
    """Centre and radius of each agent's disc: beside each other, and beside the thing, in a cell."""
    places = []
    cells = [tuple(cell) for cell in agents.tolist()]
    for agent, cell in enumerate(cells):
        sharing = [i for i, other in enumerate(cells) if other == cell]
        row, column = cell
        if len(sharing) == 1:
            shift = 0.14 if cell in occupied else 0.0
            places.append((column + shift, row + shift, max(0.42 - 0.6 * shift, least)))
            continue
        angle = 2 * math.pi * sharing.index(agent) / len(sharing) + math.pi
        radius = max(0.25 if len(sharing) == 2 else 0.22, least)
        apart = max(0.24, least)
        places.append((column + apart * math.cos(angle), row + apart * math.sin(angle), radius))
    return places


def _agent(axes: "Axes", x: float, y: float, radius: float, agent: int, points: float) -> None:
    """A disc with the agent's letter; `points` is the height of a cell in typographic points."""
    from matplotlib.patches import Circle

    colour = AGENT_COLOURS[agent % len(AGENT_COLOURS)]
    disc = Circle((x, y), radius, facecolor=colour, edgecolor=BLACK, linewidth=1.2, zorder=5)
    disc.set_clip_on(False)
    axes.add_patch(disc)
    axes.text(
        x,
        y,
        AGENT_NAMES[agent % len(AGENT_NAMES)],
        color=_LETTERS[agent % len(_LETTERS)],
        ha="center",
        va="center_baseline",
        fontsize=1.35 * radius * points,
        weight="bold",
        zorder=6,
    )


def _ring(axes: "Axes", x: float, y: float, radius: float) -> None:
    """A thick ring around a disc."""
    from matplotlib.patches import Circle

    ring = Circle((x, y), radius + 0.03, fill=False, edgecolor=VERMILLION, linewidth=4, zorder=7)
    axes.add_patch(ring)


def _letter(axes: "Axes", x: float, y: float, character: str) -> None:
    """A character that grows with its cell."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    path = TextPath((0, 0), character, size=1.0, prop=FontProperties(weight="bold"))
    (left, bottom), (right, top) = path.get_extents().get_points()
    centred = Affine2D().translate(-(left + right) / 2, -(bottom + top) / 2)
    place = centred.scale(1, -1).translate(x, y)
    axes.add_patch(PathPatch(place.transform_path(path), facecolor=BLACK, linewidth=0, zorder=4))


def _fill(
    axes: "Axes", corner: tuple[float, float], width: float, height: float, colour: str
) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, width, height, facecolor=colour, linewidth=0, zorder=0))


def _thing(axes: "Axes", x: float, y: float, kind: Kind) -> None:
    """One thing, in the cell whose centre is (x, y)."""
    from matplotlib.patches import Circle, Polygon, Rectangle

    style: Any = {"facecolor": kind.colour, "edgecolor": BLACK, "linewidth": 0.8, "zorder": 3}
    if kind.shape in _FLAT:
        _fill(axes, (x - 0.5, y - 0.5), 1, 1, kind.colour)
        if kind.shape == "wind":
            for left, down in itertools.product((-0.42, 0.06), (-0.36, 0.36)):
                columns = x + left + np.array([0, 0.36, 0.26, 0.36, 0.26])
                rows = y + down + np.array([0, 0, -0.08, 0, 0.08])
                axes.plot(columns, rows, color=SKY_BLUE, linewidth=1.2, zorder=1)
    elif kind.shape == "ring":
        _ring(axes, x, y, 0.3)
    elif kind.shape == "disc":
        axes.add_patch(Circle((x - 0.12, y - 0.12), 0.24, **style))
    elif kind.shape == "letter":
        _fill(axes, (x - 0.5, y - 0.5), 1, 1, kind.colour)
        _letter(axes, x, y, kind.character)
    elif kind.shape == "square":
        axes.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, **style))
    elif kind.shape == "flame":
        left_half = ((-0.3, 0.35), (-0.4, 0.0), (-0.2, -0.15), (0, -0.48))
        right_half = ((0.2, -0.1), (0.4, 0.1), (0.28, 0.35))
        points = [(x + right, y + down) for right, down in left_half + right_half]
        axes.add_patch(Polygon(points, closed=True, **style))
