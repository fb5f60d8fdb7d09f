"""The robot warehouse of jumanji as a world of ours.

Source: github.com/instadeepai/jumanji, version 1.1.2, jumanji/environments/routing/robot_warehouse.
Paper: Papoudakis et al., "Benchmarking Multi-Agent Deep Reinforcement Learning Algorithms in Cooperative Tasks",
NeurIPS 2021 Datasets and Benchmarks.
Tags: [R] jumanji's code, [S] a choice of this project.
"""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.environments.routing.robot_warehouse.env import RobotWarehouse as Source
from jumanji.environments.routing.robot_warehouse.generator import RandomGenerator
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation
from envs.bridges.states import RobotWarehouseState
from envs.configuration import Config, ConfigurationError, Range

if TYPE_CHECKING:
    from envs.bridges.grid_viewers import RobotWarehouseViewer

_DIRECTIONS = 4
# Of an agent's own features: row, column, load, direction, whether it is on a way.
_OWN = 3 + _DIRECTIONS + 1


@dataclasses.dataclass(frozen=True)
class RobotWarehouseConfig(Config):
    """Options of `RobotWarehouse`; the defaults are jumanji's, "tiny, 4 agents, easy" [R].

    Attributes:
        num_agents: how many robots. [R: 4]
        shelf_rows: rows of blocks of shelves. [R: 2]
        shelf_columns: columns of blocks; an odd number. [R: 3]
        column_height: shelves of a block one behind the other; a block is two wide. [R: 8]
        sensor_range: cells that a robot sees around it. [R: 1]
        request_queue_size: shelves that are asked for at any time. [R: 8]
        time_limit: steps of an episode. [R: 500]
    """

    num_agents: Annotated[int, Range(minimum=1)] = 4
    shelf_rows: Annotated[int, Range(minimum=1)] = 2
    shelf_columns: Annotated[int, Range(minimum=1)] = 3
    column_height: Annotated[int, Range(minimum=1)] = 8
    sensor_range: Annotated[int, Range(minimum=1)] = 1
    request_queue_size: Annotated[int, Range(minimum=1)] = 8
    time_limit: Annotated[int, Range(minimum=1)] = 500


class RobotWarehouse(MultiAgentEnv[RobotWarehouseState]):
    """Robot warehouse: robots bring the shelves that are asked for, and must not run into each other.

    Actions [R], [N] int32: nothing, forward, turn left, turn right, load or unload. `action_mask` [N, 5] leaves out
    moves into walls, and with a load into shelves.

    Reward [R], [N] float32: 1 to all for each shelf that is asked for and brought to a goal; another is asked for then.

    Observation: `agents_view` [N, F] float32: a robot's row and column, as fractions of the grid's longer side [S],
    whether it carries a shelf, its direction one-hot, whether it is on a way; then for each cell around it, row by
    row, whether a robot is there and its direction, and whether a shelf is there and is asked for [R]. `global_state`
    [7 N + 3 M] float32 [S]: every robot's row, column, load and direction, every shelf's row, column and whether it is
    asked for.

    End: two robots collide (discount 0) [R]. The time limit is a truncation, discount 1 [S]. `extras`: `delivered`
    int32, so far; it is the headline. There is no script: it stands still.
    """

    Config: ClassVar[type[Config]] = RobotWarehouseConfig
    headline: ClassVar[str | None] = "delivered"

    def _setup(self) -> None:
        c = self.config
        if c.shelf_columns % 2 == 0:
            raise ConfigurationError(
                f"shelf_columns is {c.shelf_columns}; it must be an odd number."
            )
        options = {f.name: getattr(c, f.name) for f in dataclasses.fields(c)}
        del options["time_limit"]
        generator = RandomGenerator(**options)
        shelves = len(generator.shelf_ids)
        if c.request_queue_size >= shelves:
            raise ConfigurationError(
                f"request_queue_size is {c.request_queue_size}; it must be below {shelves}, the number of shelves."
            )
        cells = int(np.prod(generator.grid_size))
        if c.num_agents > cells:
            raise ConfigurationError(
                f"num_agents is {c.num_agents}; it must be at most {cells}, the cells of the warehouse."
            )
        # Its own end never comes before ours, which knows a truncation.
        self.source = Source(generator, time_limit=c.time_limit + 1)
        self.num_agents, self.num_actions, self.time_limit = c.num_agents, 5, c.time_limit
        self.agents_view_size = int(self.source.num_obs_features)
        self.global_state_size = (3 + _DIRECTIONS) * c.num_agents + 3 * shelves
        self._side = float(max(generator.grid_size))

    @property
    def own_features(self) -> np.ndarray:
        """All but the robots around."""
        around = (1 + 2 * self.config.sensor_range) ** 2 - 1
        features = np.ones((self.num_agents, self.agents_view_size), bool)
        features[:, _OWN : _OWN + (1 + _DIRECTIONS) * around] = False
        return features

    @property
    def body_features(self) -> np.ndarray:
        """Where a robot is, what it carries, where it looks."""
        features = np.arange(self.agents_view_size) < _OWN
        return np.broadcast_to(features, (self.num_agents, features.size))

    def reset(self, key: jax.Array) -> tuple[RobotWarehouseState, TimeStep[Observation]]:
        """Draws places and requests."""
        inner, first = self.source.reset(key)
        state = RobotWarehouseState(key, jnp.int32(0), jnp.int32(0), inner)
        seen = self._observe(state, first.observation)
        return state, self._restart(seen, {"delivered": state.delivered})

    def step(
        self, state: RobotWarehouseState, action: jax.Array
    ) -> tuple[RobotWarehouseState, TimeStep[Observation]]:
        """One step of jumanji's."""
        inner, later = self.source.step(state.inner, action)
        delivered = state.delivered + jnp.round(later.reward).astype(jnp.int32)
        state = RobotWarehouseState(state.key, state.step_count + 1, delivered, inner)
        reward = jnp.broadcast_to(later.reward, (self.num_agents,)).astype(jnp.float32)
        collided = later.discount == 0.0
        seen = self._observe(state, later.observation)
        return state, self._transition(seen, reward, collided, {"delivered": delivered})

    def scripted_action(self, state: RobotWarehouseState) -> jax.Array:
        """Nothing."""
        return jnp.zeros(self.num_agents, jnp.int32)

    def _observe(self, state: RobotWarehouseState, seen: Any) -> Observation:
        agents, shelves = state.inner.agents, state.inner.shelves
        view = seen.agents_view.astype(jnp.float32)
        robots = jnp.column_stack(
            [
                agents.position.x / self._side,
                agents.position.y / self._side,
                agents.is_carrying,
                jax.nn.one_hot(agents.direction, _DIRECTIONS),
            ]
        )
        stock = jnp.column_stack(
            [
                shelves.position.x / self._side,
                shelves.position.y / self._side,
                shelves.is_requested,
            ]
        )
        return Observation(
            agents_view=view.at[:, :2].divide(self._side),
            action_mask=seen.action_mask,
            global_state=jnp.concatenate([robots.ravel(), stock.ravel()]).astype(jnp.float32),
            alive=jnp.ones(self.num_agents, bool),
            step_count=state.step_count,
        )

    def _make_viewer(self) -> "RobotWarehouseViewer":
        from envs.bridges.grid_viewers import RobotWarehouseViewer

        return RobotWarehouseViewer(self)
