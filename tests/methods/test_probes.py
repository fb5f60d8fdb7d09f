"""Learning: every method solves the worlds that are solvable for it, and fails where it must."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.methods.actor_critic import ActorCritic
from marl_jax.rollout import rollout
from tests.methods.learners import NAMES, fast_jit, make, train
from tests.probes import (
    Context,
    Delayed,
    Echo,
    Hidden,
    Lock,
    Masked,
    Probe,
    Recall,
    Roles,
    Steady,
    SteadyThenOver,
    TakeOrWait,
    Vault,
)

SOLVER: dict[str, Any] = {
    "num_envs": 32,
    "hidden_size": 16,
    "critic_hidden": (16,),
    "optimizer": "adam",
    "actor_lr": 0.01,
    "critic_lr": 0.02,
    "epsilon_anneal_steps": 4000,
    "epsilon_finish": 0.1,
    "gamma": 0.9,
    "target_update_interval": 8,
}


def greedy_return(env: Probe, method: ActorCritic, state: Any) -> np.ndarray:
    """[seeds] mean return of greedy episodes."""

    @fast_jit
    @jax.vmap
    def play(state: Any) -> jax.Array:
        key = jax.random.key(7)
        return rollout(env, method, state, key, 64, explore=False)[0].team_return.mean()

    return np.asarray(play(state))


@pytest.mark.parametrize(
    ("env", "best"),
    [
        *((world, 1.0) for world in (Context, Masked, Recall, Delayed, Roles, Echo, Hidden)),
        (Lock, 10.0),
        (Vault, 10.0),
    ],
)
def test_the_scripted_policies_are_what_the_probes_promise(env: type[Probe], best: float) -> None:
    world = env()
    state, timestep = world.reset(jax.random.key(3))
    total = 0.0
    while not timestep.last():
        state, timestep = world.step(state, world.scripted_action(state))
        total += float(timestep.reward.mean())
    assert total == best


@pytest.mark.parametrize(
    "name", [n if n == "coma" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
@pytest.mark.parametrize(
    "env", [*(pytest.param(e, marks=pytest.mark.slow) for e in (Context, Delayed)), Roles]
)
def test_every_method_solves(env: type[Probe], name: str) -> None:
    """Context: sight. Delayed: credit over time. Roles: agents that differ."""
    method, world = make(name, **SOLVER), env()
    state = train(world, method, 200)
    assert (greedy_return(world, method, state) > 0.95).all()


@pytest.mark.slow
def test_agents_that_cannot_tell_who_they_are_cannot_take_roles() -> None:
    method = make("iac", **SOLVER, observe_identity=False)
    assert (greedy_return(Roles(), method, train(Roles(), method, 50)) == 0.0).all()


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.slow
def test_unavailable_actions_are_left_alone(before: bool) -> None:
    method, world = make("iac", **{**SOLVER, "mask_before_softmax": before}), Masked()
    # One unavailable action would make the mean negative.
    assert (greedy_return(world, method, train(world, method, 100)) > 0.95).all()


@pytest.mark.slow
def test_a_recurrent_agent_remembers() -> None:
    method, world = make("iac", **SOLVER, agent="gru", observe_last_action=False), Recall()
    assert (greedy_return(world, method, train(world, method, 300)) > 0.95).all()


@pytest.mark.parametrize(("gamma", "expected"), [(0.5, 1.0), (0.9, 2.0)])
@pytest.mark.slow
def test_the_discount_decides_between_now_and_later(gamma: float, expected: float) -> None:
    method, world = make("iac", **{**SOLVER, "gamma": gamma}), TakeOrWait()
    np.testing.assert_array_equal(greedy_return(world, method, train(world, method, 100)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "expected"),
    [
        # Truncated: 1 + V / 2 at every step.
        (Steady, 2.0),
        # Terminated at step 4: steps 2 to 4 look the same, (1 + V/2) twice and 1: V = (3 + V) / 3.
        (SteadyThenOver, 1.5),
    ],
)
def test_values_at_the_time_limit(env: type[Probe], expected: float) -> None:
    options = {**SOLVER, "gamma": 0.5, "td_lambda": 0.0, "optimizer": "sgd", "num_envs": 2}
    method: Any = make("iac", **{**options, "critic_lr": 0.005})
    world = env()
    state = train(world, method, 400)

    def values(state: Any) -> jax.Array:
        batch, _ = rollout(world, method, state, jax.random.key(0), 1, explore=True)
        return method._values(state.params["critic"], method.critic_inputs.local(batch))[1:4, 0]

    np.testing.assert_allclose(jax.vmap(values)(state), expected, atol=0.15)


# LIIR against its own ablations. `Hidden` pays for what only the central value can see; agents' own values with
# one-step advantages are blind to it.

BLIND = {
    **SOLVER,
    "actor_lr": 0.002,
    "intrinsic_lr": 0.03,
    "max_grad_norm": 0.5,
    "epsilon_anneal_steps": 8000,
    "epsilon_finish": 0.2,
    "advantage": "one_step",
}


def intrinsic_preference(method: Any, state: Any) -> np.ndarray:
    """[seeds] the mean intrinsic reward of the right first action minus that of all first actions."""

    def preference(state: Any) -> jax.Array:
        batch, _ = rollout(Hidden(), method, state, jax.random.key(5), 64, explore=True)
        paying = method if hasattr(method, "intrinsic_reward_table") else method.parts[0]
        table = paying.intrinsic_reward_table(state, batch)[0]
        right = batch.observation[0, ..., : table.shape[-1]]
        return jnp.sum(table * right, axis=-1).mean() - table.mean()

    return np.asarray(jax.vmap(preference)(state))


@pytest.mark.slow
def test_the_intrinsic_reward_brings_the_central_values_knowledge_to_the_agents() -> None:
    method = make("liir_paper", **BLIND, intrinsic_weight=1.0)
    state = train(Hidden(), method, 400, seeds=8)
    # Measured: 1 to 7, and 0.3 to 1.
    assert np.median(intrinsic_preference(method, state)) > 1.5
    assert greedy_return(Hidden(), method, state).mean() > 0.55


@pytest.mark.slow
@pytest.mark.parametrize(
    "ablation",
    [{"intrinsic_weight": 0.0}, {"intrinsic_weight": 1.0, "meta_gradient": "batch"}],
    ids=["without", "batch"],
)
def test_neither_without_intrinsic_reward_nor_with_the_authors_scalar(
    ablation: dict[str, Any],
) -> None:
    method = make("liir_paper", **BLIND, **ablation)
    state = train(Hidden(), method, 400, seeds=8)
    # Measured: 0.1 at most but for one seed, and 0 to 0.4.
    assert abs(np.median(intrinsic_preference(method, state))) < 0.5
    assert greedy_return(Hidden(), method, state).mean() < 0.45


@pytest.mark.parametrize(("name", "solved"), [("iac", False), ("central_v", True)])
def test_who_else_solves_the_hidden_probe(name: str, solved: bool) -> None:
    method = make(name, **SOLVER)
    result = greedy_return(Hidden(), method, train(Hidden(), method, 200))
    assert (result > 0.95).all() if solved else result.mean() < 0.45
