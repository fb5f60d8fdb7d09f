"""Pictures of Overcooked, level-based foraging and the robot warehouse."""

import string
from typing import Any

import numpy as np

from envs.bridges.states import (
    FULL,
    READY,
    LevelBasedForagingState,
    OvercookedState,
    RobotWarehouseState,
)
from envs.grid_viewer import GridViewer, Kind, Scene
from envs.viewer import AGENT_NAMES, GREEN, ORANGE, SKY_BLUE, VERMILLION, YELLOW

# JaxMARL's numbers of what may lie somewhere or be held.
_ONION, _PLATE, _DISH = 3, 5, 9
_HELD = {_ONION: "an onion", _PLATE: "a plate", _DISH: "a soup"}


class OvercookedViewer(GridViewer[OvercookedState]):
    """Draws the kitchen, what lies in it, and says what the cooks hold and how the pots are."""

    _COUNTER = Kind("counter", "#", "#B8A58A")
    _FIXED = (
        ("onion_pile", Kind("onions", "o", YELLOW, "letter")),
        ("plate_pile", Kind("plates", "p", "#DDDDDD", "letter")),
        ("pot", Kind("pot", "u", "#777777", "letter")),
        ("goal", Kind("delivery", "=", GREEN, "letter")),
    )
    _LOOSE = (
        (_ONION, Kind("onion", ".", YELLOW, "disc")),
        (_PLATE, Kind("plate", "-", "#FFFFFF", "disc")),
        (_DISH, Kind("soup", "*", ORANGE, "disc")),
    )

    def __init__(self, env: Any) -> None:
        """Makes the viewer of a kitchen."""
        source = env.source
        fixed = [kind for _, kind in self._FIXED]
        loose = [kind for _, kind in self._LOOSE]
        super().__init__(source.height, source.width, (self._COUNTER, *fixed, *loose))
        self._env = env
        self._counters = np.argwhere(~env.floor)
        self._places = [(kind, env.places[name][:, ::-1]) for name, kind in self._FIXED]

    def scene(self, state: OvercookedState) -> Scene:
        """What lies where; see the base class."""
        env, inner = self._env, state.inner
        padding = (inner.maze_map.shape[0] - env.source.height) // 2
        kitchen = inner.maze_map[padding:-padding, padding:-padding, 0]
        things = [(self._COUNTER, self._counters), *self._places]
        things += [(kind, np.argwhere(kitchen == number)) for number, kind in self._LOOSE]
        hands = [
            f"{AGENT_NAMES[i]} {_HELD[int(held)]}"
            for i, held in enumerate(inner.agent_inv)
            if int(held) in _HELD
        ]
        pots = ", ".join(_pot(int(number)) for number in np.asarray(env.pots(state)))
        status = f"step {int(state.step_count)}/{env.time_limit}    pot {pots}"
        return Scene(
            title=f"Overcooked {env.layout}: {int(state.soups)} soups",
            status="    ".join([status, *hands]),
            things=things,
            agents=np.asarray(inner.agent_pos).astype(int)[:, ::-1],
        )


def _pot(number: int) -> str:
    if number > FULL:
        return f"{FULL + 3 - number} of 3"
    return "ready" if number == READY else f"{number} steps"


class LevelBasedForagingViewer(GridViewer[LevelBasedForagingState]):
    """Draws the food that is left, with its level on it, and says the agents' levels; a ring around those that load."""

    _LOADS = Kind("loads", "", VERMILLION, "ring")

    def __init__(self, env: Any) -> None:
        """Makes the viewer of a grid."""
        c = env.config
        most = c.max_agent_level * c.num_agents
        # One character each, the last for all that are higher.
        signs = (string.digits + string.ascii_lowercase)[1 : most + 1]
        self._food = [Kind(f"food of level {sign}", sign, GREEN, "letter") for sign in signs]
        super().__init__(c.size, c.size, (*self._food, self._LOADS))
        self._time_limit = env.time_limit

    def scene(self, state: LevelBasedForagingState) -> Scene:
        """What lies where; see the base class."""
        agents, food = state.inner.agents, state.inner.food_items
        left, level = ~np.asarray(food.eaten), np.asarray(food.level)
        kinds = np.minimum(level, len(self._food)) - 1
        levels = ", ".join(f"{AGENT_NAMES[i]} {n}" for i, n in enumerate(agents.level))
        return Scene(
            title=f"Level-based foraging: {left.sum()} of {left.size} left",
            status=f"step {int(state.step_count)}/{self._time_limit}    agents' levels {levels}",
            things=[
                (kind, np.asarray(food.position)[left & (kinds == number)])
                for number, kind in enumerate(self._food)
            ],
            agents=np.asarray(agents.position),
            marked=tuple(int(i) for i in np.flatnonzero(agents.loading)),
        )


class RobotWarehouseViewer(GridViewer[RobotWarehouseState]):
    """Draws shelves, those that are asked for, the goals and the robots, with a ring around those that carry."""

    _SHELF = Kind("shelf", "+", SKY_BLUE)
    _WANTED = Kind("asked for", "!", VERMILLION)
    _GOAL = Kind("goal", "=", GREEN)
    _CARRIES = Kind("carries a shelf", "", VERMILLION, "ring")

    def __init__(self, env: Any) -> None:
        """Makes the viewer of a warehouse."""
        height, width = env.source.grid_size
        legend = (self._SHELF, self._WANTED, self._GOAL, self._CARRIES)
        super().__init__(height, width, legend)
        self._time_limit = env.time_limit
        self._goals = np.asarray(env.source.goals)[:, ::-1]

    def scene(self, state: RobotWarehouseState) -> Scene:
        """What lies where; see the base class."""
        agents, shelves = state.inner.agents, state.inner.shelves
        stock = np.column_stack([shelves.position.x, shelves.position.y])
        wanted = np.asarray(shelves.is_requested).astype(bool)
        carrying = np.flatnonzero(agents.is_carrying)
        looks = ", ".join(
            f"{AGENT_NAMES[i]} {['up', 'right', 'down', 'left'][int(d)]}"
            for i, d in enumerate(agents.direction[:4])
        )
        return Scene(
            title=f"Robot warehouse: {int(state.delivered)} delivered",
            status=f"step {int(state.step_count)}/{self._time_limit}    {looks}",
            things=[
                (self._GOAL, self._goals),
                (self._SHELF, stock[~wanted]),
                (self._WANTED, stock[wanted]),
            ],
            agents=np.column_stack([agents.position.x, agents.position.y]),
            marked=tuple(int(i) for i in carrying),
        )
