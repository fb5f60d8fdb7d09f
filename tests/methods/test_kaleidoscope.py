"""Kaleidoscope: the masks, their diversity and its gradient, the resets, and whom the agents' networks tell apart."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.kaleidoscope import (
    HISTORY,
    MaskState,
    diversity,
    mask_distance,
    masked_weights,
)
from tests.methods.learners import (
    SIZES,
    differing,
    drawn_state,
    fast_jit,
    greedy_returns,
    make_batch,
)
from tests.methods.ppo_learners import KEY, episodes, update
from tests.methods.ppo_learners import drawn_state as drawn_ppo_state
from tests.methods.ppo_learners import make as make_ppo
from tests.probes import AGENTS, LIMIT, Roles

SMALL: dict[str, Any] = {
    "hidden_size": 5,
    "head_sizes": (4,),
    "batch_size": 3,
    "replay_capacity": 3 * LIMIT,
    "num_envs": 1,
    "update_interval": LIMIT,
    "mixer_embed": 4,
    "hypernet_size": 5,
}


def make(**options: Any) -> Any:
    recipe: Any = methods.recipe("kaleidoscope")
    return recipe(recipe.Config.from_mapping({**SMALL, **options}, "kaleidoscope"), SIZES)


@functools.cache
def drawn() -> Any:
    """Parameters of the small learner's agents."""
    return fast_jit(make().agents.init)(KEY)


def with_thresholds(change: Any) -> Any:
    """The same, but for the thresholds."""
    params = drawn()
    return {**params, "thresholds": jax.tree.map(change, params["thresholds"])}


def logit(p: Any) -> jax.Array:
    p = jnp.asarray(p)
    return jnp.log(p / (1.0 - p))


# Two weights, and what two agents take from their sizes.
WEIGHTS = jnp.array([[0.5, -0.2]])
THRESHOLDS = logit([[[0.1, 0.1]], [[0.2, 0.3]]])


def test_a_mask_takes_from_a_weights_size() -> None:
    own = masked_weights(WEIGHTS, THRESHOLDS)
    np.testing.assert_allclose(own, [[[0.4, -0.1]], [[0.3, 0.0]]], rtol=1e-5)


def test_what_is_masked_learns_nothing_from_a_loss() -> None:
    slope = jax.grad(lambda w: masked_weights(w, THRESHOLDS)[1].sum())(WEIGHTS)
    np.testing.assert_array_equal(slope, [[1.0, 0.0]])


def test_the_distance_of_masks_and_its_slope() -> None:
    """Only the second weight tells the two agents apart, by 0.2 in each order of the pair."""
    distance, slopes = jax.value_and_grad(mask_distance, argnums=(0, 1))(WEIGHTS, THRESHOLDS)
    np.testing.assert_allclose(distance, 2 * 0.2, rtol=1e-6)
    assert not np.any(slopes[0])
    # 2 |W| (M_0 - M_1), where M has the slope -sigmoid': a lower threshold of agent 0, a higher one of agent 1.
    expected = [[[0.0, -0.4 * 0.1 * 0.9]], [[0.0, 0.4 * 0.3 * 0.7]]]
    np.testing.assert_allclose(slopes[1], expected, rtol=1e-5)


def test_the_distance_is_that_of_all_pairs() -> None:
    """Four agents, against the sum over pairs as it is written, and its slope."""
    rng = np.random.default_rng(0)
    weights, thresholds = (
        jnp.asarray(rng.normal(size=(3, 5))),
        jnp.asarray(rng.normal(size=(4, 3, 5))),
    )

    def pairwise(thresholds: jax.Array) -> jax.Array:
        margin = jnp.abs(weights) - jax.nn.sigmoid(thresholds)
        m = (margin > 0) + (margin - jax.lax.stop_gradient(margin))
        return jnp.sum(jnp.abs((m[:, None] - m[None]) * jnp.abs(weights)))

    expected, slope = jax.value_and_grad(pairwise)(thresholds)
    found, its = jax.value_and_grad(mask_distance, argnums=1)(weights, thresholds)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(its, slope, rtol=1e-4, atol=1e-6)


