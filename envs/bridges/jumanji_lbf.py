"""Level-based foraging of jumanji as a world of ours.

Source: github.com/instadeepai/jumanji, version 1.1.2, jumanji/environments/routing/lbf.
Paper: Christianos et al., "Shared Experience Actor-Critic for Multi-Agent Reinforcement Learning", NeurIPS 2020.
Tags: [R] jumanji's code, [S] a choice of this project.
"""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.environments.routing.lbf.constants import LOAD, MOVES
from jumanji.environments.routing.lbf.env import LevelBasedForaging as Source
from jumanji.environments.routing.lbf.generator import RandomGenerator
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation
from envs.bridges.states import LevelBasedForagingState
from envs.configuration import Config, ConfigurationError, Range

if TYPE_CHECKING:
    from envs.bridges.grid_viewers import LevelBasedForagingViewer


@dataclasses.dataclass(frozen=True)
class LevelBasedForagingConfig(Config):
    """Options of `LevelBasedForaging`; the defaults are jumanji's [R] but for the reward.

    Attributes:
        size: cells of the square grid's side. [R: 8]
        fov: cells that an agent sees around it; None for all. [R: all]
        num_agents: how many agents. [R: 2]
        num_food: how many pieces of food. [R: 2]
        max_agent_level: levels of agents are drawn from 1 to this. [R: 2]
        force_coop: whether each piece needs all agents. [R: true]
        common_reward: whether every agent is paid what all earn together, as EPyMARL does. [S: true]
        time_limit: steps of an episode. [R: 100]
    """

    size: Annotated[int, Range(minimum=5)] = 8
    fov: Annotated[int, Range(minimum=1)] | None = None
    num_agents: Annotated[int, Range(minimum=2)] = 2
    num_food: Annotated[int, Range(minimum=1)] = 2
    max_agent_level: Annotated[int, Range(minimum=2)] = 2
    force_coop: bool = True
    common_reward: bool = True
    time_limit: Annotated[int, Range(minimum=1)] = 100


class LevelBasedForaging(MultiAgentEnv[LevelBasedForagingState]):
    """Level-based foraging: agents eat food that only enough of them can lift together.

    Actions, [N] int32: nothing, up, down, left, right, load. `action_mask` [N, 6] leaves out moves into walls, food and
    agents, and loading away from food [R]. Food is eaten when agents next to it that load have its level in sum.

    Reward, [N] float32: a piece of food pays its share of all food's level, split by the loaders' levels [R]; all of it
    sums to 1. With `common_reward` each agent gets what all earn [S].

    Observation: `agents_view` [N, 3 (food + agents)] float32: row, column and level of each piece of food, of the agent
    itself, of the others [R], divided by the larger of the grid's side and the highest level [S]; what is not seen is
    -1, -1, 0 over that. `global_state`: the same of everything, with its true place, and 0 for what is eaten [S].

    Ends when all is eaten; the time limit is a truncation [R]. `eaten` is the share of food eaten. The script walks to
    the first piece that is left, loads, and now and then steps aside [S].
    """

    Config = LevelBasedForagingConfig

    def _setup(self) -> None:
        c = self.config
        self.num_agents, self.num_actions, self.time_limit = c.num_agents, len(MOVES), c.time_limit
        most = ((c.size - 2) ** 2 - c.num_agents - 1) // 5
        if c.num_food > most:
            raise ConfigurationError(
                f"num_food is {c.num_food}; it must be at most {most} with {c.num_agents} agents on a grid of size "
                f"{c.size}, where no two pieces may touch."
            )
        generator = RandomGenerator(
            grid_size=c.size,
            fov=c.size if c.fov is None else min(c.fov, c.size),
            num_agents=c.num_agents,
            num_food=c.num_food,
            max_agent_level=c.max_agent_level,
            force_coop=c.force_coop,
        )
        # Its own end never comes before ours, which knows a truncation.
        self.source = Source(generator, time_limit=c.time_limit + 1)
        self.agents_view_size = self.global_state_size = 3 * (c.num_food + c.num_agents)
        self._scale = float(max(c.size, c.max_agent_level * c.num_agents))

    @property
    def own_features(self) -> np.ndarray:
        """Food and the agent itself."""
        own = np.arange(self.agents_view_size) < 3 * (self.config.num_food + 1)
        return np.broadcast_to(own, (self.num_agents, own.size))

    @property
    def body_features(self) -> np.ndarray:
        """Where the agent itself is."""
        place = np.arange(self.agents_view_size) - 3 * self.config.num_food
        return np.broadcast_to((place >= 0) & (place < 2), (self.num_agents, place.size))

    def reset(self, key: jax.Array) -> tuple[LevelBasedForagingState, TimeStep[Observation]]:
        """Draws levels and places."""
        inner, first = self.source.reset(key)
        state = LevelBasedForagingState(key, jnp.int32(0), inner)
        return state, self._restart(self._observe(state, first.observation), self._extras(inner))

    def step(
        self, state: LevelBasedForagingState, action: jax.Array
    ) -> tuple[LevelBasedForagingState, TimeStep[Observation]]:
        """One step of jumanji's."""
        inner, later = self.source.step(state.inner, action)
        state = LevelBasedForagingState(state.key, state.step_count + 1, inner)
        reward = later.reward.sum() if self.config.common_reward else later.reward
        seen, done = self._observe(state, later.observation), inner.food_items.eaten.all()
        return state, self._transition(seen, reward, done, self._extras(inner))

    def scripted_action(self, state: LevelBasedForagingState) -> jax.Array:
        """Towards the first piece of food that is left, and load."""
        inner = state.inner
        food = inner.food_items.position[jnp.argmin(inner.food_items.eaten)]
        mask = self.source._observer.state_to_observation(inner).action_mask
        away = jnp.abs(inner.agents.position - food).sum(-1)
        after = jnp.abs(inner.agents.position[:, None] + MOVES - food).sum(-1)
        # Several agents in each other's way would wait for ever.
        noise = jax.random.uniform(
            jax.random.fold_in(state.key, state.step_count), mask.shape, maxval=2.5
        )
        way = jnp.argmin(jnp.where(mask, after + noise, jnp.inf), axis=-1)
        return jnp.where(away == 1, LOAD, way).astype(jnp.int32)

    def _observe(self, state: LevelBasedForagingState, seen: Any) -> Observation:
        inner = state.inner
        here = [
            jnp.concatenate([x.position, x.level[:, None]], axis=-1)
            for x in (inner.food_items, inner.agents)
        ]
        here[0] = jnp.where(inner.food_items.eaten[:, None], 0, here[0])
        everything = jnp.concatenate([x.ravel() for x in here])
        return Observation(
            agents_view=seen.agents_view / self._scale,
            action_mask=seen.action_mask,
            global_state=everything / self._scale,
            alive=jnp.ones(self.num_agents, bool),
            step_count=state.step_count,
        )

    def _extras(self, inner: Any) -> dict[str, jax.Array]:
        return {"eaten": inner.food_items.eaten.mean(dtype=jnp.float32)}

    def _make_viewer(self) -> "LevelBasedForagingViewer":
        from envs.bridges.grid_viewers import LevelBasedForagingViewer

        return LevelBasedForagingViewer(self)
