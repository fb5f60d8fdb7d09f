"""Independent PPO, EITI, EDTI and Social Influence: rewards against NumPy, gradients, and worlds they must solve."""

import collections
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from envs.push_box import PushBox
from envs.secret_room import SecretRoom
from marl_jax import methods
from marl_jax.methods.base import Sizes
from marl_jax.methods.ppo import Lessons
from marl_jax.rollout import rollout
from marl_jax.types import EpisodeBatch
from tests.methods.learners import SIZES, fast_jit, greedy_returns, make_batch
from tests.probes import ACTIONS, AGENTS, LIMIT, Lock, Masked, Probe, Roles, TakeOrWait

SMALL: dict[str, Any] = {
    "num_envs": 3,
    "hidden_size": 5,
    "hidden_layers": 1,
    "gamma": 0.9,
    "gae_lambda": 0.8,
}
KEY = jax.random.key(3)


def make(name: str = "ippo", sizes: Sizes = SIZES, **options: Any) -> Any:
    cls: Any = methods.method_class(name)
    return cls(cls.Config.from_mapping({**SMALL, **options}, name), sizes)


@functools.cache
def episodes() -> EpisodeBatch:
    return make_batch(lengths=(4, 2, 3), terminated=(False, True, True))


def lessons(method: Any, state: Any) -> Any:
    """What an update makes of the episodes before it learns."""

    @fast_jit
    def of_state(state: Any) -> Any:
        seen: list[Any] = []

        def learn(self: Any, params: Any, optimizer: Any, given: Any, key: Any) -> Any:
            seen.append(given)
            return params, optimizer, {}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(method), "_learn", learn)
            method.update(state, episodes(), None, KEY)
        return seen[0]

    return of_state(state)


# --- PPO ---


