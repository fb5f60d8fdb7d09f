"""IPPO, MAPPO and HAPPO: what each is, and HAPPO's agents followed by hand, one after the other."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from envs.configuration import ConfigurationError
from marl_jax.distributions import masked_categorical
from marl_jax.methods.base import Sizes
from marl_jax.methods.ppo import Acted, Learner, Lessons, Rates
from tests.methods.learners import differing, fast_jit
from tests.methods.ppo_learners import KEY, drawn_state, episodes, make, update
from tests.probes import ACTIONS, AGENTS, FEATURES, LIMIT

RATES = Rates(jnp.asarray(0.05), jnp.asarray(0.02))


def close(x: Any, y: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), x, y)


def test_critics_are_the_agents_own_or_central() -> None:
    assert make("ippo").critic_input_size == FEATURES + ACTIONS + AGENTS
    assert make("mappo").critic_input_size == AGENTS * FEATURES + 1 + FEATURES + ACTIONS + AGENTS
    assert make("mappo", critic_input="joint").critic_input_size == 2 * AGENTS * FEATURES + 1
    # IPPO's values have parameters for each agent where its policies do; a central critic is everyone's.
    assert make("ippo", sharing="independent").critic.independent
    assert not make("happo").critic.independent


def test_happos_agents_are_separate() -> None:
    state = jax.eval_shape(make("happo").init, KEY)
    assert all(x.shape[0] == AGENTS for x in jax.tree.leaves(state.params["actor"]))
    assert all(x.shape[0] == AGENTS for x in jax.tree.leaves(state.optimizer["actor"]))
    with pytest.raises(
        ConfigurationError, match="sharing is 'shared'; it must be one of: independent"
    ):
        make("happo", sharing="shared")
    with pytest.raises(
        ConfigurationError, match="normalise_advantage is 'minibatch'; it must be one of"
    ):
        make("happo", normalise_advantage="minibatch")


def prepared(method: Any, state: Any, batch: Any) -> Lessons:
    """What `update` learns from."""
    experience = method.experience(state, batch)
    returns = method.returns(experience, batch.reward[..., None])
    norm = state.value_norm.update(returns, experience.played, method.config.value_norm_decay)
    given: Lessons = method._lessons(experience, returns, state.value_norm, norm, experience.played)
    return given


def one_after_the_other(method: Any, state: Any, given: Lessons, order: jax.Array) -> Any:
    """HAPPO as its authors write it: parameters of all agents after two full-batch steps of each."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(method.config.max_grad_norm),
        optax.scale_by_adam(eps=1e-5, eps_root=1e-20),
    )
    actors, product = state.params["actor"], jnp.ones(given.action.shape[:2])
    for agent in order:
        x, legal, action, old, advantage, mask = (
            y[:, :, agent]
            for y in (
                given.inputs,
                given.action_mask,
                given.action,
                given.log_prob,
                given.advantage,
                given.mask,
            )
        )
        params = jax.tree.map(lambda p, agent=agent: p[agent], actors)
        moments = optimizer.init(params)

        def policy(params: Any, x: Any = x, legal: Any = legal) -> Any:
            return masked_categorical(method.agent.network.apply(params, x[..., :0], x)[1], legal)

        def loss(
            params: Any,
            action: Any = action,
            old: Any = old,
            advantage: Any = advantage,
            mask: Any = mask,
            product: Any = product,
            policy: Any = policy,
        ) -> Any:
            pi = policy(params)
            ratio = jnp.exp(pi.log_prob(action) - old)
            least = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
            terms = product * least + 0.02 * pi.entropy()
            return -jnp.sum(terms * mask) / jnp.sum(mask)

        for _ in range(2):
            updates, moments = optimizer.update(jax.grad(loss)(params), moments)
            params = jax.tree.map(lambda p, u: p - 0.05 * u, params, updates)
        ratio = jnp.exp(policy(params).log_prob(action) - old)
        product = product * jnp.where(mask > 0, ratio, 1.0)
        actors = jax.tree.map(lambda p, new, agent=agent: p.at[agent].set(new), actors, params)
    return actors, product


