"""SMAX and MPE through the bridge beside JaxMARL itself, and our worlds as JaxMARL's."""

import dataclasses
import importlib.util
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.wrappers import JumanjiToGymWrapper, MultiToSingleWrapper, VmapAutoResetWrapper

import envs
from envs import bridges

# Not pytest.importorskip: JaxMARL's import resets sys.stdout, which would take it from pytest.
needs_jaxmarl = pytest.mark.skipif(
    importlib.util.find_spec("jaxmarl") is None, reason="JaxMARL is not installed"
)
MPE_TASKS = (
    "simple_spread",
    "simple_speaker_listener",
    "simple_adversary",
    "simple_reference",
    "simple_tag",
)
MID, LAST = 1, 2
STOP, ATTACK_0 = 4, 5


def make(name: str, **options: Any) -> Any:
    return bridges.bridged_class(name)(**options)


@dataclasses.dataclass
class Played:
    """What our world and JaxMARL's gave in B episodes of T steps: arrays [B, T + 1 or T, ...].

    Attributes:
        env: our world.
        names: JaxMARL's names of the agents.
        states: ours.
        timesteps: ours.
        actions: of both.
        inner: JaxMARL's states.
        views: JaxMARL's observations.
        legal: JaxMARL's available actions, of SMAX only.
        rewards: JaxMARL's.
        dones: JaxMARL's.
    """

    env: Any
    names: list[str]
    states: Any
    timesteps: Any
    actions: np.ndarray
    inner: Any
    views: dict[str, np.ndarray]
    legal: dict[str, np.ndarray]
    rewards: dict[str, np.ndarray]
    dones: dict[str, np.ndarray]

    @property
    def after(self) -> Any:
        """Our time steps without the first, [B, T, ...]."""
        return jax.tree.map(lambda x: x[:, 1:], self.timesteps)

    @property
    def valid(self) -> np.ndarray:
        """[B, T], true up to and with that step."""
        return np.cumsum(self.over, axis=1) - self.over == 0

    @property
    def over(self) -> np.ndarray:
        """[B, T], true at the first step that JaxMARL calls done."""
        done = self.dones["__all__"]
        return done & (np.cumsum(done, axis=1) == 1)


def at(tree: Any, *index: int) -> Any:
    """One of a batch of states or time steps, as JAX arrays."""
    return jax.tree.map(lambda x: jnp.asarray(x[index]), tree)


Policy = Callable[[Any, jax.Array, Any, jax.Array], tuple[jax.Array, Any]]


def play_both(env: Any, source: Any, policy: Policy, memory: Any, num_episodes: int) -> Played:
    """Plays each from a reset of its own, with the same keys and the same actions.

    The policy maps (our state, key, memory, number of the episode) to actions [N] and memory.
    """

    def legal(inner: Any) -> Any:
        return source.get_avail_actions(inner) if hasattr(inner, "enemy_policy_state") else {}

    def episode(number: jax.Array, key: jax.Array) -> Any:
        policy_key, key = jax.random.split(key)
        state, timestep = env.reset(key)
        key, reset_key = jax.random.split(key)
        views, inner = source.reset(reset_key)
        first = (state, timestep, inner, views, legal(inner))

        def step(carry: Any, count: jax.Array) -> Any:
            state, inner, memory = carry
            action, memory = policy(state, jax.random.fold_in(policy_key, count), memory, number)
            actions = {name: action[i] for i, name in enumerate(source.agents)}
            views, inner, *rest, _ = source.step_env(jax.random.fold_in(key, count), inner, actions)
            state, timestep = env.step(state, action)
            record = (state, timestep, inner, views, legal(inner))
            return (state, inner, memory), (record, (action, *rest))

        counts = jnp.arange(1, env.time_limit + 1)
        _, (records, rest) = jax.lax.scan(step, (state, inner, memory), counts)
        records = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, records)
        return records, rest

    keys = jax.random.split(jax.random.PRNGKey(5), num_episodes)
    play = jax.jit(jax.vmap(episode))
    (states, timesteps, *theirs), (actions, *rest) = jax.device_get(
        play(jnp.arange(num_episodes), keys)
    )
    return Played(env, source.agents, states, timesteps, actions, *theirs, *rest)


def assert_equal_to_jaxmarl(played: Played) -> None:
    """Observations, rewards and the end, at every step of every episode and beyond its end."""
    ours = played.timesteps.observation
    for i, name in enumerate(played.names):
        size = played.views[name].shape[-1]
        np.testing.assert_array_equal(ours.agents_view[:, :, i, :size], played.views[name])
        np.testing.assert_array_equal(ours.agents_view[:, :, i, size:], 0.0)
        np.testing.assert_array_equal(played.after.reward[..., i], played.rewards[name])
    np.testing.assert_array_equal(played.after.step_type == LAST, played.dones["__all__"])
    jax.tree.map(np.testing.assert_array_equal, played.states.inner, played.inner)
    assert max(abs(ours.agents_view).max(), abs(ours.global_state).max()) <= 5.0
    counts = np.broadcast_to(np.arange(ours.step_count.shape[1]), ours.step_count.shape)
    np.testing.assert_array_equal(ours.step_count, counts)
    np.testing.assert_array_equal(played.states.step_count, counts)


# --- SMAX beside JaxMARL ---


