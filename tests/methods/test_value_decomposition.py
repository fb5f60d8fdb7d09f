"""The value-decomposition family: what it learns, what its mixers can and cannot represent, and its schedules."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.base import Sizes
from marl_jax.methods.q_learner import ValueConfig, VDNMethod
from marl_jax.methods.team import ReplayRates
from marl_jax.training import RunState, Trainer, TrainingConfig
from tests.methods.learners import chunk_returns, drawn_state, make_batch
from tests.probes import (
    AGENTS,
    LIMIT,
    Context,
    Delayed,
    Masked,
    Probe,
    Roles,
    Steady,
    SteadyThenOver,
)

SOLVER: dict[str, Any] = {
    "num_envs": 16,
    "update_interval": 4 * LIMIT,
    "batch_size": 32,
    "replay_capacity": 512 * LIMIT,
    "agent": "mlp",
    "hidden_size": 16,
    "optimizer": "adam",
    "lr": 0.003,
    "target_update_interval": 64,
    "epsilon_anneal_steps": 4000,
    "gamma": 0.9,
}
SMALL_MIXER = {"mixer_embed": 16, "hypernet_size": 16}


def make(name: str, env: Any, **options: Any) -> Any:
    small = {} if name in ("iql", "qtran", "vdn") else SMALL_MIXER
    return methods.make(name, env, **{**SOLVER, **small, **options})


@functools.lru_cache(maxsize=4)
def train(
    name: str, env: type[Probe], iterations: int, options: tuple[tuple[str, Any], ...] = ()
) -> tuple[Trainer, RunState, np.ndarray]:
    """Trains 2 seeds; returns the trainer, their state and their mean greedy returns."""
    world = env()
    method = make(name, world, **dict(options))
    interval = iterations * method.num_envs * world.time_limit
    config = TrainingConfig(total_steps=interval, eval_interval=interval, eval_episodes=64)
    trainer = Trainer(world, method, config, num_seeds=2)
    state, metrics = trainer.train_chunk(trainer.init(), trainer.everyone)
    return trainer, state, chunk_returns(trainer, state, metrics)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("maven@qplex", (("information_weight", 0.01),)),
        ("gre@qplex", ()),
        ("eiti@qmix", (("table_bits", 10), ("joint_table_bits", 11))),
    ],
)
def test_new_pairs_solve(name: str, options: tuple[tuple[str, Any], ...]) -> None:
    """Roles: agents that differ."""
    assert (train(name, Roles, 250, options)[2] > 0.95).all()


# The others show it on the games below.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["iql", "qplex"])
def test_what_is_seen_is_used(name: str) -> None:
    assert (train(name, Context, 150)[2] > 0.95).all()


@pytest.mark.slow
def test_credit_over_time() -> None:
    # One-step targets carry the first action's worth back only if every step's sight tells it: memory.
    assert (train("qmix", Delayed, 250, (("agent", "gru"),))[2] > 0.95).all()


@pytest.mark.slow
def test_agents_that_differ() -> None:
    # Blind to who they are, no two can do it: `tests/methods/test_probes.py`.
    assert (train("qmix", Roles, 300)[2] > 0.95).all()


@pytest.mark.slow
def test_unavailable_actions_are_left_alone() -> None:
    # One unavailable action would make the mean negative.
    assert (train("qmix", Masked, 150)[2] > 0.95).all()


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        # Truncated: V = 1 + V / 2 at every step.
        pytest.param(Steady, 2.0, marks=pytest.mark.slow),
        # Terminated after step 4; a sight that is always the same: V = (3 (1 + V / 2) + 1) / 4.
        (SteadyThenOver, 1.6),
    ],
)
def test_values_at_the_time_limit(env: type[Probe], expected: float) -> None:
    options = (("gamma", 0.5), ("lr", 0.003), ("observe_last_action", False))
    trainer, state, _ = train("iql", env, 400, options)
    observation = env().reset(jax.random.key(0))[1].observation
    batch = jax.tree.map(lambda x: x[None], observation)
    agent = trainer.method.agent  # type: ignore[attr-defined]

    def value(params: Any) -> jax.Array:
        x = trainer.method.agent_inputs(  # type: ignore[attr-defined]
            batch.agents_view, jnp.zeros((1, AGENTS, trainer.env.num_actions))
        )
        return agent.step(params["agent"], agent.initial_memory(1), x)[1][0, :, 0]

    found = jax.vmap(value)(state.method.params)
    np.testing.assert_allclose(found, expected, atol=0.1)


class Matrix(Probe):
    """One step, three actions each: 8 for both first actions, -20 if only one plays it, else 0.

    No monotonic mixer can represent it. Its best fit to uniform play holds the first action worst: pooling
    the 8 with the four -20 costs 627 in squares; holding it best, which pools -20 and 0, costs 800.
    (With the -12 of the literature the order is the other way round: 320 and 288, and QMIX may find 8.)
    """

    PENALTY: ClassVar[float] = -20.0

    def _shown(self, state: Any) -> jax.Array:
        return jnp.zeros((AGENTS,), jnp.int32)

    def _outcome(self, state: Any, action: jax.Array) -> tuple[Any, Any, Any]:
        first = action == 0
        reward = jnp.where(jnp.all(first), 8.0, jnp.where(jnp.any(first), self.PENALTY, 0.0))
        return state.memory, reward, True

    def scripted_action(self, state: Any) -> jax.Array:
        """The optimum."""
        return jnp.zeros((AGENTS,), jnp.int32)


class ClassicMatrix(Matrix):
    """The literature's penalty."""

    PENALTY = -12.0


