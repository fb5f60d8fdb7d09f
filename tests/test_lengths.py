"""What is over is left out, and learners learn what they would have learned of the whole."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax import methods
from marl_jax.lengths import longest_of, scan_back
from marl_jax.methods.ppo import Acted
from marl_jax.rollout import retrace, rollout
from tests.methods.learners import SIZES, assert_same_learning, fast_jit, make_batch
from tests.methods.learners import make as actor_critic
from tests.methods.ppo_learners import make as ppo
from tests.probes import TakeOrWait

LIMIT = 16


@pytest.mark.parametrize("num", [0, 3])
def test_a_scan_back_is_one_of_the_first_entries(num: int) -> None:
    """What comes after them may hold anything, and gives zeros."""
    xs = jnp.where(jnp.arange(5) < num, jnp.arange(1.0, 6.0), jnp.nan)

    def step(total: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return 2 * total + x, total

    total, before = scan_back(step, jnp.zeros(()), xs, jnp.asarray(num))
    expected, of_first = jax.lax.scan(step, jnp.zeros(()), xs[:num], reverse=True)
    assert float(total) == float(expected)
    np.testing.assert_array_equal(before, [*of_first.tolist(), *[0.0] * (5 - num)])


def test_of_many_seeds_the_longest_decides_and_there_is_one_loop() -> None:
    """Under `vmap` an end for each seed would turn every step into a choice between two carries."""
    played = jnp.arange(LIMIT)[None, :, None] < jnp.array([3, 7, 1])[:, None, None]

    def count(played: jax.Array) -> jax.Array:
        counted = scan_back(
            lambda n, x: (n + 1, x), jnp.zeros((), jnp.int32), played, longest_of(played)
        )
        return counted[0]

    np.testing.assert_array_equal(jax.vmap(count)(played), [7, 7, 7])
    assert "select" not in str(jax.make_jaxpr(jax.vmap(count))(played)).split("while[")[1]


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coma", "iac", "central_v", "liir_paper"])
def test_what_follows_the_end_of_all_changes_nothing(name: str) -> None:
    """The longest of three episodes has four steps: room for sixteen, or for no more than that."""
    batch = make_batch((4, 2, 3), terminated=(True, True, True), steps=LIMIT)
    cut = jax.tree.map(lambda x: x[: len(x) - LIMIT + 4], batch)
    method = actor_critic(name, agent="gru")
    state = fast_jit(method.init)(jax.random.key(2))
    learn = fast_jit(method.update)
    after = [learn(state, some, None, jax.random.key(5)) for some in (batch, cut)]
    assert_same_learning(*after)


def test_a_sweep_takes_no_branch_for_each_length() -> None:
    """What compiles long is large: COMA's update is a third of MAPPO's, which has a branch for each number of rows."""
    batch = make_batch((4, 2, 3), terminated=(True, True, True), steps=LIMIT)
    acted = batch._replace(extras=Acted(jnp.zeros(batch.action.shape)))
    early = SIZES._replace(time_limit=LIMIT, ends_early=True)
    coma: Any = actor_critic("coma", agent="gru")
    operations = []
    for method, played in (
        (type(coma)(coma.config, early), batch),
        (ppo("mappo", early, agent="gru"), acted),
    ):
        key = jax.random.key(0)
        program = jax.make_jaxpr(method.update)(jax.eval_shape(method.init, key), played, None, key)
        operations.append(str(program).count(" = "))
    assert 2 * operations[0] < operations[1]
