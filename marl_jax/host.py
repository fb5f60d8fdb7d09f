"""Trained teams in other people's loops: PettingZoo's parallel environments, step by step on the host."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from envs.base import Observation
from envs.configuration import ConfigurationError, whole_number
from marl_jax.policy import Policy


class ParallelEnv(Protocol):
    """What is used of `pettingzoo.ParallelEnv`: `possible_agents`, `reset`, `step`.

    Observations are an agent's features, or a dictionary with "observation" and "action_mask".
    """

    possible_agents: list[Any]

    def reset(self, seed: int | None = None) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Observations and infos by agent."""
        ...

    def step(self, actions: dict[Any, Any]) -> tuple[dict[Any, Any], ...]:
        """Observations, rewards, terminations, truncations and infos by agent."""
        ...


def play_parallel(
    policy: Policy, env: ParallelEnv, episodes: int, seed: int = 0, explore: bool = False
) -> NDArray[np.float64]:
    """Plays a team in a PettingZoo parallel environment; agent k of the team is the k-th of `possible_agents`.

    Views shorter than the team's are filled up with zeros, as those of agents that have left are. Actions that a mask
    leaves out are not taken. Methods act on views alone, so the global state is not needed.

    Args:
        policy: the team.
        env: the environment, with as many agents.
        episodes: how many.
        seed: of the first episode's reset and of the team's draws; each further episode's is one higher.
        explore: whether to act as in training; otherwise greedily.

    Returns:
        [episodes, N], each agent's sum of rewards.

    Raises:
        ConfigurationError: if it has another number of agents, or larger views.
    """
    agents = list(env.possible_agents)
    if len(agents) != policy.env.num_agents:
        raise ConfigurationError(
            f"the environment has {len(agents)} agents; it must have {policy.env.num_agents}, as the team."
        )
    returns = np.zeros((whole_number("episodes", episodes, 1), len(agents)))
    for episode in range(episodes):
        seen, _ = env.reset(seed=seed + episode)
        key, memory_key = jax.random.split(jax.random.key(seed + episode))
        memory = policy.initial_memory(1, memory_key)
        step = 0
        while seen:
            observation = _observation(policy, agents, seen, step)
            action, memory = policy(observation, memory, jax.random.fold_in(key, step), explore)
            chosen = dict(zip(agents, np.asarray(action)[0], strict=True))
            seen, rewards, ended, cut, _ = env.step({agent: chosen[agent] for agent in seen})
            returns[episode] += [rewards.get(agent, 0.0) for agent in agents]
            seen = {a: x for a, x in seen.items() if not (ended.get(a) or cut.get(a))}
            step += 1
    return returns


def _observation(
    policy: Policy, agents: list[Any], seen: Mapping[Any, Any], step: int
) -> Observation:
    """What the team sees, with an axis of one environment."""
    env = policy.env
    view = np.zeros((len(agents), env.agents_view_size), np.float32)
    mask = np.ones((len(agents), env.num_actions), bool)
    for index, agent in enumerate(agents):
        if agent not in seen:
            continue
        own = seen[agent]
        if isinstance(own, Mapping):
            own_mask = np.ravel(np.asarray(own["action_mask"], bool))
            if own_mask.size > env.num_actions:
                raise ConfigurationError(
                    f"agent {agent} has {own_mask.size} actions; it must be at most {env.num_actions}, as in training."
                )
            mask[index] = np.arange(env.num_actions) < own_mask.size
            mask[index, : own_mask.size] &= own_mask
            own = own["observation"]
        own = np.ravel(own)
        if own.size > view.shape[1]:
            raise ConfigurationError(
                f"agent {agent} sees {own.size} numbers; it must be at most {view.shape[1]}, as in training."
            )
        view[index, : own.size] = own
    alive = np.array([agent in seen for agent in agents])
    state = np.zeros(env.global_state_size, np.float32)
    seen_by_all = (view, mask, state, alive, np.int32(step))
    return Observation(*(jnp.asarray(x)[None] for x in seen_by_all))
