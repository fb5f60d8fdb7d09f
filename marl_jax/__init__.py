"""Teams of agents that learn to be different from each other, in JAX.

>>> import marl_jax
>>> result = marl_jax.train(method="liir", env="turn", seeds=4, total_steps=100_000)
"""

from marl_jax.neighbours import refuse_strangers

# Before anything is imported from them.
refuse_strangers()

from envs.configuration import ConfigurationError
from marl_jax.api import resume, search, train
from marl_jax.loading import load, load_policy, load_team
from marl_jax.loop import TrainResult
from marl_jax.policy import Policy

__all__ = [
    "ConfigurationError",
    "Policy",
    "TrainResult",
    "load",
    "load_policy",
    "load_team",
    "resume",
    "search",
    "train",
]
