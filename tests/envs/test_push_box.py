"""Push-Box: hand-worked transitions, the fewest steps, known returns, a NumPy twin, pictures."""

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
from envs.push_box import PushBox, State
from tests.envs.rollouts import (
    Policy,
    episodes_mixed_policy,
    random_policy,
    scripted_policy,
    side_by_side,
)
from tests.envs.twins.push_box import PushBoxTwin

UP, DOWN, LEFT, RIGHT, STAY = range(5)
MOVES = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}
BACK = {UP: DOWN, DOWN: UP, LEFT: RIGHT, RIGHT: LEFT}

ENV = PushBox()
CMAE = PushBox(variant="cmae")
RESPAWN = PushBox(terminate_on_success=False)
RESPAWN_SCRIPT = scripted_policy(RESPAWN)

Cell = tuple[int, int]


def make_state(
    a: Cell, b: Cell, box: Cell, step_count: int = 0, boxes_delivered: int = 0, seed: int = 0
) -> State:
    return State(
        key=jax.random.PRNGKey(seed),
        step_count=jnp.int32(step_count),
        positions=jnp.array([a, b], jnp.int32),
        box=jnp.array(box, jnp.int32),
        boxes_delivered=jnp.int32(boxes_delivered),
    )


@functools.cache
def jitted(env: PushBox) -> Any:
    return jax.jit(env.step)


def play(env: PushBox, state: State, *actions: int) -> tuple[State, Any]:
    return jitted(env)(state, jnp.array(actions, jnp.int32))


def cells(state: State) -> list[Cell]:
    """Agent 0, agent 1, the box."""
    return [tuple(cell) for cell in (*np.asarray(state.positions).tolist(), state.box.tolist())]


@functools.cache
def outcomes(env: PushBox, policy: Policy, num_episodes: int) -> dict[str, np.ndarray]:
    """Whole episodes side by side, of which little is kept: [num_episodes, ...] each."""

    def episode(key: jax.Array) -> Any:
        reset_key, key = jax.random.split(key)
        start, _ = env.reset(reset_key)

        def step(carry: Any, key: jax.Array) -> Any:
            state, alive = carry
            next_state, timestep = env.step(state, policy(state, key))
            kept = {
                "box": state.box,
                "alive": alive,
                "reward": alive * timestep.reward[0],
                "delivered": next_state.boxes_delivered,
            }
            return (next_state, alive & ~timestep.last()), kept

        keys = jax.random.split(key, env.time_limit)
        return jax.lax.scan(step, (start, True), keys)[1]

    keys = jax.random.split(jax.random.PRNGKey(0), num_episodes)
    kept = jax.device_get(jax.jit(jax.vmap(episode))(keys))
    return {
        **kept,
        "length": kept["alive"].sum(axis=1),
        "return": kept["reward"].sum(axis=1),
    }


def moved(cell: Cell, action: int, times: int = 1) -> Cell:
    return cell[0] + times * MOVES[action][0], cell[1] + times * MOVES[action][1]


# --- Reset ---


def test_reset() -> None:
    state, first = jax.jit(ENV.reset)(jax.random.PRNGKey(5))
    np.testing.assert_array_equal(state.positions, [[1, 1], [1, 1]])
    assert first.observation.agents_view.shape == (2, 90)
    assert first.observation.global_state.shape == (90,)
    np.testing.assert_array_equal(first.observation.action_mask, np.ones((2, 5), bool))
    assert {name: int(value) for name, value in first.extras.items()} == {
        "boxes_delivered": 0,
        "solved": 0,
    }


def test_reset_of_cmae_has_no_chance() -> None:
    for seed in range(3):
        state, first = CMAE.reset(jax.random.key(seed))
        assert cells(state) == [(11, 11), (9, 9), (7, 7)]
        assert first.observation.agents_view.shape == (2, 6)
        np.testing.assert_array_equal(first.observation.action_mask, np.ones((2, 4), bool))
    state, _ = PushBox(variant="cmae", size=20).reset(jax.random.key(0))
    assert cells(state) == [(14, 14), (12, 12), (10, 10)]


