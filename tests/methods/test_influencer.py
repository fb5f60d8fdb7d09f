"""The influencer on the PPO core: its rewards worked out a second time, what it learns, and who cannot have it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import marl_jax
from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.base import Sizes
from marl_jax.methods.ppo import Learner, Lesson, Rates
from tests import tiny
from tests.methods.learners import SIZES, fast_jit
from tests.methods.ppo_learners import KEY, drawn_state, episodes
from tests.methods.ppo_learners import make as make_ppo
from tests.probes import ACTIONS, AGENTS

SMALL: dict[str, Any] = {"autoencoder_hidden": (4, 2, 4), "estimator_hidden": (5,)}
NOTHING: dict[str, Any] = {"novelty_weight": 0.0, "penalty_weight": 0.0, "influence_weight": 0.0}


def make(name: str = "influencer@ippo", sizes: Sizes = SIZES, **options: Any) -> Any:
    return make_ppo(name, sizes, **(SMALL | options))


def started(method: Any) -> Any:
    """A state with drawn policies and critics, and networks of the part's own as it starts, of larger values."""
    own = fast_jit(method.parts[0].start)(KEY)
    if "estimator" in own:
        larger = jax.tree.map(lambda x: 3.0 * x, own["estimator"].params)
        own["estimator"] = own["estimator"]._replace(params=larger)
    return drawn_state(method)._replace(parts=(own,))


def paid(method: Any, state: Any) -> np.ndarray:
    """[T, B, N] what the part adds to the task's reward."""
    batch = episodes()

    @fast_jit
    def rewards(state: Any) -> Any:
        return method.rewards(state, method.experience(state, batch))[1][..., 0] - batch.reward

    return np.asarray(rewards(state))


def alive() -> np.ndarray:
    batch = episodes()
    return np.asarray(batch.valid[..., None] & batch.alive[:-1])


class ByHand:
    """Step by step and agent by agent, of episodes in which agent 1 influences agent 0."""

    def __init__(self, method: Any, state: Any) -> None:
        self.batch, self.part = episodes(), method.parts[0]
        own = state.parts[0]
        self.autoencoder = jax.tree.map(lambda x: x[0], own["autoencoder"].params)
        self.estimator = own["estimator"].params
        experience = fast_jit(method.experience)(state, self.batch)
        logits = np.asarray(experience.logits)
        chances = np.where(self.batch.action_mask[:-1], np.exp(logits), 0.0)
        self.policy = chances / chances.sum(-1, keepdims=True)

    def novelty(self, t: int, b: int) -> float:
        """Eq. 10, of agent 1."""
        pair = self.pair(t, b, 1, int(self.batch.action[t, b, 1]))
        rebuilt = np.asarray(self.part.autoencoder.apply(self.autoencoder, pair))
        return float(np.sum((rebuilt - pair) ** 2))

    def penalty(self, t: int, b: int) -> float:
        """Eq. 11, of agent 0, with an omega of 0.7."""
        did = np.eye(ACTIONS)[self.batch.action[t, b, 0]]
        gap = np.sum((self.policy[t, b, 0] - did) ** 2)
        return float(-np.exp(-0.7 * self.novelty(t, b)) * gap)

    def influence(self, t: int, b: int) -> float:
        """Eq. 4, of agent 1 on agent 0."""
        first, second = (int(x) for x in self.batch.action[t, b])
        values = {
            option: self.value(t, b, first, option)
            for option in range(ACTIONS)
            if self.batch.action_mask[t, b, 1, option]
        }
        return (values[second] - max(values.values())) ** 2

    def value(self, t: int, b: int, *actions: int) -> float:
        """Q_0 of both agents' actions."""
        joint = np.concatenate([self.pair(t, b, i, action) for i, action in enumerate(actions)])
        return float(self.part.estimator.apply(self.estimator, joint)[0])

    def pair(self, t: int, b: int, agent: int, action: int) -> np.ndarray:
        return np.concatenate([self.batch.observation[t, b, agent], np.eye(ACTIONS)[action]])