def test_the_first_step_follows_the_policy_gradient_with_generalised_advantages() -> None:
    method = make(entropy_weight=0.0, value_weight=0.0, epochs=1, lr=1.0)
    state, batch = fast_jit(method.init)(KEY), episodes()
    inputs = batch.observation
    value = fast_jit(lambda p: method._apply("critic", p, inputs)[..., 0])
    values = np.asarray(value(state.params["critic"]))
    valid = np.asarray(batch.valid)
    # The definition: sum over k of (gamma lambda)^k delta_{t+k}, up to the episode's end.
    advantage = np.zeros((LIMIT, 3, AGENTS))
    for b in range(3):
        for t in range(LIMIT):
            weight = np.ones(AGENTS)
            for k in range(t, int(valid[:, b].sum())):
                d = 0.9 * np.asarray(batch.discount[k, b])
                delta = np.asarray(batch.reward[k, b]) + d * values[k + 1, b] - values[k, b]
                advantage[t, b] += weight * delta
                weight = weight * 0.8 * d
    for i in range(AGENTS):
        own = advantage[..., i][valid]
        advantage[..., i] = (advantage[..., i] - own.mean()) / own.std()

    def objective(params: Any) -> jax.Array:
        logits = jnp.where(
            batch.action_mask[:-1], method._apply("actor", params, inputs[:-1]), -1e10
        )
        log_probs = jax.nn.log_softmax(logits)
        taken = jnp.take_along_axis(log_probs, batch.action[..., None], -1)[..., 0]
        return jnp.sum(taken * advantage * valid[..., None]) / valid.sum()

    given = lessons(method, state)
    found = fast_jit(jax.grad(lambda p: method._loss(p, given)[0]))(state.params)["actor"]
    expected = fast_jit(jax.grad(objective))(state.params["actor"])
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(f, -e, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("clip_values", [True, False])
def test_a_value_that_has_come_nearer_by_more_than_the_clip_stands_still_if_values_are_clipped(
    clip_values: bool,
) -> None:
    method = make(clip_values=clip_values, value_weight=0.7, value_scale=3.0)
    state = fast_jit(method.init)(KEY)
    given = lessons(method, state)
    target, critic = given.returns["critic"], state.params["critic"]
    nearer = given.value["critic"] - 0.5 * jnp.sign(target - given.value["critic"])
    given = given._replace(value={"critic": nearer})

    def squares(critic: Any) -> jax.Array:
        value = 3.0 * method._apply("critic", critic, given.inputs)[..., 0]
        error = jnp.where(given.mask > 0, value - target, 0.0) / 3.0
        return 0.7 * 0.5 * jnp.sum(error**2) / jnp.sum(given.mask[:, 0])

    found = fast_jit(jax.grad(lambda p: method._loss(p, given)[0]))(state.params)["critic"]
    expected = fast_jit(jax.grad(squares))(critic)
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(f, 0.0 if clip_values else e, rtol=1e-4, atol=1e-7)
        assert float(jnp.abs(e).max()) > 1e-3


def test_padding_teaches_nothing() -> None:
    batch = episodes()
    behind = ~batch.valid[..., None]
    other = batch._replace(
        reward=jnp.where(behind, 99.0, batch.reward),
        action=jnp.where(behind, 0, batch.action),
        observation=batch.observation.at[1:].set(
            # The observation after the last step is the next of a step that counts.
            jnp.where(behind[..., None], 7.0, batch.observation[1:])
        ),
    )
    for name in ("edti", "social_influence"):
        method = make(name, **({"joint_table_bits": 12} if name == "edti" else {}))
        state = fast_jit(method.init)(KEY)
        update = fast_jit(lambda b, m=method, s=state: m.update(s, b, None, KEY)[0].params)
        jax.tree.map(np.testing.assert_array_equal, update(batch), update(other))


# Four minibatches of three steps if all 12 are played.
@pytest.mark.parametrize(
    ("lengths", "steps"),
    [((4, 4, 4), 4), ((4, 3, 4), 4), ((4, 2, 4), 3), ((4, 2, 3), 3), ((1, 0, 0), 1)],
)
def test_minibatches_are_full_of_steps_that_were_played(
    lengths: tuple[int, ...], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make(minibatches=4, epochs=2)

    def loss(self: Any, params: Any, lessons: Any) -> Any:
        # The advantage says which step it is; a sum of powers of 2, which.
        seen = jnp.sum(2.0 ** lessons.advantage[:, 0] * lessons.mask[:, 0])
        return jnp.sum(params["actor"]), {"seen": seen, "how_many": jnp.sum(lessons.mask[:, 0])}

    monkeypatch.setattr(type(method), "_loss", loss)
    params = {"actor": jnp.zeros((2, 1))}
    optimizer = {"actor": method._optimizer.init(params["actor"])}
    each = jnp.broadcast_to(jnp.arange(12.0)[:, None], (12, 2))
    played = np.array([t < end for t in range(4) for end in lengths])
    mask = jnp.broadcast_to(played[:, None], (12, 2)).astype(jnp.float32)
    given = Lessons(each, each, each, each, each, {}, {}, mask, ())
    _, optimizer, metrics = fast_jit(method._learn)(params, optimizer, given, KEY)
    np.testing.assert_array_equal(optimizer["actor"][1][0].count, [2 * steps] * 2)
    if steps * 3 >= played.sum():
        # Every step once in each pass.
        everything = np.sum(2.0 ** np.flatnonzero(played))
        np.testing.assert_allclose(metrics["seen"] * steps, everything)
    else:
        np.testing.assert_allclose(metrics["how_many"], 3.0)


def test_more_minibatches_than_steps_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="minibatches is 13; it must be at most 12"):
        make(minibatches=13)


# --- EITI and EDTI ---


def reference(method: Any, own: np.ndarray, batches: list[EpisodeBatch]) -> tuple[Any, Any]:
    """Rarity and influence of the last of some batches, with dictionaries and loops."""
    visits: Any = collections.Counter()
    counts: Any = collections.Counter()
    for batch in batches:
        view, action, valid = (
            np.asarray(x) for x in (batch.observation, batch.action, batch.valid)
        )
        t_max, b_max, n = action.shape
        rarity, influence = np.zeros(action.shape), np.zeros((*action.shape, n))

        def name(t: int, b: int, i: int, view: Any = view) -> tuple[float, ...]:
            return tuple(view[t, b, i][own[i]].tolist())

        for t in range(t_max):
            for b in range(b_max):
                for i in range(n):
                    rarity[t, b, i] = (visits[i, name(t + 1, b, i)] + 1) ** -0.5
            alive = [b for b in range(b_max) if valid[t, b]]
            for b in alive:
                for j in range(n):
                    visits[j, name(t + 1, b, j)] += 1
                    alone = (j, name(t, b, j), action[t, b, j])
                    counts[alone] += 1
                    counts[(*alone, name(t + 1, b, j))] += 1
                    for i in range(n):
                        joint = (*alone, i, name(t, b, i), action[t, b, i])
                        counts[joint] += 1
                        counts[(*joint, name(t + 1, b, j))] += 1
            for b in alive:
                for i in range(n):
                    for j in range(n):
                        if i == j:
                            continue
                        alone = (j, name(t, b, j), action[t, b, j])
                        joint = (*alone, i, name(t, b, i), action[t, b, i])
                        then = name(t + 1, b, j)
                        p = counts[(*alone, then)] / counts[alone]
                        q = counts[(*joint, then)] / counts[joint]
                        # At an episode's first step nobody is paid for it.
                        influence[t, b, i, j] = 1 - p / q if t else 0.0
    return rarity, influence


def helped(world: Any, key: jax.Array, num_envs: int) -> EpisodeBatch:
    """Episodes in which agents do what the script says four times in five: boxes move, and stand at the wall."""
    reset_key, play_key = jax.random.split(key)
    state, first = jax.vmap(world.reset)(jax.random.split(reset_key, num_envs))

    def step(carry: Any, key: jax.Array) -> Any:
        state, view, alive = carry
        keys = jax.random.split(key)
        scripted = jax.vmap(world.scripted_action)(state)
        random = jax.random.randint(keys[0], scripted.shape, 0, world.num_actions)
        action = jnp.where(jax.random.bernoulli(keys[1], 0.8, scripted.shape), scripted, random)
        state, then = jax.vmap(world.step)(state, action)
        new = then.observation
        record = EpisodeBatch(
            view.agents_view,
            new.global_state,
            new.action_mask,
            new.alive,
            action,
            then.reward,
            then.discount,
            alive,
            (),
        )
        return (state, new, alive & ~then.last()), record

    start = (state, first.observation, jnp.ones((num_envs,), bool))
    (_, last, _), batch = jax.lax.scan(step, start, jax.random.split(play_key, world.time_limit))
    views = jnp.concatenate([batch.observation, last.agents_view[None]])
    return batch._replace(observation=views)


@pytest.mark.parametrize("player", ["random", "helped"])
@pytest.mark.parametrize("world", [Lock(), PushBox(time_limit=60, size=9)])
def test_counts_and_influence_against_dictionaries(world: Any, player: str) -> None:
    """On two batches of recorded episodes. In Push-Box random play moves no box, so there is no influence at all."""
    method = methods.make(
        "edti", world, num_envs=6, hidden_size=4, hidden_layers=1, joint_table_bits=21
    )
    state = fast_jit(method.init)(KEY)
    if player == "random":
        play = fast_jit(lambda k: rollout(world, method, state, k, 6, True)[0])
    else:
        play = fast_jit(lambda k: helped(world, k, 6))
    batches = [play(jax.random.key(k)) for k in range(2)]
    memory = state.memory
    for batch in batches:
        memory, rarity, influence = fast_jit(method._count)(memory, batch)
    expected = reference(method, world.own_features, batches)
    valid = np.asarray(batches[-1].valid)
    np.testing.assert_allclose(rarity[valid], expected[0][valid], rtol=1e-5)
    np.testing.assert_allclose(influence[valid], expected[1][valid], rtol=1e-4, atol=1e-6)
    steps = sum(int(b.valid.sum()) for b in batches)
    assert int(memory.visits[:, 1].sum()) == steps * world.num_agents
    moving = isinstance(world, Lock) or player == "helped"
    assert (np.abs(influence[valid]).max() > 0.1) == moving


def test_own_features_are_about_oneself_and_the_things_around() -> None:
    # Push-Box: rows and columns of agent 0, agent 1, the box; Secret Room: of both agents, then three doors.
    for world, size, theirs in ((PushBox(), 15, 6), (SecretRoom(observation="one_hot"), 25, 4)):
        own = world.own_features
        blocks = own[:, : theirs * size].reshape(2, theirs // 2, 2 * size)
        np.testing.assert_array_equal(blocks.all(-1), blocks.any(-1))
        agents = [[1, 0], [0, 1]]
        np.testing.assert_array_equal(blocks.all(-1)[:, :2], agents)
    assert PushBox(observation="coordinates").own_features.tolist() == [
        [True, True, False, False, True, True],
        [False, False, True, True, True, True],
    ]
    assert not SecretRoom().own_features[:, 4:].any()
    assert SecretRoom().own_features[0].sum() == 2


@pytest.mark.parametrize("name", ["eiti", "edti"])
def test_what_eiti_and_edti_pay(name: str) -> None:
    """Given what the counts say: drawn here, since random sights do not come again."""
    batch, rng = episodes(), np.random.default_rng(0)
    t_max, b_max = batch.valid.shape
    rarity = rng.uniform(0.1, 1.0, (t_max, b_max, 3))
    influence = rng.uniform(-1.0, 1.0, (t_max, b_max, 3, 3)) * (1 - np.eye(3))
    values = {
        part: jnp.asarray(rng.normal(size=(t_max + 1, b_max, 3)))
        for part in ("critic", "extrinsic", "curiosity")
    }
    reward = rng.normal(size=(t_max, b_max, 3))
    options: Any = {"curiosity_weight": 2.0, "influence_weight": 0.5}
    if name == "edti":
        options |= {"extrinsic_weight": 0.3, "intrinsic_weight": 0.7}
    method = make(name, SIZES._replace(num_agents=3), table_bits=2, **options)
    state = fast_jit(method.init)(KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(method), "_count", lambda *_: (state.memory, jnp.array(rarity), influence)
        )
        given = batch._replace(reward=jnp.asarray(reward))
        _, rewards, _, metrics = method._rewards(state, given, batch.observation, values)

    bonus = np.zeros_like(rarity)
    for i, j in itertools.permutations(range(3), 2):
        worth: Any = 1.0
        if name == "edti":
            ahead = {part: np.asarray(x)[1:, :, j] for part, x in values.items()}
            worth = 0.9 * (0.3 * ahead["extrinsic"] + 0.7 * ahead["curiosity"])
        bonus[..., i] += 0.5 * influence[..., i, j] * worth
    np.testing.assert_allclose(rewards["critic"], reward + 2.0 * rarity + bonus, rtol=1e-4)
    valid = np.asarray(batch.valid)
    np.testing.assert_allclose(metrics["influence_bonus"], bonus[valid].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["curiosity"], 2.0 * rarity[valid].mean(), rtol=1e-5)
    assert set(rewards) == set(method.values)
    if name == "edti":
        np.testing.assert_allclose(rewards["extrinsic"], reward, rtol=1e-6)
        np.testing.assert_allclose(rewards["curiosity"], 2.0 * rarity, rtol=1e-6)


def test_states_without_a_slot_are_not_new_for_ever() -> None:
    """A table of two slots, and far more states: nobody is paid for what is not in it."""
    method, batch = make("eiti", table_bits=1), episodes()
    state = fast_jit(method.init)(KEY)
    _, rarity, _ = fast_jit(method._count)(state.memory, batch)
    paid = np.asarray(rarity)[np.asarray(batch.valid)]
    assert (paid == 1.0).sum() == 2
    assert (paid == 0.0).sum() == paid.size - 2


# --- Social Influence ---


def test_social_influence_by_enumerating_what_could_have_been_done() -> None:
    method, batch = make("social_influence"), episodes()
    state = fast_jit(method.init)(KEY)
    _, rewards, _, _ = method._rewards(state, batch, batch.observation, {})
    logits = np.asarray(method._apply("actor", state.params["actor"], batch.observation[:-1]))
    chances = np.where(batch.action_mask[:-1], np.exp(logits), 0.0)
    chances /= chances.sum(-1, keepdims=True)

    def law(t: int, b: int, i: int, action: np.ndarray) -> np.ndarray:
        """What agent i expects the other to do next."""
        own = jax.tree.map(lambda x: x[i], state.params["model"])
        seen = jnp.concatenate([batch.observation[t, b, i], jnp.eye(ACTIONS)[action].ravel()])
        expected = np.asarray(method._parts["model"][0].apply(own, seen)).reshape(AGENTS, ACTIONS)
        weights = np.exp(expected[1 - i])
        return np.asarray(weights / weights.sum())

    for t in range(LIMIT):
        for b in range(3):
            follows = t + 1 < LIMIT and bool(batch.valid[t + 1, b])
            for i in range(AGENTS):
                action = np.asarray(batch.action[t, b])
                marginal = np.zeros(ACTIONS)
                for a in range(ACTIONS):
                    changed = action.copy()
                    changed[i] = a
                    marginal += chances[t, b, i, a] * law(t, b, i, changed)
                given = law(t, b, i, action)
                influence = np.sum(given * np.log(given / marginal)) * follows
                np.testing.assert_allclose(
                    rewards["critic"][t, b, i],
                    batch.reward[t, b, i] + influence,
                    rtol=1e-4,
                    atol=1e-5,
                )


def test_the_model_learns_the_others_next_actions_only() -> None:
    method, batch = make("social_influence", model_weight=1.0), episodes()
    state = fast_jit(method.init)(KEY)
    more = method._rewards(state, batch, batch.observation, {})[2]
    lessons = type(
        "Lessons", (), {"inputs": batch.observation[:-1], "action": batch.action, "more": more}
    )
    loss, metrics = method._more_loss(state.params, lessons)
    logits = method._predict(
        state.params["model"], batch.observation[:-1], method._joint(batch.action)
    )
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    terms = [
        log_probs[t, b, i, 1 - i, int(batch.action[t + 1, b, 1 - i])]
        for t in range(LIMIT - 1)
        for b in range(3)
        for i in range(AGENTS)
        if bool(batch.valid[t + 1, b])
    ]
    np.testing.assert_allclose(metrics["model_loss"], -np.mean(terms), rtol=1e-5)
    np.testing.assert_allclose(loss, -AGENTS * np.mean(terms), rtol=1e-5)


def test_the_influence_rewards_weight_may_rise_slowly() -> None:
    batch = episodes()
    full = make("social_influence")
    state = fast_jit(full.init)(KEY)
    slow = make("social_influence", influence_anneal_steps=100)
    bonus = full._rewards(state, batch, batch.observation, {})[1]["critic"] - batch.reward
    state = state._replace(env_steps=jnp.array(25))
    quarter = slow._rewards(state, batch, batch.observation, {})[1]["critic"] - batch.reward
    np.testing.assert_allclose(quarter, 0.25 * bonus, atol=1e-6)


@pytest.mark.parametrize("name", ["eiti", "edti", "social_influence"])
def test_a_single_agent_has_nobody_to_influence(name: str) -> None:
    with pytest.raises(ConfigurationError, match="influence needs at least 2"):
        make(name, Sizes(1, 3, 4, 4, 4))


# --- Learning ---

SOLVER: dict[str, Any] = {
    "num_envs": 16,
    "hidden_size": 16,
    "hidden_layers": 1,
    "lr": 1e-2,
    "entropy_weight": 0.01,
    "gamma": 0.95,
}


def train(
    name: str, env: type[Probe], iterations: int, seeds: int = 2, **options: Any
) -> np.ndarray:
    """Mean greedy returns."""
    return greedy_returns(name, env(), iterations, seeds, {**SOLVER, **options})


@pytest.mark.parametrize(
    ("name", "env", "best"),
    [
        ("ippo", Masked, 1.0),
        pytest.param("ippo", TakeOrWait, 2.0, marks=pytest.mark.slow),
        pytest.param("ippo", Roles, 1.0, marks=pytest.mark.slow),
        pytest.param("eiti", Roles, 1.0, marks=pytest.mark.slow),
        pytest.param("social_influence", Roles, 1.0, marks=pytest.mark.slow),
    ],
)
def test_it_solves(name: str, env: type[Probe], best: float) -> None:
    """Masked: sight, available actions. TakeOrWait: the discount. Roles: agents that differ."""
    assert (train(name, env, 150) > 0.95 * best).all()