def chi_square(cells: np.ndarray, low: int, width: int) -> float:
    counts = np.bincount(width * (cells[:, 0] - low) + cells[:, 1] - low, minlength=width**2)
    assert len(counts) == width**2
    expected = len(cells) / width**2
    return float(((counts - expected) ** 2 / expected).sum())


def test_boxes_are_uniform() -> None:
    keys = jax.random.split(jax.random.PRNGKey(1), 32_000)
    first = np.asarray(jax.jit(jax.vmap(lambda key: ENV.reset(key)[0].box))(keys))
    played = outcomes(RESPAWN, RESPAWN_SCRIPT, 500)
    later = played["box"][:, 1:][played["reward"][:, :-1] > 0]
    assert len(later) > 10_000
    for boxes in (first, later):
        # The 0.1% and 99.9% points of chi-square with 63 degrees of freedom.
        assert 33.9 < chi_square(boxes, 4, 8) < 103.4


def test_a_new_box_never_appears_on_an_agent() -> None:
    env = PushBox(size=9, box_low=1, box_high=3, terminate_on_success=False)
    keys = jax.random.split(jax.random.PRNGKey(2), 4000)

    def last_push(key: jax.Array) -> jax.Array:
        """A box at (1, 2) goes up to the wall; the agents end where it was, in the 3x3 cells."""
        state = dataclasses.replace(make_state((2, 2), (2, 2), (1, 2)), key=key)
        return env.step(state, jnp.array([UP, UP], jnp.int32))[0].box

    starts = jax.jit(jax.vmap(lambda key: env.reset(key)[0].box))(keys)
    later = jax.jit(jax.vmap(last_push))(keys)
    for boxes, taken in ((starts, (1, 1)), (later, (1, 2))):
        found, counts = np.unique(np.asarray(boxes), axis=0, return_counts=True)
        expected = set(itertools.product((1, 2, 3), repeat=2)) - {taken}
        assert {tuple(cell) for cell in found.tolist()} == expected
        assert counts.min() > 400, "not uniform over the eight free cells"


def test_two_episodes_of_one_key_chain_differ() -> None:
    key = jax.random.PRNGKey(2)
    state, _ = ENV.reset(key)
    assert not np.array_equal(state.key, key), "an auto-reset wrapper would repeat the episode"


# --- Moving ---


@pytest.mark.parametrize("action", [UP, DOWN, LEFT, RIGHT])
def test_agents_walk(action: int) -> None:
    for env in (ENV, CMAE):
        state, timestep = play(env, make_state((3, 3), (3, 4), (9, 9)), action, action)
        assert cells(state) == [moved((3, 3), action), moved((3, 4), action), (9, 9)]
        np.testing.assert_array_equal(timestep.reward, [0, 0])
        assert timestep.mid()


def test_only_edti_lets_an_agent_stay() -> None:
    state, _ = play(ENV, make_state((3, 3), (3, 4), (9, 9)), STAY, UP)
    assert cells(state) == [(3, 3), (2, 4), (9, 9)]
    assert (ENV.num_actions, CMAE.num_actions) == (5, 4)


def test_agents_pass_through_each_other_and_share_cells() -> None:
    state, _ = play(ENV, make_state((3, 3), (3, 4), (9, 9)), RIGHT, LEFT)
    assert cells(state) == [(3, 4), (3, 3), (9, 9)]
    state, _ = play(ENV, state, LEFT, STAY)
    assert cells(state) == [(3, 3), (3, 3), (9, 9)]


@pytest.mark.parametrize("action", [UP, DOWN, LEFT, RIGHT])
def test_the_border_stops_agents(action: int) -> None:
    # EDTI's agents never enter rows and columns 0 and 14, CMAE's do.
    for env, first, last in ((ENV, 1, 13), (CMAE, 0, 14)):
        cell = {UP: (first, 5), DOWN: (last, 5), LEFT: (5, first), RIGHT: (5, last)}[action]
        inner = moved(cell, BACK[action])
        state, _ = play(env, make_state(cell, inner, (8, 8)), action, action)
        assert cells(state) == [cell, cell, (8, 8)]


