"""MADDPG and DDPG: targets and gradients worked out a second time, what critics see, and worlds they must solve."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.base import Observation
from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.base import Sizes
from marl_jax.methods.off_policy import OffPolicyState
from marl_jax.replay import EpisodeReplay
from tests.methods.learners import SIZES, drawn_state, fast_jit, greedy_returns, make_batch
from tests.probes import ACTIONS, AGENTS, FEATURES, LIMIT, Aim, Masked, Probe, Roles, TakeOrWait

SMALL: dict[str, Any] = {
    "hidden_size": 6,
    "num_envs": 4,
    "update_interval": 4 * LIMIT,
    "batch_size": 5,
    "replay_capacity": 5000 * LIMIT,
    "gamma": 0.9,
}
KEY = jax.random.key(3)


def make(name: str = "maddpg", sizes: Sizes = SIZES, **options: Any) -> Any:
    cls: Any = methods.recipe(name)
    return cls(cls.Config.from_mapping({**SMALL, **options}, name), sizes)


@functools.cache
def initial(twins: bool = False) -> OffPolicyState:
    """A learner whose targets lag behind."""
    state: OffPolicyState = drawn_state(make(twin_critics=twins), 0)
    return state


@functools.cache
def stored() -> Any:
    """A replay of episodes, some of which end early, with relaxed actions whose largest component was played."""
    episodes = make_batch(lengths=(4, 2, 3), terminated=(False, True, True))
    scores = np.random.default_rng(4).random((*episodes.action.shape, ACTIONS)) / 2
    relaxed = scores + np.eye(ACTIONS)[np.asarray(episodes.action)]
    relaxed /= relaxed.sum(-1, keepdims=True)
    episodes = episodes._replace(extras=jnp.asarray(relaxed))
    replay = EpisodeReplay(3, LIMIT)
    return replay.add(replay.init(episodes), episodes)


def transitions() -> Any:
    """Single steps, some of which end their episode."""
    return EpisodeReplay(3, LIMIT).sample_transitions(stored(), KEY, 5)


@pytest.mark.parametrize(
    ("twins", "relaxation"),
    [
        pytest.param(False, "soft", marks=pytest.mark.slow),
        (True, "straight_through"),
        pytest.param(False, "straight_through", marks=pytest.mark.slow),
        pytest.param(True, "soft", marks=pytest.mark.slow),
    ],
)
def test_the_critics_loss_row_by_row(twins: bool, relaxation: str) -> None:
    method, state = make(twin_critics=twins, relaxation=relaxation), initial(twins)
    steps = transitions()
    batch = fast_jit(method._transitions)(state, steps, KEY)
    loss, _ = fast_jit(method._critic_loss)(state.params["critic"], batch)

    outputs = method._outputs(state.target["actor"], steps.observation[1])
    ahead = method._decide(outputs, steps.action_mask[1], jax.random.split(KEY)[0])
    assert float(jnp.where(steps.action_mask[1], 0.0, ahead).max()) < 1e-6
    one_hot = np.eye(ACTIONS)[np.asarray(steps.action[0])]
    taken = np.asarray(steps.extras[0]) if relaxation == "soft" else one_hot
    np.testing.assert_allclose(batch.vectors, taken, rtol=1e-6)

    def value(critic: Any, agent: int, b: int, when: int, vectors: Any) -> np.ndarray:
        own = jax.tree.map(lambda x: x[agent], critic)
        seen = [
            jnp.concatenate([steps.observation[when, b, j], vectors[b, j]]) for j in range(AGENTS)
        ]
        return np.asarray(method._critic_network.apply(own, jnp.concatenate(seen)))

    assert 0 < int((steps.discount[0, :, 0] == 0).sum()) < 5
    expected = 0.0
    for i in range(AGENTS):
        errors = []
        for b in range(5):
            next_q = value(state.target["critic"], i, b, 1, ahead).min()
            y = float(steps.reward[0, b, i]) + 0.9 * float(steps.discount[0, b, i]) * next_q
            errors.append((value(state.params["critic"], i, b, 0, taken) - y) ** 2)
        expected += np.mean(errors, axis=0).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "local", "sees"),
    [
        ("maddpg", (), [[1, 1], [1, 1]]),
        ("ddpg", None, [[1, 0], [0, 1]]),
        ("maddpg", (1,), [[1, 1], [0, 1]]),
    ],
)
def test_critics_see_exactly_what_they_should(name: str, local: Any, sees: Any) -> None:
    method = make(name, **({} if local is None else {"local_critics": local}))
    critic = initial().params["critic"]
    x, vectors = jnp.ones((1, AGENTS, FEATURES)), jnp.full((1, 1, AGENTS, ACTIONS), 0.3)

    def values(x: jax.Array, vectors: jax.Array) -> jax.Array:
        return method._values(critic, x, vectors)[0, :, 0]

    of_views, of_actions = fast_jit(jax.jacobian(values, argnums=(0, 1)))(x, vectors)
    np.testing.assert_array_equal(jnp.any(of_views[:, 0] != 0, axis=-1), np.array(sees) > 0)
    np.testing.assert_array_equal(jnp.any(of_actions[:, 0, 0] != 0, axis=-1), np.array(sees) > 0)


def test_agents_that_share_parameters_learn_from_the_mean_of_their_losses() -> None:
    """So that a gradient is clipped as one agent's is; those with their own learn from the sum."""
    own, shared = make("ddpg"), make("ddpg", sharing="shared")
    one = {name: jax.tree.map(lambda x: x[0], tree) for name, tree in initial().params.items()}
    everyone = jax.tree.map(lambda x: jnp.broadcast_to(x, (AGENTS, *x.shape)), one)
    first, alike = initial()._replace(params=one), initial()._replace(params=everyone)
    batch = own._transitions(alike, transitions(), KEY)
    losses = [
        (
            method._critic_loss(state.params["critic"], batch)[0],
            method._actor_loss(state.params["actor"], state, batch, (), KEY)[0],
        )
        for method, state in ((own, alike), (shared, first))
    ]
    np.testing.assert_allclose(losses[0], AGENTS * np.array(losses[1]), rtol=1e-5)


