"""SMAX of JaxMARL as a world of ours, and what it and MPE have in common. Importing this module needs JaxMARL.

Source: github.com/FLAIROx/JaxMARL, version 0.2.0, jaxmarl/environments/smax and .../mpe.
Paper: Rutherford et al., "JaxMARL: Multi-Agent RL Environments and Algorithms in JAX".
Tags in the docstrings: [R] JaxMARL's code, [S] a choice of this project, [C] computed by this
project.

What the bridge changes [S]:
    - Dictionaries of agents become an array axis; where agents differ in what they see or may do,
      views are padded with zeros at the end, and the actions that an agent lacks are masked.
    - JaxMARL's `done` is split into termination (discount 0) and truncation by the clock (1).
    - JaxMARL's `max_steps` of M makes episodes of M + 1 steps. `time_limit` is the true number.
    - Nothing resets itself, and chance comes from `fold_in(state.key, step_count)`.
"""

import abc
import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation, StateT
from envs.bridges import require_jaxmarl
from envs.bridges.states import SMAXState
from envs.configuration import Config, Range
from envs.viewer import Viewer

require_jaxmarl()
from jaxmarl.environments.smax import HeuristicEnemySMAX, Scenario, map_name_to_scenario
from jaxmarl.environments.smax.heuristic_enemy import (
    HeuristicPolicyState,
    create_heuristic_policy,
)

__all__ = ["SMAX", "Bridge", "SMAXConfig", "SMAXState"]

_MARINE, _ZEALOT, _ZERGLING = 0, 3, 4
# What JaxMARL lacks: (allies, enemies).
_OWN_SCENARIOS = {
    "corridor": ([_ZEALOT] * 6, [_ZERGLING] * 24),
    "8m_vs_9m": ([_MARINE] * 8, [_MARINE] * 9),
}
# Folded into an episode's key for the scripted policy's own chance; no step has this number.
_SCRIPT = 2**31 - 1


class Bridge(MultiAgentEnv[StateT]):
    """What SMAX and MPE have in common: dictionaries in, arrays out.

    Attributes:
        source: JaxMARL's environment.
    """

    source: Any

    @abc.abstractmethod
    def _make_source(self) -> Any:
        """JaxMARL's environment, made from `self.config`."""

    def _setup(self) -> None:
        self.source = self._make_source()
        self._names = self._players()
        # What JaxMARL declares in `observation_spaces` is not always what it returns.
        views, _ = jax.eval_shape(self.source.reset, jax.random.key(0))
        counts = jnp.array([self._action_size(name) for name in self._names])
        self.num_agents = len(self._names)
        self.num_actions = int(counts.max())
        self.time_limit = self.config.time_limit
        self.agents_view_size = max(views[name].size for name in self._names)
        self._own_actions = jnp.arange(self.num_actions) < counts[:, None]

    def _players(self) -> tuple[str, ...]:
        """JaxMARL's names of the agents that are ours."""
        return tuple(self.source.agents)

    def _agents_view(self, views: dict[str, jax.Array]) -> jax.Array:
        """[N, F], each agent's view with zeros behind it."""
        size = self.agents_view_size
        return jnp.stack([jnp.pad(views[i], (0, size - views[i].size)) for i in self._names])

    def _action_size(self, name: str) -> int:
        """How many of the A actions an agent has."""
        return int(self.source.action_space(name).n)

    def _source_action(self, name: str, action: jax.Array) -> jax.Array:
        """An agent's action as JaxMARL takes it."""
        del name
        return action

    def _everybody(self, inner: Any, action: jax.Array) -> dict[str, jax.Array]:
        """What each of JaxMARL's agents does, whether it is ours or not."""
        del inner
        return dict(zip(self._names, action, strict=True))

    def _play(self, key: jax.Array, inner: Any, action: jax.Array) -> tuple[Any, Any, jax.Array]:
        """JaxMARL's step: its views, its next state, the reward [N]."""
        everybody = self._everybody(inner, action).items()
        actions = {name: self._source_action(name, one) for name, one in everybody}
        views, inner, rewards, _, _ = self.source.step_env(key, inner, actions)
        return views, inner, jnp.stack([rewards[name] for name in self._names])


@dataclasses.dataclass(frozen=True)
class SMAXConfig(Config):
    """Options of `SMAX`; the defaults are JaxMARL's [R].

    Attributes:
        time_limit: steps of an episode at the latest. JaxMARL's own default plays 101, see the
            module's docstring [S].
        observation_type: "unit_list" has a place for every other unit; "conic" has two for each of
            32 directions. JaxMARL's "conic" never shows ally 0 to anybody and goes on
            showing the dead [R, C].
        see_enemy_actions: whether an agent sees what the enemies in its sight did last.
        enemy_attack_mode: whom an enemy shoots at among those in range, until that one is dead.
        enemy_shoots: whether the enemies shoot at all.
        walls_cause_death: whether a unit that touches the border of the map dies.
        won_battle_bonus: reward for a victory; damage earns 1 in all.
        raw_state: whether the global state is JaxMARL's `world_state` as it is, with positions up to 32 and cooldowns
            down to about -50, in place of our scaled one [S].
    """

    time_limit: Annotated[int, Range(minimum=1)] = 100
    observation_type: Literal["unit_list", "conic"] = "unit_list"
    see_enemy_actions: bool = True
    enemy_attack_mode: Literal["closest", "random"] = "closest"
    enemy_shoots: bool = True
    walls_cause_death: bool = True
    won_battle_bonus: Annotated[float, Range(minimum=0.0)] = 1.0
    raw_state: bool = False


