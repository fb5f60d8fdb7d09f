"""Pac-Men, the grid world of EOI, and its sparse-reward version.

Paper: Jiang and Lu, "The Emergence of Individuality", sections 4.1 and 4.3; its code was never
published. The map and the variant "cds" follow the re-make of Li et al., "Celebrating Diversity in
Shared Multi-Agent Reinforcement Learning": github.com/lich14/CDS,
pacmen_env/gym_foo/envs/pac_men.py.
"""

import dataclasses
import itertools
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs import grid
from envs.base import MultiAgentEnv, Observation
from envs.configuration import Config, ConfigurationError, Range
from envs.cross_map import CrossMap
from envs.pac_men.state import RewardKind, State
from envs.viewer import Viewer

EAT = 4
NUM_AGENTS = 4
VIEW_RADIUS = 2
IDLE_COST = 0.025
WALL_VALUE, DOT_VALUE, AGENT_VALUE = -1.0, 1.0, 0.1


@dataclasses.dataclass(frozen=True)
class PacMenConfig(Config):
    """Options of `PacMen`. None stands for the variant's own value, given as "eoi / cds".

    Attributes:
        variant: "eoi", the paper's task, or "cds", the public re-make. [P, R]
        size: of the map; the names are CDS's. The paper gives none. [R for the maps, S for "tini"]
        dots_per_room: dots in each room at the start: 5 / 3. [S / R]
        time_limit: steps an episode lasts: 24 / 100. [S / R]
        respawn: whether new dots appear once all are eaten: false / true. [S / R]
        reward: "total" pays at the end of the episode what was eaten in all [P, section 4.1];
            "min_over_rooms" pays at the end the smallest of the four rooms' counts [P, section 4.3;
            S that it is paid at the end]; "dense" pays 1 for a dot, at once, and -0.025 for each
            agent that did not eat [R]. Total / dense.
        observation: "maps", three binary maps [S], or "values", CDS's one map of numbers [R].
            Maps / values.
        state: "maps" [S] or "values" [R], see the class. Maps / values.
        terminate_when_empty: whether the episode ends once all dots are eaten, if none respawn. [S]

    Raises:
        ConfigurationError: also if dots respawn and the reward is not dense, or the episode is to end
            when none are left.
    """

    variant: Literal["eoi", "cds"] = "eoi"
    size: Literal["tini", "small", "large"] = "tini"
    dots_per_room: Annotated[int, Range(minimum=1, maximum=12)] | None = None
    time_limit: Annotated[int, Range(minimum=1)] | None = None
    respawn: bool | None = None
    reward: RewardKind | None = None
    observation: Literal["maps", "values"] | None = None
    state: Literal["maps", "values"] | None = None
    terminate_when_empty: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.resolved()
        if options.respawn and options.reward != "dense":
            raise ConfigurationError(
                f"respawn is true; with reward {options.reward!r} it must be false: the state would not tell what "
                "will be paid."
            )
        if options.respawn and options.terminate_when_empty:
            raise ConfigurationError(
                "terminate_when_empty is True; it must be false where dots respawn."
            )

    def resolved(self) -> "PacMenConfig":
        """The same with every None replaced by the variant's own value."""
        own: dict[str, Any] = {
            "eoi": {
                "dots_per_room": 5,
                "time_limit": 24,
                "respawn": False,
                "reward": "total",
                "observation": "maps",
                "state": "maps",
            },
            "cds": {
                "dots_per_room": 3,
                "time_limit": 100,
                "respawn": True,
                "reward": "dense",
                "observation": "values",
                "state": "values",
            },
        }[self.variant]
        unset = {name: value for name, value in own.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **unset) if unset else self


@dataclasses.dataclass(frozen=True)
class SparsePacMenConfig(PacMenConfig):
    """Options of `SparsePacMen`: those of `PacMen`, with another reward.

    Attributes:
        reward: see `PacMenConfig`.
    """

    reward: RewardKind | None = "min_over_rooms"


