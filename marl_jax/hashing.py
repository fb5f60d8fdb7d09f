"""Numbers for rows of numbers, so that they can be compared by them, and a table that counts them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt32

WAYS = 4


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

    # Every word is mixed with its place, so that the sum tells permutations apart; one pass, no chain of K steps. The
    # salt comes before the sum: after it, rows with one hash in common would have them all.
    salted = mix(jnp.asarray(salt, jnp.uint32) + jnp.uint32(0x165667B1))
    places = jnp.arange(1, words.shape[-1] + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    places = mix(places ^ salted)
    total = jnp.sum(mix(words ^ places) * (places | 1), axis=-1, dtype=jnp.uint32)
    return mix(total)


def row_keys(rows: jax.Array) -> UInt32[Array, "*batch 2"]:
    """Two hashes of each row, [*batch, K]; what `count_keys` counts."""
    return jnp.stack([row_hash(rows, salt) for salt in range(2)], axis=-1)


def count_table(bits: int) -> UInt32[Array, "C 2"]:
    """An empty table for C = 2^bits keys; a slot holds a key's mark, 0 for none, and its count."""
    return jnp.zeros((1 << bits, 2), jnp.uint32)


def find_keys(table: UInt32[Array, "C 2"], keys: UInt32[Array, "*batch 2"]) -> Int[Array, "*batch"]:
    """How often keys were counted, without counting them; 0 for those without a slot."""
    bits = table.shape[0].bit_length() - 1
    place, mark = keys[..., 0] >> (32 - bits), keys[..., 1] | 1
    slots = (place[..., None] ^ jnp.arange(WAYS, dtype=jnp.uint32)).astype(jnp.int32) % len(table)
    own = table[slots, 0] == mark[..., None]
    return jnp.sum(jnp.where(own, table[slots, 1], 0), axis=-1).astype(jnp.int32)


def count_keys(
    table: UInt32[Array, "C 2"], keys: UInt32[Array, "*batch 2"], counted: Bool[Array, "*batch"]
) -> tuple[UInt32[Array, "C 2"], Int[Array, "*batch"]]:
    """Counts keys, any of which may be there several times.

    A key's first hash says which `WAYS` slots it may have, its second is its mark. Whoever finds all of them taken goes
    without, so that counts are right or 0, but for the few keys of which both hashes agree, and for those of which two
    others have taken the slot in the very step in which they first came: these are counted from the next one on.

    Args:
        table: from `count_table`.
        keys: from `row_keys`.
        counted: which of them to count.

    Returns:
        The table; and each key's count with these, 0 if it has no slot or is not counted.
    """
    bits = table.shape[0].bit_length() - 1
    place, mark = keys[..., 0] >> (32 - bits), keys[..., 1] | 1
    slots = (place[..., None] ^ jnp.arange(WAYS, dtype=jnp.uint32)).astype(jnp.int32) % len(table)
    # Of several new keys for one slot the largest mark has it: an order that no device changes. The others try again.
    for _ in range(2):
        held = table[slots, 0]
        own, free = held == mark[..., None], held == 0
        chosen = jnp.where(
            jnp.any(own, axis=-1), jnp.argmax(own, axis=-1), jnp.argmax(free, axis=-1)
        )
        slot = jnp.take_along_axis(slots, chosen[..., None], axis=-1)[..., 0]
        tries = jnp.any(own | free, axis=-1) & counted
        table = table.at[slot, 0].max(jnp.where(tries, mark, 0))
    has = tries & (table[slot, 0] == mark)
    table = table.at[slot, 1].add(has.astype(jnp.uint32))
    return table, jnp.where(has, table[slot, 1], 0).astype(jnp.int32)