# --- Pushing ---


@pytest.mark.parametrize("action", [UP, DOWN, LEFT, RIGHT])
def test_both_push_and_step_into_the_cell_that_the_box_has_left(action: int) -> None:
    behind = moved((7, 7), BACK[action])
    state, timestep = play(ENV, make_state(behind, behind, (7, 7)), action, action)
    assert cells(state) == [(7, 7), (7, 7), moved((7, 7), action)]
    np.testing.assert_array_equal(timestep.reward, [0, 0])
    assert timestep.mid()


@pytest.mark.parametrize("action", [UP, DOWN, LEFT, RIGHT])
@pytest.mark.parametrize("agent", [0, 1])
def test_one_agent_alone_pushes_in_vain(action: int, agent: int) -> None:
    behind = moved((7, 7), BACK[action])
    for other in (STAY, BACK[action]):
        actions = [other, other]
        actions[agent] = action
        state, _ = play(ENV, make_state(behind, behind, (7, 7)), *actions)
        places = [moved(behind, other) if other != STAY else behind] * 2
        places[agent] = behind
        assert cells(state) == [*places, (7, 7)]


@pytest.mark.parametrize("action", [UP, DOWN, LEFT, RIGHT])
def test_pushes_in_opposite_directions_cancel(action: int) -> None:
    a, b = moved((7, 7), BACK[action]), moved((7, 7), action)
    state, _ = play(ENV, make_state(a, b, (7, 7)), action, BACK[action])
    assert cells(state) == [a, b, (7, 7)]


def test_pushes_at_a_right_angle_do_not_add_up() -> None:
    state, _ = play(ENV, make_state((8, 7), (7, 6), (7, 7)), UP, RIGHT)
    assert cells(state) == [(8, 7), (7, 6), (7, 7)]


def test_an_agent_behind_the_pushing_one_does_not_help() -> None:
    # B steps into A's cell; from there both push in the next step.
    state, _ = play(ENV, make_state((8, 7), (9, 7), (7, 7)), UP, UP)
    assert cells(state) == [(8, 7), (8, 7), (7, 7)]
    state, _ = play(ENV, state, UP, UP)
    assert cells(state) == [(7, 7), (7, 7), (6, 7)]


def test_agents_at_a_corner_of_the_box_walk_past_it() -> None:
    state, _ = play(ENV, make_state((8, 8), (8, 8), (7, 7)), UP, LEFT)
    assert cells(state) == [(7, 8), (8, 7), (7, 7)]


@pytest.mark.parametrize("action", [UP, DOWN, LEFT, RIGHT])
def test_the_large_box_is_pushed_from_any_two_cells_of_a_side(action: int) -> None:
    back = moved((7, 7), BACK[action], 2)
    aside = UP if action in (LEFT, RIGHT) else LEFT
    side = [moved(back, aside), back, moved(back, BACK[aside])]
    for a, b in itertools.product(side, repeat=2):
        state, _ = play(CMAE, make_state(a, b, (7, 7)), action, action)
        assert cells(state) == [moved(a, action), moved(b, action), moved((7, 7), action)]
    # One cell further, at the corner, an agent walks past.
    corner = moved(back, aside, 2)
    state, _ = play(CMAE, make_state(back, corner, (7, 7)), action, action)
    assert cells(state) == [back, moved(corner, action), (7, 7)]


def test_the_large_box_needs_both_and_the_same_way() -> None:
    for b, action in (((5, 6), DOWN), ((7, 5), RIGHT), ((9, 8), DOWN), ((9, 8), LEFT)):
        state, _ = play(CMAE, make_state((9, 7), b, (7, 7)), UP, action)
        stays = b in ((5, 6), (7, 5))
        assert cells(state) == [(9, 7), b if stays else moved(b, action), (7, 7)]


# --- The goal and the end ---

