"""The PPO core: advantages, losses, masks and schedules by hand; what the critic sees; what must not matter."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax.losses import policy_gradient_loss
from marl_jax.methods.mappo import MAPPOConfig
from marl_jax.methods.ppo import Experience, Lessons, Rates
from marl_jax.types import EpisodeBatch
from tests.methods.learners import SIZES, differing, fast_jit
from tests.methods.ppo_learners import (
    KEY,
    LENGTHS,
    drawn_state,
    episodes,
    garbage_where,
    make,
    update,
)
from tests.probes import ACTIONS, AGENTS, FEATURES, LIMIT

PLAIN_RATES = Rates(jnp.asarray(0.01), jnp.asarray(0.0))


def lessons(**fields: Any) -> Lessons:
    """Lessons of one step (T = B = 1); what is not given does not matter."""
    arrays = {name: jnp.asarray(x)[None, None] for name, x in fields.items()}
    return Lessons(**{name: arrays.get(name, jnp.zeros((1, 1, 1))) for name in Lessons._fields})


def an_experience(seed: int = 0, values: int = 1) -> Experience:
    """Of `episodes`, with drawn values; rewards and values after a termination are huge."""
    rng = np.random.default_rng(seed)
    batch = episodes()
    value = rng.normal(size=(LIMIT + 1, len(LENGTHS), AGENTS, values))
    over = np.arange(LIMIT + 1)[:, None] >= np.array([LIMIT + 1, *LENGTHS[1:]])
    value = np.where(over[..., None, None], 1e3, value)
    reward = np.where(over[:-1, :, None], -1e3, rng.normal(size=batch.reward.shape))
    played = np.broadcast_to(np.asarray(batch.valid)[..., None], batch.reward.shape)
    alive = played & np.asarray(batch.alive[:-1])
    fields = {name: jnp.zeros(()) for name in inspect.signature(Experience).parameters}
    fields |= {"value": jnp.asarray(value), "played": jnp.asarray(played, jnp.float32)}
    fields |= {"alive": jnp.asarray(alive, jnp.float32)}
    return Experience(**{**fields, "batch": batch._replace(reward=jnp.asarray(reward))})


# --- Advantages ---


def test_generalised_advantages_are_their_definition() -> None:
    """Sum over k of (gamma lambda)^k delta_{t+k} up to the episode's end; the dead are paid on with the team."""
    method, experience = make(), an_experience(values=2)
    reward = jnp.stack([experience.batch.reward, 3.0 * experience.batch.reward], axis=-1)
    returns = np.asarray(method.returns(experience, reward))
    value, discount = np.asarray(experience.value), np.asarray(experience.batch.discount)
    for b, length in enumerate(LENGTHS):
        d = 0.9 * discount[:length, b, :, None]
        delta = np.asarray(reward)[:length, b] + d * value[1 : length + 1, b] - value[:length, b]
        for t in range(length):
            advantage = sum((0.9 * 0.8) ** (k - t) * delta[k] for k in range(t, length))
            np.testing.assert_allclose(returns[t, b], advantage + value[t, b], rtol=1e-4, atol=1e-5)
    # The first episode is cut off by the time limit: the value of what follows counts; the others' does not.
    assert abs(returns[1:2, 1]).max() < 100


@pytest.mark.parametrize("over", ["batch", "agent", "minibatch"])
def test_advantages_are_normalised_over_the_living(over: str) -> None:
    method, experience = make(normalise_advantage=over), an_experience()
    returns = experience.value[:-1] + jax.random.normal(KEY, (LIMIT, len(LENGTHS), AGENTS, 1)) * 3.0
    raw = np.asarray(returns - experience.value[:-1])[..., 0]
    got = np.asarray(method.normalised(experience, raw))
    alive = np.asarray(experience.alive) > 0
    assert alive.sum() == 2 * sum(LENGTHS) - 2
    if over == "minibatch":
        # The loss does it.
        np.testing.assert_allclose(got, raw, rtol=1e-5)
        return
    groups = [alive] if over == "batch" else [alive & (np.arange(AGENTS) == i) for i in (0, 1)]
    for group in groups:
        expected = (raw[group] - raw[group].mean()) / raw[group].std()
        np.testing.assert_allclose(got[group], expected, rtol=1e-3, atol=1e-4)


