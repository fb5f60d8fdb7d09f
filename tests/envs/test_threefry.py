"""Random numbers on a CPU: other code than JAX's, the same bits."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.threefry import rounds


# Known answers of the authors' Random123 for threefry2x32 with 20 rounds: counter, key, result.
@pytest.mark.parametrize(
    ("counter", "key", "result"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(
    counter: tuple[int, int], key: tuple[int, int], result: tuple[int, int]
) -> None:
    found = rounds(*(jnp.uint32(x) for x in (*key, *counter)))
    assert tuple(int(x) for x in found) == result


def test_draws_are_those_of_plain_jax() -> None:
    program = (
        "import jax; k = jax.random.fold_in(jax.random.key(3), 9); a, b = jax.random.split(k); "
        "print(*jax.random.bits(a, (7,)), *jax.random.permutation(b, 9))"
    )
    plain = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    first, second = jax.random.split(jax.random.fold_in(jax.random.key(3), 9))
    ours = [*jax.random.bits(first, (7,)), *jax.random.permutation(second, 9)]
    assert [int(x) for x in plain.split()] == [int(x) for x in ours]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only CPUs have it")
def test_no_loop_is_left_on_a_cpu() -> None:
    def draw(key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (5,))

    program = jax.jit(draw).lower(jax.random.key(0)).as_text()
    assert "while" not in program
    assert np.isfinite(draw(jax.random.key(0))).all()