EXPLORE = (("epsilon_finish", 1.0), ("gamma", 0.99))
CENTRAL = (("central_hidden", 32),)
# QPLEX brings the first action level with the others and must then tell the joint actions apart by the factors
# lambda alone, which have to grow like 1 / (the difference that is left): many terms, large steps.
DUELLING = (("agent_index", True), ("num_kernels", 64), ("lr", 0.01))


@pytest.mark.parametrize(
    ("name", "world", "options", "expected"),
    [
        pytest.param("vdn", ClassicMatrix, (), 0.0, marks=pytest.mark.slow),
        pytest.param("qmix", Matrix, (), 0.0, marks=pytest.mark.slow),
        pytest.param("qtran", ClassicMatrix, (), 8.0, marks=pytest.mark.slow),
        pytest.param("ow_qmix", ClassicMatrix, CENTRAL, 8.0, marks=pytest.mark.slow),
        pytest.param("cw_qmix", ClassicMatrix, CENTRAL, 8.0, marks=pytest.mark.slow),
        pytest.param("qplex", ClassicMatrix, DUELLING, 8.0, marks=pytest.mark.slow),
    ],
)
def test_monotonic_mixers_settle_for_the_safe_action_and_the_others_find_the_best(
    name: str, world: type[Probe], options: tuple[tuple[str, Any], ...], expected: float
) -> None:
    np.testing.assert_array_equal(train(name, world, 400, EXPLORE + options)[2], expected)


class TwoSteps(Probe):
    """The two-step game of QMIX's paper: agent 0's first action chooses between two matrices.

    The one pays 7 always; the other 0, 1, 1 or 8 for the joint actions of two actions each.
    """

    def _draw_memory(self, key: jax.Array) -> jax.Array:
        return jnp.zeros((AGENTS,), jnp.int32)

    def _shown(self, state: Any) -> jax.Array:
        return state.memory

    def _mask(self, state: Any) -> jax.Array:
        return jnp.broadcast_to(jnp.arange(3) < 2, (AGENTS, 3))

    def _outcome(self, state: Any, action: jax.Array) -> tuple[Any, Any, Any]:
        last = state.step_count == 1
        number = jnp.sum(action == 1)
        second = jnp.where(state.memory[0] == 1, 7.0, jnp.array([0.0, 1.0, 8.0])[number])
        chosen = jnp.broadcast_to(1 + action[0], (AGENTS,))
        return jnp.where(last, state.memory, chosen), jnp.where(last, second, 0.0), last

    def scripted_action(self, state: Any) -> jax.Array:
        """The optimum."""
        return jnp.ones((AGENTS,), jnp.int32)


@pytest.mark.parametrize(("name", "expected"), [("vdn", 7.0), ("qmix", 8.0)])
@pytest.mark.slow
def test_the_two_step_game(name: str, expected: float) -> None:
    np.testing.assert_array_equal(train(name, TwoSteps, 400, EXPLORE)[2], expected)


