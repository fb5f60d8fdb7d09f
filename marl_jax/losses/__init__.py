"""Pure functions on arrays, one equation each, tested against numbers worked out by hand."""

from marl_jax.losses.policy_gradient import (
    counterfactual_advantage,
    importance_weighted_objective,
    masked_mean,
    normalise,
    policy_gradient_loss,
)
from marl_jax.losses.returns import lambda_returns

__all__ = [
    "counterfactual_advantage",
    "importance_weighted_objective",
    "lambda_returns",
    "masked_mean",
    "normalise",
    "policy_gradient_loss",
]
