"""Agent networks: from what one agent sees to one number per action.

`GRUAgent` and `MLPAgent` are networks of one agent; `TeamAgent` runs one for every agent of a team, with shared
parameters or a set of its own for each.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from marl_jax.networks.layers import MLP, Initialization, Linear, hidden_gain
from marl_jax.networks.recurrent import GRU
from marl_jax.rows import Rows

Params = Any
"""A tree of arrays."""

Sharing = Literal["shared", "independent"]
"""Whether the agents of a team share one set of parameters or have one each."""


def _as_is(hidden: jax.Array) -> jax.Array:
    return hidden


class GRUAgent(nn.Module):
    """PyMARL's recurrent agent: Linear, ReLU, GRU, Linear (`rnn_agent.py`).

    Attributes:
        num_outputs: A; 0 for no output layer, then the outputs are the hidden states.
        hidden_size: units of the embedding and of the GRU (64 in the papers).
        head_sizes: units of further layers between the GRU and the output, each with a ReLU behind it; ROMA's
            QMIX-LAR has 80 and 25.
        initialization: how weights are drawn. Under "orthogonal" every layer with a ReLU behind it has the gain
            sqrt 2, and the GRU's matrices 1.
        output_gain: by what the output layer's weights are multiplied.
    """

    num_outputs: int
    hidden_size: int = 64
    head_sizes: tuple[int, ...] = ()
    initialization: Initialization = "torch"
    output_gain: float = 1.0

    def setup(self) -> None:
        """Makes the layers."""
        gain = hidden_gain(self.initialization)
        self.embed = Linear(self.hidden_size, initialization=self.initialization, gain=gain)
        self.cell = GRU(self.hidden_size, self.hidden_size, self.initialization)
        self.head = (
            MLP(
                (*self.head_sizes, self.num_outputs),
                initialization=self.initialization,
                gains=(gain, self.output_gain),
            )
            if self.num_outputs
            else _as_is
        )

    @property
    def memory_size(self) -> int:
        """Units that the agent carries from step to step."""
        return self.hidden_size

    def __call__(
        self, memory: Float[Array, "... H"], x: Float[Array, "... I"]
    ) -> tuple[Float[Array, "... H"], Float[Array, "... A"]]:
        """One step."""
        hidden = self.cell(memory, nn.relu(self.embed(x)))
        return hidden, self.head(hidden)

    def unroll(
        self,
        memory: Float[Array, "... H"],
        xs: Float[Array, "T ... I"],
        keep: Float[Array, "T ... 1"] | None = None,
    ) -> tuple[Float[Array, "T ... H"], Float[Array, "T ... A"]]:
        """T steps from `memory`: the hidden states, and the outputs. What was before is forgotten where `keep` is 0."""
        hidden = self.cell.unroll(memory, nn.relu(self.embed(xs)), keep)
        return hidden, self.head(hidden)


class MLPAgent(nn.Module):
    """A feed-forward agent: layers with an activation behind them, and an output layer. Its memory is empty.

    Attributes:
        num_outputs: A; 0 for no output layer, then the outputs are the last hidden layer's units.
        hidden_size: units of each hidden layer.
        hidden_layers: how many there are.
        activation: what follows each of them.
        initialization: how weights are drawn; under "orthogonal" the hidden layers have the gain sqrt 2.
        output_gain: by what the output layer's weights are multiplied.
    """

    num_outputs: int
    hidden_size: int = 64
    hidden_layers: int = 2
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    initialization: Initialization = "torch"
    output_gain: float = 1.0

    def setup(self) -> None:
        """Makes the layers."""
        gain = hidden_gain(self.initialization)
        self.body = MLP(
            (self.hidden_size,) * self.hidden_layers,
            activate_last=True,
            activation=self.activation,
            initialization=self.initialization,
            gains=(gain, gain),
        )
        self.head = (
            Linear(self.num_outputs, initialization=self.initialization, gain=self.output_gain)
            if self.num_outputs
            else _as_is
        )

    @property
    def memory_size(self) -> int:
        """Nothing is carried."""
        return 0

    def __call__(
        self, memory: Float[Array, "... 0"], x: Float[Array, "... I"]
    ) -> tuple[Float[Array, "... 0"], Float[Array, "... A"]]:
        """One step."""
        return memory, self.head(self.body(x))

    def unroll(
        self,
        memory: Float[Array, "... 0"],
        xs: Float[Array, "T ... I"],
        keep: Float[Array, "T ... 1"] | None = None,
    ) -> tuple[Float[Array, "T ... H"], Float[Array, "T ... A"]]:
        """T steps at once: the last hidden layer's units, and the outputs."""
        del memory, keep
        hidden = self.body(xs)
        return hidden, self.head(hidden)


