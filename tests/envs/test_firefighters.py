"""Firefighters: hand-worked transitions, known returns, a NumPy twin, pictures."""

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
from envs.firefighters import Firefighters, State
from tests.envs.rollouts import (
    Policy,
    mixed_policy,
    random_policy,
    returns,
    rollout,
    scripted_policy,
    side_by_side,
)
from tests.envs.twins.cross_map import SMALL, TINI, letters
from tests.envs.twins.firefighters import FirefightersTwin

UP, DOWN, LEFT, RIGHT, SPRAY, PUMP = range(6)

ENV = Firefighters()
STEP = jax.jit(ENV.step)
RESET = jax.jit(ENV.reset)
FREE = [tuple(cell) for cell in np.argwhere(letters(TINI) != "#").tolist()]
MIDDLE = (11, 10)
# Eight fires in each area: the first eight cells of the room.
BOTTOM = [(14, 9), (14, 10), (14, 11), (15, 9), (15, 10), (15, 11), (16, 9), (16, 10)]
TOP = [(2, 9), (2, 10), (2, 11), (3, 9), (3, 10), (3, 11), (4, 9), (4, 10)]


def make_state(
    *agents: tuple[int, int], out: tuple[int, ...] = (), tank: int = 4, step_count: int = 0
) -> State:
    """Agents at the given cells, the others in the middle; `out` lists fires, 0..7 at the bottom."""
    state, _ = RESET(jax.random.PRNGKey(0))
    burning = np.ones(16, bool)
    burning[list(out)] = False
    return dataclasses.replace(
        state,
        positions=jnp.array([*agents, *[MIDDLE] * (4 - len(agents))], jnp.int32),
        fires=jnp.array([BOTTOM, TOP], jnp.int32),
        burning=jnp.array(burning.reshape(2, 8)),
        tank=jnp.int32(tank),
        step_count=jnp.int32(step_count),
    )


def play(state: State, *actions: int, env: Firefighters = ENV) -> tuple[State, Any]:
    """Agents without an action go up."""
    action = jnp.array([*actions, *[UP] * (4 - len(actions))], jnp.int32)
    return (STEP if env is ENV else jax.jit(env.step))(state, action)


def test_reset() -> None:
    states, first = jax.jit(jax.vmap(ENV.reset))(jax.random.split(jax.random.PRNGKey(5), 3000))
    assert first.observation.agents_view.shape == (3000, 4, 100)
    assert first.observation.global_state.shape == (3000, 40)
    low, high = np.array([14, 9]), np.array([18, 11])
    drawn = ((states.positions, 0), (states.fires[:, 0], 0), (states.fires[:, 1], 12))
    for cells, shift in drawn:
        cells = np.asarray(cells) + np.array([shift, 0])
        assert ((cells >= low) & (cells <= high)).all()
        numbers = 3 * (cells[..., 0] - 14) + cells[..., 1] - 9
        assert (np.diff(np.sort(numbers, axis=1), axis=1) > 0).all(), "a cell was drawn twice"
        for thing in range(cells.shape[1]):
            counts = np.bincount(numbers[:, thing], minlength=15)
            # The 99.99% point of chi-square with 14 degrees of freedom: 20 checks are made.
            assert ((counts - 200) ** 2 / 200).sum() < 42.6
    assert (states.tank == 4).all()
    assert states.burning.all()


@pytest.mark.parametrize(
    ("cell", "action", "after"),
    [
        (MIDDLE, UP, (10, 10)),
        (MIDDLE, DOWN, (12, 10)),
        (MIDDLE, LEFT, (11, 9)),
        (MIDDLE, RIGHT, (11, 11)),
        (MIDDLE, SPRAY, MIDDLE),
        (MIDDLE, PUMP, MIDDLE),
        ((10, 9), UP, (10, 9)),
        ((11, 14), RIGHT, (11, 15)),  # into the river
        ((18, 9), DOWN, (18, 9)),
        ((14, 9), UP, (14, 9)),
    ],
)
def test_moves(cell: tuple[int, int], action: int, after: tuple[int, int]) -> None:
    state, timestep = play(make_state(cell), action)
    np.testing.assert_array_equal(state.positions[0], after)
    np.testing.assert_array_equal(timestep.reward, np.zeros(4))
    assert int(state.tank) == 4


