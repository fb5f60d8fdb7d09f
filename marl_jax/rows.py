"""No work for what is over: rows that hold several episodes, one after the other.

An episode's record has room for `time_limit` steps; a battle may take a fifth of them. Learners whose work is the same
at every step lay a batch's episodes into fewer rows: each takes its steps and one entry for what was seen in the end.
Hidden states are cut where an episode starts, returns where one is over. So what is learned is the same. Rows are twice
as long as an episode can be: of episodes of two thirds of that length no two fit into one of it, and three fit into one
of twice. Shapes are static: the number of rows is one of a few, and each has a branch of its own in the program.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from marl_jax.lengths import LEAST, of_all
from marl_jax.losses import lambda_returns

WIDTH = 2
"""Longest episodes that a row holds."""
SHARES = (0.2, 0.375, 0.5, 0.75)
"""Room in rows, as shares of what the episodes could take. Each more takes seconds to compile."""

OF_STEPS = 2**20
"""Folded into a key before it is split into those of steps, which are none of its other derivatives then."""

TreeT = TypeVar("TreeT")
ResultT = TypeVar("ResultT")


class Rows(NamedTuple):
    """Where B episodes of up to T steps are in K rows of L = WIDTH (T + 1) entries.

    Attributes:
        start: which entries are an episode's first.
        source: the episode that an entry is of, and the steps since its start; after an episode's end they go on.
        row: each episode's row.
        offset: its first entry there.
        lengths: its steps.
    """

    start: Bool[Array, "L K"]
    source: tuple[Int[Array, "L K"], Int[Array, "L K"]]
    row: Int[Array, " B"]
    offset: Int[Array, " B"]
    lengths: Int[Array, " B"]

    @property
    def valid(self) -> Bool[Array, "T B"]:
        """The episodes' steps."""
        return jnp.arange(self.of_episodes(len(self.start) - 1))[:, None] < self.lengths

    @property
    def time(self) -> Int[Array, "L K"]:
        """Steps since the episode's start."""
        return self.source[1]

    @property
    def longer(self) -> int:
        """L - (T + 1): how much longer rows are than what is kept of an episode."""
        return len(self.start) - len(self.start) // WIDTH

    def of_episodes(self, length: int) -> int:
        """T for L - 1 entries of rows, T + 1 for L."""
        return length - self.longer

    def pack(self, x: jax.Array) -> jax.Array:
        """[T, B, ...] or [T+1, B, ...], of episodes, to [L-1, K, ...] or [L, K, ...], of rows.

        What is over may be there after an episode's end, as in `x`; where `x` has nothing more, there are zeros.
        """
        length = len(x) + self.longer
        episode, step = (i[:length] for i in self.source)
        taken = x[jnp.minimum(step, len(x) - 1), episode]
        if length == len(self.start):
            # What was seen in the end, again: no mask says that it is a step.
            return taken
        over = (step >= len(x)).reshape(*step.shape, *(1,) * (x.ndim - 2))
        return jnp.where(over, jnp.zeros_like(taken), taken)

    def unpack(self, x: jax.Array) -> jax.Array:
        """The way back. After an episode's end there is what the row holds there."""
        steps = self.offset + jnp.arange(self.of_episodes(len(x)))[:, None]
        return x[jnp.minimum(steps, len(x) - 1), self.row]


def by_episode(
    rows: Rows | None,
    shape: tuple[int, ...],
    key: jax.Array,
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array],
) -> jax.Array:
    """Random numbers for a batch, drawn by episode: they do not depend on how it is laid out.

    Step by step: on CPUs XLA draws what is not a loop's result anew inside of everything that reads it.

    Args:
        rows: what is where; None: every episode has a row of its own.
        shape: [L-1, K, ...] or [L, K, ...], of rows.
        key: random key.
        draw: numbers of a shape, from a key.
    """
    length, episodes = shape[:2]
    if rows is not None:
        length, episodes = rows.of_episodes(length), len(rows.row)
    of_step = (episodes, *shape[2:])
    keys = jax.random.split(jax.random.fold_in(key, OF_STEPS), length)
    drawn = jax.lax.map(lambda key: draw(key, of_step), keys)
    return drawn if rows is None else rows.pack(drawn)


def row_returns(
    rows: Rows | None,
    valid: Bool[Array, "T B"],
    reward: Float[Array, "T B *rest"],
    discount: Float[Array, "T B *rest"],
    next_value: Float[Array, "T B *rest"],
    lambda_: float,
) -> Float[Array, "T B *rest"]:
    """TD(lambda) returns that do not go on from one episode of a row into the next.

    The entry after an episode's last step counts as a step that is paid the value of what was seen there, and is the
    last. Episodes with a row of their own need no cut.

    Args:
        rows: what is where; T is L - 1 then, and B is K.
        valid: where there is a step.
        reward: of each step.
        discount: of each step.
        next_value: V of what was seen after each step.
        lambda_: 0 gives one-step targets, 1 Monte-Carlo returns.
    """
    if rows is not None:
        over = ~valid.reshape(*valid.shape, *(1,) * (reward.ndim - 2))
        value = jnp.concatenate([jnp.zeros_like(next_value[:1]), next_value[:-1]])
        reward, discount = jnp.where(over, value, reward), jnp.where(over, 0.0, discount)
    return lambda_returns(reward, discount, next_value, lambda_)


def row_counts(num_episodes: int, time_limit: int, ends_early: bool) -> tuple[int, ...]:
    """The numbers of rows that a batch of B episodes may be laid into, rising; the last is B: each in one of its own.

    Args:
        num_episodes: B.
        time_limit: T, the task's.
        ends_early: whether episodes may end before it; if not there is one number, and nothing to lay out.
    """
    if not ends_early or time_limit < LEAST:
        return (num_episodes,)
    counts = dict.fromkeys(math.ceil(share * num_episodes / WIDTH) for share in SHARES)
    return (*(count for count in counts if count * WIDTH < num_episodes), num_episodes)


def lay_out(
    lengths: Int[Array, " B"], counts: tuple[int, ...], time_limit: int
) -> tuple[Int[Array, ""], Int[Array, "C B"], Int[Array, "C B"]]:
    """Lays episodes into rows: the longest first, each into the row that has most room left.

    Args:
        lengths: the episodes' steps; 0 where there is none.
        counts: C numbers of rows, rising; the last is at least B.
        time_limit: T; a row has WIDTH (T + 1) entries.

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
    fits = jnp.max(jnp.where(exists, filled, 0), axis=1) <= WIDTH * (time_limit + 1)
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
    size = WIDTH * (time_limit + 1)
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
        tree: of arrays [T, B, ...] or [T+1, B, ...], which become [L-1, K, ...] and [L, K, ...]: a row's last entry
            can hold no step.
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
