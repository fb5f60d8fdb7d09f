"""A team in a parallel environment of dictionaries plays as in the world that it was trained on."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tiny

import envs
import marl_jax
from marl_jax.host import play_parallel


class Parallel:
    """A world of ours as PettingZoo has them: dictionaries, an agent leaves at its end."""

    def __init__(self, name: str, masked: bool = True, **options: Any) -> None:
        self.env = envs.make(name, **options)
        self.possible_agents = [f"agent_{i}" for i in range(self.env.num_agents)]
        self.masked = masked
        self.step_world, self.reset_world = jax.jit(self.env.step), jax.jit(self.env.reset)

    def reset(self, seed: int | None = None) -> tuple[dict, dict]:
        self.state, timestep = self.reset_world(jax.random.key(seed))
        return self._by_agent(timestep.observation), {}

    def _by_agent(self, seen: Any) -> dict:
        views = dict(zip(self.possible_agents, np.asarray(seen.agents_view), strict=True))
        if not self.masked:
            return views
        masks = dict(zip(self.possible_agents, np.asarray(seen.action_mask), strict=True))
        return {a: {"observation": views[a], "action_mask": masks[a]} for a in views}

    def step(self, actions: dict) -> tuple[dict, ...]:
        action = np.array([actions[a] for a in self.possible_agents])
        self.state, timestep = self.step_world(self.state, action)
        ended = dict.fromkeys(self.possible_agents, bool(timestep.last()))
        rewards = dict(zip(self.possible_agents, np.asarray(timestep.reward), strict=True))
        return self._by_agent(timestep.observation), rewards, ended, ended, {}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> marl_jax.Policy:
    out = tmp_path_factory.mktemp("host") / "run"
    return marl_jax.load_policy(tiny.untrained(out, "iac", "turn", 1))


def test_a_team_plays_as_in_its_own_world(policy: marl_jax.Policy) -> None:
    returns = play_parallel(policy, Parallel("turn", **tiny.ENV), 2, seed=7)
    for index in range(2):
        state, timestep = policy.env.reset(jax.random.key(7 + index))
        memory, total = policy.initial_memory(1), np.zeros(2)
        while not timestep.last():
            seen = jax.tree.map(lambda x: x[None], timestep.observation)
            action, memory = policy(seen, memory)
            state, timestep = policy.env.step(state, action[0])
            total += timestep.reward
        np.testing.assert_allclose(returns[index], total)


def test_without_masks_it_plays_too(policy: marl_jax.Policy) -> None:
    assert play_parallel(policy, Parallel("turn", masked=False, **tiny.ENV), 1).shape == (1, 2)


def test_other_sizes_get_a_sentence(policy: marl_jax.Policy, tmp_path: Path) -> None:
    with pytest.raises(marl_jax.ConfigurationError, match="has 4 agents; it must have 2"):
        play_parallel(policy, Parallel("pac_men"), 1)
    wider = Parallel("turn", masked=False, **tiny.ENV)
    wider._by_agent = lambda seen: dict.fromkeys(wider.possible_agents, np.zeros(99))  # type: ignore[method-assign]
    with pytest.raises(marl_jax.ConfigurationError, match="sees 99 numbers"):
        play_parallel(policy, wider, 1)
