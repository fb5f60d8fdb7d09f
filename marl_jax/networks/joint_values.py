"""Values of joint actions that no mixer makes of the agents' values."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from marl_jax.networks.layers import MLP, Linear


class JointValues(NamedTuple):
    """What `QTRANJoint` returns.

    Attributes:
        q: Q_jt(s, u).
        v: V_jt(s).
    """

    q: Float[Array, "*batch"]
    v: Float[Array, "*batch"]


class QTRANJoint(nn.Module):
    """QTRAN-base's joint networks, Q_jt(s, sum_i e(h_i, u_i)) and V_jt(s); Son et al. 2019.

    PyMARL's `qtran.py` with the architecture "qtran_paper" of size "small". The agents' hidden states
    are not detached: the joint value's loss trains the agents' networks too.

    Attributes:
        embed_size: units of both hidden layers of Q_jt and of V_jt.
    """

    embed_size: int = 64

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "*batch N H"],
        action: Float[Array, "*batch N A"],
        state: Float[Array, "*batch G"],
    ) -> JointValues:
        """Values one joint action.

        Args:
            hidden: the agents' hidden states.
            action: their actions, one-hot.
            state: the global state.
        """
        pairs = jnp.concatenate([hidden, action], axis=-1)
        encoded = MLP((pairs.shape[-1],) * 2, name="encoder")(pairs)
        joint = jnp.concatenate([state, jnp.sum(encoded, axis=-2)], axis=-1)
        sizes = (self.embed_size, self.embed_size, 1)
        q, v = MLP(sizes, name="q")(joint), MLP(sizes, name="v")(state)
        return JointValues(q[..., 0], v[..., 0])


class JointPolicyCritic(nn.Module):
    """Q(s, p_1, ..., p_N) = w2(s) . ReLU(W1(s)^T [p_1 ... p_N] + b1(s)) + V(s); LICA (Zhou et al. 2020), `lica.py`.

    Unlike a monotonic mixer's, its weights may have any sign, and what it mixes are actions.

    Attributes:
        size: units of the hidden layer.
        hypernet: units of the hidden layers of the networks that make W1 and w2 from the state.
    """

    size: int = 64
    hypernet: tuple[int, ...] = (64,)

    @nn.compact
    def __call__(
        self, actions: Float[Array, "*batch N A"], state: Float[Array, "*batch G"]
    ) -> Float[Array, "*batch"]:
        """Values one joint action, or one joint policy.

        Args:
            actions: the agents' actions, one-hot, or their probabilities.
            state: the global state.
        """
        x = actions.reshape(*state.shape[:-1], -1)
        kernel1 = MLP((*self.hypernet, x.shape[-1] * self.size), name="kernel1")(state)
        kernel1 = kernel1.reshape(*x.shape, self.size)
        bias1 = Linear(self.size, name="bias1")(state)
        hidden = nn.relu(jnp.sum(x[..., None] * kernel1, axis=-2) + bias1)
        kernel2 = MLP((*self.hypernet, self.size), name="kernel2")(state)
        value = MLP((self.size, 1), name="value")(state)[..., 0]
        return jnp.sum(hidden * kernel2, axis=-1) + value
