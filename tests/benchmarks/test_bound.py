"""What a program computes, counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.bound import Product, Work, work_of

X, W = jnp.zeros((3, 4)), jnp.zeros((4, 5))
ONE = 2 * 3 * 4 * 5
MATRICES = (((1,), (0,)), ((), ()))


def counted(function: object, *arguments: object) -> Work:
    return work_of(jax.make_jaxpr(function)(*arguments))


def test_a_product_is_as_many_multiplications_and_additions() -> None:
    assert Product((3, 4), (4, 5), MATRICES).operations == ONE
    work = counted(lambda x, w: jnp.tanh(x @ w), X, W)
    assert (work.operations, work.gates) == (ONE, 15)
    # Seven side by side, with factors of their own.
    both = counted(jax.vmap(jnp.matmul), jnp.zeros((7, 3, 4)), jnp.zeros((7, 4, 5)))
    assert both.operations == 7 * ONE
    # One factor for all is one product of more rows.
    assert counted(lambda x, w: x @ w, jnp.zeros((7, 3, 4)), W).operations == 7 * ONE


def test_a_gradient_has_the_products_backwards() -> None:
    work = counted(jax.grad(lambda w, x: jnp.sum((x @ w) ** 2)), W, X)
    assert work.operations == 2 * ONE


def test_loops_count_as_often_as_they_run() -> None:
    def loop(x: jax.Array) -> jax.Array:
        step = jax.jit(lambda c, _: (jnp.tanh(c @ jnp.ones((4, 4))), None))
        return jax.lax.scan(step, x, None, length=6)[0]

    work = counted(loop, X)
    assert (work.operations, work.gates) == (6 * 2 * 3 * 4 * 4, 6 * 12)
    assert work.largest.right == (4, 4)


def test_of_a_choice_the_longest_branch_counts() -> None:
    def choose(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.cond(x[0, 0] > 0, lambda: (x @ w) @ w.T @ w, lambda: x @ w)

    assert counted(choose, X, W).operations == ONE + 2 * 3 * 5 * 4 + ONE


def test_a_loop_of_unknown_length_has_no_bound() -> None:
    def until(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda c: c[0, 0] < 1.0, lambda c: c @ jnp.ones((4, 4)), x)

    with pytest.raises(ValueError, match="unknown length"):
        counted(until, X)
    # One without products is not looked at.
    assert not counted(lambda x: jax.lax.while_loop(lambda c: c < 1.0, jnp.tanh, x), 0.0).products