def test_who_lives_and_who_chooses() -> None:
    method = make()
    batch = episodes()
    experience = fast_jit(method.experience)(drawn_state(method), batch)
    valid = np.asarray(batch.valid)
    np.testing.assert_array_equal(experience.played, np.stack([valid, valid], axis=-1))
    alive = np.stack([valid, valid], axis=-1)
    alive[2:, 0, 1] = False
    np.testing.assert_array_equal(experience.alive, alive)
    several = np.asarray(batch.action_mask[:-1]).sum(-1) > 1
    assert (alive & ~several).any()
    np.testing.assert_array_equal(experience.chooses, alive & several)


def test_rewards_are_shared_or_not() -> None:
    batch = episodes()
    batch = batch._replace(reward=batch.reward.at[..., 1].add(2.0))
    for name, share in (("mappo", True), ("ippo", False)):
        method = make(name)
        paid = jax.jit(lambda s, b, m=method: m.experience(s, b).batch.reward)(
            drawn_state(method), batch
        )
        shared = batch.reward.mean(-1, keepdims=True) + jnp.zeros(AGENTS)
        np.testing.assert_allclose(paid, shared if share else batch.reward, rtol=1e-6)


# --- Losses ---

FOUR_AGENTS = {
    # Agent 0 chooses among 3, agent 1 between 2, agent 2 is dead, agent 3 has one choice.
    "action_mask": np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 1, 0]], bool),
    "action": np.array([2, 0, 1, 1]),
    # Ratios 2 and 1 under uniform policies; the others' are huge.
    "log_prob": np.log([1 / 6, 1 / 2, 1e-6, 1e-6]),
    "advantage": np.array([1.0, -1.0, 1e4, 1e4]),
    "mask": np.array([1.0, 1.0, 0.0, 0.0]),
    "weight": np.ones(4),
}


