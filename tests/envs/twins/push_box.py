"""Push-Box in NumPy, B episodes at once, with the map painted cell by cell and pushes counted."""

from typing import Any

import numpy as np

# up, down, left, right, stay
ROWS = np.array([-1, 1, 0, 0, 0])
COLUMNS = np.array([0, 0, -1, 1, 0])


class PushBoxTwin:
    """B episodes, from the states after their resets.

    Args:
        start: the batch of states; the cells of the boxes are taken from it.
        variant: "edti" or "cmae".
        size: of the map.
        ends: whether a delivery ends the episode.
        reward: for a delivery.
        one_hot: how coordinates are shown.
        box_range: first and last row and column of a new box.
    """

    def __init__(
        self,
        start: Any,
        variant: str = "edti",
        size: int = 15,
        ends: bool = True,
        reward: float = 1000.0,
        one_hot: bool = True,
        box_range: tuple[int, int] = (4, 11),
    ) -> None:
        self.edti = variant == "edti"
        self.size, self.ends, self.amount, self.one_hot = size, ends, reward, one_hot
        self.box_range = box_range
        self.box = np.array(start.box)
        self.episodes = np.arange(len(self.box))
        if self.edti:
            starts = [[1, 1], [1, 1]]
            self.check_new(self.box, np.array([starts] * len(self.box)))
        else:
            starts = [[4 + size // 2] * 2, [2 + size // 2] * 2]
            assert (self.box == size // 2).all()
        self.agents = np.array([starts] * len(self.box))
        self.seen_box = self.box.copy()
        self.delivered = np.zeros(len(self.box), int)
        self.over = np.zeros(len(self.box), bool)
        # For the tests: what has happened in all episodes together.
        self.moves_of_the_box = 0
        self.lone_pushes = 0
        self.opposite_pushes = 0

    def check_new(self, boxes: np.ndarray, agents: np.ndarray) -> None:
        """A new box is where it may be."""
        low, high = self.box_range
        assert ((boxes >= low) & (boxes <= high)).all()
        assert not (boxes[:, None] == agents).all(-1).any()

    def painted(self, box: np.ndarray) -> np.ndarray:
        """[B, size, size] bool, the cells of the box."""
        picture = np.zeros((len(box), self.size, self.size), bool)
        reach = [0] if self.edti else [-1, 0, 1]
        for down in reach:
            for right in reach:
                picture[self.episodes, box[:, 0] + down, box[:, 1] + right] = True
        return picture

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        """Plays a step; an episode that is over stands still."""
        wall = 1 if self.edti else 0
        target = np.stack([self.agents[..., 0] + ROWS[action], self.agents[..., 1]], -1)
        target[..., 1] += COLUMNS[action]
        target = np.clip(target, wall, self.size - 1 - wall)
        live = ~self.over

        picture = self.painted(self.box)
        pushes = np.zeros((len(action), 5), int)
        for agent in range(2):
            row, column = target[:, agent].T
            pushes[self.episodes, action[:, agent]] += picture[self.episodes, row, column]
        pushes[self.over] = 0
        up, down, left, right, _ = pushes.T
        moved = self.box.copy()
        moved[:, 0] += (down - up >= 2).astype(int) - (up - down >= 2)
        moved[:, 1] += (right - left >= 2).astype(int) - (left - right >= 2)
        picture = self.painted(moved)
        for agent in range(2):
            row, column = self.agents[:, agent].T
            assert not picture[self.episodes, row, column].any(), "the rule that never applies"
        self.moves_of_the_box += int((moved != self.box).any(-1).sum())
        self.lone_pushes += int((pushes.sum(-1) == 1).sum())
        self.opposite_pushes += int(((up & down) | (left & right)).sum())
        self.box = moved

        for agent in range(2):
            row, column = target[:, agent].T
            goes = ~picture[self.episodes, row, column] & live
            self.agents[goes, agent] = target[goes, agent]

        frame = picture.copy()
        frame[:, 1:-1, 1:-1] = False
        hit = frame.any((1, 2)) & live
        self.delivered += hit
        self.seen_box = self.box.copy()
        if self.ends:
            self.over |= hit
        elif hit.any():
            self.box[hit] = after.box[hit]
            self.check_new(self.box[hit], self.agents[hit])
        return self.amount * hit, hit & self.ends

    def state(self) -> dict[str, np.ndarray]:
        return {"positions": self.agents, "box": self.box, "boxes_delivered": self.delivered}

    def extras(self) -> dict[str, np.ndarray]:
        return {"boxes_delivered": self.delivered, "solved": self.delivered >= 1}

    def vector(self, box: np.ndarray) -> np.ndarray:
        numbers = np.concatenate([self.agents.reshape(-1, 4), box], axis=1)
        if self.one_hot:
            return np.eye(self.size, dtype=np.float32)[numbers].reshape(len(numbers), -1)
        return numbers.astype(np.float32) * np.float32(1 / self.size)

    def agents_view(self) -> np.ndarray:
        return np.repeat(self.vector(self.seen_box)[:, None], 2, axis=1)

    def global_state(self) -> np.ndarray:
        return self.vector(self.box)

    def action_mask(self) -> np.ndarray:
        return np.ones((len(self.box), 2, 5 if self.edti else 4), bool)
