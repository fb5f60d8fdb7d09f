"""Firefighters, the second grid world of EOI.

Paper: Jiang and Lu, "The Emergence of Individuality", section 4.2; its code was never published.
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
from envs.cross_map import ROOMS, CrossMap
from envs.firefighters.state import State
from envs.viewer import Viewer

SPRAY, PUMP = 4, 5
NUM_AGENTS = 4
VIEW_RADIUS = 2

_TOP, _BOTTOM, _LEFT, _RIGHT = (ROOMS.index(room) for room in ("top", "bottom", "left", "right"))
_AREAS = (_BOTTOM, _TOP)
_RIVERS = (_LEFT, _RIGHT)


@dataclasses.dataclass(frozen=True)
class FirefightersConfig(Config):
    """Options of `Firefighters`. The paper gives the tank's 4 units [P]; all else is our choice [S].

    Attributes:
        size: of the cross map, the same as Pac-Men's.
        fires_per_area: burning cells at the start, of the 15 of each area.
        tank: units of water at the start. [P: 4]
        tank_capacity: the tank never holds more; None: no bound.
        time_limit: steps an episode lasts.
        wasteful_spray: whether a spray on a cell that does not burn costs a unit too.
        observe_tank: whether each agent sees the tank: units / 16, one more entry in its view.
        terminate_when_out: whether the episode ends once no cell burns.

    Raises:
        ConfigurationError: also if `tank_capacity` is below `tank`.
    """

    size: Literal["tini", "small", "large"] = "tini"
    fires_per_area: Annotated[int, Range(minimum=1, maximum=15)] = 8
    tank: Annotated[int, Range(minimum=0)] = 4
    tank_capacity: Annotated[int, Range(minimum=1)] | None = None
    time_limit: Annotated[int, Range(minimum=1)] = 30
    wasteful_spray: bool = False
    observe_tank: bool = False
    terminate_when_out: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tank_capacity is not None and self.tank_capacity < self.tank:
            raise ConfigurationError(
                f"tank_capacity is {self.tank_capacity}; it must be at least tank, {self.tank}."
            )


class Firefighters(MultiAgentEnv[State]):
    """Four agents in a burning area share a tank that holds too little water; rivers are elsewhere.

    Tags: [P] the paper, [S] a choice of this project where it is silent, [C] computed by this
    project from the rules.

    Map [P: two burning areas, the agents start in one of them, two rivers in other areas; S for the
    rest]: Pac-Men's cross of four rooms, 21x21 by default. (row, column), row 0 at the top.

        .......fff.......      top: the second burning area
        .......fff.......      left, right: r, the rivers, all 15 cells; agents walk in them
        .......fff.......      bottom: the first burning area, where the agents start
        .......fff.......      o: other free cells
        .......fff.......      . : wall
        ........o........
        ........o........
        ........o........
        rrrrr..ooo..rrrrr
        rrrrrooooooorrrrr
        rrrrr..ooo..rrrrr
        ........o........
        .......fff.......
        .......fff.......
        .......fff.......
        .......fff.......
        .......fff.......

    Start: `fires_per_area` = 8 [S] different random cells of the 15 burn in each area; the agents
    stand on 4 different random cells of the bottom room; the tank holds 4 units [P].

    Actions [P for the set, S for the order], [4] int32; all are legal always, `action_mask` is
    [4, 6] and all true:
        0 up, 1 down, 2 left, 3 right, 4 spray, 5 pump. There is no "stay".
    A move into a wall does nothing; agents share cells freely [S]. Spraying a burning cell puts it
    out and takes 1 unit from the tank, pumping in a river adds 1 [P]. Both act on the agent's own
    cell; a spray elsewhere or with an empty tank, and a pump elsewhere, do nothing; fires do not
    spread [S]. Agents act in the order of their indices, so the tank never falls below 0, water is
    there for the agents after the one that pumps it, and a second spray on the same cell in the same
    step finds no fire [S].

    Reward [P], [4] float32, the same number for all: 0 before the end, then the number of cells put
    out.

    End [S]: after `time_limit` = 30 steps; the reward is paid there, so it is the task's end: the
    last discount is 0 (`time_limit_is_termination`). With `terminate_when_out` also when nothing
    burns any more.

    Observation [P: a 5x5 view centred on the agent; S for the maps], `agents_view` [4, 100] float32:
    25 entries walls, 25 fires, 25 rivers, 25 other agents, row by row: 1 where there is one. The
    tank is not in it (unless `observe_tank`: entry 100, units / 16), nor the agent itself or its
    identity.

    `global_state` [40] float32 [S]: 15 entries fires of the bottom room, 15 of the top room, row by row;
    each agent's row and column, divided by the map's side; units in the tank / 16; step_count /
    time_limit.

    `extras` [S]: `fires_put_out`, `water_pumped` and `tank`, [] int32, the first two since the reset.

    Chance: the starting cells and fires, and nothing else.

    Known mean returns [C]: `scripted_action` (which sees everything; one agent pumps) 16, the optimum,
    in each of 120,000 episodes; four agents that fight the first area and never pump 4, always, the
    plateau that the paper reports for QMIX and MAAC; uniformly random actions 3.8. With the split
    that the paper's agents find, two at the pumps and two at the fires, the same way of fighting puts
    out 15.6.
    """

    Config: ClassVar[type[Config]] = FirefightersConfig
    time_limit_is_termination: ClassVar[bool] = True

    def _setup(self) -> None:
        self.ends_early = self.config.terminate_when_out
        map_ = self._map = CrossMap(self.config.size)
        self._river = np.zeros_like(map_.layout.walls)
        for room in _RIVERS:
            self._river[tuple(map_.rooms[room].T)] = True
        self.num_agents = NUM_AGENTS
        self.num_actions = 6
        self.time_limit = self.config.time_limit
        self.binary = () if self.config.observe_tank else ("agents_view",)
        self.agents_view_size = 4 * len(grid.square(VIEW_RADIUS)) + self.config.observe_tank
        self.global_state_size = 2 * 15 + 2 * NUM_AGENTS + 2

    def reset(self, key: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        key, position_key, fire_key = jax.random.split(key, 3)
        areas = self._map.rooms[list(_AREAS)]
        zero = jnp.zeros((), jnp.int32)
        state = State(
            key=key,
            step_count=zero,
            positions=grid.draw_distinct(position_key, self._map.rooms[_BOTTOM], NUM_AGENTS),
            fires=grid.draw_distinct(fire_key, areas, self.config.fires_per_area),
            burning=jnp.ones((2, self.config.fires_per_area), bool),
            tank=jnp.asarray(self.config.tank, jnp.int32),
            pumped=zero,
        )
        return state, self._restart(self._observe(state), _extras(state))

    def step(self, state: State, action: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [4] int32, each in 0..5.

        Returns:
            The next state and its time step.
        """
        step_count = state.step_count + 1
        here = grid.same_cell(state.fires, state.positions[:, None, None])
        pumping = (action == PUMP) & self._in_river(state.positions)
        tank, burning, pumped = state.tank, state.burning, state.pumped
        for agent in range(NUM_AGENTS):
            spraying = (action[agent] == SPRAY) & (tank > 0)
            hit = here[agent] & burning & spraying
            burning &= ~hit
            tank -= spraying if self.config.wasteful_spray else jnp.any(hit)
            added = pumping[agent]
            if self.config.tank_capacity is not None:
                added &= tank < self.config.tank_capacity
            tank += added
            pumped += added

        next_state = State(
            key=state.key,
            step_count=step_count,
            positions=self._map.layout.move(state.positions, action),
            fires=state.fires,
            burning=burning,
            tank=tank,
            pumped=pumped,
        )
        over = ~jnp.any(burning) & self.config.terminate_when_out
        at_end = over | (step_count >= self.time_limit)
        reward = jnp.where(at_end, jnp.sum(~burning), 0)
        timestep = self._transition(self._observe(next_state), reward, over, _extras(next_state))
        return next_state, timestep

    def _in_river(self, cell: jax.Array) -> jax.Array:
        """[...] bool, for cells [..., 2]."""
        inside = jnp.zeros(cell.shape[:-1], bool)
        for room in _RIVERS:
            low, high = self._map.rooms[room].min(0), self._map.rooms[room].max(0)
            inside |= jnp.all((cell >= low) & (cell <= high), axis=-1)
        return inside

    def scripted_action(self, state: State) -> jax.Array:
        """Agent 0 fights the bottom fires, 1 and 2 those at the top, 3 pumps in the right river.

        Agent 0 goes to the nearest fire, agents 1 and 2 begin with the rows nearest to and farthest
        from the room's mouth; agent 2 leaves the fire to which agent 1 goes for the last.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [4] int32.
        """
        layout, positions = self._map.layout, state.positions
        rows = state.fires[1, :, 0]

        def fight(agent: int, area: int, handicap: Any) -> tuple[jax.Array, jax.Array]:
            distance = layout.distance(positions[agent], state.fires[area]) + handicap
            target = jnp.argmin(jnp.where(state.burning[area], distance, jnp.inf))
            walk = layout.towards(positions[agent], state.fires[area, target])
            go = jnp.any(state.burning[area]) & (walk >= 0)
            return jnp.where(go, walk, SPRAY), target

        bottom, _ = fight(0, 0, 0.0)
        near, target = fight(1, 1, -100.0 * rows)
        taken = jnp.arange(len(rows)) == target
        far, _ = fight(2, 1, 100.0 * rows + 10_000.0 * taken)
        mouth = jnp.asarray(self._map.corridors[_RIGHT][-1] + np.array([0, 1]), jnp.int32)
        walk = layout.towards(positions[3], mouth)
        pump = jnp.where(self._in_river(positions[3]), PUMP, walk)
        return jnp.stack([bottom, near, far, pump]).astype(jnp.int32)

    def _observe(self, state: State) -> Observation:
        layout, positions = self._map.layout, state.positions
        fires, burning = state.fires.reshape(-1, 2), state.burning.reshape(-1)
        not_self = ~jnp.eye(NUM_AGENTS, dtype=bool)
        tank = jnp.asarray(state.tank / 16, jnp.float32)
        bits = [
            layout.wall_bits(positions, VIEW_RADIUS),
            grid.local_bits(positions, fires, burning, VIEW_RADIUS),
            layout.map_bits(self._river, positions, VIEW_RADIUS, outside=False),
            grid.local_bits(positions, positions, not_self, VIEW_RADIUS),
        ]
        maps = grid.unpack(jnp.stack(bits, axis=-1), len(grid.square(VIEW_RADIUS)))
        views = [maps.reshape(NUM_AGENTS, -1)]
        if self.config.observe_tank:
            views.append(jnp.broadcast_to(tank, (NUM_AGENTS, 1)))

        # The rooms' cells row by row; both areas are three cells wide.
        place = state.fires - self._map.rooms[list(_AREAS), 0][:, None]
        burns = grid.unpack(grid.pack(3 * place[..., 0] + place[..., 1], state.burning), 15)
        agents = positions / layout.height
        clock = state.step_count / self.time_limit
        parts = [burns.ravel(), agents.ravel(), tank[None], clock[None]]
        return Observation(
            agents_view=jnp.concatenate(views, axis=-1),
            action_mask=jnp.ones((NUM_AGENTS, self.num_actions), bool),
            global_state=jnp.concatenate([part.astype(jnp.float32) for part in parts]),
            alive=jnp.ones((NUM_AGENTS,), bool),
            step_count=state.step_count,
        )

    def _make_viewer(self) -> Viewer[State]:
        from envs.firefighters.viewer import FirefightersViewer

        return FirefightersViewer(self._map.layout.walls, self._river, self.time_limit)


def _extras(state: State) -> dict[str, Any]:
    return {
        "fires_put_out": jnp.sum(~state.burning),
        "water_pumped": state.pumped,
        "tank": state.tank,
    }
