"""Mixers against numbers worked out by hand, formulas written a second time, and what they promise."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from marl_jax.networks import (
    QMIX,
    QPLEX,
    VDN,
    CentralMixer,
    Mixed,
    MixerInputs,
    Params,
    QTRANJoint,
    permute_agents,
    temporal_credits,
)

AGENTS, ACTIONS, UNIT = 3, 4, 2
STATE = AGENTS * UNIT + 1

QMIX_1 = QMIX(embed_size=8, hypernet_layers=1)
QMIX_2 = QMIX(embed_size=8, hypernet_layers=2, hypernet_size=16)
MONOTONIC: list[nn.Module] = [
    VDN(),
    QMIX_1,
    QMIX_2,
    QPLEX(unit_dim=UNIT, embed_size=8, hypernet_size=16),
    QPLEX(unit_dim=UNIT, embed_size=8, hypernet_size=16, weighted_head=True, state_bias=False),
    QPLEX(agent_index=True, embed_size=8, hypernet_size=16),
]
MIXERS = [*MONOTONIC, CentralMixer(16)]
# One of QMIX's and of QPLEX's arrangements; the others on schedule.
ONE_OF_EACH = [
    pytest.param(mixer, marks=[pytest.mark.slow] if i in (1, 4, 5) else [])
    for i, mixer in enumerate(MIXERS)
]


def draw_inputs(random: np.random.Generator, batch: tuple[int, ...] = ()) -> MixerInputs:
    q = random.normal(0.0, 3.0, (*batch, AGENTS))
    action = random.integers(ACTIONS, size=q.shape)
    inputs = MixerInputs(
        q,
        q + random.exponential(size=q.shape),
        np.eye(ACTIONS)[action],
        random.normal(0.0, 1.5, (*batch, STATE)),
    )
    return jax.tree.map(jnp.asarray, inputs)


def draw_params(
    random: np.random.Generator, draws: tuple[int, ...], module: nn.Module, *arguments: Any
) -> Params:
    """Parameters from a normal law: no initialisation to compile, and larger than any initialisation's."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    return jax.tree.map(lambda x: jnp.asarray(random.normal(0, 0.3, (*draws, *x.shape))), shapes)


def make(mixer: nn.Module, batch: tuple[int, ...] = ()) -> tuple[Params, MixerInputs]:
    random = np.random.default_rng(0)
    inputs = draw_inputs(random, batch)
    return draw_params(random, (), mixer, inputs), inputs


def bind(mixer: nn.Module, params: Params) -> Callable[[MixerInputs], Mixed]:
    def apply(inputs: MixerInputs) -> Mixed:
        mixed = mixer.apply(params, inputs)
        assert isinstance(mixed, Mixed)
        return mixed

    return apply


@functools.partial(jax.jit, static_argnums=0)
def mix(mixer: nn.Module, params: Params, inputs: MixerInputs) -> Mixed:
    return bind(mixer, params)(inputs)


@functools.partial(jax.jit, static_argnums=0)
def credits_of(mixer: nn.Module, params: Params, inputs: MixerInputs) -> jax.Array:
    return temporal_credits(bind(mixer, params), inputs)


@functools.partial(jax.jit, static_argnums=0)
def authors_credits_of(mixer: QMIX, params: Params, inputs: MixerInputs) -> jax.Array:
    credits = mixer.apply(params, inputs, method="authors_credits")
    assert isinstance(credits, jax.Array)
    return credits


def dense(kernel: Any, bias: Any = None) -> Params:
    leaves = {"kernel": jnp.array(kernel, float)}
    return {"Dense_0": leaves if bias is None else leaves | {"bias": jnp.array(bias, float)}}


def linear(params: Params, x: np.ndarray, name: str | None = None) -> np.ndarray:
    """The formula of a dense layer, in NumPy."""
    layer = (params if name is None else params[name])["Dense_0"]
    out = np.asarray(x) @ np.asarray(layer["kernel"])
    return out + np.asarray(layer["bias"]) if "bias" in layer else out


