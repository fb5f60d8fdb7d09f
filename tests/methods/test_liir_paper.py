"""LIIR: its meta-gradient against finite differences, the authors' variant, who learns what."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from envs.configuration import ConfigurationError
from marl_jax.methods.liir_paper import LIIRPaper
from tests.methods.learners import (
    SIZES,
    SMALL,
    differing,
    fast_jit,
    init,
    make,
    make_batch,
    update,
)


class Exposed(LIIRPaper):
    """LIIR whose intrinsic parameters after an update are those before minus the gradient it used."""

    @property
    def intrinsic_optimizer(self) -> optax.GradientTransformation:
        return optax.sgd(1.0)


def exposed(**options: Any) -> Exposed:
    return Exposed(
        LIIRPaper.Config.from_mapping({**SMALL, "hidden_size": 4, **options}, "liir_paper"), SIZES
    )


def to_float64(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


CLIPPED = {
    "optimizer": "rmsprop",
    "max_grad_norm": 0.01,
    "actor_lr": 0.02,
    "inner_update": "optimizer",
}
PLAIN = {"optimizer": "sgd", "max_grad_norm": 0.0, "actor_lr": 0.5}


@pytest.mark.parametrize(
    "options",
    [
        {
            **CLIPPED,
            "advantage": "one_step",
            "normalise_advantage": True,
            "agent": "mlp",
            "entropy_weight": 0.1,
        },
        pytest.param(
            {
                **CLIPPED,
                "advantage": "td_lambda",
                "normalise_advantage": False,
                "agent": "mlp",
                "sharing": "independent",
                "likelihood_ratio": "joint",
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                **CLIPPED,
                "optimizer": "adam",
                "advantage": "td_lambda",
                "normalise_advantage": True,
                "agent": "mlp",
                "critic": "shared_trunk",
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                **PLAIN,
                "inner_update": "sgd",
                "advantage": "td_lambda",
                "normalise_advantage": True,
                "agent": "gru",
                "sharing": "independent",
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                **PLAIN,
                "inner_update": "optimizer",
                "advantage": "one_step",
                "normalise_advantage": False,
                "agent": "mlp",
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=["clipped", "clipped-independent", "adam-trunk", "sgd-independent", "sgd-optimizer"],
)
@pytest.mark.slow
def test_the_meta_gradient_is_that_of_the_objective_after_the_policy_step(
    options: dict[str, Any],
) -> None:
    """Central differences, in float64, of J(theta'(eta)) against what `update` moves eta by."""
    with jax.enable_x64(True):
        method = exposed(intrinsic_weight=0.5, **options)
        batches = [to_float64(make_batch(seed=seed)) for seed in (0, 1)]
        state = to_float64(init(method))
        step = fast_jit(method.update)
        key = jax.random.key(0)
        # The second update, so that the optimiser has a past.
        state, _ = step(state, batches[0], None, key)
        state = state._replace(
            params={
                **state.params,
                "intrinsic": jax.tree.map(lambda x: 3.0 * x, state.params["intrinsic"]),
            }
        )
        after, metrics = step(state, batches[1], None, key)
        if options["max_grad_norm"] > 0:
            assert metrics["actor_grad_norm"] > 1.2 * options["max_grad_norm"], "nothing is clipped"
        eta, rest = state.params["intrinsic"]["reward"], state.params["intrinsic"]
        moved = ravel_pytree(eta)[0] - ravel_pytree(after.params["intrinsic"]["reward"])[0]
        flat, unravel = ravel_pytree(eta)

        def objective(flat: jax.Array) -> jax.Array:
            data = method.prepare(state, batches[1], key)
            _, values = method.train_critics(data)
            policy = method.policy_step(data, values, {**rest, "reward": unravel(flat)})
            return method.outer_objective(data, values, policy.actor)

        width = 1e-5
        around = jnp.eye(flat.size)[None] * jnp.array([width, -width])[:, None, None] + flat
        high, low = fast_jit(jax.vmap(jax.vmap(objective)))(around)
        expected = (high - low) / (2 * width)
        error = jnp.linalg.norm(-moved - expected) / jnp.linalg.norm(expected)
        assert expected.dtype == jnp.float64
        assert jnp.linalg.norm(expected) > 1e-6
        assert error < 1e-5
        # J itself is what the update reports.
        middle = (high[0] + low[0]) / 2
        np.testing.assert_allclose(metrics["outer_objective"], middle, rtol=1e-6)


@pytest.mark.slow
def test_with_one_step_advantages_and_plain_steps_it_is_equation_9() -> None:
    """dJ/dr_in(t) = alpha lambda < grad J(theta'), grad log pi(u_t) > / number of samples."""
    method = make(
        "liir_paper", **PLAIN, inner_update="sgd", normalise_advantage=False, intrinsic_weight=0.5
    )
    state, batch = init(method), make_batch()

    @fast_jit
    def both_ways() -> Any:
        data = method.prepare(state, batch, jax.random.key(0))
        _, values = method.train_critics(data)
        step = method.policy_step(data, values, state.params["intrinsic"])
        _, direction = method.outer_gradient(data, values, step)
        result = method.meta_gradient(data, values, step, direction)

        # grad log pi of each sample on its own.
        each = jax.jacrev(lambda actor: method._actor_log_prob(data, actor))(state.params["actor"])
        products = jax.tree.map(
            lambda g, j: jnp.sum(j * g, axis=tuple(range(3, j.ndim))), direction, each
        )
        inner = sum(jax.tree.leaves(products))

        def equation_9(intrinsic: Any) -> jax.Array:
            r_in = method._taken_reward(data, intrinsic)
            return 0.5 * 0.5 * jnp.sum(data.mask * inner * r_in) / data.mask.sum()

        return result, jax.grad(equation_9)(state.params["intrinsic"])

    # alpha = lambda = 1/2. The optimiser descends, so its gradient is that of -J.
    result, expected = both_ways()
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, -other, rtol=1e-4, atol=1e-8)
        assert jnp.any(other != 0)