@pytest.fixture(scope="module")
def battles() -> Played:
    """3m, 16 steps at most: a third of the episodes with any actions, a third with legal ones, a
    third with the actions of JaxMARL's heuristic, which remembers in its own way."""
    env = make("smax/3m", time_limit=16)
    import jaxmarl
    from jaxmarl.environments.smax import map_name_to_scenario
    from jaxmarl.environments.smax.heuristic_enemy import (
        create_heuristic_policy,
        get_heuristic_policy_initial_state,
    )

    from envs.bridges.jaxmarl import _SCRIPT

    source: Any = jaxmarl.make(
        "HeuristicEnemySMAX", scenario=map_name_to_scenario("3m"), max_steps=15
    )
    heuristic = create_heuristic_policy(source, 0)

    def policy(state: Any, key: jax.Array, memory: Any, number: jax.Array) -> Any:
        views = source.get_obs(state.inner)
        views = jnp.stack([views[name] for name in source.agents])
        script = jax.random.fold_in(jax.random.fold_in(state.key, _SCRIPT), state.step_count)
        told, memory = jax.vmap(heuristic)(jax.random.split(script, 3), memory, views)
        legal = source.get_avail_actions(state.inner)
        mask = jnp.stack([legal[name] for name in source.agents])
        chances = jax.random.uniform(key, mask.shape)
        any_action, legal_action = chances.argmax(-1), jnp.where(mask, chances, -1).argmax(-1)
        action = jnp.select([number % 3 == 0, number % 3 == 1], [any_action, legal_action], told)
        return action.astype(jnp.int32), memory

    start = get_heuristic_policy_initial_state()
    memory = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 3), start)
    return play_both(env, source, policy, memory, 48)


@needs_jaxmarl
def test_smax_equals_jaxmarl(battles: Played) -> None:
    assert_equal_to_jaxmarl(battles)
    ours = battles.timesteps.observation
    # Our state is theirs, scaled: numbers 0, 3 and up are fractions and the type, dead units are zeros.
    raw, scaled = battles.views["world_state"], ours.global_state
    theirs, units = (x[..., :60].reshape(*x.shape[:-1], 6, 10) for x in (raw, scaled))
    np.testing.assert_allclose(units[..., 1:3] * 32, theirs[..., 1:3], rtol=1e-5)
    # A marine's weapon needs 0.61 seconds.
    np.testing.assert_allclose(units[..., 3], (theirs[..., 3] / 0.61).clip(0, 1), rtol=1e-5)
    others = [0, *range(4, 10)]
    np.testing.assert_array_equal(units[..., others], theirs[..., others])
    np.testing.assert_array_equal(scaled[..., 60:], raw[..., 60:66])
    assert scaled.shape[-1] == 66
    assert abs(ours.agents_view).max() <= 1.0
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)
    assert raw.min() < -3  # what networks are spared
    for i, name in enumerate(battles.names):
        np.testing.assert_array_equal(ours.action_mask[:, :, i], battles.legal[name])


@needs_jaxmarl
def test_smax_tells_termination_from_truncation(battles: Played) -> None:
    alive = battles.inner.state.unit_alive[:, 1:]
    allies, enemies = alive[..., :3].sum(-1), alive[..., 3:].sum(-1)
    decided = (allies == 0) | (enemies == 0)
    np.testing.assert_array_equal(battles.after.discount, np.stack([1.0 - decided] * 3, -1))
    extras = battles.after.extras
    np.testing.assert_array_equal(extras["won"], (enemies == 0) & (allies > 0))
    np.testing.assert_array_equal(extras["allies_alive"], allies)
    np.testing.assert_array_equal(extras["enemies_alive"], enemies)
    # Every kind of end was seen, each at an episode's last step.
    kinds = {
        "victory": (enemies == 0) & (allies > 0),
        "defeat": (enemies > 0) & (allies == 0),
        "time": ~decided,
    }
    for kind, cases in kinds.items():
        assert (cases & battles.over).any(), f"no episode ended with {kind}"
    first = battles.timesteps.extras
    assert (first["won"][:, 0] == 0).all()
    assert (first["allies_alive"][:, 0] == 3).all()
    # A victory pays the bonus on top of all the enemies' health.
    won = (extras["won"] == 1) & battles.over
    total = (battles.after.reward[..., 0] * battles.valid).sum(1)
    np.testing.assert_allclose(total[won.any(1)], 2.0, rtol=1e-5)


@needs_jaxmarl
def test_the_dead_may_only_stop(battles: Played) -> None:
    alive = battles.inner.state.unit_alive[:, :, :3]
    mask = battles.timesteps.observation.action_mask
    assert mask.dtype == bool
    assert (~alive).any()
    np.testing.assert_array_equal(battles.timesteps.observation.alive, alive)
    only_stop = np.arange(8) == STOP
    np.testing.assert_array_equal(mask[~alive], np.broadcast_to(only_stop, mask[~alive].shape))
    assert mask[alive][:, :ATTACK_0].all()
    assert (battles.timesteps.observation.agents_view[~alive] == 0.0).all()


@needs_jaxmarl
def test_the_scripted_policy_is_jaxmarls_heuristic(battles: Played) -> None:
    script = jax.jit(jax.vmap(jax.vmap(battles.env.scripted_action)))
    before = jax.tree.map(lambda x: x[2::3, :-1], battles.states)
    ours, theirs = np.asarray(script(before)), battles.actions[2::3]
    alive = before.inner.state.unit_alive[..., :3]
    assert (theirs >= ATTACK_0).any()
    compared = alive & battles.valid[2::3, :, None]
    np.testing.assert_array_equal(ours[compared], theirs[compared])
    assert (ours[~alive] == STOP).all()


# --- SMAX, states made by hand ---


