"""Secret Room: hand-worked transitions, the fewest steps, known returns, a NumPy twin, pictures."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import envs
from envs.secret_room import SecretRoom, State
from envs.secret_room.state import Geometry
from tests.envs.rollouts import (
    Policy,
    episodes_mixed_policy,
    random_policy,
    scripted_policy,
    side_by_side,
)
from tests.envs.twins.secret_room import SecretRoomTwin

UP, DOWN, LEFT, RIGHT = range(4)
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))

EDTI_MAP = """\
A...........#............
............#............
............#............
............+............
............+.......1....
............#............
............#............
............#............
............#############
............#............
............#............
............+............
............+.......2....
............#............
............#............
............#............
............#############
............#............
............#............
............+............
.....L......+.......3....
............#............
............#............
............#............
............#............"""

CMAE_MAP = """\
............#............
............#............
..B.........#............
...A........+......111...
............+......111...
............+......111...
............#............
............#............
............#############
............#............
............#............
............+......222...
............+......222...
............+......222...
............#............
............#............
............#############
............#............
............#............
....LLL.....+......333...
....LLL.....+......333...
....LLL.....+......333...
............#............
............#............
............#............"""

MAPS = {
    "edti": np.array([list(line) for line in EDTI_MAP.splitlines()]),
    "cmae": np.array([list(line) for line in CMAE_MAP.splitlines()]),
}

ENV = SecretRoom()
CMAE = SecretRoom(variant="cmae")
SLOW = SecretRoom(door_open_steps=2)
L, ONE, TWO, THREE = (20, 5), (4, 20), (12, 20), (20, 20)

Cell = tuple[int, int]

both = pytest.mark.parametrize("env", [ENV, CMAE], ids=["edti", "cmae"])


def make_state(
    a: Cell, b: Cell, doors: tuple[int, int, int] = (0, 0, 0), step_count: int = 0
) -> State:
    return State(
        key=jax.random.PRNGKey(0),
        step_count=jnp.int32(step_count),
        positions=jnp.array([a, b], jnp.int32),
        doors=jnp.array(doors, jnp.int32),
    )


@functools.cache
def jitted(env: SecretRoom) -> Any:
    return jax.jit(env.step)


def play(env: SecretRoom, state: State, *actions: int) -> tuple[State, Any]:
    return jitted(env)(state, jnp.array(actions, jnp.int32))


def cells(state: State) -> list[Cell]:
    return [tuple(cell) for cell in np.asarray(state.positions).tolist()]


def doors_after(env: SecretRoom, a: Cell, b: Cell) -> list[int]:
    """The doors after a step in which both agents come to these cells."""
    state, _ = play(env, make_state((a[0] - 1, a[1]), (b[0] - 1, b[1])), DOWN, DOWN)
    assert cells(state) == [a, b]
    return state.doors.tolist()


@functools.cache
def outcomes(env: SecretRoom, policy: Policy, num_episodes: int) -> dict[str, np.ndarray]:
    """Whole episodes side by side, of which little is kept: [num_episodes] each."""

    def episode(key: jax.Array) -> Any:
        reset_key, key = jax.random.split(key)
        start, _ = env.reset(reset_key)
        return follow(env, policy, start, key)

    keys = jax.random.split(jax.random.PRNGKey(0), num_episodes)
    return jax.device_get(jax.jit(jax.vmap(episode))(keys))


def follow(env: SecretRoom, policy: Policy, start: State, key: jax.Array) -> Any:
    """One episode from a given state."""

    def step(carry: Any, key: jax.Array) -> Any:
        state, alive = carry
        state, timestep = env.step(state, policy(state, key))
        kept = (alive, alive * timestep.reward[0], alive & (state.doors > 0).any())
        return (state, alive & ~timestep.last()), kept

    keys = jax.random.split(key, env.time_limit)
    alive, reward, opened = jax.lax.scan(step, (start, True), keys)[1]
    return {"length": alive.sum(), "return": reward.sum(), "opened": opened.any()}


