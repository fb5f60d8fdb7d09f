"""Firefighters in plain NumPy: fires and rivers lie on maps."""

from typing import Any

import numpy as np

from tests.envs.twins.cross_map import TINI, crop, letters, others, room_cells, walk


class FirefightersTwin:
    """B episodes of Firefighters.

    Args:
        start: the batch of states after the reset.
        text: the map.
        time_limit: steps of an episode.
        tank: units of water at the start.
        capacity: what the tank holds at most, or None.
        wasteful: whether every spray costs a unit.
        see_tank: whether the agents see the tank.
        stop_when_out: whether an episode ends with its last fire.
    """

    def __init__(
        self,
        start: Any,
        text: str = TINI,
        time_limit: int = 30,
        tank: int = 4,
        capacity: int | None = None,
        wasteful: bool = False,
        see_tank: bool = False,
        stop_when_out: bool = False,
    ) -> None:
        self.map = letters(text)
        top, bottom, left, right = room_cells(self.map)
        self.areas = [bottom, top]
        self.river = np.zeros(self.map.shape, bool)
        for cell in left + right:
            self.river[cell] = True
        self.agents = np.asarray(start.positions)
        self.count = len(self.agents)
        self.time_limit, self.capacity, self.wasteful = time_limit, capacity, wasteful
        self.see_tank, self.stop_when_out = see_tank, stop_when_out
        self.tank = np.full(self.count, tank)
        self.pumped = np.zeros(self.count, int)
        self.steps = 0
        self.cells = np.asarray(start.fires)
        self.fire = np.zeros((self.count, *self.map.shape), bool)
        for b in range(self.count):
            for area in range(2):
                for cell in map(tuple, self.cells[b, area].tolist()):
                    assert cell in self.areas[area]
                    assert not self.fire[b][cell], "a cell burns twice"
                    self.fire[b][cell] = True
        self.at_first = self.fire.sum((1, 2))
        assert all(tuple(cell) in bottom for cell in self.agents.reshape(-1, 2).tolist())

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        self.steps += 1
        for agent in range(4):
            for b in np.flatnonzero(action[:, agent] >= 4):
                cell = tuple(self.agents[b, agent])
                if action[b, agent] == 4 and self.tank[b] > 0:
                    if self.fire[b][cell] or self.wasteful:
                        self.tank[b] -= 1
                    self.fire[b][cell] = False
                full = self.capacity is not None and self.tank[b] >= self.capacity
                if action[b, agent] == 5 and self.river[cell] and not full:
                    self.tank[b] += 1
                    self.pumped[b] += 1
        self.agents = walk(self.map, self.agents, action)
        over = ~self.fire.any((1, 2)) & self.stop_when_out
        return np.where(over | (self.steps == self.time_limit), self.out(), 0), over

    def out(self) -> np.ndarray:
        """[B] cells put out."""
        return self.at_first - self.fire.sum((1, 2))

    def state(self) -> dict[str, np.ndarray]:
        episode = np.arange(self.count)[:, None, None]
        return {
            "positions": self.agents,
            "fires": self.cells,
            "burning": self.fire[episode, self.cells[..., 0], self.cells[..., 1]],
            "tank": self.tank,
            "pumped": self.pumped,
        }

    def extras(self) -> dict[str, np.ndarray]:
        return {"fires_put_out": self.out(), "water_pumped": self.pumped, "tank": self.tank}

    def action_mask(self) -> np.ndarray:
        return np.ones((self.count, 4, 6), bool)

    def agents_view(self) -> np.ndarray:
        def same(map_: np.ndarray) -> np.ndarray:
            return np.repeat(map_[None], self.count, axis=0)

        maps = (
            same(self.map == "#"),
            self.fire,
            same(self.river),
            others(self.map.shape, self.agents),
        )
        parts = [crop(m, self.agents).astype(np.float32) for m in maps]
        if self.see_tank:
            tank = np.repeat(self.tank[:, None, None], 4, axis=1)
            parts.append((tank / 16).astype(np.float32))
        return np.concatenate(parts, axis=-1)

    def global_state(self) -> np.ndarray:
        fires = [self.fire[:, r, c] for area in self.areas for r, c in area]
        agents = (self.agents / len(self.map)).reshape(self.count, -1)
        clock = np.full(self.count, np.float32(self.steps) / np.float32(self.time_limit))
        rest = np.stack([self.tank / 16, clock], axis=1)
        return np.concatenate([np.stack(fires, axis=1), agents, rest], axis=1).astype(np.float32)
