"""Rollouts: every field of an `EpisodeBatch`, step by step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Observation
from marl_jax import methods
from marl_jax.evaluation import evaluate
from marl_jax.methods.base import Sizes
from marl_jax.rollout import retrace, rollout, rollout_in_turn
from tests.methods.learners import fast_jit
from tests.probes import ACTIONS, FEATURES, Context, Lasts, Recall, TakeOrWait


class Script:
    """Plays a fixed plan [T, B, N], and another one if it explores; its memory is the clock, its extras what it saw of
    it.
    """

    num_envs = 2

    def __init__(self, plan: np.ndarray, exploring: np.ndarray | None = None) -> None:
        self.plan = jnp.asarray(plan, jnp.int32)
        self.exploring = self.plan if exploring is None else jnp.asarray(exploring, jnp.int32)

    def init(self, key: jax.Array) -> None:
        return None

    def initial_memory(self, state: None, num_envs: int, key: jax.Array) -> jax.Array:
        return jnp.zeros((), jnp.int32)

    def act(
        self,
        state: None,
        memory: jax.Array,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[jax.Array, jax.Array, Any]:
        plan = self.exploring if explore else self.plan
        return memory + 1, plan[memory], {"clock": memory, "seen": observation.step_count}

    def update(self, state: None, fresh: Any, replay: Any, key: jax.Array) -> Any:
        raise NotImplementedError


# Agent 0 of environment 0 takes at the third step (t = 2); nobody does in environment 1.
PLAN = np.array([[[1, 2], [2, 1]], [[2, 0], [1, 1]], [[0, 1], [1, 0]], [[1, 1], [2, 2]]])


def test_every_field() -> None:
    env, method = TakeOrWait(), Script(PLAN)
    play = jax.jit(lambda key: rollout(env, method, None, key, 2, explore=True))
    batch, extras = play(jax.random.key(0))
    # T+1 observations; the sight is the clock, whose entry 4 does not exist.
    clock = np.broadcast_to(np.arange(5)[:, None, None], (5, 2, 2))
    view = (clock[..., None] == np.arange(FEATURES)).astype(np.float32)
    np.testing.assert_array_equal(batch.observation, view)
    np.testing.assert_array_equal(batch.global_state, view.reshape(5, 2, -1))
    np.testing.assert_array_equal(batch.action_mask, np.ones((5, 2, 2, ACTIONS), bool))
    np.testing.assert_array_equal(batch.alive, np.ones((5, 2, 2), bool))
    np.testing.assert_array_equal(batch.action, PLAN)
    # Environment 0 ends at t = 2 with reward 1; its fourth step is padding.
    valid = np.array([[True, True], [True, True], [True, True], [False, True]])
    np.testing.assert_array_equal(batch.valid, valid)
    both = np.ones((1, 2))
    reward = np.array([[0, 0], [0, 0], [1, 0], [2, 2]])[..., None] * both
    np.testing.assert_array_equal(batch.reward[valid], reward[valid])
    discount = np.array([[1, 1], [1, 1], [0, 1], [0, 0]])[..., None] * both
    np.testing.assert_array_equal(batch.discount[valid], discount[valid])
    np.testing.assert_array_equal(batch.team_return, [1.0, 2.0])
    # What the actor wanted to keep.
    np.testing.assert_array_equal(batch.extras["clock"], np.arange(4))
    np.testing.assert_array_equal(
        batch.extras["seen"], np.broadcast_to(np.arange(4)[:, None], (4, 2))
    )
    # The world's extras at each episode's own end: 3 and 4 steps, all actions taken until then.
    np.testing.assert_array_equal(extras["clock"], [3, 4])
    np.testing.assert_array_equal(extras["memory_sum"], [6, 10])
    assert (batch.num_agents, batch.num_actions) == (2, ACTIONS)
    last_action = np.concatenate([np.zeros((1, 2, 2, ACTIONS)), np.eye(ACTIONS)[PLAN]])
    np.testing.assert_array_equal(batch.last_action, last_action)


def test_the_same_episodes_with_their_states() -> None:
    # `Recall` draws what it shows at the reset: only the same key gives the same numbers.
    env = Recall()
    batch, _ = rollout(env, Script(PLAN), None, jax.random.key(5), 2, explore=True)
    states = retrace(env, jax.random.key(5), batch.action)
    np.testing.assert_array_equal(states.step_count[:, 0], np.arange(5))
    shown = np.argmax(batch.observation[0], axis=-1)
    np.testing.assert_array_equal(states.memory, np.broadcast_to(shown, (5, 2, 2)))


def test_evaluation_reports_each_episode() -> None:
    # Who explores takes 1 at once; length and extras are of the greedy episodes.
    method = Script(PLAN, exploring=np.zeros_like(PLAN))
    results = evaluate(TakeOrWait(), method, None, jax.random.key(0), 2)
    results = {name: value.tolist() for name, value in results.items()}
    assert results == {
        "eval_return": [1.0, 2.0],
        "eval_sampled_return": [1.0, 1.0],
        "eval_length": [3, 4],
        "eval_clock": [3, 4],
        "eval_memory_sum": [6, 10],
    }


def test_an_evaluation_holds_the_world_once() -> None:
    """Worlds are the largest part of many programs: greedy and sampled episodes take the same steps."""

    def steps_in(play: Any) -> int:
        traced = []

        class Spied(TakeOrWait):
            def step(self, state: Any, action: jax.Array) -> Any:
                traced.append(action)
                return super().step(state, action)

        world, method = Spied(), Script(PLAN)
        jax.eval_shape(lambda key: play(world, method, None, key, 2), jax.random.key(0))
        return len(traced)

    assert steps_in(evaluate) == steps_in(functools.partial(rollout, explore=True))


def test_greedy_and_sampled_episodes_have_the_same_starts() -> None:
    # `Recall` draws at the reset what must be played at the end: whoever always plays 0 is right by the draw alone.
    always = Script(np.zeros((4, 40, 2)))
    results = evaluate(Recall(), always, None, jax.random.key(0), 40)
    assert len(set(results["eval_return"].tolist())) > 1
    np.testing.assert_array_equal(results["eval_sampled_return"], results["eval_return"])


def test_the_number_of_environments_does_not_change_an_episode() -> None:
    env = Recall()
    method = methods.make("iac", env, hidden_size=4, critic_hidden=(4,), epsilon_start=1.0)
    state = method.init(jax.random.key(0))

    @functools.partial(jax.jit, static_argnums=1)
    def play(key: jax.Array, num_envs: int) -> Any:
        return rollout(env, method, state, key, num_envs, explore=True)[0]

    two, five = (play(jax.random.key(3), n) for n in (2, 5))
    for one, other in zip(jax.tree.leaves(two), jax.tree.leaves(five), strict=True):
        np.testing.assert_array_equal(one, other[:, :2])
    assert len(np.unique(five.action, axis=1)[0]) > 2, "the episodes do not differ"
    assert not np.array_equal(play(jax.random.key(4), 5).action, five.action)


def test_episodes_played_in_turn_are_those_played_side_by_side() -> None:
    """Greedily, so that no action is drawn: every field but for the place in the record."""
    env, num = Lasts(), 9
    options = {"hidden_size": 4, "critic_hidden": (4,)}
    method = methods.make("mappo", env, num_envs=2, episodes_per_env=5, **options)
    assert (method.num_envs, method.num_episodes) == (2, 10)
    state = fast_jit(method.init)(jax.random.key(0))
    (batch, _), in_turn = (
        fast_jit(lambda key, p=play: p(env, method, state, key, num, explore=False))(
            jax.random.key(3)
        )
        for play in (rollout, rollout_in_turn)
    )
    lengths = batch.valid.sum(0)
    assert len(set(lengths.tolist())) > 3
    steps = np.arange(17)[:, None]
    for name, x in in_turn._asdict().items():
        if name == "rows":
            continue
        y = getattr(batch, name)
        if name == "extras":
            x, y = x.log_prob, y.log_prob
        y = np.asarray(y)
        here = (steps < lengths + (len(x) == 17))[: len(x)]
        np.testing.assert_allclose(np.asarray(x)[here], y[here], rtol=1e-6, err_msg=name)
        # Nothing is left of what another episode did in the same environment.
        np.testing.assert_array_equal(np.asarray(x)[~here], name == "action_mask", err_msg=name)


def test_what_is_drawn_for_an_episode_is_drawn_anew_for_the_next_in_its_place() -> None:
    env = Lasts()
    options = {"num_envs": 2, "episodes_per_env": 8, "update_interval": 64}
    method = methods.make("maven", env, agent="mlp", hidden_size=4, **options)
    state = fast_jit(method.init)(jax.random.key(0))
    play = fast_jit(lambda key: rollout_in_turn(env, method, state, key, 16, explore=True))
    batch = play(jax.random.key(0))
    latent, valid = np.asarray(batch.extras.latent), np.asarray(batch.valid)
    np.testing.assert_array_equal(latent[valid], np.broadcast_to(latent[0], latent.shape)[valid])
    assert len(np.unique(latent[0, ::2], axis=0)) == 2


def test_episodes_in_turn_at_their_longest() -> None:
    """Where none ends early, the record of W environments holds B episodes whatever B is."""
    env = Recall()
    env.ends_early = True
    method = methods.make("mappo", env, num_envs=3, minibatches=1, agent="mlp")
    state = fast_jit(method.init)(jax.random.key(0))
    for num in (1, 3, 7):
        play = fast_jit(
            lambda key, n=num: rollout_in_turn(env, method, state, key, n, explore=True)
        )
        batch = play(jax.random.key(0))
        assert batch.valid.all()
        assert batch.valid.shape == (env.time_limit, num)
        np.testing.assert_array_equal(np.asarray(batch.observation).sum(-1), 1.0)


def test_exploring_and_greedy_actions() -> None:
    env = Context()
    method = methods.make("iac", env, hidden_size=4, critic_hidden=(4,), epsilon_start=1.0)
    state = method.init(jax.random.key(0))
    explored, _ = rollout(env, method, state, jax.random.key(1), 300, explore=True)
    greedy, _ = rollout(env, method, state, jax.random.key(1), 300, explore=False)
    # With epsilon 1 each action comes 200 times of 600 (deviation 12).
    counts = np.bincount(np.ravel(explored.action[0]), minlength=3)
    assert (abs(counts - 200) < 60).all()
    # Greedily, what is seen decides.
    seen = np.argmax(greedy.observation[0], axis=-1)
    for agent in range(2):
        for context in range(3):
            rows = seen[:, agent] == context
            assert len(np.unique(greedy.action[0][rows, agent])) == 1


def test_sizes() -> None:
    everything = ((True,) * 4,) * 2
    assert Sizes.of(Context()) == Sizes(2, 3, 4, 8, 4, False, everything, everything, False, True)