class SMAX(Bridge[SMAXState]):
    """SMAX: N allies fight E enemies who follow JaxMARL's heuristic.

    Tags: [R] JaxMARL's code, [S] a choice of this project, [C] computed by this project.

    Scenarios: `scenario` is a name of JaxMARL's, "corridor" (6 zealots against 24 zerglings) or
    "8m_vs_9m" [S]; `bridged_class("smax/NAME")` is the class of one. The map is an open square of 32 x 32, whatever
    the scenario: SMAX's corridor has no corridor. Allies start around (8, 16), enemies around
    (24, 16), each up to 2 off in x and in y and then pushed apart; in smacv2_* places and types are
    drawn anew for each episode. [R]

    Actions [R], [N] int32, A = 5 + E:
        0 up (+y), 1 right (+x), 2 down, 3 left, 4 stop, 5 + j attack enemy j.
    `action_mask` [N, A] bool: "attack" needs a living enemy in range; the dead may only stop.

    One step [R] is half a second of battle, in eight parts; within it a unit goes on with what it
    was told to do, and shoots as often as its weapon allows.

    Reward [R], [N] float32, the same number for all, also for the dead: the enemies' loss of health
    as fractions of their full health, averaged over enemies, plus `won_battle_bonus` for a victory.
    At most 1 + `won_battle_bonus` an episode. (Enemies who touch the border pay out too.)

    End [R, S]: when all allies or all enemies are dead: discount 0. At `time_limit` = 100 steps:
    discount 1, unless the battle ends in that very step. A victory needs a living ally; if the last
    units of both sides die together it is a draw.

    Observation [R]: `agents_view` [N, F] float32, for each agent with "unit_list" (F = 13 (N - 1 +
    E) + 10), for every other ally, then every enemy, in order of their number: health (fraction of
    its full health), offset x and y (in own sight ranges), last movement x and y, last action if it
    was an attack (as a fraction of the highest number), weapon cooldown (fraction), type one-hot
    [6]; all 0 if that unit is out of sight or dead. Then its own health, x / 32, y / 32, weapon
    cooldown, type one-hot [6]. The dead see zeros. No agent's number is in it; since nobody lists
    itself, place k is ally k for some agents and ally k + 1 for others. Types: marine, marauder,
    stalker, zealot, zergling, hydralisk.

    `global_state` [11 (N + E)] float32 [S]: for every unit, allies first, health (fraction), x / 32,
    y / 32, weapon cooldown (fraction of the type's, clipped to 0..1), type one-hot [6], zeros for the
    dead; then every unit's team (0, 1). All of it is within 0..1.
    With `raw_state`, [12 (N + E)] [R]: the same with x and y from 0 to 32 and the cooldown in
    seconds, which sinks by half a second with every step that the unit does not shoot, far below 0;
    then every unit's team; then every unit's type (0..5), living or dead.

    `alive` [N] bool [R].

    `extras` [S]: `won` int32 0 or 1, `allies_alive` and `enemies_alive` int32; `won` is the headline.

    Chance: starts, and each cooldown after a shot. Step t plays with `fold_in(state.key, t)`;
    `state.key` stays the same for the episode. [S]

    `scripted_action` is JaxMARL's heuristic, the enemies' own, for the allies. Mean returns [C]
    over 512 episodes of uniformly random legal actions (hardly ever a victory) and of the scripted
    ones, and how many of the latter are victories; standard errors are below 0.03 and 2.3%:

        3m            0.17  1.40  49%        2s3z             0.21  1.41  50%
        8m            0.18  1.33  43%        3s5z             0.20  1.36  44%
        25m           0.21  1.43  50%        3s5z_vs_3s6z     0.18  0.62   0%
        5m_vs_6m      0.14  0.57   0%        3s_vs_5z         0.22  0.30   0%
        10m_vs_11m    0.17  0.74   3%        6h_vs_8z         0.33  0.62   0%
        27m_vs_30m    0.19  0.72   1%        corridor         0.14  0.25   0%
        8m_vs_9m      0.15  0.68   2%
        smacv2: 5 units 0.26 1.40 53%, 10 units 0.29 1.39 52%, 20 units 0.31 1.42 53%
    """

    Config: ClassVar[type[Config]] = SMAXConfig
    headline: ClassVar[str | None] = "won"
    scenario: ClassVar[str] = "3m"

    def _make_source(self) -> HeuristicEnemySMAX:
        config = self.config
        return HeuristicEnemySMAX(
            scenario=_scenario(self.scenario),
            max_steps=config.time_limit - 1,
            observation_type=config.observation_type,
            see_enemy_actions=config.see_enemy_actions,
            attack_mode=config.enemy_attack_mode,
            enemy_shoots=config.enemy_shoots,
            walls_cause_death=config.walls_cause_death,
            won_battle_bonus=float(config.won_battle_bonus),
        )

    def _setup(self) -> None:
        super()._setup()
        units = self.num_agents + self.source.num_enemies
        # JaxMARL's, of which ours lacks every unit's type as a number.
        self.global_state_size = self.source.state_size - (0 if self.config.raw_state else units)
        self._heuristic = create_heuristic_policy(self.source, team=0)

    def reset(self, key: jax.Array) -> tuple[SMAXState, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        key, reset_key = jax.random.split(key)
        views, inner = self.source.reset(reset_key)
        size = jnp.array([self.source.map_width, self.source.map_height], jnp.float32)
        state = SMAXState(
            key=key,
            step_count=jnp.zeros((), jnp.int32),
            inner=inner,
            ally_targets=size - inner.state.unit_positions[: self.num_agents],
        )
        return state, self._restart(self._observe(state, views), self._count(state)[1])

    def step(self, state: SMAXState, action: jax.Array) -> tuple[SMAXState, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [N] int32, each in 0..A-1.

        Returns:
            The next state and its time step.
        """
        step_count = state.step_count + 1
        key = jax.random.fold_in(state.key, step_count)
        views, inner, reward = self._play(key, state.inner, action)
        state = dataclasses.replace(state, step_count=step_count, inner=inner)
        over, extras = self._count(state)
        return state, self._transition(self._observe(state, views), reward, over, extras)

    def scripted_action(self, state: SMAXState) -> jax.Array:
        """JaxMARL's heuristic: shoot at whom you shot last, else at the closest; else walk.

        It walks towards a random enemy in sight, or to `ally_targets`. What JaxMARL's own form of
        it remembers is read off the state here, so that it needs no memory.

        Args:
            state: the state, of which each ally uses its own view, range and last target only.

        Returns:
            [N] int32.
        """
        battle, n = state.inner.state, self.num_agents
        views = self.source.get_obs_unit_list(battle)
        # An attack stays recorded here, as 5 + enemy, until the unit does something else.
        last_target = battle.prev_attack_actions[:n] - self.source.num_movement_actions
        memory = HeuristicPolicyState(
            default_target=state.ally_targets, last_attacked_enemy=jnp.maximum(last_target, -1)
        )
        key = jax.random.fold_in(jax.random.fold_in(state.key, _SCRIPT), state.step_count)
        action, _ = jax.vmap(self._heuristic)(
            jax.random.split(key, n), memory, jnp.stack([views[name] for name in self._names])
        )
        stop = self.source.num_movement_actions - 1
        return jnp.where(battle.unit_alive[:n], action, stop).astype(jnp.int32)

    def _count(self, state: SMAXState) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Whether the battle is over, and the extras."""
        alive = state.inner.state.unit_alive
        allies = jnp.sum(alive[: self.num_agents], dtype=jnp.int32)
        enemies = jnp.sum(alive[self.num_agents :], dtype=jnp.int32)
        won = ((enemies == 0) & (allies > 0)).astype(jnp.int32)
        extras = {"won": won, "allies_alive": allies, "enemies_alive": enemies}
        return (allies == 0) | (enemies == 0), extras

    def _observe(self, state: SMAXState, views: dict[str, jax.Array]) -> Observation:
        legal = self.source.get_avail_actions(state.inner)
        return Observation(
            agents_view=self._agents_view(views),
            action_mask=jnp.stack([legal[name] for name in self._names]).astype(bool),
            global_state=self._global_state(state.inner.state, views["world_state"]),
            alive=state.inner.state.unit_alive[: self.num_agents],
            step_count=state.step_count,
        )

    def _global_state(self, battle: Any, raw: jax.Array) -> jax.Array:
        """The global state, made from JaxMARL's."""
        if self.config.raw_state:
            return raw
        source, count = self.source, battle.unit_types.size
        # Ten numbers for each unit: health, x, y, cooldown, type one-hot.
        units, teams, _ = jnp.split(raw, [10 * count, 11 * count])
        units = units.reshape(count, 10)
        positions = units[:, 1:3] / jnp.array([source.map_width, source.map_height])
        longest = source.unit_type_weapon_cooldowns[battle.unit_types]
        cooldowns = jnp.clip(units[:, 3] / longest, 0.0, 1.0)
        units = units.at[:, 1:3].set(positions).at[:, 3].set(cooldowns)
        return jnp.concatenate([units.ravel(), teams])

    def _make_viewer(self) -> Viewer[SMAXState]:
        from envs.bridges.viewer import SMAXViewer

        return SMAXViewer(self.scenario, self.source, self.time_limit)


def _scenario(name: str) -> Scenario:
    if name not in _OWN_SCENARIOS:
        return map_name_to_scenario(name)
    allies, enemies = _OWN_SCENARIOS[name]
    types = jnp.array(allies + enemies, jnp.uint8)
    return Scenario(types, len(allies), len(enemies), False, False)