def init_per_agent(
    init: Callable[[jax.Array], Params], key: jax.Array, num_agents: int, sharing: Sharing
) -> Params:
    """Draws the parameters of a network of one agent for a team.

    Under "independent" every leaf gets a leading agent axis.
    """
    if sharing == "shared":
        return init(key)
    return jax.vmap(init)(jax.random.split(key, num_agents))


def apply_per_agent(
    apply: Callable[..., Any], params: Params, *arrays: jax.Array, sharing: Sharing, axes: Any = 0
) -> Any:
    """Applies a network of one agent to every agent; N is the last axis but one of all arrays, in and out.

    Under "independent" `axes` says which parameters have an agent axis, as `in_axes` of `jax.vmap` does.
    """
    if sharing == "shared":
        return apply(params, *arrays)
    return jax.vmap(apply, in_axes=(axes,) + (-2,) * len(arrays), out_axes=-2)(params, *arrays)


@dataclasses.dataclass(frozen=True)
class TeamAgent:
    """One agent network for a team of N.

    Attributes:
        network: the network of one agent.
        num_agents: N.
        sharing: "shared", one set of parameters for all; or "independent", one set per agent.
        axes: under "independent", which parameters have an agent axis: 0 for all; or a tree like theirs with 0 where
            there is one and None where there is none.
    """

    network: GRUAgent | MLPAgent
    num_agents: int
    sharing: Sharing = "shared"
    axes: Any = 0

    def init(self, key: jax.Array, input_size: int) -> Params:
        """Draws the parameters."""
        memory, x = jnp.zeros((self.network.memory_size,)), jnp.zeros((input_size,))
        return init_per_agent(
            lambda k: self.network.init(k, memory, x), key, self.num_agents, self.sharing
        )

    def initial_memory(self, num_envs: int) -> Float[Array, "B N H"]:
        """The memory at the start of an episode: zeros."""
        return jnp.zeros((num_envs, self.num_agents, self.network.memory_size))

    def step(
        self, params: Params, memory: Float[Array, "B N H"], x: Float[Array, "B N I"]
    ) -> tuple[Float[Array, "B N H"], Float[Array, "B N A"]]:
        """One step of every agent in every environment."""
        return self._apply(self.network.apply, params, memory, x)

    def unroll(
        self, params: Params, xs: Float[Array, "T B N I"], rows: Rows | None = None
    ) -> tuple[Float[Array, "T B N H"], Float[Array, "T B N A"]]:
        """T steps of every agent from the start of an episode: hidden states, and outputs.

        Args:
            params: the agents' parameters.
            xs: what they see.
            rows: which entries are an episode's first; None for those of step 0 alone.
        """
        unroll = functools.partial(self.network.apply, method="unroll")
        arrays = [self.initial_memory(xs.shape[1]).astype(xs.dtype), xs]
        if rows is not None:
            keep = 1.0 - rows.start[: len(xs), :, None, None].astype(xs.dtype)
            arrays.append(jnp.broadcast_to(keep, (*xs.shape[:-1], 1)))
        return self._apply(unroll, params, *arrays)

    def _apply(self, apply: Callable[..., Any], params: Params, *arrays: jax.Array) -> Any:
        return apply_per_agent(apply, params, *arrays, sharing=self.sharing, axes=self.axes)