def test_later_layers_count_more() -> None:
    """The same layer twice: (1 + 2) 0.4 over the two ordered pairs and the four weights."""
    both = diversity([(WEIGHTS, THRESHOLDS)] * 2)
    np.testing.assert_allclose(both, 3 * 0.4 / 2 / 4, rtol=1e-5)


def test_masks_start_open_and_are_on_all_layers_but_the_memory() -> None:
    layers = make().agents.layers(drawn())
    names = [path[1:3] for path in layers]
    assert names == [("embed", "Dense_0"), ("head", "Linear_0"), ("head", "Linear_1")]
    for weights, thresholds in layers.values():
        assert thresholds.shape == (AGENTS, *weights.shape)
        assert np.min(thresholds) >= -10.0
        assert np.max(thresholds) <= -5.0
        assert np.std(thresholds) > 1.0


def test_every_agent_is_the_network_with_its_own_weights() -> None:
    """With one sight for all, who have the memory's weights and the biases in common."""
    method = make()
    agents = method.agents
    # So that masks tell.
    params = with_thresholds(lambda s: s + 5.0)
    one = jax.random.normal(KEY, (3, 1, 1, method.agent_input_size))
    inputs = jnp.broadcast_to(one, (3, 1, AGENTS, method.agent_input_size))

    @fast_jit
    def alone(agent: jax.Array) -> jax.Array:
        """The plain network with this agent's weights."""
        own = {path: masked_weights(*x)[agent] for path, x in agents.layers(params).items()}
        weights = unflatten_dict({**flatten_dict(params["weights"]), **own})
        return agents.team.unroll(weights, inputs)[1][:, :, agent]

    @fast_jit
    def together() -> Any:
        memory, steps = method.initial_memory(None, 1, KEY).hidden, []
        for x in inputs:
            memory, now = agents.step(params, memory, x, (), KEY, False)
            steps.append(now)
        return agents.unroll(params, inputs, (), KEY)[1], jnp.stack(steps)

    q, one_by_one = together()
    np.testing.assert_allclose(one_by_one, q, rtol=1e-4, atol=1e-6)
    for agent in range(AGENTS):
        expected = alone(jnp.int32(agent))
        np.testing.assert_allclose(q[:, :, agent], expected, rtol=1e-4, atol=1e-6)
    assert np.abs(q[:, :, 0] - q[:, :, 1]).max() > 1e-2


def test_a_reset_draws_what_all_agents_mask() -> None:
    """Agent 0 masks everything, agent 1 all but the first row of a layer; the first layer stays."""
    agents = make().agents
    params = with_thresholds(lambda s: jnp.full_like(s, 9.0).at[1, 0].set(-20.0))
    reset = fast_jit(agents.reset)
    before, after = agents.layers(params), agents.layers(reset(params, 1.0, KEY))
    first, *others = before
    assert not differing(after[first], before[first])
    for path in others:
        (weights, thresholds), (old, masked) = after[path], before[path]
        np.testing.assert_array_equal(weights[0], old[0])
        np.testing.assert_array_equal(thresholds[:, 0], masked[:, 0])
        assert np.all(np.asarray(weights[1:]) != old[1:])
        assert np.max(thresholds[:, 1:]) <= -5.0
        assert np.min(thresholds[:, 1:]) >= -10.0
    assert not differing(reset(params, 0.0, KEY), params)


def test_resets_come_at_their_interval_and_end() -> None:
    part = make(reset_interval=100, reset_until=250, reset_ratio=1.0).parts[0]
    params = {"agent": with_thresholds(lambda s: jnp.full_like(s, 9.0))}
    metrics = {"td_loss": jnp.asarray(2.0), "diversity": jnp.asarray(0.5)}
    settle = fast_jit(lambda own, steps: part.settle(own, params, metrics, steps, KEY))
    own = part.start(KEY)
    for steps, reset_at in ((99, 0), (120, 120), (219, 120), (230, 230), (330, 230)):
        due = int(own.reset_at) != reset_at
        own, after = settle(own, jnp.int32(steps))
        assert int(own.reset_at) == reset_at
        assert bool(differing(after, params)) == due
    assert int(own.steps) == 5