def test_the_policies_loss_by_hand() -> None:
    method = make()
    given = lessons(**FOUR_AGENTS)
    rates = Rates(jnp.asarray(0.01), jnp.asarray(0.5))
    loss = jax.jit(lambda logits: method.actor_loss(logits, given, rates))
    value, metrics = loss(jnp.zeros((1, 1, 4, ACTIONS)))
    # min(2, 1.2) = 1.2 and -1; entropies log 3 and log 2.
    entropy = (np.log(3) + np.log(2)) / 2
    np.testing.assert_allclose(metrics["actor_loss"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-5)
    np.testing.assert_allclose(value, -0.1 - 0.5 * entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["approx_kl"], (1 - np.log(2)) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["clip_fraction"], 0.5, rtol=1e-6)
    slope = jax.jit(jax.grad(lambda logits: method.actor_loss(logits, given, rates)[0]))(
        jnp.zeros((1, 1, 4, ACTIONS))
    )[0, 0]
    # Uniform policies have the highest entropy, agent 0's ratio is cut off, agent 1's is not:
    # -A (1 - 1/2) / 2 for what it did.
    np.testing.assert_allclose(
        slope, [[0, 0, 0], [0.25, 0, -0.25], [0, 0, 0], [0, 0, 0]], atol=1e-6
    )


def test_with_a_ratio_of_1_the_slope_is_the_policy_gradients() -> None:
    """Which makes one pass over one minibatch A2C."""
    method = make()
    given = lessons(**{**FOUR_AGENTS, "log_prob": -np.log([3.0, 2.0, 3.0, 1.0])})

    def ppo(logits: jax.Array) -> jax.Array:
        loss: jax.Array = method.actor_loss(logits, given, PLAIN_RATES)[0]
        return loss

    def a2c(logits: jax.Array) -> jax.Array:
        log_prob = method.policy(logits, given.action_mask).log_prob(given.action)
        return policy_gradient_loss(log_prob, given.advantage, given.mask)

    slopes = fast_jit(lambda x: (jax.grad(ppo)(x), jax.grad(a2c)(x)))
    one, other = slopes(jnp.zeros((1, 1, 4, ACTIONS)))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert abs(one).max() > 0.1


def test_a_weight_multiplies_the_surrogate_only() -> None:
    method = make()
    given = lessons(**{**FOUR_AGENTS, "weight": np.array([2.0, 3.0, 1.0, 1.0])})
    _, metrics = jax.jit(lambda x: method.actor_loss(x, given, PLAIN_RATES))(
        jnp.zeros((1, 1, 4, ACTIONS))
    )
    np.testing.assert_allclose(metrics["actor_loss"], -(2 * 1.2 - 3.0) / 2, rtol=1e-5)


def test_agents_with_parameters_of_their_own_each_have_a_mean_of_their_own() -> None:
    method = make(sharing="independent")
    # Two steps; agent 1 has a choice in the first only.
    given = Lessons(*(jnp.zeros((2, 1, AGENTS)),) * len(Lessons._fields))._replace(
        action_mask=jnp.ones((2, 1, AGENTS, ACTIONS), bool),
        action=jnp.zeros((2, 1, AGENTS), jnp.int32),
        log_prob=jnp.full((2, 1, AGENTS), -np.log(3)),
        advantage=jnp.array([[[1.0, 5.0]], [[2.0, 7.0]]]),
        mask=jnp.array([[[1.0, 1.0]], [[1.0, 0.0]]]),
        weight=jnp.ones((2, 1, AGENTS)),
    )
    loss, metrics = jax.jit(lambda x: method.actor_loss(x, given, PLAIN_RATES))(
        jnp.zeros((2, 1, AGENTS, ACTIONS))
    )
    np.testing.assert_allclose(loss, -(1.5 + 5.0), rtol=1e-5)
    np.testing.assert_allclose(metrics["actor_loss"], loss / 2, rtol=1e-5)


def test_advantages_normalised_over_a_minibatch() -> None:
    method = make(normalise_advantage="minibatch")
    given = lessons(**{**FOUR_AGENTS, "advantage": np.array([7.0, 3.0, 1e4, 1e4])})
    _, metrics = jax.jit(lambda x: method.actor_loss(x, given, PLAIN_RATES))(
        jnp.zeros((1, 1, 4, ACTIONS))
    )
    # 7 and 3 are 1 and -1.
    np.testing.assert_allclose(metrics["actor_loss"], -0.1, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # The critic says 0.5 and -1; targets 3.5 and 0: errors 3 and 1, of agent 0; agent 1 does not count.
        ({}, (9 + 1) / 2),
        ({"huber_delta": 2.0}, 2 * (3 - 1) + 0.5),
        # Old values 0 and -1 may change by 0.2: 0.2 is 3.3 away, which is worse than 3.
        ({"value_clip": 0.2}, (3.3**2 + 1) / 2),
    ],
)
def test_the_values_loss_by_hand(options: dict[str, Any], expected: float) -> None:
    """Halved squares, summed over two values and averaged over agents and steps."""
    method = make("liir", critic_input="state", critic_hidden=(), **options)
    layer = {"kernel": jnp.zeros((2, 2)), "bias": jnp.array([0.5, -1.0])}
    critic = {"params": {"Linear_0": {"Dense_0": layer}}}
    shapes = jax.eval_shape(lambda k: method.critic.init(k, 2), KEY)
    assert jax.tree.structure(shapes) == jax.tree.structure(critic)
    given = lessons(
        critic_inputs=np.ones((AGENTS, 2)),
        value=np.array([[0.0, -1.0], [50.0, 50.0]]),
        target=np.array([[3.5, 0.0], [80.0, 80.0]]),
        value_mask=np.array([1.0, 0.0]),
    )
    np.testing.assert_allclose(jax.jit(method.value_loss)(critic, given), expected, rtol=1e-5)


# --- What values are learned in ---


