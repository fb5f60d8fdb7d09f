"""The script on Turn that sees no more than learners do."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import turn_script
from marl_jax import ConfigurationError
from tests.envs.twins.turn import TurnTwin

UP, DOWN, LEFT, RIGHT, EAT, STAY = range(6)
ACT = jax.jit(jax.vmap(jax.vmap(turn_script.act)))


def start(num_episodes: int) -> turn_script.Memory:
    memories = jax.vmap(turn_script.start)(jnp.arange(2))
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_episodes, *x.shape)), memories)


@pytest.mark.slow
def test_views_alone_give_the_return_that_was_measured() -> None:
    random = np.random.default_rng(0)
    twin = TurnTwin(random.integers(5, size=(200, 2)))
    memories, total = start(200), np.zeros(200)
    for _ in range(100):
        memories, actions = ACT(memories, jnp.asarray(twin.agents_view(), jnp.float32))
        reward, _ = twin.step(
            np.asarray(actions), SimpleNamespace(apple=random.integers(5, size=(200, 2)))
        )
        total += reward
    # 134.5 over 3,000 other episodes, with a deviation of 23: four standard errors.
    assert total.mean() == pytest.approx(134.5, abs=6.5)


def test_an_agent_whose_view_the_apple_enters_knows_that_it_is_free() -> None:
    memories = start(1)
    views = np.zeros((1, 2, 18), np.float32)
    # Agent 0 starts at (0, 0), sees the apple at (0, 1), takes one step and eats it. Agent 1 sees nothing and stays.
    for entry, expected in ((10, RIGHT), (9, EAT)):
        views[:, 0, 9:] = 0
        views[:, 0, entry] = 1
        memories, actions = ACT(memories, views)
        np.testing.assert_array_equal(actions, [[expected, STAY]])
    # The next apple lies above agent 1, at offset (-1, 0): entry 6. It goes there at once, agent 0 waits.
    views[:, 0, 9:] = 0
    views[:, 1, 9 + 6] = 1
    memories, actions = ACT(memories, views)
    np.testing.assert_array_equal(actions, [[STAY, UP]])
    # It stands on the apple: it has moved, so it is free indeed.
    views[:, 1, 9:] = 0
    views[:, 1, 9] = 1
    later, actions = ACT(memories, views)
    np.testing.assert_array_equal(actions, [[STAY, EAT]])
    assert float(later.weights[0, 1, 1].sum()) == pytest.approx(1, abs=1e-5)
    # Or the apple has not come nearer, which cannot be: the agent is as ignorant as a weight of one half, and stays.
    views[:, 1, 9:] = 0
    views[:, 1, 9 + 6] = 1
    later, actions = ACT(memories, views)
    assert float(later.weights[0, 1, 1].sum()) == pytest.approx(0.5, abs=1e-5)
    np.testing.assert_array_equal(actions, [[STAY, STAY]])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--episodes", "1"], "must be at least 2"), (["--episode-seed", "-1"], "must be at least 0")],
)
def test_wrong_numbers_get_one_sentence(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.setattr("sys.argv", ["turn_script.py", *arguments])
    with pytest.raises(ConfigurationError, match=sentence):
        turn_script.main()
