"""MAVEN, CDS and SCDS: who sees what, what is added to the loss and to the reward, and whom its gradient reaches."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.base import Observation
from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.q_learner import Kept, Learning
from marl_jax.networks.generated import GeneratedLinear
from marl_jax.rollout import rollout
from marl_jax.training import Trainer, TrainingConfig
from tests.methods.learners import (
    SIZES,
    chunk_returns,
    differing,
    drawn_state,
    fast_jit,
    make_batch,
)
from tests.probes import ACTIONS, AGENTS, FEATURES, LIMIT, Context, Delayed, Probe, Roles

SMALL: dict[str, Any] = {
    "agent": "mlp",
    "hidden_size": 6,
    "batch_size": 3,
    "replay_capacity": 3 * LIMIT,
    "num_envs": 1,
    "update_interval": LIMIT,
    "mixer_embed": 4,
    "hypernet_size": 5,
    "gamma": 0.9,
}
OWN: dict[str, dict[str, Any]] = {
    "maven": {"latent_size": 3, "discriminator_hidden": (5, 4)},
    "cds": {"predictor_hidden": (5, 4)},
    "scds": {"predictor_hidden": (5, 4)},
}
NAMES = list(OWN)
KEY = jax.random.key(3)
EPISODES = 3


def make(name: str, **options: Any) -> Any:
    cls: Any = methods.recipe(name)
    return cls(cls.Config.from_mapping({**SMALL, **OWN[name], **options}, name), SIZES)


class Setting:
    """A learner whose targets are others than its parameters, episodes, and its loss on them."""

    def __init__(self, name: str, **options: Any) -> None:
        self.method = make(name, **options)
        # Not cached: nothing in it depends on weights, so settings share it.
        self.state = drawn_state(self.method, 0)
        self.params = self.state.params
        self.batch = make_batch()
        self.valid = np.asarray(self.batch.valid)
        if name == "maven":
            latent = jax.nn.one_hot(jnp.array([2, 0, 1]), 3)
            extras = jnp.broadcast_to(latent, (LIMIT, *latent.shape))
            self.batch = self.batch._replace(extras=Kept(latent=extras))

    def _loss(self, params: Any, target: Any) -> Any:
        state = self.state._replace(target=target)
        return self.method.loss(params, state, self.batch, KEY)

    @functools.cached_property
    def compiled(self) -> Any:
        return fast_jit(jax.value_and_grad(self._loss, has_aux=True))

    def learn(self, params: Any = None, target: Any = None) -> tuple[float, Any, Any]:
        """Loss, metrics and gradient."""
        given = params or self.params, target or self.state.target
        (loss, metrics), grads = self.compiled(*given)
        return loss, metrics, grads

    @functools.cached_property
    def learned(self) -> tuple[float, Any, Any]:
        return self.learn()

    @functools.cached_property
    def learning(self) -> Learning:
        """The middle of a gradient step, without the mixer, at which no method here looks."""
        nothing: Any = None
        values = self.method.values(self.params, self.state.target, self.batch, KEY)
        steps = self.method.steps(self.params, self.batch, values, KEY)
        return Learning(self.params, self.state, self.batch, values, nothing, nothing, KEY, steps)


@functools.cache
def setting(name: str, **options: Any) -> Setting:
    return Setting(name, **options)


def difference(one: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: np.asarray(x) - np.asarray(y), one, other)


def size(tree: Any) -> float:
    """The largest entry."""
    return max(np.abs(x).max() for x in jax.tree.leaves(tree))


def changed(params: Any, *path: str) -> Any:
    """With everything under `path` tripled."""
    if not path:
        return jax.tree.map(lambda x: 3.0 * x, params)
    return {**params, path[0]: changed(params[path[0]], *path[1:])}


def dense(layer: Any, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def mlp(params: Any, x: np.ndarray, code: Any = ()) -> np.ndarray:
    """An MLP of Dense layers with ReLU between them, of which the first two also see a code."""
    layers = params["params"]
    for i in range(len(layers)):
        x = np.append(x if i == 0 else np.maximum(x, 0), code if i < 2 else ())
        x = dense(layers[f"Linear_{i}"]["Dense_0"], x)
    return x


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# --- The generated layer ---


@pytest.mark.parametrize("use_bias", [True, False])
def test_generated_weights_are_those_of_a_linear_layer_of_the_code(use_bias: bool) -> None:
    h, k, a = 5, 4, 3
    module = GeneratedLinear(a, use_bias)
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(7, 2, h)).astype(np.float32)
    code = rng.normal(size=(2, k)).astype(np.float32)
    params: Any = module.init(KEY, hidden, code)
    kernel = np.asarray(params["params"]["kernel"], np.float64)
    assert kernel.shape == (h + use_bias, k + 1, a)
    out = np.asarray(module.apply(params, hidden, code))
    for t, n in np.ndindex(7, 2):
        weight = np.einsum("k,hka->ha", code[n], kernel[:h, :k]) + kernel[:h, k]
        bias = code[n] @ kernel[h, :k] + kernel[h, k] if use_bias else 0.0
        np.testing.assert_allclose(out[t, n], hidden[t, n] @ weight + bias, rtol=1e-4, atol=1e-5)


def test_generated_weights_are_drawn_as_the_layers_that_make_them() -> None:
    # A linear layer with 9 inputs draws its weights and its biases from +-1/3.
    params: Any = GeneratedLinear(20).init(KEY, jnp.zeros((30,)), jnp.zeros((9,)))
    kernel = np.asarray(params["params"]["kernel"])
    assert 0.33 < np.abs(kernel).max() <= 1 / 3
    np.testing.assert_allclose(kernel.std(), 1 / 3 / np.sqrt(3), rtol=0.03)
    np.testing.assert_allclose(kernel[-1].std(), 1 / 3 / np.sqrt(3), rtol=0.15)


# --- All three ---


@pytest.mark.parametrize("agent", [pytest.param("mlp", marks=pytest.mark.slow), "gru"])
@pytest.mark.parametrize("name", NAMES)
def test_replayed_values_are_those_acted_on(name: str, agent: str) -> None:
    s = setting(name, agent=agent)
    batch, params = s.batch, s.params["agent"]
    _, expected = s.method.unroll(params, batch, KEY)
    memory = s.method.initial_memory(s.state, EPISODES, KEY)
    if name == "maven":
        memory = memory._replace(latent=batch.extras.latent[0])
    for t in range(LIMIT + 1):
        clock = jnp.full((EPISODES,), t)
        seen = Observation(
            batch.observation[t],
            batch.action_mask[t],
            batch.global_state[t],
            batch.alive[t],
            clock,
        )
        assert seen.agents_view.shape == (EPISODES, AGENTS, FEATURES)
        hidden, q = s.method.step(params, memory, seen, KEY, True)
        np.testing.assert_allclose(q, expected[t], rtol=1e-4, atol=1e-5)
        if t < LIMIT:
            action = jax.nn.one_hot(batch.action[t], ACTIONS)
            memory = memory._replace(hidden=hidden, last_action=action)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maven", {"agent": "gru", "head_sizes": (80, 25)}, "it must be empty for maven"),
        ("maven", {"sharing": "independent"}, "it must be 'shared' for maven"),
        ("cds", {"agent": "gru", "head_sizes": (8,)}, r"head_sizes is \(8,\); it must be empty"),
        ("cds", {"sharing": "independent"}, "it must be 'shared' for cds"),
        ("scds", {"sharing": "independent"}, "it must be 'shared' for s?cds"),
        ("cds", {"observe_identity": True}, "observe_identity is True; it must be false"),
        ("scds", {"observe_identity": True}, "observe_identity is True; it must be false"),
        # With one policy for all, its mean over agents in one place is itself.
        ("scds", {"policy_average": "same_history"}, "unknown option of scds"),
        ("scds", {"individual_weight": 0.1}, "unknown option of scds"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(name, **options)


PROBE: dict[str, Any] = {
    "agent": "mlp",
    "hidden_size": 16,
    "num_envs": 16,
    "update_interval": 4 * LIMIT,
    "batch_size": 32,
    "replay_capacity": 512 * LIMIT,
    "gamma": 0.9,
    "optimizer": "adam",
    "lr": 0.003,
    "target_update_interval": 64,
    "mixer_embed": 16,
    "hypernet_size": 16,
    "epsilon_anneal_steps": 4000,
}


def train(method: Any, world: Probe, iterations: int, seeds: int) -> tuple[Any, np.ndarray]:
    """The learners, and their mean greedy returns."""
    interval = iterations * method.num_envs * world.time_limit
    trainer = Trainer(world, method, TrainingConfig(interval, interval, 32), num_seeds=seeds)
    state, metrics = trainer.train_chunk(trainer.init(), trainer.everyone)
    return state.method, chunk_returns(trainer, state, metrics)


# --- MAVEN ---


@pytest.mark.parametrize("explore", [True, False])
def test_the_latent_is_uniform_over_episodes_and_constant_within(explore: bool) -> None:
    s = setting("maven", information_weight=0.5)
    world = Delayed()
    play = fast_jit(
        lambda key: rollout(world, s.method, s.state, key, 3000, explore=explore)[0].extras.latent
    )
    latent = np.asarray(play(KEY))
    assert latent.shape == (LIMIT, 3000, 3)
    np.testing.assert_array_equal(latent, np.broadcast_to(latent[0], latent.shape))
    np.testing.assert_array_equal(np.sort(latent[0], axis=-1), [[0, 0, 1]] * 3000)
    np.testing.assert_allclose(latent[0].mean(0), 1 / 3, atol=0.03)
    assert (np.asarray(play(jax.random.key(4)))[0] != latent[0]).any()


def test_latent_and_identity_make_the_output_layer() -> None:
    s = setting("maven", information_weight=0.5)
    hidden, q = s.method.unroll(s.params["agent"], s.batch, KEY)
    kernel = np.asarray(s.params["agent"]["head"]["params"]["kernel"], np.float64)
    assert kernel.shape == (6, 3 + AGENTS + 1, ACTIONS)
    for b, z in enumerate([2, 0, 1]):
        for i in range(AGENTS):
            weight = kernel[:, z] + kernel[:, 3 + i] + kernel[:, -1]
            expected = np.asarray(hidden[:, b, i], np.float64) @ weight
            np.testing.assert_allclose(q[:, b, i], expected, rtol=1e-4, atol=1e-5)


def test_the_mixer_sees_the_latent_beside_the_state() -> None:
    s = setting("maven", information_weight=0.5)
    state = np.asarray(s.method.mixer_state(s.batch))
    assert state.shape == (LIMIT + 1, EPISODES, AGENTS * FEATURES + 3)
    np.testing.assert_array_equal(state[..., :-3], s.batch.global_state)
    for b, z in enumerate([2, 0, 1]):
        np.testing.assert_array_equal(state[:, b, -3:], np.tile(np.eye(3)[z], (LIMIT + 1, 1)))
    values = s.learning.values
    for inputs in (s.method.taken(values, s.batch), s.method.next_taken(values, s.batch)):
        assert inputs.state.shape[-1] == AGENTS * FEATURES + 3
    assert s.params["mixer"]["params"]["value"]["Linear_0"]["Dense_0"]["kernel"].shape[0] == 11


def test_the_discriminators_loss_step_by_step() -> None:
    s = setting("maven", information_weight=0.5)
    q = np.asarray(s.learning.values.online, np.float64)
    mask = np.asarray(s.batch.action_mask)
    losses = []
    for t, b in np.argwhere(s.valid):
        policies = softmax(np.where(mask[t, b], q[t, b], -9_999_999.0))
        seen = np.concatenate([policies.reshape(-1), s.batch.global_state[t, b]])
        p = softmax(mlp(s.params["discriminator"], seen))
        losses.append(-np.log(p[[2, 0, 1][b]]))
    loss, metrics, _ = s.learned
    np.testing.assert_allclose(metrics["discriminator_loss"], np.mean(losses), rtol=1e-4)
    np.testing.assert_allclose(loss - metrics["td_loss"], 0.5 * np.mean(losses), rtol=1e-3)


def test_the_discriminator_trains_agents_and_itself_and_never_the_mixer() -> None:
    with_it, without = (setting("maven", information_weight=w).learned[2] for w in (0.5, 0.0))
    gradient = difference(with_it, without)
    assert size(gradient["mixer"]) == 0.0
    assert size(gradient["discriminator"]) > 1e-3
    for part in ("body", "head"):
        assert size(gradient["agent"][part]) > 1e-3, part
    assert size(without["discriminator"]) == 0.0


def test_the_latents_entropy_is_what_an_ignorant_discriminator_loses() -> None:
    s = setting("maven", information_weight=0.5)
    blind = jax.tree.map(jnp.zeros_like, s.params["discriminator"])
    _, metrics, _ = s.learn({**s.params, "discriminator": blind})
    np.testing.assert_allclose(metrics["discriminator_loss"], np.log(3), rtol=1e-5)


class Convention(Delayed):
    """One step: 1 if both agents take the same action, whichever it is."""

    def _outcome(self, state: Any, action: jax.Array) -> tuple[Any, Any, Any]:
        return state.memory, action[0] == action[1], True


@pytest.mark.slow
def test_each_latent_gets_a_convention_of_its_own() -> None:
    # Of 8 seeds the latents of all have different ones; 2 without the discriminator, by chance.
    world = Convention()
    method: Any = methods.make("maven", world, **PROBE, discriminator_hidden=(16,))
    state, returns = train(method, world, 100, 4)
    np.testing.assert_array_equal(returns, 1.0)
    observation = world.reset(KEY)[1].observation
    seen = jax.tree.map(lambda x: jnp.broadcast_to(x, (2, *x.shape)), observation)
    memory = method.initial_memory(state, 2, KEY)._replace(latent=jnp.eye(2))
    _, action, _ = jax.vmap(lambda learner: method.act(learner, memory, seen, KEY, False))(state)
    assert (action[:, 0, 0] != action[:, 1, 0]).sum() >= 3


# --- CDS and SCDS ---


def policies_and_means(s: Setting, average: str) -> tuple[np.ndarray, np.ndarray]:
    """[T, B, N, A] softmax(2 Q_i), and what it is compared with."""
    hidden = np.asarray(s.learning.values.hidden, np.float64)[:LIMIT]
    agent = s.params["agent"]
    if average == "shared":
        q = np.asarray(s.learning.values.online, np.float64)[:LIMIT]
        mean = softmax(q).mean(axis=2, keepdims=True)
        return softmax(2 * q), np.broadcast_to(mean, q.shape)
    shared = dense(agent["shared"]["params"]["Dense_0"], hidden)
    heads = [
        jax.tree.map(lambda x, j=j: x[j], agent["individual"]["params"]["Dense_0"])
        for j in range(AGENTS)
    ]

    def q(history: int, head: int) -> np.ndarray:
        return shared[:, :, history] + dense(heads[head], hidden[:, :, history])

    own, mean = [], []
    for i in range(AGENTS):
        pairs = {
            "same_history": [(i, j) for j in range(AGENTS)],
            "same_head": [(j, i) for j in range(AGENTS)],
            "own_history": [(j, j) for j in range(AGENTS)],
        }[average]
        own.append(softmax(2 * q(i, i)))
        mean.append(np.mean([softmax(q(*pair)) for pair in pairs], axis=0))
    return np.stack(own, axis=2), np.stack(mean, axis=2)


def squared_errors(s: Setting, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """[T, B, N] of the predictor that does not know the identity, and of the one that does."""
    batch, hidden = s.batch, np.asarray(s.learning.values.hidden)
    errors = np.zeros((2, LIMIT, EPISODES, AGENTS))
    for t, b, i in np.ndindex(LIMIT, EPISODES, AGENTS):
        before = hidden[t - 1, b, i] if t else np.zeros(6)
        action = np.eye(ACTIONS)[batch.action[t, b, i]]
        seen = np.concatenate([before, batch.observation[t, b, i], action])
        then = np.asarray(batch.observation[t + 1, b, i])
        for k, (name, code) in enumerate(
            [("predictor", ()), ("identity_predictor", np.eye(AGENTS)[i])]
        ):
            errors[k, t, b, i] = ((mlp(params[name], seen, code) - then) ** 2).sum()
    return errors[0], errors[1]


WEIGHTS: dict[str, Any] = {
    "identity_weight": 2.0,
    "policy_weight": 0.7,
    "intrinsic_weight": 0.3,
    "individual_weight": 0.6,
}
AVERAGES = ["same_history", "same_head", "own_history"]


def weighted(name: str, **options: Any) -> Setting:
    """With weights other than the defaults; one with a feed-forward agent, one with a recurrent one."""
    if name == "cds":
        return setting(name, **{**WEIGHTS, **options})
    return setting(name, agent="gru", **{k: WEIGHTS[k] for k in WEIGHTS if "individual" not in k})


@pytest.mark.parametrize(
    ("name", "average"), [*(("cds", average) for average in AVERAGES), ("scds", "shared")]
)
def test_the_intrinsic_reward_by_enumeration(name: str, average: str) -> None:
    s = weighted(name)
    method = s.method if name == "scds" else make(name, **WEIGHTS, policy_average=average)
    policy, mean = policies_and_means(s, average)
    divergence = (policy * np.log(policy / mean)).sum(-1)
    error, identity_error = squared_errors(s, s.state.target)
    expected = -2.0 * identity_error + error + 0.7 * divergence
    found = np.asarray(method.parts[0].reward(s.learning))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    bonus = np.asarray(method.bonus(s.learning))
    np.testing.assert_allclose(bonus, 0.3 * expected.mean(-1), rtol=1e-3, atol=1e-4)
    assert divergence.max() > 1e-2


def test_the_means_are_three_different_ones() -> None:
    s = weighted("cds")
    means = [policies_and_means(s, average)[1] for average in AVERAGES]
    for i in range(3):
        assert np.abs(means[i] - means[i - 1]).max() > 1e-2


@pytest.mark.parametrize("name", ["cds", pytest.param("scds", marks=pytest.mark.slow)])
def test_the_targets_contain_what_the_target_predictors_say(name: str) -> None:
    s = weighted(name)
    _, metrics, gradient = s.learned
    values, batch = s.learning.values, s.batch
    q_tot = s.method.mix(s.params, s.method.taken(values, batch)).q_tot
    ahead = s.method.mix(s.state.target, s.method.next_taken(values, batch)).q_tot
    y = batch.reward.mean(-1) + 0.9 * batch.discount.min(-1) * ahead
    y += s.method.bonus(s.learning)
    errors = np.asarray((q_tot - y) ** 2)[s.valid]
    np.testing.assert_allclose(metrics["td_loss"], errors.mean(), rtol=1e-3)
    reward = np.asarray(s.method.parts[0].reward(s.learning)).mean(-1)[s.valid]
    np.testing.assert_allclose(metrics["intrinsic_reward"], reward.mean(), rtol=1e-3)

    for predictor in ("predictor", "identity_predictor"):
        _, online, _ = s.learn(changed(s.params, predictor))
        np.testing.assert_array_equal(online["td_loss"], metrics["td_loss"])
        np.testing.assert_array_equal(online["intrinsic_reward"], metrics["intrinsic_reward"])
        assert abs(online[f"{predictor}_loss"] - metrics[f"{predictor}_loss"]) > 1e-2
        _, delayed, other = s.learn(target=changed(s.state.target, predictor))
        assert abs(delayed["td_loss"] - metrics["td_loss"]) > 1e-2
        # Another reward: the agents learn something else, the predictors what they did.
        assert differing(gradient["agent"], other["agent"])
        assert not differing(gradient[predictor], other[predictor])


@pytest.mark.parametrize("name", ["cds", pytest.param("scds", marks=pytest.mark.slow)])
def test_the_predictors_loss_reaches_only_the_predictors(name: str) -> None:
    s = weighted(name)
    loss, metrics, gradient = s.learned
    errors = squared_errors(s, s.params)
    for name, error in zip(("predictor", "identity_predictor"), errors, strict=True):
        np.testing.assert_allclose(metrics[f"{name}_loss"], error[s.valid].mean(), rtol=1e-4)
        assert size(gradient[name]) > 1e-2
        # Other predictors, other losses; the agents and the mixer learn the same.
        _, _, other = s.learn(changed(s.params, name))
        for part in ("agent", "mixer"):
            assert not differing(gradient[part], other[part])
    own = sum(float(metrics[name]) for name in metrics if name.endswith("predictor_loss"))
    own += 0.6 * float(metrics.get("individual_values", 0.0))
    np.testing.assert_allclose(loss - metrics["td_loss"], own, rtol=1e-3)


def test_the_predictors_start_as_the_authors_do() -> None:
    """Xavier's uniform weights, +-sqrt(6 / (inputs + outputs)), and no biases; one knows the identity, twice."""
    drawn = fast_jit(setting("scds", predictor_hidden=(64, 48)).method.parts[0].init)(KEY)
    seen = 6 + FEATURES + ACTIONS
    for name, known in (("predictor", 0), ("identity_predictor", AGENTS)):
        layers = drawn[name]["params"]
        for i, shape in enumerate([(seen + known, 64), (64 + known, 48), (48, FEATURES)]):
            layer = layers[f"Linear_{i}"]["Dense_0"]
            assert layer["kernel"].shape == shape
            bound = np.sqrt(6.0 / sum(shape))
            assert 0.9 * bound < np.abs(layer["kernel"]).max() <= bound
            assert not np.any(layer["bias"])


