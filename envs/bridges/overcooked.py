"""Overcooked of JaxMARL as a world of ours. Importing this module needs JaxMARL.

Source: github.com/FLAIROx/JaxMARL, version 0.2.0, jaxmarl/environments/overcooked.
Paper: Carroll et al., "On the Utility of Learning about Humans for Human-AI Coordination", NeurIPS 2019.
Tags: [R] JaxMARL's code, [S] a choice of this project, [C] computed by this project.
"""

import dataclasses
import warnings
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation
from envs.bridges import require_jaxmarl
from envs.bridges.states import FULL, READY, OvercookedState
from envs.configuration import Config, Range

require_jaxmarl()
from jaxmarl.environments.overcooked import Overcooked as Source
from jaxmarl.environments.overcooked import overcooked_layouts
from jaxmarl.environments.overcooked.common import OBJECT_TO_INDEX

if TYPE_CHECKING:
    from envs.bridges.grid_viewers import OvercookedViewer

# [4, 2] (x, y): up, down, right, left, which are also actions 0 to 3.
_DIRECTIONS = np.array([[0, -1], [0, 1], [1, 0], [-1, 0]])
_STAY, _INTERACT = 4, 5
_COOKING_TIME = 20.0
_COOKING_LAYER = 20
_FAR = 1_000
# What a delivered soup pays.
_SOUP = 20.0


@dataclasses.dataclass(frozen=True)
class OvercookedConfig(Config):
    """Options of `Overcooked`.

    Attributes:
        time_limit: steps of an episode. [R: 400]
        shaped_reward: how much of JaxMARL's shaped reward each agent gets besides: 3 for an onion that it puts into a
            pot, 3 for a plate that it takes while soup is on its way, 5 for a soup that it takes out. JaxMARL's own
            training adds it with a weight that falls from 1 to 0. [S: 1]
    """

    time_limit: Annotated[int, Range(minimum=1)] = 400
    shaped_reward: Annotated[float, Range(minimum=0.0)] = 1.0


