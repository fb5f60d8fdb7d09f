"""Several episodes in a row: where they are, and that learners learn what they learn from each by itself."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.base import Observation
from marl_jax import methods
from marl_jax.lengths import LEAST
from marl_jax.losses.individuality import earlier_steps
from marl_jax.methods.base import Sizes
from marl_jax.methods.ppo import Acted
from marl_jax.networks import GRUAgent, TeamAgent
from marl_jax.replay import EpisodeReplay
from marl_jax.rows import Rows, by_episode, in_rows, lay_out, row_counts, rows_of
from marl_jax.training import Trainer, TrainingConfig
from tests.methods.learners import assert_same_learning, drawn_state, fast_jit, make_batch
from tests.probes import ACTIONS, AGENTS, FEATURES, Lasts
from tests.tiny import METHOD

LIMIT = 16
SIZES = Sizes(AGENTS, ACTIONS, FEATURES, AGENTS * FEATURES, LIMIT)
EARLY = SIZES._replace(ends_early=True)


def test_counts_rise_to_the_number_of_episodes() -> None:
    """Rows are of twice the length: fewer than half as many as episodes, or each in one of its own."""
    assert row_counts(32, 100, True) == (4, 6, 8, 12, 32)
    assert row_counts(4, 100, True) == (1, 4)
    assert row_counts(2, 100, True) == (2,)
    assert row_counts(32, 100, False) == (32,)
    assert row_counts(32, 15, True) == (32,)


def test_the_longest_first_each_where_most_room_is_left() -> None:
    """By hand: in two rows of 2 (4 + 1) entries, 4 + 1, 4 + 1, 2 + 1, 1 + 1 and 1 + 1 steps and sights."""
    lengths = jnp.array([4, 2, 4, 1, 1])
    which, row, offset = lay_out(lengths, (1, 2, 5), 4)
    assert int(which) == 1
    assert row[1].tolist() == [0, 0, 1, 1, 1]
    assert offset[1].tolist() == [0, 5, 0, 5, 7]
    rows = rows_of(lengths, row[1], offset[1], 2, 4)
    episode, time = rows.source
    assert episode[:, 0].tolist() == [0] * 5 + [1] * 5
    assert time[:, 0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert episode[:, 1].tolist() == [2] * 5 + [3] * 2 + [4] * 3
    assert np.flatnonzero(rows.start[:, 1]).tolist() == [0, 5, 7]
    assert rows.valid.shape == (4, 5)
    assert rows.valid.sum(0).tolist() == [4, 2, 4, 1, 1]


@pytest.mark.parametrize(
    ("lengths", "which"),
    [
        *(([8] * 8, 2), ([8, 8, 8, 8, 0, 0, 0, 0], 2), ([8, 8, 8, 3, 0, 0, 0, 0], 1)),
        *(([0] * 8, 0), ([3] * 8, 1), ([2, 1, 2, 0, 1, 1, 1, 1], 0)),
    ],
)
def test_the_fewest_rows_that_hold_them(lengths: list[int], which: int) -> None:
    """Rows of 18 entries, one or two, or one for each."""
    assert int(lay_out(jnp.array(lengths), (1, 2, 8), 8)[0]) == which


def test_no_episode_is_lost_or_torn() -> None:
    lengths = jnp.asarray(np.random.default_rng(0).integers(0, 9, (50, 6)))
    counts = (1, 2, 3, 6)
    which, row, offset = jax.vmap(lambda x: lay_out(x, counts, 8))(lengths)
    for i, w in enumerate(which.tolist()):
        taken = np.zeros((18, counts[w]), int)
        for b, length in enumerate(lengths[i].tolist()):
            at = int(offset[i, w, b])
            taken[at : at + length + 1, int(row[i, w, b])] += 1
            assert at + length + 1 <= 18
        assert taken.max() == 1
    assert len(set(which.tolist())) > 1


def test_random_numbers_are_an_episodes_wherever_it_lies() -> None:
    lengths = jnp.array([3, 8, 0, 2])
    counts = row_counts(4, LEAST, True)
    which, row, offset = lay_out(lengths, counts, LEAST)
    rows = rows_of(lengths, row[which], offset[which], counts[int(which)], LEAST)
    shape = (2 * (LEAST + 1), counts[int(which)], 5)
    assert shape[1] < 4
    drawn = by_episode(None, (LEAST + 1, 4, 5), jax.random.key(0), jax.random.normal)
    laid = by_episode(rows, shape, jax.random.key(0), jax.random.normal)
    for episode, length in enumerate(lengths.tolist()):
        np.testing.assert_array_equal(rows.unpack(laid)[:length, episode], drawn[:length, episode])
    assert len(np.unique(drawn)) == drawn.size


def test_into_rows_and_back() -> None:
    lengths = jnp.array([3, 8, 1, 8])
    _, row, offset = lay_out(lengths, (2, 4), 8)
    rows = rows_of(lengths, row[0], offset[0], 2, 8)
    assert rows.pack(jnp.zeros((8, 4))).shape == (17, 2)
    assert rows.pack(jnp.zeros((9, 4))).shape == (18, 2)
    steps, sights = (jnp.arange(1, 4 * n + 1).reshape(n, 4) for n in (8, 9))
    for x, num in ((steps, 0), (sights, 1)):
        back = rows.unpack(rows.pack(x))
        assert back.shape == x.shape
        here = np.arange(len(x))[:, None] < lengths + num
        np.testing.assert_array_equal(np.asarray(back)[here], np.asarray(x)[here])


def test_of_many_seeds_the_fullest_decides_and_there_is_still_one_branch() -> None:
    """Under `vmap` an index for each seed would turn the branches into a choice between all their results."""
    lengths = jnp.array([[3, 3, 3, 3], [8, 8, 8, 1], [1, 1, 1, 1]])
    played = jnp.arange(8)[:, None] < lengths[:, None]

    def look(played: jax.Array) -> jax.Array:
        def width(x: jax.Array, rows: Rows | None) -> jax.Array:
            return jnp.asarray(x.shape[1])

        return in_rows((1, 2, 4), played, played, width)

    np.testing.assert_array_equal(jax.jit(jax.vmap(look))(played), [2, 2, 2])
    np.testing.assert_array_equal(jax.jit(jax.vmap(look))(played[::2]), [1, 1])
    assert str(jax.make_jaxpr(jax.vmap(look))(played)).count("cond[") == 1


def test_memory_begins_anew_with_an_episode() -> None:
    """Outputs and gradients of two episodes in a row are those of each by itself, also forwards."""
    lengths = jnp.array([4, 3])
    _, row, offset = lay_out(lengths, (1, 2), 8)
    rows = rows_of(lengths, row[0], offset[0], 1, 8)
    agent = TeamAgent(GRUAgent(3, 5), 2)
    params = agent.init(jax.random.key(0), 4)
    xs = jax.random.normal(jax.random.key(1), (9, 2, 2, 4))
    weights = jax.random.normal(jax.random.key(2), (9, 2, 2, 3))
    held = (jnp.arange(9)[:, None] <= lengths)[..., None, None]

    def apart(params: Any) -> jax.Array:
        return jnp.sum(weights * agent.unroll(params, xs)[1] * held)

    def together(params: Any) -> jax.Array:
        out = rows.unpack(agent.unroll(params, rows.pack(xs), rows)[1])
        return jnp.sum(weights * out * held)

    direction = jax.tree.map(lambda x: jnp.sin(jnp.arange(x.size).reshape(x.shape)), params)
    values = [
        fast_jit(lambda p, f=f: jax.jvp(f, (p,), (direction,)))(params) for f in (apart, together)
    ]
    np.testing.assert_allclose(*np.asarray(values), rtol=1e-5)
    grads = [fast_jit(jax.grad(f))(params) for f in (apart, together)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), *grads)


def test_a_positive_is_of_the_same_episode() -> None:
    time = jnp.array([0, 1, 2, 0, 1, 0])[:, None]
    steps, exists = earlier_steps(jax.random.uniform(jax.random.key(0), (6, 1, 500)), 4, time)
    assert exists[:, 0, 0].tolist() == [0, 1, 1, 0, 1, 0]
    assert np.unique(steps[1]).tolist() == [0]
    assert np.unique(steps[2]).tolist() == [0, 1]
    assert np.unique(steps[4]).tolist() == [3]


# What is learned.

LENGTHS = (4, LIMIT, 3, 5)
"""The second is cut off by the time limit: its value goes on. It comes first in the row, and the others after it."""


def batch_of(lengths: tuple[int, ...] = LENGTHS) -> Any:
    """Short episodes, and one of all 16 steps."""
    return make_batch(lengths, terminated=[n < LIMIT for n in lengths], steps=LIMIT)


def small(name: str, sizes: Sizes, **options: Any) -> Any:
    cls: Any = methods.recipe(name)
    fields = cls.Config.__dataclass_fields__
    given = {k: v for k, v in METHOD.items() if k in fields}
    given |= {"batch_size": 4, "replay_capacity": 4 * LIMIT, "num_envs": 4, "agent": "gru"}
    given |= {"td_lambda": 0.6}
    given = {k: v for k, v in given.items() if k in fields} | options
    return cls(cls.Config.from_mapping(given, name), sizes)


@pytest.fixture
def two_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row, or one for each episode: every further number would have to be compiled."""
    monkeypatch.setattr("marl_jax.rows.SHARES", (0.5,))


