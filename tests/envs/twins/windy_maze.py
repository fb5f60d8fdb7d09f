"""Windy Maze in plain NumPy, for B episodes at a time. Whom the wind took comes from outside.

An agent's place is x, -arm..arm along the bar with the junction at 0, and its depth, 0 in the bar
and 1..stem below the junction.
"""

from typing import Any

import numpy as np

UP, DOWN, LEFT, RIGHT, EAT = range(5)


class WindyMazeTwin:
    """B episodes of Windy Maze.

    Args:
        num_episodes: B.
        stem: cells of the stem.
        arm: cells of each half of the bar.
        wind_from: smallest windy x.
        time_limit: steps of an episode; None for the default of the rules.
    """

    def __init__(
        self,
        num_episodes: int,
        stem: int = 3,
        arm: int = 4,
        wind_from: int = 0,
        time_limit: int | None = None,
    ) -> None:
        self.stem, self.arm, self.wind_from = stem, arm, wind_from
        self.limit = stem + 3 * arm + 1 if time_limit is None else time_limit
        self.steps = 0
        self.x = np.zeros((num_episodes, 2), int)
        self.depth = np.full((num_episodes, 2), stem)
        self.left_there = np.ones(num_episodes, bool)
        self.right_there = np.ones(num_episodes, bool)
        self.blown = np.zeros((num_episodes, 2), bool)
        self.gusts = 0

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        """Plays a step; `after.blown` says whom the wind takes if he stands in it."""
        in_wind = (self.depth == 0) & (self.x >= self.wind_from)
        self.blown = after.blown & in_wind
        self.gusts += int(self.blown.sum())
        act = action.copy()
        act[self.blown] = RIGHT
        eats = (act == EAT) & (self.depth == 0)
        self.left_there &= ~(eats & (self.x == -self.arm)).any(axis=1)
        self.right_there &= ~(eats & (self.x == self.arm)).any(axis=1)
        for way, (dx, dy) in {UP: (0, -1), DOWN: (0, 1), LEFT: (-1, 0), RIGHT: (1, 0)}.items():
            goes = (act == way) & self._floor(self.x + dx, self.depth + dy)
            self.x[goes] += dx
            self.depth[goes] += dy
        self.steps += 1
        over = self.steps == self.limit
        return self._eaten() * float(over), np.zeros(len(act), bool)

    def state(self) -> dict[str, np.ndarray]:
        """Rows count from the bar downwards, columns from the left end."""
        return {
            "positions": np.stack([self.depth, self.x + self.arm], axis=-1),
            "dots": np.stack([self.left_there, self.right_there], axis=-1),
            "blown": self.blown,
        }

    def agents_view(self) -> np.ndarray:
        """[B, 2, 75]: for each of the 25 places around an agent, what is there."""
        picture = np.zeros((*self.x.shape, 3, 5, 5))
        for i in range(5):
            for j in range(5):
                x, depth = self.x + j - 2, self.depth + i - 2
                bar = depth == 0
                left = bar & (x == -self.arm) & self.left_there[:, None]
                right = bar & (x == self.arm) & self.right_there[:, None]
                mate = (x == self.x[:, ::-1]) & (depth == self.depth[:, ::-1])
                for channel, seen in enumerate((~self._floor(x, depth), left | right, mate)):
                    picture[:, :, channel, i, j] = seen
        return picture.reshape(*self.x.shape, 75)

    def action_mask(self) -> np.ndarray:
        """Everything is allowed always."""
        return np.ones((*self.x.shape, 5), bool)

    def global_state(self) -> np.ndarray:
        """The bar's cells from the left, then the stem's downwards, for each agent; dots; clock."""
        cells = 2 * self.arm + 1 + self.stem
        number = np.where(self.depth == 0, self.x + self.arm, 2 * self.arm + self.depth)
        where = np.eye(cells)[number].reshape(len(number), 2 * cells)
        clock = np.full(len(number), np.float32(self.steps) / np.float32(self.limit))
        return np.column_stack([where, self.left_there, self.right_there, clock])

    def extras(self) -> dict[str, np.ndarray]:
        """Which dots are gone."""
        return {
            "dots_eaten": self._eaten(),
            "left_eaten": 1 - self.left_there,
            "right_eaten": 1 - self.right_there,
        }

    def _eaten(self) -> np.ndarray:
        return 2 - self.left_there - self.right_there.astype(int)

    def _floor(self, x: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Where one can stand: in the bar, or right below its middle."""
        in_bar = (depth == 0) & (abs(x) <= self.arm)
        in_stem = (x == 0) & (depth >= 1) & (depth <= self.stem)
        return in_bar | in_stem
