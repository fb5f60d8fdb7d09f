"""Battle, the many-agent task of EOI, and MAgent's task of that name.

Sources: Jiang and Lu, "The Emergence of Individuality", section 4.2, whose code was never published;
MAgent2, github.com/Farama-Foundation/MAgent2, magent2/environments/battle/battle.py and src/gridworld;
the Battle of the same first author's DGN, github.com/PKU-RL/DGN, Battle/config/battle.py.
"""

import dataclasses
import math
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs import grid
from envs.base import MultiAgentEnv, Observation
from envs.battle import rules
from envs.battle.state import State
from envs.configuration import Config, ConfigurationError, Range
from envs.viewer import Viewer

HIT_REWARD, KILL_REWARD, DEATH_REWARD = 1, 10, -2
MAGENT_UNIT = 0.005
MAGENT_REWARDS = {"step": -1, "attack": -20, "hit": 40, "kill": 1000, "death": -20}
_GAP = 3  # cells between the middle of MAgent's map and either team


@dataclasses.dataclass(frozen=True)
class BattleConfig(Config):
    """Options of `Battle`. None stands for the variant's own value, given as "eoi / magent".

    Attributes:
        variant: "eoi", the paper's task, or "magent", with MAgent's own rules, sides and rewards. [P, R]
        map_size: side of the map, its ring of walls included: 30 / 45. [R]
        num_agents: agents: 20 [P] / as many as the map has places for them [R].
        num_enemies: enemies: 12 [P] / as many as agents [R].
        time_limit: steps an episode lasts: 100 [S; DGN: 300] / 1000 [R].
        respawn: whether the dead come back on random free cells at the end of the step in which they
            die, so that no episode ends before `time_limit`: true [S; R: DGN does] / false [R].
        self_play: whether the other side's units are agents too, behind the first side's; only in
            "magent", where both sides are alike. [R; S that the script plays them otherwise]
        enemy_noise: how often a unit that the script plays acts at random instead. [S]

    Raises:
        ConfigurationError: also if an option does not go with the variant.
    """

    variant: Literal["eoi", "magent"] = "eoi"
    map_size: Annotated[int, Range(minimum=12, maximum=rules.LARGEST_MAP)] | None = None
    num_agents: Annotated[int, Range(minimum=1, maximum=40)] | None = None
    num_enemies: Annotated[int, Range(minimum=1, maximum=40)] | None = None
    time_limit: Annotated[int, Range(minimum=1)] | None = None
    respawn: bool | None = None
    self_play: bool = False
    enemy_noise: Annotated[float, Range(minimum=0.0, maximum=1.0)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant == "eoi" and self.self_play:
            raise ConfigurationError(
                "self_play is True; with variant 'eoi' it must be False: its sides see and do different things."
            )
        for name in ("num_agents", "num_enemies"):
            if self.variant == "magent" and getattr(self, name) is not None:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)}; with variant 'magent' it must not be given: map_size decides."
                )

    def resolved(self) -> "BattleConfig":
        """The same with None replaced by the variant's own value; MAgent's numbers of units stay None."""
        own: dict[str, Any] = {
            "eoi": {
                "map_size": 30,
                "num_agents": 20,
                "num_enemies": 12,
                "time_limit": 100,
                "respawn": True,
            },
            "magent": {"map_size": 45, "time_limit": 1000, "respawn": False},
        }[self.variant]
        unset = {name: value for name, value in own.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **unset)