def mlp(params: Params, x: np.ndarray) -> np.ndarray:
    for i in range(len(params)):
        x = linear(params, np.maximum(x, 0.0) if i else x, f"Linear_{i}")
    return x


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


# --- by hand ---


def test_vdn_by_hand() -> None:
    inputs = MixerInputs(
        jnp.array([[1.0, 2.5], [-3.0, 1.0]]),
        jnp.zeros((2, 2)),
        jnp.zeros((2, 2, 3)),
        jnp.zeros((2, 1)),
    )
    params = VDN().init(jax.random.key(0), inputs)
    assert not jax.tree.leaves(params)
    mixed = VDN().apply(params, inputs)
    np.testing.assert_allclose(mixed.q_tot, [3.5, -2.0])
    np.testing.assert_allclose(mixed.regulariser, 0.0)
    np.testing.assert_array_equal(credits_of(VDN(), params, inputs), np.ones((2, 2)))


# At s = 2: W1 = |(2, -3)| = (2, 3), b1 = 1 - 2 = -1, w2 = |0.5 - 1| = 0.5, V = 3 relu(2) + 1 = 7.
HAND_QMIX = QMIX(embed_size=1, hypernet_layers=1)
HAND_QMIX_PARAMS = {
    "params": {
        "kernel1": {"Linear_0": dense([[1.0, -1.5]], [0.0, 0.0])},
        "bias1": dense([[-1.0]], [1.0]),
        "kernel2": {"Linear_0": dense([[-0.5]], [0.5])},
        "value": {"Linear_0": dense([[1.0]], [0.0]), "Linear_1": dense([[3.0]], [1.0])},
    }
}


def hand_inputs(q: list[float]) -> MixerInputs:
    return MixerInputs(jnp.array(q), jnp.zeros((2,)), jnp.zeros((2, 3)), jnp.array([2.0]))


def authors_credits(q: list[float]) -> jax.Array:
    credits = HAND_QMIX.apply(HAND_QMIX_PARAMS, hand_inputs(q), method="authors_credits")
    assert isinstance(credits, jax.Array)
    return credits


def test_qmix_by_hand_where_the_unit_is_on() -> None:
    # z = 2 + 1.5 - 1 = 2.5, Q = 0.5 2.5 + 7 = 8.25, credits 0.5 (2, 3)
    mixer, inputs = bind(HAND_QMIX, HAND_QMIX_PARAMS), hand_inputs([1.0, 0.5])
    np.testing.assert_allclose(mixer(inputs).q_tot, 8.25, rtol=1e-6)
    np.testing.assert_allclose(mixer(inputs).regulariser, 0.0)
    np.testing.assert_allclose(temporal_credits(mixer, inputs), [1.0, 1.5], rtol=1e-6)
    np.testing.assert_allclose(authors_credits([1.0, 0.5]), [1.0, 1.5], rtol=1e-6)


def test_qmix_by_hand_where_the_unit_is_off() -> None:
    # z = -2 - 1 - 1 = -4, ELU = exp(-4) - 1 = -0.981684, Q = 7 - 0.490842. The slope is exp(-4) = 0.018316;
    # the authors take exp(-0.981684) = 0.374680. Credits are 0.5 (2, 3) times the slope.
    mixer, inputs = bind(HAND_QMIX, HAND_QMIX_PARAMS), hand_inputs([-1.0, -1.0 / 3.0])
    np.testing.assert_allclose(mixer(inputs).q_tot, 6.509158, rtol=1e-6)
    np.testing.assert_allclose(temporal_credits(mixer, inputs), [0.018316, 0.027473], rtol=1e-4)
    np.testing.assert_allclose(authors_credits([-1.0, -1.0 / 3.0]), [0.374680, 0.562020], rtol=1e-5)


