"""Windy Maze, a grid world of EOI.

Source of the rules: Jiang and Lu, "The Emergence of Individuality", section 4.1. No code of this
world was ever published.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jumanji.types import TimeStep

from envs import grid
from envs.base import MultiAgentEnv, Observation
from envs.configuration import Config, ConfigurationError, Range
from envs.viewer import Viewer
from envs.windy_maze.state import State

EAT = 4
VIEW_RADIUS = 2


@dataclasses.dataclass(frozen=True)
class WindyMazeConfig(Config):
    """Options of `WindyMaze`; the paper gives the wind's probability, the rest is ours [S].

    In a maze of these sizes QMIX and MAAC stay at the paper's 1 in seven of eight seeds [C]; with
    stem 2 and arm 3 QMIX's exploration finds the left dot.

    Attributes:
        stem: cells of the stem, below the bar.
        arm: cells of the bar on each side of the junction.
        wind_from: smallest x of the bar where the wind blows, x = 0 being the junction; -arm is
            the whole bar.
        wind_probability: how often the wind moves an agent. [P]
        time_limit: steps an episode lasts; None is stem + 3 arm + 1, the most for which nobody can
            eat one dot and then the other.

    Raises:
        ConfigurationError: also if `wind_from` lies off the bar.
    """

    stem: Annotated[int, Range(minimum=1, maximum=15)] = 3
    arm: Annotated[int, Range(minimum=1, maximum=15)] = 4
    wind_from: Annotated[int, Range(minimum=-15, maximum=15)] = 0
    wind_probability: Annotated[float, Range(minimum=0.0, maximum=1.0)] = 0.4
    time_limit: Annotated[int, Range(minimum=1)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -self.arm <= self.wind_from <= self.arm:
            raise ConfigurationError(
                f"wind_from is {self.wind_from!r}; it must be at least {-self.arm} and at most "
                f"{self.arm}, the ends of the bar (arm is {self.arm})."
            )


class WindyMaze(MultiAgentEnv[State]):
    """Two agents in a T-shaped maze eat the dots at its two ends; a wind blows to the right one.

    Tags: [P] EOI's paper, section 4.1, [S] a choice of this project where the paper is silent, [C]
    computed by this project from the rules. Its authors' code was never published.

    Map [P: a T, a dot at each of its two ends, both agents start at the bottom of the stem; S: the
    sizes]. (row, column), row 0 at the top; x = column - `arm`.

          0 1 2 3 4 5 6 7 8
        0 L . . . J>.>.>.>R>    L, R: the dots     > the wind blows here, see below
        1 # # # # . # # # #     J: the junction, x = 0
        2 # # # # . # # # #
        3 # # # # A # # # #     A: both agents start here, together (3, 4)

    Actions [P: four moves and "eat"; S: their numbers], [2] int32; all are legal always,
    `action_mask` is [2, 5] and all true:
        0 up, 1 down, 2 left, 3 right, 4 eat.
    There is no "stay", but "eat" where no dot is and a move into a wall keep an agent in its cell.

    One step:
        - Wind [P: it runs right from a dotted line, and forty percent of the time the agent moves
          to the right cell whatever it does; S: the rest]. The line goes through the junction: the
          wind blows in the cells of the bar with x >= `wind_from` = 0, not in the stem. Each agent
          in such a cell at the start of the step has, independently of the other, its action
          replaced by "right" with probability 0.4; so "eat" is lost, and at the right end the wall
          keeps it where it is.
        - Agents move; walls and the edge of the map stop them. They may share a cell [S].
        - "eat" on a dot's cell eats the dot; two who eat it in the same step eat one dot [S].

    Reward [P: the number of eaten dots, for the team, at the final step only], [2] float32, the
    same number for both agents: 0, 1 or 2 at the last step, 0 before.

    End [S]: after `time_limit` steps, and only then; the reward is paid there, so the limit belongs
    to the task and the last discount is 0 (`time_limit_is_termination`). The default is
    stem + 3 arm + 1 = 16, the longest episode in which nobody can eat one dot and then the other
    [P: it is impossible; S: the number].

    Observation [P: a square view of 5x5 cells around the agent; S: its channels]: `agents_view`
    [2, 75] float32, for each agent three maps of 0 and 1, each row by row from the upper left cell
         0..24  walls; off the map is wall
        25..49  dots that are still there
        50..74  the other agent
    The wind cannot be seen, nor the agent's own place on the map.

    `global_state` [27] float32 [S]: 12 entries one-hot of agent 0's cell over the free cells (row by
    row), 12 of agent 1's, then whether the left and the right dot are still there, then step_count /
    time_limit. In general [2 K + 3] with K = 2 arm + 1 + stem.

    `extras` [S]: `dots_eaten`, `left_eaten`, `right_eaten`, [] int32. Return = `dots_eaten` at the
    end.

    Chance: the wind and nothing else; every episode starts alike. One draw in each step, from
    `fold_in(state.key, step_count)`, a uniform float32 for each agent with 23 random bits [S];
    `state.key` stays the same for the episode.

    Known mean returns [C], exact, by dynamic programming with the default options:
        uniformly random actions            0.047  (left dot 0.002, right dot 0.046)
        both agents go right                1.000  (0.9999999)
        best that one agent alone can do    1.000  (0.9999; the paper's plateau of 1 [P])
        `scripted_action`, one agent a dot  1.882  (left 0.8825, right 0.9997)
        most that two agents can do         1.982  (who escapes the wind goes left, the other right)
    With the wind in the whole bar (`wind_from` = -4) the script gets 1.412 and the most is 1.544.

    Attributes:
        layout: the map.
        ends: [2, 2] int32, the cells of the left and the right dot.
        windy_cells: [W, 2] int32, where the wind blows.
    """

    Config: ClassVar[type[Config]] = WindyMazeConfig
    time_limit_is_termination: ClassVar[bool] = True
    ends_early = False
    binary = ("agents_view",)

    def _setup(self) -> None:
        stem, arm = self.config.stem, self.config.arm
        bar, stem_row = "L" + "." * (2 * arm - 1) + "R", "#" * arm + "." + "#" * arm
        self.layout = grid.Layout("\n".join([bar] + [stem_row] * stem))
        self.ends = self.layout.cells("LR")
        self.windy_cells = self.layout.free[self._windy(self.layout.free)]
        self.num_agents = 2
        self.num_actions = 5
        self.time_limit = self.config.time_limit or stem + 3 * arm + 1
        self.agents_view_size = 3 * (2 * VIEW_RADIUS + 1) ** 2
        self.global_state_size = 2 * len(self.layout.free) + 3

    def reset(self, key: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        state = State(
            key=key,
            step_count=jnp.zeros((), jnp.int32),
            positions=jnp.array([[self.config.stem, self.config.arm]] * 2, jnp.int32),
            dots=jnp.ones((2,), bool),
            blown=jnp.zeros((2,), bool),
        )
        return state, self._restart(self._observe(state), _extras(state))

    def step(self, state: State, action: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [2] int32, each in 0..4.

        Returns:
            The next state and its time step.
        """
        step_count = state.step_count + 1
        gust = jax.random.uniform(jax.random.fold_in(state.key, step_count), (2,))
        blown = self._windy(state.positions) & (gust < self.config.wind_probability)
        action = jnp.where(blown, grid.RIGHT, action)
        at_end = grid.same_cell(state.positions[:, None], jnp.asarray(self.ends))
        eaten = jnp.any(at_end & (action == EAT)[:, None], axis=0)
        next_state = State(
            key=state.key,
            step_count=step_count,
            positions=self.layout.move(state.positions, action),
            dots=state.dots & ~eaten,
            blown=blown,
        )
        extras = _extras(next_state)
        reward = jnp.where(step_count >= self.time_limit, extras["dots_eaten"], 0)
        never = jnp.zeros((), bool)
        timestep = self._transition(self._observe(next_state), reward, never, extras)
        return next_state, timestep

    def scripted_action(self, state: State) -> jax.Array:
        """Agent 0 goes to the left end, agent 1 to the right one, and there they eat.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [2] int32.
        """
        in_stem = state.positions[:, 0] > 0
        walk = jnp.where(in_stem, grid.UP, jnp.array([grid.LEFT, grid.RIGHT]))
        arrived = grid.same_cell(state.positions, jnp.asarray(self.ends))
        return jnp.where(arrived, EAT, walk).astype(jnp.int32)

    def _windy(self, cell: Any) -> Any:
        """[...] bool, whether the wind blows at cells [..., 2] of the maze."""
        return (cell[..., 0] == 0) & (cell[..., 1] >= self.config.arm + self.config.wind_from)

    def _observe(self, state: State) -> Observation:
        others = ~jnp.eye(2, dtype=bool)
        bits = [
            self.layout.wall_bits(state.positions, VIEW_RADIUS),
            grid.local_bits(state.positions, jnp.asarray(self.ends), state.dots, VIEW_RADIUS),
            grid.local_bits(state.positions, state.positions, others, VIEW_RADIUS),
        ]
        maps = grid.unpack(jnp.stack(bits, axis=-1), len(grid.square(VIEW_RADIUS)))
        clock = state.step_count.astype(jnp.float32) / self.time_limit
        here = grid.same_cell(state.positions[:, None], jnp.asarray(self.layout.free))
        parts = [here.ravel().astype(jnp.float32), state.dots.astype(jnp.float32), clock[None]]
        return Observation(
            agents_view=maps.reshape(2, -1),
            action_mask=jnp.ones((2, self.num_actions), bool),
            global_state=jnp.concatenate(parts),
            alive=jnp.ones((2,), bool),
            step_count=state.step_count,
        )

    def _make_viewer(self) -> Viewer[State]:
        from envs.windy_maze.viewer import WindyMazeViewer

        return WindyMazeViewer(self.layout, self.windy_cells, self.ends, self.time_limit)


def _extras(state: State) -> dict[str, Any]:
    left, right = 1 - state.dots.astype(jnp.int32)
    return {"dots_eaten": left + right, "left_eaten": left, "right_eaten": right}
