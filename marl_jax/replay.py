"""Replay of whole episodes.

flashbax's buffers draw with replacement and store streams with auto-resets in mind; the papers' learners draw whole
episodes without replacement, which these lines do.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from marl_jax.rows import Rows
from marl_jax.types import SEEN, EpisodeBatch


class ReplayState(NamedTuple):
    """What a replay holds.

    An episode of L steps takes L + 1 rows, one after the other: what was seen before each step with what was done
    then, and what was seen in the end. The ring of R rows goes on where the newest episode ends, so that battles which
    take a fifth of their time limit take a fifth of the room.

    Attributes:
        rows: a ring of R rows, the leading axis of every field; room not yet used holds zeros.
        added: rows ever taken; row number r is at r mod R.
        episodes: episodes ever added.
        starts: the number of the first row of each of the last E episodes; episode number e is at e mod E.
        lengths: their steps.
    """

    rows: EpisodeBatch
    added: Int[Array, ""]
    episodes: Int[Array, ""]
    starts: Int[Array, " E"]
    lengths: Int[Array, " E"]


class Drawn(NamedTuple):
    """Episodes of a replay.

    Attributes:
        starts: the number of the first row of each.
        lengths: their steps; -1 where there is none.
    """

    starts: Int[Array, " B"]
    lengths: Int[Array, " B"]


@dataclasses.dataclass(frozen=True)
class EpisodeReplay:
    """Keeps the last episodes: as many as there is room for, and E at most.

    Attributes:
        capacity: C, for how many episodes of `time_limit` steps there is room.
        time_limit: T.
        shortest: the mean length for which E is enough; E is C T / `shortest`. None: T, and E is C.
        bits: fields that hold 0 and 1 alone, by name, and their shapes at a step. They are kept as bits, in a
            thirty-second of the room; what is drawn is the same.
    """

    capacity: int
    time_limit: int
    shortest: int | None = None
    bits: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def most(self) -> int:
        """E."""
        return self.capacity * self.time_limit // (self.shortest or self.time_limit)

    @property
    def num_rows(self) -> int:
        """R. With episodes of several lengths, what is lost at the ring's end and of the oldest one comes on top."""
        spare = 0 if self.shortest is None else 2
        return (self.capacity + spare) * (self.time_limit + 1)

    def init(self, example: EpisodeBatch) -> ReplayState:
        """An empty replay.

        Args:
            example: a batch of episodes, or its shapes (`jax.eval_shape`); nothing of it is kept.
        """
        kept = jax.eval_shape(self._packed, example)
        rows = jax.tree.map(lambda x: jnp.zeros((self.num_rows, *x.shape[2:]), x.dtype), kept)
        shapes = ((), (), (self.most,), (self.most,))
        return ReplayState(rows, *(jnp.zeros(shape, jnp.int32) for shape in shapes))

    def add(
        self, state: ReplayState, batch: EpisodeBatch, active: Bool[Array, ""] | bool = True
    ) -> ReplayState:
        """Stores B episodes, over the oldest ones once the replay is full; B must be at most C.

        If not `active` nothing is stored, without a copy of the replay even where `active` has a batch axis.
        """
        num, size = batch.valid.shape[1], self.time_limit + 1

        def store(carry: Any, episode: Any) -> Any:
            rows, added = carry
            episode, length = episode
            # Room for T + 1 rows is looked at, whatever the length: where that goes beyond the end, begin at the front.
            left = _num_rows(state) - added % _num_rows(state)
            start = jnp.where(left < size, added + left, added)
            where = start % _num_rows(state)
            stored = active & (jnp.arange(size) <= length)

            def write(kept: jax.Array, new: jax.Array) -> jax.Array:
                now = jax.lax.dynamic_slice_in_dim(kept, where, size)
                new = jnp.where(_along(stored, new), new, now)
                return jax.lax.dynamic_update_slice_in_dim(kept, new, where, 0)

            rows = jax.tree.map(write, rows, episode)
            return (rows, jnp.where(active, start + length + 1, added)), start

        lengths = jnp.sum(batch.valid, axis=0, dtype=jnp.int32)
        batch = self._packed(_nothing_after_the_end(batch))
        episodes = jax.tree.map(lambda x: jnp.moveaxis(_with_last(x, size), 1, 0), batch)
        carry = (state.rows, state.added)
        (rows, added), starts = jax.lax.scan(store, carry, (episodes, lengths))
        where = (state.episodes + jnp.arange(num)) % len(state.starts)
        if active is not True:
            # What is written beyond the end is dropped.
            where = jnp.where(active, where, len(state.starts))
        return ReplayState(
            rows,
            added,
            state.episodes + num * jnp.asarray(active, jnp.int32),
            state.starts.at[where].set(starts),
            state.lengths.at[where].set(lengths),
        )

    def _held(self, state: ReplayState) -> Bool[Array, " E"]:
        """Which episodes are there whole: none of their rows has been written over."""
        used = jnp.arange(len(state.starts)) < state.episodes
        return used & (state.starts >= state.added - _num_rows(state))

    def size(self, state: ReplayState) -> Int[Array, ""]:
        """How many episodes there are to draw from."""
        return jnp.sum(self._held(state), dtype=jnp.int32)

    def choose(self, state: ReplayState, key: jax.Array, num: int) -> Drawn:
        """Draws `num` different episodes, every choice equally likely.

        If fewer are stored, the rest is of no steps, and not even of a first sight.
        """
        lots = jax.random.uniform(key, (len(state.starts),))
        lots = jnp.where(self._held(state), lots, -1.0)
        best, chosen = jax.lax.top_k(lots, num)
        return Drawn(state.starts[chosen], jnp.where(best < 0, -1, state.lengths[chosen]))

    def read(self, state: ReplayState, drawn: Drawn, rows: Rows | None = None) -> EpisodeBatch:
        """The episodes that were drawn, each in a row of its own, or laid into `rows`.

        After an episode's end all fields are 0, and every action is allowed.
        """
        time = jnp.arange(self.time_limit + 1)
        if rows is None:
            held, first = time <= drawn.lengths[:, None], drawn.starts % _num_rows(state)

            def of_row(x: jax.Array, first: jax.Array) -> jax.Array:
                return jax.lax.dynamic_slice_in_dim(x, first, len(time))

        else:
            number, time = (i.T for i in rows.source)
            held, first = time <= drawn.lengths[number], drawn.starts[number] + time
            first = first % _num_rows(state)

            def of_row(x: jax.Array, first: jax.Array) -> jax.Array:
                return x[first]

        def one_row(now: Any) -> EpisodeBatch:
            held, first = now

            def take(x: jax.Array) -> jax.Array:
                x = of_row(x, first)
                return jnp.where(_along(held, x), x, jnp.zeros_like(x))

            return jax.tree.map(take, state.rows)

        # One by one: XLA's CPU compiler fuses a gather with the writing of the newest episode, and copies the
        # whole replay for it. A loop it leaves alone.
        read = jax.lax.map(one_row, (held, first))
        read = self._unpacked(_without_last(jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), read)))
        mask = read.action_mask | ~held.T[..., None, None]
        return read._replace(action_mask=mask, rows=rows)

    def sample(self, state: ReplayState, key: jax.Array, num: int) -> EpisodeBatch:
        """Draws `num` different episodes, and reads them."""
        return self.read(state, self.choose(state, key, num))

    def transitions(self, state: ReplayState) -> Int[Array, ""]:
        """How many steps there are to draw from."""
        return jnp.sum(jnp.where(self._held(state), state.lengths, 0))

    def steps(self, state: ReplayState) -> Bool[Array, " R"]:
        """Which rows are steps to draw from."""
        first = state.starts % _num_rows(state)
        # Entered and left; an episode is never cut in two.
        change = jnp.zeros((_num_rows(state) + 1,), jnp.int32)
        one = self._held(state).astype(jnp.int32)
        change = change.at[first].add(one).at[first + state.lengths].add(-one)
        return jnp.cumsum(change)[:-1] > 0

    def sample_transitions(self, state: ReplayState, key: jax.Array, num: int) -> EpisodeBatch:
        """Draws `num` steps, each independently and every stored step equally likely.

        Returns:
            Episodes of one step: T is 1 and B is `num`. If none are stored, `valid` is false.
        """
        lengths = jnp.where(self._held(state), state.lengths, 0)
        ends = jnp.cumsum(lengths)
        lot = jax.random.randint(key, (num,), 0, jnp.maximum(ends[-1], 1))
        episode = jnp.minimum(jnp.searchsorted(ends, lot, side="right"), len(state.starts) - 1)
        step = state.starts[episode] + lot - (ends[episode] - lengths[episode])
        # The next row is the episode's own, since it is never cut in two.
        rows = step % _num_rows(state) + jnp.arange(2)[:, None]
        return self._unpacked(_without_last(jax.tree.map(lambda x: x[rows], state.rows)))

    def _packed(self, batch: EpisodeBatch) -> EpisodeBatch:
        """A batch as it is kept: fields of `bits` are [T+1, B, K] uint8 with eight entries in each."""
        packed: dict[str, Any] = {}
        for name, shape in self.bits:
            x = getattr(batch, name)
            flat = x.reshape(*x.shape[: x.ndim - len(shape)], math.prod(shape))
            packed[name] = jnp.packbits(flat != 0, axis=-1)
        return batch._replace(**packed)

    def _unpacked(self, batch: EpisodeBatch) -> EpisodeBatch:
        """What was packed, in float32."""
        unpacked: dict[str, Any] = {}
        for name, shape in self.bits:
            x = jnp.unpackbits(getattr(batch, name), axis=-1, count=math.prod(shape))
            unpacked[name] = x.reshape(*x.shape[:-1], *shape).astype(jnp.float32)
        return batch._replace(**unpacked)