@pytest.mark.parametrize(("twins", "climbed"), [(False, "first"), (True, "first"), (True, "mean")])
def test_a_policy_climbs_its_own_critic_with_the_others_actions_from_the_replay(
    twins: bool, climbed: str
) -> None:
    options = {"twin_critics": twins, "climbed": climbed}
    method, state = make(logit_weight=0.0, **options), initial(twins)
    steps = transitions()
    batch = method._transitions(state, steps, KEY)

    def of_agent(params: Any, agent: int) -> jax.Array:
        outputs = method._outputs(params, steps.observation[0])
        own = method._decide(outputs, steps.action_mask[0], KEY)
        vectors = batch.vectors.at[:, agent].set(own[:, agent])
        values = method._values(state.params["critic"], steps.observation[0], vectors[:, None])
        return -(values[:, agent].mean() if climbed == "mean" else values[:, agent, 0].mean())

    @fast_jit
    def gradients(params: Any) -> Any:
        found = jax.grad(method._actor_loss, has_aux=True)(params, state, batch, (), KEY)[0]
        return found, [jax.grad(of_agent)(params, i) for i in range(AGENTS)]

    found, expected = gradients(state.params["actor"])
    for i in range(AGENTS):
        for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected[i]), strict=True):
            np.testing.assert_allclose(f[i], e[i], rtol=1e-3, atol=1e-6)
            np.testing.assert_array_equal(e[1 - i], jnp.zeros_like(e[1 - i]))


def test_what_is_played_is_what_is_kept() -> None:
    method, state = make(), initial()
    view = jnp.asarray(np.random.default_rng(0).normal(size=(50, AGENTS, FEATURES)))
    mask = jnp.ones((50, AGENTS, ACTIONS), bool).at[:, :, 0].set(False)
    alive = jnp.ones((50, AGENTS), bool)
    seen = Observation(view, mask, view.reshape(50, -1), alive, jnp.zeros(50, int))
    _, action, kept = method.act(state, (), seen, KEY, True)
    np.testing.assert_array_equal(action, jnp.argmax(kept, -1))
    assert int(action.min()) > 0
    _, greedy, one_hot = method.act(state, (), seen, KEY, False)
    outputs = method._outputs(state.params["actor"], view)
    np.testing.assert_array_equal(greedy, 1 + jnp.argmax(outputs[..., 1:], -1))
    np.testing.assert_array_equal(one_hot, np.eye(ACTIONS)[np.asarray(greedy)])
    assert make(relaxation="straight_through").act(state, (), seen, KEY, True)[2] == ()


def test_policies_and_targets_wait_for_the_critics() -> None:
    """With a delay of 2 the second gradient step moves them, the first does not."""
    method, state = make(policy_delay=2), initial()
    replay = stored()
    step = fast_jit(lambda s: method._step(s, (), replay, KEY)[0])
    first = step(state)
    second = step(first._replace(updates=first.updates + 1))

    def moved(one: Any, other: Any) -> bool:
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return any(bool((x != y).any()) for x, y in pairs)

    assert moved(first.params["critic"], state.params["critic"])
    assert not moved((first.params["actor"], first.target), (state.params["actor"], state.target))
    assert moved(second.params["actor"], first.params["actor"])
    assert moved(second.target, first.target)


CONTINUOUS = SIZES._replace(continuous=True)