def hand_qplex(num_heads: int) -> tuple[QPLEX, Params]:
    """At s = (1, 2): query log 3, keys 1 and 2, c = 2 (1 + 2) - 1 = 5, lambda's scale 8."""
    mixer = QPLEX(unit_dim=1, num_heads=num_heads, num_kernels=1, embed_size=1, hypernet_size=1)
    log3 = np.log(3.0)
    heads = np.ones((num_heads, 1, 1))
    of_action = np.zeros((6, 2))
    of_action[3, 0] = log3  # agent 0, action 1
    of_action[4, 1] = -log3  # agent 1, action 0
    return mixer, {
        "params": {
            "_Attention_0": {
                "query": {
                    "Linear_0": dense(heads * [[1.0], [0.0]], np.zeros((num_heads, 1))),
                    "Linear_1": dense(heads * log3),
                },
                "key": dense(np.ones((1, num_heads))),
            },
            "_Importance_0": {
                "scale": dense([[-8.0], [0.0]], [0.0]),
                "agent": dense(np.zeros((2, 2)), [0.0, log3]),
                "action": dense(of_action, [0.0, 0.0]),
            },
            "value": {
                "Linear_0": dense([[1.0], [1.0]], [0.0]),
                "Linear_1": dense([[2.0]], [-1.0]),
            },
        }
    }


@pytest.mark.parametrize(("num_heads", "q_tot"), [(1, 6.125), (2, 7.25)])
def test_qplex_by_hand(num_heads: int, q_tot: float) -> None:
    # Logits log 3 and 2 log 3: attention 3/12 and 9/12 in each head.
    # lambda = 8 (1/2 3/4, 3/4 1/4) = (3, 3/2) for the joint action (1, 0).
    # One head: w q + c = 1/2 + 3 + 5 = 8.5, advantage (-4/4, -3/4), times (2, 1/2): 8.5 - 2 - 0.375 = 6.125.
    # Two heads double w: 1 + 6 + 5 - 4 - 0.75 = 7.25, and the regulariser.
    mixer, params = hand_qplex(num_heads)
    inputs = MixerInputs(
        jnp.array([2.0, 4.0]),
        jnp.array([6.0, 5.0]),
        jax.nn.one_hot(jnp.array([1, 0]), 2),
        jnp.array([1.0, 2.0]),
    )
    mixed = bind(mixer, params)(inputs)
    np.testing.assert_allclose(mixed.q_tot, q_tot, rtol=1e-6)
    # (log 3)^2 (1 + 4) / 2 per head
    np.testing.assert_allclose(mixed.regulariser, num_heads * 2.5 * np.log(3.0) ** 2, rtol=1e-6)
    credits = credits_of(mixer, params, inputs)
    np.testing.assert_allclose(credits, num_heads * np.array([0.25, 0.75]), rtol=1e-6)


# --- against the formula, written a second time ---


@pytest.mark.parametrize("hypernet_layers", [1, 2])
def test_qmix_is_its_formula(hypernet_layers: int) -> None:
    mixer = QMIX(embed_size=5, hypernet_layers=hypernet_layers, hypernet_size=7)
    params, inputs = jax.device_get(make(mixer, batch=(2, 6)))
    p = params["params"]
    expected, credits = np.zeros((2, 6)), np.zeros((2, 6, AGENTS))
    for b in np.ndindex(2, 6):
        s, q = np.asarray(inputs.state[b]), np.asarray(inputs.q[b])
        w1 = np.abs(mlp(p["kernel1"], s))
        w2 = np.abs(mlp(p["kernel2"], s))
        b1 = linear(p["bias1"], s)
        expected[b] = mlp(p["value"], s)[0]
        for unit in range(5):
            column = [w1[agent * 5 + unit] for agent in range(AGENTS)]
            z = np.dot(column, q) + b1[unit]
            expected[b] += w2[unit] * (z if z > 0 else np.exp(z) - 1)
            slope = 1.0 if z > 0 else np.exp(np.exp(z) - 1)
            credits[b] += slope * w2[unit] * np.array(column)
    np.testing.assert_allclose(mix(mixer, params, inputs).q_tot, expected, rtol=1e-4, atol=1e-5)
    found = authors_credits_of(mixer, params, inputs)
    np.testing.assert_allclose(found, credits, rtol=1e-4, atol=1e-5)


