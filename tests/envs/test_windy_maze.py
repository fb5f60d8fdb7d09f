"""Windy Maze: hand-worked transitions, exact values of play, a plain-NumPy twin, pictures."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs.windy_maze import State, WindyMaze
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
from tests.envs.twins.windy_maze import WindyMazeTwin

UP, DOWN, LEFT, RIGHT, EAT = range(5)
# What is worked out by hand, is so in a maze of 9 cells; (row, column) in it.
SMALL: dict[str, Any] = {"stem": 2, "arm": 3}
LEFT_END, JUNCTION, RIGHT_END, BOTTOM = (0, 0), (0, 3), (0, 6), (2, 3)
FREE = [(0, column) for column in range(7)] + [(1, 3), BOTTOM]

ENV = WindyMaze(**SMALL)
CALM, STORM = (WindyMaze(**SMALL, wind_probability=p) for p in (0.0, 1.0))
STEPS = {env: jax.jit(env.step) for env in (ENV, CALM, STORM)}


def make_state(
    a: tuple[int, int] = BOTTOM,
    b: tuple[int, int] = BOTTOM,
    dots: tuple[bool, bool] = (True, True),
    step_count: int = 0,
    blown: tuple[bool, bool] = (False, False),
) -> State:
    state, _ = ENV.reset(jax.random.key(0))
    return dataclasses.replace(
        state,
        positions=jnp.array([a, b], jnp.int32),
        dots=jnp.array(dots),
        step_count=jnp.int32(step_count),
        blown=jnp.array(blown),
    )


def play(env: WindyMaze, state: State, *actions: int) -> tuple[State, Any]:
    return STEPS[env](state, jnp.array(actions, jnp.int32))


def test_reset() -> None:
    state, first = ENV.reset(jax.random.key(5))
    np.testing.assert_array_equal(state.positions, [BOTTOM, BOTTOM])
    np.testing.assert_array_equal(state.dots, [True, True])
    np.testing.assert_array_equal(state.blown, [False, False])
    assert first.observation.agents_view.shape == (2, 75)
    assert first.observation.global_state.shape == (21,)
    np.testing.assert_array_equal(first.observation.action_mask, np.ones((2, 5), bool))
    assert {name: int(value) for name, value in first.extras.items()} == {
        "dots_eaten": 0,
        "left_eaten": 0,
        "right_eaten": 0,
    }


@pytest.mark.parametrize(
    ("cell", "action", "after"),
    [
        (BOTTOM, UP, (1, 3)),
        (BOTTOM, DOWN, BOTTOM),  # the edge of the map
        (BOTTOM, LEFT, BOTTOM),  # walls
        (BOTTOM, RIGHT, BOTTOM),
        (BOTTOM, EAT, BOTTOM),
        ((1, 3), UP, JUNCTION),
        ((1, 3), DOWN, BOTTOM),
        ((1, 3), LEFT, (1, 3)),
        ((1, 3), RIGHT, (1, 3)),
        (JUNCTION, UP, JUNCTION),
        (JUNCTION, DOWN, (1, 3)),
        (JUNCTION, LEFT, (0, 2)),
        (JUNCTION, RIGHT, (0, 4)),
        ((0, 2), DOWN, (0, 2)),
        ((0, 4), DOWN, (0, 4)),
        ((0, 4), EAT, (0, 4)),
        (LEFT_END, LEFT, LEFT_END),
        (LEFT_END, RIGHT, (0, 1)),
        (RIGHT_END, RIGHT, RIGHT_END),
        (RIGHT_END, LEFT, (0, 5)),
        (RIGHT_END, DOWN, RIGHT_END),
    ],
)
@pytest.mark.parametrize("agent", [0, 1])
def test_moves_without_wind(
    cell: tuple[int, int], action: int, after: tuple[int, int], agent: int
) -> None:
    cells, actions, expected = [(0, 1)] * 2, [UP, UP], [(0, 1)] * 2
    cells[agent], actions[agent], expected[agent] = cell, action, after
    state, timestep = play(CALM, make_state(*cells), *actions)
    np.testing.assert_array_equal(state.positions, expected)
    np.testing.assert_array_equal(state.dots, [True, True])
    np.testing.assert_array_equal(state.blown, [False, False])
    assert timestep.mid()


@pytest.mark.parametrize("action", [UP, DOWN, LEFT, RIGHT, EAT])
@pytest.mark.parametrize(
    ("cell", "after"),
    [(JUNCTION, (0, 4)), ((0, 4), (0, 5)), ((0, 5), RIGHT_END), (RIGHT_END, RIGHT_END)],
)
def test_wind_takes_whoever_stands_in_it_to_the_right(
    cell: tuple[int, int], after: tuple[int, int], action: int
) -> None:
    state, _ = play(STORM, make_state(cell, (0, 1)), action, EAT)
    np.testing.assert_array_equal(state.positions, [after, (0, 1)])
    np.testing.assert_array_equal(state.blown, [True, False])
    np.testing.assert_array_equal(state.dots, [True, True], "a blown agent eats nothing")


@pytest.mark.parametrize(
    ("cell", "action", "after"),
    [
        ((1, 3), UP, JUNCTION),
        ((1, 3), LEFT, (1, 3)),
        (BOTTOM, EAT, BOTTOM),
        ((0, 2), RIGHT, JUNCTION),
        ((0, 2), LEFT, (0, 1)),
        ((0, 2), EAT, (0, 2)),
    ],
)
def test_what_counts_is_where_a_step_starts(
    cell: tuple[int, int], action: int, after: tuple[int, int]
) -> None:
    state, _ = play(STORM, make_state((0, 5), cell), LEFT, action)
    np.testing.assert_array_equal(state.positions, [RIGHT_END, after])
    np.testing.assert_array_equal(state.blown, [True, False])


@pytest.mark.parametrize(
    ("options", "windy"),
    [
        ({}, [4, 5, 6, 7, 8]),
        (SMALL, [3, 4, 5, 6]),
        ({**SMALL, "wind_from": -3}, [0, 1, 2, 3, 4, 5, 6]),
        ({**SMALL, "wind_from": 2}, [5, 6]),
        ({"arm": 1, "wind_from": 1}, [2]),
    ],
)
def test_where_the_wind_blows(options: dict[str, Any], windy: list[int]) -> None:
    env = WindyMaze(wind_probability=1.0, **options)
    np.testing.assert_array_equal(env.windy_cells, [(0, column) for column in windy])
    blown = []
    for row, column in env.layout.free.tolist():
        state, _ = env.step(make_state((row, column)), jnp.array([EAT, EAT]))
        if state.blown[0]:
            blown.append((row, column))
    assert blown == [(0, column) for column in windy]


@pytest.mark.parametrize(
    ("a", "b", "actions", "before", "after", "eaten"),
    [
        (LEFT_END, BOTTOM, (EAT, EAT), (True, True), (False, True), 1),
        (BOTTOM, RIGHT_END, (EAT, EAT), (True, True), (True, False), 1),
        (RIGHT_END, LEFT_END, (EAT, EAT), (True, True), (False, False), 2),
        (LEFT_END, LEFT_END, (EAT, EAT), (True, True), (False, True), 1),  # one dot between two
        (RIGHT_END, RIGHT_END, (EAT, LEFT), (True, True), (True, False), 1),
        (RIGHT_END, BOTTOM, (EAT, EAT), (True, False), (True, False), 1),  # it is eaten already
        (LEFT_END, RIGHT_END, (RIGHT, LEFT), (True, True), (True, True), 0),
        ((0, 1), (0, 5), (EAT, EAT), (True, True), (True, True), 0),  # one must stand on the dot
        ((0, 1), (0, 5), (LEFT, RIGHT), (True, True), (True, True), 0),
    ],
)
def test_eating(a: Any, b: Any, actions: Any, before: Any, after: Any, eaten: int) -> None:
    state, timestep = play(CALM, make_state(a, b, before), *actions)
    np.testing.assert_array_equal(state.dots, after)
    extras = {name: int(value) for name, value in timestep.extras.items()}
    assert extras == {
        "dots_eaten": eaten,
        "left_eaten": 1 - after[0],
        "right_eaten": 1 - after[1],
    }
    np.testing.assert_array_equal(timestep.reward, [0, 0])


def test_the_reward_comes_at_the_end_which_is_a_termination() -> None:
    state, timestep = play(CALM, make_state(LEFT_END, (0, 5), step_count=10), EAT, RIGHT)
    assert timestep.mid()
    np.testing.assert_array_equal(timestep.reward, [0, 0])
    np.testing.assert_array_equal(timestep.discount, [1, 1])
    # What is eaten in the last step counts, and what was eaten before it.
    _, timestep = play(CALM, state, EAT, EAT)
    assert timestep.last()
    np.testing.assert_array_equal(timestep.reward, [2, 2])
    np.testing.assert_array_equal(timestep.discount, [0, 0])


def test_nothing_ends_before_the_time_limit() -> None:
    _, timestep = play(CALM, make_state(LEFT_END, RIGHT_END, step_count=7), EAT, EAT)
    assert int(timestep.extras["dots_eaten"]) == 2
    assert timestep.mid()


@pytest.mark.parametrize(
    ("options", "time_limit"),
    [
        ({}, 16),
        (SMALL, 12),
        ({"stem": 1, "arm": 3}, 11),
        ({"time_limit": 5}, 5),
    ],
)
def test_the_default_time_limit_is_the_longest_for_one_dot(
    options: dict[str, Any], time_limit: int
) -> None:
    assert WindyMaze(**options).time_limit == time_limit


def picture(view: jax.Array, channel: int) -> list[str]:
    """One channel of one agent's view as five lines of text."""
    rows = np.asarray(view).reshape(3, 5, 5)[channel].astype(int)
    return ["".join(map(str, row)) for row in rows]


