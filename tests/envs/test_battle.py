"""Battle: hand-worked transitions, known returns, a NumPy twin, MAgent itself, pictures."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.types import TimeStep

import envs
from envs.base import Observation
from envs.battle import Battle, State, rules
from envs.battle.env import magent_start
from tests.envs.rollouts import (
    Policy,
    mixed_policy,
    random_policy,
    returns,
    rollout,
    scripted_policy,
    side_by_side,
)
from tests.envs.twins.battle import BattleTwin, circle

UP, DOWN, LEFT, RIGHT, STAY = range(5)
HIT_UP, HIT_DOWN, HIT_LEFT, HIT_RIGHT = range(5, 9)

ENV = Battle()
STEP, RESET = jax.jit(ENV.step), jax.jit(ENV.reset)
START, _ = RESET(jax.random.key(0))
# MAgent's smallest map: 0 and 1 red at (4, 1) and (6, 1), 2 and 3 blue at (4, 9) and (6, 9).
DUEL = Battle(variant="magent", map_size=12, self_play=True, time_limit=20)
DUEL_STEP = jax.jit(DUEL.step)
DUEL_START, _ = jax.jit(DUEL.reset)(jax.random.key(0))
M_STAY, M_HIT_LEFT, M_HIT_RIGHT = 6, 16, 17


def scene(
    agents: list[tuple[int, int]],
    enemies: list[tuple[int, int]],
    health: dict[int, int] | None = None,
) -> State:
    """These units, the others far from them.

    Args:
        agents: cells of the first agents.
        enemies: cells of the first enemies.
        health: in tenths, by unit; enemy j is 20 + j.
    """
    there = [*agents, *[(28, 1 + i) for i in range(20 - len(agents))]]
    against = [*enemies, *[(1, 28 - i) for i in range(12 - len(enemies))]]
    healths = np.array(START.health)
    for unit, value in (health or {}).items():
        healths[unit] = value
    return dataclasses.replace(
        START,
        positions=jnp.array(there, jnp.int32),
        enemies=jnp.array(against, jnp.int32),
        health=jnp.array(healths),
    )


def play(state: State, *actions: int) -> tuple[State, TimeStep[Observation]]:
    """Agents without an action stay."""
    return STEP(state, jnp.array([*actions, *[STAY] * (20 - len(actions))], jnp.int32))


def test_the_weapons_and_the_legs() -> None:
    assert rules.MAGENT.moves.tolist() == [list(offset) for offset in circle(2)]
    ring = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    assert rules.MAGENT.attacks.tolist() == [list(offset) for offset in ring]
    assert (rules.MAGENT.stay, rules.AGENT.stay, ENV.num_actions) == (M_STAY, STAY, 9)


@pytest.mark.parametrize(
    ("lots", "health", "outcome"),
    [
        ([0.9, 0.1], [-10, 100], [0, 2]),  # 1 kills 0, which then does nothing
        ([0.1, 0.9], [-10, 80], [1, 2]),
        ([0.5, 0.5], [-10, 80], [1, 2]),  # of equal lots the first
    ],
)
def test_attacks_come_one_after_the_other(
    lots: list[float], health: list[int], outcome: list[int]
) -> None:
    found = rules.fight(jnp.array([1, 0]), jnp.array(lots), jnp.array([10, 100]))
    assert [x.tolist() for x in found] == [health, outcome]


def test_who_has_nothing_left_still_lives() -> None:
    """Ten of health take six hits of two; the seventh attacker finds nobody."""
    target = jnp.array([7] * 7 + [-1])
    lots = jnp.array([0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.9])
    five = rules.fight(jnp.where(jnp.arange(8) < 2, -1, target), lots, jnp.full(8, 100))
    assert five[0][7] == 0
    health, outcome = rules.fight(target, lots, jnp.full(8, 100))
    assert health[7] == -20
    assert outcome.tolist() == [0, 2, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("cells", "wanted", "after"),
    [
        ([10, 11], [11, 12], [10, 12]),  # 1 is still there when 0 moves
        ([11, 10], [12, 11], [12, 11]),  # here it has gone
        ([10, 12], [11, 11], [11, 12]),  # both want one cell: the first gets it
        ([10, 11], [11, 10], [10, 11]),  # nobody swaps
        ([10, 11], [10, 10], [10, 11]),  # who stays is in the way
        ([rules.NOWHERE, 11], [rules.NOWHERE, 10], [rules.NOWHERE, 10]),  # the dead are not
    ],
)
def test_moves_come_by_number(cells: list[int], wanted: list[int], after: list[int]) -> None:
    assert rules.march(jnp.array(cells), jnp.array(wanted)).tolist() == after


def test_every_free_cell_is_equally_likely() -> None:
    """On 10x10 cells with two units, lots in the middle of 1/98 each give the 98 free cells row by row."""
    others = np.array([(1, 1), (3, 4)])
    cells = rules.number(jnp.array([*others, (0, 0), (0, 0)]))
    lots = (np.arange(98) + 0.5) / 98
    both = np.stack([np.zeros((98, 2)), np.stack([lots, np.zeros(98)], axis=1)], axis=1)
    missing = jnp.array([False, False, True, True])
    found = jax.vmap(lambda lot: rules.cell_of(rules.place(cells, missing, lot, 12)))(
        jnp.asarray(both.reshape(98, 4), jnp.float32)
    )
    free = [(r, c) for r in range(1, 11) for c in range(1, 11) if (r, c) not in {(1, 1), (3, 4)}]
    assert found[:, 2].tolist() == [list(cell) for cell in free]
    # The next one takes the first cell that is then free.
    assert found[:, 3].tolist() == [[1, 3]] + [[1, 2]] * 97
    np.testing.assert_array_equal(found[:, :2], np.broadcast_to(others, (98, 2, 2)))


def test_reset() -> None:
    keys = jax.random.split(jax.random.key(1), 2000)
    states, _ = jax.jit(jax.vmap(ENV.reset))(keys)
    cells = np.concatenate([states.positions, states.enemies], axis=1)
    assert (cells.min(), cells.max()) == (1, 28)
    numbers = np.sort(30 * cells[..., 0] + cells[..., 1], axis=1)
    assert (np.diff(numbers, axis=1) > 0).all(), "two units start in one cell"
    for unit in (0, 31):
        counts = np.bincount(28 * (cells[:, unit, 0] - 1) + cells[:, unit, 1] - 1, minlength=784)
        # Chi-square with 783 degrees of freedom: its 99.99% point.
        assert ((counts - 2000 / 784) ** 2 / (2000 / 784)).sum() < 938
    assert states.health[0].tolist() == [120] * 20 + [80] * 12


def test_a_hit() -> None:
    # The enemy at (10, 11) is hit and hits back; its own health does not recover, the agent's does.
    state, timestep = play(scene([(10, 10)], [(10, 11)]), HIT_RIGHT)
    assert state.health[20] == 60
    assert state.health[0] == 120 - 20 + 4
    np.testing.assert_array_equal(timestep.reward, np.ones(20))
    assert np.flatnonzero(state.hit).tolist() == [0, 20]
    assert {name: float(x) for name, x in timestep.extras.items()} == {
        "kills": 0,
        "deaths": 0,
        "team_return": 1,
    }


def test_a_kill_and_what_comes_back() -> None:
    # Two agents hit an enemy that stands two hits: 1 and 10. It comes back somewhere with all its health.
    before = scene([(10, 10), (12, 10)], [(11, 10)], {20: 20})
    state, timestep = play(before, HIT_DOWN, HIT_UP)
    np.testing.assert_array_equal(timestep.reward, np.full(20, 11.0))
    assert (int(timestep.extras["kills"]), int(timestep.extras["deaths"])) == (1, 0)
    assert state.health[20] == 80
    assert state.enemies[0].tolist() != [11, 10]
    assert timestep.mid()
    assert bool(timestep.observation.alive.all())


def test_a_death() -> None:
    # Three enemies kill the agent in the middle, which hits nobody; enemies hit the weakest first.
    before = scene([(10, 10), (20, 20)], [(9, 9), (9, 10), (11, 11)], {0: 50})
    state, timestep = play(before, STAY)
    np.testing.assert_array_equal(timestep.reward, np.full(20, -2.0))
    assert int(timestep.extras["deaths"]) == 1
    assert state.health[0] == 120
    assert state.positions[0].tolist() != [10, 10]


@pytest.mark.parametrize("action", [HIT_UP, HIT_DOWN, HIT_LEFT])
def test_an_attack_on_anything_else_does_nothing(action: int) -> None:
    # Above is an ally, below nobody, to the left a wall.
    state, timestep = play(scene([(10, 1), (9, 1)], [(10, 9)]), action)
    np.testing.assert_array_equal(timestep.reward, np.zeros(20))
    assert state.health[:2].tolist() == [120, 120]
    assert state.positions[0].tolist() == [10, 1]


@pytest.mark.parametrize(
    ("cell", "action", "after"),
    [
        ((10, 10), UP, (9, 10)),
        ((10, 10), DOWN, (11, 10)),
        ((10, 10), LEFT, (10, 9)),
        ((10, 10), RIGHT, (10, 11)),
        ((10, 10), STAY, (10, 10)),
        ((2, 1), UP, (1, 1)),
        ((2, 1), LEFT, (2, 1)),  # walls stop
        ((10, 28), RIGHT, (10, 28)),
    ],
)
def test_moves(cell: tuple[int, int], action: int, after: tuple[int, int]) -> None:
    state, timestep = play(scene([cell], []), action)
    assert tuple(state.positions[0].tolist()) == after
    np.testing.assert_array_equal(timestep.reward, np.zeros(20))


def test_agents_move_before_enemies_and_in_order() -> None:
    # 0 wants the cell of 1, which leaves only later; 2 goes where 1 was.
    state, _ = play(scene([(10, 10), (10, 11), (9, 11)], []), RIGHT, RIGHT, DOWN)
    assert state.positions[:3].tolist() == [[10, 10], [10, 12], [10, 11]]


def test_what_an_enemy_does() -> None:
    # It attacks the weakest in reach, here at a corner; the other enemy jumps over its comrade towards the nearest.
    before = scene([(10, 11), (11, 11)], [(10, 10), (10, 9), (10, 8)], {0: 90, 1: 80})
    state, _ = play(before)
    assert state.health[:2].tolist() == [90 + 4, 80 - 20 + 4]
    # 1 goes to (9, 10) or (11, 10), which are at 2 and at 1 from (11, 11) and (10, 11): both nearest at 1.
    assert state.enemies[:3].tolist()[0] == [10, 10]
    assert np.abs(np.array(state.enemies[1]) - [10, 11]).max() == 1
    # Blind beyond six cells: all go anywhere.
    far = scene([(10, 10)], [(10, 17)])
    ends = {
        tuple(play(dataclasses.replace(far, key=jax.random.key(i)))[0].enemies[0].tolist())
        for i in range(40)
    }
    assert len(ends) > 5
    near = scene([(10, 10)], [(10, 16)])
    assert play(near)[0].enemies[0].tolist() == [10, 14]


def test_the_end_without_respawn() -> None:
    env = Battle(respawn=False, num_agents=2, num_enemies=1, map_size=12)
    start, _ = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    state = dataclasses.replace(
        start,
        positions=jnp.array([(5, 5), (5, 7)], jnp.int32),
        enemies=jnp.array([(5, 6)], jnp.int32),
        health=jnp.array([0, 120, 0], jnp.int32),
    )
    # The enemy falls to 1, and takes 0 with it if it attacks first.
    ends = [
        step(dataclasses.replace(state, key=jax.random.key(i)), jnp.array([STAY, HIT_LEFT]))
        for i in range(20)
    ]
    rewards = {float(timestep.reward[0]) for _, timestep in ends}
    assert rewards == {10.0, 8.0}
    for after, timestep in ends:
        assert timestep.last()
        np.testing.assert_array_equal(timestep.discount, [0, 0])
        alive = [float(timestep.reward[0]) == 10.0, True]
        np.testing.assert_array_equal(timestep.observation.alive, alive)
        assert after.health[2] < 0
        if not alive[0]:
            assert not timestep.observation.agents_view[0].any()
            assert np.flatnonzero(timestep.observation.action_mask[0]).tolist() == [STAY]
            assert timestep.observation.global_state[:4].tolist() == [0, 0, 0, 0]
    weak = dataclasses.replace(state, health=jnp.array([0, -1, 80], jnp.int32))
    after, timestep = step(weak, jnp.array([STAY, HIT_LEFT]))
    assert (int(after.deaths), bool(timestep.last())) == (1, True)
    assert after.health[2] == 80, "a dead agent hit somebody"


def test_the_time_limit_cuts_off() -> None:
    _, timestep = play(dataclasses.replace(scene([], []), step_count=jnp.int32(99)))
    assert timestep.last()
    np.testing.assert_array_equal(timestep.discount, np.ones(20))


def test_observation_by_hand() -> None:
    # The enemy is in the corner of 0's view and stays there: it attacks. 0 sees 1 below, and itself.
    before = scene([(10, 10), (14, 13)], [(13, 14)], {0: 60, 20: 0})
    state, timestep = play(before)
    view = np.asarray(timestep.observation.agents_view)
    cells = circle(5)
    assert state.enemies[0].tolist() == [13, 14]
    assert {cells[k]: float(view[0, k]) for k in np.flatnonzero(view[0, :81])} == {
        (0, 0): 1.0,
        (4, 3): 1.0,
        (3, 4): -0.5,
    }
    np.testing.assert_allclose(view[0, 81:], [10 / 30, 10 / 30, 64 / 120], rtol=1e-6)
    numbers = np.asarray(timestep.observation.global_state).reshape(-1)
    np.testing.assert_allclose(numbers[:4], [10 / 30, 10 / 30, 64 / 120, 1], rtol=1e-6)
    np.testing.assert_allclose(numbers[80:84], [13 / 30, 14 / 30, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(numbers[-1], 1 / 100, rtol=1e-6)
    assert bool(timestep.observation.action_mask.all())


def duel(cells: list[tuple[int, int]], health: list[int], actions: list[int], key: int = 0) -> Any:
    """One step of four of MAgent's units, two and two."""
    state = dataclasses.replace(
        DUEL_START,
        key=jax.random.key(key),
        positions=jnp.array(cells, jnp.int32),
        health=jnp.array(health, jnp.int32),
    )
    return DUEL_STEP(state, jnp.array(actions, jnp.int32))