# --- The map ---


def test_reset() -> None:
    for env, starts in ((ENV, [(0, 0), (0, 0)]), (CMAE, [(3, 3), (2, 2)])):
        state, first = env.reset(jax.random.key(5))
        assert cells(state) == starts
        assert state.doors.tolist() == [0, 0, 0]
        assert first.observation.agents_view.shape == (2, 7)
        assert first.observation.global_state.shape == (7,)
        np.testing.assert_array_equal(first.observation.action_mask, np.ones((2, 4), bool))
        assert {name: int(value) for name, value in first.extras.items()} == {
            "solved": 0,
            "agents_in_target": 0,
        }


def test_the_docstring_shows_the_map() -> None:
    assert SecretRoom.__doc__ is not None
    for i, line in enumerate(EDTI_MAP.splitlines()):
        assert f"{i:2} {line}" in SecretRoom.__doc__


@both
@pytest.mark.parametrize("door", [None, 0, 1, 2])
def test_every_move_from_every_cell(env: SecretRoom, door: int | None) -> None:
    drawn = MAPS[env.config.variant]
    rows_of_door = np.flatnonzero(drawn[:, 12] == "+").reshape(3, -1)
    wall = np.isin(drawn, ["#", "+"])
    if door is not None:
        wall[rows_of_door[door], 12] = False
    walls = np.pad(wall, 1, constant_values=True)

    starts = np.argwhere(drawn != "#")  # the doorways too, as an agent may be in a closed one
    action = np.tile(np.arange(4), len(starts))
    start = np.repeat(starts, 4, axis=0)
    wanted = start + np.array(MOVES)[action]
    expected = np.where(walls[*(wanted + 1).T][:, None], start, wanted)
    doors = [int(k == door) for k in range(3)]

    def step(a: jax.Array, action: jax.Array) -> jax.Array:
        state = dataclasses.replace(make_state((0, 0), (0, 0)), doors=jnp.array(doors))
        state = dataclasses.replace(state, positions=jnp.stack([a, a]).astype(jnp.int32))
        return env.step(state, jnp.stack([action, action]))[0].positions

    found = jax.jit(jax.vmap(step))(start, action)
    np.testing.assert_array_equal(found, np.stack([expected, expected], axis=1))


@both
def test_every_switch_from_every_cell(env: SecretRoom) -> None:
    drawn = MAPS[env.config.variant]
    places = np.argwhere(~np.isin(drawn, ["#", "+"]))

    def doors(cell: jax.Array) -> jax.Array:
        far = jnp.zeros_like(cell)
        return env._called(jnp.stack([far, cell])), env._called(jnp.stack([cell, far]))

    for found in jax.jit(jax.vmap(doors))(jnp.asarray(places)):
        for k in range(3):
            expected = np.isin(drawn[*places.T], ["L", str(k + 1)])
            np.testing.assert_array_equal(found[:, k], expected)


@both
def test_the_target_from_every_cell(env: SecretRoom) -> None:
    rows, columns = np.indices((25, 25))
    expected = (rows < 8) & (columns > 12) if env is ENV else (rows <= 9) & (columns >= 13.5)
    every = jnp.asarray(np.stack([rows, columns], axis=-1).reshape(-1, 2))
    np.testing.assert_array_equal(env._in_target(every).reshape(25, 25), expected)


def test_the_map_of_size_30() -> None:
    g = Geometry.make("edti", 30)
    assert (g.wall_column, g.wall_rows) == (15, (10, 20))
    assert g.door_rows.tolist() == [[4, 5], [14, 15], [24, 25]]
    assert g.switches.tolist() == [[24, 6], [5, 24], [15, 24], [25, 24]]
    assert (g.target_row, g.target_column) == (9, 16)


