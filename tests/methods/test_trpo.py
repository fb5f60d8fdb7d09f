"""TRPO and HATRPO: a step as another library takes it, agents one after the other by hand, and probes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.losses import masked_mean
from marl_jax.methods.base import Sizes
from marl_jax.methods.ppo import Learner, Lessons
from marl_jax.methods.trpo import natural_step
from marl_jax.trust_region import trust_region_step
from tests.methods.learners import differing, fast_jit, train
from tests.methods.ppo_learners import KEY, drawn_state, episodes, greedy_returns, make, update
from tests.methods.test_mappo import RATES, prepared
from tests.methods.test_ppo_probes import SOLVER
from tests.probes import AGENTS, Aim, Context, Probe, Roles

PLAIN = RATES._replace(entropy_weight=jnp.zeros(()))

# --- One step, as sb3-contrib takes it ---

STEPS, FEATURES, HIDDEN, OUTPUTS = 12, 3, 4, 3
SB3 = {
    # What sb3-contrib 2.9.2 makes of `reference`: TRPO("MlpPolicy", ...) with net_arch {"pi": [4], "vf": [4]},
    # target_kl 0.01, cg_max_steps 10, cg_damping 0.1 and normalize_advantage False. Its parameters, and what its buffer
    # holds, are `wave`'s numbers; then `train()` is called once.
    False: {
        "gain": 0.303556,
        "kernel": [
            [0.26248, -1.07321, 0.06847],
            [0.89255, -0.32632, -0.83828],
            [0.45562, 0.79756, -0.71657],
            [-0.4295, 0.86444, 0.24275],
        ],
        "bias": [-0.69827, -0.58826, 0.87775],
    },
    True: {
        "gain": 2.277964,
        "kernel": [
            [0.17658, -0.98579, 0.08392],
            [0.93871, -0.40224, -0.84624],
            [0.5404, 0.71101, -0.74212],
            [-0.50457, 0.94105, 0.26064],
        ],
        "bias": [-0.7411, -0.54157, 0.87185],
        "log_deviation": [-0.17574, 0.15238, 0.30904],
    },
}
"""By whether actions are continuous."""


def wave(start: float, *shape: int) -> jax.Array:
    return jnp.sin(start + 1.7 * jnp.arange(np.prod(shape))).reshape(shape)


def reference(method: Any) -> tuple[Any, Lessons]:
    """Parameters of one agent, and what it learns from."""
    hidden = {"kernel": wave(1.0, FEATURES, HIDDEN), "bias": wave(2.0, HIDDEN)}
    head = {"kernel": wave(3.0, HIDDEN, OUTPUTS), "bias": wave(4.0, OUTPUTS)}
    layers = {"body": {"Linear_0": {"Dense_0": hidden}}, "head": {"Dense_0": head}}
    params = {"params": layers}
    action = jnp.arange(STEPS) * 5 // 3 % OUTPUTS
    if method.sizes.continuous:
        params["log_deviation"] = 0.3 * wave(5.0, OUTPUTS)
        action = 2.0 * wave(7.0, STEPS, OUTPUTS)
    ones = jnp.ones((STEPS, 1, 1))
    given = Lessons(
        **dict.fromkeys(set(Lessons._fields) - {"noise", "rows"}, ones),
        noise=(),
    )._replace(
        inputs=wave(6.0, STEPS, 1, 1, FEATURES),
        action_mask=jnp.ones((STEPS, 1, 1, OUTPUTS), bool),
        action=action[:, None, None],
        # What it is multiplied with is half, so that the weight counts.
        advantage=wave(8.0, STEPS, 1, 1) / 2.0,
        weight=2.0 * ones,
    )
    policy = method.policy(method.logits(params, given.inputs, ())[1], given.action_mask)
    return params, given._replace(log_prob=policy.log_prob(given.action))


@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
def test_a_step_is_sb3_contribs(continuous: bool) -> None:
    sizes = Sizes(1, OUTPUTS, FEATURES, FEATURES, STEPS, continuous)
    inputs = {"observe_last_action": False, "observe_identity": False}
    options = {"hidden_layers": 1, "activation": "tanh", "accept_ratio": 0.0, **inputs}
    if continuous:
        # Its divergence is the mean over an action's numbers, here it is their sum.
        options |= {"max_kl": 0.01 * OUTPUTS, "damping": 0.1 * OUTPUTS}
    method, expected = make("trpo", sizes, **options), SB3[continuous]

    def outputs(actor: Any, lessons: Lessons) -> jax.Array:
        return method.logits(actor, lessons.inputs, ())[1]

    after, metrics = fast_jit(
        lambda: natural_step(method, outputs, *reference(method), PLAIN),
    )()
    head = after["params"]["head"]["Dense_0"]
    np.testing.assert_allclose(head["kernel"], expected["kernel"], atol=3e-4)
    np.testing.assert_allclose(head["bias"], expected["bias"], atol=3e-4)
    if continuous:
        np.testing.assert_allclose(after["log_deviation"], expected["log_deviation"], atol=3e-4)
    np.testing.assert_allclose(metrics["actor_loss"], -expected["gain"], rtol=1e-3)


# --- Agents and critics ---


@pytest.mark.slow
def test_hatrpos_agents_learn_one_after_the_other_for_the_team_as_it_has_become() -> None:
    method = make("hatrpo", fixed_order=True)
    state, batch = drawn_state(method), episodes()

    @fast_jit
    def both(state: Any) -> Any:
        given = prepared(method, state, batch)
        after, _ = method.learn(Learner(state.params, state.optimizer), given, RATES, KEY)
        return after.params["actor"], by_hand(method, state.params["actor"], given)

    after, (hand, product) = both(state)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), after, hand)
    assert differing(after, state.params["actor"])
    assert abs(np.asarray(product) - 1.0).max() > 0.01


def by_hand(method: Any, actors: Any, given: Lessons) -> Any:
    """HATRPO as its authors write it: agent 0's step, then agent 1's with agent 0's ratios."""
    product = jnp.ones(given.action.shape[:2])
    for agent in range(AGENTS):
        lessons = jax.tree.map(lambda x, i=agent: x[:, :, i], given._replace(critic_inputs=()))
        params = jax.tree.map(lambda p, i=agent: p[i], actors)

        def policy(params: Any, lessons: Any = lessons) -> Any:
            x = lessons.inputs
            outputs = method.agent.network.apply(params, x[..., :0], x)[1]
            return method.policy(outputs, lessons.action_mask)

        def gain(
            params: Any, policy: Any = policy, lessons: Any = lessons, m: Any = product
        ) -> Any:
            pi = policy(params)
            ratio = jnp.exp(pi.log_prob(lessons.action) - lessons.log_prob)
            surrogate = masked_mean(ratio * m * lessons.advantage, lessons.mask)
            return surrogate + 0.02 * masked_mean(pi.entropy(), lessons.mask)

        def divergence(
            new: Any, old: Any = params, policy: Any = policy, lessons: Any = lessons
        ) -> Any:
            return masked_mean(policy(old).kl_divergence(policy(new)), lessons.mask)

        new = trust_region_step(gain, divergence, params, method.config).params
        ratio = jnp.exp(policy(new).log_prob(lessons.action) - lessons.log_prob)
        product = product * jnp.where(lessons.mask > 0, ratio, 1.0)
        actors = jax.tree.map(lambda p, x, i=agent: p.at[i].set(x), actors, new)
    return actors, product


