"""Pictures of SMAX and MPE: a viewer says what lies where in the plane, as a `Scene`."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from envs.viewer import (
    AGENT_NAMES,
    BLACK,
    BLUE,
    GREEN,
    GREY,
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

    from envs.bridges.jaxmarl import MPEState, SMAXState

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


# --- SMAX ---

ALLY = Look("ally (filled: health)", "capital", "disc", BLUE)
ENEMY = Look("enemy", "small", "square", VERMILLION)
DEAD = Look("dead", "x", "cross", GREY)
SHOT = Look("shoots at", "", "line", BLACK)
# Of marine, marauder, stalker, zealot, zergling, hydralisk; in a terminal, enemies are small.
_UNIT_LETTERS = "MRSZGH"


class SMAXViewer(PlaneViewer["SMAXState"]):
    """Draws the battlefield: units with letters and health, who shoots at whom, the dead."""

    legend = (ALLY, ENEMY, DEAD, SHOT)

    def __init__(self, scenario: str, source: Any, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            scenario: its name.
            source: JaxMARL's environment.
            time_limit: steps of an episode, shown beside the step count.
        """
        self._scenario = scenario
        self._time_limit = time_limit
        self._allies = source.num_allies
        self._first_attack = source.num_movement_actions
        self._side = float(source.map_width)
        self._kinds = tuple(zip(_UNIT_LETTERS, source.unit_type_names, strict=True))
        self._full_health = np.asarray(source.unit_type_health)
        self._ranges = np.asarray(source.unit_type_attack_ranges)
        self._radii = np.asarray(source.unit_type_radiuses)

    def scene(self, state: "SMAXState") -> Scene:
        """What lies where; see the base class."""
        battle, n = state.inner.state, self._allies
        allies, enemies = int(battle.unit_alive[:n].sum()), int(battle.unit_alive[n:].sum())
        step, total = f"step {int(state.step_count)}/{self._time_limit}", len(battle.unit_alive)
        present = [
            f"{letter} {name}"
            for i, (letter, name) in enumerate(self._kinds)
            if i in battle.unit_types
        ]
        corner, side = self._window(battle)
        return Scene(
            title=f"SMAX {self._scenario}: {self._outcome(allies, enemies, int(state.step_count))}",
            status=f"{step}    allies {allies}/{n}    enemies {enemies}/{total - n}",
            corner=corner,
            side=side,
            things=self._units(battle, side),
            shots=self._shots(battle),
            note=", ".join(present),
        )

    def decorate(self, field: "Axes", scene: Scene) -> None:
        """Draws a grid with the map's coordinates, because the picture follows the battle."""
        from matplotlib.ticker import MultipleLocator

        for axis in (field.xaxis, field.yaxis):
            axis.set_major_locator(MultipleLocator(4))
        field.grid(color="#E2E2E2", linewidth=0.8, zorder=0)
        field.set_axisbelow(True)
        field.tick_params(length=0, labelsize=6.5, labelcolor="#777777", pad=2)

    def _window(self, battle: Any) -> tuple[tuple[float, float], float]:
        """Corner and side of the square that is shown: all living units, else all."""
        shown = battle.unit_positions[battle.unit_alive | ~battle.unit_alive.any()]
        low, high = shown.min(0) - 1.5, shown.max(0) + 1.5
        side = min(max(8.0 * math.ceil((high - low).max() / 8), 16.0), self._side)
        corner = np.clip(2 * np.round((low + high - side) / 4), 0, self._side - side)
        return (float(corner[0]), float(corner[1])), side

    def _outcome(self, allies: int, enemies: int, step: int) -> str:
        if allies > 0 and enemies > 0:
            return "battle" if step < self._time_limit else "time is up"
        return "victory" if allies > 0 else "defeat" if enemies > 0 else "draw"

    def _units(self, battle: Any, side: float) -> list[Thing]:
        """The dead first, so that the living cover them."""
        growth = 1.0 + side / 64  # a little larger than life, for the letters
        things = []
        for i in np.argsort(battle.unit_alive, kind="stable"):
            kind = battle.unit_types[i]
            x, y = map(float, battle.unit_positions[i])
            if not battle.unit_alive[i]:
                things.append(Thing(DEAD, (x, y), 0.35))
                continue
            look = ALLY if i < self._allies else ENEMY
            letter = _UNIT_LETTERS[kind]
            character = letter if look is ALLY else letter.lower()
            health = float(battle.unit_health[i] / self._full_health[kind])
            radius = growth * float(self._radii[kind])
            things.append(Thing(look, (x, y), radius, letter, character, health))
        return things

    def _shots(self, battle: Any) -> list[tuple[np.ndarray, np.ndarray, str]]:
        """From every living unit that was told to attack to its target, if that is in range."""
        shots, n = [], self._allies
        for i, action in enumerate(battle.prev_attack_actions):
            if action < self._first_attack or not battle.unit_alive[i]:
                continue
            number = int(action) - self._first_attack
            # Enemies count their targets from the last ally to the first.
            target = n + number if i < n else n - 1 - number
            start, end = battle.unit_positions[i], battle.unit_positions[target]
            if np.linalg.norm(end - start) < self._ranges[battle.unit_types[i]]:
                shots.append((start, end, BLUE if i < n else VERMILLION))
        return shots