def test_random_starts_are_uniform_in_the_left_room() -> None:
    for variant in ("edti", "cmae"):
        env = SecretRoom(variant=variant, random_start=True)
        keys = jax.random.split(jax.random.PRNGKey(1), 30_000)
        state = jax.jit(jax.vmap(lambda key, env=env: env.reset(key)[0]))(keys)
        assert not np.asarray(state.doors).any(), "doors are closed, also if one is on a switch"
        numbers = np.asarray(state.positions) @ [12, 1]
        for agent in range(2):
            counts = np.bincount(numbers[:, agent], minlength=300)
            assert len(counts) == 300
            # The 0.1% and 99.9% points of chi-square with 299 degrees of freedom.
            assert 229.0 < ((counts - 100.0) ** 2 / 100).sum() < 379.9
        assert abs(np.corrcoef(numbers.T)[0, 1]) < 0.02


# --- Doors ---


def test_a_door_lets_pass_if_its_switch_was_pressed_a_step_before() -> None:
    state = make_state((19, 5), (3, 11))
    state, timestep = play(ENV, state, DOWN, RIGHT)  # A comes to L, B bumps into the closed door
    assert cells(state) == [L, (3, 11)]
    assert state.doors.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(timestep.observation.agents_view[:, 4:], np.ones((2, 3)))
    state, _ = play(ENV, state, UP, RIGHT)  # A leaves, and B still passes
    assert cells(state) == [(19, 5), (3, 12)]
    assert state.doors.tolist() == [0, 0, 0], "the door closes on B"


def test_an_agent_in_a_closed_doorway_can_only_leave_it_sideways() -> None:
    for action, place in ((UP, (4, 12)), (DOWN, (4, 12)), (LEFT, (4, 11)), (RIGHT, (4, 13))):
        state, _ = play(ENV, make_state((4, 12), (0, 0)), action, UP)
        assert cells(state)[0] == place
    # While the door is open the doorway's other cell is free too.
    state, _ = play(ENV, make_state((4, 12), (0, 0), doors=(1, 0, 0)), UP, UP)
    assert cells(state)[0] == (3, 12)


@pytest.mark.parametrize(
    ("cell", "doors"),
    [(L, [1, 1, 1]), (ONE, [1, 0, 0]), (TWO, [0, 1, 0]), (THREE, [0, 0, 1])],
)
@pytest.mark.parametrize("agent", [0, 1])
@both
def test_what_a_switch_opens(env: SecretRoom, cell: Cell, doors: list[int], agent: int) -> None:
    places = [(1, 1), (1, 1)]
    places[agent] = cell
    assert doors_after(env, *places) == doors


def test_a_switch_of_edti_is_one_cell_and_of_cmae_nine() -> None:
    for row, column in itertools.product((-2, -1, 0, 1, 2), repeat=2):
        place = (TWO[0] + row, TWO[1] + column)
        assert doors_after(ENV, (1, 1), place) == [0, int((row, column) == (0, 0)), 0]
        assert doors_after(CMAE, (1, 1), place) == [0, int(max(abs(row), abs(column)) < 2), 0]


@pytest.mark.parametrize(
    ("a", "b", "edti", "cmae"),
    [
        (L, TWO, [1, 1, 1], [1, 1, 1]),
        (THREE, L, [1, 1, 1], [1, 1, 1]),
        (ONE, THREE, [1, 0, 1], [1, 0, 0]),
        (THREE, ONE, [1, 0, 1], [1, 0, 0]),
        (THREE, TWO, [0, 1, 1], [0, 1, 0]),
        (TWO, TWO, [0, 1, 0], [0, 1, 0]),
    ],
)
def test_in_cmae_only_the_first_switch_works(
    a: Cell, b: Cell, edti: list[int], cmae: list[int]
) -> None:
    assert doors_after(ENV, a, b) == edti
    assert doors_after(CMAE, a, b) == cmae


