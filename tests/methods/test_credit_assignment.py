"""CIA and GRE as regularisers of a mixer: what is added to the loss, and whom its gradient reaches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.losses import contrastive_identity_loss
from marl_jax.methods.q_learner import QLearner
from tests.methods.learners import SIZES, drawn_state, fast_jit, make_batch
from tests.probes import AGENTS, LIMIT

SMALL: dict[str, Any] = {
    "agent": "mlp",
    "hidden_size": 6,
    "batch_size": 3,
    "update_interval": LIMIT,
    "replay_capacity": 3 * LIMIT,
}
MIXER: dict[str, Any] = {"mixer_embed": 4, "hypernet_size": 5}
QPLEX: dict[str, Any] = {**MIXER, "agent_index": True}
KEY = jax.random.key(3)


def make(name: str, **options: Any) -> QLearner:
    cls: Any = methods.recipe(name)
    return cls(cls.Config.from_mapping({**SMALL, **options}, name), SIZES)


def lagging(method: QLearner, params: Any) -> Any:
    """A learner with slightly different targets."""
    state = drawn_state(method, 0)
    return state._replace(target=jax.tree.map(lambda x: 0.9 * x, params))


def loss_of(method: QLearner, params: Any, batch: Any, key: jax.Array = KEY) -> Any:
    """Loss and metrics."""
    return fast_jit(method.loss)(params, lagging(method, params), batch, key)


def gradient_of(method: QLearner, params: Any, batch: Any) -> Any:
    state = lagging(method, params)
    return fast_jit(jax.grad(lambda p: method.loss(p, state, batch, KEY)[0]))(params)


def params_of(method: QLearner) -> Any:
    return drawn_state(method, 0).params


def is_zero(tree: Any) -> bool:
    return all(not np.asarray(x).any() for x in jax.tree.leaves(tree))


CASES = [("cia", {**MIXER, "cia_weight": 0.3}, "qmix"), ("cia_qplex", QPLEX, "qplex")]


@pytest.mark.parametrize(
    ("name", "options", "base"), [CASES[0], pytest.param(*CASES[1], marks=pytest.mark.slow)]
)
def test_cia_adds_the_contrastive_loss_of_the_credits(
    name: str, options: dict[str, Any], base: str
) -> None:
    method, batch = make(name, **options), make_batch()
    params = params_of(method)
    assert set(params) == {"agent", "mixer", "identity"}
    kernel = params["identity"]["params"]["Dense_0"]["kernel"]
    assert kernel.shape == (LIMIT, AGENTS)
    loss, metrics = loss_of(method, params, batch)
    plain, _ = loss_of(
        make(base, **{k: v for k, v in options.items() if k != "cia_weight"}), params, batch
    )

    # Q_tot's differences along each agent's value, zero after the end, against the identities.
    taken = method.taken(method.values(params, params, batch, KEY), batch)

    def q_tot(agent: int, step: float) -> np.ndarray:
        moved = taken._replace(q=taken.q.at[..., agent].add(step))
        if base == "qplex":
            # Its advantage is a constant, which a difference quotient must hold fixed.
            moved = moved._replace(q_max=taken.q_max.at[..., agent].add(step))
        return np.asarray(method.mix(params, moved).q_tot, np.float64)

    credits = np.stack([(q_tot(i, 1e-2) - q_tot(i, -1e-2)) / 2e-2 for i in range(AGENTS)], -1)
    credits *= np.asarray(batch.valid)[..., None]
    vectors = (
        np.einsum("tbn,tk->bnk", credits, kernel) + params["identity"]["params"]["Dense_0"]["bias"]
    )
    expected = contrastive_identity_loss(jnp.asarray(vectors))
    np.testing.assert_allclose(metrics["identity_loss"], expected, rtol=1e-3)
    np.testing.assert_allclose(loss - plain, method.config.cia_weight * expected, rtol=2e-3)


@pytest.mark.parametrize(
    ("name", "options", "base"), [CASES[0], pytest.param(*CASES[1], marks=pytest.mark.slow)]
)
def test_the_identity_loss_trains_the_mixer_and_never_the_agents(
    name: str, options: dict[str, Any], base: str
) -> None:
    batch = make_batch()
    params = params_of(make(name, **options))
    with_it = gradient_of(make(name, **{**options, "cia_weight": 5.0}), params, batch)
    without = gradient_of(make(name, **{**options, "cia_weight": 0.0}), params, batch)
    difference = jax.tree.map(jnp.subtract, with_it, without)
    assert is_zero(difference["agent"])
    mixer = difference["mixer"]["params"]
    assert is_zero(mixer["value"]), "V(s) has no part in any credit"
    reached = {"qmix": ("kernel1", "kernel2", "bias1"), "qplex": ("_Attention_0",)}[base]
    assert not any(is_zero(mixer[name]) for name in reached)
    layer = difference["identity"]["params"]["Dense_0"]
    assert np.abs(layer["kernel"]).max() > 1e-3
    # Among agents an identity's bias cancels.
    np.testing.assert_allclose(layer["bias"], 0.0, atol=1e-6)


def test_classification_is_the_loss_across_identities() -> None:
    batch = make_batch()
    params = params_of(make("cia", **MIXER))
    params["identity"]["params"]["Dense_0"]["bias"] += jnp.arange(AGENTS)
    _, contrastive = loss_of(make("cia", **MIXER), params, batch)
    method = make("cia", **MIXER, identity_loss="classification")
    _, classified = loss_of(method, params, batch)
    assert abs(contrastive["identity_loss"] - classified["identity_loss"]) > 0.01
    bias = gradient_of(method, params, batch)["identity"]["params"]["Dense_0"]["bias"]
    assert np.abs(bias).min() > 1e-4, "here the biases matter"


@pytest.mark.parametrize("name", ["cia_qplex", "cia@qplex", "gre@qplex"])
def test_without_features_of_the_agents_qplexs_credits_teach_nothing(name: str) -> None:
    """All are one number then, as bare QPLEX's are; so the pair's default is another, and it is refused."""
    method = make("qplex", **MIXER)
    state = drawn_state(method, 0)
    credits = np.asarray(fast_jit(method.credits)(state, make_batch()))
    np.testing.assert_allclose(credits, credits[..., :1].repeat(AGENTS, -1), rtol=1e-5)
    pair = make(name, **MIXER)
    credits = np.asarray(fast_jit(pair.credits)(drawn_state(pair, 0), make_batch()))
    assert np.ptp(credits, axis=-1).max() > 1e-3
    with pytest.raises(ConfigurationError, match="weighs all agents alike without"):
        make(name, **MIXER, agent_index=False)
    make(name, **MIXER, agent_index=False, unit_dim=1)


def test_gre_adds_the_entropy_of_the_credits() -> None:
    method, batch = make("gre", **MIXER, entropy_weight=0.5), make_batch()
    params = params_of(method)
    loss, metrics = loss_of(method, params, batch)
    plain, _ = loss_of(make("qmix", **MIXER), params, batch)
    state = drawn_state(method, 0)._replace(params=params)
    credits = np.asarray(fast_jit(method.credits)(state, batch), np.float64)
    share = credits / credits.sum(-1, keepdims=True)
    entropy = -(share * np.log(share)).sum(-1) / np.log(AGENTS)
    expected = entropy[np.asarray(batch.valid)].mean()
    np.testing.assert_allclose(metrics["credit_entropy"], expected, rtol=1e-5)
    np.testing.assert_allclose(loss - plain, 0.5 * expected, rtol=1e-4)
    difference = jax.tree.map(
        jnp.subtract,
        gradient_of(method, params, batch),
        gradient_of(make("qmix", **MIXER), params, batch),
    )
    assert is_zero(difference["agent"])


@pytest.mark.parametrize(("name", "metric"), [("cia", "identity_loss"), ("gre", "credit_entropy")])
def test_the_authors_slope_is_another_number(name: str, metric: str) -> None:
    batch = make_batch()
    method = make(name, **MIXER)
    params = params_of(method)
    # Below 0 the two slopes of the ELU differ.
    params["mixer"]["params"]["bias1"]["Dense_0"]["bias"] -= 1.0
    values = [
        float(loss_of(make(name, **MIXER, credit=credit), params, batch)[1][metric])
        for credit in ("exact", "authors")
    ]
    assert abs(values[0] - values[1]) > 1e-4


def test_shuffled_agents_are_those_in_one_of_the_orders() -> None:
    batch = make_batch()
    mirrored = batch._replace(
        **{
            name: jnp.flip(getattr(batch, name), axis=2)
            for name in ("observation", "action_mask", "alive", "action", "reward", "discount")
        }
    )
    # The agents' own values follow them: without sight of who is who, mirroring the batch is the other order.
    blind = {**MIXER, "observe_identity": False}
    straight, shuffled = make("qmix", **blind), make("qmix", **blind, shuffle_agents=True)
    params = params_of(straight)
    orders = [float(loss_of(straight, params, x)[0]) for x in (batch, mirrored)]
    assert abs(orders[0] - orders[1]) > 1e-4
    seen = {
        int(np.argmin(np.abs(np.array(orders) - float(loss)))): float(loss)
        for loss in (loss_of(shuffled, params, batch, jax.random.key(k))[0] for k in range(8))
    }
    assert set(seen) == {0, 1}
    np.testing.assert_allclose([seen[0], seen[1]], orders, rtol=1e-5)


def test_shuffling_is_refused_where_it_would_shuffle_the_identities() -> None:
    with pytest.raises(ConfigurationError, match="shuffle_agents is True; it must be false"):
        make("cia", shuffle_agents=True)


def test_credits_along_episodes() -> None:
    batch = make_batch()
    method = make("vdn")
    state = drawn_state(method, 0)
    np.testing.assert_array_equal(method.credits(state, batch), np.ones((LIMIT, 3, AGENTS)))
    for name in ("iql", "qtran"):
        method = make(name)
        with pytest.raises(ConfigurationError, match="has no mixer, so its agents have no credits"):
            method.credits(drawn_state(method, 0), batch)
