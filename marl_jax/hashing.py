"""Numbers for rows of numbers, so that tables can be indexed and rows compared by them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32


def row_hash(rows: jax.Array, salt: int | jax.Array = 0) -> UInt32[Array, "*batch"]:
    """A 32-bit hash of each row: the same for equal rows, and different for different ones but for chance.

    Multiplications and shifts of MurmurHash3's finaliser.

    Args:
        rows: [*batch, K] integers or 32-bit floats; 0.0 and -0.0 count as equal.
        salt: which of many hash functions.
    """
    if jnp.issubdtype(rows.dtype, jnp.floating):
        rows = jax.lax.bitcast_convert_type(rows.astype(jnp.float32) + 0.0, jnp.uint32)
    words = rows.astype(jnp.uint32)

    def mix(x: jax.Array) -> jax.Array:
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        return x ^ (x >> 16)

    # Every word is mixed with its place, so that the sum tells permutations apart; one pass, no chain of K steps.
    places = mix(jnp.arange(1, words.shape[-1] + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9))
    total = jnp.sum(mix(words ^ places) * (places | 1), axis=-1, dtype=jnp.uint32)
    return mix(total ^ mix(jnp.asarray(salt, jnp.uint32) + jnp.uint32(0x165667B1)))