def test_stepping_off_and_on_again_opens_every_other_step() -> None:
    state = make_state((19, 5), (0, 0))
    found = []
    for action in (DOWN, UP, DOWN, UP):
        state, _ = play(ENV, state, action, UP)
        found.append(state.doors.tolist())
    assert found == [[1, 1, 1], [0, 0, 0]] * 2


def test_a_start_on_a_switch_opens_nothing_at_once() -> None:
    # B is on L after the reset; the doors open after a step only if somebody is there then.
    state, _ = play(ENV, make_state((19, 5), L), UP, UP)
    assert state.doors.tolist() == [0, 0, 0]
    state, _ = play(ENV, make_state((19, 5), L), DOWN, UP)
    assert state.doors.tolist() == [1, 1, 1]


def test_door_open_steps_count() -> None:
    # Pressed once, a door is passable in 1 + 2 steps.
    state = make_state((19, 5), (0, 0))
    found = []
    for action in (DOWN, UP, UP, UP, UP):
        state, _ = play(SLOW, state, action, UP)
        found.append(int(state.doors[0]))
    assert found == [3, 2, 1, 0, 0]
    for left in range(4):
        state, _ = play(SLOW, make_state((0, 0), (3, 11), doors=(left, 0, 0)), UP, RIGHT)
        assert cells(state)[1] == ((3, 12) if left > 0 else (3, 11))


def test_a_pressed_switch_does_not_prolong_but_reopens() -> None:
    # B waits on the middle switch of its room by stepping off and on again.
    state = make_state((1, 1), (3, 20))
    found = []
    for action in (DOWN, UP, DOWN, UP, DOWN, UP, UP, UP, UP):
        state, timestep = play(SLOW, state, UP, action)
        found.append(int(state.doors[0]))
        assert float(timestep.observation.agents_view[0, 4]) == float(found[-1] > 0)
        assert float(timestep.observation.global_state[4]) == pytest.approx(found[-1] / 3)
    # Opened; two steps later it is pressed again, which changes nothing; it closes while the switch
    # is free; and opens anew.
    assert found == [3, 2, 1, 0, 3, 2, 1, 0, 0]


def test_a_door_whose_time_is_over_reopens_in_the_same_step() -> None:
    state = make_state((19, 5), (0, 0), doors=(1, 2, 0))
    state, _ = play(SLOW, state, DOWN, UP)
    assert state.doors.tolist() == [3, 1, 3]


# --- The goal and the end ---


@both
def test_both_must_be_in_the_target(env: SecretRoom) -> None:
    reward = 1000 if env is ENV else 1
    _, timestep = play(env, make_state((3, 13), (4, 15), doors=(1, 0, 0)), LEFT, UP)
    np.testing.assert_array_equal(timestep.reward, [0, 0])
    assert timestep.mid()
    assert int(timestep.extras["agents_in_target"]) == 1
    # Over the border: column 13 in EDTI, 14 in CMAE.
    last = (3, 12) if env is ENV else (3, 13)
    _, timestep = play(env, make_state(last, (4, 15)), RIGHT, UP)
    np.testing.assert_array_equal(timestep.reward, [reward, reward])
    np.testing.assert_array_equal(timestep.discount, [0, 0])
    assert timestep.last()
    assert {name: int(value) for name, value in timestep.extras.items()} == {
        "solved": 1,
        "agents_in_target": 2,
    }


def test_row_9_of_the_middle_room_belongs_to_cmaes_target() -> None:
    for env, solved in ((ENV, False), (CMAE, True)):
        _, timestep = play(env, make_state((10, 14), (9, 20)), UP, RIGHT)
        assert bool(timestep.last()) == solved
        _, timestep = play(env, make_state((11, 14), (9, 20)), UP, RIGHT)
        assert timestep.mid()


