"""One-step Q-learning of a team: values of actions, targets and losses.

Greedy actions are `marl_jax.distributions.greedy_action`.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from marl_jax.losses.policy_gradient import masked_mean

UNAVAILABLE = -9_999_999.0
"""The value of an action that cannot be taken, as in PyMARL."""


def mask_unavailable(
    q: Float[Array, "*batch A"], action_mask: Bool[Array, "*batch A"]
) -> Float[Array, "*batch A"]:
    """Values with those of unavailable actions replaced by `UNAVAILABLE`."""
    chex.assert_equal_shape([q, action_mask])
    return jnp.where(action_mask, q, UNAVAILABLE)


def greedy_values(
    q: Float[Array, "*batch A"], action_mask: Bool[Array, "*batch A"]
) -> Float[Array, "*batch"]:
    """max_a Q(a) over the available actions."""
    return jnp.max(mask_unavailable(q, action_mask), axis=-1)


def action_values(
    q: Float[Array, "*batch A"], action: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Q(a) of one action; double Q-learning where `q` is the target network's and `action` the online one's."""
    chex.assert_equal_shape_prefix([q, action], action.ndim)
    # Not a gather: its transpose is a scatter, an order of magnitude slower for the few actions there are.
    return jnp.sum(q * jax.nn.one_hot(action, q.shape[-1], dtype=q.dtype), axis=-1)


def one_step_targets(
    reward: Float[Array, "*shape"], discount: Float[Array, "*shape"], next_q: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """y_t = r_t + d_t Q_{t+1}.

    Args:
        reward: r_t.
        discount: gamma times the environment's discount: 0 after a termination.
        next_q: the target networks' value of the online networks' greedy joint action at t+1.
    """
    chex.assert_equal_shape([reward, discount, next_q])
    return reward + discount * next_q


def td_loss(
    q: Float[Array, "*shape"],
    target: Float[Array, "*shape"],
    mask: Float[Array, "*shape"],
    weight: Float[Array, "*shape"] | None = None,
) -> Float[Array, ""]:
    """Masked mean of w (Q - y)^2, with y constant; PyMARL's `q_learner.py`, WQMIX's `max_q_learner.py`.

    Args:
        q: Q, of the team or of each agent.
        target: y.
        mask: m, 1 on the steps that count.
        weight: w, 1 if not given.
    """
    weight = jnp.ones_like(q) if weight is None else weight
    chex.assert_equal_shape([q, target, mask, weight])
    error = q - jax.lax.stop_gradient(target)
    return masked_mean(weight * error**2, mask)


def optimistic_weights(
    q_tot: Float[Array, "*shape"], target: Float[Array, "*shape"], alpha: float
) -> Float[Array, "*shape"]:
    """OW-QMIX: w = 1 where Q_tot is below its target, else alpha; constant (Rashid et al. 2020)."""
    chex.assert_equal_shape([q_tot, target])
    return jnp.where(q_tot < target, 1.0, alpha)


def central_weights(
    action: Int[Array, "*shape N"],
    greedy_action: Int[Array, "*shape N"],
    target: Float[Array, "*shape"],
    greedy_q: Float[Array, "*shape"],
    alpha: float,
) -> Float[Array, "*shape"]:
    """CW-QMIX: w = 1 where the joint action is greedy or y exceeds the greedy one's Q*, else alpha; constant.

    Args:
        action: what the agents did.
        greedy_action: what QMIX's agents hold best.
        target: y.
        greedy_q: the unrestricted target network's Q*(s_t, greedy_action).
        alpha: the weight of the other samples.
    """
    chex.assert_equal_shape([action, greedy_action])
    chex.assert_equal_shape([target, greedy_q])
    is_greedy = jnp.all(action == greedy_action, axis=-1)
    return jnp.where(is_greedy | (target > greedy_q), 1.0, alpha)


def qtran_opt_loss(
    greedy_q: Float[Array, "*shape N"],
    joint_q: Float[Array, "*shape"],
    v: Float[Array, "*shape"],
    mask: Float[Array, "*shape"],
) -> Float[Array, ""]:
    """Masked mean of (sum_i max_a q_i - Q_jt(s, greedy) + V)^2 with Q_jt constant; QTRAN-base's L_opt.

    Args:
        greedy_q: each agent's best available value.
        joint_q: the online joint network's value of these greedy actions.
        v: V_jt(s).
        mask: 1 on the steps that count.
    """
    return masked_mean(_qtran_gap(greedy_q, joint_q, v, mask) ** 2, mask)


def qtran_nopt_loss(
    q: Float[Array, "*shape N"],
    joint_q: Float[Array, "*shape"],
    v: Float[Array, "*shape"],
    mask: Float[Array, "*shape"],
) -> Float[Array, ""]:
    """Masked mean of min(sum_i q_i - Q_jt(s, u) + V, 0)^2 with Q_jt constant; QTRAN-base's L_nopt.

    Args:
        q: each agent's value of the action it took.
        joint_q: the online joint network's value of the actions taken.
        v: V_jt(s).
        mask: 1 on the steps that count.
    """
    return masked_mean(jnp.minimum(_qtran_gap(q, joint_q, v, mask), 0.0) ** 2, mask)


def _qtran_gap(q: jax.Array, joint_q: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    chex.assert_equal_shape([joint_q, v, mask])
    chex.assert_equal_shape_prefix([q, v], v.ndim)
    return jnp.sum(q, axis=-1) - jax.lax.stop_gradient(joint_q) + v
