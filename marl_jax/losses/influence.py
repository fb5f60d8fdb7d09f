"""ALITA's influence and novelty. Paper: "Influence-Based Reinforcement Learning for Intrinsically-Motivated Agents"."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def influence(
    estimate: Float[Array, "*batch N"],
    target: Float[Array, "*batch N"],
    weight: Float[Array, "*batch N"],
) -> Float[Array, ""]:
    """F: mean over the batch of sum_i w_i (q_i - z_i)^2, with z constant; ALITA Eq. 4, 7 and 9.

    Args:
        estimate: q_i, each agent's value given what the influencer does.
        target: z_i, the best value that agent i could have.
        weight: alpha_i, of each agent's gap: 0 for the influencer itself and where there is no best value.
    """
    chex.assert_equal_shape([estimate, target, weight])
    gap = estimate - jax.lax.stop_gradient(target)
    return jnp.mean(jnp.sum(weight * gap**2, axis=-1))


def influence_surrogate(
    log_prob: Float[Array, " T"],
    value: Float[Array, "T N"],
    target: Float[Array, "T N"],
    discount: Float[Array, " T"],
    weight: Float[Array, " N"],
) -> Float[Array, " T"]:
    """What has the gradient of Theorem 1 in the influencer's policy, from one trajectory.

    The gradient of entry t is sum_i w_i (g_t^2 grad log pi_t + 2 g_t sum_{k>0} D_t,k grad log pi_{t+k} q_{t+k}) with
    g = q - z and D_t,k the product of discounts from t to t+k-1: in expectation the gradient of
    E_{a ~ pi}[(q(s_t, a) - z)^2], s_t given. The paper writes the inner sum as an expectation over the states visited
    later, up to a factor; here it is the sum. Values and targets are constant.

    Args:
        log_prob: log pi_1(a_t | s_t).
        value: q_i(s_t, a_t).
        target: z_i(s_t).
        discount: gamma times the environment's discount at step t.
        weight: alpha_i.
    """
    chex.assert_equal_shape([value, target])
    gap = jax.lax.stop_gradient(value - target)
    value, discount = jax.lax.stop_gradient((value, discount))

    def earlier(later: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        log_prob, value, discount = step
        return log_prob * value + discount * later, discount * later

    # Backwards: what is still to come after step t, discounted to it.
    _, later = jax.lax.scan(
        earlier, jnp.zeros_like(value[0]), (log_prob, value, discount), reverse=True
    )
    return jnp.sum(weight * (gap**2 * log_prob[:, None] + 2.0 * gap * later), axis=-1)


def novelty(
    reconstruction: Float[Array, "*batch D"], original: Float[Array, "*batch D"]
) -> Float[Array, "*batch"]:
    """Psi = |reconstruction - original|^2; ALITA Eq. 10."""
    chex.assert_equal_shape([reconstruction, original])
    return jnp.sum((reconstruction - original) ** 2, axis=-1)


def synchrony_penalty(
    novelty: Float[Array, "*batch"],
    policy: Float[Array, "*batch A"],
    action: Float[Array, "*batch A"],
    decay: float,
) -> Float[Array, "*batch"]:
    """r_int = -exp(-omega psi) |pi_i(s_i) - a_i|^2: departing from one's policy is free where the influencer is new;
    ALITA Eq. 11.

    Args:
        novelty: psi of the influencer's observation and action.
        policy: pi_i(s_i).
        action: a_i.
        decay: omega_i.
    """
    chex.assert_equal_shape([policy, action])
    return -jnp.exp(-decay * novelty) * jnp.sum((policy - action) ** 2, axis=-1)
