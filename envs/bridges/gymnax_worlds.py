"""gymnax's environments of one agent as worlds of ours. Importing this module needs gymnax.

Source: github.com/RobertTLange/gymnax, version 0.0.9.
Tags: [R] gymnax's code, [S] a choice of this project.
"""

import dataclasses
import warnings
from typing import Annotated, Any, ClassVar

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation
from envs.configuration import Config, Range

# Its own clock would call the time limit an end.
_NEVER = 2**30


@dataclasses.dataclass(frozen=True)
class GymnaxConfig(Config):
    """Options of `Gymnax`.

    Attributes:
        time_limit: steps of an episode; None for gymnax's own. [R]
    """

    time_limit: Annotated[int, Range(minimum=1)] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class GymnaxState:
    """State.

    Attributes:
        key: random key.
        step_count: [] int32.
        inner: gymnax's state.
    """

    key: jax.Array
    step_count: jax.Array
    inner: Any


class Gymnax(MultiAgentEnv[GymnaxState]):
    """A team of one agent.

    Actions: gymnax's, [1] int32; `action_mask` [1, A] allows all [S]. Reward [1] float32: gymnax's [R].

    Observation: `agents_view` [1, F] float32 and `global_state` [F] are gymnax's as one row of numbers; those whose
    bound is above 5 are divided by it [S]. The time limit is a truncation, other ends are terminations [S]. Chance
    comes from `fold_in(key, ...)` with the step. There is no script: it takes action 0.

    Attributes:
        task: gymnax's name.
    """

    Config = GymnaxConfig
    task: ClassVar[str]

    def _setup(self) -> None:
        self.source, params = gymnax.make(self.task)
        self.num_agents, self.num_actions = 1, int(self.source.num_actions)
        self.time_limit = self.config.time_limit or int(params.max_steps_in_episode)
        self._params = params.replace(max_steps_in_episode=_NEVER)
        shape = jax.eval_shape(self.source.reset_env, jax.random.key(0), self._params)[0].shape
        self.agents_view_size = self.global_state_size = int(np.prod(shape))
        high = np.asarray(self.source.observation_space(params).high, np.float64)
        bounded = (high > 5) & (high < 1e6)
        self._scale = np.broadcast_to(np.where(bounded, high, 1.0), shape).astype(np.float32)

    def reset(self, key: jax.Array) -> tuple[GymnaxState, TimeStep[Observation]]:
        """Draws a state."""
        with _quiet():
            seen, inner = self.source.reset_env(jax.random.fold_in(key, 0), self._params)
        state = GymnaxState(key, jnp.int32(0), jax.tree.map(jnp.asarray, inner))
        return state, self._restart(self._observe(state, seen), {})

    def step(
        self, state: GymnaxState, action: jax.Array
    ) -> tuple[GymnaxState, TimeStep[Observation]]:
        """One step of gymnax's, without its reset."""
        key = jax.random.fold_in(state.key, state.step_count + 1)
        with _quiet():
            seen, inner, reward, done, _ = self.source.step_env(
                key, state.inner, action[0], self._params
            )
        inner = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), inner, state.inner)
        state = GymnaxState(state.key, state.step_count + 1, inner)
        return state, self._transition(self._observe(state, seen), reward, done, {})

    def scripted_action(self, state: GymnaxState) -> jax.Array:
        """Action 0."""
        return jnp.zeros(1, jnp.int32)

    def _observe(self, state: GymnaxState, seen: jax.Array) -> Observation:
        view = (seen / self._scale).ravel().astype(jnp.float32)
        mask = jnp.ones((1, self.num_actions), bool)
        return Observation(view[None], mask, view, jnp.ones(1, bool), state.step_count)


class _quiet(warnings.catch_warnings):  # noqa: N801
    """gymnax asks for types that JAX has not got, and says so at every trace."""

    def __enter__(self) -> Any:
        found = super().__enter__()
        warnings.simplefilter("ignore")
        return found
