"""TD3 on continuous actions, for every agent by itself.

Paper: Fujimoto et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods". Authors' code:
github.com/sfujim/TD3.
"""

import dataclasses
from typing import Annotated, ClassVar, Literal

from envs.configuration import Range
from marl_jax.methods.maddpg import DDPG, DDPGConfig
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import Initialization


@dataclasses.dataclass(frozen=True)
class TD3Config(DDPGConfig):
    """Hyper-parameters of TD3; defaults are the authors' (`main.py`, `TD3.py`) unless said otherwise."""

    hidden_size: Annotated[int, Range(minimum=1)] = 256
    """Units of both hidden layers, of policies and of critics."""
    initialization: Initialization = "torch"
    """How weights are drawn."""
    gamma: Annotated[float, Range(minimum=0, maximum=1)] = 0.99
    """Discount factor."""
    target_update_rate: Annotated[float, Range(above=0, maximum=1)] = 0.005
    """Share of the way that the targets go after every step of the policies."""
    actor_lr: Annotated[float, Positive] = 3e-4
    """Learning rate of the policies (Adam)."""
    critic_lr: Annotated[float, Positive] = 3e-4
    """Learning rate of the critics (Adam)."""
    max_grad_norm: Annotated[float, NotNegative] = 0.0
    """Norm to which the gradient of each agent's policy and critic is clipped; 0 for never."""
    logit_weight: Annotated[float, NotNegative] = 0.0
    """Weight of the policies' squared outputs in their loss."""
    update_interval: Annotated[int, Range(minimum=1)] = 1
    """Environment steps for each gradient step; those of an iteration are taken after its episodes."""
    batch_size: Annotated[int, Range(minimum=1)] = 256
    """Steps drawn for a gradient step; learning starts when there are as many."""
    random_steps: Annotated[int, NotNegative] = 25_000
    """Environment steps at first in which actions are drawn uniformly. The authors learn from then on only."""
    twin_critics: Literal[True] = True
    """Each agent has two critics, of which the smaller is the target."""
    policy_delay: Annotated[int, Range(minimum=1)] = 2
    """Steps of the critics for each step of policies and targets."""
    target_noise: Annotated[float, NotNegative] = 0.2
    """Deviation of the normal noise on the target policies' actions, cut off at 0.5."""


@dataclasses.dataclass(frozen=True)
class TD3(DDPG):
    """TD3 (Fujimoto et al. 2018) on continuous actions: twin critics, delayed policies, smoothed targets."""

    Config: ClassVar[type[DDPGConfig]] = TD3Config
    discrete: ClassVar[bool] = False