@both
def test_time_limit_and_termination(env: SecretRoom) -> None:
    _, timestep = play(env, make_state((4, 14), (0, 0), step_count=298), RIGHT, UP)
    assert timestep.mid()
    _, timestep = play(env, make_state((4, 14), (0, 0), step_count=299), RIGHT, UP)
    assert timestep.last()
    np.testing.assert_array_equal(timestep.discount, [1, 1])
    # Both at once: the task has ended, not only the time.
    _, timestep = play(env, make_state((4, 14), (4, 14), step_count=299), RIGHT, UP)
    assert timestep.last()
    assert float(timestep.reward[0]) > 0
    np.testing.assert_array_equal(timestep.discount, [0, 0])


def test_the_reward_is_an_option() -> None:
    env = SecretRoom(success_reward=7.5)
    _, timestep = play(env, make_state((4, 14), (4, 14)), RIGHT, UP)
    np.testing.assert_array_equal(timestep.reward, [7.5, 7.5])


# --- What is seen ---


def test_coordinates_by_hand() -> None:
    _, timestep = play(ENV, make_state((3, 20), (24, 7)), DOWN, DOWN)
    expected = [4 / 25, 20 / 25, 24 / 25, 7 / 25, 1, 0, 0]
    for vector in (*timestep.observation.agents_view, timestep.observation.global_state):
        np.testing.assert_allclose(vector, expected, rtol=2e-7)


def test_cells_are_the_coordinates_as_they_are() -> None:
    env = SecretRoom(observation="cells")
    _, timestep = play(env, make_state((3, 20), (24, 7)), DOWN, DOWN)
    for vector in (*timestep.observation.agents_view, timestep.observation.global_state):
        assert vector.tolist() == [4.0, 20.0, 24.0, 7.0, 1.0, 0.0, 0.0]
    doors = 3 * [False]
    own = [[True, True, False, False, *doors], [False, False, True, True, *doors]]
    assert env.own_features.tolist() == own


@pytest.mark.parametrize("doors_observed", [True, False])
def test_one_hot_by_hand(doors_observed: bool) -> None:
    env = SecretRoom(observation="one_hot", doors_observed=doors_observed)
    _, timestep = play(env, make_state((19, 20), (24, 7)), DOWN, DOWN)
    hot = [20, 25 + 20, 50 + 24, 75 + 7]
    assert timestep.observation.agents_view.shape == (2, 103 if doors_observed else 100)
    assert timestep.observation.global_state.shape == (103,)
    flag = [102] if doors_observed else []
    for view in timestep.observation.agents_view:
        assert np.flatnonzero(view).tolist() == hot + flag
    assert np.flatnonzero(timestep.observation.global_state).tolist() == [*hot, 102]


def test_hidden_doors_are_in_the_global_state_only() -> None:
    env = SecretRoom(doors_observed=False)
    _, timestep = play(env, make_state((19, 5), (0, 0)), DOWN, UP)
    assert timestep.observation.agents_view.shape == (2, 4)
    assert timestep.observation.global_state[4:].tolist() == [1, 1, 1]


# --- The fewest steps, and known returns ---


