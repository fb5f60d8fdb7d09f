"""Turn, the didactic game of CIA.

Paper: Liu et al., "Contrastive Identity-Aware Learning for Multi-Agent Value Decomposition".
Source of the rules: github.com/liushunyu/CIA, src/envs/turn/turn.py.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jumanji.types import TimeStep

from envs import grid
from envs.base import MultiAgentEnv, Observation
from envs.configuration import Config, Range
from envs.turn.state import SIZE, State
from envs.viewer import Viewer

EAT, STAY = 4, 5
APPLE_REWARD = 10.0
STARTS = ((0, 0), (SIZE - 1, SIZE - 1))

# CIA's code uses an offset of -1, 0 or 1 as an index into a 3x3 map, where -1 means the last row or
# column.
_VIEW = grid.window((0, 1, -1), (0, 1, -1))


@dataclasses.dataclass(frozen=True)
class TurnConfig(Config):
    """Options of `Turn`; the defaults are those of CIA's code.

    Attributes:
        time_limit: steps an episode lasts. [R: turn.yaml: 100]
        punish_trapped_eat: whether the trapped agent pays for "eat" as it pays for a move. CIA's
            code makes it pay for everything but "stay" (true); the paper's text says "when moving"
            (false). [R, P]
    """

    time_limit: Annotated[int, Range(minimum=1)] = 100
    punish_trapped_eat: bool = True


class Turn(MultiAgentEnv[State]):
    """Two agents in an open field eat apples in turn; whose turn it is they cannot see.

    Tags: [R] CIA's public code, [P] its paper, [S] a choice of this project where both are silent,
    [C] computed by this project from the rules.

    Map [R]: 5x5 cells, no walls. (row, column), row 0 at the top.

          0 1 2 3 4
        0 A . . . .      A: agent 0, starts at (0, 0), free at first
        1 . . . . .      B: agent 1, starts at (4, 4), trapped at first
        2 . . . . .      the apple: uniformly at any of the 25 cells, an agent's own included
        3 . . . . .
        4 . . . . B      (the paper's figure draws both agents in the bottom corners)

    Actions [R], [2] int32; all are legal always, `action_mask` is [2, 6] and all true:
        0 up, 1 down, 2 left, 3 right, 4 eat, 5 stay.

    One step [R]. Exactly one agent is free, the other is trapped.
        - The trapped agent never moves. It pays 1 for every action but "stay", "eat" included (the
          paper's text says only that it is punished when moving: `punish_trapped_eat=False`).
        - The free agent moves; a move off the grid costs 1 and leaves it where it is. "eat" on the
          apple's cell earns 10. "eat" elsewhere and "stay" are free of charge. Both agents may
          stand in one cell.
        - After both were dealt with, an eaten apple passes the turn to the other agent and a new
          apple appears uniformly at any of the 25 cells. So the turn counts from the next step.

    Reward [R], [2] float32: the team's sum of the above, the same number for both agents. Per step
    in {10, 9, 0, -1, -2}.

    End [R]: after `time_limit` = 100 steps, and only then. CIA's code hands PyMARL no time-limit
    flag, so the end is a true terminal state: the last discount is 0 (`time_limit_is_termination`).

    Observation [R]: `agents_view` [2, 18] float32, for each agent
        0..8   where the other agent is, if within one row and one column: 1 at its offset, else 0
        9..17  where the apple is, in the same way
    The offset (dx, dy) = (row, column) of the thing minus the agent's own stands at entry
    3 * (dx mod 3) + (dy mod 3): the code's indices wrap, so that the agent's own cell is entry 0.
    Neither its own position, nor the borders, nor whose turn it is can be seen.

    `global_state` [77] float32 [R]: 25 entries one-hot of the apple's cell, 25 of agent 0's, 25 of
    agent 1's (each row by row), then two flags: agent 0 is free, agent 1 is free. The clock is not
    in it.

    `extras` [S]: `apples_eaten` and `penalties`, [] int32, counts since the reset. Return =
    10 apples_eaten - penalties.

    Chance: the apple's cell and nothing else. Its number is floor(25 u), u uniform float32 in
    [0, 1) with 23 random bits [S]; so a cell's probability is off 1/25 by less than one part in
    100,000. One u is drawn in each step, from `fold_in(state.key, step_count)`, whether or not it
    is needed; `state.key` stays the same for the episode.

    Known mean returns [C]: uniformly random actions -93 (standard deviation 9), always "stay" 0,
    `scripted_action` (which sees everything) 231 (standard deviation 21), which is the optimum.
    """

    Config: ClassVar[type[Config]] = TurnConfig
    time_limit_is_termination: ClassVar[bool] = True
    ends_early = False
    binary = ("agents_view", "global_state")

    def _setup(self) -> None:
        self.num_agents = 2
        self.num_actions = 6
        self.time_limit = self.config.time_limit
        self.agents_view_size = 2 * len(_VIEW)
        self.global_state_size = 3 * SIZE * SIZE + 2

    def reset(self, key: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        key, apple_key = jax.random.split(key)
        zero = jnp.zeros((), jnp.int32)
        state = State(
            key=key,
            step_count=zero,
            positions=jnp.asarray(STARTS, jnp.int32),
            apple=_draw_apple(apple_key),
            turn=zero,
            apples_eaten=zero,
            penalties=zero,
        )
        return state, self._restart(self._observe(state), _extras(state))

    def step(self, state: State, action: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [2] int32, each in 0..5.

        Returns:
            The next state and its time step.
        """
        step_count = state.step_count + 1
        # Cheaper than splitting the key and carrying the rest: a quarter of the whole step.
        new_apple = _draw_apple(jax.random.fold_in(state.key, step_count))
        free = state.turn == jnp.arange(2)
        wanted = state.positions + grid.displacement(action)
        inside = grid.inside(wanted, SIZE, SIZE)

        eaten = jnp.any(free & (action == EAT) & grid.same_cell(state.positions, state.apple))
        struggles = action != STAY
        if not self.config.punish_trapped_eat:
            struggles &= action != EAT
        punished = jnp.sum(jnp.where(free, ~inside, struggles), dtype=jnp.int32)

        next_state = State(
            key=state.key,
            step_count=step_count,
            positions=jnp.where((free & inside)[:, None], wanted, state.positions),
            apple=jnp.where(eaten, new_apple, state.apple),
            turn=jnp.where(eaten, 1 - state.turn, state.turn),
            apples_eaten=state.apples_eaten + eaten,
            penalties=state.penalties + punished,
        )
        reward = APPLE_REWARD * eaten - punished
        never = jnp.zeros((), bool)
        timestep = self._transition(self._observe(next_state), reward, never, _extras(next_state))
        return next_state, timestep

    def scripted_action(self, state: State) -> jax.Array:
        """The optimum: the free agent walks to the apple and eats, the trapped one stays.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [2] int32.
        """
        way = state.apple - state.positions
        vertical = jnp.where(way[:, 0] < 0, grid.UP, grid.DOWN)
        horizontal = jnp.where(way[:, 1] < 0, grid.LEFT, grid.RIGHT)
        walk = jnp.where(way[:, 0] != 0, vertical, jnp.where(way[:, 1] != 0, horizontal, EAT))
        return jnp.where(state.turn == jnp.arange(2), walk, STAY).astype(jnp.int32)

    def _observe(self, state: State) -> Observation:
        ways = jnp.stack([state.positions[::-1], jnp.stack([state.apple] * 2)], axis=1)
        views = grid.local_view(ways - state.positions[:, None], _VIEW)
        cells = jnp.concatenate([state.apple[None], state.positions])
        free = (state.turn == jnp.arange(2)).astype(jnp.float32)
        return Observation(
            agents_view=views.reshape(2, -1),
            action_mask=jnp.ones((2, self.num_actions), bool),
            global_state=jnp.concatenate([grid.one_hot(cells, SIZE, SIZE).ravel(), free]),
            alive=jnp.ones((2,), bool),
            step_count=state.step_count,
        )

    def _make_viewer(self) -> Viewer[State]:
        from envs.turn.viewer import TurnViewer

        return TurnViewer(self.time_limit)


def _draw_apple(key: jax.Array) -> jax.Array:
    """[2] int32, a uniform cell of the grid."""
    cell = jnp.floor(SIZE * SIZE * jax.random.uniform(key)).astype(jnp.int32)
    row = cell // SIZE
    return jnp.stack([row, cell - SIZE * row])


def _extras(state: State) -> dict[str, Any]:
    return {"apples_eaten": state.apples_eaten, "penalties": state.penalties}