def test_observation_by_hand() -> None:
    # A walks from the junction to (0, 2); B stands at the left end, on its dot.
    state, timestep = play(CALM, make_state(JUNCTION, LEFT_END), LEFT, LEFT)
    np.testing.assert_array_equal(state.positions, [(0, 2), LEFT_END])
    a, b = timestep.observation.agents_view
    # Two columns to the right of A and one down is the stem.
    assert picture(a, 0) == ["11111", "11111", "00000", "11101", "11101"]
    assert picture(a, 1) == ["00000", "00000", "10000", "00000", "00000"]
    assert picture(a, 2) == ["00000", "00000", "10000", "00000", "00000"]
    assert picture(b, 0) == ["11111", "11111", "11000", "11111", "11111"]
    assert picture(b, 1) == ["00000", "00000", "00100", "00000", "00000"]
    assert picture(b, 2) == ["00000", "00000", "00001", "00000", "00000"]


def test_at_the_start_both_see_the_stem_and_each_other() -> None:
    _, first = ENV.reset(jax.random.key(0))
    a, b = first.observation.agents_view
    np.testing.assert_array_equal(a, b)
    assert picture(a, 0) == ["00000", "11011", "11011", "11111", "11111"]
    assert picture(a, 1) == ["00000"] * 5
    assert picture(a, 2) == ["00000", "00000", "00100", "00000", "00000"]


