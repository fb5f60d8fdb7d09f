"""Mixers: from the agents' values of their actions to one value of the team's joint action.

Every mixer is a module that maps `MixerInputs` to `Mixed`, so that a learner can take any of them, and
`temporal_credits` can differentiate any of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from marl_jax.networks.layers import MLP, Linear


class MixerInputs(NamedTuple):
    """What a mixer may look at.

    Attributes:
        q: each agent's value of the action it took.
        q_max: its value of its best available action.
        action: the action it took, one-hot.
        state: the global state.
    """

    q: Float[Array, "*batch N"]
    q_max: Float[Array, "*batch N"]
    action: Float[Array, "*batch N A"]
    state: Float[Array, "*batch G"]


class Mixed(NamedTuple):
    """What a mixer returns.

    Attributes:
        q_tot: the value of the joint action.
        regulariser: a loss of the mixer's own, still without its weight; 0 where there is none.
    """

    q_tot: Float[Array, "*batch"]
    regulariser: Float[Array, "*batch"]


def _plain(q_tot: Float[Array, "*batch"]) -> Mixed:
    return Mixed(q_tot, jnp.zeros_like(q_tot))


def permute_agents(inputs: MixerInputs, permutation: Int[Array, " N"]) -> MixerInputs:
    """Hands the agents to the mixer in another order: CIA's random shuffle, Q_tot = f(P q).

    An agent's values and its action move together; the state, and with it all that a mixer makes of the
    state alone, stays.
    """
    return inputs._replace(
        q=inputs.q[..., permutation],
        q_max=inputs.q_max[..., permutation],
        action=inputs.action[..., permutation, :],
    )


def temporal_credits(
    mixer: Callable[[MixerInputs], Mixed], inputs: MixerInputs
) -> Float[Array, "*batch N"]:
    """Each agent's credit dQ_tot/dq_i at every step, exactly; CIA Eq. 2.

    Agents' values are constants here: a loss on the credits trains the mixer and never the agents.

    Args:
        mixer: the mixer with its parameters bound; it must treat the entries of the batch one by one.
        inputs: where to differentiate.
    """
    q, q_max = jax.lax.stop_gradient((inputs.q, inputs.q_max))

    def total(q: jax.Array) -> jax.Array:
        return jnp.sum(mixer(inputs._replace(q=q, q_max=q_max)).q_tot)

    return jax.grad(total)(q)


class VDN(nn.Module):
    """Q_tot = sum_i q_i; Sunehag et al. 2018."""

    def __call__(self, inputs: MixerInputs) -> Mixed:
        """Mixes."""
        return _plain(jnp.sum(inputs.q, axis=-1))


class _QMIXLayers(NamedTuple):
    """Both layers of QMIX at one state: kernels (not negative), bias, and V(s) in place of the last bias."""

    kernel1: Float[Array, "*batch N E"]
    bias1: Float[Array, "*batch E"]
    kernel2: Float[Array, "*batch E"]
    value: Float[Array, "*batch"]


class QMIX(nn.Module):
    """Q_tot = |w2(s)| . ELU(|W1(s)|^T q + b1(s)) + V(s); Rashid et al. 2018, PyMARL's `qmix.py`.

    Attributes:
        embed_size: E, units of the hidden layer.
        hypernet_layers: dense layers of the networks that make W1 and w2 from the state. 2 is PyMARL's
            `qmix.yaml`, which CIA, GRE and WQMIX use; 1 is `qmix_beta.yaml`, as in ROMA.
        hypernet_size: units of those networks' hidden layers.
        init_scale: by what the first weights of those networks' last layers are multiplied; with a small one Q_tot
            starts near 0 and hardly depends on the agents (JaxMARL: 0.001).
    """

    embed_size: int = 32
    hypernet_layers: int = 2
    hypernet_size: int = 64
    init_scale: float = 1.0

    def __call__(self, inputs: MixerInputs) -> Mixed:
        """Mixes."""
        layers = self._layers(inputs)
        hidden = nn.elu(_pre_activation(layers, inputs.q))
        return _plain(jnp.sum(hidden * layers.kernel2, axis=-1) + layers.value)

    def authors_credits(self, inputs: MixerInputs) -> Float[Array, "*batch N"]:
        """The credits of CIA's and GRE's public code: `temporal_credits` with another slope of the ELU.

        Below 0 it is exp(ELU(z)), between 1/e and 1, where the derivative is exp(z): a unit that is off
        still hands on a third of the credit. Agents' values are constants here too.
        """
        layers = self._layers(inputs)
        hidden = nn.elu(_pre_activation(layers, jax.lax.stop_gradient(inputs.q)))
        slope = jnp.where(hidden < 0, jnp.exp(jnp.minimum(hidden, 0.0)), 1.0)
        return jnp.sum(layers.kernel1 * (slope * layers.kernel2)[..., None, :], axis=-1)

    @nn.compact
    def _layers(self, inputs: MixerInputs) -> _QMIXLayers:
        state, num_agents = inputs.state, inputs.q.shape[-1]
        inner = (self.hypernet_size,) * (self.hypernet_layers - 1)
        gains = (1.0, self.init_scale)
        size = num_agents * self.embed_size
        kernel1 = MLP((*inner, size), gains=gains, name="kernel1")(state)
        return _QMIXLayers(
            jnp.abs(kernel1).reshape(*state.shape[:-1], num_agents, self.embed_size),
            Linear(self.embed_size, gain=self.init_scale, name="bias1")(state),
            jnp.abs(MLP((*inner, self.embed_size), gains=gains, name="kernel2")(state)),
            MLP((self.embed_size, 1), gains=gains, name="value")(state)[..., 0],
        )


def _pre_activation(layers: _QMIXLayers, q: Float[Array, "*batch N"]) -> Float[Array, "*batch E"]:
    # Sums of products: XLA's CPU has no fast path for batches of tiny matrix products.
    weighted = (q[..., i, None] * layers.kernel1[..., i, :] for i in range(q.shape[-1]))
    return sum(weighted, start=layers.bias1)


class QPLEX(nn.Module):
    """QPLEX with the attention of Qatten; Wang et al. 2021, the authors' `dmaq_qatten.py`.

        Q~_i = w_i(s) q_i + c(s) / N        M~_i = w_i(s) max_a q_i(a) + c(s) / N
        Q_tot = sum_i Q~_i + sum_i stop_gradient(Q~_i - M~_i) (lambda_i(s, a) - 1)

    With w and lambda positive the best joint action is each agent's best action. As the advantage is
    a constant, dQ_tot/dq_i = w_i(s) exactly. The regulariser is the sum over heads of the mean over agents
    of the attention's squared logits (weight 1e-3 in the authors' runs).

    Attributes:
        unit_dim: features of one agent in the state, which must begin with N such blocks; 0 takes the
            whole state for every agent (CIA's `is_token`). All agents then have one key and the
            attention is uniform, w_i = num_heads / N, unless `agent_index` is set.
        agent_index: whether to append the agent's one-hot index to its features (ours, for states that
            are not made of blocks).
        num_heads: heads of the attention.
        num_kernels: terms of lambda.
        embed_size: units of queries, keys and c(s).
        hypernet_size: hidden units of the queries' networks.
        weighted_head: whether a state-dependent weight multiplies each head (the authors: on MMM2 and
            3s5z_vs_3s6z).
        state_bias: whether c(s) is there.
    """

    unit_dim: int = 0
    agent_index: bool = False
    num_heads: int = 4
    num_kernels: int = 4
    embed_size: int = 32
    hypernet_size: int = 64
    weighted_head: bool = False
    state_bias: bool = True

    @nn.compact
    def __call__(self, inputs: MixerInputs) -> Mixed:
        """Mixes."""
        q, q_max, _, state = inputs
        attention = _Attention(
            self.num_heads, self.embed_size, self.hypernet_size, self.weighted_head
        )
        weight, regulariser = attention(state, self._unit_features(inputs))
        weight = weight + 1e-10
        importance = _Importance(self.num_kernels)(state, inputs.action)
        advantage = jax.lax.stop_gradient(weight * (q - q_max))
        q_tot = jnp.sum(weight * q + advantage * (importance - 1.0), axis=-1)
        if self.state_bias:
            q_tot = q_tot + MLP((self.embed_size, 1), name="value")(state)[..., 0]
        return Mixed(q_tot, regulariser)

    def _unit_features(self, inputs: MixerInputs) -> Float[Array, "*batch N U"]:
        state, num_agents = inputs.state, inputs.q.shape[-1]
        size = num_agents * self.unit_dim
        if size > state.shape[-1]:
            raise ValueError(
                f"unit_dim {self.unit_dim} for {num_agents} agents needs {size} state features, "
                f"there are {state.shape[-1]}; 0 takes the whole state for every agent."
            )
        if self.unit_dim:
            units = state[..., :size].reshape(*state.shape[:-1], num_agents, self.unit_dim)
        else:
            units = jnp.broadcast_to(state[..., None, :], (*inputs.q.shape, state.shape[-1]))
        if self.agent_index:
            index = jnp.eye(num_agents, dtype=state.dtype)
            index = jnp.broadcast_to(index, (*inputs.q.shape, num_agents))
            units = jnp.concatenate([units, index], axis=-1)
        return units


class _Query(nn.Module):
    """What one head of the attention asks for at a state."""

    embed_size: int
    hypernet_size: int

    @nn.compact
    def __call__(self, state: Float[Array, "*batch G"]) -> Float[Array, "*batch E"]:
        hidden = nn.relu(Linear(self.hypernet_size)(state))
        return Linear(self.embed_size, use_bias=False)(hidden)


class _Attention(nn.Module):
    """w_i = sum_h softmax_i(query_h(s) . key_h(u_i) / sqrt(E)): the sum over agents is the number of heads."""

    num_heads: int
    embed_size: int
    hypernet_size: int
    weighted_head: bool

    @nn.compact
    def __call__(
        self, state: Float[Array, "*batch G"], units: Float[Array, "*batch N U"]
    ) -> tuple[Float[Array, "*batch N"], Float[Array, "*batch"]]:
        """Weights, and the sum over heads of the mean over agents of the squared logits."""
        heads = nn.vmap(
            _Query,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=-2,
            axis_size=self.num_heads,
        )
        query = heads(self.embed_size, self.hypernet_size, name="query")(state)
        key = Linear(self.num_heads * self.embed_size, use_bias=False, name="key")(units)
        key = key.reshape(*units.shape[:-1], self.num_heads, self.embed_size)
        logits = jnp.sum(query[..., None, :, :] * key, axis=-1)
        weight = jax.nn.softmax(logits / self.embed_size**0.5, axis=-2)
        if self.weighted_head:
            of_head = MLP((self.hypernet_size, self.num_heads), name="head_weight")(state)
            weight = weight * jnp.abs(of_head)[..., None, :]
        return jnp.sum(weight, axis=-1), jnp.sum(jnp.mean(logits**2, axis=-2), axis=-1)


class _Importance(nn.Module):
    """lambda_i(s, a) = sum_k (|x_k(s)| + 1e-10) sigmoid(y_k(s))_i sigmoid(z_k(s, a))_i, all linear; positive."""

    num_kernels: int

    @nn.compact
    def __call__(
        self, state: Float[Array, "*batch G"], action: Float[Array, "*batch N A"]
    ) -> Float[Array, "*batch N"]:
        *batch, num_agents, _ = action.shape
        joint = jnp.concatenate([state, action.reshape(*batch, -1)], axis=-1)
        size = self.num_kernels * num_agents
        scale = jnp.abs(Linear(self.num_kernels, name="scale")(state)) + 1e-10
        of_agent = nn.sigmoid(Linear(size, name="agent")(state))
        of_action = nn.sigmoid(Linear(size, name="action")(joint))
        gates = (of_agent * of_action).reshape(*batch, self.num_kernels, num_agents)
        return jnp.sum(scale[..., None] * gates, axis=-2)


class CentralMixer(nn.Module):
    """WQMIX's unrestricted Q* = f(s, q) + V(s), without monotonicity; Rashid et al. 2020.

    `qmix_central_no_hyper.py` of the authors' code. Its `q` are the utilities of a network of its own.

    Attributes:
        hidden_size: units of the three hidden layers of f and of the one of V.
    """

    hidden_size: int = 256

    @nn.compact
    def __call__(self, inputs: MixerInputs) -> Mixed:
        """Mixes."""
        joint = jnp.concatenate([inputs.state, inputs.q], axis=-1)
        advantage = MLP((self.hidden_size,) * 3 + (1,), name="advantage")(joint)
        value = MLP((self.hidden_size, 1), name="value")(inputs.state)
        return _plain((advantage + value)[..., 0])
