"""Pairs of parts and backbones that no paper has: which there are, and what they are made of."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import marl_jax
from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.part import part_of
from marl_jax.methods.recognition import Recognition
from tests import tiny
from tests.methods.learners import SIZES, fast_jit
from tests.methods.ppo_learners import KEY, drawn_state, episodes
from tests.methods.ppo_learners import make as make_ppo
from tests.probes import AGENTS

TABLE = methods.pairs()
PAIRS = [f"{p}@{b}" for p, on in TABLE.items() for b, no in on.items() if no is None]


def test_what_the_papers_have_is_in_the_table() -> None:
    for pair in ("cia@qmix", "cia@qplex", "roma@vdn", "liir@mappo", "eiti@ippo", "eoi@qmix"):
        assert pair in PAIRS
    for pair in ("eoi@mappo", "eoi@ippo", "gre@qplex", "maven@qplex", "social_influence@happo"):
        assert pair in PAIRS


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "cia@vdn",
            "cia cannot stand on vdn: it teaches the credits that a mixer gives its agents",
        ),
        ("liir@happo", "liir cannot stand on happo: its gradient goes through a step"),
        ("liir@qmix", "liir cannot stand on qmix: it is paid to the PPO core"),
        ("roma@mappo", "roma cannot stand on mappo: it adds to the loss of a Q-learner"),
        ("cia@qtran", "unknown backbone 'qtran'"),
        ("qmix@qmix", "unknown part 'qmix'"),
        ("gre+gre@qmix", "gre\\+gre@qmix has a part twice"),
        ("roma+maven@qmix", "2 parts that bring agents' networks of their own"),
        ("scds+cds@qmix", "two options named"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        _ = methods.recipe(name).Config


@pytest.mark.parametrize("name", ["cia", "gre", "maven", "roma", "scds", "cds", "eoi"])
def test_a_method_is_its_part_on_its_backbone(name: str) -> None:
    """But for what the paper sets otherwise."""
    paper, pair = (methods.recipe(n) for n in (name, f"{name}@qmix"))
    assert (paper.backbone, paper.parts) == (pair.backbone, pair.parts)
    one, other = (dataclasses.asdict(recipe.Config()) for recipe in (paper, pair))
    assert {k for k in one if one[k] != other[k]} == set(paper.defaults)


@pytest.mark.parametrize("name", ["gre@qplex", "eoi@mappo", "liir+social_influence@mappo"])
def test_pairs_train(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(methods.recipe(name).Config)}
    options = {k: v for k, v in tiny.METHOD.items() if k in fields}
    result = marl_jax.train(
        name,
        "turn",
        seeds=1,
        total_steps=tiny.CHUNK_STEPS,
        training_options=tiny.TRAINING,
        method_options=options,
        env_options=tiny.ENV,
        progress=False,
    )
    assert not result.failures
    assert result.settings.method == name


def test_both_parts_pay() -> None:
    """Two parts on one core: each adds its reward to what there is, and has its own values and states."""
    both = make_ppo("eiti+eoi@ippo", table_bits=6, joint_table_bits=6, intrinsic_weight=0.5)
    state, batch = drawn_state(both), episodes()
    experience = both.experience(state, batch)
    _, reward, _ = both.rewards(state, experience)
    alone = make_ppo("eiti@ippo", table_bits=6, joint_table_bits=6)
    _, expected, _ = alone.rewards(state._replace(parts=state.parts[:1]), experience)
    told: Any = part_of(both, Recognition)
    p = told.classifier.recognition(state.parts[1].params, experience.batch)
    np.testing.assert_allclose(
        reward[..., 0], expected[..., 0] + 0.5 * p * experience.alive, rtol=1e-5
    )


def test_recognition_is_paid_to_the_living_and_learned() -> None:
    """On observations that tell the agents apart, the classifier comes to know them."""
    method = make_ppo("eoi@mappo", classifier_steps=200, classifier_lr=0.01, intrinsic_weight=2.0)
    state, batch = drawn_state(method), episodes()
    own = jnp.arange(AGENTS, dtype=jnp.float32)[:, None]
    batch = batch._replace(observation=jnp.zeros_like(batch.observation) + own)
    experience = method.experience(state, batch)
    _, reward, _ = method.rewards(state, experience)
    bonus = np.asarray(reward[..., 0] - experience.batch.reward)
    assert (bonus[np.asarray(experience.alive) == 0] == 0).all()
    part: Any = part_of(method, Recognition)
    before = part.classifier.recognition(state.parts[0].params, batch)
    np.testing.assert_allclose(bonus, 2.0 * before * experience.alive, rtol=1e-4, atol=1e-6)
    state, metrics = fast_jit(method.update)(state, batch, None, KEY)
    after = part.classifier.recognition(state.parts[0].params, batch)
    assert float(after.min()) > 0.9
    assert np.isfinite(float(metrics["intrinsic_ratio"]))


def test_agents_that_cannot_differ_are_refused() -> None:
    recipe: Any = methods.recipe("eoi@mappo")
    with pytest.raises(ConfigurationError, match="observe_identity is False"):
        recipe(recipe.Config(observe_identity=False), SIZES)
