"""EITI and EDTI: counts and rewards against dictionaries and loops."""

import collections
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
from marl_jax.methods.ppo import Acted
from marl_jax.rollout import rollout
from marl_jax.types import EpisodeBatch
from tests.methods.learners import (
    SIZES,
    fast_jit,
    greedy_returns,
    make_batch,
)
from tests.methods.ppo_learners import drawn_state
from tests.probes import LIMIT, Lock, Roles

SMALL: dict[str, Any] = {
    "num_envs": 3,
    "hidden_size": 5,
    "hidden_layers": 1,
    "critic_hidden": (5,),
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "table_bits": 10,
    "joint_table_bits": 12,
}
KEY = jax.random.key(3)


def make(name: str = "eiti", sizes: Sizes = SIZES, **options: Any) -> Any:
    cls: Any = methods.recipe(name)
    return cls(cls.Config.from_mapping({**SMALL, **options}, name), sizes)


def episodes(seed: int = 0) -> EpisodeBatch:
    batch = make_batch(lengths=(4, 2, 3), terminated=(False, True, True), seed=seed)
    return batch._replace(extras=Acted(jnp.full(batch.action.shape, -1.0)))


def played(batch: EpisodeBatch) -> jax.Array:
    """Where agents are alive."""
    return batch.valid[..., None] & batch.alive[:-1]


def reference(
    own: np.ndarray, body: np.ndarray, batches: list[EpisodeBatch]
) -> tuple[np.ndarray, np.ndarray]:
    """Rarity and influence of the last of some batches, with dictionaries and loops."""
    visits: Any = collections.Counter()
    counts: Any = collections.Counter()
    for batch in batches:
        view, action, valid = (
            np.asarray(x) for x in (batch.observation, batch.action, batch.valid)
        )
        t_max, b_max, n = action.shape
        rarity, influence = np.zeros(action.shape), np.zeros((*action.shape, n))

        def state(t: int, b: int, i: int, view: Any = view) -> tuple[float, ...]:
            return tuple(view[t, b, i][own[i]].tolist())

        def moved(t: int, b: int, i: int, view: Any = view) -> tuple[float, ...]:
            """The displacement of its body."""
            return tuple((view[t + 1, b, i] - view[t, b, i])[body[i]].tolist())

        for t in range(t_max):
            for b in range(b_max):
                for i in range(n):
                    rarity[t, b, i] = (visits[i, state(t + 1, b, i)] + 1) ** -0.5
            alive = [b for b in range(b_max) if valid[t, b]]
            for b in alive:
                for j in range(n):
                    visits[j, state(t + 1, b, j)] += 1
                    alone = (j, state(t, b, j), action[t, b, j])
                    counts[alone] += 1
                    counts[(*alone, moved(t, b, j))] += 1
                    for i in range(n):
                        joint = (*alone, i, state(t, b, i), action[t, b, i])
                        counts[joint] += 1
                        counts[(*joint, moved(t, b, j))] += 1
            for b in alive:
                for i in range(n):
                    for j in range(n):
                        if i == j:
                            continue
                        alone = (j, state(t, b, j), action[t, b, j])
                        joint = (*alone, i, state(t, b, i), action[t, b, i])
                        then = moved(t, b, j)
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
    views, alive = (
        jnp.concatenate([x, y[None]])
        for x, y in ((batch.observation, last.agents_view), (batch.alive, last.alive))
    )
    return batch._replace(observation=views, alive=alive)


@pytest.mark.parametrize(
    ("world", "player"),
    [
        pytest.param(Lock(), "random", marks=pytest.mark.slow),
        (PushBox(time_limit=60, size=9, terminate_on_success=False), "helped"),
    ],
)
def test_counts_and_influence_against_dictionaries(world: Any, player: str) -> None:
    """On two batches of recorded episodes."""
    method = methods.make(
        "edti", world, num_envs=6, hidden_size=4, hidden_layers=1, joint_table_bits=21
    )
    state = drawn_state(method)
    if player == "random":
        play = fast_jit(lambda k: rollout(world, method, state, k, 6, True)[0])
    else:
        play = fast_jit(lambda k: helped(world, k, 6))
    batches = [play(jax.random.key(k)) for k in range(2)]
    counts, count = state.parts[0], fast_jit(method.parts[0].count)
    for batch in batches:
        counts, rarity, influence = count(counts, batch, played(batch))
    expected = reference(world.own_features, world.body_features, batches)
    valid = np.asarray(batches[-1].valid)
    np.testing.assert_allclose(rarity[valid], expected[0][valid], rtol=1e-5)
    np.testing.assert_allclose(influence[valid], expected[1][valid], rtol=1e-4, atol=1e-6)
    steps = sum(int(b.valid.sum()) for b in batches)
    assert int(counts.visits[:, 1].sum()) == steps * world.num_agents
    assert np.abs(influence[valid]).max() > 0.1
    if player == "helped":
        assert float(batches[-1].reward.max()) == 1000.0