def test_an_eaten_dot_is_not_seen_and_the_right_one_is() -> None:
    _, timestep = play(CALM, make_state(LEFT_END, (0, 4)), EAT, EAT)
    a, b = timestep.observation.agents_view
    assert picture(a, 1) == ["00000"] * 5
    assert picture(b, 1) == ["00000", "00000", "00001", "00000", "00000"]


def test_global_state_by_hand() -> None:
    # A at (0, 1) -> 1; B at (1, 3), the eighth free cell -> 9 + 7; the right dot -> 18 + 1; three
    # of twelve steps are over -> 20.
    state = make_state((0, 2), BOTTOM, dots=(False, True), step_count=2)
    _, timestep = play(CALM, state, LEFT, UP)
    expected = np.zeros(21)
    expected[[1, 16, 19]] = 1
    expected[20] = 0.25
    np.testing.assert_array_equal(timestep.observation.global_state, expected)


def test_the_wind_blows_for_each_agent_by_itself_two_times_in_five() -> None:
    def to_the_right(state: State, key: jax.Array) -> jax.Array:
        return jnp.where(state.positions[:, 0] > 0, UP, RIGHT)

    states, _, _ = rollout(ENV, to_the_right, 4000)
    # Both reach the junction in step 2 and stay in the wind from then on.
    assert not states.blown[:, :3].any()
    blown = states.blown[:, 3:].astype(float)
    assert blown.shape == (4000, 10, 2)
    # 40,000 draws an agent: the standard error is 0.0025 each, 0.005 for a correlation.
    np.testing.assert_allclose(blown.mean(axis=(0, 1)), 0.4, atol=0.009)
    np.testing.assert_allclose(blown.mean(axis=(0, 2)), 0.4, atol=0.02)
    a, b = blown[..., 0], blown[..., 1]
    for x, y in (
        (a, b),
        (a[:, 1:], a[:, :-1]),  # one step later
        (a[:, 1:], b[:, :-1]),
        (a[1:], a[:-1]),  # another episode
    ):
        assert abs(np.corrcoef(x.ravel(), y.ravel())[0, 1]) < 0.02