def test_spraying_a_fire() -> None:
    state, timestep = play(make_state((14, 9)), SPRAY)
    assert np.flatnonzero(~np.asarray(state.burning)).tolist() == [0]
    assert int(state.tank) == 3
    assert int(timestep.extras["fires_put_out"]) == 1
    np.testing.assert_array_equal(timestep.reward, np.zeros(4))


def test_spraying_elsewhere_is_free_unless_wasteful() -> None:
    before = make_state((16, 11), (14, 9), out=(0,))
    state, _ = play(before, SPRAY, SPRAY)
    assert int(state.tank) == 4
    assert int((~state.burning).sum()) == 1
    state, _ = play(before, SPRAY, SPRAY, env=Firefighters(wasteful_spray=True))
    assert int(state.tank) == 2


def test_an_empty_tank_puts_out_nothing() -> None:
    for env in (ENV, Firefighters(wasteful_spray=True)):
        state, _ = play(make_state((14, 9), tank=0), SPRAY, env=env)
        assert int(state.tank) == 0
        assert bool(state.burning.all())


def test_the_last_unit_goes_to_the_first_agent() -> None:
    state, _ = play(make_state((14, 9), (2, 9), tank=1), SPRAY, SPRAY)
    assert np.flatnonzero(~np.asarray(state.burning)).tolist() == [0]
    assert int(state.tank) == 0


def test_two_on_one_fire_use_one_unit() -> None:
    state, _ = play(make_state((14, 9), (14, 9)), SPRAY, SPRAY)
    assert int(state.tank) == 3
    assert int((~state.burning).sum()) == 1


def test_pumping_needs_a_river() -> None:
    # In the left river, in the right one, in a corridor beside it, at a fire.
    state, timestep = play(make_state((10, 2), (12, 18), (11, 13), (14, 9)), *[PUMP] * 4)
    assert int(state.tank) == 6
    assert int(timestep.extras["water_pumped"]) == 2


def test_water_is_there_for_the_agents_after_the_pump() -> None:
    state, _ = play(make_state((11, 14), (14, 9), tank=0), PUMP, SPRAY)
    assert (int(state.tank), int((~state.burning).sum())) == (0, 1)
    state, _ = play(make_state((14, 9), (11, 14), tank=0), SPRAY, PUMP)
    assert (int(state.tank), int((~state.burning).sum())) == (1, 0)


def test_a_full_tank_takes_no_more() -> None:
    env = Firefighters(tank_capacity=5)
    state, timestep = play(make_state((11, 14), (11, 15)), PUMP, PUMP, env=env)
    assert int(state.tank) == 5
    assert int(timestep.extras["water_pumped"]) == 1


def test_the_number_of_fires_put_out_is_paid_at_the_end() -> None:
    before = make_state((14, 9), out=(3, 9, 10), step_count=28)
    _, timestep = play(before, SPRAY)
    assert timestep.mid()
    np.testing.assert_array_equal(timestep.reward, np.zeros(4))
    _, timestep = play(dataclasses.replace(before, step_count=jnp.int32(29)), SPRAY)
    assert timestep.last()
    np.testing.assert_array_equal(timestep.reward, [4] * 4)
    np.testing.assert_array_equal(timestep.discount, np.zeros(4))


def test_the_end_of_the_last_fire() -> None:
    before = make_state((14, 9), out=tuple(range(1, 16)))
    _, timestep = play(before, SPRAY)
    assert timestep.mid()
    _, timestep = play(before, SPRAY, env=Firefighters(terminate_when_out=True))
    assert timestep.last()
    np.testing.assert_array_equal(timestep.reward, [16] * 4)
    np.testing.assert_array_equal(timestep.discount, np.zeros(4))