def test_qmix_can_start_small() -> None:
    """What the last layers of all hypernetworks put out is scaled, and with it Q_tot and the agents' credits."""
    usual, small = QMIX(), QMIX(init_scale=1e-3)
    _, inputs = make(usual, batch=(4,))
    params, scaled = (mixer.init(jax.random.key(0), inputs) for mixer in (usual, small))
    for name, layers in params["params"].items():
        last = max(layers)
        for layer, weights in layers.items():
            factor = 1e-3 if layer == last or name == "bias1" else 1.0
            expected = jax.tree.map(lambda x, f=factor: f * x, weights)
            chex.assert_trees_all_close(scaled["params"][name][layer], expected, rtol=1e-5)
    assert np.all(np.abs(mix(small, scaled, inputs).q_tot) < 1e-2)
    assert np.any(np.abs(mix(usual, params, inputs).q_tot) > 1e-2)
    credits = credits_of(small, scaled, inputs)
    assert np.all(credits < 1e-4)


@pytest.mark.parametrize("mixer", [m for m in MONOTONIC if isinstance(m, QPLEX)])
def test_qplex_is_its_formula(mixer: QPLEX) -> None:
    params, inputs = jax.device_get(make(mixer, batch=(2, 3)))
    attention, importance = params["params"]["_Attention_0"], params["params"]["_Importance_0"]
    expected, logits = np.zeros((2, 3)), []
    for b in np.ndindex(2, 3):
        q, q_max, action, s = (np.asarray(x[b]) for x in inputs)
        w, gate = np.full(AGENTS, 1e-10), np.zeros(AGENTS)
        for head in range(4):
            query = mlp(jax.tree.map(lambda x, h=head: x[h], attention["query"]), s)
            row = []
            for agent in range(AGENTS):
                unit = s[agent * UNIT : (agent + 1) * UNIT] if mixer.unit_dim else s
                if mixer.agent_index:
                    unit = np.append(unit, np.eye(AGENTS)[agent])
                key = linear(attention["key"], unit)[head * 8 : (head + 1) * 8]
                row.append(float(query @ key))
            logits.append(row)
            soft = np.exp(np.array(row) / np.sqrt(8)) / np.sum(np.exp(np.array(row) / np.sqrt(8)))
            if mixer.weighted_head:
                soft = soft * abs(mlp(attention["head_weight"], s)[head])
            w += soft
            scale = abs(linear(importance, s, "scale")[head])
            mine = slice(head * AGENTS, (head + 1) * AGENTS)
            of_agent = sigmoid(linear(importance, s, "agent")[mine])
            joint = np.concatenate([s, action.ravel()])
            gate += scale * of_agent * sigmoid(linear(importance, joint, "action")[mine])
        # The other way to write it: the value of the greedy joint action, and how much each agent lacks.
        expected[b] = np.sum(w * q_max) + np.sum(gate * w * (q - q_max))
        if mixer.state_bias:
            expected[b] += mlp(params["params"]["value"], s)[0]
    mixed = mix(mixer, params, inputs)
    np.testing.assert_allclose(mixed.q_tot, expected, rtol=1e-3, atol=1e-4)
    squares = np.square(logits).reshape(*mixed.q_tot.shape, 4, AGENTS)
    np.testing.assert_allclose(mixed.regulariser, squares.mean(-1).sum(-1), rtol=1e-3)


