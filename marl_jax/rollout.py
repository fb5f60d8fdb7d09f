"""Plays whole episodes: each from one reset, side by side, or in fewer environments one after the other."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from envs.base import MultiAgentEnv, Observation
from envs.configuration import ConfigurationError, whole_number
from marl_jax.lengths import of_all, scan_while
from marl_jax.methods.base import Method
from marl_jax.runtime import memory_size, seed_mesh
from marl_jax.types import SEEN, EpisodeBatch, Metrics


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
    return rollouts(env, method, method_state, key, num_envs, (explore,))[0]


def rollouts(
    env: MultiAgentEnv[Any],
    method: Method,
    method_state: Any,
    key: jax.Array,
    num_envs: int,
    ways: tuple[bool, ...],
) -> list[tuple[EpisodeBatch, Metrics]]:
    """What `rollout` plays from the same starts in each of several ways to act, with the same random numbers.

    All are played side by side: the world, often the largest part of a program, is in it once.

    Args:
        env: the world.
        method: who acts.
        method_state: the method's state.
        key: random key.
        num_envs: B, of each way.
        ways: whether to act as in training, or greedily.
    """
    reset_key, memory_key, act_key = jax.random.split(key, 3)
    start = _reset(env, reset_key, num_envs)
    if len(ways) > 1:
        start = jax.tree.map(lambda x: jnp.concatenate([x] * len(ways)), start)
    env_state, first = start
    memory = method.initial_memory(method_state, num_envs, memory_key)

    def of_way(tree: Any, way: int, axis: int = 0) -> Any:
        if len(ways) == 1:
            return tree
        begin, end = way * num_envs, (way + 1) * num_envs
        return jax.tree.map(lambda x: jax.lax.slice_in_dim(x, begin, end, axis=axis), tree)

    def step(carry: Any, key: jax.Array) -> Any:
        env_state, observation, env_extras, memories, going = carry
        acted = [
            method.act(method_state, memory, of_way(observation, way), key, explore)
            for way, (memory, explore) in enumerate(zip(memories, ways, strict=True))
        ]
        memories, actions, extras = zip(*acted, strict=True)
        env_state, timestep = jax.vmap(env.step)(env_state, jnp.concatenate(actions))
        env_extras = jax.tree.map(
            lambda new, old: jnp.where(going, new, old), timestep.extras, env_extras
        )
        view = timestep.observation
        record = _record(view, jnp.concatenate(actions), timestep, going, extras)
        return (env_state, view, env_extras, memories, going & ~timestep.last()), record

    going = jnp.ones((len(ways) * num_envs,), bool)
    carry = (env_state, first.observation, first.extras, (memory,) * len(ways), going)
    keys = jax.random.split(act_key, env.time_limit)
    (_, _, env_extras, _, _), batch = _until_over(step, carry, keys, env.ends_early)
    batch = _begin_with(first.observation, batch)
    return [
        (
            of_way(batch._replace(extras=()), way, axis=1)._replace(extras=extras),
            of_way(env_extras, way),
        )
        for way, extras in enumerate(batch.extras)
    ]


def record_size(env: MultiAgentEnv[Any], num_episodes: int) -> int:
    """Bytes that the record of so many episodes takes at least: what their agents see."""
    return 4 * num_episodes * (env.time_limit + 1) * env.num_agents * env.agents_view_size


def check_num_episodes(env: MultiAgentEnv[Any], name: str, num_episodes: Any) -> int:
    """A number of episodes from the user, to be played side by side.

    Raises:
        ConfigurationError: if it is none, or their record is larger than the memory.
    """
    number, have = whole_number(name, num_episodes, 1), memory_size(seed_mesh(1))
    need = record_size(env, number)
    if have is not None and need > have:
        raise ConfigurationError(
            f"{name} is {number}; their record takes {need / 1e9:.3g} GB, and the memory has {have / 1e9:.3g} GB, "
            f"enough for {have * number // need}."
        )
    return number


class _Playing(NamedTuple):
    """W environments in the middle of their episodes.

    Attributes:
        env_state: their states.
        view: what is seen.
        memory: what the actors carry.
        episode: which of B episodes each plays; B once there are none left.
        over: whether it has just ended, so that what is seen is the last of it.
        begun: how many episodes have been begun; more than B if there were none left to begin.
        lane: the environment that plays each episode.
        begin: the entry of its record where it starts.
        going: which environments have anything left to play.
    """

    env_state: Any
    view: Observation
    memory: Any
    episode: Int[Array, " W"]
    over: Bool[Array, " W"]
    begun: Int[Array, ""]
    lane: Int[Array, " B"]
    begin: Int[Array, " B"]
    going: Bool[Array, " W"]

    @classmethod
    def begin_with(
        cls, start: tuple[Any, Observation, Any], lanes: Int[Array, " W"], num_episodes: int
    ) -> "_Playing":
        """Environments, each at the start of the episode of its number."""
        num_envs = len(lanes)
        return cls(
            *start,
            episode=lanes,
            over=jnp.zeros((num_envs,), bool),
            begun=jnp.array(num_envs, jnp.int32),
            lane=jnp.arange(num_episodes) % num_envs,
            begin=jnp.zeros((num_episodes,), jnp.int32),
            going=lanes < num_episodes,
        )


def _most_steps(env: MultiAgentEnv[Any], num_envs: int, num_episodes: int) -> int:
    """Entries that W environments need at most for B episodes, one after the other."""
    size = env.time_limit + 1
    if not env.ends_early:
        return -(-num_episodes // num_envs) * size
    # The last episode begins at the latest when all others, as long as they can be, are shared out evenly.
    return (num_episodes - 1) * size // num_envs + size


def rollout_in_turn(
    env: MultiAgentEnv[Any],
    method: Method,
    method_state: Any,
    key: jax.Array,
    num_episodes: int,
    explore: bool,
) -> EpisodeBatch:
    """Plays B episodes in the method's W environments, each of which goes on with the next one left.

    The record is that of `rollout`: where an episode was played does not show. Episodes start as they do there;
    actions are drawn anew.

    Args:
        env: the world.
        method: who acts.
        method_state: the method's state.
        key: random key.
        num_episodes: B.
        explore: whether to act as in training; otherwise greedily.
    """
    num_envs = min(method.num_envs, num_episodes)
    reset_key, memory_key, act_key = jax.random.split(key, 3)
    starts, first = _reset(env, reset_key, num_episodes)
    lanes = jnp.arange(num_envs)

    def at_start(episode: jax.Array, time: jax.Array) -> tuple[Any, Observation, Any]:
        where = jnp.minimum(episode, num_episodes - 1)
        state, view = jax.tree.map(lambda x: x[where], (starts, first.observation))
        drawn = jax.random.fold_in(memory_key, time)
        return state, view, method.initial_memory(method_state, num_envs, drawn)

    def step(now: _Playing, time: jax.Array) -> tuple[_Playing, EpisodeBatch]:
        key = jax.random.fold_in(act_key, time)
        memory, action, extras = method.act(method_state, now.memory, now.view, key, explore)
        env_state, timestep = jax.vmap(env.step)(now.env_state, action)
        plays = (now.episode < num_episodes) & ~now.over
        record = _record(now.view, action, timestep, plays, extras)
        # Where the last sight has been recorded the next episode begins; what is set at number B is dropped.
        episode = jnp.where(now.over, now.begun + jnp.cumsum(now.over) - 1, now.episode)
        episode = jnp.minimum(episode, num_episodes)
        begins = jnp.where(now.over, episode, num_episodes)
        lane = now.lane.at[begins].set(lanes, mode="drop")
        begin = now.begin.at[begins].set(time + 1, mode="drop")
        begun = now.begun + jnp.sum(now.over, dtype=jnp.int32)
        carried = jax.tree.map(
            lambda new, old: jnp.where(now.over.reshape(-1, *(1,) * (old.ndim - 1)), new, old),
            at_start(episode, time + 1),
            (env_state, timestep.observation, memory),
        )
        over = plays & timestep.last()
        going = episode < num_episodes
        return _Playing(*carried, episode, over, begun, lane, begin, going), record  # type: ignore[call-arg]

    start = at_start(lanes, jnp.zeros((), jnp.int32))
    now = _Playing.begin_with(start, lanes, num_episodes)
    most = _most_steps(env, num_envs, num_episodes)
    now, played = _until_over(step, now, jnp.arange(most), env.ends_early)
    return _by_episode(played, now.lane, now.begin, env.time_limit)


def _by_episode(
    played: EpisodeBatch, lane: Int[Array, " B"], begin: Int[Array, " B"], time_limit: int
) -> EpisodeBatch:
    """What environments have played, by episode.

    Args:
        played: fields [R, W, ...]; each episode's steps, `valid`, and after them an entry for what was seen in the end.
        lane: the environment that played each episode.
        begin: the entry where it starts.
        time_limit: T.
    """
    steps = jnp.arange(time_limit + 1)[:, None]
    entry = jnp.minimum(begin + steps, len(played.valid) - 1)
    length = jnp.sum(jnp.cumprod(played.valid[entry, lane], axis=0, dtype=jnp.int32), axis=0)

    def taken(x: jax.Array, last: int) -> jax.Array:
        """[T, B, ...], or [T+1, B, ...] with what was seen in the end; zeros after it."""
        held = (steps < length + last)[: time_limit + last]
        x = x[entry[: len(held)], lane]
        return jnp.where(held.reshape(*held.shape, *(1,) * (x.ndim - 2)), x, jnp.zeros_like(x))

    fields = {
        name: jax.tree.map(functools.partial(taken, last=int(name in SEEN)), x)
        for name, x in played._asdict().items()
    }
    batch = EpisodeBatch(**fields)
    return batch._replace(action_mask=batch.action_mask | (steps > length)[..., None, None])


def _record(
    view: Observation, action: jax.Array, timestep: Any, valid: Bool[Array, " B"], extras: Any
) -> EpisodeBatch:
    """One step of B episodes, with what is seen before or after it."""
    return EpisodeBatch(
        observation=view.agents_view,
        global_state=view.global_state,
        action_mask=view.action_mask,
        alive=view.alive,
        action=action,
        reward=timestep.reward,
        discount=timestep.discount,
        valid=valid,
        extras=extras,
    )


def _until_over(step: Any, carry: Any, keys: jax.Array, ends_early: bool) -> tuple[Any, Any]:
    """A scan that stops once no episode goes on, which the last entry of the carry says."""
    if not ends_early:
        return jax.lax.scan(step, carry, keys)

    def goes_on(time: jax.Array, carry: Any) -> jax.Array:
        del time
        return of_all(jnp.any(carry[-1]).astype(jnp.int32)) > 0

    carry, record, taken = scan_while(step, carry, keys, goes_on)
    # Policies have to be defined in padding, too.
    padding = (jnp.arange(len(keys)) >= taken)[:, None, None, None]
    return carry, record._replace(action_mask=record.action_mask | padding)


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
