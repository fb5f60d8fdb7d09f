"""Turn: hand-worked transitions, known returns, a plain-NumPy twin, pictures."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.turn import State, Turn
from envs.turn.viewer import TurnViewer
from tests.envs.rollouts import (
    Policy,
    constant_policy,
    mixed_policy,
    random_policy,
    returns,
    rollout,
    scripted_policy,
    side_by_side,
)
from tests.envs.twins.turn import TurnTwin

UP, DOWN, LEFT, RIGHT, EAT, STAY = range(6)

ENV = Turn()
STEP = jax.jit(ENV.step)
RANDOM, SCRIPT = random_policy(ENV), scripted_policy(ENV)


def make_state(
    a: tuple[int, int] = (0, 0),
    b: tuple[int, int] = (4, 4),
    apple: tuple[int, int] = (2, 2),
    turn: int = 0,
    step_count: int = 0,
) -> State:
    state, _ = ENV.reset(jax.random.PRNGKey(0))
    return dataclasses.replace(
        state,
        positions=jnp.array([a, b], jnp.int32),
        apple=jnp.array(apple, jnp.int32),
        turn=jnp.int32(turn),
        step_count=jnp.int32(step_count),
    )


def play(state: State, *actions: int) -> tuple[State, Any]:
    return STEP(state, jnp.array(actions, jnp.int32))


def test_reset() -> None:
    state, first = ENV.reset(jax.random.PRNGKey(5))
    np.testing.assert_array_equal(state.positions, [[0, 0], [4, 4]])
    assert int(state.turn) == 0
    assert first.observation.agents_view.shape == (2, 18)
    assert first.observation.global_state.shape == (77,)
    np.testing.assert_array_equal(first.observation.action_mask, np.ones((2, 6), bool))


@pytest.mark.parametrize(
    ("action", "cell", "reward"),
    [
        (UP, (1, 2), 0),
        (DOWN, (3, 2), 0),
        (LEFT, (2, 1), 0),
        (RIGHT, (2, 3), 0),
        (EAT, (2, 2), 0),
        (STAY, (2, 2), 0),
    ],
)
@pytest.mark.parametrize("free", [0, 1])
def test_the_free_agent_moves_without_cost(
    action: int, cell: tuple[int, int], reward: int, free: int
) -> None:
    state = make_state(a=(2, 2), b=(2, 2), apple=(0, 0), turn=free)
    actions = [STAY, STAY]
    actions[free] = action
    state, timestep = play(state, *actions)
    expected = [(2, 2), (2, 2)]
    expected[free] = cell
    np.testing.assert_array_equal(state.positions, expected)
    np.testing.assert_array_equal(timestep.reward, [reward, reward])
    assert int(state.turn) == free


@pytest.mark.parametrize(
    ("cell", "action"),
    [((0, 2), UP), ((4, 2), DOWN), ((2, 0), LEFT), ((2, 4), RIGHT)],
)
def test_a_move_off_the_grid_costs_one_and_moves_nobody(cell: tuple[int, int], action: int) -> None:
    state, timestep = play(make_state(a=cell, apple=(1, 1)), action, STAY)
    np.testing.assert_array_equal(state.positions, [cell, (4, 4)])
    np.testing.assert_array_equal(timestep.reward, [-1, -1])
    assert int(timestep.extras["penalties"]) == 1


@pytest.mark.parametrize("action", [UP, DOWN, LEFT, RIGHT, EAT])
@pytest.mark.parametrize("trapped", [0, 1])
def test_the_trapped_agent_pays_for_everything_but_stay(action: int, trapped: int) -> None:
    # Its own cell holds the apple: it may not even eat that.
    state = make_state(a=(2, 2), b=(2, 2), apple=(2, 2), turn=1 - trapped)
    actions = [STAY, STAY]
    actions[trapped] = action
    state, timestep = play(state, *actions)
    np.testing.assert_array_equal(state.positions, [(2, 2), (2, 2)])
    np.testing.assert_array_equal(timestep.reward, [-1, -1])
    assert int(state.turn) == 1 - trapped
    assert int(state.apples_eaten) == 0


def test_the_paper_lets_the_trapped_agent_try_to_eat() -> None:
    env = Turn(punish_trapped_eat=False)
    _, timestep = env.step(make_state(), jnp.array([STAY, EAT]))
    np.testing.assert_array_equal(timestep.reward, [0, 0])
    _, timestep = env.step(make_state(), jnp.array([STAY, UP]))
    np.testing.assert_array_equal(timestep.reward, [-1, -1])


def test_both_can_be_punished_at_once() -> None:
    _, timestep = play(make_state(a=(0, 0)), UP, LEFT)
    np.testing.assert_array_equal(timestep.reward, [-2, -2])


def test_eating_passes_the_turn_from_the_next_step_on() -> None:
    state = make_state(a=(2, 2), b=(4, 4), apple=(2, 2), turn=0)
    # B moves in the very step in which A eats: still trapped, so 10 - 1, and it stays at (4, 4).
    state, timestep = play(state, EAT, UP)
    np.testing.assert_array_equal(timestep.reward, [9, 9])
    np.testing.assert_array_equal(state.positions, [(2, 2), (4, 4)])
    assert int(state.turn) == 1
    assert int(timestep.extras["apples_eaten"]) == 1
    # Now B walks for free and A pays.
    state, timestep = play(state, UP, UP)
    np.testing.assert_array_equal(timestep.reward, [-1, -1])
    np.testing.assert_array_equal(state.positions, [(2, 2), (3, 4)])


def test_agent_1_eating_does_not_free_agent_0_within_the_step() -> None:
    state = make_state(a=(0, 0), b=(1, 1), apple=(1, 1), turn=1)
    state, timestep = play(state, DOWN, EAT)
    np.testing.assert_array_equal(timestep.reward, [9, 9])
    np.testing.assert_array_equal(state.positions, [(0, 0), (1, 1)])
    assert int(state.turn) == 0


def test_the_apple_stays_until_it_is_eaten_and_is_then_drawn_anew() -> None:
    state = make_state(a=(0, 0), apple=(0, 1))
    later, _ = play(state, EAT, STAY)
    np.testing.assert_array_equal(later.apple, (0, 1))
    seen = set()
    for step_count in range(20):
        later, _ = play(make_state(a=(0, 0), apple=(0, 0), step_count=step_count), EAT, STAY)
        seen.add(tuple(np.asarray(later.apple).tolist()))
    assert len(seen) > 5, "twenty apples fell on five cells or fewer"


def test_observation_by_hand() -> None:
    # A at (2, 2) sees B one up and one left of it: offset (-1, -1) -> entry 3 * 2 + 2 = 8.
    # The apple lies one down: offset (1, 0) -> entry 3, behind the nine of the first map: 12.
    # B sees A at (1, 1) -> entry 4; the apple, two rows away, not at all.
    state = make_state(a=(2, 2), b=(1, 1), apple=(3, 2), turn=1)
    _, timestep = play(state, STAY, STAY)
    expected = np.zeros((2, 18))
    expected[0, 8] = expected[0, 12] = expected[1, 4] = 1
    np.testing.assert_array_equal(timestep.observation.agents_view, expected)


def test_own_cell_is_the_first_entry() -> None:
    _, timestep = play(make_state(a=(3, 3), b=(3, 3), apple=(3, 3)), STAY, STAY)
    expected = np.zeros((2, 18))
    expected[:, [0, 9]] = 1
    np.testing.assert_array_equal(timestep.observation.agents_view, expected)


def test_global_state_by_hand() -> None:
    # Apple at (1, 2) -> 7; A at (0, 3) -> 25 + 3; B at (4, 4) -> 50 + 24; B is free -> 75 + 1.
    _, timestep = play(make_state(a=(0, 3), b=(4, 4), apple=(1, 2), turn=1), STAY, STAY)
    assert np.flatnonzero(timestep.observation.global_state).tolist() == [7, 28, 74, 76]
    assert np.asarray(timestep.observation.global_state).max() == 1.0


def test_the_end_is_a_termination_after_the_last_step() -> None:
    _, timestep = play(make_state(step_count=98), STAY, STAY)
    assert timestep.mid()
    np.testing.assert_array_equal(timestep.discount, [1, 1])
    _, timestep = play(make_state(step_count=99), STAY, STAY)
    assert timestep.last()
    np.testing.assert_array_equal(timestep.discount, [0, 0])


@pytest.mark.parametrize(
    ("policy", "mean", "deviation", "mean_within", "deviation_within"),
    [
        (SCRIPT, 231.0, 21.0, 2.0, 2.0),
        (RANDOM, -93.0, 9.0, 1.0, 1.0),
        pytest.param(constant_policy(STAY, STAY), 0.0, 0.0, 0.0, 0.0, marks=pytest.mark.slow),
    ],
    ids=["optimum", "random", "stay"],
)
def test_known_returns(
    policy: Policy, mean: float, deviation: float, mean_within: float, deviation_within: float
) -> None:
    # Over 2,000 episodes the standard error is at most 0.5.
    _, timesteps, _ = rollout(ENV, policy, 2000)
    assert abs(returns(timesteps).mean() - mean) <= mean_within
    assert abs(returns(timesteps).std() - deviation) <= deviation_within


def test_the_return_is_what_the_extras_say() -> None:
    _, timesteps, _ = rollout(ENV, RANDOM, 2000)
    last = {name: value[:, -1] for name, value in timesteps.extras.items()}
    np.testing.assert_array_equal(returns(timesteps), 10 * last["apples_eaten"] - last["penalties"])


def test_apples_are_uniform() -> None:
    keys = jax.random.split(jax.random.PRNGKey(1), 25_000)
    first = np.asarray(jax.vmap(lambda key: ENV.reset(key)[0].apple)(keys))
    states, _, _ = rollout(ENV, SCRIPT, 2000)
    eaten = np.diff(states.apples_eaten, axis=1) == 1
    later = states.apple[:, 1:][eaten]
    for apples in (first, later):
        counts = np.bincount(5 * apples[:, 0] + apples[:, 1], minlength=25)
        assert counts.shape == (25,)
        expected = len(apples) / 25
        chi_square = ((counts - expected) ** 2 / expected).sum()
        # The 0.1% and 99.9% points of chi-square with 24 degrees of freedom.
        assert 8.1 < chi_square < 51.2
    # A new apple does not depend on the one before it: it is the same cell once in 25 times.
    before = states.apple[:, :-1][eaten]
    assert abs((before == later).all(-1).mean() - 1 / 25) < 0.004


def test_two_episodes_of_one_key_chain_differ() -> None:
    key = jax.random.PRNGKey(2)
    state, _ = ENV.reset(key)
    assert not np.array_equal(state.key, key), "an auto-reset wrapper would repeat the episode"


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 3),
    turn=st.integers(0, 1),
    actions=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_what_may_never_happen(cells: Any, turn: int, actions: tuple[int, int]) -> None:
    a, b, apple = cells
    before = make_state(a, b, apple, turn)
    after, timestep = play(before, *actions)
    moved = np.abs(np.asarray(after.positions - before.positions)).sum(axis=1)
    assert moved[1 - turn] == 0, "the trapped agent moved"
    assert moved[turn] <= 1, "an agent jumped"
    for cell in (*np.asarray(after.positions), np.asarray(after.apple)):
        assert ((cell >= 0) & (cell <= 4)).all(), "something left the grid"
    reward = float(timestep.reward[0])
    assert reward in (10, 9, 0, -1, -2)
    assert (int(after.turn) != turn) == (reward >= 9), "the turn passes with an apple only"
    views = np.asarray(timestep.observation.agents_view).reshape(2, 2, 9)
    assert (views.sum(-1) <= 1).all()
    # Agents see each other, or neither sees the other.
    assert views[0, 0].sum() == views[1, 0].sum()
    state = np.asarray(timestep.observation.global_state)
    assert [part.sum() for part in np.split(state, [25, 50, 75])] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "num_random", "num_mixed"),
    [
        ({}, 10_000, 1000),
        pytest.param({"punish_trapped_eat": False}, 500, 500, marks=pytest.mark.slow),
        pytest.param({"time_limit": 7}, 500, 500, marks=pytest.mark.slow),
    ],
    ids=["default", "paper", "short"],
)
def test_the_twin_agrees_at_every_step(
    options: dict[str, Any], num_random: int, num_mixed: int
) -> None:
    env = Turn(**options)
    rules = {name: value for name, value in options.items() if name != "time_limit"}

    def make_twin(start: State) -> TurnTwin:
        return TurnTwin(start.apple, **rules)

    side_by_side(env, make_twin, random_policy(env), num_random)
    # Random play alone eats too rarely to test what follows.
    totals = side_by_side(env, make_twin, mixed_policy(env), num_mixed)
    assert (totals > 0).any(), "no apple was eaten"


def test_pictures_tell_states_apart() -> None:
    base = ENV.render(make_state())
    for other in (
        make_state(a=(0, 1)),
        make_state(b=(3, 4)),
        make_state(apple=(2, 3)),
        make_state(turn=1),
        make_state(step_count=1),
        dataclasses.replace(make_state(), penalties=jnp.int32(3)),
    ):
        assert (ENV.render(other) != base).any()
    np.testing.assert_array_equal(ENV.render(make_state()), base)


def test_text_by_hand() -> None:
    state = make_state(a=(1, 2), b=(1, 2), apple=(1, 2), turn=1, step_count=7)
    state = dataclasses.replace(state, apples_eaten=jnp.int32(2), penalties=jnp.int32(3))
    assert ENV.text(state).splitlines() == [
        "Turn: agent B is free, A is trapped",
        "step 7/100    apples eaten 2    return so far +17",
        "",
        ".     .     .     .     .",
        ".     .     [A]Bo .     .",
        ".     .     .     .     .",
        ".     .     .     .     .",
        ".     .     .     .     .",
        "",
        "B free: moves, eats   [A] trapped: must stay   o apple: +10",
    ]
    assert ENV.text(make_state()).splitlines()[3:8] == [
        "A     .     .     .     .",
        ".     .     .     .     .",
        ".     .     o     .     .",
        ".     .     .     .     .",
        ".     .     .     .     [B]",
    ]


def test_make_with_a_viewer_of_ones_own() -> None:
    class Blank(TurnViewer):
        height = 100

        def draw(self, figure: Any, state: State) -> None:
            pass

    assert Turn(viewer=Blank(100)).render(make_state()).shape == (100, 480, 3)