SLOW = pytest.mark.slow
QUICK = ("cia", "maven")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, marks=[] if name in QUICK else [SLOW])
        for name, options in (
            *((n, {}) for n in ("iql", "vdn", "qmix", "qplex", "qtran", "ow_qmix", "cw_qmix")),
            *((n, {}) for n in ("cia", "cia_qplex", "gre", "maven", "cds", "scds", "roma")),
            ("kaleidoscope", {}),
            ("roma", {"role_loss_steps": "all"}),
            ("eoi", {}),
            ("eoi", {"classifier": "gru"}),
            ("eoi_released", {}),
        )
    ],
)
@pytest.mark.usefixtures("two_counts")
def test_value_methods_learn_the_same_from_rows(name: str, options: dict[str, Any]) -> None:
    after = []
    for sizes in (SIZES, EARLY):
        method = small(name, sizes, **options)
        state = drawn_state(method, 0)
        batch = batch_of()
        kept = jax.eval_shape(lambda m=method, s=state: _extras(m, s))
        # Drawn once for an episode, as MAVEN's latents are.
        drawn = itertools.count()
        batch = batch._replace(
            extras=jax.tree.map(
                lambda x, n=drawn: jnp.broadcast_to(
                    jax.random.uniform(jax.random.key(next(n)), x.shape), (LIMIT, *x.shape)
                ).astype(x.dtype),
                kept,
            )
        )
        replay = EpisodeReplay(4, LIMIT)
        stored = replay.add(replay.init(batch), batch)
        after.append(fast_jit(method.update)(state, batch, stored, jax.random.key(5)))
    assert_same_learning(*after)


