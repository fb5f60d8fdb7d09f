"""MAAC's critic, worked out a second time agent by agent."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.networks import AttentionCritic

AGENTS, ACTIONS, FEATURES, ROWS = 3, 4, 5, 6
CRITIC = AttentionCritic(AGENTS, ACTIONS, hidden_size=8, num_heads=2)


@pytest.fixture(scope="module")
def case() -> tuple[Any, np.ndarray, np.ndarray]:
    params = CRITIC.init(jax.random.key(0), FEATURES)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, AGENTS, FEATURES)).astype(np.float32)
    action = np.eye(ACTIONS, dtype=np.float32)[rng.integers(ACTIONS, size=(ROWS, AGENTS))]
    return params, x, action


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def linear(params: Any, x: np.ndarray, agent: int | None = None) -> np.ndarray:
    dense = params["Dense_0"]
    kernel, bias = np.asarray(dense["kernel"]), np.asarray(dense.get("bias", 0.0))
    return x @ kernel + bias if agent is None else x @ kernel[agent] + bias[agent]


def test_against_the_sum_over_others(case: Any) -> None:
    params, x, action = case
    values, squared = CRITIC.apply(params, jnp.asarray(x), jnp.asarray(action))
    own, other, head = (params[k]["params"] for k in ("own", "other", "head"))
    attention = params["attention"]["params"]
    for row in range(ROWS):
        asks = [leaky(linear(own["Linear_0"], x[row, i], i)) for i in range(AGENTS)]
        said = [
            leaky(linear(other["Linear_0"], np.concatenate([x[row, i], action[row, i]]), i))
            for i in range(AGENTS)
        ]
        for i in range(AGENTS):
            gathered, penalty = [], 0.0
            others = [j for j in range(AGENTS) if j != i]
            for h in (slice(0, 4), slice(4, 8)):
                query = linear(attention["query"], asks[i])[h]
                logits = np.array([query @ linear(attention["key"], said[j])[h] for j in others])
                weights = np.exp(logits / 2.0) / np.exp(logits / 2.0).sum()
                heard = [leaky(linear(attention["value"], said[j]))[h] for j in others]
                gathered.append(sum(w * v for w, v in zip(weights, heard, strict=True)))
                penalty += np.mean(logits**2)
            inputs = np.concatenate([asks[i], *gathered])
            expected = linear(head["Linear_1"], leaky(linear(head["Linear_0"], inputs, i)), i)
            np.testing.assert_allclose(values[row, i], expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(squared[row, i], penalty, rtol=1e-4)


def test_an_agents_own_action_does_not_change_its_values(case: Any) -> None:
    params, x, action = case

    def values(action: Any) -> np.ndarray:
        return np.asarray(CRITIC.apply(params, jnp.asarray(x), jnp.asarray(action))[0])

    moved = action.copy()
    moved[:, 1] = np.roll(action[:, 1], 1, axis=-1)
    before, after = values(action), values(moved)
    np.testing.assert_array_equal(before[:, 1], after[:, 1])
    assert (before[:, [0, 2]] != after[:, [0, 2]]).all(axis=-1).any(axis=0).all()


def test_shared_networks_tell_agents_apart_by_what_they_see(case: Any) -> None:
    _, x, action = case
    critic = AttentionCritic(AGENTS, ACTIONS, hidden_size=8, num_heads=2, sharing="shared")
    params = critic.init(jax.random.key(0), FEATURES)
    order = np.array([2, 0, 1])
    values = critic.apply(params, jnp.asarray(x), jnp.asarray(action))[0]
    turned = critic.apply(params, jnp.asarray(x[:, order]), jnp.asarray(action[:, order]))[0]
    np.testing.assert_allclose(turned, values[:, order], rtol=1e-5, atol=1e-6)
