"""The other way round: a world of ours as an environment of JaxMARL. Importing it needs JaxMARL.

>>> env = AsJaxMARL(envs.make("turn"))
>>> observations, state = env.reset(key)
>>> observations, state, rewards, dones, infos = env.step(key, state, actions)
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation
from envs.bridges import require_jaxmarl

require_jaxmarl()
from flax import struct
from jaxmarl.environments import MultiAgentEnv as JaxMARLEnv
from jaxmarl.environments import State as JaxMARLState
from jaxmarl.environments.spaces import Box, Discrete

__all__ = ["AsJaxMARL", "AsJaxMARLState"]


@struct.dataclass
class AsJaxMARLState(JaxMARLState):
    """JaxMARL's fields, `done` [] bool and `step` [] int32, and ours.

    Attributes:
        world: the world's own state.
        observation: what the world showed last; JaxMARL asks for it and for the legal actions
            later.
    """

    world: Any
    observation: Observation


class AsJaxMARL(JaxMARLEnv):
    """A world of ours, to be stepped and trained on by programs written for JaxMARL.

    Agents are "agent_0", "agent_1", ...; their observation spaces are `Box` [F], their action
    spaces `Discrete(A)`, or `Box` [A] for continuous actions. Observations also hold "world_state" [G], as SMAX's do.
    `get_avail_actions` gives [A] bool per agent. An agent is done when it has died or the episode is over.
    JaxMARL's `step`, which resets a finished episode, its wrappers, `jit` and `vmap` work.

    What JaxMARL has no place for:
        - Termination and truncation are one `done`. What tells them apart is `infos["discount"]`: 0
          after a termination, 1 after a truncation. JaxMARL's baselines do not read it.
        - `step` gives the observation after the reset at an episode's end, the last one is lost;
          `step_env` gives the last one.
        - The key given to `step_env` is not used: a world's chance comes from its own state.
        - JaxMARL's `CTRolloutManager` asks for the legal actions of SMAX and Hanabi only; others
          are taken to have all actions at all times, and the concatenated views as their state.

    `infos` holds `discount` and the world's `extras`, all [N] (a scalar N times), since JaxMARL's
    baselines reshape each entry to one value per agent.
    """

    def __init__(self, env: MultiAgentEnv[Any]) -> None:
        """Wraps a world.

        Args:
            env: the world.
        """
        super().__init__(num_agents=env.num_agents)
        self.world = env
        self.max_steps = env.time_limit
        self.world_state_size = env.global_state_size
        for agent in self.agents:
            view = Box(-jnp.inf, jnp.inf, (env.agents_view_size,))
            self.observation_spaces[agent] = view
            self.action_spaces[agent] = (
                Box(-1.0, 1.0, (env.num_actions,))
                if env.continuous_actions
                else Discrete(env.num_actions)
            )

    @property
    def name(self) -> str:
        """The world's class."""
        return type(self.world).__name__

    @property
    def agent_classes(self) -> dict[str, list[str]]:
        """All agents are of one class."""
        return {"agents": self.agents}

    @partial(jax.jit, static_argnums=0)
    def reset(self, key: jax.Array) -> tuple[dict[str, jax.Array], AsJaxMARLState]:
        """Starts an episode.

        Args:
            key: random key.

        Returns:
            The observations and the state.
        """
        state = self._state(*self.world.reset(key))
        return self.get_obs(state), state

    @partial(jax.jit, static_argnums=0)
    def step_env(
        self, key: jax.Array, state: AsJaxMARLState, actions: dict[str, jax.Array]
    ) -> tuple[Any, AsJaxMARLState, dict[str, jax.Array], dict[str, jax.Array], Any]:
        """Plays one step, without a reset at the end.

        Args:
            key: not used.
            state: the state so far.
            actions: [] int32 for each agent.

        Returns:
            The observations, the next state, the rewards, the dones (also "__all__"), the infos.
        """
        action = jnp.stack([actions[agent] for agent in self.agents]).astype(jnp.int32)
        world, timestep = self.world.step(state.world, action)
        state = self._state(world, timestep)
        rewards = {agent: timestep.reward[i] for i, agent in enumerate(self.agents)}
        gone = state.done | ~timestep.observation.alive
        dones = {agent: gone[i] for i, agent in enumerate(self.agents)}
        dones["__all__"] = state.done
        extras = {
            name: jnp.broadcast_to(value, (self.num_agents,))
            for name, value in timestep.extras.items()
        }
        infos = {**extras, "discount": timestep.discount}
        return self.get_obs(state), state, rewards, dones, infos

    def get_obs(self, state: Any) -> dict[str, jax.Array]:
        """[F] float32 for each agent, and "world_state" [G]."""
        views = {agent: state.observation.agents_view[i] for i, agent in enumerate(self.agents)}
        return {**views, "world_state": state.observation.global_state}

    @partial(jax.jit, static_argnums=0)
    def get_avail_actions(self, state: Any) -> dict[str, jax.Array]:
        """[A] bool for each agent."""
        return {agent: state.observation.action_mask[i] for i, agent in enumerate(self.agents)}

    def _state(self, world: Any, timestep: TimeStep[Observation]) -> AsJaxMARLState:
        observation = timestep.observation
        return AsJaxMARLState(
            done=timestep.last(), step=observation.step_count, world=world, observation=observation
        )
