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
from marl_jax.networks.attention import AttentionCritic
from marl_jax.networks.critics import Critic
from marl_jax.networks.joint_values import JointPolicyCritic, JointValues, QTRANJoint
from marl_jax.networks.layers import MLP, Initialization, Linear, hidden_gain
from marl_jax.networks.mixers import (
    QMIX,
    QPLEX,
    VDN,
    CentralMixer,
    Mixed,
    MixerInputs,
    permute_agents,
    temporal_credits,
)

__all__ = [
    "MLP",
    "QMIX",
    "QPLEX",
    "VDN",
    "AttentionCritic",
    "CentralMixer",
    "Critic",
    "GRUAgent",
    "Initialization",
    "JointPolicyCritic",
    "JointValues",
    "Linear",
    "MLPAgent",
    "Mixed",
    "MixerInputs",
    "Params",
    "QTRANJoint",
    "Sharing",
    "TeamAgent",
    "apply_per_agent",
    "hidden_gain",
    "init_per_agent",
    "permute_agents",
    "temporal_credits",
]