def _extras(method: Any, state: Any) -> Any:
    """What its actor keeps of a step of four environments."""
    memory = method.initial_memory(state, 4, jax.random.key(0))
    batch = batch_of()
    observation = Observation(
        agents_view=batch.observation[0],
        global_state=batch.global_state[0],
        action_mask=batch.action_mask[0],
        alive=batch.alive[0],
        step_count=jnp.zeros((4,), jnp.int32),
    )
    return method.act(state, memory, observation, jax.random.key(0), True)[2]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, marks=[] if name == "mappo" else [SLOW])
        for name, options in (
            ("mappo", {"critic": "gru"}),
            ("ippo", {"minibatches": 2}),
            ("happo", {}),
            ("happo", {"mask_dead_values": True, "minibatches": 2}),
            ("liir", {"meta_share": 1.0}),
            ("liir", {"meta_gradient": "all"}),
            ("social_influence", {"minibatch_unit": "episodes"}),
            ("influencer@ippo", {"influencers": (0, 1)}),
        )
    ],
)
@pytest.mark.usefixtures("two_counts")
def test_ppo_learns_the_same_from_rows(name: str, options: dict[str, Any]) -> None:
    after = []
    for sizes in (SIZES, EARLY):
        method = small(name, sizes, **options)
        batch = batch_of()
        batch = batch._replace(extras=Acted(jnp.full(batch.action.shape, -1.1)))
        state = fast_jit(method.init)(jax.random.key(2))
        after.append(fast_jit(method.update)(state, batch, None, jax.random.key(5)))
    assert_same_learning(*after)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["happo", "liir"])
