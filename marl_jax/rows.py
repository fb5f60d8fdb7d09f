"""No work for what is over: rows that hold several episodes, one after the other.

An episode's record has room for `time_limit` steps; a battle may take a fifth of them. Learners whose work is the same
at every step lay a batch's episodes into fewer rows of the same length: each takes its steps and one entry for what was
seen in the end. Hidden states are cut where an episode starts. Returns need no cut: a termination's discount is 0, and
an episode that the time limit cuts off fills its row. So what is learned is the same. Shapes are static: the number of
rows is one of a few, and each has a branch of its own in the program.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from marl_jax.lengths import LEAST, of_all

SHARES = (0.2, 0.3, 0.4, 0.5, 0.65, 1.0)
"""Numbers of rows, as shares of the number of episodes. Each more takes seconds to compile."""

TreeT = TypeVar("TreeT")
ResultT = TypeVar("ResultT")


class Rows(NamedTuple):
    """Where B episodes are in K rows.

    Attributes:
        start: which entries are an episode's first.
        source: the episode that an entry is of, and the steps since its start; after an episode's end they go on.
        row: each episode's row.
        offset: its first entry there.
        lengths: its steps.
    """

    start: Bool[Array, "T+1 K"]
    source: tuple[Int[Array, "T+1 K"], Int[Array, "T+1 K"]]
    row: Int[Array, " B"]
    offset: Int[Array, " B"]
    lengths: Int[Array, " B"]

    @property
    def valid(self) -> Bool[Array, "T B"]:
        """The episodes' steps."""
        return jnp.arange(len(self.start) - 1)[:, None] < self.lengths

    @property
    def time(self) -> Int[Array, "T+1 K"]:
        """Steps since the episode's start."""
        return self.source[1]

    def pack(self, x: jax.Array) -> jax.Array:
        """[T, B, ...] or [T+1, B, ...], of episodes, to [T, K, ...] or [T+1, K, ...], of rows.

        What is over may be there after an episode's end, as in `x`.
        """
        episode, step = (i[: len(x)] for i in self.source)
        return x[jnp.minimum(step, len(x) - 1), episode]

    def unpack(self, x: jax.Array) -> jax.Array:
        """The way back. After an episode's end there is what the row holds there."""
        steps = jnp.minimum(self.offset + jnp.arange(len(x))[:, None], len(x) - 1)
        return x[steps, self.row]


def by_episode(
    rows: Rows | None,
    shape: tuple[int, ...],
    draw: Callable[[tuple[int, ...]], jax.Array],
) -> jax.Array:
    """Random numbers for a batch, drawn by episode: they do not depend on how it is laid out.

    Args:
        rows: what is where; None: every episode has a row of its own.
        shape: [T, K, ...] or [T+1, K, ...], of rows.
        draw: numbers of a shape.
    """
    if rows is None:
        return draw(shape)
    return rows.pack(draw((shape[0], len(rows.row), *shape[2:])))


def row_counts(num_episodes: int, time_limit: int, ends_early: bool) -> tuple[int, ...]:
    """The numbers of rows that a batch of B episodes may be laid into, rising; the last is B.

    Args:
        num_episodes: B.
        time_limit: T, the task's.
        ends_early: whether episodes may end before it; if not there is one number, and nothing to lay out.
    """
    if not ends_early or time_limit < LEAST:
        return (num_episodes,)
    return tuple(dict.fromkeys(math.ceil(share * num_episodes) for share in SHARES))


