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


def constant_entropy_bonus(entropy: Float[Array, ""]) -> Float[Array, ""]:
    """H / H', where H' is H that is not differentiated; LICA (Zhou et al. 2020) Eq. 7, the authors' `lica_learner.py`.

    It is 1 whatever the entropy, and its slope is that of log H: the push grows as the entropy falls.
    """
    return entropy / jnp.maximum(jax.lax.stop_gradient(entropy), 1e-8)


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
    q_values: Float[Array, "*shape A"], probs: Float[Array, "*shape A"], action: jax.Array
) -> Float[Array, "*shape"]:
    """A = Q(s, u) - sum_a pi(a) Q(s, (u^-i, a)); COMA (Foerster et al. 2018) Eq. 4.

    Args:
        q_values: each agent's Q for its own actions with the others' actions fixed.
        probs: its policy.
        action: the action it took, [*shape] int.
    """
    one_hot = jax.nn.one_hot(action, q_values.shape[-1], dtype=q_values.dtype)
    return jnp.sum((one_hot - probs) * q_values, axis=-1)


def clipped_surrogate_loss(
    log_prob: Float[Array, "*shape"],
    behaviour_log_prob: Float[Array, "*shape"],
    advantage: Float[Array, "*shape"],
    clip: float,
    mask: Float[Array, "*shape"],
) -> Float[Array, ""]:
    """-mean of min(ratio A, clip(ratio, 1 - eps, 1 + eps) A) over the masked entries; PPO (Schulman et al. 2017) Eq. 7.

    Args:
        log_prob: log pi(u | s), in which it is differentiated.
        behaviour_log_prob: the same of the policy that took the actions.
        advantage: A.
        clip: eps.
        mask: 1 on the steps that count.
    """
    ratio = jnp.exp(log_prob - behaviour_log_prob)
    clipped = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    return -masked_mean(jnp.minimum(ratio * advantage, clipped * advantage), mask)


def clipped_value_loss(
    value: Float[Array, "*shape"],
    old_value: Float[Array, "*shape"],
    target: Float[Array, "*shape"],
    clip: float,
    mask: Float[Array, "*shape"],
    huber_delta: float = 0.0,
) -> Float[Array, ""]:
    """Half the mean of the larger of (V - G)^2 and (V_clipped - G)^2; OpenAI Baselines `ppo2/model.py`.

    V_clipped departs from the old value by `clip` at most. With `huber_delta` the halved squares are Huber's loss
    (Yu et al. 2022): e^2 / 2 for |e| up to delta, delta (|e| - delta / 2) beyond it.
    """

    def penalty(error: jax.Array) -> jax.Array:
        if not huber_delta:
            return 0.5 * error**2
        size = jnp.abs(error)
        inside = jnp.minimum(size, huber_delta)
        return 0.5 * inside**2 + huber_delta * (size - inside)

    near = old_value + jnp.clip(value - old_value, -clip, clip)
    return masked_mean(jnp.maximum(penalty(value - target), penalty(near - target)), mask)


def approximate_kl(
    log_ratio: Float[Array, "*shape"], mask: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Mean of r - 1 - log r over the masked entries, r = pi / pi_old on samples of pi_old.

    An estimate of KL(pi_old || pi) without bias, and never negative (Schulman 2020, "Approximating KL Divergence").
    """
    return masked_mean(jnp.expm1(log_ratio) - log_ratio, mask)


def explained_variance(
    value: Float[Array, "*shape"], target: Float[Array, "*shape"], mask: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """1 - Var(G - V) / Var(G) over the masked entries: 1 if V foretells G, 0 if it is worth no more than a constant.

    It is 0 where targets are all equal, since there is nothing to explain.
    """

    def variance(x: jax.Array) -> jax.Array:
        return masked_mean((x - masked_mean(x, mask)) ** 2, mask)

    whole, left = variance(target), variance(target - value)
    return jnp.where(whole > 0, 1.0 - left / jnp.where(whole > 0, whole, 1.0), 0.0)
