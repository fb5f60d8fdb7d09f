"""HC: what each level learns from, which of them learns, and a world that takes skills."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.hc import HC, HCActed
from marl_jax.methods.ppo import Acted
from marl_jax.types import EpisodeBatch
from tests.methods.learners import SIZES, differing, fast_jit, greedy_returns, make_batch
from tests.probes import AGENTS, FEATURES, Echo, TwoGoals

SMALL: dict[str, Any] = {
    "num_envs": 3,
    "minibatches": 1,
    "epochs": 1,
    "agent": "mlp",
    "hidden_size": 4,
    "critic_hidden": (4,),
    "num_skills": 3,
    "skill_steps": 3,
    "discriminator_hidden": (5,),
}


def make(**options: Any) -> HC:
    cls: Any = methods.recipe("hc")
    method: HC = cls(cls.Config.from_mapping({**SMALL, **options}, "hc"), SIZES)
    return method


def episodes() -> EpisodeBatch:
    """Of 4, 2 and 3 steps; the last two end the task."""
    batch = make_batch()
    rng = np.random.default_rng(1)
    skill = jnp.asarray(rng.integers(0, 3, batch.action.shape), jnp.int32)
    log_prob = jnp.full(batch.action.shape, -1.1)
    return batch._replace(extras=HCActed(Acted(log_prob), skill, 2 * log_prob))


def test_what_choices_are_paid() -> None:
    """Choices at steps 0 and 3: the first episode has both, the others only the first."""
    batch = episodes()
    found = make().choice_batch(batch)
    np.testing.assert_array_equal(found.valid, [[True, True, True], [True, False, False]])
    reward = np.asarray(batch.reward)
    np.testing.assert_allclose(found.reward[0, 0], reward[:3, 0].sum(0), rtol=1e-6)
    np.testing.assert_allclose(found.reward[1, 0], reward[3, 0], rtol=1e-6)
    np.testing.assert_allclose(found.reward[0, 1], reward[:2, 1].sum(0), rtol=1e-6)
    assert found.discount[:, :, 0].tolist() == [[1, 0, 0], [1, 1, 1]]
    np.testing.assert_array_equal(found.action, batch.extras.skill[np.array([0, 3])])
    np.testing.assert_array_equal(found.extras.log_prob, np.full((2, 3, AGENTS), -2.2, np.float32))
    # All see everything, of the steps 0, 3 and 4.
    for row, t in enumerate((0, 3, 4)):
        everything = np.asarray(batch.observation[t]).reshape(3, -1)
        for agent in range(AGENTS):
            np.testing.assert_array_equal(found.observation[row, :, agent], everything)


def test_what_skills_are_paid() -> None:
    """Log q(z | o') - log 1/3, where o' is what the step led to; each agent sees its skill."""
    method, batch = make(), episodes()
    discriminator = fast_jit(method.init)(jax.random.key(0)).discriminator.params
    found = fast_jit(method.skill_batch)(discriminator, batch)
    logits = np.asarray(fast_jit(method._discriminator.apply)(discriminator, batch.observation))
    for t, b, i in ((0, 0, 0), (3, 0, 1), (1, 1, 0)):
        z = int(batch.extras.skill[t, b, i])
        odds = np.exp(logits[t + 1, b, i])
        expected = np.log(odds[z] / odds.sum()) + np.log(3)
        np.testing.assert_allclose(found.reward[t, b, i], expected, rtol=1e-4, atol=1e-6)
        assert found.observation[t, b, i, FEATURES:].tolist() == np.eye(3)[z].tolist()
    np.testing.assert_array_equal(
        found.observation[4, ..., FEATURES:], found.observation[3, ..., FEATURES:]
    )


@pytest.mark.slow
def test_first_skills_learn_then_their_choice() -> None:
    method, batch = make(skill_training_steps=9), episodes()
    update = fast_jit(method.update)
    state = fast_jit(method.init)(jax.random.key(0))
    middle, _ = update(state, batch, None, jax.random.key(1))
    assert int(middle.env_steps) == int(middle.low.env_steps) == 9
    assert not differing(state.high, middle.high)
    assert differing(state.low.params, middle.low.params)
    assert differing(state.discriminator, middle.discriminator)
    end, _ = update(middle, batch, None, jax.random.key(2))
    assert not differing(middle.low, end.low)
    assert not differing(middle.discriminator, end.discriminator)
    assert differing(middle.high.params, end.high.params)
    assert (int(end.env_steps), int(end.high.env_steps)) == (18, 9)


def test_skills_last_for_their_steps() -> None:
    world = TwoGoals()
    method = methods.make("hc", world, **{**SMALL, "skill_steps": 2, "num_skills": 8})
    state = fast_jit(method.init)(jax.random.key(0))
    memory = method.initial_memory(state, 20, jax.random.key(1))
    _, first = jax.vmap(world.reset)(jax.random.split(jax.random.key(2), 20))
    act = fast_jit(method.act, static_argnums=4)
    skills = []
    for t in range(4):
        seen = first.observation._replace(step_count=jnp.full(20, t))
        memory, _, acted = act(state, memory, seen, jax.random.key(t), True)
        skills.append(np.asarray(acted.skill))
    np.testing.assert_array_equal(skills[0], skills[1])
    np.testing.assert_array_equal(skills[2], skills[3])
    assert (skills[0] != skills[2]).mean() > 0.7
    assert len(np.unique(skills[0])) > 4


@pytest.mark.slow
@pytest.mark.parametrize(("skill_training_steps", "solved"), [(8000, True), (0, False)])
def test_skills_let_agents_part(skill_training_steps: int, solved: bool) -> None:
    """A skill for each action, and two agents with different ones; without skills there is nothing to choose."""
    options = {
        "num_envs": 32,
        "minibatches": 1,
        "epochs": 4,
        "agent": "mlp",
        "hidden_size": 16,
        "critic_hidden": (16,),
        "observe_last_action": False,
        "num_skills": 6,
        "skill_steps": 4,
        "skill_training_steps": skill_training_steps,
        "lr": 0.01,
        "lr_final": 0.01,
    }
    returns = greedy_returns("hc", Echo(), 160, 3, options)
    assert (returns > 0.95).all() == solved


def test_refused_options() -> None:
    with pytest.raises(ConfigurationError, match="num_skills is 1; it must be at least 2"):
        make(num_skills=1)
