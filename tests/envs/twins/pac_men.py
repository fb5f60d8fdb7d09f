"""Pac-Men in plain NumPy: the dots lie on maps."""

from typing import Any

import numpy as np

from tests.envs.twins.cross_map import crop, letters, others, rooms, walk


class PacMenTwin:
    """B episodes of Pac-Men.

    Args:
        start: the batch of states after the reset.
        text: the map.
        time_limit: steps of an episode.
        reward: "total", "min_over_rooms" or "dense".
        respawn: whether new dots appear.
        values: whether observation and state are CDS's numbers.
        stop_when_empty: whether an episode ends with its last dot.
    """

    def __init__(
        self,
        start: Any,
        text: str,
        time_limit: int = 24,
        reward: str = "total",
        respawn: bool = False,
        values: bool = False,
        stop_when_empty: bool = False,
    ) -> None:
        self.map = letters(text)
        self.rooms = rooms(self.map, [tuple(c) for c in np.argwhere(self.map == "d").tolist()])
        self.room_at = np.full(self.map.shape, -1)
        for number, cells in enumerate(self.rooms):
            self.room_at[tuple(np.transpose(cells))] = number
        self.time_limit, self.reward, self.respawn = time_limit, reward, respawn
        self.values, self.stop_when_empty = values, stop_when_empty
        self.agents = np.asarray(start.positions)
        self.count = len(self.agents)
        self.steps = 0
        self.eaten = np.zeros((self.count, 4), int)
        self.food = np.zeros((self.count, *self.map.shape), bool)
        self.put(np.asarray(start.dots), np.ones(self.count, bool))
        assert (self.map[self.agents[..., 0], self.agents[..., 1]] == "A").all()

    def put(self, dots: np.ndarray, where: np.ndarray) -> None:
        """Lays the dots [B, 4, D, 2] out in the episodes `where` [B]."""
        self.dots = dots
        for b in np.flatnonzero(where):
            for room in range(4):
                for cell in map(tuple, dots[b, room].tolist()):
                    assert cell in self.rooms[room]
                    assert not self.food[b][cell], "two dots on one cell"
                    self.food[b][cell] = True

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        self.steps += 1
        everyone = np.arange(self.count)
        share = np.zeros(self.count, np.float32)
        before = self.food.copy()
        idle = np.full(self.count, 4)
        for agent in range(4):
            row, column = self.agents[:, agent].T
            bite = (action[:, agent] == 4) & before[everyone, row, column]
            idle -= bite
            first = bite & self.food[everyone, row, column]
            share += first
            self.food[everyone[first], row[first], column[first]] = False
            self.eaten[everyone[first], self.room_at[row, column][first]] += 1
        self.agents = walk(self.map, self.agents, action)
        empty = ~self.food.any((1, 2))
        if self.respawn:
            self.put(np.asarray(after.dots), empty)
        over = empty if self.stop_when_empty else np.zeros(self.count, bool)
        if self.reward == "dense":
            return share - np.float32(0.025) * idle.astype(np.float32), over
        paid = self.eaten.sum(1) if self.reward == "total" else self.eaten.min(1)
        return np.where(over | (self.steps == self.time_limit), paid, 0), over

    def state(self) -> dict[str, np.ndarray]:
        episode = np.arange(self.count)[:, None, None]
        left = self.food[episode, self.dots[..., 0], self.dots[..., 1]]
        return {
            "positions": self.agents,
            "dots": self.dots,
            "left": left,
            "eaten": self.eaten,
        }

    def extras(self) -> dict[str, np.ndarray]:
        return {"dots_eaten": self.eaten.sum(1), "fewest_in_a_room": self.eaten.min(1)}

    def action_mask(self) -> np.ndarray:
        return np.ones((self.count, 4, 5), bool)

    def agents_view(self) -> np.ndarray:
        walls = np.repeat((self.map == "#")[None], self.count, axis=0)
        parts = [crop(m, self.agents) for m in (walls, self.food)]
        near = crop(others(self.map.shape, self.agents), self.agents)
        if not self.values:
            return np.concatenate([*parts, near], axis=-1).astype(np.float32)
        numbers = parts[1].astype(np.float32)
        numbers[parts[0]] = -1
        numbers[near] = 0.1
        return numbers

    def global_state(self) -> np.ndarray:
        if self.values:
            return self.cds_state()
        food = [self.food[:, r, c] for room in self.rooms for r, c in room]
        agents = (self.agents / len(self.map)).reshape(self.count, -1)
        clock = np.full((self.count, 1), np.float32(self.steps) / np.float32(self.time_limit))
        return np.concatenate([np.stack(food, axis=1), agents, clock], axis=1).astype(np.float32)

    def cds_state(self) -> np.ndarray:
        """Slices of the map around its middle, as CDS takes them."""
        numbers = self.food.astype(np.float32)
        for agent in range(4):
            row, column = self.agents[:, agent].T
            numbers[np.arange(self.count), row, column] = 0.1
        r, c = np.argwhere(self.map == "A").mean(0).astype(int)
        p = {21: 1, 25: 2}[len(self.map)]
        parts = [
            numbers[:, r - 1 : r + 2, c - 1 : c + 2],
            numbers[:, r + 2 : r + 2 + p, c],
            numbers[:, r + 2 + p : r + 7 + p, c - 1 : c + 2],
            numbers[:, r, c + 2 : c + 2 + 2 * p],
            numbers[:, r - 1 : r + 2, c + 2 + 2 * p : c + 7 + 2 * p],
            numbers[:, r - 1 - 3 * p : r - 1, c],
            numbers[:, r - 6 - 3 * p : r - 1 - 3 * p, c - 1 : c + 2],
            numbers[:, r, c - 2 - 2 * p : c - 2],
            numbers[:, r - 1 : r + 2, c - 6 - 2 * p : c - 1 - 2 * p],
        ]
        return np.concatenate([part.reshape(self.count, -1) for part in parts], axis=1)
