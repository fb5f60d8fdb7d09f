"""What EITI, EDTI and Social Influence pay an agent for its influence on others."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def transition_influence(
    context: Float[Array, "*batch"],
    outcome: Float[Array, "*batch"],
    joint_context: Float[Array, "*batch"],
    joint_outcome: Float[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """1 - p(s_j' | s_j, a_j) / p(s_j' | s_j, a_j, s_i, a_i) from counts; EITI's code, `Curiosity.py`.

    How much more likely agent j's transition is for what agent i is and does; at most 1, and 0 where one of the counts
    is 0, which is then not known. The paper (Wang et al. 2020) has the logarithm of the ratio.

    Args:
        context: how often (s_j, a_j) was met.
        outcome: how often (s_j, a_j, s_j').
        joint_context: how often (s_j, a_j, s_i, a_i).
        joint_outcome: how often (s_j, a_j, s_i, a_i, s_j').
    """
    chex.assert_equal_shape([context, outcome, joint_context, joint_outcome])
    known = (context > 0) & (outcome > 0) & (joint_context > 0) & (joint_outcome > 0)
    alone = outcome / jnp.where(known, context, 1)
    together = jnp.where(known, joint_outcome, 1) / jnp.where(known, joint_context, 1)
    return jnp.where(known, 1.0 - alone / together, 0.0)


def social_influence(
    logits: Float[Array, "*batch A J K"],
    policy: Float[Array, "*batch A"],
    action: Int[Array, "*batch"],
) -> Float[Array, "*batch J"]:
    """KL(p(a_j | a_i) || sum_a pi_i(a) p(a_j | a)) for every other agent j; Jaques et al. 2019, Eq. 1 and 2.

    Args:
        logits: of agent j's next action, had agent i taken each of its A actions.
        policy: pi_i.
        action: a_i, what it took.
    """
    given = jax.nn.log_softmax(logits)
    weight = policy[..., :, None, None]
    # Not softmax and log: the mixture may underflow where the conditional law does not.
    marginal = jax.nn.logsumexp(given, axis=-3, b=jnp.broadcast_to(weight, given.shape))
    chosen = jax.nn.one_hot(action, policy.shape[-1], dtype=given.dtype)
    taken = jnp.sum(given * chosen[..., None, None], axis=-3)
    return jnp.sum(jnp.exp(taken) * (taken - marginal), axis=-1)
