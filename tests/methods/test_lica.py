"""LICA: critic and gradient worked out a second time, and worlds that it must solve."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.actor_critic import append_final_action
from tests.methods.learners import SIZES, fast_jit, init, make, make_batch, train, update
from tests.methods.test_probes import SOLVER, greedy_return
from tests.probes import ACTIONS, AGENTS, Context, Delayed, Masked, Probe, Roles

KEY = jax.random.key(0)
PROBE: dict[str, Any] = {
    **{name: value for name, value in SOLVER.items() if not name.startswith("epsilon")},
    "mixer_size": 16,
    "critic_hidden": (16,),
}


def lica(**options: Any) -> Any:
    return make("lica", mixer_size=3, mask_before_softmax=True, **options)


def test_the_critic_by_hand() -> None:
    """Two agents of three actions, weights that are the same for every state but for its sum."""
    critic = lica()._critic
    state = jnp.array([1.0, -0.5, *np.zeros(AGENTS * 5 - 2)])[: SIZES.global_state]
    actions = jnp.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    params = fast_jit(critic.init)(KEY, actions, state)["params"]

    def layer(p: Any, x: Any) -> np.ndarray:
        return x @ np.asarray(p["Dense_0"]["kernel"]) + np.asarray(p["Dense_0"]["bias"])

    def net(p: Any, x: Any) -> np.ndarray:
        first, *rest = [p[name] for name in sorted(p)]
        y = layer(first, x)
        for linear in rest:
            y = layer(linear, np.maximum(y, 0))
        return y

    s = np.asarray(state)
    kernel1 = net(params["kernel1"], s).reshape(AGENTS * ACTIONS, 3)
    hidden = np.maximum(np.asarray(actions).reshape(-1) @ kernel1 + layer(params["bias1"], s), 0)
    expected = hidden @ net(params["kernel2"], s) + net(params["value"], s)[0]
    found = fast_jit(critic.apply)({"params": params}, actions, state)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_critics_target_is_that_of_the_actions_taken() -> None:
    method, batch = lica(td_lambda=0.6, gamma=0.9), make_batch()
    state = init(method)
    state = state._replace(target_critic=jax.tree.map(lambda x: 1.1 * x, state.params["critic"]))
    probs = jnp.full((*batch.action_mask.shape,), 1 / ACTIONS)
    loss, _ = fast_jit(method._critic_loss)(state.params["critic"], state, batch, probs, KEY)
    taken = jax.nn.one_hot(append_final_action(batch, probs, KEY), ACTIONS)
    value_of = fast_jit(method._value)
    ahead, value = (
        np.asarray(value_of(params, taken, batch.global_state))
        for params in (state.target_critic, state.params["critic"])
    )
    errors = []
    for b, length in enumerate((4, 2, 3)):
        target = ahead[length, b]
        for t in reversed(range(length)):
            d = 0.9 * float(batch.discount[t, b, 0])
            target = float(batch.reward[t, b, 0]) + d * (0.4 * ahead[t + 1, b] + 0.6 * target)
            errors.append((value[t, b] - target) ** 2)
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-4)


def test_all_agents_climb_at_once() -> None:
    """The slope of the mean value in all probabilities, and of log H, by differences in the logits."""
    method, batch = lica(entropy_weight=0.5, entropy_weight_final=0.5), make_batch()
    state = init(method)
    logits = jax.random.normal(KEY, batch.action_mask.shape)
    critic, value_of = state.params["critic"], fast_jit(method._value)

    def parts(logits: jax.Array) -> tuple[float, float]:
        """Mean value and mean entropy over the steps that count."""
        masked = np.where(batch.action_mask, np.asarray(logits, np.float64), -np.inf)
        probs = np.exp(masked) / np.exp(masked).sum(-1, keepdims=True)
        values = value_of(critic, jnp.asarray(probs, jnp.float32), batch.global_state)[:-1]
        entropies = -(probs * np.log(np.maximum(probs, 1e-30))).sum(-1)[:-1]
        return float(values[batch.valid].mean()), float(entropies[np.asarray(batch.valid)].mean())

    value, entropy = parts(logits)
    loss, grad = fast_jit(jax.value_and_grad(method._team_loss))(logits, critic, state, batch)
    np.testing.assert_allclose(loss, -value - 0.5, rtol=1e-4)
    way = jax.random.normal(jax.random.key(1), logits.shape)
    step = 0.02
    up, down = parts(logits + step * way), parts(logits - step * way)
    slope = (down[0] - up[0] - 0.5 * (up[1] - down[1]) / entropy) / (2 * step)
    np.testing.assert_allclose(jnp.sum(grad * way), slope, rtol=0.02)


@pytest.mark.slow
def test_the_critic_learns_first_and_the_target_is_copied_by_iterations() -> None:
    method, batch = lica(target_update_interval=2, optimizer="sgd", actor_lr=0.1), make_batch()
    state = init(method)
    before = jax.tree.map(np.asarray, state.target_critic)
    once, metrics = update(method, state, batch)
    jax.tree.map(np.testing.assert_array_equal, once.target_critic, before)
    twice, _ = update(method, once, batch)
    jax.tree.map(np.testing.assert_array_equal, twice.target_critic, twice.params["critic"])
    assert int(twice.env_steps) == 18
    assert float(metrics["entropy_weight"]) == pytest.approx(0.06)
    # The agents climb the critic as it is after its step.
    inputs = method.agent_inputs(batch.observation, batch.last_action)

    def loss(actor: Any, critic: Any) -> jax.Array:
        return method._team_loss(method.agent.unroll(actor, inputs)[1], critic, state, batch)

    slope = fast_jit(jax.grad(loss))
    gaps = []
    for critic in (state.params["critic"], once.params["critic"]):
        moved = jax.tree.map(
            lambda p, g: p - 0.1 * g, state.params["actor"], slope(state.params["actor"], critic)
        )
        pairs = zip(jax.tree.leaves(moved), jax.tree.leaves(once.params["actor"]), strict=True)
        gaps.append(max(float(jnp.abs(x - y).max()) for x, y in pairs))
    assert gaps[1] < 1e-6 < gaps[0]


@pytest.mark.parametrize(
    "env", [Roles, *(pytest.param(e, marks=pytest.mark.slow) for e in (Context, Delayed, Masked))]
)
@pytest.mark.slow
def test_it_solves(env: type[Probe]) -> None:
    """Roles: agents that differ. Context: sight. Delayed: credit over time. Masked: actions that are no choice."""
    method, world = make("lica", **{**PROBE, "mask_before_softmax": True}), env()
    assert (greedy_return(world, method, train(world, method, 100)) > 0.95).all()


def test_its_exploration_is_the_policys_own() -> None:
    config: Any = methods.recipe("lica").Config()
    assert config.epsilon_start == config.epsilon_finish == 0.0
    assert config.critic_hidden == (64,)
    with pytest.raises(ConfigurationError, match="normalise_advantage is True; it must be one of"):
        lica(normalise_advantage=True)