def duel(state: Any, step_count: int, ally: float, enemy: float) -> Any:
    """Ally 0 and enemy 0, with so much health, within each other's range; all others are dead."""
    units = state.inner.state
    alive = jnp.array([ally > 0, False, False, enemy > 0, False, False])
    health = jnp.array([ally, 0, 0, enemy, 0, 0], jnp.float32)
    positions = units.unit_positions.at[jnp.array([0, 3])].set(
        jnp.array([[14.0, 16.0], [17.0, 16.0]])
    )
    units = units.replace(
        unit_alive=alive,
        unit_health=health,
        unit_positions=positions,
        step=jnp.asarray(step_count, units.step.dtype),
    )
    return dataclasses.replace(
        state,
        step_count=jnp.asarray(step_count, jnp.int32),
        inner=state.inner.replace(state=units),
    )


# Name: steps so far, health of ally and enemy, the ally's action -> last?, discount, won, title.
DUELS = {
    "it goes on": (3, 45.0, 45.0, STOP, MID, 1, 0, "battle"),
    "victory": (3, 45.0, 1.0, ATTACK_0, LAST, 0, 1, "victory"),
    "defeat": (3, 1.0, 45.0, STOP, LAST, 0, 0, "defeat"),
    "draw": (3, 1.0, 1.0, ATTACK_0, LAST, 0, 0, "draw"),
    "time limit": (15, 45.0, 45.0, STOP, LAST, 1, 0, "time is up"),
    "victory at the time limit": (15, 45.0, 1.0, ATTACK_0, LAST, 0, 1, "victory"),
    "defeat at the time limit": (15, 1.0, 45.0, STOP, LAST, 0, 0, "defeat"),
    "draw at the time limit": (15, 1.0, 1.0, ATTACK_0, LAST, 0, 0, "draw"),
}


@needs_jaxmarl
def test_how_a_battle_ends(battles: Played) -> None:
    env, start = battles.env, at(battles.states, 0, 0)
    states = [duel(start, *case[:3]) for case in DUELS.values()]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *states)
    action = jnp.array([[case[3], STOP, STOP] for case in DUELS.values()], jnp.int32)
    after, timesteps = jax.jit(jax.vmap(env.step))(batch, action)
    for i, (name, case) in enumerate(DUELS.items()):
        _, _, enemy, _, step_type, discount, won, title = case
        timestep = at(timesteps, i)
        assert timestep.step_type == step_type, name
        assert (timestep.discount == discount).all(), name
        assert int(timestep.extras["won"]) == won, name
        assert timestep.observation.action_mask.any(-1).all(), name
        # A third of an enemy's health, and the bonus.
        hurt = 0.0 if case[3] == STOP else min(enemy, 9.0) / 45 / 3
        np.testing.assert_allclose(timestep.reward, hurt + won, rtol=1e-5, err_msg=name)
        assert env.text(at(after, i)).startswith(f"SMAX 3m: {title}\n"), name


@needs_jaxmarl
def test_a_battle_in_text_and_picture(battles: Played) -> None:
    env, start = battles.env, at(battles.states, 0, 0)
    healthy, hurt = duel(start, 3, 45.0, 45.0), duel(start, 3, 9.0, 45.0)
    dead = duel(start, 3, 0.0, 45.0)
    pictures = [env.render(state) for state in (healthy, hurt, dead)]
    assert pictures[0].shape == (540, 480, 3)
    assert (pictures[0] != pictures[1]).any()
    assert (pictures[1] != pictures[2]).any()
    texts = [env.text(state) for state in (start, healthy, dead)]
    assert len(set(texts)) == 3
    # A marine that lives, in capitals; one that lives, an enemy; four dead.
    field = "".join(line for line in texts[1].splitlines() if line.startswith("|"))
    assert [field.count(character) for character in "Mmx"] == [1, 1, 4]
    for text in texts:
        assert len(text.splitlines()) == len(texts[0].splitlines())
        assert max(map(len, text.splitlines())) <= 80


# --- SMAX, scenarios and options ---

MARINE, STALKER, ZEALOT, ZERGLING, HYDRALISK = 0, 2, 3, 4, 5
TEAMS = {
    "3m": ([MARINE] * 3, [MARINE] * 3),
    "8m": ([MARINE] * 8, [MARINE] * 8),
    "25m": ([MARINE] * 25, [MARINE] * 25),
    "5m_vs_6m": ([MARINE] * 5, [MARINE] * 6),
    "8m_vs_9m": ([MARINE] * 8, [MARINE] * 9),
    "10m_vs_11m": ([MARINE] * 10, [MARINE] * 11),
    "27m_vs_30m": ([MARINE] * 27, [MARINE] * 30),
    "2s3z": ([STALKER] * 2 + [ZEALOT] * 3,) * 2,
    "3s5z": ([STALKER] * 3 + [ZEALOT] * 5,) * 2,
    "3s5z_vs_3s6z": ([STALKER] * 3 + [ZEALOT] * 5, [STALKER] * 3 + [ZEALOT] * 6),
    "3s_vs_5z": ([STALKER] * 3, [ZEALOT] * 5),
    "6h_vs_8z": ([HYDRALISK] * 6, [ZEALOT] * 8),
    "corridor": ([ZEALOT] * 6, [ZERGLING] * 24),
}
# Between them all six types of units.
MORE_SCENARIOS = ("2s3z", "6h_vs_8z", "corridor", "smacv2_5_units")
SIZES = {"smacv2_5_units": 5, "smacv2_10_units": 10, "smacv2_20_units": 20}