def test_an_iteration_of_push_box_has_32_episodes() -> None:
    assert methods.make("eiti", PushBox()).num_envs == 32  # type: ignore[attr-defined]


def test_a_box_that_is_drawn_anew_is_no_outcome_of_a_step() -> None:
    """Two environments: the agents stay, and the box is drawn in another cell in each."""
    world = PushBox(observation="cells")
    method = methods.make("eiti", world, num_envs=2)
    view = np.array([[[2, 3, 4, 5, 7, 7]] * 2] * 2)
    view[1, 1, 4:] = 9
    views = jnp.asarray(np.repeat(view[:, :, None], 2, axis=2), jnp.float32)
    batch = make_batch((1, 1), (False, False), steps=1)
    batch = batch._replace(observation=views, action=jnp.full((1, 2, 2), 4))
    keys = fast_jit(method.parts[0].keys)(batch)  # type: ignore[attr-defined]
    one, other = keys.visits[0]
    assert bool(jnp.any(one != other, axis=-1).all())
    for same in (keys.contexts, keys.outcomes, keys.joint_contexts, keys.joint_outcomes):
        np.testing.assert_array_equal(same[0, 0], same[0, 1])


def test_own_and_body_features() -> None:
    """Own: oneself and the things around. Body: oneself."""
    # Push-Box: rows and columns of agent 0, agent 1, the box; Secret Room: of both agents, then three doors.
    for world, size, theirs in ((PushBox(), 15, 6), (SecretRoom(observation="one_hot"), 25, 4)):
        for features in (world.own_features, world.body_features):
            blocks = features[:, : theirs * size].reshape(2, theirs // 2, 2 * size)
            np.testing.assert_array_equal(blocks.all(-1), blocks.any(-1))
            np.testing.assert_array_equal(blocks.all(-1)[:, :2], [[1, 0], [0, 1]])
    box = PushBox(observation="coordinates")
    assert box.own_features.astype(int).tolist() == [[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]]
    assert box.body_features.astype(int).tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]
    assert not SecretRoom().own_features[:, 4:].any()
    for features in (SecretRoom().own_features, SecretRoom().body_features):
        assert features[0].sum() == 2
    assert Lock().body_features.all()


