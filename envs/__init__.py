"""Multi-agent worlds as pure JAX functions. `envs.make("turn")` is the way in."""

from envs.cpu import prepare_cpu_backend
from envs.imports import import_jumanji
from envs.threefry import write_out_on_cpu

# In this order: importing jumanji starts JAX's backend.
prepare_cpu_backend()
write_out_on_cpu()
import_jumanji()

from envs.base import MultiAgentEnv, Observation, check_environment, random_action
from envs.configuration import Config, ConfigurationError, Range
from envs.registry import make, names, own_names, register_with_jumanji, world_class

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
    "own_names",
    "random_action",
    "world_class",
]
