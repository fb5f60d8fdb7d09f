"""A linear layer whose weights another linear layer makes, from a code: a one-layer hypernetwork (Ha et al. 2017)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from marl_jax.networks.layers import torch_bias


class GeneratedLinear(nn.Module):
    """y = W(c) h + b(c), with W and b linear in the code c, plus a constant.

    MAVEN's `noise_rnn_agent.py` (without b) and ROMA's `latent_ce_dis_rnn_agent.py` make the weights of every row from
    its code and then apply them. Here the order is turned round, y = sum_k c_k (M_k h) + M_K h, so that no matrix of
    weights is ever made for a row; the function, the parameters and their initial law are the same. Its one parameter
    `kernel` is [H, K+1, A], or [H+1, K+1, A] with a bias: the last index of the codes' axis is the constant, the last
    of the inputs' axis is b.

    Attributes:
        num_outputs: A.
        use_bias: whether b is there.
    """

    num_outputs: int
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "*batch H"], code: Float[Array, "*batch K"]
    ) -> Float[Array, "*batch A"]:
        """Applies to `hidden` the layer that `code` describes; their leading axes may broadcast."""
        inputs = _with_one(hidden) if self.use_bias else hidden
        codes = _with_one(code)
        # As `torch.nn.Linear` draws the weight and the bias of the layer that makes W and b.
        shape = (inputs.shape[-1], codes.shape[-1], self.num_outputs)
        kernel = self.param("kernel", torch_bias(code.shape[-1]), shape)
        rows = inputs.reshape(-1, inputs.shape[-1]) @ kernel.reshape(inputs.shape[-1], -1)
        of_code = rows.reshape(*inputs.shape[:-1], *shape[1:])
        return jnp.sum(of_code * codes[..., None], axis=-2)


def _with_one(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
