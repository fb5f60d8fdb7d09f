"""Greedy and sampled episodes on a fixed set of keys."""

from typing import Any

import jax
import jax.numpy as jnp

from envs.base import MultiAgentEnv
from marl_jax.methods.base import Method
from marl_jax.rollout import rollouts
from marl_jax.types import Metrics

GREEDY, SAMPLED = "eval_return", "eval_sampled_return"
"""Names of the two returns; their means over episodes are the columns `eval_return_mean` and
`eval_sampled_return_mean` of metrics.csv."""


def headline_of(env: MultiAgentEnv[Any] | type[MultiAgentEnv[Any]]) -> str | None:
    """What `evaluate` calls the number that users of this task look at first; None where that is the return."""
    return None if env.headline is None else f"eval_{env.headline}"


def evaluate(
    env: MultiAgentEnv[Any], method: Method, method_state: Any, key: jax.Array, num_episodes: int
) -> Metrics:
    """Plays `num_episodes` greedy episodes, and as many sampled ones from the same starts.

    Sampled play is what training plays: actions are drawn from a stochastic policy; a method that explores
    epsilon-greedily acts with its present epsilon, one that adds noise with that noise. A gap between the two returns
    shows how much of what was learned rests on chance, or on one action that is only just the best.

    To halve the number of sampled episodes would save no time: a step costs about as much for 16 environments as for
    32. On the cheapest method (`iac` on Turn, 16,000 steps between evaluations) they take some 5% of a chunk.

    Returns:
        `eval_return` and `eval_length` of each greedy episode, the environment's extras at its end as `eval_NAME`, and
        `eval_sampled_return` of each sampled one: [num_episodes] each.
    """
    (batch, extras), (sampled, _) = rollouts(
        env, method, method_state, key, num_episodes, (False, True)
    )
    return {
        GREEDY: batch.team_return,
        SAMPLED: sampled.team_return,
        "eval_length": jnp.sum(batch.valid, axis=0),
        **{f"eval_{name}": value for name, value in extras.items()},
    }
