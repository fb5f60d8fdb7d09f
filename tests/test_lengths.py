"""What is over is left out, and learners learn what they would have learned of the whole."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax import methods
from marl_jax.lengths import by_length, lengths_of
from marl_jax.methods.base import Sizes
from marl_jax.rollout import retrace, rollout
from tests.methods.learners import assert_same_learning, fast_jit, make_batch
from tests.methods.learners import make as actor_critic
from tests.probes import ACTIONS, AGENTS, FEATURES, TakeOrWait

LIMIT = 16
SIZES = Sizes(AGENTS, ACTIONS, FEATURES, AGENTS * FEATURES, LIMIT)
EARLY = SIZES._replace(ends_early=True)


def test_lengths_rise_to_the_time_limit() -> None:
    assert lengths_of(100, True) == (25, 38, 50, 100)
    assert lengths_of(16, True) == (4, 6, 8, 16)
    assert lengths_of(100, False) == (100,)
    assert lengths_of(15, True) == (15,)


@pytest.mark.parametrize(
    ("longest", "length"), [(0, 4), (1, 4), (4, 4), (5, 6), (8, 8), (9, 16), (16, 16)]
)
def test_the_shortest_length_that_holds_all(longest: int, length: int) -> None:
    played = jnp.arange(LIMIT)[:, None] < jnp.array([longest, longest // 2])
    tree = {"steps": jnp.arange(LIMIT), "sights": jnp.arange(LIMIT + 1)}

    def look(cut: dict[str, jax.Array]) -> tuple[Any, ...]:
        sizes = [jnp.asarray(len(cut[name])) for name in ("steps", "sights")]
        return *sizes, cut["steps"].sum(), cut["sights"][-1]

    found = jax.jit(lambda p, t: by_length(EARLY.lengths, p, t, look))(played, tree)
    assert [int(x) for x in found] == [length, length + 1, length * (length - 1) // 2, length]


def test_of_many_seeds_the_longest_decides_and_there_is_still_one_branch() -> None:
    """Under `vmap` an index for each seed would turn the branches into a choice between all their results."""
    played = jnp.arange(LIMIT)[None, :, None] < jnp.array([3, 7, 1])[:, None, None]

    def look(played: jax.Array) -> jax.Array:
        return by_length(EARLY.lengths, played, played, lambda cut: jnp.asarray(len(cut)))

    np.testing.assert_array_equal(jax.jit(jax.vmap(look))(played), [8, 8, 8])
    program = str(jax.make_jaxpr(jax.vmap(look))(played))
    assert program.count("cond[") == 1


def players(world: Any) -> tuple[Any, Any]:
    method = methods.make("iac", world, agent="mlp", hidden_size=4, critic_hidden=(4,))
    return method, fast_jit(method.init)(jax.random.key(1))


class Battle(TakeOrWait):
    """Over after four steps at the latest, of sixteen."""

    def _setup(self) -> None:
        super()._setup()
        self.time_limit = LIMIT


class Unhurried(TakeOrWait):
    """The same, not known to end early."""

    ends_early = False


def test_episodes_are_the_same_until_their_ends() -> None:
    records = []
    for world in (TakeOrWait(), Unhurried()):
        method, state = players(world)

        @fast_jit
        def play(state: Any, world: Any = world, method: Any = method) -> Any:
            return rollout(world, method, state, jax.random.key(3), 5, explore=True)

        records.append(play(state))
    (batch, extras), (other, other_extras) = records
    jax.tree.map(np.testing.assert_array_equal, extras, other_extras)
    np.testing.assert_array_equal(batch.valid, other.valid)
    assert np.sum(~np.asarray(batch.valid)) > 0, "none ended early"
    seen = np.concatenate([np.ones((1, 5), bool), np.asarray(batch.valid)])
    for name in batch._fields[:-2]:
        x, y = (np.asarray(getattr(b, name)) for b in (batch, other))
        here = seen if len(x) == len(seen) else seen[1:]
        np.testing.assert_array_equal(x[here], y[here], err_msg=name)
    # Those that go on cannot be told from those that ended.
    assert np.asarray(batch.action_mask).any(-1).all()


def test_it_stops_when_all_are_over() -> None:
    """Nothing is recorded after the last step that anybody played."""
    world = TakeOrWait()
    method, state = players(world)
    batch, _ = rollout(world, method, state, jax.random.key(3), 1, explore=True)
    over = int(batch.valid.sum())
    assert over < world.time_limit, "choose another key"
    assert np.asarray(batch.observation[1 : over + 1]).any()
    np.testing.assert_array_equal(batch.observation[over + 1 :], 0.0)
    states = retrace(world, jax.random.key(3), batch.action)
    np.testing.assert_array_equal(states.step_count[: over + 1, 0], np.arange(over + 1))


@pytest.fixture
def two_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 and 16: every further one would have to be compiled."""
    monkeypatch.setattr("marl_jax.lengths.EIGHTHS", (2, 8))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        n if n == "coma" else pytest.param(n, marks=SLOW)
        for n in ("coma", "iac", "central_v", "liir_paper")
    ],
)
@pytest.mark.usefixtures("two_lengths")
@pytest.mark.slow
def test_on_policy_methods_learn_the_same_from_what_is_left(name: str) -> None:
    """Those that learn step by step backwards in time, and so keep every episode's place."""
    batch = make_batch((4, 2, 3), terminated=(True, True, True), steps=LIMIT)
    after = []
    for sizes in (SIZES, EARLY):
        method: Any = actor_critic(name, agent="gru")
        method = type(method)(method.config, sizes)
        state = fast_jit(method.init)(jax.random.key(2))
        after.append(fast_jit(method.update)(state, batch, None, jax.random.key(5)))
    assert_same_learning(*after)
