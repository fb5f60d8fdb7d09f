"""No work for what is over, where time has its order: what follows the end of all episodes of a batch is left out.

An episode's record has room for `time_limit` steps; a battle may take a fifth of them. Whoever learns alike at every
step lays several episodes into a row (`marl_jax.rows`). For those that go through a batch step by step it is cut to
the shortest of a few lengths that hold all of its episodes: shapes are static, so that each length has a branch of its
own in the program. What is cut off is padding, and learners learn the same as from the whole.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

EIGHTHS = (2, 3, 4, 8)
"""Lengths, in eighths of the time limit. Each more takes seconds to compile."""
LEAST = 16
"""With a time limit below this there is one length: there is too little to save."""

TreeT = TypeVar("TreeT")
ResultT = TypeVar("ResultT")


def lengths_of(time_limit: int, ends_early: bool) -> tuple[int, ...]:
    """The lengths that batches are cut to, rising; the last is the time limit.

    Args:
        time_limit: T, the task's.
        ends_early: whether episodes may end before it.
    """
    if not ends_early or time_limit < LEAST:
        return (time_limit,)
    return tuple(dict.fromkeys(math.ceil(n * time_limit / 8) for n in EIGHTHS))


@jax.custom_batching.custom_vmap
def of_all(x: Int[Array, ""]) -> Int[Array, ""]:
    """The largest over all axes that are mapped: what decides how long a loop is or which branch is taken, for all."""
    return x


@of_all.def_vmap
def _largest(axis_size: int, in_batched: list[bool], x: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size
    return of_all(jnp.max(x) if in_batched[0] else x), False


def longest_of(played: Bool[Array, "T ..."]) -> Int[Array, ""]:
    """Steps until nothing is played any more, over all axes that are mapped."""
    ahead = jnp.any(played.reshape(len(played), -1), axis=1)
    return of_all(jnp.max(jnp.where(ahead, jnp.arange(1, len(played) + 1), 0)))


def scan_while(
    step: Callable[[TreeT, Any], tuple[TreeT, ResultT]],
    carry: TreeT,
    xs: Any,
    goes_on: Callable[[Int[Array, ""], TreeT], Bool[Array, ""]],
) -> tuple[TreeT, ResultT, Int[Array, ""]]:
    """A `jax.lax.scan` that may stop before its end; from there on its results are zeros.

    Args:
        step: as for `scan`.
        carry: as for `scan`.
        xs: as for `scan`.
        goes_on: from the steps taken and the carry, whether to take one more. One answer for all axes that are mapped:
            with one each, every step would copy the results of those that wait.

    Returns:
        The last carry, the results, and the steps taken.
    """
    num = len(jax.tree.leaves(xs)[0])
    shapes = jax.eval_shape(step, carry, jax.tree.map(lambda x: x[0], xs))[1]
    empty: Any = jax.tree.map(lambda x: jnp.zeros((num, *x.shape), x.dtype), shapes)

    def body(now: Any) -> Any:
        time, carry, results = now
        carry, new = step(carry, jax.tree.map(lambda x: x[time], xs))
        put = jax.lax.dynamic_update_index_in_dim
        results = jax.tree.map(lambda all_steps, x: put(all_steps, x, time, 0), results, new)
        return time + 1, carry, results

    time, carry, results = jax.lax.while_loop(
        lambda now: (now[0] < num) & goes_on(now[0], now[1]),
        body,
        (jnp.zeros((), jnp.int32), carry, empty),
    )
    return carry, results, time


def by_length(
    lengths: tuple[int, ...],
    played: Bool[Array, "T ..."],
    batch: TreeT,
    function: Callable[[TreeT], ResultT],
) -> ResultT:
    """A function of a batch of episodes, cut to the shortest length that holds them.

    Under `vmap` the longest episode of all decides.

    Args:
        lengths: rising, the last is T.
        played: at which steps anything is played.
        batch: a tree of arrays [T, ...] or [T+1, ...], such as `EpisodeBatch`.
        function: what to do; its result's shapes must not depend on the length.
    """
    limit = lengths[-1]
    if len(lengths) == 1:
        return function(batch)
    branch = jnp.searchsorted(jnp.asarray(lengths), longest_of(played))

    def cut_to(length: int) -> Callable[[TreeT], ResultT]:
        def cut(x: jax.Array) -> jax.Array:
            return x[: len(x) - limit + length]

        return lambda batch: function(jax.tree.map(cut, batch))

    result: ResultT = jax.lax.switch(branch, [cut_to(length) for length in lengths], batch)
    return result
