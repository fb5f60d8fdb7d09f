"""Policy-gradient losses of the actor-critic family."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def masked_mean(x: Float[Array, "*shape"], mask: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Mean of `x` where `mask` is 1; 0 if it is 1 nowhere."""
    return jnp.sum(x * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def normalise(x: Float[Array, "*shape"], mask: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Shifts and scales `x` to mean 0 and standard deviation 1 over the entries where `mask` is 1."""
    mean = masked_mean(x, mask)
    variance = masked_mean((x - mean) ** 2, mask)
    return (x - mean) / (jnp.sqrt(variance + 1e-16) + 1e-8)


def policy_gradient_loss(
    log_prob: Float[Array, "*shape"],
    advantage: Float[Array, "*shape"],
    mask: Float[Array, "*shape"],
) -> Float[Array, ""]:
    """-mean of A log pi(u | s) over the masked entries; LIIR Eq. 6, COMA Eq. 4.

    It is linear in `log_prob`, which LIIR's meta-gradient uses.
    """
    return -masked_mean(advantage * log_prob, mask)


def importance_weighted_objective(
    log_prob: Float[Array, "*shape"],
    behaviour_log_prob: Float[Array, "*shape"],
    advantage: Float[Array, "*shape"],
    mask: Float[Array, "*shape"],
) -> Float[Array, ""]:
    """Mean of A pi'(u | s) / pi(u | s): the value of pi' on samples of pi; LIIR Eq. 8 with Algorithm 1, step 5.

    To be maximised in the parameters of pi' (`log_prob`).
    """
    ratio = jnp.exp(log_prob - jax.lax.stop_gradient(behaviour_log_prob))
    return masked_mean(advantage * ratio, mask)


def counterfactual_advantage(
    q_values: Float[Array, "*shape A"],
    probs: Float[Array, "*shape A"],
    action: jax.Array,
) -> Float[Array, "*shape"]:
    """A = Q(s, u) - sum_a pi(a) Q(s, (u^-i, a)); COMA (Foerster et al. 2018) Eq. 4.

    Args:
        q_values: each agent's Q for its own actions with the others' actions fixed.
        probs: its policy.
        action: the action it took, [*shape] int.
    """
    one_hot = jax.nn.one_hot(action, q_values.shape[-1], dtype=q_values.dtype)
    return jnp.sum((one_hot - probs) * q_values, axis=-1)