def _num_rows(state: ReplayState) -> int:
    """R."""
    return len(state.rows.valid)


def _along(mask: Bool[Array, " K"], x: Any) -> Any:
    """A mask of the first axis of `x`, for all of it."""
    return mask.reshape(-1, *(1,) * (x.ndim - 1))


def _with_last(x: Any, size: int) -> Any:
    """A field [T, ...] with a last entry of zeros; one [T+1, ...] as it is."""
    return jnp.pad(x, [(0, size - len(x))] + [(0, 0)] * (x.ndim - 1))


def _of_steps(batch: EpisodeBatch) -> dict[str, Any]:
    """The fields that have no entry after the last step."""
    return {name: getattr(batch, name) for name in batch._fields if name not in SEEN}


def _without_last(batch: EpisodeBatch) -> EpisodeBatch:
    """[T, ...] of the fields that have no entry after the last step, where all have."""
    return batch._replace(**jax.tree.map(lambda x: x[:-1], _of_steps(batch)))


def _nothing_after_the_end(batch: EpisodeBatch) -> EpisodeBatch:
    """Zeros in place of what is done there."""

    def valid(x: jax.Array) -> jax.Array:
        mask = batch.valid.reshape(*batch.valid.shape, *(1,) * (x.ndim - 2))
        return jnp.where(mask, x, jnp.zeros_like(x))

    return batch._replace(**jax.tree.map(valid, _of_steps(batch)))