def test_magents_rewards() -> None:
    cells = [(4, 4), (8, 8), (4, 5), (9, 2)]
    # 0 hits 2; 1 attacks nothing; 2 and 3 stay.
    state, timestep = duel(cells, [100, 50, 100, 50], [M_HIT_RIGHT, M_HIT_LEFT, M_STAY, M_STAY])
    np.testing.assert_allclose(timestep.reward, [0.095, -0.105, -0.005, -0.005], rtol=1e-5)
    assert state.health.tolist() == [100, 51, 81, 51]
    assert float(timestep.extras["team_return"]) == pytest.approx(-0.01)
    # 0 kills 2.
    state, timestep = duel(cells, [100, 50, 10, 50], [M_HIT_RIGHT, M_STAY, M_STAY, M_STAY])
    np.testing.assert_allclose(timestep.reward, [4.895, -0.005, -0.1, -0.005], rtol=1e-5)
    # 0 and 2 attack each other, and 0 falls: after a hit of its own, or before. 2 kills it either way.
    ends = [duel(cells, [10, 50, 80, 50], [17, M_STAY, 16, M_STAY], key) for key in range(12)]
    rewards = {tuple(np.round(timestep.reward, 3).tolist()) for _, timestep in ends}
    assert {tuple(round(x, 3) for x in reward) for reward in rewards} == {
        (0.1, -0.005, 4.895, -0.005),
        (-0.1, -0.005, 4.895, -0.005),
    }


