"""Plays whole episodes: one from one reset in each of B environments, until all are over."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from envs.base import MultiAgentEnv, Observation
from marl_jax.lengths import of_all
from marl_jax.methods.base import Method
from marl_jax.types import EpisodeBatch, Metrics


def rollout(
    env: MultiAgentEnv[Any],
    method: Method,
    method_state: Any,
    key: jax.Array,
    num_envs: int,
    explore: bool,
) -> tuple[EpisodeBatch, Metrics]:
    """Plays B episodes side by side.

    The record has room for `env.time_limit` steps. After its own end an episode goes on as padding with `valid` false
    until all are over; what follows holds zeros, and allows every action. There is no auto-reset, so no terminal
    observation is lost.

    Args:
        env: the world.
        method: who acts.
        method_state: the method's state.
        key: random key. Episode b depends on it and on b, not on how many others are played (its random numbers are
            those of position b in arrays with a leading axis B, which JAX draws position by position).
        num_envs: B.
        explore: whether to act as in training; otherwise greedily.

    Returns:
        The episodes, and the environment's `extras` at each episode's last step, [B] each.
    """
    reset_key, memory_key, act_key = jax.random.split(key, 3)
    env_state, first = _reset(env, reset_key, num_envs)
    memory = method.initial_memory(method_state, num_envs, memory_key)

    def step(carry: Any, key: jax.Array) -> Any:
        env_state, observation, env_extras, memory, going = carry
        memory, action, extras = method.act(method_state, memory, observation, key, explore)
        env_state, timestep = jax.vmap(env.step)(env_state, action)
        env_extras = jax.tree.map(
            lambda new, old: jnp.where(going, new, old), timestep.extras, env_extras
        )
        view = timestep.observation
        record = EpisodeBatch(
            observation=view.agents_view,
            global_state=view.global_state,
            action_mask=view.action_mask,
            alive=view.alive,
            action=action,
            reward=timestep.reward,
            discount=timestep.discount,
            valid=going,
            extras=extras,
        )
        return (env_state, view, env_extras, memory, going & ~timestep.last()), record

    carry = (env_state, first.observation, first.extras, memory, jnp.ones((num_envs,), bool))
    keys = jax.random.split(act_key, env.time_limit)
    (_, _, env_extras, _, _), batch = _until_over(step, carry, keys, env.ends_early)
    return _begin_with(first.observation, batch), env_extras


def _until_over(step: Any, carry: Any, keys: jax.Array, ends_early: bool) -> tuple[Any, Any]:
    """A scan that stops once no episode goes on, which the last entry of the carry says."""
    if not ends_early:
        return jax.lax.scan(step, carry, keys)
    shapes = jax.eval_shape(step, carry, keys[0])[1]
    empty: EpisodeBatch = jax.tree.map(lambda x: jnp.zeros((len(keys), *x.shape), x.dtype), shapes)
    # Policies have to be defined in padding, too.
    empty = empty._replace(action_mask=jnp.ones_like(empty.action_mask))

    def goes_on(now: Any) -> jax.Array:
        time, carry, _ = now
        # As one number for all seeds: with one each, every step would copy the record of those that wait.
        return (time < len(keys)) & (of_all(jnp.any(carry[-1]).astype(jnp.int32)) > 0)

    def body(now: Any) -> Any:
        time, carry, record = now
        carry, new = step(carry, keys[time])
        record = jax.tree.map(
            lambda all_steps, x: jax.lax.dynamic_update_index_in_dim(all_steps, x, time, 0),
            record,
            new,
        )
        return time + 1, carry, record

    _, carry, record = jax.lax.while_loop(goes_on, body, (jnp.zeros((), jnp.int32), carry, empty))
    return carry, record


def retrace(env: MultiAgentEnv[Any], key: jax.Array, action: Int[Array, "T B N"]) -> Any:
    """The environment's states along episodes that `rollout` has played with this key.

    Args:
        env: the world.
        key: the key that `rollout` got.
        action: its episodes' actions.

    Returns:
        A state with leading axes [T+1, B]; after an episode's own end they hold no meaning.
    """
    reset_key, _, _ = jax.random.split(key, 3)
    first, _ = _reset(env, reset_key, action.shape[1])

    def step(state: Any, action: jax.Array) -> Any:
        state, _ = jax.vmap(env.step)(state, action)
        return state, state

    _, rest = jax.lax.scan(step, first, action)
    return _in_front(first, rest)


def _reset(env: MultiAgentEnv[Any], key: jax.Array, num_envs: int) -> Any:
    """The states and time steps of B episodes at their start."""
    return jax.vmap(env.reset)(jax.random.split(key, num_envs))


def _begin_with(view: Observation, batch: EpisodeBatch) -> EpisodeBatch:
    """T+1 observations, the first one among them, in place of the T after each step."""
    return batch._replace(
        observation=_in_front(view.agents_view, batch.observation),
        global_state=_in_front(view.global_state, batch.global_state),
        action_mask=_in_front(view.action_mask, batch.action_mask),
        alive=_in_front(view.alive, batch.alive),
    )


def _in_front(first: Any, rest: Any) -> Any:
    """[...] in front of [T, ...]."""
    return jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), first, rest)