def test_observation_by_hand() -> None:
    # A at the mouth of the right river (11, 14), B beside it in the corridor at (11, 12).
    _, timestep = play(make_state((11, 14), (11, 12)), PUMP, PUMP)
    walls, fires, river, others = np.asarray(timestep.observation.agents_view[0]).reshape(4, 5, 5)
    rows = ["11111", "11000", "00000", "11000", "11111"]
    np.testing.assert_array_equal(walls, [[int(x) for x in row] for row in rows])
    assert not fires.any()
    assert np.argwhere(river).tolist() == [[r, c] for r in (1, 2, 3) for c in (2, 3, 4)]
    assert np.argwhere(others).tolist() == [[2, 0]]
    # C in the bottom room at (14, 10) sees the eight fires, but the one it puts out.
    _, timestep = play(make_state(MIDDLE, MIDDLE, (14, 10)), PUMP, PUMP, SPRAY, PUMP)
    fires = np.asarray(timestep.observation.agents_view[2]).reshape(4, 5, 5)[1]
    cells = [(r - 12, c - 8) for r, c in BOTTOM if (r, c) != (14, 10)]
    assert sorted(map(tuple, np.argwhere(fires).tolist())) == sorted(cells)


def test_the_tank_may_be_observed() -> None:
    env = Firefighters(observe_tank=True)
    _, timestep = play(make_state((11, 14)), PUMP, env=env)
    assert timestep.observation.agents_view.shape == (4, 101)
    np.testing.assert_array_equal(timestep.observation.agents_view[:, 100], [5 / 16] * 4)


def test_global_state_by_hand() -> None:
    _, timestep = play(
        make_state((14, 10), (18, 11), tank=8, step_count=14), SPRAY, PUMP, PUMP, PUMP
    )
    vector = np.asarray(timestep.observation.global_state)
    assert np.flatnonzero(vector[:30]).tolist() == [0, 2, 3, 4, 5, 6, 7, *range(15, 23)]
    agents = np.array([(14, 10), (18, 11), MIDDLE, MIDDLE]) / 21
    np.testing.assert_allclose(vector[30:-2], agents.ravel(), rtol=1e-6)
    np.testing.assert_array_equal(vector[-2:], np.float32([7 / 16, 0.5]))


def without_pumping(env: Firefighters) -> Policy:
    """All four fight the fires of the bottom room."""

    def policy(state: Any, key: jax.Array) -> jax.Array:
        def as_first(agent: jax.Array) -> jax.Array:
            positions = state.positions.at[0].set(state.positions[agent])
            return env.scripted_action(dataclasses.replace(state, positions=positions))[0]

        return jax.vmap(as_first)(jnp.arange(4))

    return policy


def two_and_two(env: Firefighters) -> Policy:
    """The split that the paper reports: two pump, one fights at the bottom, one at the top."""

    def policy(state: Any, key: jax.Array) -> jax.Array:
        mirrored = state.positions.at[3].set(state.positions[2])
        pump = env.scripted_action(dataclasses.replace(state, positions=mirrored))[3]
        return env.scripted_action(state).at[2].set(pump)

    return policy


@pytest.mark.parametrize(
    ("make_policy", "mean", "within"),
    [
        (scripted_policy, 16.0, 0.0),
        pytest.param(without_pumping, 4.0, 0.0, marks=pytest.mark.slow),
        pytest.param(two_and_two, 15.55, 0.08, marks=pytest.mark.slow),
        (random_policy, 3.78, 0.05),
    ],
)
def test_known_returns(
    make_policy: Callable[[Firefighters], Policy], mean: float, within: float
) -> None:
    _, timesteps, _ = rollout(ENV, make_policy(ENV), 2000)
    assert abs(returns(timesteps).mean() - mean) <= within


def mixed(env: Firefighters) -> Policy:
    """Fires are put out, water is pumped, and mistakes are made."""
    return mixed_policy(env, 2 / 3)