def test_magents_end() -> None:
    cells = [(4, 4), (8, 8), (4, 5), (9, 2)]
    _, timestep = duel(cells, [100, 50, 10, -1], [M_HIT_RIGHT, M_STAY, M_STAY, M_STAY])
    assert timestep.last()
    np.testing.assert_array_equal(timestep.discount, np.zeros(4))
    np.testing.assert_allclose(timestep.reward, [4.895, -0.005, -0.1, 0], rtol=1e-5)


@pytest.mark.parametrize(("size", "units"), [(12, 2), (16, 6), (30, 30), (40, 64), (45, 81)])
def test_where_magents_sides_start(size: int, units: int) -> None:
    red, blue = magent_start(size)
    assert (len(red), len(blue)) == (units, units)
    if size == 45:
        assert np.unique(red[:, 1]).tolist() == list(range(1, 18, 2))
        assert np.unique(blue[:, 1]).tolist() == list(range(25, 42, 2))
        assert np.unique(red[:, 0]).tolist() == list(range(13, 30, 2))
        assert red[:2].tolist() == [[13, 1], [15, 1]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_policy", "mean", "within"),
    [(scripted_policy, 1209.0, 60.0), (random_policy, -85.7, 8.0)],
)
def test_known_returns(make_policy: Callable[[Battle], Policy], mean: float, within: float) -> None:
    states, timesteps, _ = rollout(ENV, make_policy(ENV), 100)
    assert abs(returns(timesteps).mean() - mean) <= within
    np.testing.assert_array_equal(timesteps.extras["team_return"][:, -1], returns(timesteps))
    cells = np.concatenate([states.positions, states.enemies], axis=2)
    numbers = np.sort(30 * cells[..., 0] + cells[..., 1], axis=-1)
    assert (np.diff(numbers, axis=-1) > 0).all(), "two units stand in one cell"


