"""Learning on the PPO core: worlds that are solved only if memory, the central critic, masks and credit are right."""

from typing import Any

import numpy as np
import pytest

from tests.methods.learners import train
from tests.methods.ppo_learners import greedy_returns, make
from tests.probes import (
    Context,
    Delayed,
    Fallen,
    FallenUnnoticed,
    Hidden,
    Masked,
    Probe,
    Recall,
    Roles,
)

SOLVER: dict[str, Any] = {
    "num_envs": 32,
    "hidden_size": 16,
    "critic_hidden": (16,),
    "lr": 0.01,
    "lr_final": 0.01,
    # One-step advantages: only the critic's knowledge tells what an early action was worth.
    "gae_lambda": 0.0,
    "epochs": 4,
    "minibatches": 4,
    "entropy_weight": 0.05,
    "entropy_weight_final": 0.005,
    "entropy_anneal_end": 3000,
}
SLOW = pytest.mark.slow


def returns(world: Probe, name: str, iterations: int, **options: Any) -> np.ndarray:
    """[seeds, N], greedy, after so many iterations; learners without options of their own share what is compiled."""
    if isinstance(world, Delayed):
        # Nobody sees what was done at first, so that only rewards to come can tell; late or rare ones need longer
        # exploration. While nothing is paid, what the agents' values differ by is all that their advantages show.
        options |= {"gae_lambda": 0.95, "entropy_weight": 0.1, "entropy_anneal_end": 10_000}
    method = make(name, **{**SOLVER, **options})
    return greedy_returns(world, method, train(world, method, iterations))


@pytest.mark.parametrize(
    "world", [Roles, *(pytest.param(w, marks=SLOW) for w in (Context, Delayed, Masked))]
)
# IPPO and MAPPO show below that they learn.
@pytest.mark.parametrize(
    "name", ["happo", "liir", *(pytest.param(n, marks=SLOW) for n in ("ippo", "mappo"))]
)
def test_all_of_them_solve(name: str, world: type[Probe]) -> None:
    """Context: sight. Masked: one action is not there. Delayed: credit over time. Roles: agents that differ."""
    iterations = 60 if world is Roles else 100
    assert (returns(world(), name, iterations) > 0.95).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("eoi@mappo", {}),
        ("eoi@ippo", {}),
        ("roma@mappo", {"role_size": 2, "role_hidden": 8}),
        ("liir+roma@mappo", {"role_size": 2, "role_hidden": 8}),
    ],
)
@pytest.mark.slow
def test_new_pairs_solve(name: str, options: dict[str, Any]) -> None:
    """Roles: agents that differ."""
    assert (returns(Roles(), name, 100, **options) > 0.95).all()


@pytest.mark.parametrize(
    ("name", "solved"),
    [
        pytest.param("ippo", False, marks=SLOW),
        ("mappo", True),
        pytest.param("happo", True, marks=SLOW),
    ],
)
@pytest.mark.slow
def test_only_a_central_critic_brings_what_agents_do_not_see(name: str, solved: bool) -> None:
    result = returns(Hidden(), name, 60)
    assert (result > 0.95).all() if solved else result.mean() < 0.5


@pytest.mark.parametrize(
    ("agent", "solved"), [("gru", True), pytest.param("mlp", False, marks=SLOW)]
)
@pytest.mark.slow
def test_only_memory_recalls(agent: str, solved: bool) -> None:
    # The last action could carry the number; so it is not seen.
    result = returns(Recall(), "mappo", 80, agent=agent, observe_last_action=False)
    assert (result > 0.95).all() if solved else result.mean() < 0.45


@pytest.mark.parametrize(("world", "solved"), [(Fallen, True), (FallenUnnoticed, False)])
def test_the_dead_teach_nothing(world: type[Probe], solved: bool) -> None:
    result = returns(world(), "ippo", 40, observe_identity=False, observe_last_action=False)
    living = result[:, 0]
    assert (living > 0.95).all() if solved else living.mean() < 0.1