@pytest.mark.parametrize("weight", ["novelty_weight", "penalty_weight", "influence_weight"])
def test_each_reward_by_hand(weight: str) -> None:
    """Each alone: a weight of 0 takes the others away."""
    options: dict[str, Any] = {"influencers": (1,), "penalty_decay": 0.7}
    every = make(**options)
    state = started(every)
    hand = ByHand(every, state)
    method = make(**options, **(NOTHING | {weight: 0.3}))
    if weight != "influence_weight":
        # Nothing is learned for an influence that nobody pays.
        own = {"autoencoder": state.parts[0]["autoencoder"]}
        state = started(method)._replace(parts=(own,))
        assert set(jax.eval_shape(method.parts[0].start, KEY)) == set(own)
    found, lives = paid(method, state), alive()
    expected, seen = np.zeros_like(found), set()
    for t, b in np.ndindex(*lives.shape[:2]):
        first, second = lives[t, b]
        if second and weight == "novelty_weight":
            expected[t, b, 1] = 0.3 * hand.novelty(t, b)
        if first and second and weight == "penalty_weight":
            expected[t, b, 0] = 0.3 * hand.penalty(t, b)
        if first and second and weight == "influence_weight":
            expected[t, b, 1] = -0.3 * hand.influence(t, b)
        seen.add((bool(first), bool(second)))
    assert seen == {(True, True), (True, False), (False, False)}
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_all_three_add_up_and_none_is_none() -> None:
    options: dict[str, Any] = {"influencers": (0, 1)}
    every, nothing = make(**options), make(**options, **NOTHING)
    state = started(every)
    alone = []
    for weight, value in (("novelty", 0.1), ("penalty", 1.0), ("influence", 0.1)):
        one = make(**options, **(NOTHING | {f"{weight}_weight": value}))
        own = {name: state.parts[0][name] for name in one.parts[0]._learners}
        alone.append(paid(one, started(one)._replace(parts=(own,))))
    np.testing.assert_allclose(paid(every, state), sum(alone), rtol=1e-4, atol=1e-6)
    assert all(np.abs(one).max() > 1e-3 for one in alone)
    np.testing.assert_array_equal(paid(nothing, started(nothing)), 0.0)


def test_a_penalty_is_the_mean_over_the_influencers_that_live() -> None:
    """Three agents alike, two of whom influence: what both fine the third for is the mean of what each does alone."""
    batch = episodes()
    third = {
        name: jnp.concatenate([x, x[:, :, :1]], axis=2)
        for name, x in batch._asdict().items()
        if name in {"observation", "action_mask", "alive", "action", "reward", "discount"}
    }
    extras = jax.tree.map(lambda x: jnp.concatenate([x, x[:, :, :1]], axis=2), batch.extras)
    batch = batch._replace(**third, extras=extras)
    sizes = SIZES._replace(num_agents=3)
    only: dict[str, Any] = NOTHING | {"penalty_weight": 1.0}
    both = make(sizes=sizes, influencers=(0, 1), **only)
    state = started(both)
    own = state.parts[0]["autoencoder"]

    def of(influencers: tuple[int, ...], which: Any) -> np.ndarray:
        method = make(sizes=sizes, influencers=influencers, **only)
        part = {"autoencoder": jax.tree.map(lambda x: x[which], own)}

        @fast_jit
        def rewards(state: Any) -> Any:
            return method.rewards(state, method.experience(state, batch))[1][..., 0] - batch.reward

        return np.asarray(rewards(state._replace(parts=(part,)))[..., 2])

    together = of((0, 1), slice(None))
    first, second = of((0,), slice(0, 1)), of((1,), slice(1, 2))
    lives = alive()
    there = lives[..., 1]
    np.testing.assert_allclose(together[there], (first + second)[there] / 2, rtol=1e-4, atol=1e-6)
    # Of the first episode's last steps, where agent 1 is dead.
    gone = lives[..., 0] & ~there
    assert gone.sum() == 2
    np.testing.assert_allclose(together[gone], first[gone], rtol=1e-4, atol=1e-6)


