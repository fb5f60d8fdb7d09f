"""MAAC, EOI on it and DIAYN: targets and gradients worked out a second time, and worlds they must solve."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.base import Sizes
from marl_jax.methods.off_policy import OffPolicyState
from marl_jax.replay import EpisodeReplay
from tests.methods.learners import SIZES, drawn_state, fast_jit, greedy_returns, make_batch
from tests.probes import ACTIONS, AGENTS, LIMIT, Masked, Probe, Roles, TakeOrWait

SMALL: dict[str, Any] = {
    "hidden_size": 6,
    "critic_size": 8,
    "attention_heads": 2,
    "num_envs": 3,
    "update_interval": LIMIT,
    "batch_size": 5,
    "replay_capacity": 5000 * LIMIT,
    "gamma": 0.9,
    "reward_scale": 4.0,
}
KEY = jax.random.key(3)


def make(name: str = "maac", **options: Any) -> Any:
    cls: Any = methods.recipe(name)
    return cls(cls.Config.from_mapping({**SMALL, **options}, name), SIZES)


@functools.cache
def initial(name: str) -> OffPolicyState:
    """A learner whose targets lag behind."""
    state: OffPolicyState = drawn_state(make(name), 0)
    return state


def transitions() -> Any:
    """Single steps, some of which end their episode."""
    episodes = make_batch(lengths=(4, 2, 3), terminated=(False, True, True))
    replay = EpisodeReplay(3, LIMIT)
    state = replay.add(replay.init(episodes), episodes)
    return state, replay.sample_transitions(state, KEY, 5)


@pytest.mark.parametrize("entropy_target", ["paper", "authors"])
def test_the_critics_target_row_by_row(entropy_target: str) -> None:
    method, state = make(entropy_target=entropy_target), initial("maac")
    _, batch = transitions()
    reward = batch.reward[0]
    loss, metrics = fast_jit(method._critic_loss)(state.params["critic"], state, batch, reward, KEY)

    decision = fast_jit(method._decide)(
        state.target["actor"], batch.observation[1], batch.action_mask[1], KEY
    )
    assert np.take_along_axis(
        np.asarray(batch.action_mask[1]), np.asarray(decision.action)[..., None], -1
    ).all()
    one_hot = functools.partial(jax.nn.one_hot, num_classes=ACTIONS)
    ahead, _ = fast_jit(method.critic.apply)(
        state.target["critic"], batch.observation[1], one_hot(decision.action)
    )
    values, squared = fast_jit(method.critic.apply)(
        state.params["critic"], batch.observation[0], one_hot(batch.action[0])
    )
    assert 0 < int((batch.discount[0, :, 0] == 0).sum()) < 5
    expected = 0.0
    for i in range(AGENTS):
        errors = []
        for b in range(5):
            u = int(decision.action[b, i])
            probs = np.asarray(decision.probs[b, i])
            entropy = -np.log(probs[u]) / 4.0
            d = 0.9 * float(batch.discount[0, b, i])
            next_q = float(ahead[b, i, u])
            y = float(reward[b, i])
            y += d * (next_q + entropy) if entropy_target == "paper" else d * next_q + entropy
            errors.append((float(values[b, i, int(batch.action[0, b, i])]) - y) ** 2)
        expected += np.mean(errors)
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(loss, expected + 1e-3 * np.asarray(squared).mean(0).sum(), rtol=1e-4)


@pytest.mark.slow
def test_the_policys_gradient_is_that_of_the_soft_value() -> None:
    # Over all draws: the slope of sum_i E[Q_i - log pi_i / scale], each critic given the others' draws. Two agents of
    # three actions each: nine joint actions, all enumerated; the policy of one in place of the draw's.
    method, state = make(logit_weight=0.0), initial("maac")
    batch = transitions()[1]
    assert not bool(batch.action_mask[0].all())
    x = batch.observation[0]

    def probs(params: Any) -> jax.Array:
        return fast_jit(method._decide)(params, x, batch.action_mask[0], KEY).probs

    def soft_value(params: Any, agent: int) -> jax.Array:
        p, fixed = probs(params), jax.lax.stop_gradient(probs(params))
        log_p = jnp.log(jnp.where(p > 0, p, 1.0))
        total = jnp.zeros(())
        for other in range(ACTIONS):
            action = jnp.zeros((5, AGENTS), jnp.int32).at[:, 1 - agent].set(other)
            values, _ = fast_jit(method.critic.apply)(
                state.params["critic"], x, jax.nn.one_hot(action, ACTIONS)
            )
            own = p[:, agent] * (values[:, agent] - log_p[:, agent] / 4.0)
            total += jnp.mean(fixed[:, 1 - agent, other] * own.sum(-1))
        return total

    expected = jax.grad(lambda p: sum(soft_value(p, i) for i in range(AGENTS)))(
        state.params["actor"]
    )

    @fast_jit
    def mean_gradient(keys: jax.Array) -> Any:
        grads = jax.vmap(
            lambda k: jax.grad(method._actor_loss, has_aux=True)(
                state.params["actor"], state, batch, k
            )[0]
        )(keys)
        return jax.tree.map(lambda g: g.mean(0), grads)

    found = mean_gradient(jax.random.split(jax.random.key(5), 20_000))
    for e, f in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(-np.asarray(f), e, atol=0.02 * float(jnp.abs(e).max()) + 2e-4)


def test_rewards_standardised_over_all_that_is_stored() -> None:
    replay, batch = transitions()
    state = initial("maac")

    def rewards(method: Any) -> jax.Array:
        return method._rewards(state, batch, method._reward_scale(replay))

    plain = rewards(make(standardise_rewards="no"))
    np.testing.assert_array_equal(plain, batch.reward[0])
    stored = np.asarray(replay.rows.reward)[np.asarray(replay.rows.valid)]
    reward, mean, deviation = np.asarray(batch.reward[0]), stored.mean(0), stored.std(0)
    assert np.abs(mean / deviation).min() > 0.01
    close = {"rtol": 1e-4, "atol": 1e-5}
    both = rewards(make(standardise_rewards="shift_and_scale"))
    np.testing.assert_allclose(both, (reward - mean) / deviation, **close)
    scaled = rewards(make(standardise_rewards="scale"))
    np.testing.assert_allclose(scaled, reward / np.sqrt((stored**2).mean(0)), **close)


def test_a_reward_that_is_always_the_same_is_scaled_to_one() -> None:
    replay, batch = transitions()
    pay = jax.tree.map(lambda x: jnp.full_like(x, -0.1), (replay.rows.reward, batch.reward))
    replay = replay._replace(rows=replay.rows._replace(reward=pay[0]))
    method = make(standardise_rewards="scale")
    found = method._rewards(
        initial("maac"), batch._replace(reward=pay[1]), method._reward_scale(replay)
    )
    np.testing.assert_allclose(found, -1.0, rtol=1e-5)


@pytest.mark.parametrize("standardise", ["no", "scale", "shift_and_scale"])
def test_eoi_pays_for_being_recognised_on_top(standardise: str) -> None:
    replay, batch = transitions()
    method = make("eoi_maac", intrinsic_weight=0.7, standardise_rewards=standardise)
    state = initial("eoi_maac")
    scale = method._reward_scale(replay)
    base = make()._rewards(state, batch, scale)
    logits = method.parts[0].classifier.logits(state.params["classifier"], batch.observation[:1])
    p = np.asarray(jax.nn.softmax(logits))[0]
    own = np.stack([p[:, i, i] for i in range(AGENTS)], axis=-1)
    np.testing.assert_allclose(
        method._rewards(state, batch, scale), np.asarray(base) + 0.7 * own, rtol=1e-5
    )


def test_a_step_moves_what_it_should() -> None:
    # The classifier by its own loss, targets a little, and nothing before there is enough to draw.
    replay, _ = transitions()
    method = make("eoi_maac", classifier_batch=3, target_update_rate=0.25, replay_capacity=12)
    state = initial("eoi_maac")
    learned, metrics = fast_jit(method._step)(state, method._reward_scale(replay), replay, KEY)
    for part in ("actor", "critic", "classifier"):
        changed = jax.tree.map(
            lambda x, y: (x != y).any(), learned.params[part], state.params[part]
        )
        assert all(map(bool, jax.tree.leaves(changed))), part
    expected = jax.tree.map(
        lambda new, old: 0.25 * new + 0.75 * old,
        {name: learned.params[name] for name in ("actor", "critic")},
        state.target,
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), learned.target, expected)
    assert {"classifier_loss", "critic_loss", "entropy"} <= set(metrics)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observe_last_action": True}, "observe_last_action is True"),
        ({"agent": "gru"}, "agent is 'gru'; it must be one of: mlp"),
        ({"attention_heads": 3}, "critic_size is 8; it must be a multiple of attention_heads, 3"),
        ({"update_interval": 0.5}, "update_interval is 0.5; it must be a whole number"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**options)


def test_a_single_agent_has_nobody_to_attend_to() -> None:
    cls: Any = methods.recipe("maac")
    with pytest.raises(ConfigurationError, match="needs at least 2"):
        cls(cls.Config(), Sizes(1, 3, 4, 4, 4))


# --- Learning ---

SOLVER: dict[str, Any] = {
    "num_envs": 16,
    "update_interval": 4 * LIMIT,
    "batch_size": 256,
    "replay_capacity": 256 * LIMIT,
    "hidden_size": 16,
    "critic_size": 16,
    "attention_heads": 2,
    "actor_lr": 0.003,
    "critic_lr": 0.01,
    "target_update_rate": 0.02,
    "gamma": 0.9,
    "reward_scale": 5.0,
    "standardise_rewards": "no",
}


def train(name: str, env: type[Probe], iterations: int) -> np.ndarray:
    """Mean greedy returns of 2 seeds."""
    return greedy_returns(name, env(), iterations, 2, SOLVER)


@pytest.mark.parametrize(
    ("env", "best"),
    [
        pytest.param(Masked, 1.0, marks=pytest.mark.slow),
        pytest.param(TakeOrWait, 2.0, marks=pytest.mark.slow),
        pytest.param(Roles, 1.0, marks=pytest.mark.slow),
    ],
)
def test_maac_solves(env: type[Probe], best: float) -> None:
    """Masked: sight and available actions. TakeOrWait: the discount. Roles: agents that differ."""
    assert (train("maac", env, 250) > 0.95 * best).all()