@needs_jaxmarl
def test_every_scenario_of_jaxmarl_and_two_more_are_there() -> None:
    make("smax/3m")
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

    known = {name.removeprefix("smax/") for name in bridges.names() if name.startswith("smax/")}
    assert known == set(MAP_NAME_TO_SCENARIO) | {"corridor", "8m_vs_9m"} == set(TEAMS) | set(SIZES)


@needs_jaxmarl
@pytest.mark.parametrize("scenario", [*TEAMS, *SIZES])
def test_who_fights_whom(scenario: str) -> None:
    env = make(f"smax/{scenario}")
    if scenario in TEAMS:
        allies, enemies = TEAMS[scenario]
        types = np.asarray(env.source.scenario).tolist()
        assert types == allies + enemies
        n, e = len(allies), len(enemies)
    else:
        n = e = SIZES[scenario]
    assert (env.num_agents, env.num_actions) == (n, 5 + e)
    assert env.agents_view_size == 13 * (n - 1 + e) + 10
    assert env.global_state_size == 11 * (n + e)


@needs_jaxmarl
def test_smax_passes_its_options_on() -> None:
    env = make(
        "smax/3m",
        time_limit=7,
        observation_type="conic",
        see_enemy_actions=False,
        enemy_attack_mode="random",
        enemy_shoots=False,
        walls_cause_death=False,
        won_battle_bonus=3,
        raw_state=True,
    )
    source = env.source
    assert (source.max_steps, source.won_battle_bonus) == (6, 3.0)
    assert (source.see_enemy_actions, source.walls_cause_death) == (False, False)
    assert (source.enemy_shoots, source.attack_mode) == (False, "random")
    assert env.agents_view_size == 13 * 64 + 10
    assert env.global_state_size == 12 * 6
    _, inner = source.reset(jax.random.key(0))
    raw = source.get_world_state(inner)
    assert env._global_state(inner.state, raw) is raw


@needs_jaxmarl
def test_a_state_worked_out_by_hand() -> None:
    # A stalker's weapon (type 2) needs 1.87 seconds, a zealot's (type 3) 0.86.
    env = make("smax/2s3z")
    _, inner = env.source.reset(jax.random.key(0))
    battle = inner.state
    full = env.source.unit_type_health[battle.unit_types]
    battle = battle.replace(
        unit_health=full.at[1].multiply(0.25),
        unit_positions=battle.unit_positions.at[:2].set(jnp.array([[8.0, 16.0], [32.0, 0.0]])),
        unit_weapon_cooldowns=jnp.zeros(10).at[:4].set(jnp.array([0.935, 1.99, 0.43, -50.0])),
        unit_alive=battle.unit_alive.at[4].set(False),
    )
    state = np.asarray(
        env._global_state(battle, env.source.get_world_state(inner.replace(state=battle)))
    )
    assert state.shape == (110,)
    units, teams = state[:100].reshape(10, 10), state[100:]
    stalker, zealot = [0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]
    np.testing.assert_allclose(units[0], [1, 0.25, 0.5, 0.5, *stalker], rtol=1e-6)
    np.testing.assert_allclose(units[1], [0.25, 1, 0, 1, *stalker], rtol=1e-6)
    np.testing.assert_allclose(units[2, 3:], [0.5, *zealot], rtol=1e-6)
    np.testing.assert_allclose(units[3, 3:], [0, *zealot], rtol=1e-6)
    np.testing.assert_array_equal(units[4], np.zeros(10))
    np.testing.assert_array_equal(teams, [0] * 5 + [1] * 5)


# --- MPE beside JaxMARL ---

OPTIONS = {"simple_spread": {"local_ratio": 0.25}, "simple_reference": {"local_ratio": 0.25}}


@pytest.fixture(
    scope="module",
    params=["simple_spread", *(pytest.param(t, marks=pytest.mark.slow) for t in MPE_TASKS[1:])],
)
def particles(request: pytest.FixtureRequest) -> Played:
    """Half of the episodes with random actions, half with the scripted ones."""
    task = request.param
    ours = {"prey": "learns"} if task == "simple_tag" else {}
    env = make(f"mpe/{task}", **OPTIONS.get(task, {}), **ours)
    import jaxmarl

    version = "v4" if task == "simple_speaker_listener" else "v3"
    source: Any = jaxmarl.make(f"MPE_{task}_{version}", max_steps=24, **OPTIONS.get(task, {}))
    counts = jnp.array([source.action_space(name).n for name in source.agents])

    def policy(state: Any, key: jax.Array, memory: None, number: jax.Array) -> Any:
        anything = jax.random.randint(key, counts.shape, 0, counts, jnp.int32)
        return jnp.where(number % 2 == 0, anything, env.scripted_action(state)), memory

    return play_both(env, source, policy, None, 64)


def places(played: Played) -> tuple[np.ndarray, np.ndarray]:
    """[B, T, N, 2] positions of agents and [B, T, L, 2] of landmarks, after each step."""
    positions, n = played.inner.p_pos[:, 1:], len(played.names)
    return positions[:, :, :n], positions[:, :, n:]


def goals(played: Played) -> np.ndarray:
    """[B, T, 2] position of the goal, after each step."""
    _, landmarks = places(played)
    goal = played.inner.goal[:, 1:, None, None]
    return np.take_along_axis(landmarks, goal, axis=2)[:, :, 0]


