"""Replay of whole episodes.

flashbax's buffers draw with replacement and store streams with auto-resets in mind; the papers' learners draw whole
episodes without replacement, which these lines do.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from marl_jax.types import EpisodeBatch


class ReplayState(NamedTuple):
    """What a replay holds.

    Attributes:
        episodes: C episodes, the leading axis of every field; room not yet used holds zeros.
        added: episodes ever added.
        lengths: the steps that each episode lasted, kept so that drawing single steps need not count them.
    """

    episodes: EpisodeBatch
    added: Int[Array, ""]
    lengths: Int[Array, " C"]


@dataclasses.dataclass(frozen=True)
class EpisodeReplay:
    """Keeps the last C episodes.

    Attributes:
        capacity: C.
    """

    capacity: int

    def init(self, example: EpisodeBatch) -> ReplayState:
        """An empty replay.

        Args:
            example: a batch of episodes, or its shapes (`jax.eval_shape`); nothing of it is kept.
        """
        episodes = jax.tree.map(
            lambda x: jnp.zeros((self.capacity, x.shape[0], *x.shape[2:]), x.dtype), example
        )
        lengths = jnp.zeros((self.capacity,), jnp.int32)
        return ReplayState(episodes, jnp.zeros((), jnp.int32), lengths)

    def add(
        self, state: ReplayState, batch: EpisodeBatch, active: Bool[Array, ""] | bool = True
    ) -> ReplayState:
        """Stores B episodes, over the oldest ones once the replay is full; B must be at most C.

        If not `active` nothing is stored, without a copy of the replay even where `active` has a batch axis.
        """
        num = batch.valid.shape[1]
        # Each episode is contiguous, so that writing and drawing one moves one block of memory.
        where = (state.added + jnp.arange(num)) % self.capacity
        if active is not True:
            # What is written beyond the end is dropped.
            where = jnp.where(active, where, self.capacity)
        episodes = jax.tree.map(
            lambda kept, new: kept.at[where].set(jnp.moveaxis(new, 1, 0)), state.episodes, batch
        )
        lengths = state.lengths.at[where].set(jnp.sum(batch.valid, axis=0, dtype=jnp.int32))
        return ReplayState(episodes, state.added + num * jnp.asarray(active, jnp.int32), lengths)

    def size(self, state: ReplayState) -> Int[Array, ""]:
        """How many episodes there are to draw from."""
        return jnp.minimum(state.added, self.capacity)

    def sample(self, state: ReplayState, key: jax.Array, num: int) -> EpisodeBatch:
        """Draws `num` different episodes, every choice equally likely.

        If fewer are stored, empty ones (all fields 0, `valid` false) fill the batch.
        """
        lots = jax.random.uniform(key, (self.capacity,))
        lots = jnp.where(jnp.arange(self.capacity) < self.size(state), lots, -1.0)
        _, chosen = jax.lax.top_k(lots, num)
        # One by one: XLA's CPU compiler fuses a gather with the writing of the newest episode, and copies the
        # whole replay for it. A loop it leaves alone.
        drawn = jax.lax.map(lambda i: jax.tree.map(lambda x: x[i], state.episodes), chosen)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), drawn)

    def transitions(self, state: ReplayState) -> Int[Array, ""]:
        """How many steps there are to draw from."""
        return jnp.sum(state.lengths)

    def sample_transitions(self, state: ReplayState, key: jax.Array, num: int) -> EpisodeBatch:
        """Draws `num` steps, each independently and every stored step equally likely.

        Returns:
            Episodes of one step: T is 1 and B is `num`. If none are stored, `valid` is false.
        """
        ends = jnp.cumsum(state.lengths)
        lot = jax.random.randint(key, (num,), 0, jnp.maximum(ends[-1], 1))
        episode = jnp.minimum(jnp.searchsorted(ends, lot, side="right"), self.capacity - 1)
        step = lot - (ends[episode] - state.lengths[episode])
        limit = state.episodes.valid.shape[1]

        def draw(x: jax.Array) -> jax.Array:
            steps = step + jnp.arange(x.shape[1] - limit + 1)[:, None]
            return x[episode, steps]

        return jax.tree.map(draw, state.episodes)