# The box one push away from each wall: where the agents stand and how they push.
LAST_PUSHES = {
    ENV: (
        ((2, 6), UP, (1, 6)),
        ((12, 6), DOWN, (13, 6)),
        ((6, 2), LEFT, (6, 1)),
        ((6, 12), RIGHT, (6, 13)),
    ),
    CMAE: (
        ((4, 6), UP, (2, 6)),
        ((10, 6), DOWN, (12, 6)),
        ((6, 4), LEFT, (6, 2)),
        ((6, 10), RIGHT, (6, 12)),
    ),
}


@pytest.mark.parametrize("wall", range(4))
@pytest.mark.parametrize(("env", "reward"), [(ENV, 1000), (CMAE, 1)], ids=["edti", "cmae"])
def test_the_wall_ends_the_episode(env: PushBox, reward: float, wall: int) -> None:
    behind, action, box = LAST_PUSHES[env][wall]
    # One push earlier nothing has ended yet.
    earlier = make_state(
        moved(behind, BACK[action]), moved(behind, BACK[action]), moved(box, BACK[action])
    )
    state, timestep = play(env, earlier, action, action)
    assert cells(state) == [behind, behind, box]
    assert timestep.mid()
    assert int(timestep.extras["solved"]) == 0

    state, timestep = play(env, state, action, action)
    assert cells(state)[2] == moved(box, action)
    np.testing.assert_array_equal(timestep.reward, [reward, reward])
    np.testing.assert_array_equal(timestep.discount, [0, 0])
    assert timestep.last()
    assert {name: int(value) for name, value in timestep.extras.items()} == {
        "boxes_delivered": 1,
        "solved": 1,
    }


@pytest.mark.parametrize("env", [ENV, CMAE, RESPAWN], ids=["edti", "cmae", "respawn"])
def test_time_limit_and_termination(env: PushBox) -> None:
    behind, action, box = LAST_PUSHES[CMAE if env is CMAE else ENV][0]
    state = make_state(behind, behind, box, step_count=298)
    _, timestep = play(env, state, BACK[action], action)
    assert timestep.mid()
    state = dataclasses.replace(state, step_count=jnp.int32(299))
    _, timestep = play(env, state, BACK[action], action)
    assert timestep.last()
    np.testing.assert_array_equal(timestep.discount, [1, 1])
    # Both at once: the task has ended, not only the time.
    _, timestep = play(env, state, action, action)
    assert timestep.last()
    assert float(timestep.reward[0]) > 0
    np.testing.assert_array_equal(timestep.discount, [1, 1] if env is RESPAWN else [0, 0])


def test_edtis_episode_goes_on_with_a_new_box() -> None:
    state = make_state((2, 6), (2, 6), (1, 6), step_count=7, boxes_delivered=3)
    state, timestep = play(RESPAWN, state, UP, UP)
    assert timestep.mid()
    np.testing.assert_array_equal(timestep.reward, [1000, 1000])
    np.testing.assert_array_equal(timestep.discount, [1, 1])
    assert int(timestep.extras["boxes_delivered"]) == 4
    assert cells(state)[:2] == [(1, 6), (1, 6)]
    row, column = cells(state)[2]
    assert 4 <= row <= 11
    assert 4 <= column <= 11
    # Agents still see the old box at the wall; the global state has the new one.
    hot = [1, 15 + 6, 30 + 1, 45 + 6]
    assert np.flatnonzero(timestep.observation.agents_view[0]).tolist() == [*hot, 60, 75 + 6]
    assert np.flatnonzero(timestep.observation.global_state).tolist() == [
        *hot,
        60 + row,
        75 + column,
    ]
    # One step later both see it.
    _, timestep = play(RESPAWN, state, STAY, STAY)
    np.testing.assert_array_equal(
        timestep.observation.agents_view[1], timestep.observation.global_state
    )
    np.testing.assert_array_equal(timestep.reward, [0, 0])
    assert np.flatnonzero(timestep.observation.agents_view[1])[4] == 60 + row


