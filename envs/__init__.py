"""Multi-agent worlds as pure JAX functions. `envs.make("turn")` is the way in."""

import os

# jaxlib 0.10 dead-locks on the CPU backend of machines with few cores: a compiled scan stops and never returns.
# A thread pool larger than the number of cores avoids it. The variable is read once, when JAX starts its backend,
# and a user's own value wins. Everything in this project imports this package first, so this is the one place.
os.environ.setdefault("PJRT_NPROC", str(max(8, 2 * (os.cpu_count() or 1))))

from envs.base import MultiAgentEnv, Observation, check_environment
from envs.configuration import Config, ConfigurationError, Range
from envs.registry import make, names, register_with_jumanji, world_class

register_with_jumanji()

__all__ = [
    "Config",
    "ConfigurationError",
    "MultiAgentEnv",
    "Observation",
    "Range",
    "check_environment",
    "make",
    "names",
    "world_class",
]