def fewest_steps(variant: str, starts: tuple[Cell, Cell]) -> int:
    """Breadth-first search over the cells of both agents; the doors follow from these.

    (They do not at the start, where they are closed; nobody starts on a switch.)
    """
    drawn = MAPS[variant]
    rows_of_door = np.flatnonzero(drawn[:, 12] == "+").reshape(3, -1)
    # [8, 625, 4] where a move leads, with the doors of a 3-bit number open.
    cells = np.indices((25, 25)).reshape(2, -1).T
    to = np.clip(cells[:, None] + MOVES, 0, 24) @ [25, 1]
    after = []
    for number in range(8):
        wall = np.isin(drawn, ["#", "+"])
        for door in range(3):
            wall[rows_of_door[door], 12] &= not number >> door & 1
        after.append(np.where(wall.ravel()[to], np.arange(625)[:, None], to))
    next_cell = np.array(after)
    # [625] the switch under each cell, in the order in which CMAE asks: 0 is L, 9 none.
    order = {"L": 0, "1": 1, "2": 2, "3": 3}
    switch = np.array([order.get(name, 9) for name in drawn.ravel()])
    opens = np.zeros(10, int)
    opens[:4] = [7, 1, 2, 4]
    row, column = cells.T
    edti = variant == "edti"
    target = (row < 8) & (column > 12) if edti else (row <= 9) & (column >= 14)

    seen = np.zeros(625 * 625, bool)
    frontier = np.array([625 * (starts[0] @ np.array([25, 1])) + starts[1] @ np.array([25, 1])])
    seen[frontier] = True
    for steps in itertools.count():
        a, b = frontier // 625, frontier % 625
        if (target[a] & target[b]).any():
            return steps
        every, first = opens[switch[a]] | opens[switch[b]], opens[np.minimum(switch[a], switch[b])]
        doors = every if edti else first
        reached = 625 * next_cell[doors, a][:, :, None] + next_cell[doors, b][:, None, :]
        reached = np.unique(reached)
        frontier = reached[~seen[reached]]
        seen[frontier] = True
        assert len(frontier) > 0, "there is no solution"
    raise AssertionError


@pytest.mark.parametrize(("env", "steps"), [(ENV, 49), (CMAE, 37)], ids=["edti", "cmae"])
def test_the_script_takes_the_fewest_steps(env: SecretRoom, steps: int) -> None:
    state, _ = env.reset(jax.random.key(0))
    assert fewest_steps(env.config.variant, tuple(np.asarray(state.positions))) == steps
    played = outcomes(env, scripted_policy(env), 1)
    assert played["length"].tolist() == [steps]
    assert played["return"].tolist() == [1000 if env is ENV else 1]


@pytest.mark.parametrize(
    ("env", "mean", "most"),
    [pytest.param(ENV, 41.89, 57, marks=pytest.mark.slow), (CMAE, 33.99, 44)],
    ids=["edti", "cmae"],
)
def test_the_script_works_from_every_start(env: SecretRoom, mean: float, most: int) -> None:
    room = np.array(list(itertools.product(range(25), range(12))), np.int32)
    pairs = np.array(list(itertools.product(room, room)))
    assert pairs.shape == (90_000, 2, 2)
    env = SecretRoom(variant=env.config.variant, time_limit=60)

    def episode(positions: jax.Array) -> Any:
        start = dataclasses.replace(make_state((0, 0), (0, 0)), positions=positions)
        return follow(env, scripted_policy(env), start, jax.random.key(0))

    played = jax.device_get(jax.jit(jax.vmap(episode))(pairs))
    assert (played["return"] > 0).all()
    assert played["length"].mean() == pytest.approx(mean, abs=0.005)
    assert played["length"].max() == most


