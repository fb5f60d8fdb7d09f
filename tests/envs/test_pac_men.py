"""Pac-Men and sparse Pac-Men: hand-worked transitions, known returns, a NumPy twin, pictures."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs.cross_map import CrossMap
from envs.pac_men import PacMen, SparsePacMen, State
from tests.envs.rollouts import (
    Policy,
    mixed_policy,
    random_policy,
    returns,
    rollout,
    scripted_policy,
    side_by_side,
)
from tests.envs.twins.cross_map import LARGE, SMALL, TINI, letters, room_cells, rooms
from tests.envs.twins.pac_men import PacMenTwin

UP, DOWN, LEFT, RIGHT, EAT = range(5)

ENV, CDS = PacMen(), PacMen(variant="cds")
STEP = jax.jit(ENV.step)
RESET = jax.jit(ENV.reset)
FREE = [tuple(cell) for cell in np.argwhere(letters(TINI) != "#").tolist()]
MIDDLE = (11, 10)
# Five dots in each room, at the first five of its cells.
DOTS = [
    [(2, 9), (2, 10), (2, 11), (3, 9), (3, 10)],
    [(15, 9), (15, 10), (15, 11), (16, 9), (16, 10)],
    [(10, 2), (10, 3), (10, 4), (10, 5), (11, 2)],
    [(10, 15), (10, 16), (10, 17), (10, 18), (11, 15)],
]


def make_state(
    *agents: tuple[int, int], eaten: tuple[tuple[int, int], ...] = (), step_count: int = 0
) -> State:
    """Agents at the given cells, the others in the middle; `eaten` lists (room, dot)."""
    state, _ = RESET(jax.random.PRNGKey(0))
    left, counts = np.ones((4, 5), bool), np.zeros(4, np.int32)
    for room, dot in eaten:
        left[room, dot] = False
        counts[room] += 1
    return dataclasses.replace(
        state,
        positions=jnp.array([*agents, *[MIDDLE] * (4 - len(agents))], jnp.int32),
        dots=jnp.array(DOTS, jnp.int32),
        left=jnp.array(left),
        eaten=jnp.array(counts),
        step_count=jnp.int32(step_count),
    )


def play(state: State, *actions: int, env: PacMen = ENV) -> tuple[State, Any]:
    """Agents without an action walk up and down the middle: they go up."""
    action = jnp.array([*actions, *[UP] * (4 - len(actions))], jnp.int32)
    return (STEP if env is ENV else jax.jit(env.step))(state, action)


@pytest.mark.parametrize(("size", "text"), [("tini", TINI), ("small", SMALL), ("large", LARGE)])
def test_the_map_is_that_of_cds(size: str, text: str) -> None:
    ours, theirs = CrossMap(size), letters(text)
    np.testing.assert_array_equal(ours.layout.walls, theirs == "#")
    np.testing.assert_array_equal(ours.centre, np.argwhere(theirs == "A"))
    dots = rooms(theirs, [tuple(cell) for cell in np.argwhere(theirs == "d").tolist()])
    np.testing.assert_array_equal(ours.inner, dots)
    np.testing.assert_array_equal(ours.rooms, room_cells(theirs))


def test_distances_of_the_specification() -> None:
    map_ = CrossMap("tini")
    start = jnp.array(MIDDLE)
    found = [
        map_.layout.distance(start, jnp.asarray(cells)).astype(int).tolist() for cells in map_.inner
    ]
    assert [(min(d), max(d)) for d in found] == [(6, 10), (4, 8), (5, 9), (5, 9)]


def test_reset() -> None:
    keys = jax.random.split(jax.random.PRNGKey(5), 4000)
    states, first = jax.jit(jax.vmap(ENV.reset))(keys)
    assert first.observation.agents_view.shape == (4000, 4, 75)
    assert first.observation.global_state.shape == (4000, 57)
    starts = np.asarray(states.positions) - MIDDLE
    assert np.abs(starts).max() == 1
    numbers = np.sort(3 * starts[..., 0] + starts[..., 1], axis=1)
    assert (np.diff(numbers, axis=1) > 0).all(), "two agents start on one cell"
    # Each agent starts on each of the nine cells, each dot lies on each of the twelve, equally often.
    for agent in range(4):
        check_uniform(3 * starts[:, agent, 0] + starts[:, agent, 1] + 4, 9)
    inner = CrossMap("tini").inner
    for room in range(4):
        dots = np.asarray(states.dots)[:, room]
        where = (dots[:, :, None] == inner[room]).all(-1)
        assert (where.sum(-1) == 1).all(), "a dot lies outside its room"
        assert (where.sum(1) <= 1).all(), "two dots lie on one cell"
        for dot in range(5):
            check_uniform(where[:, dot].argmax(-1), 12)
    assert states.left.all()
    assert not states.eaten.any()


def check_uniform(numbers: np.ndarray, kinds: int) -> None:
    counts = np.bincount(numbers, minlength=kinds)
    assert counts.shape == (kinds,)
    expected = len(numbers) / kinds
    # The 99.99% points of chi-square with 8 and 11 degrees of freedom: 24 checks are made.
    assert ((counts - expected) ** 2 / expected).sum() < {9: 31.8, 12: 37.4}[kinds]


@pytest.mark.parametrize(
    ("cell", "action", "after"),
    [
        (MIDDLE, UP, (10, 10)),
        (MIDDLE, DOWN, (12, 10)),
        (MIDDLE, LEFT, (11, 9)),
        (MIDDLE, RIGHT, (11, 11)),
        (MIDDLE, EAT, MIDDLE),
        ((10, 9), UP, (10, 9)),  # walls stop
        ((10, 9), LEFT, (10, 9)),
        ((11, 9), LEFT, (11, 8)),  # the left corridor
        ((8, 10), LEFT, (8, 10)),
        ((8, 10), RIGHT, (8, 10)),
        ((2, 9), UP, (2, 9)),
        ((18, 11), DOWN, (18, 11)),
        ((10, 2), LEFT, (10, 2)),
        ((12, 18), RIGHT, (12, 18)),
    ],
)
def test_moves(cell: tuple[int, int], action: int, after: tuple[int, int]) -> None:
    state, timestep = play(make_state(cell), action)
    np.testing.assert_array_equal(state.positions[0], after)
    np.testing.assert_array_equal(timestep.reward, np.zeros(4))


def test_eating_takes_the_dot_and_pays_nothing_yet() -> None:
    state, timestep = play(make_state((2, 9), (15, 9)), EAT, UP)
    assert not bool(state.left[0, 0])
    assert int(state.left.sum()) == 19
    np.testing.assert_array_equal(state.eaten, [1, 0, 0, 0])
    np.testing.assert_array_equal(timestep.reward, np.zeros(4))
    assert int(timestep.extras["dots_eaten"]) == 1
    assert int(timestep.extras["fewest_in_a_room"]) == 0


def test_standing_on_a_dot_or_eating_beside_it_is_not_enough() -> None:
    state, _ = play(make_state((3, 9), (4, 9)), UP, EAT)
    assert bool(state.left.all())


def test_a_dot_is_eaten_once() -> None:
    state, _ = play(make_state((2, 9), (2, 9), (2, 9)), EAT, EAT, EAT)
    np.testing.assert_array_equal(state.eaten, [1, 0, 0, 0])
    state, _ = play(state, EAT, EAT, EAT)
    np.testing.assert_array_equal(state.eaten, [1, 0, 0, 0])


def test_the_total_is_paid_at_the_end() -> None:
    eaten = ((0, 0), (0, 1), (1, 0), (2, 3))
    before = make_state((15, 10), eaten=eaten, step_count=22)
    middle, timestep = play(before, EAT)
    np.testing.assert_array_equal(timestep.reward, np.zeros(4))
    assert timestep.mid()
    _, timestep = play(dataclasses.replace(middle, positions=make_state((15, 11)).positions), EAT)
    np.testing.assert_array_equal(timestep.reward, [6, 6, 6, 6])
    assert timestep.last()
    np.testing.assert_array_equal(timestep.discount, np.zeros(4))


def test_the_sparse_reward_is_the_smallest_room() -> None:
    env = SparsePacMen()
    three = ((0, 0), (1, 0), (2, 3))
    _, timestep = play(make_state(eaten=(*three, (0, 1)), step_count=23), env=env)
    np.testing.assert_array_equal(timestep.reward, np.zeros(4))
    _, timestep = play(make_state((10, 15), eaten=(*three, (0, 1)), step_count=23), EAT, env=env)
    np.testing.assert_array_equal(timestep.reward, np.ones(4))


def test_the_end_of_the_last_dot() -> None:
    all_but_one = tuple((room, dot) for room in range(4) for dot in range(5))[1:]
    state = make_state((2, 9), eaten=all_but_one)
    _, timestep = play(state, EAT)
    assert timestep.mid()
    _, timestep = play(state, EAT, env=PacMen(terminate_when_empty=True))
    assert timestep.last()
    np.testing.assert_array_equal(timestep.reward, [20] * 4)
    np.testing.assert_array_equal(timestep.discount, np.zeros(4))


def cds_state(*agents: tuple[int, int]) -> State:
    state, _ = CDS.reset(jax.random.PRNGKey(0))
    return dataclasses.replace(
        make_state(*agents),
        dots=jnp.array([room[:3] for room in DOTS], jnp.int32),
        left=jnp.ones((4, 3), bool),
        key=state.key,
    )


def test_cds_pays_at_once_and_fines_who_does_not_eat() -> None:
    _, timestep = play(cds_state(), env=CDS)
    np.testing.assert_allclose(timestep.reward, [-0.1] * 4, rtol=1e-6)
    # Two share a dot, one eats alone, one eats nothing: 1/2 + 1/2 + 1 - 0.025.
    state = cds_state((2, 9), (2, 9), (15, 9))
    state, timestep = play(state, EAT, EAT, EAT, EAT, env=CDS)
    np.testing.assert_allclose(timestep.reward, [1.975] * 4, rtol=1e-6)
    np.testing.assert_array_equal(state.eaten, [1, 1, 0, 0])


def test_cds_brings_new_dots_when_the_last_is_eaten() -> None:
    state = cds_state((2, 9))
    last = dataclasses.replace(state, left=jnp.zeros((4, 3), bool).at[0, 0].set(True))
    after, _ = play(last, EAT, env=CDS)
    assert bool(after.left.all())
    assert (np.asarray(after.dots) != np.asarray(last.dots)).any()
    after, _ = play(dataclasses.replace(last, left=last.left.at[1, 1].set(True)), EAT, env=CDS)
    assert int(after.left.sum()) == 1
    np.testing.assert_array_equal(after.dots, last.dots)


def test_observation_by_hand() -> None:
    # A in the room's corner (2, 9), B two below it; a wall of two rows above and two columns to the
    # left. Of the dots (2, 9), (2, 10), (2, 11), (3, 9), (3, 10) A eats its own.
    state = make_state((2, 9), (4, 9))
    _, timestep = play(state, EAT, EAT)
    walls, dots, others = np.asarray(timestep.observation.agents_view[0]).reshape(3, 5, 5)
    expected = np.ones((5, 5))
    expected[2:, 2:] = 0
    np.testing.assert_array_equal(walls, expected)
    assert np.argwhere(dots).tolist() == [[2, 3], [2, 4], [3, 2], [3, 3]]
    assert np.argwhere(others).tolist() == [[4, 2]]
    # B sees A two above it, and the same dots.
    walls, dots, others = np.asarray(timestep.observation.agents_view[1]).reshape(3, 5, 5)
    assert np.argwhere(others).tolist() == [[0, 2]]
    assert np.argwhere(dots).tolist() == [[0, 3], [0, 4], [1, 2], [1, 3]]


def test_global_state_by_hand() -> None:
    state = make_state((2, 9), (18, 11), step_count=11)
    _, timestep = play(state, EAT, DOWN, EAT, EAT)
    vector = np.asarray(timestep.observation.global_state)
    np.testing.assert_array_equal(vector[-1], np.float32(0.5))
    # Rooms' cells row by row: 12 each. The left room is 4 wide: (11, 2) is its fifth cell.
    dots = [1, 2, 3, 4, 12, 13, 14, 15, 16, 24, 25, 26, 27, 28, 36, 37, 38, 39, 40]
    assert np.flatnonzero(vector[:48]).tolist() == dots
    agents = np.array([(2, 9), (18, 11), MIDDLE, MIDDLE]) / 21
    np.testing.assert_allclose(vector[48:-1], agents.ravel(), rtol=1e-6)


def test_an_agent_that_empties_a_room_hardly_reaches_a_second() -> None:
    """With the best start and dots, 24 steps for a whole room and the first dot of another."""
    map_ = CrossMap("tini")

    def shortest(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.asarray(map_.layout.distance(jnp.asarray(cells)[:, None], jnp.asarray(others)))

    steps = []
    for room in range(4):
        moves = shortest(map_.inner[room], map_.inner[room])
        elsewhere = np.concatenate([map_.inner[other] for other in range(4) if other != room])
        onward = shortest(map_.inner[room], elsewhere).min(1)
        # (cells eaten, the last of them) -> fewest moves.
        first = shortest(map_.centre, map_.inner[room]).min(0)
        fewest = {(frozenset([i]), i): first[i] for i in range(12)}
        for _ in range(4):
            longer: dict[Any, float] = {}
            for (cells, last), so_far in fewest.items():
                for i in set(range(12)) - cells:
                    key = (cells | {i}, i)
                    longer[key] = min(longer.get(key, np.inf), so_far + moves[last, i])
            fewest = longer
        steps.append(min(so_far + onward[last] for (_, last), so_far in fewest.items()) + 5 + 1)
    assert np.array(steps).tolist() == [27, 24, 25, 25]


@pytest.mark.parametrize(
    ("env", "make_policy", "mean", "within"),
    [
        (ENV, random_policy, 0.35, 0.07),
        (SparsePacMen(), scripted_policy, 5.0, 0.0),
        pytest.param(SparsePacMen(), random_policy, 0.0, 0.002, marks=pytest.mark.slow),
        pytest.param(CDS, random_policy, -7.06, 0.2, marks=pytest.mark.slow),
        pytest.param(CDS, scripted_policy, 114.0, 0.6, marks=pytest.mark.slow),
    ],
    ids=["random", "sparse optimum", "sparse random", "cds random", "cds script"],
)
def test_known_returns(
    env: PacMen, make_policy: Callable[[PacMen], Policy], mean: float, within: float
) -> None:
    _, timesteps, _ = rollout(env, make_policy(env), 1000)
    assert abs(returns(timesteps).mean() - mean) <= within


def test_the_script_collects_everything_in_every_episode() -> None:
    _, timesteps, _ = rollout(ENV, scripted_policy(ENV), 500)
    np.testing.assert_array_equal(returns(timesteps), np.full(500, 20.0))


def mixed(env: PacMen) -> Policy:
    """Dots are eaten and mistakes are made."""
    return mixed_policy(env, 0.75)


TWINS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "eoi": ({}, {"text": TINI}, 8000),
    "sparse": ({"sparse": True}, {"text": TINI, "reward": "min_over_rooms"}, 9500),
    "sparse, small": (
        {"sparse": True, "size": "small", "time_limit": 40},
        {"text": SMALL, "reward": "min_over_rooms", "time_limit": 40},
        100,
    ),
    "large": (
        {"size": "large", "dots_per_room": 12, "time_limit": 60},
        {"text": LARGE, "time_limit": 60},
        200,
    ),
    "cds": (
        {"variant": "cds"},
        {
            "text": TINI,
            "time_limit": 100,
            "reward": "dense",
            "respawn": True,
            "values": True,
        },
        1000,
    ),
    "one dot": (
        {"dots_per_room": 1, "terminate_when_empty": True, "state": "values", "size": "small"}
        | {"observation": "values", "time_limit": 40},
        {"text": SMALL, "stop_when_empty": True, "values": True, "time_limit": 40},
        500,
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("sparse, small", "cds") else [pytest.mark.slow])
        for n in TWINS
    ],
)
@pytest.mark.parametrize(
    "make_policy", [mixed, pytest.param(random_policy, marks=pytest.mark.slow)]
)
def test_the_twin_agrees_at_every_step(name: str, make_policy: Callable[[PacMen], Policy]) -> None:
    options, twin, episodes = TWINS[name]
    options = dict(options)
    env = (SparsePacMen if options.pop("sparse", False) else PacMen)(**options)
    if make_policy is mixed:
        episodes = 300
    totals = side_by_side(env, lambda start: PacMenTwin(start, **twin), make_policy(env), episodes)
    if make_policy is mixed:
        assert totals.max() > (0 if name.startswith("sparse") else 3), "too little happened"


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(*[st.sampled_from(FREE)] * 4),
    actions=st.lists(st.tuples(*[st.integers(0, 4)] * 4), min_size=1, max_size=5),
)
def test_what_may_never_happen(cells: Any, actions: Any) -> None:
    state = make_state(*cells)
    for action in actions:
        before = state
        state, timestep = play(state, *action)
        moved = np.abs(np.asarray(state.positions - before.positions)).sum(axis=1)
        assert (moved <= 1).all(), "an agent jumped"
        assert not moved[np.array(action) == EAT].any(), "an agent moved while eating"
        assert all(tuple(cell) in FREE for cell in np.asarray(state.positions).tolist())
        assert not bool((state.left & ~before.left).any()), "a dot came back"
        assert int(state.left.sum() + state.eaten.sum()) == 20, "a dot was eaten twice or lost"
        assert not timestep.reward.any(), "paid before the end"
        assert bool(timestep.observation.action_mask.all())
        views = np.asarray(timestep.observation.agents_view).reshape(4, 3, 25)
        assert set(np.unique(views)) <= {0.0, 1.0}
        assert not (views[:, 0] * (views[:, 1] + views[:, 2])).any(), "something is inside a wall"
        assert not views[:, 0, 12].any(), "an agent sees a wall where it stands"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "mao"}, "variant is 'mao'; it must be one of: eoi, cds."),
        ({"size": "huge"}, "size is 'huge'; it must be one of: tini, small, large."),
        ({"dots_per_room": 13}, "dots_per_room is 13; it must be at least 1 and at most 12."),
        ({"time_limit": 0}, "time_limit is 0; it must be at least 1."),
        (
            {"respawn": True, "reward": "total"},
            "respawn is true; with reward 'total' it must be false: the state would not tell what "
            "will be paid.",
        ),
        (
            {"variant": "cds", "reward": "dense", "terminate_when_empty": True},
            "terminate_when_empty is True; it must be false where dots respawn.",
        ),
        ({"reward": "min"}, "reward is 'min'; it must be one of: total, min_over_rooms, dense."),
    ],
)
def test_refused_options(options: dict[str, Any], sentence: str) -> None:
    for cls in (PacMen, SparsePacMen):
        with pytest.raises(envs.ConfigurationError) as caught:
            cls(**options)
        assert str(caught.value) == sentence


def test_pictures_tell_states_apart() -> None:
    base = make_state((2, 9), (2, 9), (5, 10))
    states = [
        base,
        make_state((2, 9), (2, 10), (5, 10)),
        make_state((2, 9), (2, 9), (5, 11)),
        make_state((2, 9), (2, 9), (5, 10), eaten=((0, 4),)),
        make_state((2, 9), (2, 9), (5, 10), step_count=3),
    ]
    pictures = [ENV.render(state) for state in states]
    texts = [ENV.text(state) for state in states]
    for other in range(1, len(states)):
        assert (pictures[other] != pictures[0]).any()
        assert texts[other] != texts[0]
    np.testing.assert_array_equal(ENV.render(base), pictures[0])


def test_a_long_status_stays_within_the_picture() -> None:
    env = PacMen(variant="cds")
    state, _ = env.reset(jax.random.PRNGKey(0))
    state = dataclasses.replace(state, eaten=jnp.full((4,), 28), step_count=jnp.int32(100))
    picture = env.render(state)
    heading = picture[:55]
    assert (heading != 255).any(), "there is no heading"
    assert (heading[:, :4] == 255).all(), "the heading is cut off"
    assert (heading[:, -4:] == 255).all(), "the heading is cut off"


def test_the_text_by_hand() -> None:
    lines = ENV.text(make_state((2, 9), (4, 9), eaten=((0, 0), (1, 0)), step_count=7)).splitlines()
    assert lines[1] == "step 7/24    dots eaten 2  (top 1, bottom 1, left 0, right 0)"
    assert lines[3 + 2] == "# # # # # # # # # A o o # # # # # # # # #"
    assert lines[3 + 4] == "# # # # # # # # # B . . # # # # # # # # #"
    # Two agents stand in the middle.
    assert lines[3 + 11].replace(" ", "") == "##o.......*....o...##"
