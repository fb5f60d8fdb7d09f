"""LIIR on the PPO core: its meta-gradient against finite differences, who is paid what, what stays MAPPO without it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from envs.configuration import ConfigurationError
from marl_jax.methods.ppo import Learner, Lesson
from tests.methods.learners import differing, fast_jit
from tests.methods.ppo_learners import KEY, drawn_state, episodes, make, update
from tests.probes import AGENTS, LIMIT

LIIR: dict[str, Any] = {"intrinsic_hidden": (3,), "intrinsic_weight": 0.5, "critic_hidden": ()}


def to_float64(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def lesson(method: Any, state: Any, batch: Any) -> Lesson:
    """What `update` gives the part."""
    experience = method.experience(state, batch)
    _, reward, _ = method.rewards(state, experience)
    returns = method.returns(experience, reward)
    norm = state.value_norm.update(returns, experience.played, method.config.value_norm_decay)
    given = method._lessons(experience, returns, state.value_norm, norm, experience.played)
    rates, learner = method.rates(state.env_steps), Learner(state.params, state.optimizer)
    return Lesson(experience, given, learner, rates, KEY, KEY)


# --- The meta-gradient ---

ALL = {
    "meta_gradient": "all",
    "epochs": 2,
    "num_envs": 3,
    "minibatches": 3,
    "lr": 0.05,
    "lr_final": 0.05,
}


@pytest.mark.parametrize(
    "options",
    [
        {"agent": "gru", "hidden_size": 3, "gae_lambda": 0.8},
        {**ALL, "hidden_size": 3, "hidden_layers": 1, "max_grad_norm": 0.05},
        pytest.param(
            {"sharing": "independent", "normalise_advantage": "agent"}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"sharing": "independent", **ALL, "max_grad_norm": 0.0}, marks=pytest.mark.slow
        ),
        pytest.param({"agent": "gru", **ALL, "hidden_size": 3}, marks=pytest.mark.slow),
        pytest.param({**ALL, "normalise_advantage": "minibatch"}, marks=pytest.mark.slow),
    ],
    ids=[
        "step-gru",
        "all-clipped",
        "step-independent",
        "all-independent",
        "all-gru",
        "all-minibatch",
    ],
)
def test_the_meta_gradient_is_that_of_the_objective_after_the_policies_have_learned(
    options: dict[str, Any],
) -> None:
    """Central differences, in float64, of J(theta'(eta)), with eta acting through the rewards from the start."""
    with jax.enable_x64(True):
        method = make("liir", **{**LIIR, "activation": "tanh", "inner_lr": 0.5, **options})
        # The policy has departed a little from the one that acted.
        batch, state = to_float64(episodes()), to_float64(drawn_state(method))
        part = method.parts[0]
        eta, unravel = ravel_pytree(state.parts[0].params)

        @fast_jit
        def analytic(state: Any) -> Any:
            objective, gradient = part.meta_gradient(
                state.parts[0].params, lesson(method, state, batch)
            )
            return objective, ravel_pytree(gradient)[0]

        def after(eta: jax.Array) -> jax.Array:
            now = state._replace(parts=(state.parts[0]._replace(params=unravel(eta)),))
            given = lesson(method, now, batch)
            if method.config.meta_gradient == "all":
                learner, _ = method.learn(given.before, given.lessons, given.rates, KEY)
                return part.outer_objective(learner.params["actor"], given)
            # Eq. 6, written once more.
            experience = given.experience

            def loss(actor: Any) -> jax.Array:
                log_prob = part.log_prob(actor, experience)
                mask = experience.chooses
                return -jnp.sum(given.lessons.advantage * log_prob * mask) / jnp.sum(mask)

            actor = given.before.params["actor"]
            actor = jax.tree.map(lambda x, g: x - 0.5 * g, actor, jax.grad(loss)(actor))
            return part.outer_objective(actor, given)

        objective, gradient = analytic(state)
        width = 1e-5
        around = jnp.eye(eta.size)[None] * jnp.array([width, -width])[:, None, None] + eta
        high, low = fast_jit(jax.vmap(jax.vmap(after)))(around)
        expected = (high - low) / (2 * width)
        assert expected.dtype == jnp.float64
        assert jnp.linalg.norm(expected) > 1e-4
        assert jnp.linalg.norm(gradient - expected) / jnp.linalg.norm(expected) < 1e-5
        np.testing.assert_allclose(objective, (high[0] + low[0]) / 2, rtol=1e-6)


def test_the_objective_by_hand() -> None:
    """Mean over living agents that choose of A pi' / pi, A the task's normalised advantage."""
    method = make("liir", **LIIR, sharing="shared")
    state, batch = drawn_state(method), episodes()

    @fast_jit
    def look(state: Any) -> Any:
        given = lesson(method, state, batch)
        actor = state.params["actor"]
        log_prob = part.log_prob(actor, given.experience)
        reward = jnp.stack([given.experience.batch.reward] * 2, axis=-1)
        returns = method.returns(given.experience, reward)
        return part.outer_objective(actor, given), given.experience, returns, log_prob

    part = method.parts[0]
    objective, experience, returns, log_prob = look(state)
    advantage = np.asarray(returns - experience.value[:-1])[..., 1]
    alive, chooses = np.asarray(experience.alive) > 0, np.asarray(experience.chooses) > 0
    advantage = (advantage - advantage[alive].mean()) / advantage[alive].std()
    ratio = np.exp(np.asarray(log_prob) - np.asarray(batch.extras.log_prob))
    np.testing.assert_allclose(objective, (advantage * ratio)[chooses].mean(), rtol=1e-3)


@pytest.mark.slow
def test_agents_without_a_choice_have_a_finite_meta_gradient() -> None:
    """Their gradients are 0, whose norm and root have no slope."""
    method = make("liir", **LIIR, **{**ALL, "sharing": "independent"})
    batch = episodes()
    alone = jnp.arange(batch.num_actions) == batch.action[..., None]
    mask = batch.action_mask.at[:-1, :, 1].set(alone[:, :, 1])
    _, metrics = update(method, drawn_state(method), batch._replace(action_mask=mask))
    assert np.isfinite(metrics["meta_grad_norm"])
    assert metrics["meta_grad_norm"] > 0


# --- Payment ---


def test_who_is_paid_what() -> None:
    """R + lambda 10 tanh(x / 10) of the action taken, the reward alone for the dead."""
    method = make("liir", **LIIR)
    state, batch = drawn_state(method), episodes()

    @fast_jit
    def look(state: Any) -> Any:
        experience = method.experience(state, batch)
        _, reward, _ = method.rewards(state, experience)
        raw = method.parts[0].network.apply(state.parts[0].params, experience.inputs[:-1])
        return experience, reward, raw, method.parts[0].intrinsic_reward_table(state, batch)

    experience, reward, raw, table = look(state)
    np.testing.assert_allclose(table, 10.0 * np.tanh(np.asarray(raw) / 10.0), rtol=1e-4, atol=1e-6)
    taken = np.take_along_axis(np.asarray(table), np.asarray(batch.action)[..., None], axis=-1)[
        ..., 0
    ]
    taken = np.where(np.asarray(experience.alive) > 0, taken, 0.0)
    assert abs(taken).max() > 0.1
    np.testing.assert_allclose(reward[..., 0], batch.reward + 0.5 * taken, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(reward[..., 1], batch.reward, rtol=1e-6)


def test_without_weight_nothing_is_learned_of_it_and_the_policies_learn_as_mappos_do() -> None:
    """A critic that says both values twice is MAPPO's."""
    options = {"critic_input": "joint", "critic_hidden": (), "epochs": 2, "minibatches": 3}
    liir = make("liir", **{**LIIR, **options, "intrinsic_weight": 0.0})
    mappo = make("mappo", **options)
    plain, batch = drawn_state(mappo), episodes()
    state = drawn_state(liir)
    # Outputs are agents' values one after the other, two for each.
    twice = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=-1), plain.params["critic"])
    assert jax.tree.map(jnp.shape, twice) == jax.tree.map(jnp.shape, state.params["critic"])
    state = state._replace(params={"actor": plain.params["actor"], "critic": twice})
    with_part, metrics = update(liir, state, batch)
    without, plain_metrics = update(mappo, plain, batch)
    assert not differing(with_part.parts, state.parts)
    assert "meta_grad_norm" not in metrics
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        with_part.params["actor"],
        without.params["actor"],
    )
    for name in ("actor_loss", "entropy", "approx_kl", "explained_variance"):
        np.testing.assert_allclose(metrics[name], plain_metrics[name], rtol=1e-4, atol=1e-6)


