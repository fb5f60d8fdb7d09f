"""Losses on credits against numbers worked out by hand, and where their gradients go."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.losses import (
    contrastive_identity_loss,
    credit_divergences,
    credit_entropy,
    credit_vectors,
    identity_classification_loss,
)
from marl_jax.networks import QMIX, QPLEX, VDN, Linear, Mixed, MixerInputs, Params, temporal_credits

STEPS, ENVS, AGENTS = 5, 4, 3

# Rows are agents, columns identities.
SCORES = jnp.array([[[1.0, 2.0], [3.0, 5.0]]])


def test_contrastive_identity_loss() -> None:
    # Identity 0 sees agents' scores (1, 3): -log e^1 / (e^1 + e^3) = log(1 + e^2) = 2.126928.
    # Identity 1 sees (2, 5): log(1 + e^-3) = 0.048587. Mean 1.087758.
    np.testing.assert_allclose(contrastive_identity_loss(SCORES), 1.087758, rtol=1e-6)


def test_identity_classification_loss() -> None:
    # Agent 0 has (1, 2): log(1 + e) = 1.313262. Agent 1 has (3, 5): log(1 + e^-2) = 0.126928. Mean 0.720095.
    np.testing.assert_allclose(identity_classification_loss(SCORES), 0.720095, rtol=1e-6)


@pytest.mark.parametrize("loss", [contrastive_identity_loss, identity_classification_loss])
def test_the_mean_is_over_episodes_and_identities(
    loss: Callable[[jax.Array], jax.Array],
) -> None:
    other = jnp.array([[[4.0, -1.0], [0.5, 2.0]]])
    both = loss(jnp.concatenate([SCORES, other]))
    np.testing.assert_allclose(both, (loss(SCORES) + loss(other)) / 2, rtol=1e-6)
    # Nobody can be told apart: log N.
    np.testing.assert_allclose(loss(jnp.ones((6, 5, 5))), np.log(5.0), rtol=1e-6)


def test_one_loss_is_the_other_transposed() -> None:
    scores = jax.random.normal(jax.random.key(0), (4, 3, 3))
    transposed = identity_classification_loss(jnp.swapaxes(scores, 1, 2))
    np.testing.assert_allclose(contrastive_identity_loss(scores), transposed, rtol=1e-6)
    assert abs(transposed - identity_classification_loss(scores)) > 1e-2


def test_an_identitys_bias_cancels_only_in_the_contrastive_loss() -> None:
    scores = jax.random.normal(jax.random.key(0), (4, 3, 3))
    bias = jnp.array([1.0, -2.0, 0.5])
    by_bias = jax.grad(lambda b: contrastive_identity_loss(scores + b))(bias)
    np.testing.assert_allclose(by_bias, np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(
        contrastive_identity_loss(scores + bias), contrastive_identity_loss(scores), rtol=1e-5
    )
    by_bias = jax.grad(lambda b: identity_classification_loss(scores + b))(bias)
    assert (jnp.abs(by_bias) > 1e-3).all()


def test_scores_of_other_shapes_are_refused() -> None:
    for shape in ((3, 3), (4, 3, 2)):
        with pytest.raises(AssertionError):
            contrastive_identity_loss(jnp.zeros(shape))


def test_credit_vectors() -> None:
    credits = jnp.arange(12.0).reshape(3, 2, 2)  # [T, B, N]
    valid = jnp.array([[True, True], [True, True], [False, True]])
    np.testing.assert_array_equal(
        credit_vectors(credits, valid),
        [[[0, 4, 0], [1, 5, 0]], [[2, 6, 10], [3, 7, 11]]],
    )


def draw(num_envs: int = ENVS) -> MixerInputs:
    q_key, state_key = jax.random.split(jax.random.key(1))
    q = jax.random.normal(q_key, (STEPS, num_envs, AGENTS))
    state = jax.random.normal(state_key, (STEPS, num_envs, 2 * AGENTS))
    return MixerInputs(q, q + 1.0, jnp.zeros((*q.shape, 2)), state)


@pytest.mark.parametrize(
    "mixer", [QMIX(embed_size=8), pytest.param(QPLEX(unit_dim=2), marks=pytest.mark.slow)]
)
def test_it_trains_the_mixer_and_the_identities_but_not_the_agents(mixer: QMIX | QPLEX) -> None:
    inputs, identity = draw(), Linear(AGENTS)
    params = jax.jit(mixer.init)(jax.random.key(2), inputs)
    identities = identity.init(jax.random.key(3), jnp.zeros((STEPS,)))
    valid = jnp.arange(STEPS)[:, None] < jnp.array([5, 3, 3, 2])

    def loss(q: jax.Array, params: Params, identities: Params, credits_after: float) -> jax.Array:
        def mix(x: MixerInputs) -> Mixed:
            return mixer.apply(params, x)

        credits = temporal_credits(mix, inputs._replace(q=q, q_max=q + 1.0))
        credits = credits + jnp.where(valid[..., None], 0.0, credits_after)
        return contrastive_identity_loss(identity.apply(identities, credit_vectors(credits, valid)))

    learn = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    value, gradients = learn(inputs.q, params, identities, 0.0)
    by_q, by_params, by_identities = gradients
    np.testing.assert_array_equal(by_q, np.zeros_like(by_q))
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(by_params)) > 1e-5
    # Every step is in some episode.
    assert (jnp.abs(by_identities["params"]["Dense_0"]["kernel"]).max(axis=1) > 0).all()
    # What the mixer says after an episode's end does not count.
    after, _ = learn(inputs.q, params, identities, 100.0)
    np.testing.assert_allclose(after, value, rtol=1e-6)


def test_identities_do_not_learn_from_steps_after_every_episodes_end() -> None:
    identity, credits = Linear(AGENTS), jnp.ones((STEPS, ENVS, AGENTS)) + jnp.arange(AGENTS)
    identities = identity.init(jax.random.key(3), jnp.zeros((STEPS,)))
    valid = jnp.broadcast_to(jnp.arange(STEPS)[:, None] < 3, (STEPS, ENVS))
    gradient = jax.grad(
        lambda p: contrastive_identity_loss(identity.apply(p, credit_vectors(credits, valid)))
    )(identities)["params"]["Dense_0"]["kernel"]
    assert (jnp.abs(gradient[:3]) > 1e-3).all()
    np.testing.assert_array_equal(gradient[3:], np.zeros((2, AGENTS)))


def test_equal_credits_cannot_be_told_apart() -> None:
    inputs, identity = draw(), Linear(AGENTS)
    identities = identity.init(jax.random.key(3), jnp.zeros((STEPS,)))
    credits = temporal_credits(lambda x: VDN().apply({}, x), inputs)
    scores = identity.apply(identities, credit_vectors(credits, jnp.ones((STEPS, ENVS), bool)))
    np.testing.assert_allclose(contrastive_identity_loss(scores), np.log(AGENTS), rtol=1e-6)


def test_learning_tells_the_agents_apart() -> None:
    # The loss is a lower bound's: it falls from log 3 towards 0 as the mixer pays agents differently.
    mixer, inputs, identity = QMIX(embed_size=8), draw(), Linear(AGENTS)
    params = (
        jax.jit(mixer.init)(jax.random.key(2), inputs),
        identity.init(jax.random.key(3), jnp.zeros((STEPS,))),
    )

    @jax.jit
    def step(params: Params) -> tuple[jax.Array, Params]:
        def loss(params: Params) -> jax.Array:
            credits = temporal_credits(lambda x: mixer.apply(params[0], x), inputs)
            vectors = credit_vectors(credits, jnp.ones((STEPS, ENVS), bool))
            return contrastive_identity_loss(identity.apply(params[1], vectors))

        value, gradient = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda x, g: x - 0.1 * g, params, gradient)

    first, params = step(params)
    for _ in range(200):
        last, params = step(params)
    assert first > 0.9
    assert last < 0.1


def test_credit_entropy() -> None:
    # (1, 3): p = 1/4, 3/4, H = 0.562335, over log 2: 0.811278. Equal credits 1, a single one 0.
    credits = jnp.array([[1.0, 3.0], [2.0, 2.0], [5.0, 0.0], [1e3, 1e-3]])
    for mask, expected in (
        ([1, 0, 0, 0], 0.811278),
        ([0, 1, 0, 0], 1.0),
        ([0, 0, 1, 0], 0.0),
        ([1, 1, 1, 0], 0.603759),
        ([0, 0, 0, 0], 0.0),
    ):
        entropy = credit_entropy(credits, jnp.array(mask, float))
        np.testing.assert_allclose(entropy, expected, rtol=1e-5, atol=1e-6)


def test_credit_entropy_is_between_0_and_1() -> None:
    credits = jnp.exp(4.0 * jax.random.normal(jax.random.key(0), (200, 5)))
    entropies = jax.vmap(lambda x: credit_entropy(x, jnp.ones(())))(credits)
    assert (entropies >= 0).all()
    assert (entropies <= 1).all()
    assert entropies.min() < 0.1
    assert entropies.max() > 0.6
    # Also where nobody gets anything, and with a finite gradient.
    value, gradient = jax.value_and_grad(credit_entropy)(jnp.zeros((5,)), jnp.ones(()))
    np.testing.assert_allclose(value, 1.0, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_minimising_it_makes_credits_differ() -> None:
    credits = jnp.array([2.0, 1.0, 1.0])
    gradient = jax.grad(credit_entropy)(credits, jnp.ones(()))
    assert gradient[0] < 0 < gradient[1]


def test_credit_entropy_refuses_a_single_agent_and_a_mask_of_another_shape() -> None:
    with pytest.raises(AssertionError):
        credit_entropy(jnp.ones((4, 1)), jnp.ones((4,)))
    with pytest.raises(AssertionError):
        credit_entropy(jnp.ones((4, 3)), jnp.ones((3,)))


def test_distances_between_mixers_by_hand() -> None:
    # softmax(log p) = p: mixer 0 pays 1/2, 1/2; mixer 1 pays 1/4, 3/4 at the first step, as mixer 0 at the second.
    credits = jnp.log(jnp.array([[[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]]]))
    credits = jnp.concatenate([credits, jnp.full((2, 1, 2), 7.0).at[1, 0, 0].set(-7.0)], axis=1)
    valid = jnp.array([True, True, False])
    found = credit_divergences(credits[:, :, None], valid[:, None])
    there = 0.5 * np.log(2.0) + 0.5 * np.log(2.0 / 3.0)
    back = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    np.testing.assert_allclose(found, [[0.0, there / 2], [back / 2, 0.0]], atol=1e-6)
