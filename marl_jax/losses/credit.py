"""Losses on credits: how differently a mixer pays the agents of a team."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from marl_jax.losses.policy_gradient import masked_mean


def credit_vectors(
    credits: Float[Array, "T B N"], valid: Bool[Array, "T B"]
) -> Float[Array, "B N T"]:
    """Each agent's credits over an episode as one vector, zero after the episode's end; CIA Eq. 3.

    The authors' code keeps the credits of padded steps: pass a `valid` that is true everywhere.
    """
    chex.assert_rank([credits, valid], [3, 2])
    return jnp.transpose(jnp.where(valid[..., None], credits, 0.0), (1, 2, 0))


def contrastive_identity_loss(scores: Float[Array, "B N K"]) -> Float[Array, ""]:
    """-log softmax of score (k, k) over the *agents* n, for each identity k; CIA Eq. 6, K = N.

    Averaged over the B K identities. An identity's bias is the same for all agents and cancels.

    Args:
        scores: how well agent n's credit vector matches identity k; a linear layer of `credit_vectors`,
            whose K kernels are the learned identities.
    """
    return _diagonal_cross_entropy(scores, axis=-2)


def identity_classification_loss(scores: Float[Array, "B N K"]) -> Float[Array, ""]:
    """-log softmax of score (n, n) over the *identities* k, for each agent n; CIA's ablation CC.

    The same scores as for `contrastive_identity_loss`, not transposed: agents are told apart by a
    classifier, which can be satisfied without changing the credits much.
    """
    return _diagonal_cross_entropy(scores, axis=-1)


def _diagonal_cross_entropy(scores: jax.Array, axis: int) -> jax.Array:
    chex.assert_rank(scores, 3)
    chex.assert_equal(scores.shape[1], scores.shape[2])
    log_prob = jax.nn.log_softmax(scores, axis=axis)
    return -jnp.mean(jnp.diagonal(log_prob, axis1=1, axis2=2))


def credit_entropy(
    credits: Float[Array, "*batch N"], mask: Float[Array, "*batch"]
) -> Float[Array, ""]:
    """Masked mean of H(p) / log N with p_i = (x_i + 1e-8) / sum_j (x_j + 1e-8); GRE (Zhao et al. 2022).

    1 if all agents get the same credit, 0 if one gets it all. It is *added* to the minimised loss (weight
    1e-3 or 1e-4 in the authors' runs).

    Args:
        credits: not negative, as those of a monotonic mixer.
        mask: 1 on the steps that count.
    """
    chex.assert_axis_dimension_gteq(credits, -1, 2)
    chex.assert_equal_shape_prefix([credits, mask], mask.ndim)
    p = credits + 1e-8
    p = p / jnp.sum(p, axis=-1, keepdims=True)
    entropy = -jnp.sum(p * jnp.log(p), axis=-1) / jnp.log(credits.shape[-1])
    return masked_mean(entropy, mask)


def credit_divergences(
    credits: Float[Array, "M T B N"], valid: Bool[Array, "T B"]
) -> Float[Array, "M M"]:
    """E[KL(d_i || d_j)] of all pairs of M mixers, with d the softmax over agents of a step's credits.

    CIA Eqs. 8-10, Figure 2: every mixer judges the same episodes.
    """
    chex.assert_rank([credits, valid], [4, 2])
    log_d = jax.nn.log_softmax(credits, axis=-1)
    kl = jnp.sum(jnp.exp(log_d)[:, None] * (log_d[:, None] - log_d[None]), axis=-1)
    mask = valid.astype(kl.dtype)
    return jnp.sum(kl * mask, axis=(-2, -1)) / jnp.maximum(jnp.sum(mask), 1.0)
