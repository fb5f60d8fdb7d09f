"""Influence on transitions and on actions, against numbers worked out by hand and by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np

from marl_jax.losses import social_influence, transition_influence


def test_influence_on_a_transition() -> None:
    # Seen 10 times, 2 of them with this outcome; with this partner 4 times, always so: 1 - (2/10) / (4/4).
    found = transition_influence(
        jnp.array([10.0, 10.0, 3.0, 7.0]),
        jnp.array([2.0, 5.0, 3.0, 1.0]),
        jnp.array([4.0, 4.0, 3.0, 0.0]),
        jnp.array([4.0, 1.0, 3.0, 0.0]),
    )
    # Then: less likely with it, 1 - (5/10) / (1/4); no influence; never met.
    np.testing.assert_allclose(found, [0.8, -1.0, 0.0, 0.0], rtol=1e-6)
    slope = jax.grad(lambda x: transition_influence(x, x, x, x))(0.0)
    assert np.isfinite(slope)


def test_social_influence_by_enumeration() -> None:
    rng = np.random.default_rng(0)
    logits = (
        rng.normal(size=(6, 3, 2, 4)) * 3
    )  # 6 steps, 3 own actions, 2 others with 4 actions each
    policy = rng.dirichlet(np.ones(3), size=6)
    action = rng.integers(0, 3, size=6)
    expected = np.zeros((6, 2))
    for b in range(6):
        for j in range(2):
            law = np.exp(logits[b, :, j]) / np.exp(logits[b, :, j]).sum(-1, keepdims=True)
            marginal = sum(policy[b, a] * law[a] for a in range(3))
            given = law[action[b]]
            expected[b, j] = sum(given[k] * np.log(given[k] / marginal[k]) for k in range(4))
    found = social_influence(jnp.asarray(logits), jnp.asarray(policy), jnp.asarray(action))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_no_influence_where_others_do_not_care_and_none_lost_to_underflow() -> None:
    same = jnp.broadcast_to(jnp.array([3.0, 0.0, -3.0]), (2, 1, 3))
    indifferent = social_influence(same, jnp.array([0.5, 0.5]), jnp.array(0))
    np.testing.assert_allclose(indifferent, [0.0], atol=1e-6)
    # Each action decides the other's wholly: log 2.
    decided = jnp.array([[[200.0, 0.0]], [[0.0, 200.0]]])
    np.testing.assert_allclose(
        social_influence(decided, jnp.array([0.5, 0.5]), jnp.array(1)), [np.log(2.0)], rtol=1e-5
    )
    # Taken although the policy gives it no chance: all of the conditional law is news, yet finite.
    found = social_influence(decided, jnp.array([1.0, 0.0]), jnp.array(1))
    np.testing.assert_allclose(found, [200.0], rtol=1e-5)
