"""Agent networks: unrolling, sharing, initial values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax.networks import MLP, GRUAgent, Linear, MLPAgent, Params, Sharing, TeamAgent

STEPS, ENVS, AGENTS, INPUTS, HIDDEN, OUTPUTS = 4, 3, 2, 5, 6, 7
NETWORKS = [GRUAgent(OUTPUTS, HIDDEN), MLPAgent(OUTPUTS, HIDDEN)]
LARGE = GRUAgent(OUTPUTS, HIDDEN, (4, 3))
SHARING: list[Sharing] = ["shared", "independent"]


def make(network: GRUAgent | MLPAgent, sharing: Sharing) -> tuple[TeamAgent, Params, jax.Array]:
    team = TeamAgent(network, AGENTS, sharing)
    init_key, x_key = jax.random.split(jax.random.key(0))
    xs = jax.random.normal(x_key, (STEPS, ENVS, AGENTS, INPUTS))
    return team, team.init(init_key, INPUTS), xs


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("network", [*NETWORKS, pytest.param(LARGE, marks=pytest.mark.slow)])
def test_unroll_equals_step_by_step(network: GRUAgent | MLPAgent, sharing: Sharing) -> None:
    team, params, xs = make(network, sharing)
    hidden, together = jax.jit(team.unroll)(params, xs)
    assert together.shape == (STEPS, ENVS, AGENTS, OUTPUTS)
    memory = team.initial_memory(ENVS)
    assert memory.shape == (ENVS, AGENTS, network.memory_size)
    step = jax.jit(team.step)
    for x, features, expected in zip(xs, hidden, together, strict=True):
        memory, out = step(params, memory, x)
        if memory.size:
            np.testing.assert_allclose(memory, features, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_independent_agents_are_separate_networks(network: GRUAgent | MLPAgent) -> None:
    team, params, xs = make(network, "independent")
    unroll = jax.jit(lambda params, xs: team.unroll(params, xs)[1])
    before = unroll(params, xs)
    for agent in range(AGENTS):
        changed = jax.tree.map(lambda x, i=agent: x.at[i].multiply(1.5), params)
        difference = jnp.max(jnp.abs(unroll(changed, xs) - before), axis=(0, 1, 3))
        assert difference[agent] > 1e-3
        assert difference[1 - agent] == 0.0
        # Each is the network of one agent with its own slice of the parameters.
        own = jax.tree.map(lambda x, i=agent: x[i], params)
        memory = jnp.zeros((ENVS, network.memory_size))
        _, alone = network.apply(own, memory, xs[:, :, agent], method="unroll")
        np.testing.assert_allclose(before[:, :, agent], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_shared_agents_are_one_network(network: GRUAgent | MLPAgent) -> None:
    team, params, xs = make(network, "shared")
    same = jnp.broadcast_to(xs[:, :, :1], xs.shape)
    _, out = team.unroll(params, same)
    np.testing.assert_allclose(out[:, :, 0], out[:, :, 1], rtol=1e-6)
    assert jnp.max(jnp.abs(team.unroll(params, xs)[1][:, :, 0] - out[:, :, 0])) < 1e-6


def test_independent_agents_are_drawn_differently() -> None:
    _, params, _ = make(NETWORKS[0], "independent")
    for leaf in jax.tree.leaves(params):
        assert leaf.shape[0] == AGENTS
        assert jnp.min(jnp.abs(leaf[0] - leaf[1])) > 0


def test_gru_agent_remembers_and_mlp_agent_does_not() -> None:
    for network, remembers in zip(NETWORKS, (True, False), strict=True):
        team, params, xs = make(network, "shared")
        other = xs.at[0].add(1.0)
        late = team.unroll(params, xs)[1][-1] - team.unroll(params, other)[1][-1]
        assert bool(jnp.any(late != 0)) == remembers


def test_a_larger_head_has_its_layers_behind_the_gru() -> None:
    params = LARGE.init(jax.random.key(0), jnp.zeros((HIDDEN,)), jnp.zeros((INPUTS,)))
    head = params["params"]["head"]
    shapes = [head[f"Linear_{i}"]["Dense_0"]["kernel"].shape for i in range(3)]
    assert shapes == [(HIDDEN, 4), (4, 3), (3, OUTPUTS)]
    hidden, out = LARGE.apply(params, jnp.ones((HIDDEN,)), jnp.ones((INPUTS,)))
    for i in range(3):
        layer = head[f"Linear_{i}"]["Dense_0"]
        hidden = (jnp.maximum(hidden, 0.0) if i else hidden) @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(out, hidden, rtol=1e-5, atol=1e-6)


def test_environments_and_later_inputs_do_not_mix() -> None:
    team, params, xs = make(NETWORKS[0], "shared")
    changed = team.unroll(params, xs.at[2, 1, 0].add(1.0))[1]
    difference = changed - team.unroll(params, xs)[1]
    changed = jnp.any(jnp.abs(difference) > 1e-6, axis=-1)
    expected = np.zeros((STEPS, ENVS, AGENTS), bool)
    expected[2:, 1, 0] = True
    np.testing.assert_array_equal(changed, expected)


def test_gru_cell_by_hand() -> None:
    # PyTorch's GRU: r = s(Wr x + Ur h), z = s(Wz x + Uz h), n = tanh(W x + r (U h)), h' = (1 - z) n + z h.
    # With one unit, embedding 1, all weights 1/2, biases 0, h = 0.4:
    # r = z = s(0.7) = 0.668188, n = tanh(0.5 + 0.668188 0.2) = 0.560552, h' = 0.453273
    network = GRUAgent(1, 1)
    params = network.init(jax.random.key(0), jnp.zeros((1,)), jnp.zeros((1,)))
    params = jax.tree.map(lambda x: jnp.full_like(x, 0.5 if x.ndim == 2 else 0.0), params)
    memory, out = network.apply(params, jnp.array([0.4]), jnp.array([2.0]))
    np.testing.assert_allclose(memory, [0.453273], rtol=1e-5)
    np.testing.assert_allclose(out, [0.453273 / 2], rtol=1e-5)


def uniform_within(x: jax.Array, bound: float) -> bool:
    """Whether many numbers look uniform on +-bound."""
    largest, deviation = float(jnp.max(jnp.abs(x))), float(jnp.std(x))
    return 0.9 * bound < largest <= bound and abs(deviation * 3**0.5 / bound - 1) < 0.1


@pytest.mark.parametrize("sharing", ["shared", pytest.param("independent", marks=pytest.mark.slow)])
def test_initial_values_are_pytorchs(sharing: Sharing) -> None:
    team = TeamAgent(GRUAgent(64, 64), AGENTS, sharing)
    params = team.init(jax.random.key(0), 100)["params"]
    leaves = {jax.tree_util.keystr(path): x for path, x in jax.tree.leaves_with_path(params)}
    for name, leaf in leaves.items():
        bound = 1 / 10 if "embed" in name else 1 / 8
        assert uniform_within(leaf, bound), name


@pytest.mark.parametrize("network_class", [GRUAgent, MLPAgent])
def test_orthogonal_initial_values(network_class: type[GRUAgent] | type[MLPAgent]) -> None:
    network = network_class(3, 8, initialization="orthogonal", output_gain=0.01)
    memory = jnp.zeros((network.memory_size,))
    params = network.init(jax.random.key(0), memory, jnp.zeros((8,)))["params"]
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        if "bias" in name:
            assert (leaf == 0).all(), name
            continue
        gain = 1.0 if "cell" in name else 0.01 if "head" in name else 2**0.5
        for matrix in jnp.split(leaf, 3, axis=-1) if "cell" in name else [leaf]:
            unit = matrix / gain
            np.testing.assert_allclose(unit.T @ unit, np.eye(unit.shape[1]), atol=1e-5)


def test_layers() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 3, 5))
    linear = Linear(4)
    params = linear.init(jax.random.key(1), x)
    dense = params["params"]["Dense_0"]
    expected = np.einsum("abi,io->abo", x, dense["kernel"]) + dense["bias"]
    np.testing.assert_allclose(linear.apply(params, x), expected, rtol=1e-5, atol=1e-6)

    for activate_last in (False, True):
        mlp = MLP((6, 8), activate_last=activate_last)
        params = mlp.init(jax.random.key(1), x)
        first, second = (params["params"][f"Linear_{i}"]["Dense_0"] for i in range(2))
        hidden = np.maximum(x @ first["kernel"] + first["bias"], 0.0)
        expected = hidden @ second["kernel"] + second["bias"]
        if activate_last:
            expected = np.maximum(expected, 0.0)
        assert (expected < 0).any() != activate_last
        np.testing.assert_allclose(mlp.apply(params, x), expected, rtol=1e-5, atol=1e-6)
