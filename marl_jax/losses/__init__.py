"""Pure functions on arrays, one equation each, tested against numbers worked out by hand."""

from marl_jax.losses.credit import (
    contrastive_identity_loss,
    credit_divergences,
    credit_entropy,
    credit_vectors,
    identity_classification_loss,
)
from marl_jax.losses.exploration import social_influence, transition_influence
from marl_jax.losses.individuality import (
    conditional_entropy,
    earlier_steps,
    identity_cross_entropy,
    positive_distance,
)
from marl_jax.losses.influence import influence, influence_surrogate, novelty, synchrony_penalty
from marl_jax.losses.policy_gradient import (
    approximate_kl,
    clipped_surrogate_loss,
    clipped_value_loss,
    constant_entropy_bonus,
    counterfactual_advantage,
    explained_variance,
    importance_weighted_objective,
    masked_mean,
    normalise,
    policy_gradient_loss,
)
from marl_jax.losses.returns import lambda_returns
from marl_jax.losses.roles import partners, scale_to_unit, softplus_of_clamped, specialisation_loss
from marl_jax.losses.soft import soft_value, temperature_loss
from marl_jax.losses.td import (
    UNAVAILABLE,
    action_values,
    central_weights,
    greedy_values,
    mask_unavailable,
    one_step_targets,
    optimistic_weights,
    qtran_nopt_loss,
    qtran_opt_loss,
    td_loss,
)

__all__ = [
    "UNAVAILABLE",
    "action_values",
    "approximate_kl",
    "central_weights",
    "clipped_surrogate_loss",
    "clipped_value_loss",
    "conditional_entropy",
    "constant_entropy_bonus",
    "contrastive_identity_loss",
    "counterfactual_advantage",
    "credit_divergences",
    "credit_entropy",
    "credit_vectors",
    "earlier_steps",
    "explained_variance",
    "greedy_values",
    "identity_classification_loss",
    "identity_cross_entropy",
    "importance_weighted_objective",
    "influence",
    "influence_surrogate",
    "lambda_returns",
    "mask_unavailable",
    "masked_mean",
    "normalise",
    "novelty",
    "one_step_targets",
    "optimistic_weights",
    "partners",
    "policy_gradient_loss",
    "positive_distance",
    "qtran_nopt_loss",
    "qtran_opt_loss",
    "scale_to_unit",
    "social_influence",
    "soft_value",
    "softplus_of_clamped",
    "specialisation_loss",
    "synchrony_penalty",
    "td_loss",
    "temperature_loss",
    "transition_influence",
]