def lesson_of(method: Any, state: Any) -> Any:
    """What the part is taught of the episodes."""
    experience = method.experience(state, episodes())
    _, reward, _ = method.rewards(state, experience)
    returns, norm = method.returns(experience, reward), state.value_norm
    lessons = method._lessons(experience, returns, norm, norm, experience.played)
    learner = Learner(state.params, state.optimizer)
    return Lesson(experience, lessons, learner, Rates(jnp.array(0.01), jnp.array(0.0)), KEY, KEY)


def test_what_autoencoder_and_estimator_learn_from() -> None:
    """The first losses: what the influencer did and is paid for, and squared errors of the living's task returns."""
    method = make(influencers=(1,), novelty_weight=5.0)
    state = started(method)

    @fast_jit
    def learn(state: Any) -> Any:
        lesson = lesson_of(method, state)
        experience = lesson.experience
        task, value = experience.batch.reward, experience.value[..., 1]
        returns = method.advantage(experience, task, value) + value[:-1]
        norm = state.value_norm
        target = (returns - norm.location[1]) / norm.scale[1]
        pairs = method.parts[0]._pairs(experience.batch.observation[:-1], experience.batch.action)
        error = (method.parts[0].worth(state.parts[0]["estimator"].params, pairs) - target) ** 2
        return method.parts[0].learn(state.parts[0], lesson)[1], error

    losses, error = learn(state)
    hand, lives = ByHand(method, state), alive()
    novel = [hand.novelty(t, b) for t, b in np.argwhere(lives[..., 1])]
    np.testing.assert_allclose(losses["autoencoder_loss"], np.mean(novel), rtol=1e-4)
    np.testing.assert_allclose(losses["estimator_loss"], np.asarray(error)[lives].mean(), rtol=1e-4)


def test_losses_fall() -> None:
    method = make(influencers=(0, 1), epochs=60, autoencoder_lr=1e-2, estimator_lr=1e-2)
    state = started(method)
    learn = fast_jit(lambda s: method.parts[0].learn(s.parts[0], lesson_of(method, s)))
    own, first = learn(state)
    _, last = learn(state._replace(parts=(own,)))
    assert set(first) == {"autoencoder_loss", "estimator_loss"}
    for name, loss in first.items():
        assert float(last[name]) < 0.8 * float(loss), name


def test_padding_is_not_seen() -> None:
    batch = episodes()
    behind = ~batch.valid[..., None]
    other = batch._replace(
        action=jnp.where(behind, 0, batch.action),
        observation=batch.observation.at[1:].set(
            # The observation after the last step is the next of a step that counts.
            jnp.where(behind[..., None], 7.0, batch.observation[1:])
        ),
    )
    method = make(epochs=2)
    state = started(method)
    update = fast_jit(lambda b: method.update(state, b, None, KEY)[0])
    jax.tree.map(np.testing.assert_array_equal, update(batch), update(other))


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        (
            "qmix",
            "influencer cannot stand on qmix: it pays by the policies and values of the PPO core",
        ),
        ("alita", "alita takes no parts"),
    ],
)
def test_where_it_makes_no_sense(backbone: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        _ = methods.recipe(f"influencer@{backbone}").Config


def test_tasks_and_options_that_it_does_not_fit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="influence needs at least 2"):
        make(sizes=SIZES._replace(num_agents=1))
    for influencers in ((), (0, 0), (AGENTS,)):
        with pytest.raises(ConfigurationError, match="different ones of the task's agents, 0 to 1"):
            make(influencers=influencers)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["ippo", "mappo", "happo"])
def test_it_trains(backbone: str) -> None:
    name = f"influencer@{backbone}"
    fields = {field.name for field in dataclasses.fields(methods.recipe(name).Config)}
    options = {k: v for k, v in tiny.METHOD.items() if k in fields}
    result = marl_jax.train(
        name,
        "turn",
        seeds=1,
        total_steps=tiny.CHUNK_STEPS,
        training_options=tiny.TRAINING,
        method_options=options | {"estimator_hidden": (4,)},
        env_options=tiny.ENV,
        progress=False,
    )
    assert not result.failures
    assert {"novelty", "penalty", "influence", "estimator_loss"} <= set(result.rows[0])