class Battle(MultiAgentEnv[State]):
    """Twenty agents fight twelve enemies that a script plays; whoever dies comes back elsewhere.

    Tags: [P] EOI's paper, [R] MAgent2, [D] DGN's public Battle, which has the paper's first author and
    numbers of units, [S] a choice of this project where they are silent, [C] computed by this project.
    The paper gives the sides, the agents' reach and the rewards; its code was never published.

    Map [D], 30x30: free but for the outermost ring, which is wall. (row, column), row 0 at the top. All
    start on different random free cells [D]. Two units are never in one cell.

    ====================  =========================  ==================================
    .                     agents, red                enemies, blue [D]
    ====================  =========================  ==================================
    number                20 [P]                     12 [P]
    health, at most       12 [D]                     8
    recovery a step       0.4 [D]                    0
    moves                 4 neighbours, stay [P, D]  12 cells within distance 2, stay
    attacks               4 neighbours [P, D]        8 neighbours
    sees, radius          5 [D]                      6
    ====================  =========================  ==================================

    Actions, [20] int32: 0 up, 1 down, 2 left, 3 right, 4 stay, 5 to 8 attack up, down, left, right [S:
    the order]. `action_mask` [20, 9]: all are legal always [R], the dead may only stay (without `respawn`).

    One step [R], in this order:
        - Attacks, one after the other in a random order over both sides. A hit takes 2 of health. Who has
          less than 0 is dead, so an agent falls at the 7th hit and an enemy at the 5th, if all at once. The
          dead do nothing any more, and stand in nobody's way. An attack on anything but a living enemy
          does nothing.
        - The living recover. Health is counted in tenths [S; R: float32].
        - Moves, by number, agents first: into a cell that is free at that moment. A move of two jumps.
        - With `respawn` the dead come back with full health, by number, each on a random free cell [D].

    Enemies [S; P: "built-in AI"; D: a trained network that was never published]: an enemy attacks the
    weakest agent in reach, or else goes to the free cell from which the nearest agent in its view is
    nearest, or else acts at random. It takes the first of equal ones.

    Reward [P], [20] float32, the sum of all agents' for each: 1 for a hit, 10 for a hit that kills (without
    the 1 [S, as in R]), -2 for being killed. A hit on an ally is none.

    End: after `time_limit` = 100 steps [S; D: 300], a truncation. Without `respawn` also when a side is dead.

    Observation [S, after D; P is silent], `agents_view` [20, 84] float32: the 81 cells within radius 5, row by
    row: 1 where an ally is, the agent itself in the middle; -(1 + health / 8) / 2 where an enemy is [D:
    -health / 8, which hides one of health 0]; then row / 30, column / 30 [D] and health / 12 [S] of the agent.
    Neither walls nor anybody's number are in it. The dead see zeros.

    `global_state` [129] float32 [S]: of each unit, agents first, row / 30, column / 30, health / its side's
    most, whether it lives (the dead: 0, 0, 0, 0); then step_count / time_limit. In general [4 U + 1].

    `extras` [S]: `kills` of enemies and `deaths` of agents, [] int32, and `team_return`, [] float32, what
    the agents have earned together; all since the reset.

    variant "magent" [R]: both sides have MAgent's units, health 10, recovery 0.1, the enemies' moves, attacks
    and view above. Map 45x45, where each side starts with 81 units, every second cell of a square, red's
    three cells left of the middle and blue's right of it. 21 actions: 0 to 12 the moves and 13 to 20 the
    attacks, row by row. Rewards are each unit's own: -0.005 a step, -0.1 for attacking anything, +0.2 for a hit
    that does not kill, +5 for one that does; a death makes all but the +0.2 a -0.1. It ends when a side is dead,
    or is cut off after 1,000 steps. `agents_view` [81, 565]: of each of the 113 cells within radius 6, row by row,
    wall, ally, its health / 10, enemy, its health / 10 (MAgent's 13x13x5 without the corners, which are 0). Blue is
    played by the script, or, with `self_play`, by the agents N/2 to N-1. `global_state` is as above (MAgent: a map).

    Chance: the starting cells; in each step one draw, from `fold_in(state.key, step_count)`, of uniform
    float32 with 23 random bits [S]; `state.key` stays the same for the episode.

    Known mean returns [C]:
        .                                  return    kills    deaths
        uniformly random actions              -86      2.8        74
        all stay                             -167        0        83
        `scripted_action`                    1209       93        50
        without `respawn`: random             -29      0.1        20    after 61 steps
        without `respawn`: script             160       12       4.0    after 20 steps
        "magent", of an agent: random        -2.0        0        81    after 100 steps
        "magent", of an agent: script         4.9       81        37    after 60 steps
    """

    Config: ClassVar[type[Config]] = BattleConfig

    def _setup(self) -> None:
        options = self._options = self.config.resolved()
        magent, size = options.variant == "magent", options.map_size
        self._red_type = rules.MAGENT if magent else rules.AGENT
        self._blue_type = rules.MAGENT if magent else rules.ENEMY
        self._start = magent_start(size) if magent else None
        red, blue = options.num_agents, options.num_enemies
        if self._start is not None:
            red, blue = map(len, self._start)
        self._num_red, self._is_red = red, np.arange(red + blue) < red
        self._most = np.where(self._is_red, self._red_type.health, self._blue_type.health)
        self._recovery = np.where(self._is_red, self._red_type.recovery, self._blue_type.recovery)
        self._unit = np.float32(MAGENT_UNIT if magent else 1)
        self.ends_early = not options.respawn
        self.num_agents = red + blue if options.self_play else red
        self.num_actions = self._red_type.num_actions
        self.time_limit = options.time_limit
        self._offsets = rules.disc(self._red_type.radius)
        self.agents_view_size = len(self._offsets) * 5 if magent else len(self._offsets) + 3
        self.global_state_size = 4 * (red + blue) + 1

    def reset(self, key: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        units = len(self._is_red)
        if self._start is None:
            key, place_key = jax.random.split(key)
            nowhere, everyone = jnp.zeros((units,), jnp.int32), jnp.ones((units,), bool)
            lots = jax.random.uniform(place_key, (units,))
            numbers = rules.place(nowhere, everyone, lots, self._options.map_size)
            cells = rules.cell_of(numbers)
        else:
            cells = jnp.asarray(np.concatenate(self._start))
        state = State(
            key=key,
            step_count=jnp.zeros((), jnp.int32),
            positions=cells[: self.num_agents],
            enemies=cells[self.num_agents :],
            health=jnp.asarray(self._most, jnp.int32),
            hit=jnp.zeros((units,), bool),
            lots=jnp.zeros((3, units)),
            kills=jnp.zeros((), jnp.int32),
            deaths=jnp.zeros((), jnp.int32),
            earned=jnp.zeros((), jnp.int32),
        )
        return state, self._restart(self._observe(state), self._extras(state))

    def step(self, state: State, action: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [N] int32, each in 0..A-1.

        Returns:
            The next state and its time step.
        """
        step_count = state.step_count + 1
        lots = jax.random.uniform(jax.random.fold_in(state.key, step_count), state.lots.shape)
        aim, way = self._orders(state, action, lots)
        cells, alive = _cells(state), state.health >= 0

        health, outcome = rules.fight(self._targets(state, aim), lots[0], state.health)
        died = alive & (health < 0)
        hit = (health < state.health) & ~died
        health = jnp.where(health < 0, health, jnp.minimum(health + self._recovery, self._most))
        wanted = cells + way
        goes = (health >= 0) & rules.on_map(wanted, self._options.map_size)
        here = jnp.where(health >= 0, rules.number(cells), rules.NOWHERE)
        numbers = rules.march(here, jnp.where(goes, rules.number(wanted), here))

        earned = self._earned(alive, died, outcome, jnp.any(aim != 0, axis=-1))
        team = jnp.sum(earned[: self._num_red])
        red_left, blue_left = (
            jnp.any(self._is_red & (health >= 0)),
            jnp.any(~self._is_red & (health >= 0)),
        )
        over = ~(red_left & blue_left) & (not self._options.respawn)
        if self._options.respawn:
            numbers = rules.place(numbers, died, lots[2], self._options.map_size)
            health = jnp.where(died, self._most, health)
        cells = jnp.where((health >= 0)[:, None], rules.cell_of(numbers), cells)
        next_state = State(
            key=state.key,
            step_count=step_count,
            positions=cells[: self.num_agents],
            enemies=cells[self.num_agents :],
            health=health.astype(jnp.int32),
            hit=hit,
            lots=lots,
            kills=state.kills + jnp.sum(died & ~self._is_red),
            deaths=state.deaths + jnp.sum(died & self._is_red),
            earned=state.earned + team,
        )
        reward = team if self._options.variant == "eoi" else earned[: self.num_agents]
        timestep = self._transition(
            self._observe(next_state), reward * self._unit, over, self._extras(next_state)
        )
        return next_state, timestep

    def scripted_action(self, state: State) -> jax.Array:
        """Agents play as their enemies do, but know where the nearest enemy is wherever it is.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [N] int32.
        """
        action, _ = self._script(state, red=True)
        if self._options.self_play:
            action = jnp.concatenate([action, self._script(state, red=False)[0]])
        return jnp.where(state.health[: self.num_agents] >= 0, action, self._red_type.stay)

    def _orders(
        self, state: State, action: jax.Array, lots: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """What all units want to do: [U, 2] the cells that they attack and go to, relative to their own; 0 if none."""
        orders = [(self._red_type, action)]
        if not self._options.self_play:
            scripted, distance = self._script(state, red=False)
            orders.append((self._blue_type, self._at_random(scripted, distance, lots[1])))
        aims = [rules.chosen(order, kind.attacks, len(kind.moves)) for kind, order in orders]
        ways = [rules.chosen(order, kind.moves, 0) for kind, order in orders]
        return jnp.concatenate(aims), jnp.concatenate(ways)

    def _at_random(self, scripted: jax.Array, distance: jax.Array, lots: jax.Array) -> jax.Array:
        """The orders of the script, or random ones: where nobody is in view, and out of noise; [E]."""
        kind, noise, lot = self._blue_type, self.config.enemy_noise, lots[self.num_agents :]
        at_random = distance > kind.radius**2
        if noise > 0:
            # A lot below the noise, divided by it, is as good as any.
            lot = jnp.where(at_random, lot, lot * np.float32(1 / noise))
            at_random = lot < 1
        return jnp.where(at_random, (lot * kind.num_actions).astype(jnp.int32), scripted)

    def _targets(self, state: State, aim: jax.Array) -> jax.Array:
        """[U] int32, the number of the living foe in the cell that each living unit attacks; -1 if there is none."""
        here, numbers = _here(state), jnp.arange(1, len(self._is_red) + 1)
        target = rules.look((here + rules.number(aim))[:, None], here, numbers[None])[:, 0] - 1
        is_red = (target >= 0) & (target < self._num_red)
        foe = jnp.where(self._is_red, target >= self._num_red, is_red)
        return jnp.where(foe & (state.health >= 0), target, -1)

    def _earned(
        self, alive: jax.Array, died: jax.Array, outcome: jax.Array, attacked: jax.Array
    ) -> jax.Array:
        """[U] int32, what each unit has earned in a step, in the variant's unit; all arguments [U].

        Args:
            alive: who lived when it began.
            died: who died in it.
            outcome: what each one's attack did, see `rules.fight`.
            attacked: who attacked anything.
        """
        hit, kill = outcome == 1, outcome == 2
        if self._options.variant == "eoi":
            return HIT_REWARD * hit + KILL_REWARD * kill + DEATH_REWARD * died
        pay = MAGENT_REWARDS
        gathered = pay["step"] + pay["attack"] * attacked + pay["kill"] * kill
        return jnp.where(alive, jnp.where(died, pay["death"], gathered) + pay["hit"] * hit, 0)

    def _script(self, state: State, red: bool) -> tuple[jax.Array, jax.Array]:
        """What the script orders a side's units; see `rules.script`."""
        reds, blues = slice(None, self._num_red), slice(self._num_red, None)
        own, foes, kind = (reds, blues, self._red_type) if red else (blues, reds, self._blue_type)
        cells = _cells(state)
        ends = cells[own][:, None] + jnp.asarray(kind.moves)
        taken = rules.look(rules.number(ends), _here(state), jnp.ones((1, len(cells)), bool))
        taken &= np.any(kind.moves != 0, axis=-1)
        blocked = taken | ~rules.on_map(ends, self._options.map_size)
        return rules.script(kind, cells[own], cells[foes], state.health[foes], blocked)

    def _observe(self, state: State) -> Observation:
        n, alive = self.num_agents, state.health >= 0
        share = jnp.where(alive, state.health / self._most, 0.0)
        place = jnp.where(alive[:, None], _cells(state) / self._options.map_size, 0.0)
        clock = state.step_count / self.time_limit
        units = jnp.concatenate([place, share[:, None], alive[:, None]], axis=-1)
        if self._options.variant == "eoi":
            enemies = -(1 + state.health / self._most) / 2
            shows = jnp.where(alive, jnp.where(self._is_red, 1.0, enemies), 0.0)
            view = jnp.concatenate([self._seen(state, shows[None]), units[:n, :3]], axis=-1)
        else:
            view = self._magent_view(state)
        stay = np.arange(self.num_actions) == self._red_type.stay
        return Observation(
            agents_view=jnp.where(alive[:n, None], view, 0.0).astype(jnp.float32),
            action_mask=alive[:n, None] | stay,
            global_state=jnp.append(units, clock).astype(jnp.float32),
            alive=alive[:n],
            step_count=state.step_count,
        )

    def _seen(self, state: State, shows: jax.Array) -> jax.Array:
        """[N, K] what agents see around them; `shows` [N or 1, U] as for `rules.look`."""
        seen = rules.number(state.positions)[:, None] + rules.number(self._offsets)
        return rules.look(seen, _here(state), shows)

    def _magent_view(self, state: State) -> jax.Array:
        """[N, 5 K] float32."""
        size = self._options.map_size
        sides = np.where(self._is_red[: self.num_agents, None] == self._is_red, 1, -1)
        seen = self._seen(state, jnp.asarray(sides) * (1 + state.health))
        cells = state.positions[:, None] + jnp.asarray(self._offsets)
        wall = grid.inside(cells, size, size) & ~rules.on_map(cells, size)
        health = (jnp.abs(seen) - 1) / self._red_type.health
        maps = [wall, seen > 0, (seen > 0) * health, seen < 0, (seen < 0) * health]
        return jnp.stack(maps, axis=-1).reshape(self.num_agents, -1)

    def _extras(self, state: State) -> dict[str, Any]:
        team_return = state.earned * self._unit
        return {"kills": state.kills, "deaths": state.deaths, "team_return": team_return}

    @property
    def own_features(self) -> np.ndarray:
        """An agent's place and health; in MAgent's maps what is not about allies."""
        if self._options.variant == "eoi":
            return self._features(np.arange(self.agents_view_size) >= len(self._offsets))
        return self._features(np.tile([True, False, False, True, True], len(self._offsets)))

    @property
    def body_features(self) -> np.ndarray:
        """An agent's place; MAgent's units see it by the walls alone."""
        if self._options.variant == "eoi":
            place = np.arange(self.agents_view_size) - len(self._offsets)
            return self._features((place == 0) | (place == 1))
        return self._features(np.tile([True, False, False, False, False], len(self._offsets)))

    def _features(self, mine: np.ndarray) -> np.ndarray:
        """The same features [F] of all agents."""
        return np.tile(mine, (self.num_agents, 1))

    def _make_viewer(self) -> Viewer[State]:
        from envs.battle.viewer import BattleViewer

        return BattleViewer(self._options.map_size, self._is_red, self._most, self.time_limit)


def magent_start(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where MAgent's two sides start on a map with this side.

    Returns:
        [K, 2] int32 (row, column) for red and for blue, column by column from the left.
    """
    side, middle = int(math.sqrt(size * size * 0.04)) * 2, size // 2
    rows = range((size - side) // 2, (size + side) // 2, 2)
    red, blue = (
        np.array(
            [
                (row, column)
                for column in range(first, first + side, 2)
                for row in rows
                if 0 < column < size - 1 and 0 < row < size - 1
            ],
            np.int32,
        )
        for first in (middle - _GAP - side, middle + _GAP)
    )
    return red, blue[: len(red)]


def _cells(state: State) -> jax.Array:
    """[U, 2] int32, all units' cells, agents' first."""
    return jnp.concatenate([state.positions, state.enemies])


def _here(state: State) -> jax.Array:
    """[U] int32, the numbers of the cells where the living stand; the dead are nowhere."""
    return jnp.where(state.health >= 0, rules.number(_cells(state)), rules.NOWHERE)
