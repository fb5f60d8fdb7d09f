"""Flax modules, and how a team of agents shares them."""

from marl_jax.networks.agents import (
    GRUAgent,
    MLPAgent,
    Params,
    Sharing,
    TeamAgent,
    apply_per_agent,
    init_per_agent,
)
from marl_jax.networks.layers import MLP, Linear

__all__ = [
    "MLP",
    "GRUAgent",
    "Linear",
    "MLPAgent",
    "Params",
    "Sharing",
    "TeamAgent",
    "apply_per_agent",
    "init_per_agent",
]