def test_targets_are_normalised_by_returns_and_values_are_what_the_critic_put_out() -> None:
    """The values that advantages count with are in units of returns, by the statistics from before."""
    method = make()
    state, batch = drawn_state(method), episodes()

    @fast_jit
    def look(state: Any, batch: EpisodeBatch) -> Any:
        experience = method.experience(state, batch)
        returns = method.returns(experience, batch.reward[..., None])
        norm = state.value_norm.update(returns, experience.played, 0.9)
        given = method._lessons(experience, returns, state.value_norm, norm, experience.played)
        put_out = method.critic(state.params["critic"], experience.critic_inputs)
        return experience, returns, given, put_out

    experience, returns, given, put_out = look(state, batch)
    np.testing.assert_allclose(experience.value, 1.2 * put_out + 0.4, rtol=1e-5)
    np.testing.assert_allclose(given.value, put_out[:-1], rtol=1e-4, atol=1e-5)
    counted = np.asarray(returns[..., 0])[np.asarray(experience.played) > 0]
    weight = 0.9 * 0.5 + 0.1
    mean = (0.9 * 0.2 + 0.1 * counted.mean()) / weight
    square = (0.9 * 0.8 + 0.1 * (counted**2).mean()) / weight
    deviation = np.sqrt(square - mean**2)
    np.testing.assert_allclose(given.target, (returns - mean) / deviation, rtol=1e-3, atol=1e-3)
    after, metrics = update(method, state, batch)
    np.testing.assert_allclose(after.value_norm.location, [mean], rtol=1e-4)
    np.testing.assert_allclose(after.value_norm.scale, [deviation], rtol=1e-4)
    np.testing.assert_allclose(metrics["discounted_return_mean"], counted.mean(), rtol=1e-4)
    assert int(after.env_steps) == sum(LENGTHS)


def test_the_rates_follow_their_schedules_and_drive_the_steps() -> None:
    method = make(
        lr=0.04,
        lr_final=0.02,
        lr_anneal_start=0,
        lr_anneal_end=200,
        entropy_weight=0.3,
        entropy_weight_final=0.1,
        entropy_anneal_start=100,
        entropy_anneal_end=200,
    )
    for steps, lr, weight in (
        (0, 0.04, 0.3),
        (100, 0.03, 0.3),
        (150, 0.025, 0.2),
        (400, 0.02, 0.1),
    ):
        rates = method.rates(jnp.asarray(steps))
        np.testing.assert_allclose([rates.lr, rates.entropy_weight], [lr, weight], rtol=1e-5)
    state = drawn_state(method)._replace(env_steps=jnp.asarray(100))
    after, metrics = update(method, state, episodes())
    np.testing.assert_allclose([metrics["lr"], metrics["entropy_weight"]], [0.03, 0.3], rtol=1e-5)
    assert int(after.env_steps) == 100 + sum(LENGTHS)
    # Adam's first step is as long as the learning rate, where there is a gradient.
    for name in ("actor", "critic"):
        moved = jax.tree.map(
            lambda x, y: jnp.abs(x - y).max(), state.params[name], after.params[name]
        )
        np.testing.assert_allclose(max(jax.tree.leaves(moved)), 0.03, rtol=0.02)


# --- What the critic sees ---


@functools.cache
def seen(critic_input: str, mask_dead_inputs: bool = True) -> tuple[np.ndarray, EpisodeBatch]:
    name, extra = (
        ("ippo", {}) if critic_input == "own" else ("mappo", {"critic_input": critic_input})
    )
    method, batch = make(name, mask_dead_inputs=mask_dead_inputs, **extra), episodes()
    inputs = np.asarray(jax.jit(method._critic_inputs)(batch))
    assert inputs.shape[-1] == method.critic_input_size
    return inputs, batch


def test_an_own_critic_sees_what_its_agent_sees() -> None:
    inputs, batch = seen("own")
    t, b, i = 3, 2, 1
    last = np.eye(ACTIONS)[batch.action[t - 1, b, i]]
    expected = [*batch.observation[t, b, i], *last, 0.0, 1.0]
    np.testing.assert_allclose(inputs[t, b, i], expected, rtol=1e-6)
    np.testing.assert_array_equal(inputs[0, ..., FEATURES : FEATURES + ACTIONS], 0.0)


def test_a_central_critic_also_sees_state_and_clock() -> None:
    inputs, batch = seen("state")
    own, _ = seen("own")
    for t, b, i in ((3, 2, 1), (4, 0, 0)):
        expected = [*batch.global_state[t, b], t / LIMIT, *own[t, b, i]]
        np.testing.assert_allclose(inputs[t, b, i], expected, rtol=1e-6)


