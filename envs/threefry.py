"""JAX's random numbers on a CPU, several times as fast and the same bits.

JAX writes Threefry's rounds as a loop there. XLA runs its twelve tiny operations one by one, five times for each draw,
which took most of the time of a step of 16 battles. Written out, the rounds become part of the operation
that needs the number.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Threefry-2x32 with 20 rounds.
"""

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p
from jax.interpreters import mlir

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def rounds(key0: jax.Array, key1: jax.Array, x0: jax.Array, x1: jax.Array) -> list[jax.Array]:
    """Threefry-2x32 of a counter (x0, x1) under a key (key0, key1), all uint32."""
    keys = (key0, key1, key0 ^ key1 ^ jnp.uint32(_PARITY))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for i in range(1, 6):
        for by in _ROTATIONS[(i - 1) % 2]:
            x0 = x0 + x1
            x1 = x0 ^ (x1 << by | x1 >> (32 - by))
        x0, x1 = x0 + keys[i % 3], x1 + keys[(i + 1) % 3] + jnp.uint32(i)
    return [x0, x1]


def write_out_on_cpu() -> None:
    """Makes JAX compile the rounds above on CPUs; importing `envs` calls it."""
    rule = mlir.lower_fun(rounds, multiple_results=True)
    mlir.register_lowering(threefry2x32_p, rule, platform="cpu")
