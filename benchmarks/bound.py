"""How fast training could be: its products of matrices, its gates and its world, each at a rate timed alone.

What a chunk of one seed's training computes is read from its traced program. Loops count as often as they run, and of
a choice the branch with most products. Everything else is left out: elementwise work, copies, draws, optimisers.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from marl_jax.training import Trainer

GATES = ("tanh", "logistic", "exp")
"""Functions that gates and softmaxes are made of."""


class Product(NamedTuple):
    """One product of matrices, or several side by side.

    Attributes:
        left: the shape of the first factor.
        right: that of the second.
        numbers: which axes are summed over, and which are common, as `jax.lax.dot_general` has them.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    numbers: tuple[Any, ...]

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        (_, of_right), (_, common) = self.numbers
        once = [n for i, n in enumerate(self.right) if i not in (*of_right, *common)]
        return 2 * math.prod(self.left) * math.prod(once)


class Work(NamedTuple):
    """What a program computes.

    Attributes:
        products: how often each product.
        gates: numbers that a gate's function is taken of.
    """

    products: Counter[Product]
    gates: int

    @property
    def operations(self) -> int:
        """Of all products."""
        return sum(times * product.operations for product, times in self.products.items())

    @property
    def largest(self) -> Product:
        """The product that takes most operations in all."""
        return max(self.products, key=lambda p: self.products[p] * p.operations)


def work_of(program: Any) -> Work:
    """What a traced program computes.

    Args:
        program: a jaxpr, or a closed one.

    Raises:
        ValueError: if products are in a loop of unknown length.
    """
    products: Counter[Product] = Counter()
    gates = 0
    for equation in getattr(program, "jaxpr", program).eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            left, right = (x.aval.shape for x in equation.invars)
            products[Product(left, right, params["dimension_numbers"])] += 1
        elif name in GATES:
            gates += math.prod(equation.outvars[0].aval.shape)
        inner = [work_of(each) for each in _programs_in(params)]
        if name == "cond" and inner:
            inner = [max(inner, key=lambda work: work.operations)]
        if name == "while" and any(work.products for work in inner):
            raise ValueError("products are in a loop of unknown length, so there is no bound.")
        times = params["length"] if name == "scan" else 1
        for work in inner:
            gates += times * work.gates
            products.update({p: times * n for p, n in work.products.items()})
    return Work(products, gates)


def _programs_in(params: dict[str, Any]) -> list[Any]:
    """Programs among an operation's parameters."""
    each = [x for value in params.values() for x in _listed(value)]
    return [x for x in each if hasattr(getattr(x, "jaxpr", x), "eqns")]


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def steps_per_second(trainer: Trainer, world: float) -> float:
    """The most that all seeds together could make on this machine.

    Args:
        trainer: what is trained. Where episodes end early nobody knows before how many steps and products that is.
        world: steps a second of its world alone, of as many environments as train at once.
    """
    one = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), trainer.abstract_state()
    )
    work = work_of(jax.make_jaxpr(trainer.train_seed)(one))
    steps = trainer.iterations_per_chunk * trainer.steps_per_iteration
    return 1.0 / (
        work.operations / steps / product_rate(trainer, work.largest)
        + work.gates / steps / gate_rate(trainer)
        + 1.0 / world
    )


def product_rate(trainer: Trainer, product: Product, least: float = 2e9) -> float:
    """Operations a second of a product by itself, on all devices that train at once.

    Args:
        trainer: whose devices.
        product: which.
        least: operations of one measurement on a device.
    """
    times = max(1, math.ceil(least / product.operations))
    left, right = jnp.ones(product.left), jnp.ones(product.right)

    def repeat(x: jax.Array) -> jax.Array:
        def again(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            # It depends on the one before, so that none is left out.
            y = jax.lax.dot_general(x, right, product.numbers)
            return left + 1e-30 * y.reshape(-1)[0], None

        return jax.lax.scan(again, left + x[0], None, length=times)[0]

    return times * product.operations * _rate(trainer, repeat)


def gate_rate(trainer: Trainer, numbers: int = 2**16, times: int = 256) -> float:
    """Numbers a second that a gate is taken of, on all devices that train at once."""

    def repeat(x: jax.Array) -> jax.Array:
        start = jnp.linspace(-1.0, 1.0, numbers) + x[0]
        return jax.lax.fori_loop(0, times, lambda _, y: jax.nn.sigmoid(y), start)

    return numbers * times * _rate(trainer, repeat)


def _rate(trainer: Trainer, repeat: Callable[[jax.Array], jax.Array]) -> float:
    """How often a second a function can be called, all devices together; of five times the shortest counts."""
    mesh = trainer.mesh
    spec = PartitionSpec(*mesh.axis_names)
    run = jax.jit(
        jax.shard_map(
            lambda x: repeat(x)[None], mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
        )
    )
    zeros = jnp.zeros(mesh.size)
    jax.block_until_ready(run(zeros))
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(run(zeros))
        seconds.append(time.perf_counter() - began)
    return mesh.size / min(seconds)