@pytest.mark.slow
@pytest.mark.parametrize(("name", "like"), [("trpo", "ippo"), ("hatrpo", "happo")])
def test_critics_learn_as_ppos_do(name: str, like: str) -> None:
    """And what they learn does not depend on the policies' step."""
    method, plain = make(name, epochs=3), make(like, epochs=3)
    state, batch = drawn_state(method), episodes()
    (after, metrics), (other, valued) = (update(m, state, batch) for m in (method, plain))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5),
        after.params["critic"],
        other.params["critic"],
    )
    np.testing.assert_allclose(metrics["value_loss"], valued["value_loss"], rtol=1e-4)
    assert 0.0 < metrics["kl"] <= method.config.max_kl
    assert 0.0 < metrics["step_share"] <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trpo", "hatrpo"])
def test_who_has_no_choice_all_along_stays_as_it_is(name: str) -> None:
    method, batch = make(name), episodes()
    state = drawn_state(method)
    dead = batch._replace(alive=jnp.zeros_like(batch.alive))
    after, metrics = update(method, state, dead)
    assert not differing(state.params["actor"], after.params["actor"])
    assert metrics["step_share"] == 0.0


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must be one of: batch, agent"):
        make("trpo", normalise_advantage="minibatch")
    with pytest.raises(ConfigurationError, match=r"max_kl is 0\.0; it must be above 0"):
        make("hatrpo", max_kl=0.0)
    for name in ("trpo", "hatrpo"):
        with pytest.raises(ConfigurationError, match=f"liir cannot stand on {name}: its gradient"):
            methods.recipe(f"liir@{name}")


# --- Probes ---


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trpo", "hatrpo"])
@pytest.mark.parametrize("world", [Context, Roles, Aim])
def test_it_solves(name: str, world: type[Probe]) -> None:
    """Context: sight. Roles: agents that differ. Aim: continuous actions; standing still gets -0.36 there."""
    rates = {"entropy_weight": 0.0, "entropy_weight_final": 0.0, "max_kl": 0.03}
    method = make(name, Sizes.of(world()), **{**SOLVER, **rates})
    returns = greedy_returns(world(), method, train(world(), method, 100))
    assert (returns > (-0.1 if world is Aim else 0.95)).all()