@pytest.mark.parametrize("critic_input", ["state", "joint"])
def test_where_the_limit_only_cuts_off_there_is_no_clock(critic_input: str) -> None:
    """No value is ever learned of the last clock's sight, so what lies behind the limit would be a guess."""
    sizes = SIZES._replace(time_limit_is_termination=False)
    method, batch = make(sizes=sizes, critic_input=critic_input), episodes()
    inputs = method._critic_inputs(batch)
    assert inputs.shape[-1] == method.critic_input_size
    clock = AGENTS * FEATURES
    np.testing.assert_array_equal(inputs, np.delete(seen(critic_input)[0], clock, axis=-1))


def test_it_sees_nothing_of_the_dead_but_who_they_are() -> None:
    masked, batch = seen("state")
    plain, _ = seen("state", mask_dead_inputs=False)
    dead = ~np.asarray(batch.alive)
    np.testing.assert_array_equal(masked[dead][:, :-AGENTS], 0.0)
    np.testing.assert_array_equal(masked[dead][:, -AGENTS:], [[0.0, 1.0]] * 3)
    np.testing.assert_array_equal(masked[~dead], plain[~dead])
    np.testing.assert_allclose(
        plain[2, 0, 1, -AGENTS - ACTIONS - FEATURES :],
        [*batch.observation[2, 0, 1], *np.eye(ACTIONS)[batch.action[1, 0, 1]], 0.0, 1.0],
        rtol=1e-6,
    )


def test_a_joint_critic_sees_everyone_at_once() -> None:
    masked, batch = seen("joint")
    plain, _ = seen("joint", mask_dead_inputs=False)
    assert masked.shape[2] == 1
    both = [*batch.global_state[2, 0], 2 / LIMIT, *batch.observation[2, 0].reshape(-1)]
    np.testing.assert_allclose(plain[2, 0, 0], both, rtol=1e-6)
    np.testing.assert_allclose(masked[2, 0, 0], [*both[:-FEATURES], *[0.0] * FEATURES], rtol=1e-6)


# --- What must not matter ---

PADDING = np.arange(LIMIT + 1)[:, None] >= np.array([LIMIT + 1, *LENGTHS[1:]])


@pytest.mark.parametrize("who", ["padding", "dead"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mappo", {}),
        ("liir", {}),
        pytest.param("liir", {"meta_gradient": "all", "epochs": 2}, marks=pytest.mark.slow),
        pytest.param("happo", {}, marks=pytest.mark.slow),
        pytest.param("mappo", {"agent": "gru", "critic": "gru"}, marks=pytest.mark.slow),
        pytest.param("ippo", {"minibatch_unit": "steps"}, marks=pytest.mark.slow),
    ],
)
def test_nothing_is_learned_from_after_the_end_or_after_death(
    name: str, options: dict[str, Any], who: str
) -> None:
    """Whatever agents see and do there."""
    if who == "dead":
        if name == "ippo":
            pytest.skip("the values of agents' own follow what they see")
        # A dead agent's values are what a central critic says of zeros.
        unused = ~np.asarray(episodes().alive)
    else:
        unused = np.repeat(PADDING[..., None], AGENTS, axis=-1)
    method = make(name, **options)
    state, batch = drawn_state(method), episodes()
    garbage = garbage_where(batch, unused)
    if who == "padding":
        steps = jnp.asarray(unused[:-1])
        garbage = garbage._replace(
            reward=jnp.where(steps, 1e3, garbage.reward),
            discount=jnp.where(steps, 1.0, garbage.discount),
            alive=garbage.alive & ~jnp.asarray(unused),
            global_state=jnp.where(PADDING[..., None], 40.0, garbage.global_state),
            action_mask=garbage.action_mask & ~jnp.asarray(unused)[..., None],
        )
    assert differing(batch, garbage)
    plain, metrics = update(method, state, batch)
    after, other_metrics = update(method, state, garbage)
    for x, y in zip(
        jax.tree.leaves((plain, metrics)), jax.tree.leaves((after, other_metrics)), strict=True
    ):
        assert np.isfinite(y).all()
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_unmasked_the_dead_reach_the_critic() -> None:
    method = make(mask_dead_inputs=False)
    state, batch = drawn_state(method), episodes()
    garbage = garbage_where(batch, ~np.asarray(batch.alive))
    plain, after = (update(method, state, x)[0].params for x in (batch, garbage))
    assert differing(plain["critic"], after["critic"])


