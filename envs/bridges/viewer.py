"""Pictures of SMAX and MPE."""

import abc
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.bridges.states import REACHED, MPEState, SMAXState
from envs.plane_viewer import Look, PlaneViewer, Scene, Thing
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
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Place = tuple[float, float]

# --- SMAX ---

ALLY = Look("ally (filled: health)", "capital", "disc", BLUE)
ENEMY = Look("enemy", "small", "square", VERMILLION)
DEAD = Look("dead", "x", "cross", GREY)
SHOT = Look("shoots at", "", "line", BLACK)
# Of marine, marauder, stalker, zealot, zergling, hydralisk; in a terminal, enemies are small.
_UNIT_LETTERS = "MRSZGH"


class SMAXViewer(PlaneViewer[SMAXState]):
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

    def scene(self, state: SMAXState) -> Scene:
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


class _MPEViewer(PlaneViewer[MPEState]):
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

    def scene(self, state: MPEState) -> Scene:
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
