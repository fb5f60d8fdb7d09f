"""1D Pursuit in plain Python. The starting values come from outside."""

import numpy as np

CHANGES = (+1, -1, 0)


class Pursuit1DTwin:
    """One episode of 1D Pursuit.

    Args:
        values: the starting values.
        time_limit: steps of the episode.
        clip: bound of the values, 0 for none.
        terminate_at_target: whether both at 0 ends the episode.
    """

    def __init__(
        self,
        values: list[int],
        time_limit: int = 20,
        clip: int = 0,
        terminate_at_target: bool = False,
    ) -> None:
        self.values = list(values)
        self.time_limit = time_limit
        self.clip = clip
        self.terminate_at_target = terminate_at_target
        self.steps = 0
        self.good = 0
        self.bad = 0
        self.net = 0

    def step(self, actions: list[int]) -> tuple[float, bool, bool, list[int]]:
        """Plays a step.

        Returns:
            The team's reward, whether the task has ended, whether the episode is over, and for
            each agent 1 (approached), -1 (moved away) or 0.
        """
        kinds = []
        for agent in range(2):
            before = self.values[agent]
            after = before + CHANGES[actions[agent]]
            if self.clip and abs(after) > self.clip:
                after = before
            self.values[agent] = after
            if abs(after) < abs(before):
                kinds.append(1)
                self.good += 1
            elif abs(after) > abs(before):
                kinds.append(-1)
                self.bad += 1
            else:
                kinds.append(0)
        reward = {(1, 1): 0.01, (-1, -1): -0.01}.get(tuple(kinds), 0.0)
        self.net += round(100 * reward)
        self.steps += 1
        ended = self.terminate_at_target and self.values == [0, 0]
        return reward, ended, ended or self.steps == self.time_limit, kinds

    def views(self) -> np.ndarray:
        """[2, 2]."""
        x, y = self.values
        return np.array([[x / 10, y / 10], [y / 10, x / 10]], np.float32)

    def global_state(self) -> np.ndarray:
        """[3]."""
        x, y = self.values
        return np.array([x / 10, y / 10, self.steps / self.time_limit], np.float32)
