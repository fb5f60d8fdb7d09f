"""What IAC, Central-V, COMA, LICA and LIIR share: sweep, target, schedule, masks, ends of episodes."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from envs.base import Observation
from envs.configuration import ConfigurationError
from marl_jax.methods.actor_critic import append_final_action, sweep_critic
from marl_jax.optimizers import make_optimizer
from tests.methods.learners import NAMES, differing, fast_jit, init, make, make_batch, update
from tests.probes import ACTIONS, AGENTS, LIMIT

# Options.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"critic_hidden": (8, -4)}, "critic_hidden is -4; it must be at least 1"),
        ({"critic_hidden": (0,)}, "critic_hidden is 0; it must be at least 1"),
        ({"entropy_weight": -0.1}, "entropy_weight is -0.1; it must be at least 0"),
        ({"entropy_weight_final": -1.0}, "entropy_weight_final is -1.0; it must be at least 0"),
        ({"entropy_anneal_steps": 0}, "entropy_anneal_steps is 0; it must be at least 1"),
        ({"target_update_rate": 1.5}, "target_update_rate is 1.5; it must be at least 0 and at"),
    ],
)
def test_options_out_of_range_are_refused(name: str, option: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        make(name, **option)


# The sweep.


def quadratic(params: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    x, target = step
    value = params @ x
    return (value - target) ** 2, value


@pytest.mark.parametrize("optimizer_name", ["sgd", "rmsprop"])
def test_the_sweep_is_a_loop_backwards_in_time_without_the_padding(optimizer_name: str) -> None:
    optimizer = make_optimizer(optimizer_name, 0.1, 0.5)
    key = jax.random.key(0)
    xs, targets = jax.random.normal(key, (5, 3)), jnp.arange(5.0)
    step_mask = jnp.array([1.0, 1.0, 0.0, 1.0, 0.0])
    params = jnp.array([0.5, -0.5, 1.0])
    state = optimizer.init(params)
    sweep = jax.jit(
        lambda p, s: sweep_critic(quadratic, p, optimizer, s, (xs, targets), step_mask)
    )(params, state)

    values, losses, norms = {}, [], []
    for t in (3, 1, 0):
        # d/dw (w x - y)^2 = 2 (w x - y) x
        error = params @ xs[t] - targets[t]
        values[t] = params @ xs[t]
        losses.append(error**2)
        norms.append(jnp.linalg.norm(2 * error * xs[t]))
        updates, state = optimizer.update(2 * error * xs[t], state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(sweep.params, params, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(sweep.optimizer), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    for t, value in values.items():
        np.testing.assert_allclose(sweep.values[t], value, rtol=1e-5)
    np.testing.assert_allclose(sweep.loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(sweep.grad_norm, np.mean(norms), rtol=1e-5)
    assert int(sweep.num_steps) == 3


def test_steps_of_padding_change_neither_critic_nor_optimizer() -> None:
    # Adam would move on its momentum, RMSprop would forget, if a step with gradient 0 were taken.
    optimizer = make_optimizer("adam", 0.1, 0.0)
    params = jnp.array([0.5, -0.5, 1.0])
    _, state = optimizer.update(params, optimizer.init(params), params)
    nothing = (jnp.full((4, 3), jnp.nan), jnp.zeros((4,)))
    sweep = sweep_critic(quadratic, params, optimizer, state, nothing, jnp.zeros((4,)))
    assert differing((sweep.params, sweep.optimizer), (params, state)) == []
    assert int(sweep.num_steps) == 0


# The target critic.


@pytest.mark.parametrize(
    ("lengths", "interval", "copies"),
    [
        # 4 steps a batch: 4, 8, 12 >= 10 -> copy and start again: every ceil(10 / 4) = 3rd batch.
        ((4, 2, 3), 10, [False, False, True, False, False, True]),
        # The longest episode counts: 2 steps a batch, every 5th.
        pytest.param(
            (2, 1, 2), 10, [False, False, False, False, True, False], marks=pytest.mark.slow
        ),
        ((4, 2, 3), 1, [True, True, True]),
    ],
)
def test_the_target_is_copied_every_so_many_batches(
    lengths: tuple[int, ...], interval: int, copies: list[bool]
) -> None:
    method = make("iac", target_update_interval=interval)
    state = init(method)
    batch = make_batch(lengths, (True, True, True))
    assert differing(state.target_critic, state.params["critic"]) == []
    for copied in copies:
        before = state.target_critic
        state, _ = update(method, state, batch)
        assert differing(before, state.params["critic"]) != []
        if copied:
            assert differing(state.target_critic, state.params["critic"]) == []
            assert int(state.critic_steps) == 0
        else:
            assert differing(state.target_critic, before) == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("iac", {}),
        pytest.param("liir_paper", {"critic": "shared_trunk"}, marks=pytest.mark.slow),
    ],
)
def test_the_target_tracks_by_a_rate_after_every_batch(name: str, options: dict[str, Any]) -> None:
    method = make(name, **options, target_update_rate=0.25, target_update_interval=1)
    state = init(method)
    for _ in range(2):
        after, _ = update(method, state, make_batch())
        expected = jax.tree.map(
            lambda new, old: old + 0.25 * (new - old),
            method._target_source(after.params),
            state.target_critic,
        )
        pairs = zip(jax.tree.leaves(after.target_critic), jax.tree.leaves(expected), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
        assert differing(after.target_critic, state.target_critic) != []
        state = after


# Exploration.


def test_the_exploration_floor_falls_linearly_with_the_steps_learned_from() -> None:
    method = make("iac", epsilon_start=0.5, epsilon_finish=0.1, epsilon_anneal_steps=100)
    state = init(method)
    for steps, expected in [(0, 0.5), (25, 0.4), (50, 0.3), (100, 0.1), (1000, 0.1)]:
        epsilon = method.epsilon(state._replace(env_steps=jnp.int32(steps)))
        np.testing.assert_allclose(epsilon, expected, rtol=1e-6)
    # Only valid steps count: 4 + 2 + 3.
    state, metrics = update(method, state, make_batch())
    assert int(state.env_steps) == 9
    np.testing.assert_allclose(metrics["epsilon"], 0.5)
    np.testing.assert_allclose(method.epsilon(state), 0.5 - 0.4 * 0.09, rtol=1e-6)


# Entropy.


def test_the_entropys_weight_changes_linearly_with_the_steps_learned_from() -> None:
    method = make("iac", entropy_weight=0.5, entropy_weight_final=0.1, entropy_anneal_steps=100)
    state = init(method)
    for steps, expected in [(0, 0.5), (25, 0.4), (50, 0.3), (100, 0.1), (1000, 0.1)]:
        weight = method.entropy_weight(state._replace(env_steps=jnp.int32(steps)))
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


def test_the_entropy_is_that_of_the_policy_itself_of_agents_with_a_choice() -> None:
    method = make("coma", entropy_weight=0.25)
    batch = make_batch(lengths=(2,), terminated=(True,), steps=2)
    # [T+1, B, N, A]: agent 0 has two actions of odds 3 : 1, then three even ones; agent 1 has one, then even odds.
    mask = jnp.array([[[[1, 1, 0], [1, 0, 0]]], [[[1, 1, 1], [1, 1, 0]]], [[[1, 1, 1]] * 2]]) > 0
    logits = jnp.zeros((3, 1, 2, 3)).at[0, 0, 0].set(jnp.array([np.log(3.0), 0.0, 9.0]))
    batch = batch._replace(action_mask=mask, action=jnp.zeros((2, 1, 2), jnp.int32))
    # -3/4 log 3/4 - 1/4 log 1/4 = 0.56234; log 3; log 2.
    entropy = (0.56234 + np.log(3.0) + np.log(2.0)) / 3
    state = init(method)
    chooses = method._agent_mask(batch)
    np.testing.assert_allclose(method._entropy(logits[:-1], batch, chooses), entropy, rtol=1e-5)
    loss = method._actor_loss(logits, state, batch, jnp.zeros((2, 1, 2)))
    np.testing.assert_allclose(loss, -0.25 * entropy, rtol=1e-5)


# Masks and ends of episodes.


def test_the_agent_mask_leaves_out_padding_and_agents_without_a_choice() -> None:
    batch = make_batch(lengths=(2,), terminated=(True,), steps=3)
    legal = jnp.array([[1, 3], [2, 1], [3, 3], [3, 3]])  # [T+1, N], how many actions
    mask = (jnp.arange(ACTIONS) < legal[..., None])[:, None]
    result = make("coma")._agent_mask(batch._replace(action_mask=mask))
    np.testing.assert_array_equal(result[:, 0], [[0, 1], [1, 0], [0, 0]])


def test_the_agent_mask_leaves_out_the_dead_from_the_step_at_whose_start_they_are_dead() -> None:
    batch = make_batch(lengths=(3,), terminated=(True,), steps=3)
    # Agent 1 dies in the second step, whose action it has still chosen. The dead may do anything.
    alive = jnp.array([[1, 1], [1, 1], [1, 0], [1, 0]])[:, None] > 0  # [T+1, B, N]
    mask = jnp.ones((4, 1, AGENTS, ACTIONS), bool)
    result = make("coma")._agent_mask(batch._replace(action_mask=mask, alive=alive))
    np.testing.assert_array_equal(result[:, 0], [[1, 1], [1, 1], [1, 0]])


def test_an_agent_without_a_choice_has_no_part_in_the_policy_gradient() -> None:
    method = make("coma", normalise_advantage=True, sharing="independent")
    batch = make_batch()
    mask = batch.action_mask.at[:, :, 1].set(jnp.arange(ACTIONS) == 0)
    action = batch.action.at[:, :, 1].set(0)
    state = init(method)
    after, _ = update(method, state, batch._replace(action_mask=mask, action=action))
    changed = [
        [bool(jnp.any(x[i] != y[i])) for i in range(AGENTS)]
        for x, y in zip(
            jax.tree.leaves(state.params["actor"]),
            jax.tree.leaves(after.params["actor"]),
            strict=True,
        )
    ]
    assert any(row[0] for row in changed)
    assert not any(row[1] for row in changed)


@pytest.mark.parametrize(
    "name",
    [n if n == "coma" else pytest.param(n, marks=pytest.mark.slow) for n in (*NAMES, "lica")],
)
def test_what_padding_holds_changes_nothing(name: str) -> None:
    method = make(name, agent="gru", target_update_interval=1)
    state = init(method)
    batch = make_batch()
    padding = ~batch.valid
    # After a termination not even the terminal observation is used.
    unused = jnp.concatenate([jnp.zeros_like(padding[:1]), padding])
    unused |= jnp.concatenate([jnp.zeros_like(padding[:1]), batch.discount[..., 0] == 0])

    def garbage(x: jax.Array, where: jax.Array, value: float | bool) -> jax.Array:
        where = where.reshape(*where.shape, *[1] * (x.ndim - where.ndim))
        return jnp.where(where, jnp.asarray(value, x.dtype), x)

    # No available action in one environment, and one that is not the action in another.
    mask = garbage(batch.action_mask, unused, False)
    mask = mask.at[:, 1, :, 0].set(batch.action_mask[:, 1, :, 0])
    other = batch._replace(
        observation=garbage(batch.observation, unused, 1e3),
        global_state=garbage(batch.global_state, unused, -1e3),
        action_mask=mask,
        alive=garbage(batch.alive, unused, False),
        action=garbage(batch.action, padding, 2),
        reward=garbage(batch.reward, padding, 1e6),
        discount=garbage(batch.discount, padding, 1.0),
    )
    for _ in range(2):
        clean, clean_metrics = update(method, state, batch)
        dirty, dirty_metrics = update(method, state, other)
        assert differing(clean, dirty) == []
        assert differing(clean_metrics, dirty_metrics) == []
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(clean))
        state = clean


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terminated", [False, True])
def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not(
    name: str, terminated: bool
) -> None:
    method = make(name, agent="gru", target_update_interval=1)  # compiled above
    state = init(method)
    batch = make_batch(lengths=(4, 4, 4), terminated=(terminated,) * 3)
    other = batch._replace(
        observation=batch.observation.at[-1].add(1.0),
        global_state=batch.global_state.at[-1].add(1.0),
    )
    one, two = (update(method, state, x)[0].params["critic"] for x in (batch, other))
    assert (differing(one, two) == []) == terminated


# Diagnostics.


@pytest.mark.parametrize("name", NAMES)
def test_what_shows_a_collapse_is_logged(name: str) -> None:
    method = make(name, agent="gru", target_update_interval=1)  # compiled above
    state, batch = init(method), make_batch()
    _, metrics = update(method, state, batch)
    for metric in ("critic_grad_norm", "actor_grad_norm", "entropy"):
        assert metrics[metric] > 0
    assert metrics["explained_variance"] <= 1
    if name == "liir_paper":  # its rewards are not these alone
        return
    # Discounted returns, by hand: episodes 2 and 3 terminate after 2 and 3 steps; the first is cut after 4.
    reward = np.asarray(batch.reward)[..., 0]
    if name == "coma":  # a drawn action bootstraps the first
        assert np.isfinite(metrics["discounted_return_mean"])
        return
    inputs = method.critic_inputs.local if name == "iac" else method.critic_inputs.team
    last = np.mean(method._values(state.target_critic, inputs(batch)[-1])[0])
    lengths, ends = (4, 2, 3), (last, 0.0, 0.0)
    returns = []
    for b, (length, after) in enumerate(zip(lengths, ends, strict=True)):
        for t in reversed(range(length)):
            after = reward[t, b] + 0.99 * after
            returns.append(after)
    np.testing.assert_allclose(metrics["discounted_return_mean"], np.mean(returns), rtol=1e-4)


# What the critics see.


def test_inputs_of_comas_critic() -> None:
    batch = make_batch(lengths=(3,), terminated=(True,), steps=3)
    action = append_final_action(batch, jnp.full((4, 1, 2, 3), 1 / 3), jax.random.key(0))
    inputs = np.asarray(make("coma").critic_inputs.joint(batch, action))[:, 0]  # [T+1, N, I]
    eye = np.eye(ACTIONS)
    for t in range(4):
        last = np.zeros((2, 3)) if t == 0 else eye[action[t - 1, 0]]
        for agent in range(AGENTS):
            others = eye[action[t, 0]].copy()
            others[agent] = 0.0
            expected = np.concatenate(
                [
                    batch.global_state[t, 0],
                    batch.observation[t, 0, agent],
                    others.ravel(),
                    last.ravel(),
                    np.eye(AGENTS)[agent],
                ]
            )
            np.testing.assert_array_equal(inputs[t, agent], expected.astype(np.float32))


def test_inputs_of_the_actor_and_of_the_decentralised_and_central_critics() -> None:
    batch = make_batch(lengths=(3,), terminated=(True,), steps=3)
    method = make("iac")
    last = np.concatenate([np.zeros((1, 2, 3)), np.eye(3)[batch.action[:, 0]]])
    identity = np.broadcast_to(np.eye(2), (4, 2, 2))
    view = np.asarray(batch.observation)[:, 0]
    parts = {"last": last, "identity": identity}
    for observed in ([], ["last"], ["identity"], ["last", "identity"]):
        config = dataclasses.replace(
            method.config,
            observe_last_action="last" in observed,
            observe_identity="identity" in observed,
        )
        seeing = dataclasses.replace(method, config=config)
        expected = np.concatenate([view, *(parts[name] for name in observed)], axis=-1)
        inputs = seeing.agent_inputs(batch.observation, batch.last_action)
        np.testing.assert_array_equal(inputs[:, 0], expected)
        np.testing.assert_array_equal(seeing.critic_inputs.local(batch)[:, 0], expected)
        assert seeing.critic_inputs.local_size == expected.shape[-1]
    team = np.concatenate(
        [batch.global_state[:, 0], view.reshape(4, -1), last.reshape(4, -1)], axis=-1
    )
    # A critic of the team sees all last actions whatever the agents see.
    blind = make("central_v", observe_last_action=False, observe_identity=False)
    np.testing.assert_array_equal(blind.critic_inputs.team(batch)[:, 0], team.astype(np.float32))


@pytest.mark.parametrize("agent", ["gru", "mlp"])
def test_acting_and_learning_see_the_same_policy(agent: str) -> None:
    method = make("iac", agent=agent)
    state = init(method)
    batch = make_batch()
    act = fast_jit(method.act, static_argnames="explore")
    memory = method.initial_memory(state, 3, jax.random.key(0))
    _, logits = method.agent.unroll(
        state.params["actor"], method.agent_inputs(batch.observation, batch.last_action)
    )
    greedy = np.argmax(np.where(batch.action_mask, logits, -np.inf), axis=-1)
    for t in range(LIMIT):
        observation = Observation(
            batch.observation[t],
            batch.action_mask[t],
            batch.global_state[t],
            batch.alive[t],
            jnp.full((3,), t),
        )
        memory, action, _ = act(state, memory, observation, jax.random.key(1), explore=False)
        np.testing.assert_array_equal(action, greedy[t])
        memory = memory._replace(last_action=batch.last_action[t + 1])


def test_the_final_action_comes_from_the_policy() -> None:
    batch = make_batch(lengths=(4,) * 3, terminated=(False,) * 3)
    probs = (
        jnp.zeros((5, 3, 2, 3))
        .at[-1]
        .set(jnp.array([0.0, 0.0, 1.0]))
        .at[-1, 0, 0]
        .set(jnp.array([0.0, 1.0, 0.0]))
    )
    action = append_final_action(batch, probs, jax.random.key(0))
    np.testing.assert_array_equal(action[:-1], batch.action)
    np.testing.assert_array_equal(action[-1], [[1, 2], [2, 2], [2, 2]])


# The advantages, against plain loops.


def plain_td_lambda(reward: np.ndarray, discount: np.ndarray, value: np.ndarray) -> np.ndarray:
    """PyMARL's recursion with lambda 0.8, gamma 0.99, for [T, ...]."""
    result, after = np.zeros_like(reward), value[-1]
    for t in reversed(range(len(reward))):
        after = reward[t] + 0.99 * discount[t] * (0.2 * value[t + 1] + 0.8 * after)
        result[t] = after
    return result