@needs_jaxmarl
def test_mpe_equals_jaxmarl(particles: Played) -> None:
    assert_equal_to_jaxmarl(particles)
    n, after = len(particles.names), particles.after
    # Only the clock ends an episode, and that is a truncation.
    assert (after.discount == 1.0).all()
    assert (after.step_type[:, :-1] == MID).all()
    assert (after.step_type[:, -1] == LAST).all()
    # The global state, put together once more from JaxMARL's.
    inner = particles.inner
    batch = inner.p_pos.shape[:2]
    parts = [inner.p_pos.reshape(*batch, -1), inner.p_vel[:, :, :n].reshape(*batch, -1)]
    if inner.goal is not None:
        goals = np.eye(inner.p_pos.shape[2] - n, dtype=np.float32)[inner.goal]
        parts.append(goals.reshape(*batch, -1))
    if "speaker_0" in particles.names:
        parts.append(inner.c[:, :, 0])
    if particles.env.num_actions == 50:
        parts.append(inner.c.reshape(*batch, -1))
    expected = np.concatenate(parts, axis=-1)
    np.testing.assert_array_equal(particles.timesteps.observation.global_state, expected)


@needs_jaxmarl
@pytest.mark.parametrize(
    "task",
    [
        "simple_spread",
        "simple_speaker_listener",
        "simple_adversary",
        "simple_tag",
    ],
)
@pytest.mark.slow
def test_continuous_actions_have_the_discrete_ones_among_them(task: str) -> None:
    """A whole force along an axis moves an agent as the moving action does, and a word is said as a word."""
    discrete, continuous = (make(f"mpe/{task}", continuous_actions=c) for c in (False, True))
    assert continuous.num_actions == (3 if task == "simple_speaker_listener" else 2)
    directions = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.float32)
    words = 2 * np.eye(3, dtype=np.float32) - 1
    rng = np.random.default_rng(0)
    state, _ = discrete.reset(jax.random.key(1))
    other, first = continuous.reset(jax.random.key(1))
    n = discrete.num_agents
    says = [task == "simple_speaker_listener" and i == 0 for i in range(n)]
    np.testing.assert_array_equal(
        first.observation.action_mask.sum(-1), [3 if s else 2 for s in says]
    )
    step, other_step = jax.jit(discrete.step), jax.jit(continuous.step)
    for _ in range(5):
        action = rng.integers(0, [3 if s else 5 for s in says])
        vectors = np.full((n, continuous.num_actions), 0.7, np.float32)  # an unused third number
        for i in range(n):
            vectors[i, : 3 if says[i] else 2] = (words if says[i] else directions)[action[i]]
        state, expected = step(state, jnp.asarray(action))
        other, found = other_step(other, jnp.asarray(vectors))
        for one, another in zip(
            jax.tree.leaves((expected.reward, expected.observation.agents_view, state.inner)),
            jax.tree.leaves((found.reward, found.observation.agents_view, other.inner)),
            strict=True,
        ):
            np.testing.assert_allclose(one, another, rtol=1e-6)
    script = continuous.scripted_action(other)
    assert script.shape == (n, continuous.num_actions)
    envs.check_environment(continuous, jax.random.PRNGKey(0), num_episodes=2)
    # Half the force, half the push.
    half, _ = other_step(other, jnp.asarray(vectors) / 2)
    whole, _ = other_step(other, jnp.asarray(vectors))
    still, _ = other_step(other, jnp.zeros_like(jnp.asarray(vectors)))
    moved = np.asarray(whole.inner.p_vel - still.inner.p_vel)[:n]
    np.testing.assert_allclose(
        np.asarray(half.inner.p_vel - still.inner.p_vel)[:n], moved / 2, atol=1e-6
    )