def test_a_new_box_may_be_pushed_before_it_is_seen() -> None:
    env = PushBox(size=9, box_low=1, box_high=2, terminate_on_success=False)
    pushed = 0
    for seed in range(40):
        state, _ = play(env, make_state((1, 2), (1, 2), (1, 1), seed=seed), LEFT, LEFT)
        if cells(state)[2] == (1, 2):
            state, _ = play(env, state, RIGHT, RIGHT)
            assert cells(state) == [(1, 2), (1, 2), (1, 3)]
            pushed += 1
    assert pushed > 4


# --- What is seen ---


def test_one_hot_by_hand() -> None:
    _, timestep = play(ENV, make_state((2, 13), (3, 4), (11, 5)), STAY, UP)
    hot = [2, 15 + 13, 30 + 2, 45 + 4, 60 + 11, 75 + 5]
    for vector in (*timestep.observation.agents_view, timestep.observation.global_state):
        assert np.flatnonzero(vector).tolist() == hot
        assert float(vector.max()) == 1.0


@pytest.mark.parametrize("variant", ["edti", "cmae"])
def test_coordinates_by_hand(variant: str) -> None:
    env = PushBox(variant=variant, observation="coordinates")
    _, timestep = play(env, make_state((2, 12), (3, 4), (7, 8)), RIGHT, UP)
    expected = np.array([2, 13, 2, 4, 7, 8]) / 15
    for vector in (*timestep.observation.agents_view, timestep.observation.global_state):
        np.testing.assert_allclose(vector, expected, rtol=2e-7)


def test_cells_are_the_coordinates_as_they_are() -> None:
    env = PushBox(observation="cells")
    _, timestep = play(env, make_state((2, 12), (3, 4), (7, 8)), RIGHT, UP)
    for vector in (*timestep.observation.agents_view, timestep.observation.global_state):
        assert vector.tolist() == [2.0, 13.0, 2.0, 4.0, 7.0, 8.0]
    assert env.own_features.tolist() == [
        [True, True, False, False, True, True],
        [False, False] + 4 * [True],
    ]


def test_one_hot_of_cmae() -> None:
    env = PushBox(variant="cmae", observation="one_hot")
    _, first = env.reset(jax.random.key(0))
    hot = [11, 15 + 11, 30 + 9, 45 + 9, 60 + 7, 75 + 7]
    assert np.flatnonzero(first.observation.agents_view[0]).tolist() == hot


# --- The fewest steps, and known returns ---


@functools.cache
def fewest_steps(size: int) -> np.ndarray:
    """[size] * 4: steps to the wall for one agent (row, column) who could move the box alone.

    No two agents are faster: whenever they move the box both push, so the first of them could do
    alone what both do. And two who start in one cell do as well, by doing the same.
    """
    row, column, box_row, box_column = np.indices((size,) * 4)
    at_wall = (box_row % (size - 1) == 0) | (box_column % (size - 1) == 0)
    steps = np.where(at_wall, 0.0, np.inf)
    while True:
        best = steps
        for down, right in MOVES.values():
            to = np.clip(row + down, 1, size - 2), np.clip(column + right, 1, size - 2)
            pushes = (to[0] == box_row) & (to[1] == box_column) & ~at_wall
            best = np.minimum(
                best, 1 + steps[*to, box_row + down * pushes, box_column + right * pushes]
            )
        best = np.where(at_wall, 0.0, best)
        if (best == steps).all():
            return steps
        steps = best