# --- How it learns ---


def test_its_optimiser_does_not_swallow_a_gradient_of_a_ten_millionth() -> None:
    method = make("liir", **LIIR, intrinsic_lr=0.25)
    eta = {"x": jnp.zeros(3)}
    optimizer = method.parts[0].optimizer
    updates, _ = optimizer.update({"x": jnp.array([1e-7, -1e-7, 0.0])}, optimizer.init(eta), eta)
    np.testing.assert_allclose(updates["x"], [-0.25, 0.25, 0.0], rtol=0.01)


def test_it_climbs_and_logs_what_a_reader_must_watch() -> None:
    method = make("liir", **LIIR, intrinsic_lr=1e-3, meta_share=1.0)
    state, batch = drawn_state(method), episodes()

    @fast_jit
    def look(state: Any) -> Any:
        given = lesson(method, state, batch)
        objective, gradient = method.parts[0].meta_gradient(state.parts[0].params, given)
        learned, metrics = method.parts[0].learn(state.parts[0], given)
        risen, _ = method.parts[0].meta_gradient(learned.params, given)
        reward = jnp.stack([given.experience.batch.reward] * 2, axis=-1)
        advantage = method.returns(given.experience, reward) - given.experience.value[:-1]
        r_in = method.parts[0].of_taken(state.parts[0].params, given.experience)
        return objective, risen, gradient, metrics, advantage, r_in, given.experience.alive

    objective, risen, gradient, metrics, advantage, r_in, alive = look(state)
    assert risen > objective
    living = np.asarray(alive) > 0
    spreads = [np.asarray(x)[living].std() for x in (0.5 * r_in, advantage[..., 1])]
    np.testing.assert_allclose(metrics["intrinsic_ratio"], spreads[0] / spreads[1], rtol=1e-3)
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["meta_grad_norm"], norm, rtol=1e-4)
    np.testing.assert_allclose(metrics["outer_objective"], objective, rtol=1e-4)
    magnitude = np.abs(np.asarray(r_in)[living]).mean()
    np.testing.assert_allclose(metrics["intrinsic_reward_abs"], magnitude, rtol=1e-4)


