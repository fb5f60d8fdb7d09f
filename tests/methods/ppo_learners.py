"""Small learners on the PPO core, episodes for them, and short trainings."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marl_jax import methods
from marl_jax.methods.base import Sizes
from marl_jax.methods.ppo import PPO, Acted, PPOState
from marl_jax.rollout import rollout
from marl_jax.types import EpisodeBatch
from marl_jax.value_normalisation import ValueNorm
from tests.methods.learners import SIZES, fast_jit, make_batch
from tests.probes import Probe

SMALL: dict[str, Any] = {
    "num_envs": 3,
    "agent": "mlp",
    "hidden_size": 4,
    "critic_hidden": (3,),
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "epochs": 1,
    "minibatches": 1,
}
LENGTHS = (4, 2, 3)
KEY = jax.random.key(3)


def make(name: str = "mappo", sizes: Sizes = SIZES, **options: Any) -> Any:
    """A small learner; feed-forward, unless told otherwise."""
    cls: Any = methods.recipe(name)
    return cls(cls.Config.from_mapping({**SMALL, **options}, name), sizes)


def episodes(seed: int = 0) -> EpisodeBatch:
    """Three random episodes, the last two ended by the task. In the first, agent 1 is dead from step 2 on.

    The log-probabilities of what was done are of no policy in particular.
    """
    batch = make_batch(LENGTHS, terminated=(False, True, True), seed=seed)
    rng = np.random.default_rng(seed + 100)
    return batch._replace(
        alive=batch.alive.at[2:, 0, 1].set(False),
        extras=Acted(jnp.asarray(-1.0 - 0.3 * rng.random(batch.action.shape))),
    )


def drawn_state(method: PPO, seed: int = 0) -> PPOState:
    """A state with drawn networks, and empty tables, without compiling `init`."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(method.init, KEY)

    def draw(x: Any) -> jax.Array:
        return jnp.asarray(rng.normal(scale=0.4, size=x.shape), x.dtype)

    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    parts = tuple(
        own._replace(params=jax.tree.map(draw, of.params)) if hasattr(own, "params") else own
        for own, of in zip(state.parts, shapes.parts, strict=True)
    )
    k = len(method.values)
    # Half of the weight is in: mean 0.4, mean square 1.6, so deviation 1.2.
    norm = ValueNorm(jnp.full(k, 0.2), jnp.full(k, 0.8), jnp.asarray(0.5))
    params = jax.tree.map(draw, shapes.params)
    return state._replace(params=params, value_norm=norm, parts=parts)


@functools.cache
def compiled_update(method: Any) -> Callable[..., Any]:
    """Its update, compiled once for all tests."""
    return fast_jit(method.update)


def update(method: Any, state: Any, batch: EpisodeBatch) -> Any:
    """One update."""
    return compiled_update(method)(state, batch, None, KEY)


def garbage_where(batch: EpisodeBatch, unused: np.ndarray, seed: int = 9) -> EpisodeBatch:
    """Other sights, actions and log-probabilities of agents where `unused`, [T+1, B, N]."""
    rng = np.random.default_rng(seed)

    def other(x: jax.Array, new: Any) -> jax.Array:
        here = unused[: x.shape[0]].reshape(*unused[: x.shape[0]].shape, *[1] * (x.ndim - 3))
        return jnp.asarray(np.where(here, new, x), x.dtype)

    return batch._replace(
        observation=other(batch.observation, 30.0 * rng.normal(size=batch.observation.shape)),
        action=other(batch.action, rng.integers(0, 3, batch.action.shape)),
        extras=Acted(other(batch.extras.log_prob, -20.0 * rng.random(batch.action.shape))),
    )


def greedy_returns(env: Probe, method: Any, state: Any) -> np.ndarray:
    """[seeds, N] mean return of each agent in greedy episodes."""

    @fast_jit
    @jax.vmap
    def play(state: Any) -> jax.Array:
        batch, _ = rollout(env, method, state, jax.random.key(7), 64, explore=False)
        return jnp.sum(batch.reward * batch.valid[..., None], axis=0).mean(axis=0)

    return np.asarray(play(state))