# --- MPE ---

AGENT = Look("agent", "ABC", "disc", BLUE)
LANDMARK = Look("landmark", "o", "diamond", GREY)
COVERED = Look("covered landmark", "@", "diamond", GREEN)
TOUCHING = Look("touching", "", "ring", VERMILLION)


class _MPEViewer(PlaneViewer["MPEState"]):
    """What the tasks of MPE have in common."""

    name: str
    aim: str

    def __init__(self, source: Any, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            source: JaxMARL's environment.
            time_limit: steps of an episode, shown beside the step count.
        """
        self._time_limit = time_limit
        self._agents = source.num_agents
        self._radius = float(source.rad[0])

    @abc.abstractmethod
    def _things(self, inner: Any) -> tuple[str, list[Thing]]:
        """Something for the status line, and the things."""

    def scene(self, state: "MPEState") -> Scene:
        """What lies where; see the base class."""
        status, things = self._things(state.inner)
        # Steps of a half, so that the picture does not creep.
        half = max(1.25, math.ceil(2 * float(np.abs(state.inner.p_pos).max()) + 0.4) / 2)
        return Scene(
            title=self.name,
            status=f"step {int(state.step_count)}/{self._time_limit}    {status}",
            corner=(-half, -half),
            side=2 * half,
            things=things,
            note=self.aim,
        )

    def decorate(self, field: "Axes", scene: Scene) -> None:
        """Draws the square in which everything starts."""
        from matplotlib.patches import Rectangle

        square = Rectangle((-1, -1), 2, 2, fill=False, zorder=1)
        square.set(edgecolor="#AAAAAA", linestyle=(0, (4, 4)), linewidth=1)
        field.add_patch(square)
        field.text(-1, -1.02, "start area", color="#888888", fontsize=8, va="top")

    def _places(self, inner: Any) -> tuple[list[_Place], list[_Place]]:
        """Of the agents and of the landmarks."""
        places = [(float(x), float(y)) for x, y in inner.p_pos]
        return places[: self._agents], places[self._agents :]


class SimpleSpreadViewer(_MPEViewer):
    """Draws agents, landmarks, which of them are covered, and who touches whom."""

    name = "MPE simple_spread"
    aim = "aim: an agent on every landmark, without touching each other"
    legend = (AGENT, LANDMARK, COVERED, TOUCHING)

    def _things(self, inner: Any) -> tuple[str, list[Thing]]:
        from envs.bridges.jaxmarl import REACHED

        agents, landmarks = self._places(inner)
        near = [min(math.dist(place, agent) for agent in agents) < REACHED for place in landmarks]
        things = []
        for i, place in enumerate(agents):
            things.append(Thing(AGENT, place, self._radius, _letter(i), lift=0.55))
        for i, place in enumerate(agents):
            gaps = [math.dist(place, other) for j, other in enumerate(agents) if j != i]
            if min(gaps, default=1.0) < 2 * self._radius:
                things.append(Thing(TOUCHING, place, self._radius))
        for place, covered in zip(landmarks, near, strict=True):
            things.append(Thing(COVERED if covered else LANDMARK, place, 0.05))
        return f"landmarks covered {sum(near)}/{len(near)}", things


class SimpleSpeakerListenerViewer(_MPEViewer):
    """Draws the speaker with its word, the listener, the numbered landmarks and the goal."""

    name = "MPE simple_speaker_listener"
    aim = "aim: the listener finds the goal, which only the speaker knows"
    legend = (
        Look("speaker", "S", "square", PURPLE),
        Look("listener", "L", "disc", BLUE),
        Look("landmark 0, 1, 2", "012", "diamond", SKY_BLUE),
        Look("goal", "", "ring", ORANGE),
    )

    def _things(self, inner: Any) -> tuple[str, list[Thing]]:
        (speaker, listener), landmarks = self._places(inner)
        speaks, listens, landmark, ring = self.legend
        goal = int(inner.goal)
        word = str(int(inner.c[0].argmax())) if inner.c[0].any() else "nothing"
        things = [Thing(landmark, place, 0.1, str(i)) for i, place in enumerate(landmarks)]
        things += [
            Thing(ring, landmarks[goal], 0.14),
            Thing(listens, listener, self._radius, "L"),
            Thing(speaks, speaker, self._radius, "S", says=f"says {word}"),
        ]
        distance = math.dist(listener, landmarks[goal])
        return f"goal {goal}    word {word}    distance {distance:.2f}", things


class SimpleAdversaryViewer(_MPEViewer):
    """Draws good agents, the adversary, the landmarks and the target."""

    name = "MPE simple_adversary"
    aim = "aim: reach the target, and keep the adversary guessing which it is"
    legend = (
        Look("good agent", "ABC", "disc", BLUE),
        Look("adversary", "X", "square", VERMILLION),
        LANDMARK,
        Look("target", "@", "diamond", GREEN),
    )

    def _things(self, inner: Any) -> tuple[str, list[Thing]]:
        (adversary, *others), landmarks = self._places(inner)
        good, bad, other, target = self.legend
        goal = int(inner.goal)
        radius = self._radius
        things = [
            Thing(good, place, radius, _letter(i), lift=0.55) for i, place in enumerate(others)
        ]
        things.append(Thing(bad, adversary, radius, "X", lift=0.55))
        for i, place in enumerate(landmarks):
            things.append(Thing(target if i == goal else other, place, 0.06))
        nearest = min(math.dist(place, landmarks[goal]) for place in others)
        distance = math.dist(adversary, landmarks[goal])
        return f"to the target: good {nearest:.2f}, adversary {distance:.2f}", things


class SimpleReferenceViewer(_MPEViewer):
    """Draws both agents with their words, and the numbered landmarks."""

    name = "MPE simple_reference"
    aim = "aim: each finds its goal, which only the other knows"
    legend = (AGENT, Look("landmark 0, 1, 2", "012", "diamond", SKY_BLUE))

    def _things(self, inner: Any) -> tuple[str, list[Thing]]:
        agents, landmarks = self._places(inner)
        things = [Thing(self.legend[1], place, 0.1, str(i)) for i, place in enumerate(landmarks)]
        words = [str(int(c.argmax())) if c.any() else "nothing" for c in inner.c]
        for i, place in enumerate(agents):
            says = f"says {words[i]}"
            things.append(Thing(AGENT, place, self._radius, _letter(i), says=says))
        goals = "    ".join(
            f"{_letter(i)} to {int(goal)}: {math.dist(agents[i], landmarks[int(goal)]):.2f}"
            for i, goal in enumerate(inner.goal)
        )
        return goals, things


class SimpleTagViewer(_MPEViewer):
    """Draws hunters, prey and obstacles, and who touches whom."""

    name = "MPE simple_tag"
    aim = "aim: the hunters touch the prey, which is faster"
    legend = (
        Look("hunter", "ABC", "disc", VERMILLION),
        Look("prey", "*", "disc", GREEN),
        Look("obstacle", "o", "disc", GREY),
        TOUCHING,
    )

    def __init__(self, source: Any, time_limit: int) -> None:
        """See the base class."""
        super().__init__(source, time_limit)
        self._hunters = source.num_adversaries
        self._prey_radius = float(source.rad[self._hunters])
        self._obstacle_radius = float(source.rad[-1])

    def _things(self, inner: Any) -> tuple[str, list[Thing]]:
        agents, obstacles = self._places(inner)
        hunters, prey = agents[: self._hunters], agents[self._hunters :]
        hunter, chased, obstacle, ring = self.legend
        things = [Thing(obstacle, place, self._obstacle_radius) for place in obstacles]
        things += [Thing(chased, place, self._prey_radius) for place in prey]
        things += [
            Thing(hunter, place, self._radius, _letter(i)) for i, place in enumerate(hunters)
        ]
        reach, caught = self._radius + self._prey_radius, 0
        for place in prey:
            touching = sum(math.dist(place, other) < reach for other in hunters)
            caught += touching
            if touching:
                things.append(Thing(ring, place, self._prey_radius))
        return f"touching now {caught}", things


def _letter(agent: int) -> str:
    """An agent's letter; beyond the alphabet it is a sign."""
    return AGENT_NAMES[agent] if agent < len(AGENT_NAMES) else "#"