def test_the_diversitys_weight_follows_the_loss_of_the_values() -> None:
    """The mean of 2 and 4 over that of 0.5; once there are as many as it keeps, the oldest makes room."""
    part = make(diversity_weight=3.0).parts[0]
    params = {"agent": drawn()}

    @fast_jit
    def settle(own: MaskState, x: jax.Array) -> MaskState:
        metrics = {"td_loss": x, "diversity": jnp.asarray(0.5)}
        return part.settle(own, params, metrics, jnp.int32(0), KEY)[0]

    own = part.start(KEY)
    assert float(part.weight(own)) == 3.0
    for x in (2.0, 4.0):
        own = settle(own, jnp.asarray(x))
    np.testing.assert_allclose(part.weight(own), 3.0 * 3.0 / 0.5, rtol=1e-6)
    full = MaskState(jnp.ones(HISTORY), jnp.ones(HISTORY), jnp.int32(HISTORY), own.reset_at)
    np.testing.assert_allclose(settle(full, jnp.asarray(7.0)).value_losses[:2], [7.0, 1.0])


def test_a_step_of_the_q_learner_pushes_masks_apart() -> None:
    """The loss of the diversity reaches thresholds only; what a step came to is kept."""
    method = make()
    state = drawn_state(method, 0)
    # Weights and thresholds of one size, and a history of losses 1 at diversities 0.1.
    own = MaskState(jnp.ones(HISTORY), jnp.full(HISTORY, 0.1), jnp.int32(3), jnp.int32(0))
    state = state._replace(parts=(own,))
    batch = make_batch()

    @fast_jit
    def learn(state: Any) -> Any:
        def added(params: Any) -> Any:
            values = method.values(params, state.target, batch, KEY)
            steps = method.steps(params, batch, values, KEY)._replace(parts=state.parts)
            learning = type("Learning", (), {"steps": steps})
            return method.parts[0].loss(learning)

        (loss, metrics), slope = jax.value_and_grad(added, has_aux=True)(state.params)
        return loss, metrics, slope, method.gradient_step(state, batch, KEY)

    loss, metrics, slope, (after, logged) = learn(state)
    np.testing.assert_allclose(metrics["diversity_weight"], 0.5 / 0.1, rtol=1e-5)
    np.testing.assert_allclose(loss, -5.0 * metrics["diversity"], rtol=1e-5)
    assert not any(np.any(x) for x in jax.tree.leaves(slope["agent"]["weights"]))
    assert all(np.any(x) for x in jax.tree.leaves(slope["agent"]["thresholds"]))
    kept = after.parts[0]
    np.testing.assert_allclose(kept.value_losses[3], logged["td_loss"])
    np.testing.assert_allclose(kept.diversities[3], logged["diversity"])
    assert 0.0 < float(logged["sparsity"]) < 1.0


def test_on_the_ppo_core_the_critics_loss_counts() -> None:
    method = make_ppo("kaleidoscope@mappo", head_sizes=())
    state = drawn_ppo_state(method)
    after, metrics = update(method, state, episodes())
    own = after.parts[0]
    np.testing.assert_allclose(own.value_losses[0], metrics["value_loss"])
    np.testing.assert_allclose(own.diversities[0], metrics["diversity"])
    assert float(metrics["diversity"]) > 0
    assert differing(after.params["actor"]["thresholds"], state.params["actor"]["thresholds"])
    expected = 0.5 * metrics["value_loss"] / metrics["diversity"]
    np.testing.assert_allclose(method.parts[0].weight(own), expected, rtol=1e-5)


def test_where_agents_share_no_weights_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sharing is 'independent'; it must be 'shared'"):
        make(sharing="independent")
    with pytest.raises(ConfigurationError, match="kaleidoscope cannot stand on happo"):
        methods.recipe("kaleidoscope@happo")


@pytest.mark.slow
def test_agents_with_masks_take_roles() -> None:
    """With resets on the way; they see who they are, as the authors' do."""
    options = {
        **{"hidden_size": 16, "head_sizes": (16,), "num_envs": 8, "update_interval": 8},
        **{"batch_size": 32, "epsilon_anneal_steps": 800, "target_update_interval": 16},
        **{"lr": 5e-3, "reset_interval": 300, "reset_until": 900},
    }
    returns = greedy_returns("kaleidoscope", Roles(), 200, 4, options)
    assert (returns == 1.0).all()
