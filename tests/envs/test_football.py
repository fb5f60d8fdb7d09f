"""Football: hand-worked transitions, known returns, a NumPy twin, pictures."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.types import TimeStep

import envs
from envs.base import Observation
from envs.football import Football, State, rules
from tests.envs.rollouts import (
    Policy,
    mixed_policy,
    random_policy,
    returns,
    rollout,
    scripted_policy,
    side_by_side,
)
from tests.envs.twins.football import FootballTwin

RIGHT, UP, STAY, PASS, SHOT = 0, 2, 8, 9, 10

ENV = Football()
STEP, RESET = jax.jit(ENV.step), jax.jit(ENV.reset)
START, _ = RESET(jax.random.key(0))


def scene(
    agents: list[tuple[int, int]],
    defenders: list[tuple[int, int]] | None = None,
    owner: int = 0,
    **changes: Any,
) -> State:
    """These players, the keeper first; the others far from them in a corner.

    Args:
        agents: places of the first agents.
        defenders: places of the keeper and of the first others.
        owner: who has the ball; -1 with `ball` among the changes.
        **changes: further fields.
    """
    there = [*agents, *[(-1000, 420)] * (10 - len(agents))]
    against = [*(defenders or [(980, 0)])]
    against += [(-1000, -420)] * (10 - len(against))
    ball = changes.pop("ball", there[owner])
    return dataclasses.replace(
        START,
        positions=jnp.array(there, jnp.int32),
        defenders=jnp.array(against, jnp.int32),
        ball=jnp.array(ball, jnp.int32),
        owner=jnp.int32(owner),
        **{name: jnp.array(value, jnp.int32) for name, value in changes.items()},
    )


def play(state: State, *actions: int) -> tuple[State, TimeStep[Observation]]:
    """Agents without an action stay."""
    return STEP(state, jnp.array([*actions, *[STAY] * (10 - len(actions))], jnp.int32))


def test_directions() -> None:
    steps = rules.steps_of(jnp.arange(11), 20).tolist()
    assert steps[:4] == [[20, 0], [14, 14], [0, 20], [-14, 14]]
    assert steps[4:8] == [[-x, -y] for x, y in steps[:4]]
    assert steps[8:] == [[0, 0]] * 3
    assert rules.heading(jnp.array(steps[:9])).tolist() == list(range(9))
    assert rules.heading(jnp.array([[100, 39], [100, 41], [39, 100]])).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("way", "speed", "flight"),
    [
        ((300, 0), 100, (100, 0)),
        ((-3, 4), 100, (-60, 80)),
        ((1, 1), 100, (50, 50)),  # as if it were 2 long, which is nowhere too short
        ((0, 0), 100, (0, 0)),
        ((100, -1), 200, (198, -1)),  # 101 long
    ],
)
def test_how_far_a_ball_flies(way: tuple[int, int], speed: int, flight: tuple[int, int]) -> None:
    assert tuple(rules.velocity(jnp.array(way), speed).tolist()) == flight
    assert rules.slowed(jnp.array([100, -9])).tolist() == [90, -8]


TAKES: dict[str, tuple[tuple[int, int], tuple[int, int], list[tuple[int, int]], list[int], int]] = {
    # where the ball is, how it flies, the players, their reach, who takes it
    "the first on its way": ((0, 0), (100, 0), [(90, 0), (50, 19), (95, 0)], [20, 20, 20], 1),
    "nobody near": ((0, 0), (100, 0), [(50, 21), (121, 0), (-21, 0)], [20, 20, 20], -1),
    "at its end": ((0, 0), (100, 0), [(200, 0), (116, 12)], [20, 20], 1),
    "at its start": ((0, 0), (100, 0), [(10, 0), (-12, -16)], [20, 20], 1),
    "the kicker may not": ((0, 0), (100, 0), [(0, 0), (70, 0)], [-1, 20], 1),
    "a ball at rest: the nearest": ((0, 0), (0, 0), [(0, 20), (0, 19), (19, 0)], [20, 20, 20], 1),
    "aslant": ((0, 0), (60, 80), [(48, 14), (46, 12)], [20, 30], 1),  # 30 and 29.6 beside it
}


@pytest.mark.parametrize("name", TAKES)
def test_who_takes_a_flying_ball(name: str) -> None:
    ball, flight, players, reach, expected = TAKES[name]
    taker, scored, out = rules.fly(*map(jnp.array, (ball, flight, players, reach)))
    assert np.flatnonzero(taker).tolist() == ([expected] if expected >= 0 else [])
    assert not scored
    assert not out


@pytest.mark.parametrize(
    ("ball", "flight", "keeper", "outcome"),
    [
        ((900, 0), (200, 0), (980, 30), "goal"),
        ((900, 0), (200, 0), (980, 20), "taken"),
        ((900, 0), (100, 0), (980, 30), "nothing"),  # on the line is not behind it
        ((900, 0), (200, 87), (980, -44), "goal"),  # crosses at 43.5
        ((900, 0), (200, 88), (980, -44), "out"),  # at 44
        ((900, 400), (0, 30), (980, 0), "out"),
        ((900, 60), (200, -120), (980, -44), "goal"),
        ((995, 0), (200, 0), (1000, 0), "goal"),  # behind the line is too late
    ],
)
def test_goals_and_outs(
    ball: tuple[int, int], flight: tuple[int, int], keeper: tuple[int, int], outcome: str
) -> None:
    taker, scored, out = rules.fly(*map(jnp.array, (ball, flight, [keeper], [20])))
    found = [bool(x) for x in (scored, jnp.any(taker), out)]
    assert found == [outcome == name for name in ("goal", "taken", "out")]


def test_whom_a_pass_is_meant_for() -> None:
    places = jnp.array([(0, 0), (300, 10), (20, -1), (-100, 0), (0, 50)])
    ways = [(20, 0), (0, 20), (-14, 14), (0, -20)]
    found = [int(jnp.argmax(rules.receiver(places, jnp.int32(0), jnp.array(w)))) for w in ways]
    assert found == [1, 4, 3, 2]


def test_reset() -> None:
    keys = jax.random.split(jax.random.key(1), 1000)
    states, _ = jax.jit(jax.vmap(ENV.reset))(keys)
    places = np.concatenate([states.positions, states.defenders], axis=1)
    spread = np.ptp(places, axis=0)
    assert spread[10].tolist() == [0, 0]
    assert np.delete(spread, 10, axis=0).tolist() == [[100, 100]] * 19
    np.testing.assert_allclose(places.mean(0)[:3], [(250, -100), (250, 100), (500, -316)], atol=4)
    owner = np.asarray(states.owner)
    assert set(owner.tolist()) == {0, 1}
    assert abs(owner.mean() - 0.5) < 0.06
    np.testing.assert_array_equal(states.ball, states.positions[np.arange(1000), owner])


def test_dribbling() -> None:
    state, timestep = play(scene([(0, 0), (990, 410)]), RIGHT, UP)
    assert state.positions[:2].tolist() == [[20, 0], [990, 420]]
    assert state.moved[:2].tolist() == [[20, 0], [0, 10]]
    assert (state.ball.tolist(), int(state.owner)) == ([20, 0], 0)
    assert timestep.mid()
    np.testing.assert_array_equal(timestep.reward, np.zeros(10))
    mask = np.asarray(timestep.observation.action_mask)
    assert mask[0].all()
    assert mask[1].tolist() == [True] * 9 + [False] * 2


def test_who_has_not_the_ball_cannot_kick() -> None:
    state, _ = play(scene([(0, 0), (100, 0)]), STAY, SHOT)
    assert (state.ball.tolist(), int(state.owner)) == ([0, 0], 0)
    assert state.positions[1].tolist() == [100, 0]


def test_tackles() -> None:
    # Two defenders end within 30 of the ball, which is lost with 1 - 0.8^2.
    before = scene([(0, 0)], [(980, 0), (30, 0), (-35, 0), (60, 0)])
    keys = jax.random.split(jax.random.key(0), 500)
    stay = jnp.full(10, STAY)
    step = jax.jit(jax.vmap(lambda k: ENV.step(dataclasses.replace(before, key=k), stay)))
    states, timesteps = step(keys)
    lost = np.asarray(states.owner) > 0
    assert abs(lost.mean() - (1 - 0.8**2)) < 0.07
    assert set(np.asarray(states.owner)[lost].tolist()) == {11, 12}
    np.testing.assert_allclose(timesteps.reward[:, 0], np.where(lost, -0.2, 0), rtol=1e-6)
    np.testing.assert_array_equal(timesteps.discount[:, 0], np.where(lost, 0, 1))


def test_a_pass_arrives() -> None:
    # 1 runs up at 20 a step, and 300 off it will be 60 farther: the pass goes to (300, 60), 306 off.
    before = scene([(0, 0), (300, 0)], moved=[(20, 0), (0, 20), *[(0, 0)] * 8])
    state, timestep = play(before, PASS, UP)
    assert (int(state.owner), state.ball.tolist()) == (-1, [98, 19])
    assert state.flight.tolist() == [88, 17]
    assert not timestep.observation.action_mask[:, PASS].any()
    for _ in range(2):
        state, timestep = play(state, STAY, UP)
    assert state.ball.tolist() == [98 + 88 + 79, 19 + 17 + 15]
    state, timestep = play(state, STAY, STAY)
    assert (int(state.owner), state.ball.tolist()) == (1, [300, 60])
    assert state.flight.tolist() == [0, 0]
    np.testing.assert_array_equal(timestep.reward, np.zeros(10))


def test_a_pass_is_intercepted() -> None:
    state, timestep = play(scene([(0, 0), (300, 0)], [(980, 0), (60, 0)]), PASS)
    assert int(state.owner) == 11
    assert timestep.last()
    np.testing.assert_allclose(timestep.reward, np.full(10, -0.2), rtol=1e-6)
    np.testing.assert_array_equal(timestep.discount, np.zeros(10))


def test_a_goal() -> None:
    # From 50 off a shot misses its aim, 32 off the middle, by at most 6.
    state, timestep = play(scene([(950, 0)], [(980, -30)]), SHOT)
    assert bool(state.scored)
    assert timestep.last()
    np.testing.assert_array_equal(timestep.reward, np.ones(10))
    np.testing.assert_array_equal(timestep.discount, np.zeros(10))
    assert float(timestep.extras["scored"]) == 1.0


def test_a_keeper_saves() -> None:
    state, timestep = play(
        scene([(900, 40)], [(980, 30)], owner=-1, ball=(900, 0), flight=(200, 60))
    )
    assert int(state.owner) == 10
    assert float(timestep.reward[0]) == pytest.approx(-0.2)
    assert not state.scored


def test_out() -> None:
    state, timestep = play(scene([(0, 0)], owner=-1, ball=(500, 400), flight=(0, 60)))
    assert timestep.last()
    assert float(timestep.reward[0]) == pytest.approx(-0.2)
    assert (int(state.owner), state.ball.tolist()) == (-1, [500, 460])


def test_defenders() -> None:
    # 1 and 2 are nearest and run at the ball; 3, alone of its place, goes to the line between ball and goal.
    before = scene([(500, 100)], [(980, 0), (560, 100), (500, 30), (900, 300)])
    state, _ = play(before)
    assert state.defenders[:3].tolist() == [[980, 8], [544, 100], [500, 46]]
    # Its goal is 7/16 of the way and 110 beside it: (718, 167).
    assert state.defenders[3].tolist() == [889, 289]
    # The keeper goes where the ball will come: 40 a step aside, from 200 off in one step.
    flying = scene([(0, 0)], [(980, 0)], owner=-1, ball=(780, 0), flight=(100, -10))
    assert play(flying)[0].defenders[0].tolist() == [980, -8]


def test_observation_by_hand() -> None:
    before = scene([(0, 0), (100, 0), (40, 30)], [(980, 0), (0, -200)])
    _, timestep = play(before, RIGHT, RIGHT)
    view = np.asarray(timestep.observation.agents_view)
    assert view.shape == (10, 50)
    np.testing.assert_allclose(view[1, :8], [0.12, 0, 1, 0, -0.1, 0, 0, 0], atol=1e-6)
    assert view[:3, 8:12].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    np.testing.assert_allclose(view[1, 12:16], [-0.08, 0.03, -0.1, 0], atol=1e-6)
    # The defender ran straight up, for the ball was there.
    np.testing.assert_allclose(view[0, 30:34], [-0.02, -0.184, 0.96, 0], atol=1e-6)
    numbers = np.asarray(timestep.observation.global_state)
    assert numbers.shape == (86,)
    np.testing.assert_allclose(numbers[:4], [0.02, 0, 0.12, 0], atol=1e-6)
    np.testing.assert_allclose(numbers[40:42], [0.02, 0], atol=1e-6)
    assert np.flatnonzero(numbers[64:85]).tolist() == [1]
    assert numbers[85] == pytest.approx(0.01)


def test_nobodys_number_is_seen() -> None:
    """Two mates who change places change nothing for a third."""
    state, _ = RESET(jax.random.key(3))
    order = np.array([0, 1, 2, 9, 4, 5, 6, 7, 8, 3])
    swapped = dataclasses.replace(state, positions=state.positions[order])
    observe = jax.jit(ENV._observe)
    views = [np.asarray(observe(s).agents_view) for s in (state, swapped)]
    np.testing.assert_array_equal(views[0][order], views[1])


def test_the_time_limit_cuts_off() -> None:
    _, timestep = play(dataclasses.replace(scene([(0, 0)]), step_count=jnp.int32(99)))
    assert timestep.last()
    np.testing.assert_array_equal(timestep.discount, np.ones(10))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_policy", "mean", "within"),
    [(scripted_policy, 0.48, 0.07), (random_policy, -0.18, 0.02)],
)
def test_known_returns(
    make_policy: Callable[[Football], Policy], mean: float, within: float
) -> None:
    _, timesteps, _ = rollout(ENV, make_policy(ENV), 1000)
    assert abs(returns(timesteps).mean() - mean) <= within


OTHER = {"num_agents": 3, "num_defenders": 5, "time_limit": 40, "start_noise": 0.1}
CHANCES = {"tackle": 0.5, "defender_speed": 25, "shot_spread": 0.4}
TWINS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "default": ({}, {}, 10_000),
    "other": (
        {**OTHER, **CHANCES},
        {"time_limit": 40, "tackle": 0.5, "speed": (25, 18), "spread": 0.4},
        1000,
    ),
}


def mostly(env: Football) -> Policy:
    """Four fifths script, one fifth chance."""
    return mixed_policy(env, 0.8)


def check_twin(name: str, make_policy: Callable[[Football], Policy], episodes: int) -> np.ndarray:
    options, twin, _ = TWINS[name]
    env = Football(**options)
    make_twin = functools.partial(FootballTwin, **twin)
    return side_by_side(env, make_twin, make_policy(env), episodes)


def test_the_twin_agrees() -> None:
    totals = check_twin("other", mostly, 100)
    assert (totals > 0).sum() > 5, "too little happened"


@pytest.mark.slow
@pytest.mark.parametrize("make_policy", [mostly, random_policy])
@pytest.mark.parametrize("name", TWINS)
def test_the_twin_agrees_at_every_step(
    name: str, make_policy: Callable[[Football], Policy]
) -> None:
    check_twin(name, make_policy, TWINS[name][2] if make_policy is random_policy else 1000)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_agents": 1}, "num_agents is 1; it must be at least 2 and at most 10."),
        ({"num_defenders": 11}, "num_defenders is 11; it must be at least 1 and at most 10."),
        ({"tackle": 1.5}, "tackle is 1.5; it must be at least 0 and at most 1."),
        ({"loss_reward": 1.0}, "loss_reward is 1.0; it must be at least -1 and at most 0."),
        ({"start_noise": 0.2}, "start_noise is 0.2; it must be at least 0 and at most 0.1."),
    ],
)
def test_refused_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(envs.ConfigurationError) as caught:
        Football(**options)
    assert str(caught.value) == sentence


def test_features_that_are_an_agents_own() -> None:
    assert ENV.own_features.sum(axis=1).tolist() == [12] * 10
    assert ENV.body_features.sum(axis=1).tolist() == [4] * 10


def test_pictures_tell_states_apart() -> None:
    base = scene([(700, 100)], [(980, 0), (850, 0)])
    states = [
        base,
        scene([(720, 100)], [(980, 0), (850, 0)]),
        scene([(700, 100)], [(980, 40), (850, 0)]),
        scene([(700, 100)], [(980, 0), (900, 0)]),
        dataclasses.replace(base, owner=jnp.int32(-1)),
        dataclasses.replace(base, owner=jnp.int32(11)),
        dataclasses.replace(base, scored=jnp.array(True)),
    ]
    texts = [ENV.text(state) for state in states]
    assert len(set(texts)) == len(states)
    assert max(map(len, texts[0].splitlines())) <= 80
    flying = dataclasses.replace(base, flight=jnp.array([100, 0], jnp.int32))
    assert (ENV.render(base) != ENV.render(flying)).any()
