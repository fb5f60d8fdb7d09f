"""Continuous actions on the PPO core: what is kept of them, whose deviations are whose, and what must be solved."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.base import Sizes
from marl_jax.methods.liir import LearnedReward
from marl_jax.methods.part import part_of
from marl_jax.rollout import rollout
from marl_jax.training import Trainer, TrainingConfig
from tests import tiny
from tests.methods.learners import SIZES, train
from tests.methods.ppo_learners import KEY, drawn_state, greedy_returns, make
from tests.methods.test_ppo_probes import SOLVER
from tests.probes import AGENTS, Aim, Context

CONTINUOUS = SIZES._replace(continuous=True)
DEVIATION = "log_deviation"


@functools.cache
def played(method: Any) -> Any:
    """Three episodes of one step, and the state that they were played with."""
    state = drawn_state(method)
    return state, rollout(Aim(), method, state, KEY, 3, explore=True)[0]


@pytest.mark.parametrize("bound", ["clip", "tanh"])
def test_log_probabilities_are_those_of_what_was_drawn(bound: str) -> None:
    method = make("mappo", Sizes.of(Aim()), action_bound=bound)
    state = drawn_state(method)
    sight = jax.tree.map(lambda x: jnp.stack([x] * 3), Aim().reset(KEY)[1].observation)
    memory = method.initial_memory(state, 3, KEY)
    inputs = method.agent_inputs(sight.agents_view[None], memory.last_action[None])
    outputs = method.logits(state.params["actor"], inputs, ())[1][0]
    mean, log_deviation = np.split(np.asarray(outputs, np.float64), 2, axis=-1)

    after, action, kept = method.act(state, memory, sight, KEY, True)
    drawn = np.asarray(kept.drawn, np.float64)
    assert np.abs(drawn).max() > 1.0
    made = np.tanh if bound == "tanh" else functools.partial(np.clip, a_min=-1.0, a_max=1.0)
    np.testing.assert_allclose(action, made(drawn), rtol=1e-5)
    np.testing.assert_array_equal(after.last_action, action)
    density = -0.5 * ((drawn - mean) / np.exp(log_deviation)) ** 2 - log_deviation
    density -= 0.5 * np.log(2 * np.pi)
    if bound == "tanh":
        density -= np.log(1.0 - np.tanh(drawn) ** 2)
    np.testing.assert_allclose(kept.log_prob, density.sum(-1), rtol=1e-4, atol=1e-4)

    greedy = method.act(state, memory, sight, KEY, False)[1]
    np.testing.assert_allclose(greedy, made(mean), rtol=1e-4)


def test_agents_see_the_numbers_of_their_last_actions() -> None:
    _, batch = played(make("mappo", Sizes.of(Aim())))
    np.testing.assert_array_equal(batch.last_action[1:], batch.action)


@pytest.mark.parametrize(("name", "shape"), [("mappo", (3,)), ("happo", (2, 3))])
def test_deviations_start_alike_and_belong_to_those_who_have_parameters(
    name: str, shape: tuple[int, ...]
) -> None:
    method = make(name, CONTINUOUS, action_deviation=0.5)
    start = method.agents.init(KEY)[DEVIATION]
    np.testing.assert_allclose(start, np.full(shape, np.log(0.5)), rtol=1e-6)


def test_one_number_is_a_choice() -> None:
    method = make("mappo", Sizes.of(Aim()))
    state, batch = played(method)
    mask = jnp.zeros_like(batch.action_mask).at[..., 0, :1].set(True)
    seen = method.experience(state, batch._replace(action_mask=mask))
    np.testing.assert_array_equal(seen.chooses[batch.valid], np.tile([1.0, 0.0], (3, 1)))


def test_liirs_reward_is_a_function_of_the_action() -> None:
    method = make("liir", Sizes.of(Aim()), intrinsic_hidden=(4,))
    state, batch = played(method)
    part = part_of(method, LearnedReward)
    assert part is not None
    eta = state.parts[0].params
    one = part.of_taken(eta, method.experience(state, batch))
    other = part.of_taken(eta, method.experience(state, batch._replace(action=-batch.action)))
    assert one.shape == other.shape == batch.reward.shape
    assert not np.allclose(one[batch.valid], other[batch.valid])
    with pytest.raises(ConfigurationError, match="must be discrete for a table"):
        part.intrinsic_reward_table(state, batch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["liir", "eoi@mappo", "roma@mappo", "td3"])
def test_a_chunk_of_training_keeps_the_form_of_its_state(name: str) -> None:
    """Traced but not compiled."""
    trainer = Trainer(
        Aim(),
        methods.make(name, Aim(), **tiny.method_options(name)),
        TrainingConfig(**tiny.TRAINING),
        2,
    )
    before = trainer.abstract_state()
    after, _ = jax.eval_shape(trainer.train_chunk, before, trainer.everyone)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, before)


@pytest.mark.parametrize("name", ["qmix", "social_influence", "kaleidoscope@mappo", "iac"])
def test_who_chooses_discrete_actions_only_says_so(name: str) -> None:
    sentence = (
        f"continuous actions, which {name} cannot choose; choose from: a2c, alita, ddpg, happo,"
    )
    with pytest.raises(ConfigurationError, match=sentence):
        methods.make(name, Aim())


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_who_chooses_continuous_actions_only_says_so(name: str) -> None:
    sentence = f"discrete actions, which {name} cannot choose; choose from: a2c, alita, cds,"
    with pytest.raises(ConfigurationError, match=sentence):
        methods.make(name, Context())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mappo", {}),
        ("mappo", {"action_bound": "tanh"}),
        ("ippo", {}),
        ("happo", {}),
        ("liir", {}),
        ("eoi@mappo", {"intrinsic_weight": 0.01}),
        ("roma@mappo", {}),
        ("hypermarl@mappo", {}),
    ],
)
def test_it_aims(name: str, options: dict[str, Any]) -> None:
    """Standing still gets -0.36."""
    method = make(name, Sizes.of(Aim()), **{**SOLVER, **options})
    returns = greedy_returns(Aim(), method, train(Aim(), method, 100))
    assert returns.shape == (4, AGENTS)
    assert (returns > -0.1).all()