@needs_jaxmarl
def test_mpe_measures_what_it_says(particles: Played) -> None:
    agents, landmarks = places(particles)
    extras, reward = particles.after.extras, particles.after.reward
    scripted = np.arange(len(reward)) % 2 == 1
    final = {name: value[:, -1] for name, value in extras.items()}

    def near(found: np.ndarray, expected: np.ndarray) -> None:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    if particles.env.config.__class__.__name__ == "SimpleSpreadConfig":
        gaps = np.linalg.norm(landmarks[:, :, :, None] - agents[:, :, None], axis=-1).min(-1)
        near(extras["distance"], gaps.sum(-1))
        near(extras["mean_distance"], np.cumsum(gaps.sum(-1), axis=1) / np.arange(1, 26))
        np.testing.assert_array_equal(extras["covered"], (gaps < 0.1).sum(-1))
        between = np.linalg.norm(agents[:, :, :, None] - agents[:, :, None], axis=-1)
        touching = (between < 0.3) & ~np.eye(3, dtype=bool)
        assert touching.any()
        collisions = np.cumsum(touching.sum((-2, -1)) // 2, axis=1)
        np.testing.assert_array_equal(extras["collisions"], collisions)
        near(reward, -0.25 * touching.sum(-1) - 0.75 * gaps.sum(-1, keepdims=True))
        assert final["covered"][scripted].mean() > 2.5 > 0.5 > final["covered"][~scripted].mean()
    elif "speaker_0" in particles.names:
        gap = np.linalg.norm(agents[:, :, 1] - goals(particles), axis=-1)
        near(extras["distance"], gap)
        np.testing.assert_array_equal(extras["reached"], gap < 0.1)
        near(reward, -np.stack([gap**2] * 2, -1))
        assert final["reached"][scripted].all()
        assert final["reached"][~scripted].mean() < 0.2
    elif particles.env.config.__class__.__name__ == "SimpleReferenceConfig":
        goal = particles.inner.goal[:, 1:, :, None]
        gap = np.linalg.norm(agents - np.take_along_axis(landmarks, goal, axis=2), axis=-1)
        near(extras["distance"], gap.mean(-1))
        np.testing.assert_array_equal(extras["reached"], (gap < 0.1).sum(-1))
        # An agent's own part is where the other stands.
        near(reward, -0.25 * gap[..., ::-1] - 0.75 * gap.mean(-1, keepdims=True))
        assert (final["reached"][scripted] == 2).all()
        assert final["reached"][~scripted].mean() < 0.2
    elif particles.env.config.__class__.__name__ == "SimpleTagConfig":
        gap = np.linalg.norm(agents[:, :, :3] - agents[:, :, 3:], axis=-1)
        near(reward[..., :3], 10.0 * (gap < 0.125).sum(-1, keepdims=True) * np.ones(3))
        catches = np.cumsum((gap < 0.125).sum(-1), axis=1)
        np.testing.assert_array_equal(extras["catches"], catches)
        outside = np.abs(agents[:, :, 3]) > 0.9
        caught_inside = (gap < 0.125).any(-1) & ~outside.any(-1)
        assert (reward[..., 3][caught_inside] <= -10.0).all()
        assert final["catches"][scripted].mean() > 1.0 > final["catches"][~scripted].mean()
    else:
        gap = np.linalg.norm(agents - goals(particles)[:, :, None], axis=-1)
        adversary, good = gap[:, :, 0], gap[:, :, 1:].min(-1)
        near(extras["adversary_distance"], adversary)
        near(extras["good_distance"], good)
        np.testing.assert_array_equal(extras["adversary_reached"], adversary < 0.16)
        np.testing.assert_array_equal(extras["good_reached"], good < 0.16)
        # The adversary is paid for the opposite of what the good agents are paid for.
        near(reward, np.stack([-adversary, adversary - good, adversary - good], -1))
        assert final["good_reached"][scripted].all()
        assert 0 < final["adversary_reached"][scripted].mean() < 0.8


@needs_jaxmarl
def test_what_an_agent_lacks_is_padded_and_masked() -> None:
    env = make("mpe/simple_speaker_listener")
    state, first = env.reset(jax.random.key(1))
    view, mask = first.observation.agents_view, first.observation.action_mask
    assert mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    goal = int(state.inner.goal)
    np.testing.assert_allclose(view[0, :3], np.where(np.arange(3) == goal, 0.65, 0.15))
    assert (view[0, 3:] == 0.0).all()
    assert (view[1, 2:8] != 0.0).all()
    # What the speaker says, the listener hears one step later.
    _, later = env.step(state, jnp.array([2, 0], jnp.int32))
    assert later.observation.agents_view[1, 8:].tolist() == [0.0, 0.0, 1.0]
    assert later.observation.global_state[-3:].tolist() == [0.0, 0.0, 1.0]


@needs_jaxmarl
def test_mpe_comes_in_other_sizes() -> None:
    for n in (1, 2, 6):
        env = make("mpe/simple_spread", num_agents=n)
        assert (env.num_agents, env.num_actions) == (n, 5)
        assert (env.agents_view_size, env.global_state_size) == (6 * n, 6 * n)
        state, _ = jax.eval_shape(env.reset, jax.random.key(0))
        assert state.inner.p_pos.shape == (2 * n, 2)
    # Here JaxMARL declares views of 8 and 10 numbers whatever the number of agents.
    env = make("mpe/simple_adversary", num_good_agents=3)
    assert (env.num_agents, env.agents_view_size) == (4, 2 + 6 + 6)
    assert env.global_state_size == 8 + 6 + 8 + 3
    assert jax.eval_shape(env.scripted_action, jax.eval_shape(env.reset, jax.random.key(0))[0])


@needs_jaxmarl
@pytest.mark.slow
def test_scripted_prey_does_what_prey_that_learns_does_by_the_script() -> None:
    """The same catches, with the prey among the agents or not."""
    scripted, learns = (make("mpe/simple_tag", prey=prey) for prey in ("scripted", "learns"))
    assert (scripted.num_agents, learns.num_agents) == (3, 4)
    state, first = scripted.reset(jax.random.key(3))
    other, other_first = learns.reset(jax.random.key(3))
    np.testing.assert_array_equal(
        first.observation.agents_view, other_first.observation.agents_view[:3]
    )
    steps = [jax.jit(env.step) for env in (scripted, learns)]
    for _ in range(25):
        action = learns.scripted_action(other)
        np.testing.assert_array_equal(scripted.scripted_action(state), action[:3])
        state, timestep = steps[0](state, action[:3])
        other, other_timestep = steps[1](other, action)
        np.testing.assert_allclose(timestep.reward, other_timestep.reward[:3])
        np.testing.assert_allclose(state.inner.p_pos, other.inner.p_pos, atol=1e-6)
    assert timestep.last()


@needs_jaxmarl
def test_the_best_assignment() -> None:
    from envs.bridges.mpe import _assign

    # The nearest pair first would cost 0 + 9 + 1.
    costs = jnp.array([[0.0, 1.0, 5.0], [1.0, 9.0, 5.0], [5.0, 5.0, 1.0]])
    assert _assign(costs).tolist() == [1, 0, 2]


@needs_jaxmarl
def test_mpe_in_text_and_picture(particles: Played) -> None:
    env, state = particles.env, at(particles.states, 0, 0)
    later = at(particles.states, 0, 3)
    far = dataclasses.replace(state, inner=state.inner.replace(p_pos=5 * state.inner.p_pos))
    pictures = [env.render(one) for one in (state, later, far)]
    assert pictures[0].shape == (540, 480, 3)
    assert (pictures[0] != pictures[1]).any()
    texts = [env.text(one) for one in (state, later, far)]
    assert len(set(texts)) == 3
    for text in texts:
        assert len(text.splitlines()) == len(texts[0].splitlines())
        assert max(map(len, text.splitlines())) <= 80
        field = [line for line in text.splitlines() if line.startswith("|")]
        characters = sum(character not in "| " for line in field for character in line)
        assert characters == len(state.inner.p_pos), "everything is shown"


# --- The contract, names, options ---


@needs_jaxmarl
@pytest.mark.parametrize(
    "name",
    [
        "smax/3m",
        *(pytest.param(f"mpe/{t}", marks=pytest.mark.slow) for t in MPE_TASKS),
        *(pytest.param(f"smax/{s}", marks=pytest.mark.slow) for s in MORE_SCENARIOS),
    ],
)
def test_the_contract(name: str) -> None:
    # A battle of random units is over before this, one way or the other, in some episodes.
    envs.check_environment(make(name, time_limit=18), jax.random.PRNGKey(0), num_episodes=3)


@needs_jaxmarl
@pytest.mark.parametrize("name", bridges.names())
def test_a_name_is_a_class(name: str) -> None:
    cls: Any = bridges.bridged_class(name)
    assert cls is bridges.bridged_class(name)
    assert issubclass(cls, envs.MultiAgentEnv)
    words = ["action_mask", "Reward", "float32", "Observation", "global_state", "[S]"]
    if not name.startswith(("brax/", "mabrax/")):
        words.append("int32")
    for word in words:
        assert word in cls.__doc__, f"the docstring of {name} does not mention {word}"


@needs_jaxmarl
@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("smax/3m", {"time_limit": 0}, "time_limit is 0; it must be at least 1."),
        (
            "smax/3m",
            {"enemy_attack_mode": "weakest"},
            "enemy_attack_mode is 'weakest'; it must be one of: closest, random.",
        ),
        ("smax/8m", {"won_battle_bonus": -1}, "won_battle_bonus is -1; it must be at least 0."),
        (
            "mpe/simple_speaker_listener",
            {"num_agents": 3},
            "unknown option of SimpleSpeakerListener 'num_agents'; choose from: continuous_actions, time_limit.",
        ),
        (
            "mpe/simple_spread",
            {"local_ratio": 1.5},
            "local_ratio is 1.5; it must be at least 0 and at most 1.",
        ),
        (
            "mpe/simple_adversary",
            {"num_good_agents": 0},
            "num_good_agents is 0; it must be at least 1 and at most 1000.",
        ),
    ],
)
def test_a_wrong_option_is_refused(name: str, options: dict, sentence: str) -> None:
    with pytest.raises(envs.ConfigurationError) as caught:
        make(name, **options)
    assert str(caught.value) == sentence