TWINS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "wasteful": (
        {"wasteful_spray": True, "tank_capacity": 5, "observe_tank": True, "tank": 3},
        {"wasteful": True, "capacity": 5, "see_tank": True, "tank": 3},
    ),
    "small": ({"size": "small", "time_limit": 40}, {"text": SMALL, "time_limit": 40}),
    "one fire": (
        {"fires_per_area": 1, "terminate_when_out": True, "time_limit": 45},
        {"stop_when_out": True, "time_limit": 45},
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "wasteful" else [pytest.mark.slow]) for n in TWINS],
)
@pytest.mark.parametrize(
    "make_policy", [mixed, pytest.param(random_policy, marks=pytest.mark.slow)]
)
def test_the_twin_agrees_at_every_step(
    name: str, make_policy: Callable[[Firefighters], Policy]
) -> None:
    options, twin = TWINS[name]
    env = Firefighters(**options)
    episodes = 300 if make_policy is mixed else 9000 if name == "default" else 500
    totals = side_by_side(
        env, lambda start: FirefightersTwin(start, **twin), make_policy(env), episodes
    )
    if make_policy is mixed:
        most = {"default": 12, "wasteful": 5, "small": 8, "one fire": 2}[name]
        assert totals.max() >= most, "too little happened"


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(*[st.sampled_from(FREE)] * 4),
    tank=st.integers(0, 3),
    actions=st.lists(st.tuples(*[st.integers(0, 5)] * 4), min_size=1, max_size=5),
)
def test_what_may_never_happen(cells: Any, tank: int, actions: Any) -> None:
    state = make_state(*cells, tank=tank)
    for action in actions:
        before = state
        state, timestep = play(state, *action)
        assert all(tuple(cell) in FREE for cell in np.asarray(state.positions).tolist())
        assert int(state.tank) >= 0, "negative water"
        assert not bool((state.burning & ~before.burning).any()), "a fire came back"
        out = int((~state.burning).sum())
        assert out + int(state.tank) == tank + int(state.pumped), "water was lost or made"
        assert not timestep.reward.any(), "paid before the end"
        assert bool(timestep.observation.action_mask.all())
        views = np.asarray(timestep.observation.agents_view).reshape(4, 4, 25)
        assert not (views[:, 0] * views[:, 1:].sum(1)).any(), "something is inside a wall"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fires_per_area": 16}, "fires_per_area is 16; it must be at least 1 and at most 15."),
        ({"tank": -1}, "tank is -1; it must be at least 0."),
        ({"tank_capacity": 3}, "tank_capacity is 3; it must be at least tank, 4."),
        ({"size": "big"}, "size is 'big'; it must be one of: tini, small, large."),
        ({"time_limit": 1.5}, "time_limit is 1.5; it must be a whole number at least 1."),
    ],
)
def test_refused_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(envs.ConfigurationError) as caught:
        Firefighters(**options)
    assert str(caught.value) == sentence


def test_pictures_tell_states_apart() -> None:
    states = [
        make_state((2, 9)),
        make_state((2, 10)),
        make_state((2, 9), out=(3,)),
        make_state((2, 9), tank=5),
        make_state((2, 9), step_count=3),
    ]
    pictures = [ENV.render(state) for state in states]
    texts = [ENV.text(state) for state in states]
    for other in range(1, len(states)):
        assert (pictures[other] != pictures[0]).any()
        assert texts[other] != texts[0]


def test_the_text_by_hand() -> None:
    lines = ENV.text(make_state((2, 9), (11, 5), out=(0, 1), tank=7)).splitlines()
    assert lines[1] == "step 0/30    put out 2 of 16    water in the tank: 7"
    assert lines[3 + 2].replace(" ", "") == "#########A^^#########"
    assert lines[3 + 11].replace(" ", "") == "##~~~B~...*...~~~~~##"
    assert lines[3 + 14].replace(" ", "") == "#########..^#########"
