"""1D Pursuit in plain NumPy, for B episodes at a time. The starting values come from outside."""

from typing import Any

import numpy as np

CHANGES = np.array([+1, -1, 0])


class Pursuit1DTwin:
    """B episodes of 1D Pursuit.

    Args:
        values: [B, 2] the starting values.
        time_limit: steps of an episode.
        clip: bound of the values, 0 for none.
        terminate_at_target: whether both at 0 ends the episode.
    """

    def __init__(
        self,
        values: np.ndarray,
        time_limit: int = 20,
        clip: int = 0,
        terminate_at_target: bool = False,
    ) -> None:
        self.values = np.array(values)
        self.time_limit = time_limit
        self.bound = clip or np.inf
        self.terminate_at_target = terminate_at_target
        self.steps = 0
        self.good, self.bad, self.net = np.zeros((3, len(values)), int)

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        """Plays a step; nothing is left to chance."""
        wanted = self.values + CHANGES[action]
        distance = abs(self.values)
        self.values = np.where(abs(wanted) > self.bound, self.values, wanted)
        closer, farther = abs(self.values) < distance, abs(self.values) > distance
        self.good += closer[:, 0].astype(int) + closer[:, 1]
        self.bad += farther[:, 0].astype(int) + farther[:, 1]
        both = np.select([closer.all(axis=1), farther.all(axis=1)], [1, -1], 0)
        self.net += both
        self.steps += 1
        ended = (self.values == 0).all(axis=1) & self.terminate_at_target
        return np.choose(both + 1, [-0.01, 0.0, 0.01]), ended

    def state(self) -> dict[str, np.ndarray]:
        """Fields of our state."""
        return {
            "values": self.values,
            "good_actions": self.good,
            "bad_actions": self.bad,
            "net_joint_moves": self.net,
        }

    def agents_view(self) -> np.ndarray:
        """[B, 2, 2]: each agent's own value first."""
        return np.stack([self.values, self.values[:, [1, 0]]], axis=1) / 10

    def action_mask(self) -> np.ndarray:
        """Everything is allowed always."""
        return np.ones((len(self.values), 2, 3), bool)

    def global_state(self) -> np.ndarray:
        """[B, 3]."""
        clock = np.full(len(self.values), self.steps / self.time_limit)
        return np.column_stack([self.values / 10, clock])

    def extras(self) -> dict[str, np.ndarray]:
        """The counts."""
        return {
            "good_actions": self.good,
            "bad_actions": self.bad,
            "net_joint_moves": self.net,
        }
