"""Turn in plain Python. The apples come from outside."""

import numpy as np

MOVES = {0: (-1, 0), 1: (1, 0), 2: (0, -1), 3: (0, 1)}


class TurnTwin:
    """One episode of Turn.

    Args:
        apple: (row, column) of the first apple.
        time_limit: steps of the episode.
        punish_trapped_eat: whether the trapped agent pays for "eat".
    """

    def __init__(
        self, apple: tuple[int, int], time_limit: int = 100, punish_trapped_eat: bool = True
    ) -> None:
        self.agents = [(0, 0), (4, 4)]
        self.apple = apple
        self.free = 0
        self.steps = 0
        self.eaten = 0
        self.fines = 0
        self.time_limit = time_limit
        self.tolerated_when_trapped = {5} if punish_trapped_eat else {4, 5}

    def step(self, actions: list[int], next_apple: tuple[int, int]) -> tuple[float, bool]:
        """Plays a step; `next_apple` is used only if this step eats the apple.

        Returns:
            The team's reward, and whether the episode is over.
        """
        reward = 0.0
        somebody_ate = False
        for agent in range(2):
            action = actions[agent]
            if agent != self.free:
                if action not in self.tolerated_when_trapped:
                    reward -= 1
                    self.fines += 1
                continue
            if action == 4:
                somebody_ate = self.agents[agent] == self.apple
                reward += 10 if somebody_ate else 0
            elif action in MOVES:
                row = self.agents[agent][0] + MOVES[action][0]
                column = self.agents[agent][1] + MOVES[action][1]
                if 0 <= row <= 4 and 0 <= column <= 4:
                    self.agents[agent] = (row, column)
                else:
                    reward -= 1
                    self.fines += 1
        if somebody_ate:
            self.eaten += 1
            self.free = 1 - self.free
            self.apple = next_apple
        self.steps += 1
        return reward, self.steps == self.time_limit

    def views(self) -> np.ndarray:
        """[2, 18]: indices are left to wrap, as in CIA's code."""
        out = np.zeros((2, 2, 3, 3), np.float32)
        for agent in range(2):
            row, column = self.agents[agent]
            for layer, thing in enumerate((self.agents[1 - agent], self.apple)):
                down, right = thing[0] - row, thing[1] - column
                if abs(down) <= 1 and abs(right) <= 1:
                    out[agent, layer, down, right] = 1.0
        return out.reshape(2, 18)

    def global_state(self) -> np.ndarray:
        """[77]."""
        maps = np.zeros((3, 5, 5), np.float32)
        for layer, cell in enumerate((self.apple, *self.agents)):
            maps[layer][cell] = 1.0
        flags = [float(self.free == 0), float(self.free == 1)]
        return np.concatenate([maps.reshape(-1), np.array(flags, np.float32)])
