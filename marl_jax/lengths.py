"""No work for what is over, where time has its order: loops that end with the last step that anybody plays.

An episode's record has room for `time_limit` steps; a battle may take a fifth of them. Whoever learns alike at every
step lays several episodes into a row (`marl_jax.rows`). Those that go step by step go no further than the longest
episode of a batch. How far that is, is known only when a program runs: such a loop has no gradient backwards.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

LEAST = 16
"""With a time limit below this there is too little to save."""

TreeT = TypeVar("TreeT")
ResultT = TypeVar("ResultT")


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

    def body(now: Any) -> Any:
        time, carry, results = now
        carry, results = _take(step, time, carry, xs, results)
        return time + 1, carry, results

    time, carry, results = jax.lax.while_loop(
        lambda now: (now[0] < num) & goes_on(now[0], now[1]),
        body,
        (jnp.zeros((), jnp.int32), carry, _nothing(step, carry, xs)),
    )
    return carry, results, time


def scan_back(
    step: Callable[[TreeT, Any], tuple[TreeT, ResultT]],
    carry: TreeT,
    xs: Any,
    num: Int[Array, ""],
) -> tuple[TreeT, ResultT]:
    """A `jax.lax.scan` backwards that begins with the last of the first `num` entries; results after it are zeros.

    Args:
        step: as for `scan`.
        carry: as for `scan`.
        xs: as for `scan`.
        num: the same for all axes that are mapped, see `longest_of`.
    """
    return jax.lax.fori_loop(
        0,
        num,
        lambda i, now: _take(step, num - 1 - i, now[0], xs, now[1]),
        (carry, _nothing(step, carry, xs)),
    )


def _nothing(step: Callable[..., Any], carry: Any, xs: Any) -> Any:
    """Zeros in the place of a scan's results."""
    num = len(jax.tree.leaves(xs)[0])
    shapes = jax.eval_shape(step, carry, jax.tree.map(lambda x: x[0], xs))[1]
    return jax.tree.map(lambda x: jnp.zeros((num, *x.shape), x.dtype), shapes)


def _take(
    step: Callable[..., Any], time: Int[Array, ""], carry: Any, xs: Any, results: Any
) -> tuple[Any, Any]:
    """One step of a scan: the next carry, and its results put into those of all."""
    carry, new = step(carry, jax.tree.map(lambda x: x[time], xs))
    put = jax.lax.dynamic_update_index_in_dim
    return carry, jax.tree.map(lambda all_steps, x: put(all_steps, x, time, 0), results, new)