def halves(env: Battle) -> Policy:
    """Half script, half chance."""
    return mixed_policy(env, 0.5)


NO_RESPAWN = {"respawn": False, "time_limit": 60}
SMALL = {"map_size": 16, "time_limit": 40}
TWINS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    # Other worlds are held to their twins over ten times as many. Here 32 units move in order, in Python a quarter of a
    # second an episode.
    "eoi": ({}, {}, 1_000),
    "noise": ({"enemy_noise": 0.3, **SMALL}, {"noise": 0.3, "size": 16, "time_limit": 40}, 100),
    "to the end": ({"map_size": 14, **NO_RESPAWN}, {"size": 14, **NO_RESPAWN}, 200),
    "magent": (
        {"variant": "magent", "map_size": 16, "time_limit": 60},
        {"magent": True, "size": 16, **NO_RESPAWN},
        1000,
    ),
    "self-play": (
        {"variant": "magent", "map_size": 20, "time_limit": 60, "self_play": True},
        {"magent": True, "size": 20, **NO_RESPAWN, "self_play": True},
        200,
    ),
}


def check_twin(name: str, make_policy: Callable[[Battle], Policy], episodes: int) -> np.ndarray:
    """[episodes] returns."""
    options, twin, _ = TWINS[name]
    env, policy = Battle(**options), make_policy(Battle(**options))

    def make_twin(start: Any) -> BattleTwin:
        return BattleTwin(start, **twin)

    return side_by_side(env, make_twin, policy, episodes)