def fewest_joint_steps(size: int, edti: bool, start: tuple[int, ...]) -> int:
    """Breadth-first search over both agents' cells and the box's."""
    radius, first = (0, 1) if edti else (1, 0)
    last = size - 1 - first
    moves = [*MOVES.values(), (0, 0)][: 5 if edti else 4]
    seen = np.zeros((size,) * 6, bool)
    seen[start] = True
    frontier = np.array([start])
    for steps in itertools.count(1):
        reached = []
        for i, j in itertools.product(range(len(moves)), repeat=2):
            box = frontier[:, 4:]
            wanted = [
                np.clip(frontier[:, 2 * k : 2 * k + 2] + moves[m], first, last)
                for k, m in enumerate((i, j))
            ]
            if i == j:
                pushing = [(np.abs(cell - box) <= radius).all(1) for cell in wanted]
                box = box + np.outer(pushing[0] & pushing[1], moves[i])
            places = [
                np.where((np.abs(cell - box) <= radius).all(1)[:, None], old, cell)
                for cell, old in zip(wanted, (frontier[:, :2], frontier[:, 2:4]), strict=True)
            ]
            if (((box - radius) <= 0) | (box + radius >= size - 1)).any():
                return steps
            reached.append(np.concatenate([*places, box], axis=1))
        after = np.concatenate(reached)
        after = after[~seen[tuple(after.T)]]
        seen[tuple(after.T)] = True
        frontier = np.unique(after, axis=0)
        assert len(frontier) > 0, "the box cannot be brought to the wall"
    raise AssertionError


def test_the_fewest_steps_are_those_of_the_specification() -> None:
    steps = fewest_steps(15)[1, 1, 4:12, 4:12]
    assert (steps.min(), steps.max(), steps.mean()) == (11, 22, 16.875)
    assert fewest_joint_steps(15, False, (11, 11, 9, 9, 7, 7)) == 11


def test_one_strong_agent_is_as_fast_as_two() -> None:
    for box in itertools.product((4, 5), repeat=2):
        joint = fewest_joint_steps(9, True, (1, 1, 1, 1, *box))
        assert joint == fewest_steps(9)[1, 1, *box]


def test_the_script_takes_the_fewest_steps() -> None:
    env = PushBox(time_limit=30)
    played = outcomes(env, scripted_policy(env), 1000)
    boxes = played["box"][:, 0]
    assert len(np.unique(boxes, axis=0)) == 64
    np.testing.assert_array_equal(played["length"], fewest_steps(15)[1, 1][tuple(boxes.T)])
    np.testing.assert_array_equal(played["return"], np.full(1000, 1000.0))

    played = outcomes(CMAE, scripted_policy(CMAE), 1)
    assert (played["length"].tolist(), played["return"].tolist()) == ([11], [1.0])