# --- Exact values, by dynamic programming over both agents' cells and both dots. ---

ALL = (UP, DOWN, LEFT, RIGHT, EAT)
AWAY = (DOWN,)  # waits at the bottom of the stem
ONE, BOTH = (ALL, AWAY), (ALL, ALL)


@dataclasses.dataclass(frozen=True)
class Solution:
    """What `solve` found.

    Attributes:
        value: of the start.
        plan: [T, K, K, 2, 2] the best pair of actions, 5 a + b, with t steps to go at index t - 1.
    """

    value: float
    plan: np.ndarray


def solve(
    env: WindyMaze,
    worth: Callable[[np.ndarray, np.ndarray], np.ndarray],
    choices: Sequence[Sequence[int]],
    at_random: bool = False,
) -> Solution:
    """Backward induction over (cell of A, cell of B, left dot there, right dot there).

    Args:
        env: gives the options and nothing else.
        worth: what an episode is worth, of whether the left and the right dot were eaten.
        choices: the actions that each agent may take.
        at_random: whether they are taken with equal chances; else the best one is.
    """
    stem, arm, wind = env.config.stem, env.config.arm, env.config.wind_probability
    cells = [(0, x) for x in range(-arm, arm + 1)] + [(-depth, 0) for depth in range(1, stem + 1)]
    number = {cell: i for i, cell in enumerate(cells)}
    moves = {UP: (1, 0), DOWN: (-1, 0), LEFT: (0, -1), RIGHT: (0, 1), EAT: (0, 0)}
    after = np.array(
        [
            [number.get((y + dy, x + dx), i) for dy, dx in moves.values()]
            for (y, x), i in number.items()
        ]
    )
    gust = np.array([wind * (y == 0 and x >= env.config.wind_from) for y, x in cells])
    a, b, left, right = np.indices((len(cells), len(cells), 2, 2))

    def outcome(value: np.ndarray, p: int, q: int) -> np.ndarray:
        """If these actions happen."""
        left_eaten = ((a == 0) & (p == EAT)) | ((b == 0) & (q == EAT))
        right_eaten = ((a == 2 * arm) & (p == EAT)) | ((b == 2 * arm) & (q == EAT))
        return value[after[a, p], after[b, q], left * ~left_eaten, right * ~right_eaten]

    def expected(value: np.ndarray, p: int, q: int) -> np.ndarray:
        """If these actions are chosen: each gives way to the wind by chance."""
        if_p, if_blown = (
            (1 - gust[b]) * outcome(value, x, q) + gust[b] * outcome(value, x, RIGHT)
            for x in (p, RIGHT)
        )
        return (1 - gust[a]) * if_p + gust[a] * if_blown

    value = worth(left == 0, right == 0).astype(float)
    pairs = [(p, q) for p in choices[0] for q in choices[1]]
    plan = []
    for _ in range(env.time_limit):
        values = np.stack([expected(value, p, q) for p, q in pairs])
        plan.append(np.array([5 * p + q for p, q in pairs])[values.argmax(axis=0)])
        value = values.mean(axis=0) if at_random else values.max(axis=0)
    return Solution(float(value[-1, -1, 1, 1]), np.stack(plan))