def test_the_twin_agrees() -> None:
    totals = check_twin("noise", halves, 10)
    assert totals.max() > 100, "too little happened"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("make_policy", [halves, random_policy])
@pytest.mark.parametrize("name", TWINS)
def test_the_twin_agrees_at_every_step(name: str, make_policy: Callable[[Battle], Policy]) -> None:
    check_twin(name, make_policy, TWINS[name][2] if make_policy is random_policy else 100)


@pytest.mark.slow
def test_magent_agrees_at_every_step() -> None:
    """In each step some order of attacks gives what MAgent gives: it draws the order, and does not tell."""
    battle = pytest.importorskip(
        "magent2.environments.battle_v4", reason="magent2 is not installed (pip install magent2)"
    )
    theirs = battle.parallel_env(map_size=16, max_cycles=100)
    env = Battle(variant="magent", map_size=16, self_play=True, time_limit=100)
    names = theirs.possible_agents
    step = jax.jit(
        jax.vmap(
            lambda key, state, action: env.step(dataclasses.replace(state, key=key), action),
            (0, None, None),
        )
    )
    reset, policy = jax.jit(env.reset), jax.jit(mixed_policy(env, 0.8))
    deaths = contested = 0
    for episode in range(8):
        seen, _ = theirs.reset(seed=episode)
        # Its first step would otherwise give blue the actions of red.
        theirs.team_sizes = [len(names) // 2] * 2
        key = jax.random.key(episode)
        state, timestep = reset(key)
        while not timestep.last():
            check_view(timestep.observation, seen, names)
            key, draw, orders = jax.random.split(key, 3)
            action = policy(state, draw)
            candidates, steps = step(jax.random.split(orders, 512), state, action)
            orders = {name: int(action[names.index(name)]) for name in theirs.agents}
            seen, *told = theirs.step(orders)
            same = agreeing(candidates, steps, theirs, seen, *told[:3])
            assert same.any(), f"no order of attacks does it in step {state.step_count}"
            contested += not same.all()
            first = int(same.argmax())
            state, timestep = jax.tree.map(lambda x, at=first: x[at], (candidates, steps))
        deaths += int((state.health < 0).sum())
    assert deaths > 30
    assert contested > 20


def agreeing(
    states: State,
    steps: TimeStep[Observation],
    theirs: Any,
    seen: dict[str, np.ndarray],
    reward: dict[str, float],
    ended: dict[str, bool],
    cut: dict[str, bool],
) -> np.ndarray:
    """[K] which of our next states are MAgent's."""
    names = theirs.possible_agents
    rewards = [reward.get(name, 0.0) for name in names]
    same = np.isclose(steps.reward, rewards, atol=1e-5).all(axis=1)
    over = all(ended.values())
    same &= np.asarray(steps.last()) == (over or all(cut.values()))
    if not over:  # of the end it says that all have ended
        dead = [ended.get(name, True) for name in names]
        same &= (np.asarray(states.health < 0) == dead).all(axis=1)
    for handle in theirs.handles:
        units, places = theirs.env.get_agent_id(handle), theirs.env.get_pos(handle)
        for unit, (column, row) in zip(units, places, strict=True):
            same &= (np.asarray(states.positions[:, unit]) == (row, column)).all(axis=1)
            health = 100 * seen[names[unit]][6, 6, 2]
            same &= abs(np.asarray(states.health[:, unit]) - health) < 0.01
    return same


def check_view(observation: Observation, seen: dict[str, np.ndarray], names: list[str]) -> None:
    """All that MAgent shows is in our observation."""
    rows, columns = np.array(circle(6)).T + 6
    for unit in np.flatnonzero(observation.alive):
        view = np.asarray(observation.agents_view[unit]).reshape(-1, 5)
        map_ = seen[names[unit]].copy()
        np.testing.assert_allclose(view, map_[rows, columns], atol=1e-4)
        map_[rows, columns] = 0
        assert not map_.any(), "MAgent shows something in a corner"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "dgn"}, "variant is 'dgn'; it must be one of: eoi, magent."),
        ({"map_size": 11}, "map_size is 11; it must be at least 12 and at most 99."),
        ({"num_agents": 41}, "num_agents is 41; it must be at least 1 and at most 40."),
        ({"enemy_noise": 1.5}, "enemy_noise is 1.5; it must be at least 0 and at most 1."),
        (
            {"self_play": True},
            "self_play is True; with variant 'eoi' it must be False: its sides see and do different things.",
        ),
        (
            {"variant": "magent", "num_enemies": 3},
            "num_enemies is 3; with variant 'magent' it must not be given: map_size decides.",
        ),
    ],
)
def test_refused_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(envs.ConfigurationError) as caught:
        Battle(**options)
    assert str(caught.value) == sentence


