"""Secret Room: two agents open doors for each other until both are in the same small room.

Paper: "Influence-Based Reinforcement Learning for Intrinsically-Motivated Agents" (ALITA), section
4.1.2, which describes the task and names no code.
Sources of the rules: github.com/TonghanWang/EITI-EDTI, baselines/three_pass_environment.py, and
github.com/IouJenLiu/CMAE, env/secret_rooms.py and env/rooms.py.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs import grid
from envs.base import MultiAgentEnv, Observation
from envs.configuration import Config, ConfigurationError, Range
from envs.secret_room.state import Geometry, State
from envs.viewer import Viewer

# Smaller maps have doors or switches in walls.
MINIMUM_SIZE = {"edti": 10, "cmae": 11}


@dataclasses.dataclass(frozen=True)
class SecretRoomConfig(Config):
    """Options of `SecretRoom`; None stands for the variant's own value.

    Attributes:
        variant: whose rules: EDTI's or CMAE's code.
        size: rows and columns of the map. [P: 25; R: EDTI's code default is 30]
        time_limit: steps an episode lasts at most. [R: 300]
        door_open_steps: further steps for which a door stays open (EDTI's `doi`); EDTI only. [R: 0
            in its published command, 8 in its code]
        doors_observed: whether agents see which doors are open, as ALITA's text says. EDTI's code
            shows it to nobody (false). [P, R]
        random_start: whether each agent starts at a uniform cell of the left room. [R: EDTI's code
            without `--fix_start`; S in "cmae", which always has fixed starts]
        success_reward: paid to each agent when the task is solved. [R: 1000 in EDTI, 1 in CMAE]
        observation: "coordinates" shows every coordinate as one number, coordinate / size;
            "one_hot" as a one-hot vector of `size` entries (EDTI's code), "cells" as the coordinate
            itself (CMAE's code). [S, R, R]

    Raises:
        ConfigurationError: also if the map is too small, or an option has no meaning in the
            variant.
    """

    variant: Literal["edti", "cmae"] = "edti"
    size: Annotated[int, Range(minimum=1, maximum=1000)] = 25
    time_limit: Annotated[int, Range(minimum=1)] = 300
    door_open_steps: Annotated[int, Range(minimum=0)] = 0
    doors_observed: bool = True
    random_start: bool = False
    success_reward: Annotated[float, Range(above=0.0)] | None = None
    observation: Literal["coordinates", "one_hot", "cells"] = "coordinates"

    def __post_init__(self) -> None:
        super().__post_init__()
        minimum = MINIMUM_SIZE[self.variant]
        if self.size < minimum:
            raise ConfigurationError(
                f"size is {self.size!r}; it must be at least {minimum} in the {self.variant} "
                "variant."
            )
        if self.variant == "cmae" and self.door_open_steps > 0:
            raise ConfigurationError(
                f"door_open_steps is {self.door_open_steps!r}; it must be 0 in the cmae variant, "
                "whose doors are open only while a switch is pressed."
            )


class SecretRoom(MultiAgentEnv[State]):
    """Two agents open doors for each other until both are in the target room.

    Tags: [P] ALITA's paper, [R] public code (EDTI's or CMAE's, as the text says), [S] a choice of
    this project where both are silent, [C] computed by this project from the rules. ALITA does not
    say which code it used; the default is EDTI's map with the doors seen by the agents [S].

    Map, variant "edti" [R], `size` = 25: (row, column), row 0 at the top.

         0 A...........#............       #  wall
         1 ............#............       +  door 1, 2 or 3, from the top: a wall while closed
         2 ............#............       L  switch of all three doors
         3 ............+............       1 2 3  switch of that door only
         4 ............+.......1....       A  both agents start at (0, 0), in one cell
         5 ............#............
         6 ............#............       target room: the top right one, rows 0..7 and columns
         7 ............#............       13..24
         8 ............#############
         9 ............#............       wall: column size // 2; from there to the right also
        10 ............#............       rows size // 3 and 2 (size // 3)
        11 ............+............       doors: rows d - 1 and d with d = size k // 6, k = 1, 3, 5
        12 ............+.......2....       switches: L (4 size // 5, size // 5), the others in row d,
        13 ............#............       column 4 size // 5
        14 ............#............
        15 ............#............
        16 ............#############
        17 ............#............
        18 ............#............
        19 ............+............
        20 .....L......+.......3....
        21 ............#............
        22 ............#............
        23 ............#............
        24 ............#............

    Map, variant "cmae" [R]: the same walls and switches with these differences. A door has three
    rows (3..5, 11..13, 19..21). A switch is pressed from anywhere in the 3x3 cells around it. Agent
    0 starts at (3, 3), agent 1 at (2, 2). The target is wider than the top room in its rows and
    narrower in its columns: rows 0..9 and columns 14..24, so that row 9 of the middle room belongs
    to it. (For other sizes: walls in rows size // 3 and 2 size // 3, door centres and switches
    halfway between them and the border, starts 1 + size // 10 and size // 10, target up to row
    size // 3 + 1 and from column size / 2 + 1, rounded up.)

    Actions, [2] int32; all are legal always, `action_mask` is [2, 4] and all true:
        0 up, 1 down, 2 left, 3 right. There is no "stay": bumping into something is staying [R].
    The numbers are those of all grid worlds here [S]. EDTI's code has 0 up, 1 right, 2 down,
    3 left; CMAE's has the order above.

    One step [R].
        - Both agents move; walls, doors closed at the end of the step before, and the border stop
          them. They may stand in one cell. An agent in a doorway that closes stays there and can
          leave it to the left and to the right; no door is in its way.
        - Then every open door's time runs on by one step, and it closes when its time is over.
        - Then every closed door opens for 1 + `door_open_steps` steps if an agent stands on L or on
          the door's own switch. So with `door_open_steps` = 0 a door lets an agent pass if and only
          if one of its switches was pressed at the end of the step before. A switch does not
          prolong the time of a door that is open.
        - In "cmae" only the first pressed switch in the order L, 1, 2, 3 works.
        All doors are closed at the start, also if an agent starts on a switch.

    Reward, [2] float32: `success_reward` to each agent, 1000 in "edti" and 1 in "cmae" [R], in the
    step after which both are in the target room; otherwise 0. ALITA reports the success rate. (The
    dense rewards of CMAE's "_ckpt" variant are not here.)

    End: as soon as both agents are in the target room, a termination (discount 0) [P, R]. After
    `time_limit` = 300 steps [R] the episode is truncated (discount 1 unless it has just been
    solved) [S]; both codes report one flag for either end.

    Observation: `agents_view` [2, F] float32, the same vector for both agents [R]: row and column
    of agent 0, of agent 1, then, with `doors_observed`, for each door 1 if it is open [P]. A shared
    network cannot tell from it which agent it acts for; the learner adds the identity where a
    method wants it.
        "coordinates"  F = 4 + 3: each coordinate divided by `size` [S]
        "cells"        F = 4 + 3: each coordinate as it is [R: CMAE, whose code has column before
                       row, and the doors as one number in 0..7]
        "one_hot"      F = 4 size + 3: each coordinate one-hot over 0..size-1 [R: EDTI, which has
                       no doors: F = 100 with `doors_observed=False`]

    `global_state` [G] float32 [S]: the same vector, always with the three doors; with
    `door_open_steps` above 0 each door's entry is its remaining time, steps / (1 +
    `door_open_steps`). The clock is not in it.

    `extras` [S], [] int32: `solved`, 1 if both agents are in the target room (its mean over
    episodes is the success rate, the headline), and `agents_in_target`, 0..2.

    Chance: the starts if `random_start`, row and column uniform; nothing otherwise.

    Known numbers [C]: the fewest steps are 49 ("edti") and 37 ("cmae"). `scripted_action` needs
    exactly as many, so its return is 1000 and 1; over all random starts it needs 41.9 in the mean
    and 57 at most ("edti"), 34.0 and 44 ("cmae"). Uniformly random actions open a door in 15% of
    the episodes ("edti") or 32% ("cmae") and solved none of 30,000: return 0.
    """

    Config: ClassVar[type[Config]] = SecretRoomConfig
    headline: ClassVar[str | None] = "solved"

    def _setup(self) -> None:
        config = self.config
        self.num_agents = 2
        self.num_actions = 4
        self.time_limit = config.time_limit
        self._geometry = Geometry.make(config.variant, config.size)
        one_hot = config.observation == "one_hot"
        self.binary = ("agents_view",) if one_hot else ()
        coordinates = 4 * (config.size if one_hot else 1)
        self.agents_view_size = coordinates + 3 * config.doors_observed
        self.global_state_size = coordinates + 3
        self._reward = config.success_reward or (1000.0 if config.variant == "edti" else 1.0)

    def reset(self, key: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        positions = jnp.asarray(self._geometry.starts, jnp.int32)
        if self.config.random_start:
            left_room = jnp.asarray([self.config.size, self._geometry.wall_column])
            positions = jax.random.randint(key, (2, 2), 0, left_room, jnp.int32)
        state = State(key, jnp.zeros((), jnp.int32), positions, doors=jnp.zeros((3,), jnp.int32))
        return state, self._restart(self._observe(state), self._extras(state))

    def step(self, state: State, action: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [2] int32, each in 0..3.

        Returns:
            The next state and its time step.
        """
        positions = self._walk(state, action)
        left = jnp.maximum(state.doors - 1, 0)
        opens = (left == 0) & self._called(positions)
        next_state = State(
            key=state.key,
            step_count=state.step_count + 1,
            positions=positions,
            doors=jnp.where(opens, 1 + self.config.door_open_steps, left),
        )
        solved = jnp.all(self._in_target(positions))
        timestep = self._transition(
            self._observe(next_state), self._reward * solved, solved, self._extras(next_state)
        )
        return next_state, timestep

    def scripted_action(self, state: State) -> jax.Array:
        """The fastest way from the fixed starts, and a good one from all others.

        Agent 0 presses L until agent 1 is through the door, agent 1 presses that room's switch
        until agent 0 is through it. There is no "stay", so to press a switch for longer is to step
        off it and on again, and an agent waits at a door by bumping into it. In "cmae" they use the
        middle door, close to L, because row 9 behind it belongs to the target.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [2] int32.
        """
        g = self._geometry
        room = 0 if self.config.variant == "edti" else 1
        top, bottom = g.door_rows[room]
        a, b = state.positions
        a_through, b_through = state.positions[:, 1] >= g.wall_column
        finish = jnp.where((a[1] >= g.target_column) & (a[0] > g.target_row), grid.UP, grid.RIGHT)
        to_door = _rows_first(a, jnp.clip(a[0], top, bottom))
        to_switch = _columns_first(a, g.switches[0])
        on_switch = jnp.all(jnp.abs(a - g.switches[0]) <= g.reach)
        press = jnp.where(on_switch, to_door, to_switch)
        first = jnp.where(a_through, finish, jnp.where(b_through, to_door, press))

        # The way to the middle of the door's upper row keeps step with agent 0's way back.
        enter = _rows_first(b, top)
        hold = _columns_first(b, g.switches[1 + room])
        inside = jnp.where(b[0] > g.target_row, grid.UP, grid.RIGHT)
        second = jnp.where(a_through, inside, jnp.where(b_through, hold, enter))
        return jnp.stack([first, second]).astype(jnp.int32)

    def _walk(self, state: State, action: jax.Array) -> jax.Array:
        """[2, 2] int32, the agents' cells after their moves."""
        g, size = self._geometry, self.config.size
        wanted = state.positions + grid.displacement(action)
        row, column = wanted[:, 0], wanted[:, 1]
        behind = (row[:, None] >= g.door_rows[:, 0]) & (row[:, None] <= g.door_rows[:, 1])
        doorway = jnp.any(behind & (state.doors > 0), axis=-1)
        wall = (column == g.wall_column) & ~doorway
        wall |= (column > g.wall_column) & ((row == g.wall_rows[0]) | (row == g.wall_rows[1]))
        free = grid.inside(wanted, size, size) & ~wall
        return jnp.where(free[:, None], wanted, state.positions)

    def _called(self, positions: jax.Array) -> jax.Array:
        """[3] bool, whether a switch opens each door."""
        g = self._geometry
        near = jnp.abs(positions[:, None] - g.switches) <= g.reach
        everything, *single = jnp.any(near[..., 0] & near[..., 1], axis=0)
        if self.config.variant == "cmae":
            first, second, third = single
            single = [first, second & ~first, third & ~first & ~second]
        return everything | jnp.stack(single)

    def _in_target(self, positions: jax.Array) -> jax.Array:
        """[2] bool."""
        g = self._geometry
        return (positions[:, 0] <= g.target_row) & (positions[:, 1] >= g.target_column)

    def _observe(self, state: State) -> Observation:
        config = self.config
        cells = grid.encode(state.positions.ravel(), config.size, config.observation)
        is_open = (state.doors > 0).astype(jnp.float32)
        view = jnp.concatenate([cells, is_open]) if config.doors_observed else cells
        times = state.doors.astype(jnp.float32) * np.float32(1 / (1 + config.door_open_steps))
        return Observation(
            agents_view=jnp.stack([view, view]),
            action_mask=jnp.ones((2, self.num_actions), bool),
            global_state=jnp.concatenate([cells, times]),
            alive=jnp.ones((2,), bool),
            step_count=state.step_count,
        )

    def _extras(self, state: State) -> dict[str, Any]:
        there = jnp.sum(self._in_target(state.positions), dtype=jnp.int32)
        return {"solved": (there == 2).astype(jnp.int32), "agents_in_target": there}

    @property
    def own_features(self) -> np.ndarray:
        """An agent's own cell, as EDTI counts it; the doors are not counted."""
        width = self.config.size if self.config.observation == "one_hot" else 1
        cells = np.repeat([[1, 1, 0, 0], [0, 0, 1, 1]], width, axis=1).astype(bool)
        return np.pad(cells, [(0, 0), (0, self.agents_view_size - cells.shape[1])])

    def _make_viewer(self) -> Viewer[State]:
        from envs.secret_room.viewer import SecretRoomViewer

        return SecretRoomViewer(self._geometry, self.config.size, self.time_limit)


def _rows_first(cell: jax.Array, row: jax.Array | int) -> jax.Array:
    """The move from a cell [2] towards a row, then to the right."""
    vertical = jnp.where(cell[0] < row, grid.DOWN, grid.UP)
    return jnp.where(cell[0] == row, grid.RIGHT, vertical)


def _columns_first(cell: jax.Array, target: np.ndarray) -> jax.Array:
    """The move from a cell [2] towards another's column, then its row; up if it is there."""
    horizontal = jnp.where(cell[1] < target[1], grid.RIGHT, grid.LEFT)
    vertical = jnp.where(cell[0] < target[0], grid.DOWN, grid.UP)
    return jnp.where(cell[1] == target[1], vertical, horizontal)
