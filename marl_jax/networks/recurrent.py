"""PyTorch's GRU, a step or a whole sequence at a time; several times as fast to train on a CPU as a scan's derivative.

Only what depends on the step before runs step by step: one product and the gates forwards, one product backwards. The
inputs' products, the gates' derivatives and the weights' gradients are taken over all steps at once.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from marl_jax.networks.layers import KERNELS, Initialization, Initializer, torch_bias

ByGate = tuple[jax.Array, jax.Array, jax.Array]
"""Arrays of the reset gate r, the update gate z and the candidate n. Three inside a scan, and not one [..., 3H]: XLA's
CPU code for gates at three offsets of one input takes twice the time."""


class GRU(nn.Module):
    """PyTorch's GRU, with its two biases on every gate.

        r = s(W_r x + b_r + U_r h + c_r)   z = s(W_z x + b_z + U_z h + c_z)
        n = tanh(W_n x + b_n + r (U_n h + c_n))   h' = (1 - z) n + z h

    The two biases of r and of z only ever act as a sum, but they are two parameters: under an optimiser that
    normalises gradients, such as Adam, their sum moves twice as fast as one bias would.

    Parameters: `kernel_ih` (W) [I, 3H], `kernel_hh` (U) [H, 3H], `bias_ih` (b) and `bias_hh` (c) [3H]; the gates r,
    z, n side by side.

    Attributes:
        input_size: I.
        hidden_size: H.
        initialization: "torch", all parameters uniform in +-1/sqrt(H); or biases of 0, and a law for each
            gate's matrices.
    """

    input_size: int
    hidden_size: int
    initialization: Initialization = "torch"

    def setup(self) -> None:
        """Makes the parameters."""
        uniform = torch_bias(self.hidden_size)
        torch = self.initialization == "torch"
        kernel = uniform if torch else _by_gate(KERNELS[self.initialization])
        bias = uniform if torch else nn.initializers.zeros_init()
        size = 3 * self.hidden_size
        self.kernel_ih = self.param("kernel_ih", kernel, (self.input_size, size))
        self.kernel_hh = self.param("kernel_hh", kernel, (self.hidden_size, size))
        self.bias_ih = self.param("bias_ih", bias, (size,))
        self.bias_hh = self.param("bias_hh", bias, (size,))

    def __call__(self, h: Float[Array, "... H"], x: Float[Array, "... I"]) -> Float[Array, "... H"]:
        """The hidden state after one step."""
        rows = h.reshape(-1, self.hidden_size)
        gates = _gates(rows, self.kernel_hh, self._candidate_bias, self._inputs(x))
        return _next(rows, gates).reshape(h.shape)

    def unroll(
        self,
        h: Float[Array, "... H"],
        xs: Float[Array, "T ... I"],
        keep: Float[Array, "T ... 1"] | None = None,
    ) -> Float[Array, "T ... H"]:
        """The hidden states after each of T steps from h.

        Args:
            h: before the first step.
            xs: inputs.
            keep: 0 where the state before the step is forgotten, else 1; None for 1 everywhere.
        """
        rows = h.reshape(-1, self.hidden_size)
        inputs = tuple(x.reshape(len(xs), *rows.shape) for x in self._inputs(xs))
        if keep is not None:
            keep = keep.reshape(len(xs), len(rows), 1)
        hidden = gru(rows, self.kernel_hh, self._candidate_bias, inputs, keep)
        return hidden.reshape(*xs.shape[:-1], self.hidden_size)

    @property
    def _candidate_bias(self) -> jax.Array:
        return self.bias_hh[2 * self.hidden_size :]

    def _inputs(self, x: Float[Array, "... I"]) -> ByGate:
        """[R, H] each: all but U h and c_n, the bias that r is multiplied with."""
        bias = self.bias_ih + self.bias_hh.at[2 * self.hidden_size :].set(0.0)
        return _split(x.reshape(-1, self.input_size) @ self.kernel_ih + bias)


def _by_gate(draw: Initializer) -> Initializer:
    """Draws the three gates' matrices one by one, and puts them side by side."""

    def init(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
        inputs, outputs = shape
        gates = [draw(k, (inputs, outputs // 3), dtype) for k in jax.random.split(key, 3)]
        return jnp.concatenate(gates, axis=-1)

    return init


class _Gates(NamedTuple):
    """A step's gates.

    Attributes:
        r: reset.
        z: update.
        q: U_n h + c_n, which r is multiplied with.
        n: candidate.
    """

    r: jax.Array
    z: jax.Array
    q: jax.Array
    n: jax.Array


def _split(x: Float[Array, "... 3H"]) -> ByGate:
    r, z, n = jnp.split(x, 3, axis=-1)
    return r, z, n


def _gates(h: jax.Array, kernel: jax.Array, bias: jax.Array, inputs: ByGate) -> _Gates:
    of_r, of_z, of_n = _split(h @ kernel)
    q = of_n + bias
    r = jax.nn.sigmoid(inputs[0] + of_r)
    z = jax.nn.sigmoid(inputs[1] + of_z)
    return _Gates(r, z, q, jnp.tanh(inputs[2] + r * q))


def _next(h: jax.Array, gates: _Gates) -> jax.Array:
    return (1.0 - gates.z) * gates.n + gates.z * h


def _slopes(h: jax.Array, gates: _Gates) -> tuple[jax.Array, ByGate]:
    """Derivatives of the state after h: in x_n, and in the three products with h."""
    r, z, q, n = gates
    by_new = (1.0 - z) * (1.0 - n**2)
    return by_new, (by_new * q * r * (1.0 - r), (h - n) * z * (1.0 - z), by_new * r)


def _products(h: Float[Array, "... H"], kernel: Float[Array, "H 3H"]) -> ByGate:
    """U h, by gate; as one product of matrices, however many axes h has."""
    return _split((h.reshape(-1, h.shape[-1]) @ kernel).reshape(*h.shape[:-1], -1))


@jax.custom_jvp
def gru(
    memory: Float[Array, "R H"],
    kernel: Float[Array, "H 3H"],
    bias: Float[Array, " H"],
    inputs: ByGate,
    keep: Float[Array, "T R 1"] | None = None,
) -> Float[Array, "T R H"]:
    """Hidden states of a GRU along T steps.

    Args:
        memory: h before the first step.
        kernel: U of the three gates.
        bias: c_n.
        inputs: all other summands of the gates' arguments, [T, R, H] each.
        keep: 0 where h is forgotten before the step, else 1; constant. None: it never is.
    """

    def step(h: jax.Array, now: Any) -> tuple[jax.Array, jax.Array]:
        x, kept = now
        h = h if kept is None else kept * h
        h = _next(h, _gates(h, kernel, bias, x))
        return h, h

    return jax.lax.scan(step, memory, (inputs, keep))[1]


def _with_gates(
    memory: Float[Array, "R H"],
    kernel: Float[Array, "H 3H"],
    bias: Float[Array, " H"],
    inputs: ByGate,
    keep: Float[Array, "T R 1"] | None,
) -> tuple[Float[Array, "T R H"], _Gates]:
    """The hidden states of `gru`, and the gates of every step."""

    def step(h: jax.Array, now: Any) -> tuple[jax.Array, tuple[jax.Array, _Gates]]:
        x, kept = now
        h = h if kept is None else kept * h
        gates = _gates(h, kernel, bias, x)
        h = _next(h, gates)
        return h, (h, gates)

    both: tuple[jax.Array, _Gates] = jax.lax.scan(step, memory, (inputs, keep))[1]
    return both


@gru.defjvp
def _gru_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """The hidden states h_t, and their change d_t = z_t d_(t-1) + s_t (U d_(t-1)) + what changes at t itself.

    That is a linear system in d. Stated as one, it comes with its solution, which forward mode runs, and with the
    solution of its transpose, which is the gradient's loop.
    """
    memory, kernel, _, _, keep = primals
    memory_dot, kernel_dot, bias_dot, inputs_dot, _ = tangents
    hidden, gates = _with_gates(*primals)
    before = jnp.concatenate([memory[None], hidden[:-1]])
    before = before if keep is None else keep * before
    by_new, at_once = _slopes(before, gates)
    # What is forgotten changes nothing that comes after it.
    z, slopes = (
        (gates.z, at_once) if keep is None else jax.tree.map(lambda x: keep * x, (gates.z, at_once))
    )
    # Materialised once: inside the loop's fusions they would be computed by scalar code.
    by_new, at_once, slopes, z = jax.lax.optimization_barrier((by_new, at_once, slopes, z))

    def carried(d: jax.Array, z: jax.Array, slopes: ByGate) -> jax.Array:
        """What the change of one step makes of the next."""
        return sum((s * p for s, p in zip(slopes, _products(d, kernel), strict=True)), start=z * d)

    of_r, of_z, of_n = _products(before, kernel_dot)
    change = (
        at_once[0] * (inputs_dot[0] + of_r)
        + at_once[1] * (inputs_dot[1] + of_z)
        + at_once[2] * (bias_dot + of_n)
        + by_new * inputs_dot[2]
    )
    change = change.at[0].add(carried(memory_dot, z[0], jax.tree.map(lambda s: s[0], slopes)))

    def system(d: jax.Array) -> jax.Array:
        later = carried(d[:-1], z[1:], jax.tree.map(lambda s: s[1:], slopes))
        return d - jnp.concatenate([jnp.zeros_like(d[:1]), later])

    def solve(_: Any, change: jax.Array) -> jax.Array:
        def step(d: jax.Array, at: tuple[jax.Array, jax.Array, ByGate]) -> Any:
            change, z, slopes = at
            d = carried(d, z, slopes) + change
            return d, d

        return jax.lax.scan(step, jnp.zeros_like(memory), (change, z, slopes))[1]

    def solve_transposed(_: Any, change: jax.Array) -> jax.Array:
        def step(later: jax.Array, at: tuple[jax.Array, jax.Array, ByGate]) -> Any:
            change, z, slopes = at
            d = change + later
            return z * d + jnp.concatenate([s * d for s in slopes], axis=-1) @ transposed, d

        transposed = kernel.T
        start = jnp.zeros_like(memory)
        return jax.lax.scan(step, start, (change, z, slopes), reverse=True)[1]

    d: jax.Array = jax.lax.custom_linear_solve(system, change, solve, solve_transposed)
    return hidden, d