def test_features_that_are_an_agents_own() -> None:
    assert ENV.own_features.sum(axis=1).tolist() == [3] * 20
    assert ENV.body_features.sum(axis=1).tolist() == [2] * 20
    assert DUEL.own_features.sum(axis=1).tolist() == [3 * 113] * 4
    assert DUEL.body_features.sum(axis=1).tolist() == [113] * 4


def test_pictures_tell_states_apart() -> None:
    base = scene([(10, 10)], [(10, 11)])
    states = [
        base,
        scene([(10, 9)], [(10, 11)]),
        scene([(10, 10)], [(10, 12)]),
        scene([(10, 10)], [(10, 11)], {0: 50}),
        scene([(10, 10)], [(10, 11)], {20: 30}),
        dataclasses.replace(base, kills=jnp.int32(3)),
    ]
    texts = [ENV.text(state) for state in states]
    assert len(set(texts)) == len(states)
    assert max(map(len, texts[0].splitlines())) <= 80
    assert (
        texts[0].splitlines()[3 + 10]
        == "# . . . . . . . . . A E . . . . . . . . . . . . . . . . . #"
    )
    assert texts[3].splitlines()[3 + 10][20] == "a"
    hit = dataclasses.replace(base, hit=base.hit.at[0].set(True))
    assert (ENV.render(base) != ENV.render(hit)).any()