@pytest.mark.parametrize("name", ["eiti", "edti"])
def test_what_eiti_and_edti_pay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given what the counts say: drawn here, since random sights do not come again."""
    rng = np.random.default_rng(0)
    batch = episodes()
    batch = batch._replace(
        observation=jnp.zeros((LIMIT + 1, 3, 3, 4)),
        action_mask=jnp.ones((LIMIT + 1, 3, 3, 3), bool),
        alive=jnp.ones((LIMIT + 1, 3, 3), bool),
        action=jnp.zeros((LIMIT, 3, 3), jnp.int32),
        reward=jnp.asarray(rng.normal(size=(LIMIT, 3, 3))),
        discount=jnp.broadcast_to(batch.discount[..., :1], (LIMIT, 3, 3)),
        extras=Acted(jnp.zeros((LIMIT, 3, 3))),
    )
    rarity = rng.uniform(0.1, 1.0, (LIMIT, 3, 3))
    influence = rng.uniform(-1.0, 1.0, (LIMIT, 3, 3, 3)) * (1 - np.eye(3))
    options: Any = {"curiosity_weight": 2.0, "influence_weight": 0.5}
    if name == "edti":
        options |= {"extrinsic_weight": 0.3, "intrinsic_weight": 0.7}
    method = make(name, SIZES._replace(num_agents=3), **options)
    state, part = drawn_state(method), method.parts[0]
    value = rng.normal(size=(LIMIT + 1, 3, 3, len(method.values)))
    experience = method.experience(state, batch)._replace(value=jnp.asarray(value))
    found = (state.parts[0], jnp.asarray(rarity), jnp.asarray(influence))
    monkeypatch.setattr(type(part), "count", lambda *_: found)
    _, reward, metrics = method.rewards(state, experience)

    bonus = np.zeros_like(rarity)
    goes_on = np.asarray(batch.discount)
    # Two episodes end by themselves; what was seen there is worth nothing.
    assert (goes_on == 0.0).any()
    for i, j in itertools.permutations(range(3), 2):
        worth: Any = 1.0
        if name == "edti":
            ahead = 0.3 * value[1:, :, j, 1] + 0.7 * value[1:, :, j, 2]
            worth = 0.9 * goes_on[:, :, j] * ahead
        bonus[..., i] += 0.5 * influence[..., i, j] * worth
    task = np.asarray(batch.reward)
    np.testing.assert_allclose(reward[..., 0], task + 2.0 * rarity + bonus, rtol=1e-4, atol=1e-6)
    valid = np.asarray(batch.valid)
    np.testing.assert_allclose(metrics["influence_bonus"], bonus[valid].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["curiosity"], 2.0 * rarity[valid].mean(), rtol=1e-5)
    returns = np.asarray(method.returns(experience, reward))
    spread = (2.0 * rarity + bonus)[valid].std() / (returns - value[:-1])[valid][..., 0].std()
    np.testing.assert_allclose(metrics["intrinsic_ratio"], spread, rtol=1e-4)
    assert reward.shape[-1] == {"eiti": 1, "edti": 3}[name]
    if name == "edti":
        np.testing.assert_allclose(reward[..., 1], task, rtol=1e-6)
        np.testing.assert_allclose(reward[..., 2], 2.0 * rarity, rtol=1e-6)


def test_states_without_a_slot_are_not_new_for_ever() -> None:
    """A table of two slots, and far more states: nobody is paid for what is not in it."""
    method, batch = make("eiti", table_bits=1), episodes()
    counts = method.parts[0].start(KEY)
    _, rarity, _ = fast_jit(method.parts[0].count)(counts, batch, played(batch))
    paid = np.asarray(rarity)[np.asarray(batch.valid)]
    assert (paid == 1.0).sum() == 2
    assert (paid == 0.0).sum() == paid.size - 2


def test_the_dead_are_neither_counted_nor_paid() -> None:
    method, batch = make("eiti"), episodes()
    # The same sights again and again, and an agent that dies in the first episode.
    batch = batch._replace(
        observation=jnp.zeros_like(batch.observation),
        alive=batch.alive.at[2:, 0, 1].set(False),
        action=jnp.asarray(np.random.default_rng(0).integers(0, 2, batch.action.shape)),
    )
    counts, rarity, influence = fast_jit(method.parts[0].count)(
        method.parts[0].start(KEY), batch, played(batch)
    )
    # 9 steps of two agents, two of them of the dead.
    for table, number in zip(counts, (16, 16, 16, 14, 14), strict=True):
        assert int(table[:, 1].sum()) == number
    assert not rarity[2:, 0, 1].any()
    assert not influence[2:, 0].any()
    assert rarity[:, 0, 0].all()


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
    method = make("edti", epochs=2)
    state = drawn_state(method)
    update = fast_jit(lambda b: method.update(state, b, None, KEY)[0])
    jax.tree.map(np.testing.assert_array_equal, update(batch), update(other))


@pytest.mark.parametrize("name", ["eiti", "edti", "social_influence"])
def test_agents_may_be_recurrent(name: str) -> None:
    """Counts and models need observations and actions only."""
    known = methods.recipe(name).Config.__dataclass_fields__
    options = {k: v for k, v in SMALL.items() if k in known}
    options |= {"agent": "gru", "critic": "gru", "minibatch_unit": "episodes", "minibatches": 3}
    config = methods.recipe(name).Config.from_mapping(options, name)
    method: Any = methods.recipe(name)(config, SIZES)
    state = jax.eval_shape(method.init, KEY)
    new, _ = jax.eval_shape(method.update, state, episodes(), None, KEY)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert [x.shape for x in jax.tree.leaves(new)] == [x.shape for x in jax.tree.leaves(state)]


@pytest.mark.parametrize("name", ["eiti", "edti"])
def test_a_single_agent_has_nobody_to_influence(name: str) -> None:
    with pytest.raises(ConfigurationError, match="influence needs at least 2"):
        make(name, Sizes(1, 3, 4, 4, 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eiti", "social_influence"])
def test_it_learns_with_what_it_is_paid(name: str) -> None:
    """Roles are for agents that differ."""
    options: dict[str, Any] = {
        "num_envs": 16,
        "hidden_size": 16,
        "hidden_layers": 1,
        "critic_hidden": (16,),
        "lr": 1e-2,
        "lr_final": 1e-2,
        "entropy_weight": 0.01,
        "entropy_weight_final": 0.01,
        "gamma": 0.95,
    }
    assert (greedy_returns(name, Roles(), 150, 2, options) > 0.95).all()