@pytest.mark.parametrize(
    "options",
    [
        {"size": 9, "box_low": 1, "box_high": 7},
        {"variant": "cmae", "size": 24},
        pytest.param({"size": 30}, marks=pytest.mark.slow),
        pytest.param({"variant": "cmae", "size": 9}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_script_works_on_other_maps(options: dict[str, Any]) -> None:
    env = PushBox(**options, time_limit=60, success_reward=2.5)
    played = outcomes(env, scripted_policy(env), 300)
    np.testing.assert_array_equal(played["return"], np.full(300, 2.5))
    if "box_low" in options:
        best = fewest_steps(9)[1, 1][tuple(played["box"][:, 0].T)]
        np.testing.assert_array_equal(played["length"], best)


def test_known_returns_of_edtis_endless_boxes() -> None:
    # 500 episodes with a deviation of 1.0 boxes each: a standard error of 0.045.
    played = outcomes(RESPAWN, RESPAWN_SCRIPT, 500)
    boxes = played["delivered"][:, -1]
    np.testing.assert_array_equal(played["return"], 1000 * boxes)
    np.testing.assert_array_equal(played["length"], np.full(500, 300))
    assert abs(boxes.mean() - 23.9) < 0.2
    assert abs(boxes.std() - 1.0) < 0.15


@pytest.mark.parametrize(
    ("env", "least", "most"), [(ENV, 0, 8), (CMAE, 5, 32)], ids=["edti", "cmae"]
)
def test_random_play_never_delivers(env: PushBox, least: int, most: int) -> None:
    # The box moves in 1 of 600 episodes (EDTI) and in 1 of 60 (CMAE).
    played = outcomes(env, random_policy(env), 1000)
    assert not played["return"].any()
    assert least <= (played["box"] != played["box"][:, :1]).any((1, 2)).sum() <= most


# --- What may never happen ---


@settings(max_examples=150, deadline=None)
@given(
    env=st.sampled_from([ENV, CMAE, RESPAWN]),
    box=st.tuples(*[st.integers(1, 13)] * 2),
    offsets=st.tuples(*[st.integers(-2, 2)] * 4),
    actions=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    step_count=st.integers(0, 299),
)
def test_what_may_never_happen(
    env: PushBox, box: Any, offsets: tuple[int, ...], actions: tuple[int, int], step_count: int
) -> None:
    radius, first = (1, 0) if env is CMAE else (0, 1)
    box = np.clip(box, 1 + radius, 13 - radius)
    agents = np.clip(np.array(offsets).reshape(2, 2) + box, first, 14 - first)
    assume((np.abs(agents - box).max(1) > radius).all())
    if env is CMAE:
        actions = (actions[0] % 4, actions[1] % 4)
    before = make_state(tuple(agents[0]), tuple(agents[1]), tuple(box), step_count)
    after, timestep = play(env, before, *actions)

    a, b, new_box = (np.array(cell) for cell in cells(after))
    for cell, old in ((a, agents[0]), (b, agents[1])):
        assert ((cell >= first) & (cell <= 14 - first)).all(), "an agent is in the wall"
        assert np.abs(cell - old).sum() <= 1, "an agent jumped"
        assert np.abs(cell - new_box).max() > radius, "an agent is in the box"
    assert ((new_box >= radius) & (new_box <= 14 - radius)).all(), "the box left the map"
    delivered = float(timestep.reward[0]) > 0
    way = np.abs(new_box - box).sum()
    if delivered and env is RESPAWN:
        assert ((new_box >= 4) & (new_box <= 11)).all()
    else:
        assert way <= 1, "the box jumped"
        assert way == 0 or actions[0] == actions[1], "the box moved without both"
        at_wall = ((new_box == radius) | (new_box == 14 - radius)).any()
        assert bool(delivered) == bool(at_wall)
    assert bool(timestep.last()) == (step_count == 299 or (delivered and env is not RESPAWN))
    assert timestep.observation.action_mask.any(-1).all()
    views = np.asarray(timestep.observation.agents_view)
    np.testing.assert_array_equal(views[0], views[1])
    assert ((views >= 0) & (views <= 1)).all()
    if env is not CMAE:
        np.testing.assert_array_equal(views.reshape(2, 6, 15).sum(-1), np.ones((2, 6)))


# --- The twin ---


# Random play never delivers a box, so most episodes mix chance and script. Sixty steps are enough
# for several boxes and let many episodes run in little time.
@pytest.mark.parametrize(
    ("options", "twin_options", "num_episodes"),
    [
        ({}, {}, 3000),
        pytest.param(
            {"observation": "coordinates", "time_limit": 300},
            {"one_hot": False},
            300,
            marks=pytest.mark.slow,
        ),
        ({"variant": "cmae"}, {"variant": "cmae", "reward": 1.0, "one_hot": False}, 3000),
        pytest.param(
            {"variant": "cmae", "observation": "one_hot", "size": 12, "success_reward": 100.0},
            {"variant": "cmae", "reward": 100.0, "size": 12},
            1000,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"terminate_on_success": False}, {"ends": False}, 1500, marks=pytest.mark.slow
        ),
        pytest.param(
            {
                "terminate_on_success": False,
                "size": 9,
                "box_low": 1,
                "box_high": 7,
                "observation": "coordinates",
            },
            {"ends": False, "size": 9, "box_range": (1, 7), "one_hot": False},
            3000,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["edti", "edti-300", "cmae", "cmae-12", "respawn", "respawn-9"],
)
def test_the_twin_agrees_at_every_step(
    options: dict[str, Any], twin_options: dict[str, Any], num_episodes: int
) -> None:
    env = PushBox(**{"time_limit": 60, **options})
    twins = []

    def make_twin(start: Any) -> PushBoxTwin:
        twins.append(PushBoxTwin(start, **twin_options))
        return twins[-1]

    total = side_by_side(
        env, make_twin, episodes_mixed_policy(env, chance=0.25), num_episodes, seed=1
    )
    assert 0.2 < (total > 0).mean() < 0.9, "boxes are delivered in many episodes, not in all"
    assert twins[0].moves_of_the_box > num_episodes
    assert twins[0].lone_pushes > num_episodes
    assert twins[0].opposite_pushes > 0 or num_episodes < 3000
    if not env.config.terminate_on_success:
        assert (total > 2000).any(), "no episode had several boxes"


# --- Options ---


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "alita"}, "variant is 'alita'; it must be one of: edti, cmae."),
        ({"size": 8}, "size is 8; it must be at least 9 and at most 1000."),
        ({"time_limit": 0}, "time_limit is 0; it must be at least 1."),
        ({"success_reward": 0.0}, "success_reward is 0.0; it must be above 0."),
        (
            {"observation": "image"},
            "observation is 'image'; it must be one of: one_hot, coordinates, cells.",
        ),
        ({"box_low": 0}, "box_low is 0; it must be at least 1."),
        ({"box_high": 14}, "box_high is 14; it must be at most 13 (size - 2)."),
        ({"box_low": 11}, "box_low is 11; it must be less than box_high, which is 11."),
        (
            {"variant": "cmae", "terminate_on_success": False},
            "terminate_on_success is False; it must be True in the cmae variant, whose episode "
            "ends with its only box.",
        ),
        (
            {"variant": "cmae", "box_low": 5},
            "box_low is 5; it must be None in the cmae variant, whose box always starts in the "
            "middle.",
        ),
        (
            {"variant": "cmae", "box_high": 9},
            "box_high is 9; it must be None in the cmae variant, whose box always starts in the "
            "middle.",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(envs.ConfigurationError) as error:
        PushBox(**options)
    assert str(error.value) == sentence


def test_the_reward_is_an_option() -> None:
    env = PushBox(success_reward=7.5)
    _, timestep = play(env, make_state((2, 6), (2, 6), (1, 6)), UP, UP)
    np.testing.assert_array_equal(timestep.reward, [7.5, 7.5])


# --- Pictures ---


def test_pictures_tell_states_apart() -> None:
    for env, box in ((ENV, (5, 5)), (CMAE, (5, 5))):
        state = make_state((9, 9), (9, 10), box)
        base = env.render(state)
        assert base.shape == (540, 480, 3)
        for other in (
            make_state((9, 8), (9, 10), box),
            make_state((9, 9), (9, 9), box),
            make_state((9, 9), (9, 10), (5, 6)),
            make_state((9, 9), (9, 10), box, step_count=1),
            make_state((9, 9), (9, 10), box, boxes_delivered=1),
        ):
            assert (env.render(other) != base).any()
        np.testing.assert_array_equal(env.render(state), base)


@pytest.mark.parametrize(
    ("agents", "box", "words"),
    [
        (((9, 9), (9, 9)), (5, 5), "nobody is at the box"),
        (((6, 5), (6, 5)), (5, 5), "both can push it up"),
        (((6, 5), (6, 6)), (5, 5), "only A can push it up"),
        (((9, 9), (5, 4)), (5, 5), "only B can push it right"),
        (((4, 5), (5, 6)), (5, 5), "A can push down, B left"),
        (((1, 5), (1, 5)), (0, 5), "the box is at the wall"),
    ],
)
def test_the_status_says_who_can_push(agents: tuple[Cell, Cell], box: Cell, words: str) -> None:
    assert words in ENV.text(make_state(*agents, box))


def test_text() -> None:
    text = ENV.text(make_state((3, 1), (3, 1), (5, 5), step_count=4)).split("\n")
    assert text[1].startswith("step 4/300    boxes delivered 0")
    assert text[3] == " ".join("#" * 15)
    assert text[6] == "# * . . . . . . . . . . . . #"
    assert text[8] == "# . . . . X . . . . . . . . #"
    text = CMAE.text(make_state((3, 1), (3, 2), (5, 5))).split("\n")
    assert text[6] == ", A B . . . . . . . . . . . ,"
    assert text[7:10] == [", . . . X X X . . . . . . . ,"] * 3
    assert max(map(len, text)) <= 80
