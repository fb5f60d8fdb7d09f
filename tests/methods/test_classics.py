"""A2C, REINFORCE and DQN: names for settings of IPPO and IQL."""

from typing import Any

import pytest

from marl_jax import methods
from tests.methods.learners import greedy_returns
from tests.probes import Context, Delayed, Probe

ON_POLICY: dict[str, Any] = {
    "num_envs": 32,
    "agent": "mlp",
    "hidden_size": 16,
    "critic_hidden": (16,),
    "lr": 0.02,
    "lr_final": 0.02,
    "entropy_weight": 0.05,
}
OFF_POLICY: dict[str, Any] = {
    "num_envs": 8,
    "hidden_size": 16,
    "lr": 0.005,
    "epsilon_anneal_steps": 800,
    "target_update_interval": 50,
    "update_interval": 1,
}


@pytest.mark.parametrize(
    ("name", "backbone", "options"),
    [
        ("a2c", "ippo", {"epochs": 1, "minibatches": 1, "gae_lambda": 0.95}),
        ("reinforce", "ippo", {"epochs": 1, "minibatches": 1, "gae_lambda": 1.0}),
        ("dqn", "iql", {"agent": "mlp", "sharing": "independent", "observe_last_action": False}),
    ],
)
def test_they_are_settings(name: str, backbone: str, options: dict[str, Any]) -> None:
    """And not backbones besides: parts stand on the backbone, with its options."""
    recipe = methods.recipe(name)
    config = recipe.Config()
    assert recipe.backbone is methods.recipe(backbone).backbone
    assert {key: getattr(config, key) for key in options} == options
    assert name not in methods.BACKBONES


@pytest.mark.parametrize("world", [Context, Delayed])
@pytest.mark.parametrize("name", ["a2c", "reinforce"])
def test_fresh_episodes_are_learned_from(name: str, world: type[Probe]) -> None:
    """Context: sight. Delayed: credit over time, of what nobody sees later."""
    assert (greedy_returns(name, world(), 400, 3, ON_POLICY) > 0.95).all()


def test_dqn_learns_what_its_agents_see() -> None:
    """Without a memory it cannot learn of what nobody sees later: the next value is the same, whatever was done."""
    assert (greedy_returns("dqn", Context(), 150, 3, OFF_POLICY) > 0.95).all()