RATE, EPSILON = 0.05, 0.5


def plain_descent(params: Any, loss: Callable[[Any], jax.Array]) -> Any:
    """One step of plain gradient descent."""
    return jax.tree.map(lambda p, g: p - RATE * g, params, jax.grad(loss)(params))


def plain_policy(method: Any, batch: Any, actor: Any) -> jax.Array:
    """[T+1, B, N, A] the behaviour policy: mixed with a uniform one over all actions, masked, renormalised."""
    inputs = method.agent_inputs(batch.observation, batch.last_action)
    probs = jax.nn.softmax(method.agent.unroll(actor, inputs)[1])
    probs = jnp.where(batch.action_mask, (1 - EPSILON) * probs + EPSILON / ACTIONS, 0.0)
    return probs / probs.sum(-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class PlainCritic:
    """One pass over the steps from the last to the first, a gradient step at each.

    Attributes:
        method: whose network and inputs.
        inputs: [T+1, ...] of the critic.
        one_hot: [T+1, ...] which output is the value.
        weight: [T, ...] of each squared error.
        reward: [T, ...].
        discount: [T, ...].
    """

    method: Any
    inputs: jax.Array
    one_hot: jax.Array
    weight: jax.Array
    reward: jax.Array
    discount: jax.Array

    def outputs(self, critic: Any, t: int) -> jax.Array:
        return self.method._critic.apply(critic, self.inputs[t])

    def value(self, critic: Any, t: int) -> jax.Array:
        return jnp.sum(self.outputs(critic, t) * self.one_hot[t], axis=-1)

    def learn(self, critic: Any, target: Any) -> tuple[Any, dict[int, Any]]:
        """The critic after the pass, and what it was before each step's."""
        value = fast_jit(self.value)
        values = np.stack([value(target, t) for t in range(5)])
        targets = plain_td_lambda(np.asarray(self.reward), np.asarray(self.discount), values)
        targets = jnp.asarray(targets)

        @fast_jit
        def step(critic: Any, t: int) -> Any:
            def loss(critic: Any) -> jax.Array:
                error = self.weight[t] * (self.value(critic, t) - targets[t]) ** 2
                return jnp.sum(error) / self.weight[t].sum()

            return plain_descent(critic, loss)

        recorded = {4: critic}
        for t in reversed(range(4)):
            recorded[t] = critic
            critic = step(critic, t)
        return critic, recorded


def plain_coma(method: Any, batch: Any, probs: jax.Array) -> PlainCritic:
    """Values of the actions taken; the last one is drawn."""
    joint = append_final_action(batch, probs, jax.random.key(0))
    weight = jnp.broadcast_to(batch.valid[..., None], batch.action.shape)
    inputs, one_hot = method.critic_inputs.joint(batch, joint), jnp.eye(ACTIONS)[joint]
    return PlainCritic(method, inputs, one_hot, weight, batch.reward, batch.discount)


def plain_central_v(method: Any, batch: Any) -> PlainCritic:
    """Values of the state."""
    reward, discount = batch.reward[..., 0], batch.discount[..., 0]
    inputs = method.critic_inputs.team(batch)
    return PlainCritic(method, inputs, jnp.ones((5, 2, 1)), batch.valid, reward, discount)


def plain_advantage(
    plain: PlainCritic, recorded: dict[int, Any], batch: Any, probs: jax.Array, name: str
) -> jax.Array:
    """[T, B, N] or [T, B, 1] from what the critic was before each step's update."""
    if name == "coma":
        outputs = fast_jit(plain.outputs)
        q = np.stack([outputs(recorded[t], t) for t in range(4)])
        taken = np.take_along_axis(q, np.asarray(batch.action)[..., None], axis=-1)[..., 0]
        return taken - np.sum(np.asarray(probs[:-1]) * q, axis=-1)
    value = fast_jit(plain.value)
    v = np.stack([value(recorded[t], t) for t in range(5)])
    return (plain.reward + 0.99 * plain.discount * v[1:] - v[:-1])[..., None]


def plain_actor(method: Any, batch: Any, actor: Any, advantage: jax.Array) -> Any:
    """The actor after one policy-gradient step where there was a choice."""
    chooses = (batch.action_mask[:-1].sum(-1) > 1) & batch.valid[..., None]

    def loss(actor: Any) -> jax.Array:
        probs = plain_policy(method, batch, actor)[:-1]
        log_prob = jnp.log(jnp.take_along_axis(probs, batch.action[..., None], axis=-1)[..., 0])
        return -jnp.sum(jnp.where(chooses, advantage * log_prob, 0.0)) / chooses.sum()

    return fast_jit(lambda actor: plain_descent(actor, loss))(actor)


@pytest.mark.parametrize("name", ["coma", pytest.param("central_v", marks=pytest.mark.slow)])
def test_one_update_by_a_plain_loop(name: str) -> None:
    """Critic and actor after one update with plain gradient steps, written without the library's parts."""
    method: Any = make(name, optimizer="sgd", actor_lr=RATE, critic_lr=RATE, max_grad_norm=0)
    batch = make_batch(lengths=(4, 2), terminated=(False, True))
    state = init(method)
    # A target that differs from the critic, or the test could not tell them apart.
    state = state._replace(target_critic=jax.tree.map(lambda x: 0.9 * x, state.target_critic))
    after, _ = update(method, state, batch)

    probs = fast_jit(lambda actor: plain_policy(method, batch, actor))(state.params["actor"])
    plain = plain_coma(method, batch, probs) if name == "coma" else plain_central_v(method, batch)
    critic, recorded = plain.learn(state.params["critic"], state.target_critic)
    advantage = plain_advantage(plain, recorded, batch, probs, name)
    expected = (critic, plain_actor(method, batch, state.params["actor"], advantage))
    for one, other in zip(
        jax.tree.leaves((after.params["critic"], after.params["actor"])),
        jax.tree.leaves(expected),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["iac", "liir_paper"])
def test_no_buffer_is_part_of_the_state_twice(name: str) -> None:
    # The training loop donates the whole state: such a buffer would be given away twice.
    options = {"critic": "shared_trunk"} if name == "liir_paper" else {}
    state = make(name, **options).init(jax.random.key(0))
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state) if x.size > 1]
    assert len(pointers) == len(set(pointers))