def lay_out(
    lengths: Int[Array, " B"], counts: tuple[int, ...], time_limit: int
) -> tuple[Int[Array, ""], Int[Array, "C B"], Int[Array, "C B"]]:
    """Lays episodes into rows: the longest first, each into the row that has most room left.

    Args:
        lengths: the episodes' steps; 0 where there is none.
        counts: C numbers of rows, rising; the last is at least B.
        time_limit: T; a row has T + 1 entries.

    Returns:
        Which of the counts is the first from which on all have room; and for every count each episode's row, and its
        first entry there.
    """
    size = lengths + 1
    order = jnp.argsort(-size, stable=True)
    exists = jnp.arange(counts[-1]) < jnp.asarray(counts)[:, None]
    filled = jnp.where(exists, 0, jnp.iinfo(jnp.int32).max // 2)

    def place(filled: jax.Array, size: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        row = jnp.argmin(filled, axis=1)
        offset = jnp.min(filled, axis=1)
        into = jnp.arange(counts[-1]) == row[:, None]
        return filled + into * size, (row, offset)

    filled, (row, offset) = jax.lax.scan(place, filled, size[order])
    back = jnp.argsort(order)
    fits = jnp.max(jnp.where(exists, filled, 0), axis=1) <= time_limit + 1
    last_that_does_not = jnp.max(jnp.where(fits, -1, jnp.arange(len(counts))))
    return last_that_does_not + 1, row[back].T, offset[back].T


def rows_of(
    lengths: Int[Array, " B"],
    row: Int[Array, " B"],
    offset: Int[Array, " B"],
    count: int,
    time_limit: int,
) -> Rows:
    """What is where, once each episode has its place in one of `count` rows."""
    size = time_limit + 1
    number = jnp.arange(1, len(row) + 1)
    first = jnp.zeros((size, count), jnp.int32).at[offset, row].set(number, mode="drop")
    start = first > 0
    entry = jnp.arange(size)[:, None]
    since = jax.lax.cummax(jnp.where(start, entry, 0), axis=0)
    # There is always one: every row holds an episode, since there are no more rows than episodes.
    episode = jnp.take_along_axis(first, since, axis=0) - 1
    return Rows(start, (episode, entry - since), row, offset, lengths)


def by_rows(
    counts: tuple[int, ...],
    lengths: Int[Array, " B"],
    time_limit: int,
    function: Callable[[Rows | None], ResultT],
) -> ResultT:
    """A function of how a batch of episodes is laid out, for the fewest rows that hold them.

    Under `vmap` the fullest batch of all decides.

    Args:
        counts: rising, the last is B.
        lengths: the episodes' steps.
        time_limit: T.
        function: of what is where; None: every episode has a row of its own. Its result's shapes must not depend on the
            number of rows.
    """
    if len(counts) == 1:
        return function(None)
    branch, row, offset = lay_out(lengths, counts, time_limit)

    def laid_into(which: int, count: int) -> Callable[[], ResultT]:
        return lambda: function(rows_of(lengths, row[which], offset[which], count, time_limit))

    branches = [laid_into(*which) for which in enumerate(counts[:-1])]
    branches.append(lambda: function(None))
    result: ResultT = jax.lax.switch(of_all(branch), branches)
    return result


def in_rows(
    counts: tuple[int, ...],
    played: Bool[Array, "T B"],
    tree: TreeT,
    function: Callable[[TreeT, Rows | None], ResultT],
    chosen: Int[Array, " C"] | None = None,
) -> ResultT:
    """A function of a batch of episodes, laid into the fewest rows that hold them.

    Args:
        counts: rising, the last is B, or C.
        played: at which steps each episode is played; what comes after the last is left out.
        tree: of arrays [T, B, ...] or [T+1, B, ...]; those of T steps in rows leave out the last entry, which can hold
            no step.
        function: of the tree in rows, and of what is where in them, see `by_rows`.
        chosen: which episodes to take, as a minibatch has them; None: all.
    """
    steps = jnp.arange(1, len(played) + 1)[:, None]
    lengths = jnp.max(jnp.where(played, steps, 0), axis=0)
    if chosen is not None:
        lengths = lengths[chosen]

    def of_rows(rows: Rows | None) -> ResultT:
        if rows is None:
            taken = tree if chosen is None else jax.tree.map(lambda x: x[:, chosen], tree)
            return function(taken, None)
        # One gather of what is played, without a copy of the padding on the way.
        episode, step = rows.source
        places = rows if chosen is None else rows._replace(source=(chosen[episode], step))
        # Materialised once: a gather inside of what reads it is scalar code on a CPU.
        return function(jax.lax.optimization_barrier(jax.tree.map(places.pack, tree)), rows)

    return by_rows(counts, lengths, len(played), of_rows)
