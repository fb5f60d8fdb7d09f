"""What `SecretRoom` needs to go on."""

import dataclasses

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where everything is. Rooms, doors and their switches are numbered from the top.

    Attributes:
        wall_column: the wall between the left room and the small ones.
        wall_rows: the two walls between the small rooms, from `wall_column` to the right.
        door_rows: [3, 2] first and last row of each door, all in `wall_column`.
        switches: [4, 2] centres: of the left room's switch, then of each small room's.
        reach: a switch is pressed from this many rows and columns around its centre.
        target_row: the target room's last row,
        target_column: and its first column.
        starts: [2, 2] of the agents, unless they are random.
    """

    wall_column: int
    wall_rows: tuple[int, int]
    door_rows: np.ndarray
    switches: np.ndarray
    reach: int
    target_row: int
    target_column: int
    starts: np.ndarray

    @classmethod
    def make(cls, variant: str, size: int) -> "Geometry":
        """The map of a variant, by the formulae of its code."""
        wall_column, near, far = size // 2, size // 5, 4 * size // 5
        first = size // 3
        if variant == "edti":
            wall_rows = (first, 2 * first)
            centres = np.array([size * k // 6 for k in (1, 3, 5)], np.int32)
            door_rows = np.stack([centres - 1, centres], axis=1)
            reach, target_row, target_column = 0, first - 1, wall_column + 1
            starts = np.zeros((2, 2), np.int32)
        else:
            second = 2 * size // 3
            wall_rows = (first, second)
            halves = (first // 2, (first + second) // 2, (second + size) // 2)
            centres = np.array(halves, np.int32)
            door_rows = np.stack([centres - 1, centres + 1], axis=1)
            # The code compares with size / 2 + 1, which is no whole number for an odd size.
            reach, target_row, target_column = 1, first + 1, (size + 1) // 2 + 1
            starts = np.array([[1 + size // 10] * 2, [size // 10] * 2], np.int32)
        switches = np.array([[far, near], *([row, far] for row in centres)], np.int32)
        return cls(
            wall_column, wall_rows, door_rows, switches, reach, target_row, target_column, starts
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that `SecretRoom` needs to go on.

    Attributes:
        key: random key of the episode; the steps draw nothing from it.
        step_count: [] int32, steps since the reset.
        positions: [2, 2] int32, (row, column) of agent 0 and of agent 1.
        doors: [3] int32, steps for which each door is still open, from the top; 0 if closed.
    """

    key: jax.Array
    step_count: jax.Array
    positions: jax.Array
    doors: jax.Array