def test_happos_agents_learn_one_after_the_other_for_the_team_as_it_has_become() -> None:
    """Both orders; the second agent's loss is weighted with what the first has become."""
    fixed, drawn = (make("happo", epochs=2, fixed_order=x) for x in (True, False))
    state, batch = drawn_state(fixed), episodes()

    @fast_jit
    def all_of_it(state: Any, order: jax.Array, key: jax.Array) -> Any:
        given = prepared(fixed, state, batch)
        learner = Learner(state.params, state.optimizer)
        after, metrics = fixed.learn(learner, given, RATES, key)
        other, _ = drawn.learn(learner, given, RATES, key)
        hand = one_after_the_other(fixed, state, given, jnp.arange(2))
        return after, metrics, other, hand, one_after_the_other(fixed, state, given, order)

    keys = [jax.random.key(i) for i in range(8)]
    orders = [jax.random.permutation(jax.random.split(key, 3)[0], 2) for key in keys]
    key, order = next((k, o) for k, o in zip(keys, orders, strict=True) if o[0] == 1)
    after, metrics, other, (hand, product), (swapped, _) = all_of_it(state, order, key)
    close(after.params["actor"], hand)
    close(other.params["actor"], swapped)
    # It matters who is first: whoever is follows advantages without weight.
    assert differing(hand, swapped)
    assert abs(np.asarray(product) - 1.0).max() > 0.01
    # The metric is the mean over the agents of what each leaves behind.
    assert np.isfinite(metrics["ratio_product"])


def test_happos_critic_learns_what_mappos_does_after_all_agents() -> None:
    """The agents' learning does not touch it, nor it theirs: their advantages are from before."""
    happo = make("happo", epochs=3)
    mappo = make("mappo", sharing="independent", normalise_advantage="agent", epochs=3)
    state, batch = drawn_state(happo), episodes()
    after, metrics = update(happo, state, batch)
    plain, plain_metrics = update(mappo, state, batch)
    close(after.params["critic"], plain.params["critic"])
    np.testing.assert_allclose(metrics["value_loss"], plain_metrics["value_loss"], rtol=1e-4)
    assert set(plain_metrics) <= set(metrics)


def test_an_agent_of_happo_that_is_dead_all_along_stays_as_it_is() -> None:
    """Even if its optimiser has a momentum."""
    method, batch = make("happo", epochs=3), episodes()
    state = drawn_state(method)
    state = state._replace(optimizer=jax.tree.map(jnp.ones_like, state.optimizer))
    dead = batch._replace(alive=batch.alive.at[..., 1].set(False))
    after, _ = update(method, state, dead)
    living, dead_one = (
        [jax.tree.map(lambda x, i=agent: x[i], s.params["actor"]) for s in (state, after)]
        for agent in (0, 1)
    )
    assert differing(*living)
    assert not differing(*dead_one)


@pytest.mark.slow
def test_happo_of_one_agent_is_mappo() -> None:
    sizes = Sizes(1, ACTIONS, FEATURES, AGENTS * FEATURES, LIMIT)
    batch = episodes()
    one = batch._replace(
        observation=batch.observation[:, :, :1],
        action_mask=batch.action_mask[:, :, :1],
        alive=batch.alive[:, :, :1],
        action=batch.action[..., :1],
        reward=batch.reward[..., :1],
        discount=batch.discount[..., :1],
        extras=Acted(batch.extras.log_prob[..., :1]),
    )
    happo = make("happo", sizes, epochs=3)
    mappo = make("mappo", sizes, sharing="independent", epochs=3)
    state = drawn_state(happo)
    after, plain = (update(method, state, one)[0] for method in (happo, mappo))
    assert differing(state.params, after.params)
    close(after.params, plain.params)