def test_central_mixer_is_its_formula() -> None:
    mixer = CentralMixer(6)
    params, inputs = make(mixer, batch=(5,))
    p = params["params"]
    joint = np.concatenate([inputs.state, inputs.q], axis=-1)
    expected = mlp(p["advantage"], joint) + mlp(p["value"], np.asarray(inputs.state))
    np.testing.assert_allclose(
        mix(mixer, params, inputs).q_tot, expected[:, 0], rtol=1e-4, atol=1e-5
    )
    assert [p["advantage"][f"Linear_{i}"]["Dense_0"]["kernel"].shape for i in range(4)] == [
        (STATE + AGENTS, 6),
        (6, 6),
        (6, 6),
        (6, 1),
    ]


def draw_qtran() -> tuple[QTRANJoint, Params, tuple[jax.Array, jax.Array, jax.Array]]:
    mixer, random = QTRANJoint(6), np.random.default_rng(0)
    inputs = draw_inputs(random, (2, 3))
    hidden = jnp.asarray(random.normal(size=(2, 3, AGENTS, 5)))
    arguments = (hidden, inputs.action, inputs.state)
    return mixer, draw_params(random, (), mixer, *arguments), arguments


def test_qtran_joint_is_its_formula() -> None:
    mixer, params, arguments = draw_qtran()
    joint = jax.jit(mixer.apply)(params, *arguments)
    p, (hidden, action, state) = jax.device_get((params["params"], arguments))
    for b in np.ndindex(2, 3):
        encoded = sum(
            mlp(p["encoder"], np.concatenate([hidden[b][i], action[b][i]])) for i in range(AGENTS)
        )
        s = np.asarray(state[b])
        q = mlp(p["q"], np.concatenate([s, encoded]))[0]
        np.testing.assert_allclose(joint.q[b], q, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(joint.v[b], mlp(p["v"], s)[0], rtol=1e-4, atol=1e-5)
    assert {name: len(p[name]) for name in ("encoder", "q", "v")} == {"encoder": 2, "q": 3, "v": 3}
    assert p["encoder"]["Linear_0"]["Dense_0"]["kernel"].shape == (5 + ACTIONS, 5 + ACTIONS)


def test_qtran_joint_sums_over_agents_and_trains_their_hidden_states() -> None:
    mixer, params, (hidden, action, state) = draw_qtran()
    order = jnp.array([2, 0, 1])
    joint = mixer.apply(params, hidden, action, state)
    shuffled = mixer.apply(params, hidden[:, :, order], action[:, :, order], state)
    np.testing.assert_allclose(joint.q, shuffled.q, rtol=1e-5, atol=1e-6)
    by_hidden = jax.grad(lambda h: jnp.sum(mixer.apply(params, h, action, state).q))(hidden)
    assert (jnp.abs(by_hidden).max(axis=-1) > 0).all()
    v_by_hidden = jax.grad(lambda h: jnp.sum(mixer.apply(params, h, action, state).v))(hidden)
    np.testing.assert_array_equal(v_by_hidden, np.zeros_like(hidden))


# --- what mixers promise ---


@pytest.mark.parametrize("mixer", ONE_OF_EACH)
def test_batch_entries_do_not_mix(mixer: nn.Module) -> None:
    params, inputs = make(mixer, batch=(2, 3))
    together = mix(mixer, params, inputs)
    assert together.q_tot.shape == (2, 3)
    assert together.regulariser.shape == (2, 3)
    credits = credits_of(mixer, params, inputs)
    assert credits.shape == (2, 3, AGENTS)
    for b in np.ndindex(2, 3):
        alone = jax.tree.map(lambda x, b=b: x[b], inputs)
        np.testing.assert_allclose(
            mix(mixer, params, alone).q_tot, together.q_tot[b], rtol=1e-4, atol=1e-5
        )
        one = credits_of(mixer, params, alone)
        np.testing.assert_allclose(one, credits[b], rtol=1e-4, atol=1e-5)


def many_credits(mixer: nn.Module) -> jax.Array:
    """Credits under 50 draws of the parameters at 20 points each."""
    random = np.random.default_rng(1)
    inputs = draw_inputs(random, (50, 20))
    one = jax.tree.map(lambda x: x[0], inputs)
    return jax.vmap(functools.partial(credits_of, mixer))(
        draw_params(random, (50,), mixer, one), inputs
    )


@pytest.mark.parametrize("mixer", MONOTONIC)
def test_monotonic_mixers_are(mixer: nn.Module) -> None:
    credits = many_credits(mixer)
    assert (credits >= 0).all()
    assert (credits > 0).mean() > 0.9  # a unit of QMIX that is far off has a slope of 0 in float32


def test_the_central_mixer_is_not_monotonic() -> None:
    credits = many_credits(CentralMixer(16))
    assert (credits < 0).any()
    assert (credits > 0).any()


def greedy_joint_actions(mixer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """The argmax of Q_tot over all joint actions, and each agent's own, in 50 random problems: [50, N] both."""
    random = np.random.default_rng(2)
    q = random.normal(0.0, 3.0, (50, AGENTS, ACTIONS))
    joint = np.array(list(itertools.product(range(ACTIONS), repeat=AGENTS)))
    inputs = MixerInputs(
        jnp.asarray(q[:, np.arange(AGENTS), joint]),
        jnp.asarray(np.repeat(q.max(axis=-1)[:, None], len(joint), axis=1)),
        jnp.asarray(np.repeat(np.eye(ACTIONS)[joint][None], 50, axis=0)),
        jnp.asarray(np.repeat(random.normal(size=(50, 1, STATE)), len(joint), axis=1)),
    )
    params = draw_params(random, (50,), mixer, jax.tree.map(lambda x: x[0], inputs))
    q_tot = jax.vmap(functools.partial(mix, mixer))(params, inputs).q_tot
    return joint[np.argmax(q_tot, axis=-1)], q.argmax(axis=-1)


@pytest.mark.parametrize("mixer", MONOTONIC)
def test_the_best_joint_action_is_each_agents_best(mixer: nn.Module) -> None:
    np.testing.assert_array_equal(*greedy_joint_actions(mixer))


def test_the_central_mixers_best_joint_action_may_be_another() -> None:
    best, own = greedy_joint_actions(CentralMixer(16))
    assert (best != own).any()


def attention_weights(mixer: QPLEX, params: Params, inputs: MixerInputs) -> np.ndarray:
    """Differences of Q_tot where q and q_max move together: the advantage stays, Q_tot moves by w."""
    base = mix(mixer, params, inputs).q_tot
    columns = []
    for agent in range(AGENTS):
        moved = inputs._replace(
            q=inputs.q.at[..., agent].add(1.0), q_max=inputs.q_max.at[..., agent].add(1.0)
        )
        columns.append(mix(mixer, params, moved).q_tot - base)
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("mixer", [m for m in MONOTONIC if isinstance(m, QPLEX)])
def test_qplex_credits_are_its_attention(mixer: QPLEX) -> None:
    params, inputs = make(mixer, batch=(7,))
    credits = credits_of(mixer, params, inputs)
    np.testing.assert_allclose(
        credits, attention_weights(mixer, params, inputs), rtol=1e-3, atol=1e-4
    )
    if not mixer.weighted_head:
        np.testing.assert_allclose(credits.sum(axis=-1), 4.0, rtol=1e-5)


def test_qplex_advantage_is_a_constant() -> None:
    mixer = QPLEX(unit_dim=UNIT)
    params, inputs = make(mixer, batch=(7,))

    def total(params: Params, q_max: jax.Array) -> jax.Array:
        return jnp.sum(mixer.apply(params, inputs._replace(q_max=q_max)).q_tot)

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    by_params, by_max = gradient(params, inputs.q_max)
    np.testing.assert_array_equal(by_max, np.zeros_like(inputs.q_max))
    # The attention learns from sum w q alone, whatever q_max is; lambda learns from the advantage.
    by_other, _ = gradient(params, inputs.q_max + 1.0)
    for name, same in (("_Attention_0", True), ("_Importance_0", False)):
        pairs = zip(
            jax.tree.leaves(by_params["params"][name]),
            jax.tree.leaves(by_other["params"][name]),
            strict=True,
        )
        for x, y in pairs:
            assert jnp.abs(x).max() > 0
            assert bool((x == y).all()) == same


def test_qplex_with_the_whole_state_per_agent_needs_an_index_to_tell_agents_apart() -> None:
    uniform, indexed = QPLEX(), QPLEX(agent_index=True)
    params, inputs = make(uniform, batch=(7,))
    credits = credits_of(uniform, params, inputs)
    np.testing.assert_allclose(credits, np.full((7, AGENTS), 4 / AGENTS), rtol=1e-5)
    params, inputs = make(indexed, batch=(7,))
    credits = credits_of(indexed, params, inputs)
    assert (credits.max(axis=-1) - credits.min(axis=-1) > 1e-3).all()


def test_qplex_refuses_blocks_that_the_state_does_not_have() -> None:
    with pytest.raises(ValueError, match="needs 9 state features, there are 7"):
        make(QPLEX(unit_dim=3))


def test_permuted_agents() -> None:
    order = jnp.array([2, 0, 1])
    params, inputs = make(QMIX_2, batch=(5,))
    shuffled = permute_agents(inputs, order)
    for b in range(5):
        for place, agent in enumerate([2, 0, 1]):
            np.testing.assert_array_equal(shuffled.q[b, place], inputs.q[b, agent])
            np.testing.assert_array_equal(shuffled.q_max[b, place], inputs.q_max[b, agent])
            np.testing.assert_array_equal(shuffled.action[b, place], inputs.action[b, agent])
    np.testing.assert_array_equal(shuffled.state, inputs.state)
    # VDN does not mind, QMIX does; credits through the shuffle are still those of the agents.
    np.testing.assert_allclose(
        VDN().apply({}, shuffled).q_tot, VDN().apply({}, inputs).q_tot, rtol=1e-5, atol=1e-5
    )
    mixer = bind(QMIX_2, params)
    assert (jnp.abs(mixer(shuffled).q_tot - mixer(inputs).q_tot) > 1e-4).any()
    direct = temporal_credits(mixer, shuffled)
    through = temporal_credits(lambda x: mixer(permute_agents(x, order)), inputs)
    np.testing.assert_allclose(through[:, order], direct, rtol=1e-5)


# --- credits ---


@pytest.mark.parametrize("mixer", [QMIX_1, QMIX_2, CentralMixer(16)])
def test_credits_are_the_derivative(mixer: nn.Module) -> None:
    with jax.enable_x64(True):
        params, inputs = make(mixer, batch=(6,))
        assert inputs.q.dtype == jnp.float64
        credits = credits_of(mixer, params, inputs)
        for agent in range(AGENTS):
            step = 1e-6 * jnp.eye(AGENTS)[agent]
            up = mix(mixer, params, inputs._replace(q=inputs.q + step)).q_tot
            down = mix(mixer, params, inputs._replace(q=inputs.q - step)).q_tot
            np.testing.assert_allclose(credits[:, agent], (up - down) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mixer", [QMIX_2, MONOTONIC[4], CentralMixer(16)])
def test_a_loss_on_credits_trains_the_mixer(mixer: nn.Module) -> None:
    with jax.enable_x64(True):
        params, inputs = make(mixer, batch=(6,))
        target = jax.random.normal(jax.random.key(5), inputs.q.shape)

        def loss(params: Params) -> jax.Array:
            return jnp.sum((credits_of(mixer, params, inputs) - target) ** 2)

        flat, unravel = ravel_pytree(params)
        flat_loss = jax.jit(lambda x: loss(unravel(x)))
        direction = np.random.default_rng(3).normal(size=flat.shape)
        step = 1e-6 * direction
        expected = (flat_loss(flat + step) - flat_loss(flat - step)) / 2e-6
        slope = jnp.sum(jax.jit(jax.grad(flat_loss))(flat) * direction)
        np.testing.assert_allclose(slope, expected, rtol=1e-5)
        assert abs(expected) > 1e-3


@pytest.mark.parametrize("kind", ["exact", "authors"])
def test_a_loss_on_credits_does_not_train_the_agents(kind: str) -> None:
    mixer = QMIX(embed_size=8)
    params, inputs = make(mixer, batch=(6,))

    def loss(q: jax.Array, q_max: jax.Array, params: Params) -> jax.Array:
        here = inputs._replace(q=q, q_max=q_max)
        credits = {"exact": credits_of, "authors": authors_credits_of}[kind]
        return jnp.sum(credits(mixer, params, here) ** 2)

    by_q, by_max, by_params = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(
        inputs.q, inputs.q_max, params
    )
    np.testing.assert_array_equal(by_q, np.zeros_like(inputs.q))
    np.testing.assert_array_equal(by_max, np.zeros_like(inputs.q))
    largest = {
        name: max(jnp.abs(x).max() for x in jax.tree.leaves(p))
        for name, p in by_params["params"].items()
    }
    assert {name for name, x in largest.items() if x > 0} == {"kernel1", "bias1", "kernel2"}
    # Q_tot itself does train them.
    by_q = jax.grad(lambda q: mix(mixer, params, inputs._replace(q=q)).q_tot.sum())(inputs.q)
    assert by_q.max() > 0.1


@pytest.mark.slow
def test_the_authors_credits_have_a_finite_gradient_where_units_are_far_on() -> None:
    mixer = QMIX(embed_size=8)
    params, inputs = make(mixer, batch=(6,))
    far = inputs._replace(q=jnp.full_like(inputs.q, 1e4))
    gradient = jax.grad(lambda p: mixer.apply(p, far, method="authors_credits").sum())(params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


# --- initial values ---


def test_sizes_are_the_papers() -> None:
    _, inputs = make(VDN(), batch=(2,))
    shapes = jax.eval_shape(QMIX().init, jax.random.key(0), inputs)["params"]
    kernels = [(64, 96), (64, 32), (STATE, 32), (STATE, 64), (STATE, 64), (STATE, 32), (32, 1)]
    assert sorted(x.shape for x in jax.tree.leaves(shapes) if x.ndim == 2) == sorted(kernels)
    old = jax.eval_shape(QMIX(hypernet_layers=1).init, jax.random.key(0), inputs)["params"]
    kernels = [(STATE, 96), (STATE, 32), (STATE, 32), (STATE, 32), (32, 1)]
    assert sorted(x.shape for x in jax.tree.leaves(old) if x.ndim == 2) == sorted(kernels)
    qplex = jax.eval_shape(QPLEX(unit_dim=UNIT).init, jax.random.key(0), inputs)["params"]
    assert qplex["_Attention_0"]["query"]["Linear_1"]["Dense_0"]["kernel"].shape == (4, 64, 32)
    assert "bias" not in qplex["_Attention_0"]["query"]["Linear_1"]["Dense_0"]
    assert "bias" not in qplex["_Attention_0"]["key"]["Dense_0"]
    assert qplex["_Attention_0"]["key"]["Dense_0"]["kernel"].shape == (UNIT, 128)


@pytest.mark.slow
def test_the_heads_of_the_attention_are_drawn_separately_as_pytorch_does() -> None:
    inputs = MixerInputs(jnp.zeros((2,)), jnp.zeros((2,)), jnp.zeros((2, 3)), jnp.zeros((100,)))
    params = jax.jit(QPLEX().init)(jax.random.key(0), inputs)["params"]
    query = params["_Attention_0"]["query"]["Linear_0"]["Dense_0"]
    for leaf in (query["kernel"], query["bias"]):
        assert 0.085 < jnp.abs(leaf).max() <= 0.1
        for one, other in itertools.combinations(leaf, 2):
            assert jnp.abs(one - other).max() > 1e-2