def follow(env: WindyMaze, plan: np.ndarray) -> Policy:
    """Plays a plan in our world."""
    bar = 2 * env.config.arm

    def choose(state: State, key: jax.Array) -> jax.Array:
        row, column = state.positions.T
        a, b = jnp.where(row == 0, column, bar + row)
        left, right = state.dots.astype(int)
        pair = jnp.asarray(plan)[env.time_limit - 1 - state.step_count, a, b, left, right]
        return jnp.stack([pair // 5, pair % 5]).astype(jnp.int32)

    return choose


def eats_left(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left


def eats_right(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return right


def eats_both(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left & right


def dots(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left * 1.0 + right


def final(env: WindyMaze, policy: Policy, num_episodes: int) -> dict[str, np.ndarray]:
    """[num_episodes] the extras after the last step, and the `return`."""

    def episode(key: jax.Array) -> Any:
        reset_key, key = jax.random.split(key)

        def step(carry: Any, key: jax.Array) -> Any:
            state, total = carry
            state, timestep = env.step(state, policy(state, key))
            return (state, total + timestep.reward[0]), timestep.extras

        start = (env.reset(reset_key)[0], 0.0)
        (_, total), extras = jax.lax.scan(step, start, jax.random.split(key, env.time_limit))
        return {"return": total, **jax.tree.map(lambda x: x[-1], extras)}

    keys = jax.random.split(jax.random.key(0), num_episodes)
    return jax.device_get(jax.jit(jax.vmap(episode))(keys))


def check_mean(values: np.ndarray, expected: float) -> None:
    """Within four standard errors, and never stricter than one episode in the sample."""
    within = max(4 * values.std() / np.sqrt(len(values)), 4 / len(values))
    assert abs(values.mean() - expected) <= within, (values.mean(), expected, within)


@pytest.mark.parametrize(
    # The chance of the left dot and of the right one for an agent that goes for it; the dots of one
    # agent that wants both, and of two; the chances of each dot if both agents act at random.
    ("options", "left", "right", "one", "two", "random_left", "random_right"),
    [
        ({}, 0.882461, 0.999738, 0.99990, 1.98238, 0.001694, 0.045697),
        *(
            pytest.param(*values, marks=pytest.mark.slow)
            for values in (
                (
                    {**SMALL, "wind_from": -3},
                    0.444522,
                    0.998362,
                    0.998362,
                    1.56092,
                    0.000736,
                    0.094279,
                ),
                (SMALL, 0.854592, 0.998362, 0.99934, 1.96688, 0.006981, 0.092004),
                ({**SMALL, "stem": 1}, 0.854592, 0.998362, 0.99934, 1.96688, 0.019273, 0.238996),
                ({"wind_from": -4}, 0.412220, 0.999738, 0.999738, 1.54378, 0.000081, 0.046975),
                ({**SMALL, "wind_probability": 0.0}, 1.0, 1.0, 1.0, 2.0, 0.013638, 0.013638),
            )
        ),
    ],
)
def test_the_exact_values_of_play(
    options: dict[str, Any],
    left: float,
    right: float,
    one: float,
    two: float,
    random_left: float,
    random_right: float,
) -> None:
    env = WindyMaze(**options)
    found = final(env, random_policy(env), 20_000)
    for worth, chance, chance_at_random, name in (
        (eats_left, left, random_left, "left_eaten"),
        (eats_right, right, random_right, "right_eaten"),
    ):
        assert solve(env, worth, ONE).value == pytest.approx(chance, abs=1e-5)
        exact = solve(env, worth, BOTH, at_random=True).value
        assert exact == pytest.approx(chance_at_random, abs=1e-5)
        check_mean(found[name], exact)
    assert solve(env, dots, ONE).value == pytest.approx(one, abs=1e-5)
    assert solve(env, dots, BOTH).value == pytest.approx(two, abs=1e-5)
    found = final(env, scripted_policy(env), 20_000)
    check_mean(found["left_eaten"], left)
    check_mean(found["right_eaten"], right)
    check_mean(found["return"], left + right)


@pytest.mark.parametrize(
    "options",
    [SMALL, *(pytest.param(o, marks=pytest.mark.slow) for o in ({}, {"wind_from": -4}))],
)
def test_one_agent_never_eats_both_dots_until_the_episode_is_a_step_longer(
    options: dict[str, Any],
) -> None:
    env = WindyMaze(**options)
    assert solve(env, eats_both, ONE).value == 0.0
    longer = WindyMaze(**options, time_limit=env.time_limit + 1)
    assert solve(longer, eats_both, ONE).value > 0.001


def test_who_wants_both_dots_alone_gets_one() -> None:
    found = final(ENV, follow(ENV, solve(ENV, dots, ONE).plan), 20_000)
    assert found["return"].max() == 1.0
    check_mean(found["return"], 0.99934)
    assert found["left_eaten"].sum() > 0, "it takes the left dot when the wind lets it"


def test_two_who_both_go_right_get_one() -> None:
    def to_the_right(state: State, key: jax.Array) -> jax.Array:
        arrived = (state.positions == jnp.array(RIGHT_END)).all(axis=1)
        return jnp.where(arrived, EAT, jnp.where(state.positions[:, 0] > 0, UP, RIGHT))

    found = final(ENV, to_the_right, 20_000)
    assert found["return"].max() == 1.0
    # Each has seven tries to eat, which all fail with probability 0.4^7.
    check_mean(found["return"], 1 - 0.4**14)


def test_two_who_change_places_with_the_wind_beat_the_script() -> None:
    found = final(ENV, follow(ENV, solve(ENV, dots, BOTH).plan), 20_000)
    check_mean(found["return"], 1.96688)
    assert found["return"].max() == 2.0


def test_waiting_at_the_bottom_earns_nothing() -> None:
    found = final(ENV, constant_policy(EAT, EAT), 100)
    assert (found["return"] == 0).all()


def test_the_return_is_what_the_extras_say() -> None:
    _, timesteps, _ = rollout(ENV, mixed_policy(ENV), 1000)
    eaten = timesteps.extras["dots_eaten"]
    np.testing.assert_array_equal(returns(timesteps), eaten[:, -1])
    assert set(eaten[:, -1].tolist()) == {0, 1, 2}
    assert (np.diff(eaten, axis=1) >= 0).all(), "a dot came back"


@settings(max_examples=100, deadline=None)
@given(
    cells=st.tuples(st.sampled_from(FREE), st.sampled_from(FREE)),
    there=st.tuples(st.booleans(), st.booleans()),
    step_count=st.integers(0, 11),
    actions=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    seed=st.integers(0, 1000),
)
def test_what_may_never_happen(
    cells: Any, there: tuple[bool, bool], step_count: int, actions: tuple[int, int], seed: int
) -> None:
    before = make_state(*cells, dots=there, step_count=step_count)
    before = dataclasses.replace(before, key=jax.random.key(seed))
    after, timestep = play(ENV, before, *actions)
    places = [tuple(cell) for cell in np.asarray(after.positions).tolist()]
    eaters = set()
    for cell, place, action, blown in zip(cells, places, actions, after.blown, strict=True):
        assert place in FREE, "an agent is in a wall"
        assert abs(place[0] - cell[0]) + abs(place[1] - cell[1]) <= 1, "an agent jumped"
        if blown:
            assert cell in FREE[3:7], "wind where there is none"
            assert place == (0, min(cell[1] + 1, 6)), "the wind blew elsewhere"
        elif action == EAT:
            assert place == cell
            eaters.add(cell)
    expected = [there[0] and LEFT_END not in eaters, there[1] and RIGHT_END not in eaters]
    assert after.dots.tolist() == expected, "a dot came back, or went without being eaten"
    eaten = 2 - sum(expected)
    assert int(timestep.extras["dots_eaten"]) == eaten
    last = step_count == 11
    assert timestep.reward.tolist() == [eaten * last] * 2, "a reward before the end"
    assert bool(timestep.last()) == last
    assert bool(timestep.observation.action_mask.all())
    walls, dots_seen, others = (
        np.asarray(timestep.observation.agents_view).reshape(2, 3, 25).swapaxes(0, 1)
    )
    assert (walls[:, 12] == 0).all(), "an agent stands in a wall"
    assert (walls * dots_seen == 0).all()
    assert (others.sum(axis=1) <= 1).all()
    # Agents see each other, each at the opposite place, or neither sees the other.
    np.testing.assert_array_equal(others[0], others[1][::-1])
    parts = np.split(np.asarray(timestep.observation.global_state), [9, 18])
    assert [part.sum() for part in parts[:2]] == [1, 1]


@pytest.mark.parametrize(
    ("options", "num_random", "num_mixed"),
    [
        ({}, 10_000, 5000),
        pytest.param(
            {**SMALL, "wind_from": -3, "time_limit": 20}, 2000, 2000, marks=pytest.mark.slow
        ),
        ({"stem": 1, "arm": 1, "wind_from": 1, "wind_probability": 0.7}, 2000, 2000),
        pytest.param(
            {"stem": 4, "arm": 5, "wind_from": -1, "time_limit": 30},
            2000,
            2000,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"stem": 1, "arm": 2, "wind_from": -2, "time_limit": 5},
            1000,
            1000,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["default", "everywhere", "tiny", "large", "short"],
)
def test_the_twin_agrees_at_every_step(
    options: dict[str, Any], num_random: int, num_mixed: int
) -> None:
    env = WindyMaze(**options)
    rules = {name: value for name, value in options.items() if name != "wind_probability"}
    twins: list[WindyMazeTwin] = []

    def make_twin(start: State) -> WindyMazeTwin:
        twins.append(WindyMazeTwin(len(start.step_count), **rules))
        return twins[-1]

    totals = []
    for policy, num_episodes in (
        (random_policy(env), num_random),
        (mixed_policy(env, 0.7), num_mixed),
    ):
        totals.append(side_by_side(env, make_twin, policy, num_episodes))
        assert twins[-1].gusts > num_episodes / 10
    assert totals[0].max() >= 1
    assert totals[1].max() == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stem": 0}, "stem is 0; it must be at least 1 and at most 15."),
        ({"arm": 16}, "arm is 16; it must be at least 1 and at most 15."),
        (
            {"wind_probability": 1.5},
            "wind_probability is 1.5; it must be at least 0 and at most 1.",
        ),
        (
            {"wind_from": 5},
            "wind_from is 5; it must be at least -4 and at most 4, the ends of the bar (arm is 4).",
        ),
        (
            {"arm": 2, "wind_from": -3},
            "wind_from is -3; it must be at least -2 and at most 2, the ends of the bar "
            "(arm is 2).",
        ),
        ({"time_limit": 0}, "time_limit is 0; it must be at least 1."),
        (
            {"size": 3},
            "unknown option of WindyMaze 'size'; choose from: arm, stem, time_limit, wind_from, "
            "wind_probability.",
        ),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(envs.ConfigurationError) as caught:
        WindyMaze(**options)
    assert str(caught.value) == sentence


OTHER_STATES = (
    make_state(a=(1, 3)),
    make_state(b=(1, 3)),
    make_state(dots=(False, True)),
    make_state(dots=(True, False)),
    make_state(step_count=1),
    make_state(blown=(True, False)),
    make_state(blown=(False, True)),
    make_state(blown=(True, True)),
)


def test_pictures_tell_states_apart() -> None:
    pictures = [ENV.render(state) for state in (make_state(), *OTHER_STATES)]
    assert pictures[0].shape == (320, 480, 3)
    assert len({each.tobytes() for each in pictures}) == len(pictures)
    np.testing.assert_array_equal(ENV.render(make_state()), pictures[0])


def test_text_tells_states_apart() -> None:
    texts = [ENV.text(state) for state in (make_state(), *OTHER_STATES)]
    assert len(set(texts)) == len(texts)
    assert len({len(text.splitlines()) for text in texts}) == 1


def test_text_by_hand() -> None:
    state = make_state((0, 2), (0, 5), (True, False), step_count=7, blown=(False, True))
    assert ENV.text(state).splitlines()[:6] == [
        "Windy Maze: eat the dots at both ends",
        "step 7/12    dots eaten 1/2    blown: B",
        "",
        "o . A > > B >",
        "# # # . # # #",
        "# # # . # # #",
    ]
    widest = WindyMaze(stem=15, arm=15)
    first, _ = widest.reset(jax.random.key(0))
    assert max(map(len, widest.text(first).splitlines())) <= 80