@pytest.mark.parametrize(
    "options",
    [
        {"size": 30, "door_open_steps": 8},
        {"size": 11, "variant": "cmae"},
        pytest.param({"size": 10}, marks=pytest.mark.slow),
        pytest.param({"size": 30, "variant": "cmae"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_script_works_on_other_maps(options: dict[str, Any]) -> None:
    env = SecretRoom(**options, random_start=True, time_limit=100)
    played = outcomes(env, scripted_policy(env), 300)
    assert (played["return"] > 0).all()
    assert played["length"].max() < 75


@pytest.mark.parametrize(("env", "opened"), [(ENV, 0.155), (CMAE, 0.32)], ids=["edti", "cmae"])
def test_random_play_never_solves_it(env: SecretRoom, opened: float) -> None:
    # It opens a door in 15.5% of the episodes (EDTI) and in 32% (CMAE).
    played = outcomes(env, random_policy(env), 1000)
    assert not played["return"].any()
    assert abs(played["opened"].mean() - opened) < 0.05


# --- What may never happen ---


@settings(max_examples=150, deadline=None)
@given(
    env=st.sampled_from([ENV, CMAE, SLOW]),
    a=st.tuples(st.integers(0, 24), st.integers(0, 24)),
    b=st.tuples(st.integers(0, 24), st.integers(11, 13)),
    doors=st.tuples(*[st.integers(0, 3)] * 3),
    actions=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    step_count=st.integers(0, 299),
)
def test_what_may_never_happen(
    env: SecretRoom,
    a: Cell,
    b: Cell,
    doors: tuple[int, int, int],
    actions: tuple[int, int],
    step_count: int,
) -> None:
    drawn = MAPS[env.config.variant]
    assume(drawn[a] != "#" and drawn[b] != "#")
    if env is not SLOW:
        doors = tuple(min(door, 1) for door in doors)
    after, timestep = play(env, make_state(a, b, doors, step_count), *actions)
    rows_of_door = np.flatnonzero(drawn[:, 12] == "+").reshape(3, -1)
    for old, new in zip((a, b), cells(after), strict=True):
        assert drawn[new] != "#", "an agent is in a wall"
        assert 0 <= min(new) <= max(new) <= 24, "an agent left the map"
        assert abs(new[0] - old[0]) + abs(new[1] - old[1]) <= 1, "an agent jumped"
        if drawn[new] == "+" and new != old:
            door = int(np.flatnonzero((rows_of_door == new[0]).any(1))[0])
            assert doors[door] > 0, "an agent passed a closed door"
    names = {str(drawn[cell]) for cell in cells(after)}
    for door in range(3):
        left = int(after.doors[door])
        assert 0 <= left <= 1 + env.config.door_open_steps
        pressed = "L" in names or str(door + 1) in names
        if left > doors[door]:
            assert pressed, "a door opened by itself"
        if env is ENV:
            assert left == pressed
    solved = bool(timestep.extras["solved"])
    assert (float(timestep.reward[0]) > 0) == solved
    assert bool(timestep.last()) == (solved or step_count == 299)
    assert timestep.observation.action_mask.any(-1).all()
    views = np.asarray(timestep.observation.agents_view)
    np.testing.assert_array_equal(views[0], views[1])
    assert ((views >= 0) & (views <= 1)).all()


# --- The twin ---


# Random play opens few doors and solves nothing, so most episodes mix chance and script. Eighty
# steps are enough for most solutions and let many episodes run in little time.
@pytest.mark.parametrize(
    ("options", "twin_options", "num_episodes"),
    [
        ({}, {}, 2500),
        pytest.param(
            {"observation": "one_hot", "time_limit": 300},
            {"one_hot": True},
            300,
            marks=pytest.mark.slow,
        ),
        ({"variant": "cmae"}, {"variant": "cmae", "reward": 1.0}, 2500),
        pytest.param(
            {"random_start": True, "door_open_steps": 3},
            {"random_start": True, "doi": 3},
            2500,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"random_start": True, "doors_observed": False, "size": 14, "success_reward": 5.0},
            {"random_start": True, "doors_observed": False, "size": 14, "reward": 5.0},
            1500,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"variant": "cmae", "random_start": True, "size": 17},
            {"variant": "cmae", "random_start": True, "size": 17, "reward": 1.0},
            1500,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["edti", "edti-300", "cmae", "doi", "edti-14", "cmae-17"],
)
def test_the_twin_agrees_at_every_step(
    options: dict[str, Any], twin_options: dict[str, Any], num_episodes: int
) -> None:
    env = SecretRoom(**{"time_limit": 80, **options})
    twins = []

    def make_twin(start: Any) -> SecretRoomTwin:
        twins.append(SecretRoomTwin(start, **twin_options))
        return twins[-1]

    total = side_by_side(
        env, make_twin, episodes_mixed_policy(env, chance=0.2), num_episodes, seed=1
    )
    twin = twins[0]
    assert 0.1 < (total > 0).mean() < 0.95, "many episodes are solved, not all"
    assert (twin.openings > num_episodes / 10).all()
    assert twin.closed_on_an_agent > num_episodes / 20
    assert twin.refused_in_a_doorway > 0


# --- Options ---


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "alita"}, "variant is 'alita'; it must be one of: edti, cmae."),
        ({"size": 9}, "size is 9; it must be at least 10 in the edti variant."),
        (
            {"size": 10, "variant": "cmae"},
            "size is 10; it must be at least 11 in the cmae variant.",
        ),
        ({"time_limit": 0}, "time_limit is 0; it must be at least 1."),
        ({"door_open_steps": -1}, "door_open_steps is -1; it must be at least 0."),
        ({"success_reward": -1.0}, "success_reward is -1.0; it must be above 0."),
        (
            {"observation": "image"},
            "observation is 'image'; it must be one of: coordinates, one_hot, cells.",
        ),
        (
            {"variant": "cmae", "door_open_steps": 8},
            "door_open_steps is 8; it must be 0 in the cmae variant, whose doors are open only "
            "while a switch is pressed.",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(envs.ConfigurationError) as error:
        SecretRoom(**options)
    assert str(error.value) == sentence


@pytest.mark.parametrize(("variant", "smallest"), [("edti", 10), ("cmae", 11)])
def test_the_map_is_sound_for_every_size_allowed_and_for_none_below(
    variant: str, smallest: int
) -> None:
    def sound(size: int) -> bool:
        g = Geometry.make(variant, size)
        rooms = zip((-1, *g.wall_rows), (*g.wall_rows, size), g.door_rows, strict=True)
        doors = all(above < first and last < below for above, below, (first, last) in rooms)
        left, *right = g.switches[:, 1]
        switches = left + g.reach < g.wall_column < min(right) - g.reach
        return doors and switches and g.target_column < size and g.switches.max() + g.reach < size

    assert [size for size in range(4, 80) if sound(size)] == list(range(smallest, 80))


# --- Pictures ---


@both
def test_pictures_tell_states_apart(env: SecretRoom) -> None:
    state = make_state((9, 9), (9, 10))
    base = env.render(state)
    assert base.shape == (540, 480, 3)
    for other in (
        make_state((9, 8), (9, 10)),
        make_state((9, 9), (9, 9)),
        make_state((9, 9), (9, 10), doors=(1, 0, 0)),
        make_state((9, 9), (9, 10), doors=(0, 1, 0)),
        make_state((9, 9), (9, 10), step_count=1),
    ):
        assert (env.render(other) != base).any()
    np.testing.assert_array_equal(env.render(state), base)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (make_state((9, 9), (9, 10)), "open doors: none    in the target: nobody"),
        (make_state((9, 9), L, doors=(1, 1, 1)), "open doors: 1, 2, 3    in the target: nobody"),
        (make_state((0, 13), (9, 10), doors=(0, 2, 0)), "open doors: 2    in the target: A"),
        (make_state((9, 9), (7, 24)), "open doors: none    in the target: B"),
        (make_state((0, 13), (7, 24)), "open doors: none    solved"),
    ],
)
def test_the_status_says_what_is_open_and_who_is_there(state: State, words: str) -> None:
    assert ENV.text(state).split("\n")[1] == f"step 0/300    {words}"


@both
def test_text(env: SecretRoom) -> None:
    state = make_state((0, 0), (10, 2), doors=(0, 1, 0))
    lines = env.text(state).split("\n")
    drawn = MAPS[env.config.variant].copy()
    drawn[np.isin(drawn, ["A", "B"])] = "."
    drawn[0, 0], drawn[10, 2] = "A", "B"
    drawn[11 : 13 if env is ENV else 14, 12] = "-"
    rows, columns = np.indices((25, 25))
    target = (rows < 8) & (columns > 12) if env is ENV else (rows < 10) & (columns > 13)
    drawn[(drawn == ".") & target] = ","
    assert lines[3:28] == [" ".join(row) for row in drawn]
    assert max(map(len, lines)) <= 80