class PacMen(MultiAgentEnv[State]):
    """Four agents start at the centre of a maze; what they eat in its four rooms is paid at the end.

    Tags: [P] EOI's paper, [R] CDS's public re-make, [S] a choice of this project where the paper is
    silent, [C] computed by this project from the rules.

    Map [R]; "tini", 21x21, is the default [S]. (row, column), row 0 at the top. The corridors to the
    bottom, left, right and top room are 1, 2, 2 and 3 times 1 (tini), 2 (small) or 4 (large) cells
    long; the bottom room is the easy one to find [P]. Within a margin of two walls:

        .......ttt.......      t, b, l, r: the 12 cells of a room where a dot may lie
        .......ttt.......      o: other free cells
        .......ttt.......      A: the centre, where the agents start
        .......ttt.......      . : wall
        .......ooo.......
        ........o........
        ........o........      CDS draws the bottom dots of its "large" map around the centre,
        ........o........      partly inside walls; here they lie in the bottom room [S].
        llllo..AAA..orrrr
        llllooAAAAAoorrrr
        llllo..AAA..orrrr
        ........o........
        .......ooo.......
        .......bbb.......
        .......bbb.......
        .......bbb.......
        .......bbb.......

    Start: the agents on 4 different random cells of the centre's 9 [P: "at the centre", R]; in each
    room `dots_per_room` dots (5 [S]; CDS: 3 [R]) on different random cells of its 12.

    Actions [P for the set, S for the order; CDS has right before left], [4] int32; all are legal
    always, `action_mask` is [4, 5] and all true:
        0 up, 1 down, 2 left, 3 right, 4 eat. There is no "stay"; eating keeps the cell.
    A move into a wall does nothing. Agents share cells freely [R]. A dot on the cell of an agent
    that eats is gone; several agents may eat it together, it counts once. With `respawn` (CDS) new
    dots appear, `dots_per_room` in each room, in the step in which the last one is eaten.

    Reward, [4] float32, the same number for all:
        "total" [P]            0 before the end, then the number of dots eaten.
        "min_over_rooms" [P]   0 before the end, then the smallest number of dots eaten in one room:
                               the task `sparse_pac_men`.
        "dense" [R]            each step the dots eaten, less 0.025 for each agent that did not eat.

    End: after `time_limit` = 24 steps [S; CDS: 100, R]. The reward is paid there, so it is the
    task's end: the last discount is 0 (`time_limit_is_termination`) [S; R: CDS hands PyMARL no
    time-limit flag]. 24 steps are enough for one agent to empty one room, and with the best luck,
    from the bottom room, to eat a single dot of a second one in the last step [C]. With
    `terminate_when_empty` also when no dot is left.

    Observation [P: a 5x5 view centred on the agent], `agents_view` [4, F] float32, row by row:
        "maps" [S], F = 75     25 entries walls, 25 dots, 25 other agents: 1 where there is one.
        "values" [R], F = 25   wall -1, free 0, dot 1, another agent 0.1 (over a dot).
    The agent itself is in none of them, neither is its identity.

    `global_state` [G] float32:
        "maps" [S], G = 57          4 x 12 entries dots, one for each cell of each room where a dot may
                                    lie (top, bottom, left, right; row by row); each agent's row and
                                    column, divided by the map's side; step_count / time_limit.
        "values" [R], G = 77 (tini), 85 or 101
                                    the numbers of the view (agents 0.1, over a dot), in CDS's order:
                                    centre, bottom corridor, bottom room, right, top and left ones.
                                    Its slice of the left corridor is one cell too far left, kept
                                    here: it holds the room's middle cell twice and lacks the cell
                                    next to the centre. No clock.

    `extras` [S]: `dots_eaten` and `fewest_in_a_room`, [] int32, counts since the reset.

    Chance: the starting cells and dots, and new dots. With `respawn` they are drawn in each step,
    needed or not, from `fold_in(state.key, step_count)`.

    Known mean returns [C]: `scripted_action` (which sees everything; agent i empties room i) 20, the
    optimum, in each of 120,000 episodes; uniformly random actions 0.35. Sparse: 5, and 0. Variant "cds":
    scripted 114, random -7.0.
    """

    Config: ClassVar[type[Config]] = PacMenConfig
    time_limit_is_termination: ClassVar[bool] = True

    def _setup(self) -> None:
        options = self._options = self.config.resolved()
        self.ends_early = bool(options.terminate_when_empty) and not options.respawn
        map_ = self._map = CrossMap(options.size)
        self.num_agents = NUM_AGENTS
        self.num_actions = 5
        self.time_limit = options.time_limit
        self.binary = ("agents_view",) if options.observation == "maps" else ()
        window = len(grid.square(VIEW_RADIUS))
        self.agents_view_size = window * (3 if options.observation == "maps" else 1)
        cells = len(map_.layout.free)
        self.global_state_size = 48 + 2 * NUM_AGENTS + 1 if options.state == "maps" else cells

    def reset(self, key: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        key, position_key, dot_key = jax.random.split(key, 3)
        state = State(
            key=key,
            step_count=jnp.zeros((), jnp.int32),
            positions=grid.draw_distinct(position_key, self._map.centre, NUM_AGENTS),
            dots=self._draw_dots(dot_key),
            left=jnp.ones((4, self._options.dots_per_room), bool),
            eaten=jnp.zeros((4,), jnp.int32),
        )
        return state, self._restart(self._observe(state), _extras(state))

    def step(self, state: State, action: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [4] int32, each in 0..4.

        Returns:
            The next state and its time step.
        """
        options = self._options
        step_count = state.step_count + 1
        # [4 rooms, D dots, 4 agents]
        bites = grid.same_cell(state.dots[..., None, :], state.positions) & (action == EAT)
        bites &= state.left[..., None]
        eaten = jnp.sum(jnp.any(bites, axis=-1), axis=-1, dtype=jnp.int32)
        left = state.left & ~jnp.any(bites, axis=-1)
        dots, empty = state.dots, ~jnp.any(left)
        if options.respawn:
            new = self._draw_dots(jax.random.fold_in(state.key, step_count))
            dots, left = jnp.where(empty, new, dots), left | empty

        next_state = State(
            key=state.key,
            step_count=step_count,
            positions=self._map.layout.move(state.positions, action),
            dots=dots,
            left=left,
            eaten=state.eaten + eaten,
        )
        over = empty & (options.terminate_when_empty and not options.respawn)
        if options.reward == "dense":
            idle = NUM_AGENTS - jnp.sum(jnp.any(bites, axis=(0, 1)))
            reward = jnp.sum(eaten) - IDLE_COST * idle
        else:
            count = jnp.sum if options.reward == "total" else jnp.min
            at_end = over | (step_count >= self.time_limit)
            reward = jnp.where(at_end, count(next_state.eaten), 0)
        timestep = self._transition(self._observe(next_state), reward, over, _extras(next_state))
        return next_state, timestep

    def scripted_action(self, state: State) -> jax.Array:
        """Agent i empties room i on the shortest way; with more than 5 dots, always the nearest next.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [4] int32.
        """
        layout = self._map.layout
        choose = _shortest_tour if self._options.dots_per_room <= 5 else _nearest
        from_agent = layout.distance(state.positions[:, None], state.dots)
        between = layout.distance(state.dots[:, :, None], state.dots[:, None])
        chosen = jax.vmap(choose)(from_agent, between, state.left)
        target = jnp.take_along_axis(state.dots, chosen[:, None, None], axis=1)[:, 0]
        walk = layout.towards(state.positions, target)
        go = jnp.any(state.left, axis=-1) & (walk >= 0)
        return jnp.where(go, walk, EAT).astype(jnp.int32)

    def _draw_dots(self, key: jax.Array) -> jax.Array:
        """[4, D, 2] int32."""
        return grid.draw_distinct(key, self._map.inner, self._options.dots_per_room)

    def _observe(self, state: State) -> Observation:
        dots, left = state.dots.reshape(-1, 2), state.left.reshape(-1)
        positions, not_self = state.positions, ~jnp.eye(NUM_AGENTS, dtype=bool)
        bits = [
            self._map.layout.wall_bits(positions, VIEW_RADIUS),
            grid.local_bits(positions, dots, left, VIEW_RADIUS),
            grid.local_bits(positions, positions, not_self, VIEW_RADIUS),
        ]
        maps = grid.unpack(jnp.stack(bits, axis=-1), len(grid.square(VIEW_RADIUS)))
        if self._options.observation == "maps":
            views = maps.reshape(NUM_AGENTS, -1)
        else:
            walls, food, others = (maps[:, i] for i in range(3))
            views = jnp.where(others > 0, AGENT_VALUE, WALL_VALUE * walls + DOT_VALUE * food)

        if self._options.state == "maps":
            inner = self._map.inner
            width = inner[:, -1, 1] - inner[:, 0, 1] + 1
            place = state.dots - inner[:, :1]
            number = width[:, None] * place[..., 0] + place[..., 1]
            room_maps = grid.unpack(grid.pack(number, state.left), inner.shape[1])
            agents = positions / self._map.layout.height
            clock = state.step_count / self.time_limit
            parts = [room_maps.ravel(), agents.ravel(), clock[None]]
            global_state = jnp.concatenate([part.astype(jnp.float32) for part in parts])
        else:
            cells = jnp.asarray(_cds_cells(self._map))
            agents = _covered(cells, state.positions, jnp.ones((NUM_AGENTS,), bool))
            food = DOT_VALUE * _covered(cells, dots, left)
            global_state = jnp.where(agents, AGENT_VALUE, food)
        return Observation(
            agents_view=views,
            action_mask=jnp.ones((NUM_AGENTS, self.num_actions), bool),
            global_state=global_state,
            alive=jnp.ones((NUM_AGENTS,), bool),
            step_count=state.step_count,
        )

    def _make_viewer(self) -> Viewer[State]:
        from envs.pac_men.viewer import PacMenViewer

        return PacMenViewer(self._map.layout.walls, self.time_limit, self._options.reward)


class SparsePacMen(PacMen):
    """Pac-Men that pays at the end the smallest number of dots eaten in one room: EOI's section 4.3.

    Everything but the default of `reward` is as in `PacMen`. The optimum is 5, the number of dots in a
    room, which `scripted_action` reaches; random actions earn 0.000 [C].
    """

    Config: ClassVar[type[Config]] = SparsePacMenConfig


def _nearest(from_agent: jax.Array, between: jax.Array, left: jax.Array) -> jax.Array:
    """[] int32, the nearest dot that is left; arguments as for `_shortest_tour`."""
    return jnp.argmin(jnp.where(left, from_agent, jnp.inf))


def _shortest_tour(from_agent: jax.Array, between: jax.Array, left: jax.Array) -> jax.Array:
    """The first dot of the shortest walk over all dots that are left.

    Args:
        from_agent: [D] float32, steps from the agent to each dot.
        between: [D, D] float32, steps between dots.
        left: [D] bool.

    Returns:
        [] int32.
    """
    orders = np.array(list(itertools.permutations(range(len(left)))))
    length, here = jnp.zeros(len(orders)), jnp.full(len(orders), -1)
    for dot in orders.T:
        way = jnp.where(here < 0, from_agent[dot], between[here, dot])
        length += jnp.where(left[dot], way, 0.0)
        here = jnp.where(left[dot], dot, here)
    best = jnp.asarray(orders)[jnp.argmin(length)]
    return best[jnp.argmax(left[best])]


def _covered(cells: jax.Array, things: jax.Array, there: jax.Array) -> jax.Array:
    """[K] bool: which of the cells [K, 2] hold one of the things [M, 2] that are there [M]."""
    return jnp.any(grid.same_cell(cells[:, None], things) & there, axis=-1)


def _cds_cells(map_: CrossMap) -> np.ndarray:
    """[K, 2]: the cells of CDS's state vector, in its order."""
    top, bottom, left, right = zip(map_.corridors, map_.rooms, strict=True)
    one_off = (left[0] - np.array([0, 1]), left[1])
    return np.concatenate([map_.centre, *bottom, *right, *top, *one_off])


def _extras(state: State) -> dict[str, Any]:
    return {"dots_eaten": jnp.sum(state.eaten), "fewest_in_a_room": jnp.min(state.eaten)}
