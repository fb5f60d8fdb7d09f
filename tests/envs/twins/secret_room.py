"""Secret Room in NumPy, B episodes at once, with a map of walls for each and doors painted on it."""

from typing import Any

import numpy as np

# up, down, left, right
ROWS = np.array([-1, 1, 0, 0])
COLUMNS = np.array([0, 0, -1, 1])


class SecretRoomTwin:
    """B episodes, from the states after their resets.

    Args:
        start: the batch of states; random starts are taken from it.
        variant: "edti" or "cmae".
        size: of the map.
        doi: steps for which a door stays open beyond the first.
        doors_observed: whether agents see the doors.
        random_start: whether the starts are to be taken from `start`.
        reward: for the solution.
        one_hot: how coordinates are shown.
    """

    def __init__(
        self,
        start: Any,
        variant: str = "edti",
        size: int = 25,
        doi: int = 0,
        doors_observed: bool = True,
        random_start: bool = False,
        reward: float = 1000.0,
        one_hot: bool = False,
    ) -> None:
        self.edti = variant == "edti"
        self.size, self.doi, self.doors_observed = size, doi, doors_observed
        self.amount, self.one_hot = reward, one_hot
        batch = len(start.positions)
        self.episodes = np.arange(batch)
        self.half = size // 2
        self.walls = np.zeros((batch, size, size), bool)
        self.walls[:, :, self.half] = True
        if self.edti:
            rows_of_walls = (size // 3, size // 3 * 2)
            centres = [int(size / 6 * (2 * door + 1)) for door in range(3)]
            rows_of_switches = (int(size / 6), int(size / 2), int(size / 6 * 5))
            self.door_rows = [slice(centre - 1, centre + 1) for centre in centres]
            starts = [[0, 0], [0, 0]]
        else:
            one, two = size // 3, 2 * size // 3
            rows_of_walls = (one, two)
            rows_of_switches = (one // 2, (one + two) // 2, (two + size) // 2)
            self.door_rows = [slice(row - 1, row + 2) for row in rows_of_switches]
            starts = [[1 + size // 10] * 2, [size // 10] * 2]
        for row in rows_of_walls:
            self.walls[:, row, self.half :] = True
        self.switches = [(int(size * 0.8), int(size * 0.2))]
        self.switches += [(row, int(size * 0.8)) for row in rows_of_switches]
        self.agents = np.array([starts] * batch)
        if random_start:
            self.agents = np.array(start.positions)
            assert ((self.agents >= 0) & (self.agents < [size, self.half])).all()
        self.is_open = np.zeros((batch, 3), bool)
        self.count = np.zeros((batch, 3), int)
        self.over = np.zeros(batch, bool)
        # For the tests: what has happened in all episodes together.
        self.openings = np.zeros(3, int)
        self.closed_on_an_agent = 0
        self.refused_in_a_doorway = 0
        self.two_switches_at_once = 0

    def pressed(self) -> np.ndarray:
        """[4, B] bool."""
        out = []
        for row, column in self.switches:
            distance = np.hypot(self.agents[..., 0] - row, self.agents[..., 1] - column)
            out.append((distance <= (0 if self.edti else 1.5)).any(axis=1))
        return np.array(out)

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        """Plays a step; an episode that is over stands still."""
        live = ~self.over
        for agent in range(2):
            row = np.clip(self.agents[:, agent, 0] + ROWS[action[:, agent]], 0, self.size - 1)
            column = np.clip(self.agents[:, agent, 1] + COLUMNS[action[:, agent]], 0, self.size - 1)
            blocked = self.walls[self.episodes, row, column]
            in_wall = self.walls[self.episodes, *self.agents[:, agent].T]
            self.refused_in_a_doorway += int((in_wall & blocked & live).sum())
            goes = live & ~blocked
            self.agents[goes, agent, 0] = row[goes]
            self.agents[goes, agent, 1] = column[goes]

        pressed = self.pressed()
        self.two_switches_at_once += int((pressed.sum(0) > 1)[live].sum())
        if self.edti:
            self.age_the_doors()
            for door in range(3):
                opens = ~self.is_open[:, door] & (pressed[0] | pressed[1 + door])
                self.is_open[opens, door] = True
                self.openings[door] += int(opens[live].sum())
                self.count[opens, door] = 0
        else:
            self.is_open[:] = False
            undecided = np.ones(len(live), bool)
            for switch in range(4):
                works = undecided & pressed[switch]
                for door in range(3) if switch == 0 else [switch - 1]:
                    self.is_open[works, door] = True
                    self.openings[door] += int(works[live].sum())
                undecided &= ~pressed[switch]
        for door in range(3):
            self.walls[:, self.door_rows[door], self.half] = ~self.is_open[:, door, None]
        for agent in range(2):
            shut = self.walls[self.episodes, *self.agents[:, agent].T]
            self.closed_on_an_agent += int(shut[live].sum())

        won = live & self.in_target().all(axis=1)
        self.over |= won
        return self.amount * won, won

    def age_the_doors(self) -> None:
        closes = self.is_open & (self.count >= self.doi)
        self.count = np.where(closes, 0, self.count + self.is_open)
        self.is_open &= ~closes

    def in_target(self) -> np.ndarray:
        """[B, 2] bool."""
        row, column = self.agents[..., 0], self.agents[..., 1]
        if self.edti:
            return (column > self.size // 2) & (row < self.size // 3)
        return ~((column < self.size / 2 + 1) | (row > self.size // 3 + 1))

    def left(self) -> np.ndarray:
        """[B, 3] steps for which the doors are still open."""
        return np.where(self.is_open, 1 + self.doi - self.count, 0)

    def state(self) -> dict[str, np.ndarray]:
        return {"positions": self.agents, "doors": self.left()}

    def extras(self) -> dict[str, np.ndarray]:
        inside = self.in_target()
        return {"solved": inside.all(axis=1), "agents_in_target": inside.sum(axis=1)}

    def cells(self) -> np.ndarray:
        numbers = self.agents.reshape(-1, 4)
        if self.one_hot:
            return np.eye(self.size, dtype=np.float32)[numbers].reshape(len(numbers), -1)
        return numbers.astype(np.float32) * np.float32(1 / self.size)

    def agents_view(self) -> np.ndarray:
        flags = self.is_open if self.doors_observed else self.is_open[:, :0]
        view = np.concatenate([self.cells(), flags], axis=1).astype(np.float32)
        return np.stack([view] * 2, axis=1)

    def global_state(self) -> np.ndarray:
        times = self.left().astype(np.float32) * np.float32(1 / (1 + self.doi))
        return np.concatenate([self.cells(), times], axis=1)

    def action_mask(self) -> np.ndarray:
        return np.ones((len(self.agents), 2, 4), bool)