# --- Schedules ---


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Counts what an update does to a tiny QMIX learner."""

    options: dict[str, Any]
    world: ClassVar[Probe] = Context()

    def run(self, iterations: int) -> list[Any]:
        """The learner's states, the first included."""
        method = make("qmix", self.world, **self.options)
        interval = method.num_envs * self.world.time_limit
        trainer = Trainer(self.world, method, TrainingConfig(interval, interval, 1), 1)
        state, states = trainer.init(), []
        for _ in range(iterations):
            states.append(jax.device_get(state.method))
            state, _ = trainer.train_chunk(state, trainer.everyone)
        return [*states, jax.device_get(state.method)]


def count(state: Any) -> int:
    """Gradient steps that Adam has counted."""
    counts = [x for x in jax.tree.leaves(state.optimizer) if x.dtype == np.int32]
    assert len({int(c[0]) for c in counts}) == 1
    return int(counts[0][0])


def same(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(x, y)
        for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@pytest.mark.slow
def test_gradient_steps_are_as_many_as_the_interval_says() -> None:
    options = {"num_envs": 4, "update_interval": 2 * LIMIT, "batch_size": 6}
    states = Frozen(options).run(4)
    # 4, 8, 12, 16 episodes: none before there are 6, then two for each 4.
    assert [count(state) for state in states] == [0, 0, 2, 4, 6]
    assert same(states[0].params, states[1].params)
    assert not same(states[1].params, states[2].params)
    assert [int(state.episodes[0]) for state in states] == [0, 4, 8, 12, 16]


@pytest.mark.slow
def test_targets_are_copied_every_so_many_episodes() -> None:
    options = {"num_envs": 4, "update_interval": 4 * LIMIT, "batch_size": 4}
    states = Frozen({**options, "target_update_interval": 8}).run(4)
    for before, after, copied in zip(states, states[1:], [0, 1, 0, 1], strict=False):
        assert same(after.target, after.params) == bool(copied)
        assert same(after.target, before.target) != bool(copied)


@pytest.mark.slow
def test_targets_by_hand() -> None:
    """TD(lambda) of scaled rewards; what is paid on top of them is not scaled."""
    method = make("vdn", Delayed(), gamma=0.5, td_lambda=0.5, reward_scale=10.0)
    reward = jnp.broadcast_to(jnp.array([0.1, 0.15, 0.3])[:, None, None], (3, 1, AGENTS))
    discount = jnp.broadcast_to(jnp.array([1.0, 1.0, 0.0])[:, None, None], (3, 1, AGENTS))
    batch = make_batch([3], [True], steps=3)._replace(reward=reward, discount=discount)
    bonus = jnp.array([0.0, 0.5, 0.0])[:, None]
    next_q = jnp.array([4.0, 8.0, 100.0])[:, None]
    # G_2 = 3; G_1 = 1.5 + 0.5 + 1/2 (1/2 8 + 1/2 3) = 4.75; G_0 = 1 + 1/2 (1/2 4 + 1/2 4.75) = 3.1875
    targets = method.targets(batch, next_q, bonus)
    np.testing.assert_allclose(targets[:, 0], [3.1875, 4.75, 3.0], rtol=1e-6)
    one_step = make("vdn", Delayed(), gamma=0.5).targets(batch, next_q, bonus)
    np.testing.assert_allclose(one_step[:, 0], [2.1, 4.65, 0.3], rtol=1e-6)


def test_independent_learners_have_the_same_targets() -> None:
    """Where all are paid the same: their loss with lambda and a scale is that of the returns worked out beside it."""
    method = make("iql", Delayed(), gamma=0.5, td_lambda=0.5, reward_scale=10.0)
    state, batch = drawn_state(method, 0), make_batch()
    loss, _ = method.loss(state.params, state, batch, jax.random.key(0))
    values = method.values(state.params, state.target, batch, jax.random.key(0))
    q = np.take_along_axis(np.asarray(values.online[:-1]), np.asarray(batch.action)[..., None], -1)
    chosen = np.asarray(values.chosen[1:])[..., None]
    ahead = np.take_along_axis(np.asarray(values.target[1:]), chosen, -1)[..., 0]
    reward, discount = 10.0 * np.asarray(batch.reward), 0.5 * np.asarray(batch.discount)
    expected, follows = np.zeros_like(reward), ahead[-1]
    for t in reversed(range(len(reward))):
        follows = reward[t] + discount[t] * (0.5 * ahead[t] + 0.5 * follows)
        expected[t] = follows
    error = (q[..., 0] - expected)[np.asarray(batch.valid)]
    np.testing.assert_allclose(loss, np.mean(error**2), rtol=1e-4)


@pytest.mark.slow
def test_soft_targets_move_a_little() -> None:
    options = {"num_envs": 4, "update_interval": 4 * LIMIT, "batch_size": 4}
    before, after = Frozen({**options, "target_update": "soft", "target_update_rate": 0.25}).run(1)
    jax.tree.map(
        lambda old, new, found: np.testing.assert_allclose(
            found, 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-7
        ),
        before.target,
        after.params,
        after.target,
    )


@pytest.mark.slow
def test_exploration_is_uniform_over_legal_actions_at_first_and_greedy_in_evaluation() -> None:
    world = Masked()
    method = make("vdn", world)
    state = method.init(jax.random.key(0))
    _, timestep = world.reset(jax.random.key(1))
    rows = jax.tree.map(lambda x: jnp.repeat(x[None], 3000, axis=0), timestep.observation)
    memory = method.initial_memory(state, 3000, jax.random.key(2))
    _, action, _ = jax.jit(method.act, static_argnums=4)(
        state, memory, rows, jax.random.key(3), True
    )
    for agent in range(AGENTS):
        counts = np.bincount(np.asarray(action)[:, agent], minlength=3)
        legal = np.asarray(timestep.observation.action_mask[agent])
        assert (counts[~legal] == 0).all()
        # Two legal actions: the standard deviation is 27.
        assert (abs(counts[legal] - 1500) < 110).all()
    _, greedy, _ = method.act(state, memory, rows, jax.random.key(3), False)
    assert (greedy == greedy[0]).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # One episode of 100 steps is what a gradient step takes, and 5,000 of them are kept.
        ({"num_envs": 1}, ReplayRates(1, 1, 1, 5000)),
        ({"num_envs": 8, "update_interval": 400}, ReplayRates(8, 8, 2, 5000)),
        # 150 / 100 is rounded to 2, 140 / 100 to 1.
        ({"update_interval": 100, "time_limit": 150}, ReplayRates(1, 1, 2, 3333)),
        ({"update_interval": 100, "time_limit": 140}, ReplayRates(1, 1, 1, 3571)),
        # Seven episodes of 16 steps are the fewest that reach 100.
        ({"time_limit": 16}, ReplayRates(7, 7, 1, 31_250)),
        ({"num_envs": 4, "time_limit": 300, "replay_capacity": 10_000}, ReplayRates(4, 4, 12, 33)),
    ],
)
def test_rates_in_environment_steps(options: dict[str, Any], expected: ReplayRates) -> None:
    config = {"agent": "mlp", **options}
    sizes = Sizes(AGENTS, 3, 4, 8, config.pop("time_limit", 100))
    assert VDNMethod(ValueConfig(**config), sizes).rates == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"replay_capacity": 3199},
            "replay_capacity is 3199; it must be at least 3200 environment steps here, 32 episodes of 100, for "
            "batch_size.",
        ),
        (
            {"num_envs": 40, "replay_capacity": 3200},
            "replay_capacity is 3200; it must be at least 4000 environment steps here, 40 episodes of 100, for an "
            "iteration.",
        ),
    ],
)
def test_a_replay_too_small_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        VDNMethod(ValueConfig(**options), Sizes(AGENTS, 3, 4, 8, 100))
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"update_interval": 0}, "update_interval is 0; it must be at least 1."),
        (
            {"agent": "mlp", "head_sizes": (80, 25)},
            "head_sizes is (80, 25); it must be empty unless agent is 'gru'.",
        ),
        ({"head_sizes": (0,)}, "head_sizes is 0; it must be at least 1."),
        ({"target_update": "slow"}, "target_update is 'slow'; it must be one of: hard, soft."),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0."),
    ],
)
def test_refused_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        methods.recipe("qmix").Config(**options)
    assert str(caught.value) == sentence


def test_sizes_of_the_networks() -> None:
    method = make("qmix", Context())
    assert Sizes.of(Context()) == method.sizes
    params = method.init(jax.random.key(0)).params
    assert set(params) == {"agent", "mixer"}
    assert set(make("iql", Context()).init(jax.random.key(0)).params) == {"agent"}
