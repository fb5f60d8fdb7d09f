"""What a part pays or adds reaches the team: without it, the same gradient step would be another one."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax import methods
from marl_jax.methods.part import Part
from marl_jax.methods.q_learner import Kept, QLearner
from tests import tiny
from tests.methods.learners import SIZES, drawn_state, make_batch
from tests.methods.ppo_learners import drawn_state as drawn_policy_state
from tests.methods.ppo_learners import episodes
from tests.methods.ppo_learners import make as make_ppo
from tests.probes import ACTIONS, AGENTS, LIMIT

KEY = jax.random.key(3)
TABLE = methods.pairs()
SMALL_TABLES = {"table_bits": 6, "joint_table_bits": 6}


def pairs(backbones: tuple[str, ...], *others: str) -> list[str]:
    """All pairs on these, but those of parts that teach otherwise."""
    return [
        f"{part}@{backbone}"
        for part, on in TABLE.items()
        for backbone in backbones
        if part not in others and backbone in on and on[backbone] is None
    ]


def gradient(method: Any, state: Any) -> dict[str, Any]:
    """What the parameters go along in a gradient step on random episodes."""
    batch = make_batch()
    latent: Any = ()
    if size := method.agents.context_size:
        latent = jnp.broadcast_to(jax.nn.one_hot(jnp.arange(3) % size, size), (LIMIT, 3, size))
    values = (
        jnp.zeros((LIMIT, 3, AGENTS, ACTIONS))
        if any(part.keeps_values for part in method.parts)
        else ()
    )
    batch = batch._replace(extras=Kept(latent, values))

    def loss(params: Any) -> Any:
        return method.loss(params, state, batch, KEY)[0]

    return jax.grad(loss)(state.params)


# EOI as released changes what agents try in training, and hypermarl brings nothing but networks.
@pytest.mark.parametrize("name", pairs(("qmix", "qplex"), "eoi_released", "hypermarl"))
def test_it_teaches_a_q_learner(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe: Any = methods.recipe(name)
    method: QLearner = recipe(recipe.Config(**tiny.method_options(name)), SIZES)
    (part,) = method.parts
    state, _ = method.watch_parts(drawn_state(method, 0), make_batch())
    with_it = gradient(method, state)
    monkeypatch.setattr(type(part), "loss", Part.loss)
    monkeypatch.setattr(type(part), "bonus", Part.bonus)
    without = gradient(method, state)
    team = [x for x in ("agent", "mixer") if x in with_it]
    one, other = ([gradients[x] for x in team] for gradients in (with_it, without))
    apart = jax.tree.map(lambda x, y: np.abs(x - y).max(), one, other)
    assert max(jax.tree.leaves(apart)) > 1e-6


# Those of roma and kaleidoscope are losses: `test_pairs.py` and `test_kaleidoscope.py` have them.
@pytest.mark.parametrize("name", pairs(("mappo",), "hypermarl", "kaleidoscope", "roma"))
def test_it_pays_on_a_policy(name: str) -> None:
    options: dict[str, Any] = {k: v for k, v in SMALL_TABLES.items() if k in options_of(name)}
    method = make_ppo(name, **options)
    state = drawn_policy_state(method)
    batch = episodes()
    # So few sights that some are met again.
    batch = batch._replace(observation=1.0 * (batch.observation > 0.5))
    experience = method.experience(state, batch)
    _, reward, _ = method.rewards(state, experience)
    alive = np.asarray(experience.alive) > 0
    paid = np.asarray(reward[..., 0] - experience.batch.reward)[alive]
    assert np.std(paid) > 1e-6


def options_of(name: str) -> set[str]:
    """The names of all its options."""
    return {field.name for field in dataclasses.fields(methods.recipe(name).Config)}
