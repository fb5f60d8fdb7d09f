"""Replay of episodes."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.turn.env import Turn
from marl_jax.loading import make_trainer
from marl_jax.replay import EpisodeReplay
from marl_jax.settings import make_settings
from marl_jax.types import EpisodeBatch
from tests import tiny
from tests.methods.learners import make_batch
from tests.probes import LIMIT


def numbered(*numbers: int) -> EpisodeBatch:
    """Episodes whose every valid reward is their number."""
    batch = make_batch(lengths=[4] * len(numbers), terminated=[False] * len(numbers))
    reward = jnp.broadcast_to(jnp.array(numbers, jnp.float32)[:, None], batch.reward.shape)
    return batch._replace(reward=reward)


def numbers_in(batch: EpisodeBatch) -> list[int]:
    reward = np.asarray(batch.reward)
    assert (reward == reward[:1, :, :1]).all(), "episodes are mixed up"
    return reward[0, :, 0].astype(int).tolist()


def test_what_goes_in_comes_out() -> None:
    replay = EpisodeReplay(8, LIMIT)
    batch = make_batch()
    state = replay.add(replay.init(jax.eval_shape(lambda: batch)), batch)
    assert int(replay.size(state)) == 3
    drawn = replay.sample(state, jax.random.key(0), 3)
    order = [
        next(
            i
            for i in range(3)
            if np.array_equal(np.asarray(drawn.reward)[0, j], np.asarray(batch.reward)[0, i])
        )
        for j in range(3)
    ]
    assert sorted(order) == [0, 1, 2]
    # After an episode's end there is nothing, and everything is allowed.
    for name in EpisodeBatch._fields[:-2]:
        expected = np.asarray(getattr(batch, name))[:, order].copy()
        for b, length in enumerate(np.asarray(batch.valid).sum(0)[order]):
            seen = name in ("observation", "global_state", "action_mask", "alive")
            expected[length + seen :, b] = name == "action_mask"
        np.testing.assert_array_equal(getattr(drawn, name), expected, name)


def test_what_is_kept_as_bits_comes_out_the_same() -> None:
    batch = make_batch()
    zeros_and_ones = (batch.observation > 0.5).astype(jnp.float32)
    batch = batch._replace(observation=zeros_and_ones)
    assert 0.0 < float(zeros_and_ones.mean()) < 1.0
    shape = batch.observation.shape[2:]
    drawn = []
    for bits in ((), (("observation", shape),)):
        replay = EpisodeReplay(8, LIMIT, bits=bits)
        state = replay.add(replay.init(jax.eval_shape(lambda: batch)), batch)
        key = jax.random.key(0)
        drawn.append((replay.sample(state, key, 3), replay.sample_transitions(state, key, 5)))
    jax.tree.map(np.testing.assert_array_equal, *drawn)
    assert state.rows.observation.dtype == jnp.uint8
    assert state.rows.observation.shape == (replay.num_rows, -(-math.prod(shape) // 8))


def test_the_oldest_go_first() -> None:
    replay = EpisodeReplay(5, LIMIT)
    state = replay.init(numbered(0))
    for first in range(1, 13, 2):
        state = jax.jit(replay.add)(state, numbered(first, first + 1))
    assert int(replay.size(state)) == 5
    assert sorted(numbers_in(replay.sample(state, jax.random.key(1), 5))) == [8, 9, 10, 11, 12]


def test_draws_are_uniform_and_without_repetition() -> None:
    replay = EpisodeReplay(6, LIMIT)
    state = replay.add(replay.init(numbered(0)), numbered(1, 2, 3, 4))
    sample = jax.jit(jax.vmap(lambda key: replay.sample(state, key, 2).reward[0, :, 0]))
    drawn = np.asarray(sample(jax.random.split(jax.random.key(2), 12_000))).astype(int)
    assert (drawn[:, 0] != drawn[:, 1]).all()
    counts = np.zeros((5, 5))
    np.add.at(counts, (drawn[:, 0], drawn[:, 1]), 1)
    pairs = counts[1:, 1:][~np.eye(4, dtype=bool)]
    assert counts[0].sum() == counts[:, 0].sum() == 0, "room not yet used was drawn"
    # The 99.9% point of chi-square with 11 degrees of freedom.
    assert ((pairs - 1000) ** 2 / 1000).sum() < 31.3


LENGTHS = (1, 1, 2, 1, 4, 1, 3, 1, 1, 2, 4, 4, 1, 2, 1, 3, 1, 1, 1, 4)


@pytest.mark.slow
def test_short_episodes_take_little_room() -> None:
    """A replay with room for four long ones holds all that fit, whole, and draws each as often as the others."""
    replay = EpisodeReplay(4, LIMIT, shortest=1)
    rows = (4 + 2) * (LIMIT + 1)
    assert (replay.num_rows, replay.most) == (rows, 16)
    state = replay.init(numbered(0))
    add = jax.jit(replay.add)
    # By hand: where each episode lies in the ring, an episode moved to the front if four steps would not fit.
    where: list[tuple[int, int]] = []
    position = 0
    for number, length in enumerate(LENGTHS, start=1):
        if position % rows > rows - (LIMIT + 1):
            position += rows - position % rows
        where.append((position, number))
        position += length + 1
        batch = numbered(number)
        steps = jnp.arange(LIMIT)[:, None]
        batch = batch._replace(
            valid=steps < length,
            reward=jnp.where(steps[..., None] < length, batch.reward, 1e9),
        )
        state = add(state, batch)
        held = [n for first, n in where[-16:] if first >= position - rows]
        assert int(replay.size(state)) == len(held)
        assert int(replay.transitions(state)) == sum(LENGTHS[n - 1] for n in held)
        assert int(replay.steps(state).sum()) == sum(LENGTHS[n - 1] for n in held)
    assert 8 < len(held) < 16
    drawn = replay.sample(state, jax.random.key(0), len(held))
    rewards, valid = np.asarray(drawn.reward)[..., 0], np.asarray(drawn.valid)
    assert sorted(rewards[0].astype(int)) == held
    for b, number in enumerate(rewards[0].astype(int)):
        assert valid[:, b].sum() == LENGTHS[number - 1]
        np.testing.assert_array_equal(rewards[:, b], np.where(valid[:, b], number, 0))
    steps = replay.sample_transitions(state, jax.random.key(1), 20_000)
    found, count = np.unique(np.asarray(steps.reward)[0, :, 0].astype(int), return_counts=True)
    assert found.tolist() == held
    expected = np.array([LENGTHS[n - 1] for n in held])
    np.testing.assert_allclose(count / 20_000, expected / expected.sum(), atol=0.015)
    stored = np.asarray(state.rows.reward)[np.asarray(replay.steps(state)), 0].astype(int)
    assert sorted(stored) == sorted(np.repeat(held, expected))


def test_who_is_not_active_stores_nothing() -> None:
    replay = EpisodeReplay(4, LIMIT, shortest=1)
    state = replay.add(replay.init(numbered(0)), numbered(1, 2))
    same = jax.jit(replay.add)(state, numbered(3), jnp.array(False))
    chex.assert_trees_all_equal(same, state)


def test_too_few_are_filled_up_with_nothing() -> None:
    replay = EpisodeReplay(6, LIMIT)
    state = replay.add(replay.init(numbered(0)), numbered(7))
    drawn = replay.sample(state, jax.random.key(3), 3)
    assert np.asarray(drawn.valid).any(0).tolist() == [True, False, False]


def test_single_steps_are_drawn_uniformly_with_the_observations_around_them() -> None:
    replay = EpisodeReplay(5, LIMIT)
    batch = make_batch(lengths=(4, 2, 3))
    # Every observation its own number, and the steps' rewards that of the observation before them.
    place = jnp.arange(15.0).reshape(5, 3)
    batch = batch._replace(
        observation=jnp.broadcast_to(place[..., None, None], batch.observation.shape),
        reward=jnp.broadcast_to(place[:-1, :, None], batch.reward.shape),
    )
    state = replay.add(replay.init(jax.eval_shape(lambda: batch)), batch)
    assert int(replay.transitions(state)) == 9
    drawn = jax.jit(replay.sample_transitions, static_argnums=2)(state, jax.random.key(0), 9000)
    assert drawn.observation.shape == (2, 9000, *batch.observation.shape[2:])
    assert drawn.action.shape == (1, 9000, batch.num_agents)
    assert np.asarray(drawn.valid).all()
    before, after = np.asarray(drawn.observation[..., 0, 0])
    np.testing.assert_array_equal(drawn.reward[0, :, 0], before)
    np.testing.assert_array_equal(after, before + 3)
    found, count = np.unique(before, return_counts=True)
    np.testing.assert_array_equal(found, np.sort(np.asarray(place[:-1])[np.asarray(batch.valid)]))
    np.testing.assert_allclose(count / 1000, 1.0, atol=0.12)


def test_nothing_stored_is_nothing_drawn() -> None:
    replay = EpisodeReplay(3, LIMIT)
    state = replay.init(jax.eval_shape(make_batch))
    assert not np.asarray(replay.sample_transitions(state, jax.random.key(0), 4).valid).any()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qmix", "maac"])
def test_what_is_learned_from_bits_is_the_same(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit."""
    learned = []
    for binary in (Turn.binary, ()):
        monkeypatch.setattr(Turn, "binary", binary)
        options = {
            "training": tiny.TRAINING,
            "env": tiny.ENV,
            "method": tiny.method_options(method),
        }
        trainer = make_trainer(make_settings(method, "turn", 2, 0, options))
        state = trainer.init()
        for _ in range(3):
            state, metrics = trainer.train_chunk(state, trainer.everyone)
        learned.append((state.method, metrics))
    jax.tree.map(np.testing.assert_array_equal, *learned)