def test_a_minibatch_of_all_steps_is_one_of_all_episodes() -> None:
    state, batch = drawn_state(make()), episodes()
    after = [
        update(make(minibatch_unit=unit), state, batch)[0].params for unit in ("episodes", "steps")
    ]
    assert differing(state.params, after[0])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), *after)


def test_passes_go_over_every_episode_once() -> None:
    """Minibatches of one episode each, counted by a step that learns which ones it has seen."""
    method = make(num_envs=6, minibatches=3, epochs=2)
    given = Lessons(*(jnp.arange(6.0)[None, :, None],) * len(Lessons._fields))

    def step(counts: Any, part: Lessons) -> Any:
        assert part.mask.shape == (1, 2, 1)
        return counts.at[part.mask[0, :, 0].astype(jnp.int32)].add(1), {}

    counts, _ = jax.jit(lambda key: method.over_minibatches(step, jnp.zeros(6), given, key))(KEY)
    np.testing.assert_array_equal(counts, 2.0)


def test_minibatches_are_full_of_steps_that_were_played() -> None:
    """Twelve steps are four minibatches of three, if all are played."""
    method = make("ippo", minibatch_unit="steps", minibatches=4, epochs=2)
    numbers = Lessons(*(jnp.arange(12.0)[None, :, None],) * len(Lessons._fields))

    def step(learner: Any, part: Lessons) -> Any:
        counts, taken = learner
        which, played = part.mask[0, :, 0].astype(jnp.int32), part.value_mask[0, :, 0]
        assert which.shape == (3,)
        return (counts.at[which].add(played), taken + 1), {"size": jnp.sum(played)}

    @jax.jit
    def learn(played: jax.Array) -> Any:
        given = numbers._replace(value_mask=played[None, :, None])
        return method.over_minibatches(step, (jnp.zeros(12), 0), given, KEY)

    for lengths, steps in (
        ((4, 4, 4), 4),
        # Two steps are left over, which is more than half of a minibatch; then one; then none.
        ((4, 3, 4), 4),
        ((4, 2, 4), 3),
        ((4, 2, 3), 3),
        ((1, 0, 0), 1),
    ):
        played = np.array([t < end for t in range(LIMIT) for end in lengths], np.float32)
        (counts, taken), metrics = learn(played)
        assert int(taken) == 2 * steps
        if sum(lengths) == 10:
            # Three of three, in both passes.
            assert counts.sum() == 18.0
            np.testing.assert_allclose(metrics["size"], 3.0)
        else:
            np.testing.assert_array_equal(counts, 2.0 * played)
            np.testing.assert_allclose(metrics["size"], sum(lengths) / steps, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mappo", "liir"])
def test_one_seed_alone_learns_what_it_learns_among_others(name: str) -> None:
    method, batch = make(name), episodes()
    states = [drawn_state(method, seed) for seed in range(3)]

    @fast_jit
    def learn(states: Any) -> Any:
        return jax.lax.map(lambda s: method.update(s, batch, None, KEY), states)

    together = learn(jax.tree.map(lambda *x: jnp.stack(x), *states))
    alone = learn(jax.tree.map(lambda x: x[None], states[1]))
    assert not differing(
        jax.tree.map(lambda x: x[1], together), jax.tree.map(lambda x: x[0], alone)
    )


# --- All kinds of networks ---


KINDS: list[tuple[str, dict[str, Any], str]] = [
    (
        "ippo",
        {"agent": "gru", "critic": "gru", "critic_hidden": (5, 3), "head_sizes": (3,)},
        "independent",
    ),
    ("mappo", {"agent": "gru", "critic_input": "joint", "minibatches": 3}, "independent"),
    ("mappo", {"critic_input": "state", "minibatch_unit": "steps", "minibatches": 2}, "shared"),
    ("liir", {"critic_trunk": "separate", "critic": "gru", "critic_input": "joint"}, "independent"),
    ("liir", {"critic_trunk": "separate", "critic_input": "state", "agent": "gru"}, "shared"),
    (
        "liir",
        {"critic_trunk": "shared", "meta_gradient": "all", "activation": "tanh"},
        "independent",
    ),
]
OTHER = {"shared": "independent", "independent": "shared"}


@pytest.mark.parametrize(
    ("name", "options", "sharing"),
    [
        *KINDS,
        *(pytest.param(n, o, OTHER[s], marks=pytest.mark.slow) for n, o, s in KINDS),
    ],
)
def test_every_kind_of_network_has_an_update(
    name: str, options: dict[str, Any], sharing: str
) -> None:
    """Traced, not run: the state keeps its shapes, and what the field watches is logged."""
    method = make(name, sharing=sharing, **options)
    state = jax.eval_shape(method.init, KEY)
    after, metrics = jax.eval_shape(lambda s, b: method.update(s, b, None, KEY), state, episodes())
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    expected = {
        "explained_variance",
        "approx_kl",
        "clip_fraction",
        "entropy",
        "lr",
        "entropy_weight",
    }
    expected |= {"actor_grad_norm", "critic_grad_norm", "actor_loss", "value_loss"}
    assert expected <= set(metrics)
    assert all(x.shape == () for x in metrics.values())


def test_the_policies_gain_is_of_orthogonal_weights_only() -> None:
    gains = [
        make("mappo", initialization=x).agent.network.output_gain for x in ("orthogonal", "torch")
    ]
    assert gains == [0.01, 1.0]


# --- Bad input ---


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"num_envs": 3, "minibatches": 4},
            "minibatches is 4; it must be at most 3, the episodes of an iteration.",
        ),
        (
            {"num_envs": 1, "minibatches": 5, "minibatch_unit": "steps"},
            "minibatches is 5; it must be at most 4, the steps of an iteration.",
        ),
        (
            {"lr_anneal_start": 100, "lr_anneal_end": 100},
            "lr_anneal_end is 100; it must be above lr_anneal_start, which is 100.",
        ),
        (
            {"entropy_anneal_start": 50, "entropy_anneal_end": 20},
            "entropy_anneal_end is 20; it must be above entropy_anneal_start, which is 50.",
        ),
        (
            {"critic": "gru", "critic_hidden": ()},
            "critic_hidden is empty; it must not be if critic is 'gru'.",
        ),
        (
            {"agent": "gru", "minibatch_unit": "steps"},
            "minibatch_unit is 'steps'; it must be 'episodes' unless agent and critic are 'mlp'.",
        ),
        ({"head_sizes": (3,)}, "head_sizes is"),
        ({"critic_hidden": (4, -4)}, "critic_hidden is -4; it must be at least 1."),
        ({"hidden_size": 0}, "hidden_size is 0; it must be at least 1."),
        ({"epochs": 0}, "epochs is 0; it must be at least 1."),
        ({"batch_steps": 0}, "batch_steps is 0; it must be at least 1."),
        ({"num_envs": 0}, "num_envs is 0; it must be at least 1."),
        ({"clip": 0.0}, "clip is 0.0; it must be above 0."),
        ({"gae_lambda": 1.5}, "gae_lambda is 1.5; it must be at least 0 and at most 1."),
        ({"critic_input": "own"}, "critic_input is 'own'; it must be one of: state, joint."),
    ],
)
def test_bad_options_get_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{sentence}"):
        make("mappo", **options)


def test_an_iteration_has_as_many_steps_as_it_is_told() -> None:
    def of(**options: Any) -> int:
        return int(make("mappo", num_envs=None, **options).num_envs)

    assert SIZES.time_limit == LIMIT == 4
    # 40 / 4 = 10 episodes; with three minibatches 9, three each; never fewer than one each.
    assert of(batch_steps=40) == 10
    assert of(batch_steps=40, minibatches=3) == 9
    assert of(batch_steps=1, minibatches=3) == 3
    assert of(batch_steps=40, minibatches=3, minibatch_unit="steps") == 10
    assert make("mappo", num_envs=7, batch_steps=40).num_envs == 7
    assert MAPPOConfig().num_envs is None