def test_the_meta_gradient_is_taken_on_a_share_of_the_episodes() -> None:
    """The first two of three, as if there were no other."""
    method = make("liir", **LIIR, meta_share=0.6)
    state, batch = drawn_state(method), episodes()

    @fast_jit
    def look(state: Any) -> Any:
        given = lesson(method, state, batch)
        first = lesson(method, state, jax.tree.map(lambda x: x[:, :2], batch))
        found = method.parts[0].learn(state.parts[0], given)[1]["meta_grad_norm"]
        gradient = method.parts[0].meta_gradient(state.parts[0].params, first)[1]
        return found, optax.tree.norm(gradient)

    found, expected = look(state)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_meta_gradient_takes_at_least_one_episode() -> None:
    method = make("liir", **LIIR, meta_share=0.1)
    state = drawn_state(method)
    share = jax.eval_shape(lambda s: method.parts[0]._share(lesson(method, s, episodes())), state)
    assert share.experience.played.shape == (LIMIT, 1, AGENTS)


@pytest.mark.parametrize("sharing", ["shared", "independent"])
def test_agents_learn_rewards_together_or_each_its_own(sharing: str) -> None:
    method = make("liir", **LIIR, sharing=sharing)
    state = jax.eval_shape(method.init, KEY)
    first = jax.tree.leaves(state.parts[0].params)[-1].shape
    assert (len(first) == 3) == (sharing == "independent")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"intrinsic_weight": -0.1}, "intrinsic_weight is -0.1; it must be at least 0."),
        ({"intrinsic_eps": 0.0}, "intrinsic_eps is 0.0; it must be above 0."),
        ({"intrinsic_hidden": (0,)}, "intrinsic_hidden is 0; it must be at least 1."),
        ({"inner_lr": 0.0}, "inner_lr is 0.0; it must be above 0."),
        ({"meta_gradient": "some"}, "meta_gradient is 'some'; it must be one of: step, all."),
        (
            {"normalise_advantage": "minibatch"},
            "normalise_advantage is 'minibatch'; it must be 'batch' or 'agent' unless meta_gradient is 'all'.",
        ),
    ],
)
def test_bad_options_get_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{sentence}"):
        make("liir", **options)