class Overcooked(MultiAgentEnv[OvercookedState]):
    """Overcooked: two cooks share a kitchen, and get in each other's way.

    Three onions make a soup, which cooks for 20 steps, is put on a plate and delivered. [R]

    Actions [R], [2] int32, A = 6: 0 up, 1 down, 2 right, 3 left, 4 stay, 5 interact with what is in front. A move
    against something turns the cook to it. `action_mask` [2, 6] allows all.

    Reward, [2] float32: 20 to both for each soup that is delivered [R], and `shaped_reward` times a cook's own shaped
    reward [S].

    Observation: `agents_view` [2, 26 H W] float32: JaxMARL's 26 layers over the kitchen, one cook's own place and
    direction first [R], the remaining cooking time divided by 20 [S]. `global_state` is the first cook's view, which
    shows all there is. [S]

    End: the time limit, and only that; it is a truncation, discount 1 [S]. `extras`: `soups` int32, delivered so far;
    it is the headline.

    `scripted_action` [S]: each cook fetches what is missing, an onion or a plate, by the shortest way, and steps aside
    by chance. Where the kitchen is parted (`forced_coord`) it delivers nothing.

    Chance: where the cooks look at first [R].

    Attributes:
        layout: JaxMARL's name of the kitchen.
        source: JaxMARL's environment.
        floor: [H, W] bool, where a cook can stand.
        places: by what lies there (onion_pile, plate_pile, pot, goal), [K, 2] (x, y).
    """

    Config: ClassVar[type[Config]] = OvercookedConfig
    headline: ClassVar[str | None] = "soups"
    layout: ClassVar[str] = "cramped_room"
    ends_early = False

    def _setup(self) -> None:
        with warnings.catch_warnings():
            # It recommends its second version, whose kitchens are others.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.source = Source(overcooked_layouts[self.layout], max_steps=self.config.time_limit)
        self.num_agents, self.num_actions = self.source.num_agents, len(_DIRECTIONS) + 2
        self.time_limit = self.config.time_limit
        self.agents_view_size = self.global_state_size = int(np.prod(self.source.obs_shape))
        scale = np.ones(self.source.obs_shape[-1], np.float32)
        scale[_COOKING_LAYER] = 1 / _COOKING_TIME
        self._scale = scale
        layout = overcooked_layouts[self.layout]
        self.floor = np.ones((self.source.height, self.source.width), bool)
        self.floor.ravel()[np.asarray(layout["wall_idx"])] = False
        self.places = {
            name: np.stack(divmod(np.asarray(layout[f"{name}_idx"]), self.source.width)[::-1], -1)
            for name in ("onion_pile", "plate_pile", "pot", "goal")
        }
        # [K, H, W], steps from each cell until one stands before a place.
        self._ways = {
            name: np.stack([_steps_to(place, self.floor) for place in places])
            for name, places in self.places.items()
        }

    def reset(self, key: jax.Array) -> tuple[OvercookedState, TimeStep[Observation]]:
        """Puts the cooks into the kitchen."""
        key, reset_key = jax.random.split(key)
        views, inner = self.source.reset(reset_key)
        state = OvercookedState(key, jnp.int32(0), jnp.int32(0), _settled(inner))
        return state, self._restart(self._observe(state, views), {"soups": state.soups})

    def step(
        self, state: OvercookedState, action: jax.Array
    ) -> tuple[OvercookedState, TimeStep[Observation]]:
        """One step of JaxMARL's."""
        key = jax.random.fold_in(state.key, state.step_count)
        names = self.source.agents
        actions = {name: action[i] for i, name in enumerate(names)}
        views, inner, rewards, _, infos = self.source.step_env(key, state.inner, actions)
        paid = rewards[names[0]]
        shaped = jnp.stack([infos["shaped_reward"][name] for name in names])
        soups = state.soups + jnp.round(paid / _SOUP).astype(jnp.int32)
        state = OvercookedState(state.key, state.step_count + 1, soups, _settled(inner))
        reward = (paid + self.config.shaped_reward * shaped).astype(jnp.float32)
        never = jnp.zeros((), bool)
        return state, self._transition(self._observe(state, views), reward, never, {"soups": soups})

    def _observe(self, state: OvercookedState, views: dict[str, jax.Array]) -> Observation:
        layers = jnp.stack([views[name] for name in self.source.agents]) * self._scale
        view = layers.reshape(self.num_agents, -1).astype(jnp.float32)
        return Observation(
            agents_view=view,
            action_mask=jnp.ones((self.num_agents, self.num_actions), bool),
            global_state=view[0],
            alive=jnp.ones((self.num_agents,), bool),
            step_count=state.step_count,
        )

    def pots(self, state: OvercookedState) -> jax.Array:
        """[P] int32, each pot's number: 23 empty to 20 full, cooking down to 0, which is ready."""
        padding = (state.inner.maze_map.shape[0] - self.source.height) // 2
        x, y = self.places["pot"].T
        return state.inner.maze_map[padding + y, padding + x, 2].astype(jnp.int32)

    def scripted_action(self, state: OvercookedState) -> jax.Array:
        """Fetch what is missing, by the shortest way.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [2] int32.
        """
        pots, held = self.pots(state), state.inner.agent_inv
        key = jax.random.fold_in(state.key, state.step_count)
        noise = jax.random.uniform(key, (self.num_agents, len(_DIRECTIONS)), maxval=3.0)
        has = {name: held == OBJECT_TO_INDEX[name] for name in ("onion", "plate", "dish")}
        # A plate is wanted while soup is on its way and nobody has one.
        soup = (pots <= FULL).any() & ~(has["plate"] | has["dish"]).any()
        actions = []
        for i in range(self.num_agents):
            empty = ~(has["onion"] | has["plate"] | has["dish"])[i]
            wanted = {
                "onion_pile": jnp.where(empty & ~soup, 0, _FAR),
                "plate_pile": jnp.where(empty & soup, 0, _FAR),
                "goal": jnp.where(has["dish"][i], 0, _FAR),
                "pot": jnp.where(
                    (has["onion"][i] & (pots > FULL)) | (has["plate"][i] & (pots <= FULL)), 0, _FAR
                ),
            }
            ready = jnp.where(has["plate"][i], (pots == READY).any(), True)
            actions.append(self._towards(state, i, wanted, ready, noise[i]))
        return jnp.stack(actions).astype(jnp.int32)

    def _towards(
        self,
        state: OvercookedState,
        agent: int,
        wanted: dict[str, jax.Array],
        ready: jax.Array,
        noise: jax.Array,
    ) -> jax.Array:
        """The action that brings an agent to the nearest thing that is wanted, and makes it interact there."""
        x, y = state.inner.agent_pos[agent].astype(jnp.int32)
        costs = [jnp.broadcast_to(wanted[name], len(self._ways[name])) for name in self._ways]
        ways = jnp.asarray(np.concatenate(list(self._ways.values())))
        places = jnp.asarray(np.concatenate(list(self.places.values())))
        away = ways[:, y, x] + jnp.concatenate(costs)
        goal, idle = jnp.argmin(away), away.min() >= _FAR
        there = (jnp.array([x, y]) + _DIRECTIONS == places[goal]).all(-1)
        facing = there[state.inner.agent_dir_idx[agent]]
        at_goal = jnp.where(facing, jnp.where(ready, _INTERACT, _STAY), jnp.argmax(there))
        after = jnp.array([x, y]) + _DIRECTIONS
        way = jnp.argmin(ways[goal][after[:, 1], after[:, 0]] + noise)
        # Who has nothing to do is not to stand in the way.
        return jnp.where(idle, jnp.argmin(noise), jnp.where(there.any(), at_goal, way))

    def _make_viewer(self) -> "OvercookedViewer":
        from envs.bridges.grid_viewers import OvercookedViewer

        return OvercookedViewer(self)


def _settled(inner: Any) -> Any:
    """JaxMARL's state with the same types before the first step and after it."""
    return inner.replace(
        step=jnp.asarray(inner.step, jnp.int32),
        agent_inv=jnp.asarray(inner.agent_inv, jnp.int32),
        agent_dir=jnp.asarray(inner.agent_dir, jnp.int32),
        agent_dir_idx=jnp.asarray(inner.agent_dir_idx, jnp.int32),
    )


def _steps_to(place: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """[H, W] int32: steps over the floor from each cell to one beside a place; many where there is no way."""
    x, y = place
    steps = np.full(floor.shape, _FAR, np.int32)
    edge = [(y + dy, x + dx) for dx, dy in _DIRECTIONS]
    for distance in range(floor.size):
        edge = [
            (row, column)
            for row, column in edge
            if 0 <= row < len(floor)
            and 0 <= column < floor.shape[1]
            and floor[row, column]
            and steps[row, column] == _FAR
        ]
        for cell in edge:
            steps[cell] = distance
        edge = [(row + dy, column + dx) for row, column in edge for dx, dy in _DIRECTIONS]
    return steps