def test_the_reward_is_a_constant() -> None:
    s = weighted("scds")
    batch, state = s.batch, s.state

    def paid(params: Any) -> jax.Array:
        values = s.method.values(params, state.target, batch, KEY)
        learning = s.learning._replace(params=params, values=values)
        return jnp.sum(s.method.bonus(learning) ** 2)

    assert size(fast_jit(jax.grad(paid))(s.params)) == 0.0


def test_individual_values_shrink_by_their_sign() -> None:
    s, free = weighted("cds"), weighted("cds", individual_weight=0.0)
    # Individual values are their biases: 0.5 for the first agent's first action, else -0.5.
    bias = jnp.full((AGENTS, ACTIONS), -0.5).at[0, 0].set(0.5)
    kernel = jnp.zeros((AGENTS, 6, ACTIONS))
    individual = {"params": {"Dense_0": {"kernel": kernel, "bias": bias}}}
    params = {**free.params, "agent": {**free.params["agent"], "individual": individual}}
    loss, metrics, gradient = s.learn(params)
    plain, _, without = free.learn(params)
    np.testing.assert_allclose(metrics["individual_values"], 0.5, rtol=1e-5)
    np.testing.assert_allclose(loss - plain, 0.3, rtol=1e-3)
    slope = difference(gradient, without)
    expected = 0.6 * np.sign(bias) / (AGENTS * ACTIONS)
    found = slope["agent"]["individual"]["params"]["Dense_0"]["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    for part in ("shared", "body"):
        assert size(slope["agent"][part]) < 1e-5
    for part in ("mixer", "predictor", "identity_predictor"):
        assert size(slope[part]) == 0.0


def test_only_the_individual_layers_tell_agents_apart() -> None:
    s = weighted("cds")
    batch = s.batch._replace(
        observation=s.batch.observation[:, :, :1].repeat(AGENTS, axis=2),
        action=s.batch.action[:, :, :1].repeat(AGENTS, axis=2),
    )
    own = jax.tree.map(jnp.zeros_like, s.params["agent"]["individual"])
    alike = {**s.params["agent"], "individual": own}
    hidden, q = s.method.unroll(alike, batch, KEY)
    np.testing.assert_array_equal(hidden[:, :, 0], hidden[:, :, 1])
    np.testing.assert_array_equal(q[:, :, 0], q[:, :, 1])
    _, q = s.method.unroll(s.params["agent"], batch, KEY)
    assert np.abs(q[:, :, 0] - q[:, :, 1]).max() > 0.1
    scds = weighted("scds")
    _, q = scds.method.unroll(scds.params["agent"], batch, KEY)
    np.testing.assert_array_equal(q[:, :, 0], q[:, :, 1])


def test_the_predictors_have_optimisers_of_their_own() -> None:
    method = make("scds", predictor_lr=0.01, lr=0.1, optimizer="sgd", max_grad_norm=2.0)
    params = drawn_state(method, 0).params
    gradients = jax.tree.map(lambda x: 5.0 * jnp.ones_like(x), params)
    optimizer = method.optimizer
    state = optimizer.init(params)
    # A huge gradient, then a small one: Adam remembers the first as what it was clipped to.
    update = fast_jit(optimizer.update)
    updates, state = update(gradients, state, params)
    small = jax.tree.map(lambda x: 1e-3 * jnp.ones_like(x), params)
    again, _ = update(small, state, params)

    def norm(tree: Any) -> float:
        return float(np.sqrt(sum((np.asarray(x) ** 2).sum() for x in jax.tree.leaves(tree))))

    team = {name: updates[name] for name in ("agent", "mixer")}
    np.testing.assert_allclose(norm(team), 0.1 * 2.0, rtol=1e-5)
    for name in ("predictor", "identity_predictor"):
        count = sum(x.size for x in jax.tree.leaves(params[name]))
        first, second = 1.0 / np.sqrt(count), 1e-3
        mean = (0.1 * 0.9 * first + 0.1 * second) / (1 - 0.9**2)
        square = (0.001 * 0.999 * first**2 + 0.001 * second**2) / (1 - 0.999**2)
        for leaf in jax.tree.leaves(again[name]):
            np.testing.assert_allclose(leaf, -0.01 * mean / np.sqrt(square), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "env", "options"),
    [
        # The agents do not know who they are: only their own layers can part them. With the authors' weight, made for
        # returns of about 20, 2 of 8 seeds keep these too small.
        ("cds", Roles, {"individual_weight": 0.01}),
        ("scds", Context, {}),
    ],
)
def test_a_probe_is_solved(name: str, env: type[Probe], options: dict[str, Any]) -> None:
    world = env()
    method = methods.make(name, world, **PROBE, predictor_hidden=(16,), **options)
    assert (train(method, world, 150, 4)[1] > 0.95).all()