@pytest.mark.slow
def test_continuous_actions_are_bounded_and_their_targets_are_smoothed_within_bounds() -> None:
    method = make(sizes=CONTINUOUS, exploration_noise=5.0, target_noise=0.2)
    state = drawn_state(method, 1)
    view = jnp.ones((20, AGENTS, FEATURES))
    seen = Observation(
        view,
        jnp.ones((20, AGENTS, ACTIONS), bool),
        view.reshape(20, -1),
        jnp.ones((20, AGENTS), bool),
        view[:, 0],
    )
    _, noisy, extras = method.act(state, (), seen, KEY, True)
    _, plain, _ = method.act(state, (), seen, KEY, False)
    assert extras == ()
    assert noisy.shape == (20, AGENTS, ACTIONS)
    assert float(jnp.abs(noisy).max()) == 1.0
    outputs = method._outputs(state.params["actor"], view)
    np.testing.assert_allclose(plain, jnp.tanh(outputs), rtol=1e-6)

    rng = np.random.default_rng(0)
    episodes = make_batch()
    actions = jnp.asarray(rng.uniform(-1, 1, (*episodes.action.shape, ACTIONS)), jnp.float32)
    replay = EpisodeReplay(3, LIMIT)
    kept = replay.add(
        replay.init(episodes._replace(action=actions)), episodes._replace(action=actions)
    )
    steps = replay.sample_transitions(kept, KEY, 200)
    batch = method._transitions(state, steps, KEY)
    np.testing.assert_array_equal(batch.vectors, steps.action[0])
    calm = make(sizes=CONTINUOUS)._transitions(state, steps, KEY)
    apart = np.abs(np.asarray(batch.target - calm.target))
    goes_on = np.asarray(steps.discount[0]) > 0
    assert (apart[~goes_on] == 0).all()
    assert (apart[goes_on] > 0).mean() > 0.9

    # The target policies' actions themselves, under a noise that is always cut off.
    wild, views = make(sizes=CONTINUOUS, target_noise=1e3), 20.0 * steps.observation[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(wild), "_values", lambda self, p, x, vectors: vectors[:, 0, :, :1])
        taken = wild._target_values(state, views, steps.action_mask[1], KEY)
    meant = jnp.tanh(wild._outputs(state.target["actor"], views))[..., 0]
    lower, upper = jnp.maximum(meant - 0.5, -1.0), jnp.minimum(meant + 0.5, 1.0)
    is_lower = np.isclose(taken, lower, atol=1e-6)
    is_upper = np.isclose(taken, upper, atol=1e-6)
    assert (is_lower | is_upper).mean() > 0.99
    assert is_lower.any()
    assert is_upper.any()
    assert bool((lower == -1.0).any() & (upper == 1.0).any())


def test_shared_critics_are_refused_where_agents_are_paid_differently() -> None:
    with pytest.raises(ConfigurationError, match="sharing is 'shared'; it must be independent"):
        make("maddpg", sharing="shared")
    make("ddpg", sharing="shared")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maddpg", {"local_critics": (2,)}, r"local_critics is \(2,\); the task has agents 0 to 1"),
        ("maddpg", {"agent": "gru"}, "agent is 'gru'; it must be one of: mlp"),
        ("ddpg", {"relaxation": "hard"}, "relaxation is 'hard'; it must be one of: soft, straight"),
        # Ten steps are three episodes of four.
        (
            "ddpg",
            {"batch_size": 10, "num_envs": 1, "update_interval": 4, "replay_capacity": 11},
            "replay_capacity is 11; it must be at least 12 environment steps here, 3 episodes of 4, for batch_size.",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(name: str, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(name, **options)


def test_continuous_actions_are_refused_by_methods_that_cannot_choose_them() -> None:
    with pytest.raises(
        ConfigurationError,
        match="continuous actions, which qmix cannot choose; choose from: a2c, alita",
    ):
        methods.make("qmix", Aim())


# --- Learning ---

SOLVER: dict[str, Any] = {
    "num_envs": 16,
    "update_interval": 4 * LIMIT,
    "batch_size": 64,
    "replay_capacity": 2000 * LIMIT,
    "hidden_size": 16,
    "actor_lr": 3e-3,
    "exploration_noise": 0.3,
}


def train(
    name: str, env: type[Probe], iterations: int, seeds: int = 2, **options: Any
) -> np.ndarray:
    """Mean greedy returns of some seeds."""
    return greedy_returns(name, env(), iterations, seeds, {**SOLVER, **options})


@pytest.mark.parametrize(
    ("name", "env", "best"),
    [
        pytest.param("maddpg", Masked, 1.0, marks=pytest.mark.slow),
        pytest.param("maddpg", Aim, 0.0, marks=pytest.mark.slow),
        pytest.param("maddpg", TakeOrWait, 2.0, marks=pytest.mark.slow),
        pytest.param("maddpg", Roles, 1.0, marks=pytest.mark.slow),
        pytest.param("ddpg", Masked, 1.0, marks=pytest.mark.slow),
        pytest.param("ddpg", Aim, 0.0, marks=pytest.mark.slow),
    ],
)
def test_it_solves(name: str, env: type[Probe], best: float) -> None:
    """Masked: sight, available actions. Aim: continuous ones. TakeOrWait: the discount. Roles: agents that differ."""
    assert (train(name, env, 250) > best - 0.05).all()


@pytest.mark.slow
def test_td3_solves() -> None:
    options = {"twin_critics": True, "policy_delay": 2, "target_noise": 0.2}
    assert (train("maddpg", Aim, 400, **options) > -0.05).all()
