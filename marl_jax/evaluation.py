"""Greedy episodes on a fixed set of keys."""

from typing import Any

import jax
import jax.numpy as jnp

from envs.base import MultiAgentEnv
from marl_jax.methods.base import Method
from marl_jax.rollout import rollout
from marl_jax.types import Metrics


def evaluate(
    env: MultiAgentEnv[Any], method: Method, method_state: Any, key: jax.Array, num_episodes: int
) -> Metrics:
    """Plays `num_episodes` greedy episodes.

    Returns:
        `eval_return` and `eval_length` of each episode, and the environment's extras at its end as
        `eval_NAME`: [num_episodes] each.
    """
    batch, extras = rollout(env, method, method_state, key, num_episodes, explore=False)
    return {
        "eval_return": batch.team_return,
        "eval_length": jnp.sum(batch.valid, axis=0),
        **{f"eval_{name}": value for name, value in extras.items()},
    }