def test_an_unknown_name_is_refused() -> None:
    for ask in (bridges.bridged_class, bridges.summary):
        with pytest.raises(envs.ConfigurationError, match=r"Did you mean 'smax/2s3z'\?"):
            ask("smax/2s4z")


WITHOUT = """
import sys
sys.modules["jaxmarl"] = None  # as if it were not installed
import envs
from envs import bridges

assert "smax/3m" in bridges.names() and bridges.summary("smax/3m")
for name in ("smax/3m", "mpe/simple_spread"):
    try:
        bridges.bridged_class(name)
    except envs.ConfigurationError as error:
        print(error)
try:
    import envs.bridges.to_jaxmarl
except envs.ConfigurationError as error:
    print(error)
"""

WITH = """
import io, sys
import envs
from envs import bridges

bridges.names()
assert "jaxmarl" not in sys.modules, "the names need JaxMARL"
mine = sys.stdout = io.StringIO()  # as a notebook has it
bridges.bridged_class("smax/3m")
assert sys.stdout is mine and mine.getvalue() == ""
assert "jaxmarl" in sys.modules
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_jaxmarl_a_sentence_says_what_to_install() -> None:
    sentence = (
        "SMAX, MPE and Overcooked need JaxMARL; install it with, in the clone of marl_jax: "
        'pip install -e ".[jaxmarl]".'
    )
    assert run(WITHOUT).splitlines() == [sentence] * 3


@needs_jaxmarl
def test_importing_jaxmarl_is_late_and_silent() -> None:
    assert run(WITH) == ""


def test_a_broken_jaxmarl_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'brax'", name="brax")

    monkeypatch.setattr(importlib, "import_module", broken)
    before = sys.stdout
    with pytest.raises(ModuleNotFoundError, match="brax"):
        bridges.require_jaxmarl()
    assert sys.stdout is before


# --- Our worlds as JaxMARL's ---


@needs_jaxmarl
def test_a_world_of_ours_steps_the_same_in_jaxmarls_hands() -> None:
    world = envs.make("turn", time_limit=6)
    bridges.require_jaxmarl()
    from envs.bridges.to_jaxmarl import AsJaxMARL

    env = AsJaxMARL(world)
    assert env.agents == ["agent_0", "agent_1"]
    assert env.observation_space("agent_1").shape == (18,)
    assert env.action_space("agent_1").n == 6
    assert (env.name, env.agent_classes) == ("Turn", {"agents": ["agent_0", "agent_1"]})
    key = jax.random.PRNGKey(2)
    views, state = env.reset(key)
    ours, timestep = world.reset(key)
    ours_step = jax.jit(world.step)
    for t in range(1, 7):
        action = world.scripted_action(ours)
        actions = {"agent_1": action[1], "agent_0": action[0]}  # in any order
        ours, timestep = ours_step(ours, action)
        views, state, rewards, dones, infos = env.step_env(key, state, actions)
        jax.tree.map(np.testing.assert_array_equal, state.world, ours)
        assert set(views) == {"agent_0", "agent_1", "world_state"}
        for i, name in enumerate(env.agents):
            np.testing.assert_array_equal(views[name], timestep.observation.agents_view[i])
            assert rewards[name] == timestep.reward[i]
            assert env.get_avail_actions(state)[name].tolist() == [True] * 6
        np.testing.assert_array_equal(views["world_state"], timestep.observation.global_state)
        assert {bool(done) for done in dones.values()} == {t == 6}
        assert set(dones) == {"agent_0", "agent_1", "__all__"}
        # The clock is Turn's own end: a termination.
        assert infos["discount"].tolist() == [float(t < 6)] * 2
        assert infos["apples_eaten"].tolist() == [int(timestep.extras["apples_eaten"])] * 2
        assert (int(state.step), bool(state.done)) == (t, t == 6)


@needs_jaxmarl
@pytest.mark.parametrize(
    "name",
    [
        "secret_room",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("pac_men", "windy_maze", "push_box")),
    ],
)
def test_more_worlds_of_ours_can_be_played_in_jaxmarls_hands(name: str) -> None:
    bridges.require_jaxmarl()
    from envs.bridges.to_jaxmarl import AsJaxMARL

    world = envs.make(name, time_limit=2)
    env = AsJaxMARL(world)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    views, state = reset(jax.random.PRNGKey(0))
    for t in range(1, 4):
        for i, agent in enumerate(env.agents):
            assert views[agent].shape == env.observation_space(agent).shape
            np.testing.assert_array_equal(views[agent], state.observation.agents_view[i])
        actions = {agent: jnp.int32(0) for agent in env.agents}
        views, state, rewards, dones, _ = step(jax.random.PRNGKey(t), state, actions)
        assert len(rewards) == world.num_agents
        assert bool(dones["__all__"]) == (t == 2)


@needs_jaxmarl
@pytest.mark.parametrize("name", ["mpe/simple_spread", "smax/3m"])
def test_a_world_can_be_pickled(name: str) -> None:
    env = make(name, time_limit=16)
    again = pickle.loads(pickle.dumps(env))
    assert type(again) is type(env)
    assert again.config == env.config


@pytest.mark.parametrize("name", ["mpe/simple_speaker_listener", "smax/3m"])
@pytest.mark.slow
def test_jumanjis_wrappers_take_a_bridged_world(name: str) -> None:
    env = make(name, time_limit=2)
    wrapped = VmapAutoResetWrapper(env)
    state, timestep = jax.jit(wrapped.reset)(jax.random.split(jax.random.PRNGKey(0), 2))
    step = jax.jit(wrapped.step)
    # Always the first legal action.
    for t in range(1, 5):
        action = jnp.argmax(timestep.observation.action_mask, axis=-1).astype(jnp.int32)
        state, timestep = step(state, action)
        assert timestep.last().tolist() == [t % 2 == 0] * 2
        assert timestep.observation.step_count.tolist() == [t % 2] * 2
    gym = JumanjiToGymWrapper(MultiToSingleWrapper(env, reward_aggregator=jnp.mean))
    observation, _ = gym.reset(seed=0)
    assert observation["agents_view"].shape == (env.num_agents, env.agents_view_size)


@needs_jaxmarl
@pytest.mark.slow
def test_jaxmarls_own_step_resets_a_world_of_ours() -> None:
    world = envs.make("pursuit_1d", time_limit=3)
    bridges.require_jaxmarl()
    from envs.bridges.to_jaxmarl import AsJaxMARL

    env = AsJaxMARL(world)
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    views, state = jax.jit(jax.vmap(env.reset))(keys)
    step = jax.jit(jax.vmap(env.step))
    actions = {name: jnp.zeros(4, jnp.int32) for name in env.agents}
    for t in range(1, 7):
        keys = jax.random.split(jax.random.PRNGKey(t), 4)
        views, state, _, dones, infos = step(keys, state, actions)
        assert (dones["__all__"] == (t % 3 == 0)).all()
        assert (state.step == t % 3).all()
        assert (infos["discount"] == 1.0).all(), "the time limit is a truncation"
        if t % 3 == 0:
            fresh, _ = jax.vmap(lambda key: env.reset(jax.random.split(key)[1]))(keys)
            jax.tree.map(np.testing.assert_array_equal, views, fresh)


@needs_jaxmarl
def test_jaxmarls_wrappers_take_a_world_of_ours() -> None:
    bridges.require_jaxmarl()
    from jaxmarl.wrappers.baselines import LogWrapper

    from envs.bridges.to_jaxmarl import AsJaxMARL

    env = LogWrapper(AsJaxMARL(envs.make("turn", time_limit=2)))
    key = jax.random.PRNGKey(0)
    _, state = env.reset(key)
    step = jax.jit(env.step)
    # At first agent 0 is free and agent 1 pays 1 for whatever it does but "stay".
    actions = {"agent_0": jnp.int32(5), "agent_1": jnp.int32(0)}
    for _ in range(2):
        _, state, _, _, infos = step(key, state, actions)
    assert infos["returned_episode"].all()
    assert infos["returned_episode_returns"].tolist() == [-2.0, -2.0]
