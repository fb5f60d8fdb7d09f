"""Replay of episodes."""

import jax
import jax.numpy as jnp
import numpy as np

from marl_jax.replay import EpisodeReplay
from marl_jax.types import EpisodeBatch
from tests.methods.learners import make_batch


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
    replay = EpisodeReplay(8)
    batch = make_batch()
    state = replay.add(replay.init(jax.eval_shape(lambda: batch)), batch)
    assert int(replay.size(state)) == 3
    drawn = replay.sample(state, jax.random.key(0), 3)
    order = [
        next(
            i
            for i in range(3)
            if np.array_equal(np.asarray(drawn.reward)[:, j], np.asarray(batch.reward)[:, i])
        )
        for j in range(3)
    ]
    assert sorted(order) == [0, 1, 2]
    for name in EpisodeBatch._fields[:-1]:
        expected = np.asarray(getattr(batch, name))[:, order]
        np.testing.assert_array_equal(getattr(drawn, name), expected, name)


def test_the_oldest_go_first() -> None:
    replay = EpisodeReplay(5)
    state = replay.init(numbered(0))
    for first in range(1, 13, 2):
        state = jax.jit(replay.add)(state, numbered(first, first + 1))
    assert int(replay.size(state)) == 5
    assert sorted(numbers_in(replay.sample(state, jax.random.key(1), 5))) == [8, 9, 10, 11, 12]


def test_draws_are_uniform_and_without_repetition() -> None:
    replay = EpisodeReplay(6)
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


def test_too_few_are_filled_up_with_nothing() -> None:
    replay = EpisodeReplay(6)
    state = replay.add(replay.init(numbered(0)), numbered(7))
    drawn = replay.sample(state, jax.random.key(3), 3)
    assert np.asarray(drawn.valid).any(0).tolist() == [True, False, False]