@pytest.mark.usefixtures("two_counts")
def test_continuous_ppo_learns_the_same_from_rows(name: str) -> None:
    after = []
    for sizes in (SIZES, EARLY):
        method = small(name, sizes._replace(continuous=True))
        batch = batch_of()
        drawn = jax.random.normal(jax.random.key(1), (*batch.reward.shape, ACTIONS))
        acted = Acted(jnp.full(batch.reward.shape, -1.1), drawn=drawn)
        batch = batch._replace(action=jnp.clip(drawn, -1.0, 1.0), extras=acted)
        state = fast_jit(method.init)(jax.random.key(2))
        after.append(fast_jit(method.update)(state, batch, None, jax.random.key(5)))
    assert_same_learning(*after)


def test_rows_are_used() -> None:
    """What those tests compare is not the same program twice: QMIX's unroll sees one row of four episodes.

    What follows the gradients is in the program once, for two unrolls of each number of rows.
    """
    seen, descended = [], []
    method = small("qmix", EARLY)

    class Spied(type(method)):  # type: ignore[misc]
        def unroll(self, params: Any, batch: Any, key: jax.Array) -> Any:
            seen.append(batch.valid.shape[1])
            return super().unroll(params, batch, key)

        def descend(self, *given: Any) -> Any:
            descended.append(1)
            return super().descend(*given)

    spied, batch = Spied(method.config, EARLY), batch_of()
    replay = EpisodeReplay(4, LIMIT)
    stored = replay.add(replay.init(batch), batch)
    jax.eval_shape(spied.update, drawn_state(spied, 0), batch, stored, jax.random.key(5))
    assert sorted(set(seen)) == [1, 4]
    assert len(seen) == 4 * len(descended)


@pytest.mark.parametrize("name", ["roma", *(pytest.param(n, marks=SLOW) for n in ("eoi", "mappo"))])
@pytest.mark.slow
def test_a_seed_does_not_depend_on_its_neighbours_where_all_are_one_batch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fullest batch decides how many rows there are; what is drawn and learned is the same."""
    # In one row there is room for four episodes of 3.25 steps on average, and they last 3.
    monkeypatch.setattr("marl_jax.rows.SHARES", (0.25, 1.0))
    world = Lasts()
    method = small(name, Sizes.of(world), num_envs=2, episodes_per_env=2)
    options = {"total_steps": 4 * LIMIT, "eval_interval": 4 * LIMIT, "eval_episodes": 2}
    config = TrainingConfig(**options, seed_batching="vmap")
    learned = []
    # The third seed has the longest episodes.
    for first, num in ((0, 3), (1, 1)):
        trainer = Trainer(world, method, config, num, first)
        state = trainer.init()
        for _ in range(2):
            state, metrics = trainer.train_chunk(state, trainer.everyone)
        learned.append((state.method.params, metrics.env_steps))
    (together, steps), (alone, own_steps) = learned
    assert int(steps[1]) == int(own_steps[0]) < int(steps[2])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x[1], y[0], rtol=5e-4, atol=1e-6), together, alone
    )
