"""Turn in plain NumPy, for B episodes at a time. The apples come from outside."""

from typing import Any

import numpy as np

MOVES = {0: (-1, 0), 1: (1, 0), 2: (0, -1), 3: (0, 1)}
EAT, STAY = 4, 5


class TurnTwin:
    """B episodes of Turn.

    Args:
        apple: [B, 2] (row, column) of the first apples.
        punish_trapped_eat: whether the trapped agent pays for "eat".
    """

    def __init__(self, apple: np.ndarray, punish_trapped_eat: bool = True) -> None:
        self.episodes = np.arange(len(apple))
        self.agents = np.tile([(0, 0), (4, 4)], (len(apple), 1, 1))
        self.apple = np.array(apple)
        self.free = np.zeros(len(apple), int)
        self.eaten = np.zeros(len(apple), int)
        self.fines = np.zeros(len(apple), int)
        self.free_of_charge = [STAY] if punish_trapped_eat else [EAT, STAY]

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        """Plays a step; `after.apple` is used only where this step eats the apple."""
        mover = (self.episodes, self.free)
        fines = (~np.isin(action[self.episodes, 1 - self.free], self.free_of_charge)).astype(int)
        ate = (action[mover] == EAT) & (self.agents[mover] == self.apple).all(axis=1)
        for number, change in MOVES.items():
            walks = np.flatnonzero(action[mover] == number)
            target = self.agents[walks, self.free[walks]] + change
            off = ((target < 0) | (target > 4)).any(axis=1)
            fines[walks[off]] += 1
            self.agents[walks[~off], self.free[walks[~off]]] = target[~off]
        self.apple[ate] = after.apple[ate]
        self.free[ate] = 1 - self.free[ate]
        self.eaten += ate
        self.fines += fines
        return 10 * ate - fines, np.zeros(len(ate), bool)

    def state(self) -> dict[str, np.ndarray]:
        """Fields of our state."""
        return {
            "positions": self.agents,
            "apple": self.apple,
            "turn": self.free,
            "apples_eaten": self.eaten,
            "penalties": self.fines,
        }

    def agents_view(self) -> np.ndarray:
        """[B, 2, 18]: negative indices are left to wrap, as in CIA's code."""
        view = np.zeros((len(self.episodes), 2, 2, 3, 3))
        for agent in range(2):
            for layer, thing in enumerate((self.agents[:, 1 - agent], self.apple)):
                offset = thing - self.agents[:, agent]
                near = np.flatnonzero((abs(offset) <= 1).all(axis=1))
                view[near, agent, layer, offset[near, 0], offset[near, 1]] = 1.0
        return view.reshape(-1, 2, 18)

    def action_mask(self) -> np.ndarray:
        """Everything is allowed always."""
        return np.ones((len(self.episodes), 2, 6), bool)

    def global_state(self) -> np.ndarray:
        """[B, 77]."""
        maps = np.zeros((len(self.episodes), 3, 5, 5))
        for layer, cell in enumerate((self.apple, self.agents[:, 0], self.agents[:, 1])):
            maps[self.episodes, layer, cell[:, 0], cell[:, 1]] = 1.0
        return np.column_stack([maps.reshape(-1, 75), self.free == 0, self.free == 1])

    def extras(self) -> dict[str, np.ndarray]:
        """The counts."""
        return {"apples_eaten": self.eaten, "penalties": self.fines}
