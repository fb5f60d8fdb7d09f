"""Social Influence: its reward by enumeration, and what its model of other agents learns."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax import methods
from marl_jax.methods.base import Sizes
from marl_jax.methods.ppo import Acted, Learner, Lesson, Rates
from marl_jax.types import EpisodeBatch
from tests.methods.learners import SIZES, fast_jit, make_batch
from tests.methods.ppo_learners import drawn_state
from tests.probes import ACTIONS, AGENTS, LIMIT

SMALL: dict[str, Any] = {
    "num_envs": 3,
    "hidden_size": 5,
    "critic_hidden": (5,),
    "model_hidden": (5,),
    "gamma": 0.9,
}
KEY = jax.random.key(3)


def make(sizes: Sizes = SIZES, **options: Any) -> Any:
    cls: Any = methods.recipe("social_influence")
    return cls(cls.Config.from_mapping({**SMALL, **options}, "social_influence"), sizes)


def episodes() -> EpisodeBatch:
    """Three episodes; in the first one agent 1 is dead from step 2 on."""
    batch = make_batch(lengths=(4, 2, 3), terminated=(False, True, True))
    return batch._replace(
        alive=batch.alive.at[2:, 0, 1].set(False), extras=Acted(jnp.full(batch.action.shape, -1.0))
    )


def pairs(batch: EpisodeBatch) -> list[tuple[int, int, int, int]]:
    """(t, b, i, j): agent i acts, and another one, j, acts at the next step."""
    alive = np.asarray(batch.valid[..., None] & batch.alive[:-1])
    every = np.ndindex(LIMIT - 1, 3, AGENTS, AGENTS)
    return [x for x in every if x[2] != x[3] and alive[x[:3]] and alive[x[0] + 1, x[1], x[3]]]


@pytest.mark.parametrize("agent", ["mlp", "gru"])
def test_the_reward_by_enumerating_what_could_have_been_done(agent: str) -> None:
    recurrent = {"agent": "gru", "minibatch_unit": "episodes"} if agent == "gru" else {}
    method, batch = make(influence_clip=0.05, influence_weight=2.0, **recurrent), episodes()
    state = drawn_state(method)

    @fast_jit
    def of_state(state: Any) -> Any:
        experience = method.experience(state, batch)
        reward = method.rewards(state, experience)[1]
        memory, logits = method.agent.initial_memory(3), []
        for t in range(LIMIT):
            memory, out = method.agent.step(state.params["actor"], memory, batch.observation[t])
            logits.append(out)
        return reward[..., 0], jnp.stack(logits)

    @fast_jit
    def laws(params: Any) -> jax.Array:
        """What agent i expects j to do next, by i, j and the actions of agent 0 and agent 1."""

        def law(i: int, first: jax.Array, second: jax.Array) -> jax.Array:
            own = jax.tree.map(lambda x: x[i], params)
            told = jnp.broadcast_to(jnp.concatenate([first, second]), (LIMIT, 3, 2 * ACTIONS))
            seen = jnp.concatenate([batch.observation[:-1, :, i], told], axis=-1)
            out = method.parts[0].network.apply(own, seen).reshape(LIMIT, 3, AGENTS, ACTIONS)
            return jax.nn.softmax(out)

        options = jnp.eye(ACTIONS)
        return jnp.stack(
            [
                jnp.stack([jnp.stack([law(i, a, b) for b in options]) for a in options])
                for i in range(AGENTS)
            ]
        )

    reward, logits = of_state(state)
    law = np.asarray(laws(state.parts[0].params))
    chances = np.where(batch.action_mask[:-1], np.exp(logits), 0.0)
    chances /= chances.sum(-1, keepdims=True)
    expected = np.asarray(batch.reward).copy()
    clipped = 0
    for t, b, i, j in pairs(batch):
        done = np.asarray(batch.action[t, b])
        marginal = np.zeros(ACTIONS)
        for option in range(ACTIONS):
            joint = done.copy()
            joint[i] = option
            marginal += chances[t, b, i, option] * law[i, joint[0], joint[1], t, b, j]
        given = law[i, done[0], done[1], t, b, j]
        influence = np.sum(given * np.log(given / marginal))
        clipped += influence > 0.05
        expected[t, b, i] += 2.0 * min(influence, 0.05)
    valid = np.asarray(batch.valid)
    assert 0 < clipped < len(pairs(batch))
    np.testing.assert_allclose(reward[valid], expected[valid], rtol=1e-4, atol=1e-5)


def test_the_model_learns_the_others_next_actions_only() -> None:
    """One step of Adam along the gradient of each agent's own mean."""
    method, batch = make(epochs=1, model_weight=0.1, max_grad_norm=0.0), episodes()
    state = drawn_state(method)
    terms = [tuple(x) for x in np.transpose(pairs(batch))]
    counts = np.bincount(terms[2], minlength=AGENTS)
    params = state.parts[0].params

    def cross_entropy(params: Any) -> Any:
        told = jax.nn.one_hot(batch.action, ACTIONS).reshape(LIMIT, 3, -1)

        def of(i: int) -> jax.Array:
            seen = jnp.concatenate([batch.observation[:-1, :, i], told], axis=-1)
            own = jax.tree.map(lambda x: x[i], params)
            out = method.parts[0].network.apply(own, seen).reshape(LIMIT, 3, AGENTS, ACTIONS)
            return jax.nn.log_softmax(out)

        log_probs = jnp.stack([of(i) for i in range(AGENTS)], axis=2)
        t, b, i, j = map(np.asarray, terms)
        right = -log_probs[t, b, i, j, batch.action[t + 1, b, j]]
        return jnp.sum(right / counts[i]), right.mean()

    @fast_jit
    def both(state: Any) -> Any:
        experience = method.experience(state, batch)
        reward, norm = batch.reward[..., None], state.value_norm
        lessons = method._lessons(experience, reward, norm, norm, experience.played)
        learner = Learner(state.params, state.optimizer)
        rates = Rates(jnp.array(0.01), jnp.array(0.0))
        lesson = Lesson(experience, lessons, learner, rates, KEY, KEY)
        expected = jax.grad(lambda p: 0.1 * cross_entropy(p)[0])(params)
        return method.parts[0].learn(state.parts[0], lesson), expected, cross_entropy(params)[1]

    (learned, metrics), gradient, loss = both(state)
    np.testing.assert_allclose(metrics["model_loss"], loss, rtol=1e-5)
    expected = jax.tree.map(lambda x, g: x - 0.01 * g / (jnp.abs(g) + 1e-5), params, gradient)
    for f, e in zip(jax.tree.leaves(learned.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-3, atol=1e-4)


def test_the_influence_rewards_weight_may_rise_slowly() -> None:
    batch, method = episodes(), make()
    state = drawn_state(method)

    @fast_jit
    def bonus(env_steps: jax.Array) -> Any:
        experience = method.experience(state, batch)
        return [
            m.rewards(state._replace(env_steps=env_steps), experience)[1][..., 0] - batch.reward
            for m in (method, make(influence_anneal_steps=100))
        ]

    full, quarter = bonus(jnp.array(25))
    assert float(full.max()) > 1e-3
    np.testing.assert_allclose(quarter, 0.25 * full, atol=1e-6)


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
    method = make(epochs=2)
    state = drawn_state(method)
    update = fast_jit(lambda b: method.update(state, b, None, KEY)[0])
    jax.tree.map(np.testing.assert_array_equal, update(batch), update(other))


def test_a_single_agent_has_nobody_to_influence() -> None:
    with pytest.raises(ConfigurationError, match="influence needs at least 2"):
        make(Sizes(1, 3, 4, 4, 4))
