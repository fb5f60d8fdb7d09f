"""Push-Box: a box so heavy that it moves only if both agents push it at once.

Paper: "Influence-Based Reinforcement Learning for Intrinsically-Motivated Agents" (ALITA), section
4.1.2, which describes the task and names no code.
Sources of the rules: github.com/TonghanWang/EITI-EDTI, baselines/pushball_environment.py, and
github.com/IouJenLiu/CMAE, env/push_box.py.
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
from envs.push_box.state import State
from envs.viewer import Viewer

STAY = 4

# The changes of cell of the four moves, in the order of their numbers.
_MOVES = np.asarray([(-1, 0), (1, 0), (0, -1), (0, 1)], np.int32)


@dataclasses.dataclass(frozen=True)
class PushBoxConfig(Config):
    """Options of `PushBox`; None stands for the variant's own value.

    Attributes:
        variant: whose rules: EDTI's or CMAE's code.
        size: rows and columns of the map, its walls included.
        time_limit: steps an episode lasts at most. [P, R: 300]
        terminate_on_success: whether the first box at the wall ends the episode, as ALITA's text
            reads (true). In EDTI's code it does not: a new box appears and the episode goes on
            (false). [P, R]
        success_reward: paid to each agent for a box at the wall. [R: 1000 in EDTI, 1 in CMAE]
        observation: "one_hot" shows every coordinate as a one-hot vector of `size` entries (EDTI's
            code), "coordinates" as one number, coordinate / size, "cells" as the coordinate itself
            (CMAE's code). [R: one_hot in EDTI; S: coordinates in CMAE]
        box_low: least row and column in which a box appears; EDTI only. [R: 4]
        box_high: greatest such row and column; None is size - 4. [R: 11, which is 15 - 4; EDTI's
            code has 11 whatever the size]

    Raises:
        ConfigurationError: also if an option has no meaning in the variant, or a box could not
            appear where it is told to.
    """

    variant: Literal["edti", "cmae"] = "edti"
    size: Annotated[int, Range(minimum=9, maximum=1000)] = 15
    time_limit: Annotated[int, Range(minimum=1)] = 300
    terminate_on_success: bool = True
    success_reward: Annotated[float, Range(above=0.0)] | None = None
    observation: Literal["one_hot", "coordinates", "cells"] | None = None
    box_low: Annotated[int, Range(minimum=1)] | None = None
    box_high: Annotated[int, Range(minimum=1)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant == "cmae":
            self._check_cmae()
            return
        low, high = self.box_range
        if high > self.size - 2:
            raise ConfigurationError(
                f"box_high is {high!r}; it must be at most {self.size - 2} (size - 2)."
            )
        # A single cell might be the one in which the agents stand.
        if low >= high:
            raise ConfigurationError(
                f"box_low is {low!r}; it must be less than box_high, which is {high!r}."
            )

    def _check_cmae(self) -> None:
        if not self.terminate_on_success:
            raise ConfigurationError(
                "terminate_on_success is False; it must be True in the cmae variant, whose episode "
                "ends with its only box."
            )
        for name in ("box_low", "box_high"):
            if getattr(self, name) is not None:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}; it must be None in the cmae variant, whose "
                    "box always starts in the middle."
                )

    @property
    def box_range(self) -> tuple[int, int]:
        """Least and greatest row and column in which a box appears in EDTI's variant."""
        low = 4 if self.box_low is None else self.box_low
        return low, self.size - 4 if self.box_high is None else self.box_high


class PushBox(MultiAgentEnv[State]):
    """Two agents bring a box to the wall; it moves only if both push it the same way at once.

    Tags: [P] ALITA's paper, [R] public code (EDTI's or CMAE's, as the text says), [S] a choice of
    this project where both are silent, [C] computed by this project from the rules. ALITA does not
    say which code it used; its 1000 is EDTI's and its one box an episode is CMAE's, so the default
    is EDTI's world with the episode ending at the first box [S].

    Map, variant "edti" [R], `size` = 15: (row, column), row 0 at the top.

           0 1 2 3 4 5 6 7 8 9 ...     #: wall, which only the box may enter: the goal
         0 # # # # # # # # # # ...     A: both agents start at (1, 1), in one cell
         1 # A . . . . . . . . ...     b: the box appears uniformly at one of the 64 cells with row
         2 # . . . . . . . . . ...        and column in 4..11, `box_low`..`box_high`, in which no
         3 # . . . . . . . . . ...        agent stands
         4 # . . . b b b b b b ...
         .                             (rows and columns 1..13 are free, 0 and 14 are wall)

    Map, variant "cmae" [R]: 15x15 free cells, no wall. The box is 3x3, its centre starts at (7, 7)
    (size // 2); agent 0 starts at (11, 11), agent 1 at (9, 9) (size // 2 + 4 and + 2). The box is
    at the wall when one of its cells is in the outermost row or column.

    Actions, [2] int32; all are legal always, `action_mask` is [2, A] and all true:
        0 up, 1 down, 2 left, 3 right, and in "edti" 4 stay. So A is 5 in "edti" and 4 in "cmae".
    The numbers are those of all grid worlds here [S]. EDTI's code has 0 up, 1 right, 2 down,
    3 left, 4 stay; CMAE's has the order above.

    One step [R].
        - An agent pushes if its move would take it into a cell of the box. If both push, and the
          same way, the box moves by one cell that way. In "edti" they therefore must stand in one
          cell behind it; in "cmae" also in different cells of one side.
        - Then both agents move, into the cell that the box has just left as well. The box, where
          it is now, and the border of the free cells stop an agent. Agents never stop each other.
        (EDTI's code also keeps the box from moving onto an agent. With two agents this cannot
        happen [C]: both stand behind it.)

    Reward, [2] float32: `success_reward` to each agent in the step that brings the box to the wall,
    1000 in "edti" [P, R], 1 in "cmae" [R]; otherwise 0. (The dense rewards of CMAE's "_ckpt"
    variant are not here.)

    End: with `terminate_on_success`, the first box at the wall is a termination (discount 0) [P,
    and R of CMAE]. Otherwise, as in EDTI's code [R], a new box appears in that same step and the
    episode goes on: the return may exceed 1000. After `time_limit` = 300 steps [P, R] the episode
    is truncated (discount 1 unless the box has just ended it) [S]; both codes report one flag for
    either end.

    Observation: `agents_view` [2, F] float32, the same vector for both agents [R]: row and column
    of agent 0, of agent 1, of the box's centre. A shared network cannot tell from it which agent it
    acts for; the learner adds the identity where a method wants it.
        "one_hot"      F = 6 size = 90: each of the six numbers one-hot over 0..size-1 [R: EDTI]
        "coordinates"  F = 6: each divided by `size` [S]
        "cells"        F = 6: each as it is [R: CMAE, whose code has column before row]
    After a delivery that does not end the episode the box is still seen at the wall; the new one is
    first seen one step later, in which it may be pushed already [R: EDTI].

    `global_state` [G] float32 [S], G = F: the same vector, but with the new box as soon as it is
    there. The clock is not in it.

    `extras` [S], [] int32: `boxes_delivered`, since the reset, and `solved`, 1 once there was one:
    its mean over episodes is the success rate, the headline.

    Chance: where boxes appear, and nothing else; "cmae" has none. The cell's number is floor(n u)
    for n possible cells, u uniform float32 in [0, 1) with 23 random bits [S]. Without
    `terminate_on_success` one u is drawn in each step, from `fold_in(state.key, step_count)`,
    whether or not it is needed.

    Known numbers [C]: the fewest steps to the wall are 11 to 22, depending on the box's cell, and
    16.875 in the mean ("edti"), 11 ("cmae"). `scripted_action` needs exactly as many, so its return
    is 1000 and 1; without `terminate_on_success` it delivers 23.9 boxes (standard deviation 1.0)
    in 300 steps. Uniformly random actions move the box in 1 of 600 episodes ("edti") or 1 of 60
    ("cmae") and brought it to the wall in none of 30,000: return 0.
    """

    Config: ClassVar[type[Config]] = PushBoxConfig
    headline: ClassVar[str | None] = "solved"

    def _setup(self) -> None:
        config = self.config
        self.ends_early = config.terminate_on_success
        edti = config.variant == "edti"
        self.num_agents = 2
        self.num_actions = 5 if edti else 4
        self.time_limit = config.time_limit
        self._size = config.size
        self._observation = config.observation or ("one_hot" if edti else "coordinates")
        one_hot = self._observation == "one_hot"
        self.binary = ("agents_view", "global_state") if one_hot else ()
        self.agents_view_size = self.global_state_size = 6 * (self._size if one_hot else 1)
        self._reward = config.success_reward or (1000.0 if edti else 1.0)
        # Cells of the box on each side of its centre, and the free rows and columns.
        self._radius = 0 if edti else 1
        self._free = (1, self._size - 2) if edti else (0, self._size - 1)

    def reset(self, key: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        key, box_key = jax.random.split(key)
        middle = self._size // 2
        zero = jnp.zeros((), jnp.int32)
        if self.config.variant == "edti":
            positions = jnp.ones((2, 2), jnp.int32)
            box = self._new_box(box_key, positions)
        else:
            positions = jnp.asarray([[middle + 4] * 2, [middle + 2] * 2], jnp.int32)
            box = jnp.full((2,), middle, jnp.int32)
        state = State(key, zero, positions, box, boxes_delivered=zero)
        return state, self._restart(self._observe(state, box), _extras(state))

    def step(self, state: State, action: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [2] int32, each in 0..4 ("edti") or 0..3 ("cmae").

        Returns:
            The next state and its time step.
        """
        step_count = state.step_count + 1
        box = self._push(state, action)
        positions = self._walk(state.positions, grid.displacement(action), box)
        delivered = jnp.any((box <= self._radius) | (box >= self._size - 1 - self._radius))
        next_box, terminated = box, delivered
        if not self.config.terminate_on_success:
            new_box = self._new_box(jax.random.fold_in(state.key, step_count), positions)
            next_box = jnp.where(delivered, new_box, box)
            terminated = jnp.zeros((), bool)
        next_state = State(
            key=state.key,
            step_count=step_count,
            positions=positions,
            box=next_box,
            boxes_delivered=state.boxes_delivered + delivered,
        )
        timestep = self._transition(
            self._observe(next_state, box),
            self._reward * delivered,
            terminated,
            _extras(next_state),
        )
        return next_state, timestep

    def scripted_action(self, state: State) -> jax.Array:
        """The fastest way: to the side from which the wall is reached soonest, then push.

        An agent that is there pushes at once; alone that moves nothing, so it is how it waits.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [2] int32.
        """
        ways = self._steps_behind(state.positions, state.box)
        first, last = self._radius, self._size - 1 - self._radius
        row, column = state.box
        pushes = jnp.stack([row - first, last - row, column - first, last - column])
        direction = jnp.argmin(jnp.max(ways, axis=0) + pushes)
        neighbours = self._walk(state.positions[:, None], jnp.asarray(_MOVES), state.box)
        onwards = jnp.argmin(self._steps_behind(neighbours, state.box)[..., direction], axis=-1)
        return jnp.where(ways[:, direction] == 0, direction, onwards).astype(jnp.int32)

    def _push(self, state: State, action: jax.Array) -> jax.Array:
        """[2] int32, the box's centre after both agents' pushes."""
        move = grid.displacement(action)
        offset = state.box - state.positions
        ahead = jnp.sum(offset * move, axis=-1)
        aside = jnp.abs(jnp.sum(offset * move[:, ::-1], axis=-1))
        pushes = (ahead == self._radius + 1) & (aside <= self._radius)
        together = jnp.all(pushes) & (action[0] == action[1])
        return state.box + jnp.where(together, move[0], 0)

    def _walk(self, cell: jax.Array, move: jax.Array, box: jax.Array) -> jax.Array:
        """Where agents in cells [..., 2] get with moves [..., 2]."""
        wanted = cell + move
        low, high = self._free
        free = jnp.all((wanted >= low) & (wanted <= high), axis=-1)
        free &= jnp.any(jnp.abs(wanted - box) > self._radius, axis=-1)
        return jnp.where(free[..., None], wanted, cell)

    def _steps_behind(self, cell: jax.Array, box: jax.Array) -> jax.Array:
        """[..., 4] steps from cells [..., 2] to where one can push the box up, down, left, right.

        The border is not considered: a side of the box on which there is no room for an agent is
        the one next to the wall, from which no way is the fastest.
        """
        offset = (cell - box)[..., None, :]
        ahead = jnp.sum(offset * _MOVES, axis=-1)
        aside = jnp.abs(jnp.sum(offset * _MOVES[:, ::-1], axis=-1))
        reach = self._radius + 1
        along = jnp.abs(ahead + reach)
        inwards = jnp.maximum(aside - self._radius, 0)
        # In front of the box: out to the side, along it, and in again.
        detour = jnp.where((aside < reach) & (ahead >= reach), reach - aside + 1, 0)
        return along + inwards + detour

    def _new_box(self, key: jax.Array, positions: jax.Array) -> jax.Array:
        """[2] int32, a uniform cell among those where a box may appear and no agent stands.

        Whenever a box appears both agents stand in one cell: at their start, or behind the box that
        they have just pushed.
        """
        low, high = self.config.box_range
        width = high - low + 1
        agent = positions[0] - low
        taken = grid.inside(agent, width, width)
        count = width * width - taken
        number = jnp.floor(count * jax.random.uniform(key)).astype(jnp.int32)
        number += taken & (number >= agent[0] * width + agent[1])
        row = number // width
        return low + jnp.stack([row, number - width * row])

    def _observe(self, state: State, seen_box: jax.Array) -> Observation:
        view = self._encode(state.positions, seen_box)
        return Observation(
            agents_view=jnp.stack([view, view]),
            action_mask=jnp.ones((2, self.num_actions), bool),
            global_state=self._encode(state.positions, state.box),
            alive=jnp.ones((2,), bool),
            step_count=state.step_count,
        )

    def _encode(self, positions: jax.Array, box: jax.Array) -> jax.Array:
        """[F] float32, the six coordinates."""
        numbers = jnp.concatenate([positions.ravel(), box])
        return grid.encode(numbers, self._size, self._observation)

    @property
    def own_features(self) -> np.ndarray:
        """An agent's own cell and the box's, as EDTI counts them."""
        width = self.agents_view_size // 6
        return np.repeat([[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]], width, axis=1).astype(bool)

    @property
    def body_features(self) -> np.ndarray:
        """An agent's own cell: a step's outcome, to EDTI's code, does not hold the box."""
        width = self.agents_view_size // 6
        return np.repeat([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]], width, axis=1).astype(bool)

    def _make_viewer(self) -> Viewer[State]:
        from envs.push_box.viewer import PushBoxViewer

        return PushBoxViewer(self.config.variant, self._size, self.time_limit)


def _extras(state: State) -> dict[str, Any]:
    solved = (state.boxes_delivered > 0).astype(jnp.int32)
    return {"boxes_delivered": state.boxes_delivered, "solved": solved}