@pytest.mark.slow
def test_a_dead_parameter_under_clipping_makes_no_nan() -> None:
    """RMSprop's root has an infinite slope where there has never been a gradient."""
    method = exposed(**CLIPPED, intrinsic_weight=0.5)
    state, batch = init(method), make_batch()
    # A feature that is always 0: its weights never get a gradient.
    batch = batch._replace(observation=batch.observation.at[..., 0].set(0.0))
    after, metrics = fast_jit(method.update)(state, batch, None, jax.random.key(0))
    assert metrics["actor_grad_norm"] > method.config.max_grad_norm
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))
    assert float(metrics["intrinsic_grad_norm"]) > 0


@pytest.mark.slow
def test_the_authors_variant_multiplies_two_averages_and_descends() -> None:
    method = exposed(**PLAIN, meta_gradient="batch", intrinsic_weight=0.5, advantage="td_lambda")
    state = init(method)
    batch = make_batch(lengths=(2, 2), terminated=(True, True), steps=2)
    batch = batch._replace(action_mask=jnp.ones_like(batch.action_mask))  # everybody counts
    after, _ = fast_jit(method.update)(state, batch, None, jax.random.key(0))
    moved = jax.tree.map(jnp.subtract, state.params["intrinsic"], after.params["intrinsic"])

    # < mean of grad log pi without the floor, grad J at the policy after its step >
    x = method.agent_inputs(batch.observation, batch.last_action)

    def mean_log_prob(actor: Any) -> jax.Array:
        log_probs = jax.nn.log_softmax(method.agent.unroll(actor, x)[1][:-1])
        return jnp.take_along_axis(log_probs, batch.action[..., None], axis=-1).mean()

    @fast_jit
    def by_hand() -> Any:
        data = method.prepare(state, batch, jax.random.key(0))
        _, values = method.train_critics(data)
        first = jax.grad(mean_log_prob)(state.params["actor"])
        second = jax.grad(lambda actor: method.outer_objective(data, values, actor))(
            after.params["actor"]
        )
        products = jax.tree.map(lambda a, b: jnp.sum(a * b), first, second)
        scalar = sum(jax.tree.leaves(products))

        def mean_return(intrinsic: Any) -> jax.Array:
            # G_1 = p_1 and G_0 = p_0 + 0.99 (0.2 V_1 + 0.8 G_1), with p = r + lambda r_in.
            p = method._proxy_reward(data, intrinsic)
            start = p[0] + 0.99 * (0.2 * values.target_proxy[1] + 0.8 * p[1])
            return (start + p[1]).mean() / 2

        gradient = jax.grad(mean_return)(state.params["intrinsic"])
        return scalar, jax.tree.map(lambda g: scalar * g, gradient)

    scalar, expected = by_hand()
    assert abs(scalar) > 1e-6
    for one, other in zip(jax.tree.leaves(moved), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"intrinsic_eps": 0.0}, "intrinsic_eps is 0.0; it must be above 0"),
        ({"critic": "shared_trunk", "critic_hidden": ()}, "must have at least one layer"),
    ],
)
def test_options_out_of_range_are_refused(option: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        make("liir_paper", **option)


def test_each_optimizer_owns_its_parameters() -> None:
    method = make("liir_paper")
    params = init(method).params
    assert set(params) == {"actor", "critic", "intrinsic"}
    assert set(params["critic"]) == {"proxy", "extrinsic"}
    assert set(params["intrinsic"]) == {"reward"}
    trunk = make("liir_paper", critic="shared_trunk")
    params = init(trunk).params
    assert set(params["critic"]) == {"proxy", "trunk"}
    assert set(params["intrinsic"]) == {"reward", "extrinsic"}
    assert set(init(trunk).target_critic) == {"proxy", "trunk", "extrinsic"}


@pytest.mark.parametrize("eps", [1e-5, 1e-10])
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_a_small_meta_gradient_moves_by_what_eps_leaves_of_it(optimizer: str, eps: float) -> None:
    method: Any = make("liir_paper", optimizer=optimizer, intrinsic_lr=1.0, intrinsic_eps=eps)
    gradient = jnp.array([1e-7])
    updates, _ = method.intrinsic_optimizer.update(
        gradient, method.intrinsic_optimizer.init(gradient)
    )
    # Adam corrects its bias: 1e-7 / (1e-7 + eps). RMSprop has a tenth of the root: 1e-7 / (1e-8 + eps).
    expected = {"rmsprop": 1e-7 / (1e-8 + eps), "adam": 1e-7 / (1e-7 + eps)}[optimizer]
    np.testing.assert_allclose(updates, -expected, rtol=1e-3)


def test_the_trunk_learns_from_the_proxy_value_alone() -> None:
    method = make("liir_paper", critic="shared_trunk")
    state, batch = init(method), make_batch()
    data = fast_jit(method.prepare)(state, batch, jax.random.key(0))

    def rewards_and_values(critic: Any) -> jax.Array:
        intrinsic = state.params["intrinsic"]
        rewards = method.critic.intrinsic_rewards(critic, intrinsic, data.critic_inputs)
        return (
            rewards.sum()
            + method.critic.extrinsic_value(critic, intrinsic, data.critic_inputs).sum()
        )

    gradient = fast_jit(jax.grad(rewards_and_values))(state.params["critic"])
    assert differing(gradient, jax.tree.map(jnp.zeros_like, gradient)) == []
    value = fast_jit(jax.grad(lambda c: method.critic.proxy_value(c, data.critic_inputs).sum()))
    assert any(jnp.any(x != 0) for x in jax.tree.leaves(value(state.params["critic"])["trunk"]))


@pytest.mark.slow
def test_without_intrinsic_reward_nothing_but_the_networks_of_the_values_is_learned() -> None:
    """lambda = 0: no path from eta to the policy, so eta gets no gradient and the policy ignores it."""
    method = exposed(**CLIPPED, intrinsic_weight=0.0)
    state, batch = init(method), make_batch()
    run = fast_jit(method.update)
    after, _ = run(state, batch, None, jax.random.key(0))
    assert differing(after.params["intrinsic"], state.params["intrinsic"]) == []
    other = state._replace(
        params={
            **state.params,
            "intrinsic": jax.tree.map(lambda x: x + 1.0, state.params["intrinsic"]),
        }
    )
    other_after, _ = run(other, batch, None, jax.random.key(0))
    assert differing(after.params["actor"], other_after.params["actor"]) == []
    assert differing(after.params["critic"], other_after.params["critic"]) == []


@pytest.mark.slow
def test_the_target_of_the_shared_trunk_keeps_an_old_extrinsic_value() -> None:
    method = make("liir_paper", critic="shared_trunk", target_update_interval=8)
    state, batch = init(method), make_batch()
    first = state.target_critic
    state, _ = update(method, state, batch)
    assert differing(state.target_critic, first) == []
    assert differing(state.params["intrinsic"]["extrinsic"], first["extrinsic"]) != []
    state, _ = update(method, state, batch)
    assert differing(state.target_critic["extrinsic"], state.params["intrinsic"]["extrinsic"]) == []

    # And the targets come from the copy.
    @fast_jit
    def values(state: Any) -> Any:
        return method.train_critics(method.prepare(state, batch, jax.random.key(0)))[1]

    changed = jax.tree.map(lambda x: x + 1.0, state.target_critic["extrinsic"])
    target = {**state.target_critic, "extrinsic": changed}
    before, after = values(state), values(state._replace(target_critic=target))
    assert differing(before.extrinsic_target, after.extrinsic_target) != []
    assert differing(before.extrinsic, after.extrinsic) == []


@pytest.mark.parametrize(
    "critic", ["shared_trunk", pytest.param("separate", marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_the_meta_gradients_norm_and_the_ratio_of_spreads_stand_alone(critic: str) -> None:
    method = make("liir_paper", critic=critic, intrinsic_weight=0.5, advantage="one_step")
    state, batch = init(method), make_batch()
    _, metrics = update(method, state, batch)

    @fast_jit
    def parts() -> Any:
        data = method.prepare(state, batch, jax.random.key(0))
        _, values = method.train_critics(data)
        intrinsic = state.params["intrinsic"]
        step = method.policy_step(data, values, intrinsic)
        _, direction = method.outer_gradient(data, values, step)
        meta = method.meta_gradient(data, values, step, direction)
        return data.mask, values.proxy, method._taken_reward(data, intrinsic), meta

    mask, value, r_in, meta = parts()
    counted = np.asarray(mask) > 0
    advantage = batch.reward + 0.5 * r_in + 0.99 * batch.discount * value[1:] - value[:-1]
    ratio = np.std(0.5 * r_in[counted]) / np.std(advantage[counted])
    np.testing.assert_allclose(metrics["intrinsic_ratio"], ratio, rtol=1e-3)
    np.testing.assert_allclose(metrics["meta_grad_norm"], optax.tree.norm(meta), rtol=1e-3)
    # In the shared trunk the intrinsic optimiser learns V_ex too.
    alone = np.isclose(metrics["meta_grad_norm"], metrics["intrinsic_grad_norm"], rtol=1e-3)
    assert alone == (critic == "separate")


def test_intrinsic_rewards_are_bounded_and_those_of_the_actions_taken() -> None:
    method = make("liir_paper", intrinsic_bound=0.25)
    state, batch = init(method), make_batch()
    big = jax.tree.map(lambda x: 30.0 * x, state.params["intrinsic"])
    state = state._replace(params={**state.params, "intrinsic": big})
    data = fast_jit(method.prepare)(state, batch, jax.random.key(0))
    table = method.intrinsic_reward_table(state, batch)
    assert table.shape == (4, 3, 2, 3)
    assert 0.2 < jnp.max(jnp.abs(table)) <= 0.25
    taken = np.take_along_axis(np.asarray(table), np.asarray(batch.action)[..., None], -1)[..., 0]
    np.testing.assert_allclose(method._taken_reward(data, big), taken, rtol=1e-6)
    np.testing.assert_allclose(
        method._proxy_reward(data, big), batch.reward + 0.01 * taken, rtol=1e-6
    )
