"""brax's walkers as worlds of ours: every agent has a body of its own. Making one needs brax.

Source: github.com/google/brax, version 0.14.2, brax/envs.
Paper of the task: Fayad and Ibrahim 2021, "Influence-Based Reinforcement Learning for Intrinsically-Motivated Agents"
(ALITA), section 4.2 and appendix C.
Tags: [R] brax's code, [P] the paper, [S] a choice of this project.
"""

import contextlib
import dataclasses
import importlib
import io
import warnings
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation
from envs.bridges.brax_viewer import BraxViewer
from envs.bridges.states import BraxState
from envs.configuration import Config, ConfigurationError, Range

LARGEST = 5.0
"""What networks see is cut off here."""
VELOCITY = 10.0
"""What all that is no position is divided by."""


@dataclasses.dataclass(frozen=True)
class BraxConfig(Config):
    """Options of `Brax`.

    Attributes:
        num_agents: how many agents, each with a body of its own in a world of its own. [P: 2]
        backend: brax's physics: spring is the fastest on a CPU; generalized is brax's default. [S: spring]
        time_limit: steps of an episode. [R: 1,000]
        raw_view: whether agents see brax's numbers, neither divided nor cut off. [S: false]
    """

    num_agents: Annotated[int, Range(minimum=1)] = 2
    backend: Literal["spring", "generalized", "positional", "mjx"] = "spring"
    time_limit: Annotated[int, Range(minimum=1)] = 1000
    raw_view: bool = False


class Brax(MultiAgentEnv[BraxState]):
    """N agents with a body each; none sees or touches another's.

    So ALITA's paper has it [P, read as S]: a second agent learns beside the first, and what counts is the better one of
    the two, `best_return`.

    Actions, [N, A] float32 in -1..1: the torques of the body's joints [R]; `action_mask` [N, A] allows all.

    Reward, [N] float32: each agent's own, brax's [R]: speed forwards, something for every step on its feet, minus the
    cost of the torques. An agent whose body has fallen is dead: it sees zeros and is paid 0 [S].

    Observation: `agents_view` [N, F] float32: brax's [R]: positions and angles without the place along the track, then
    velocities, and what else there is. All but positions is divided by 10, and everything cut off at 5 [S];
    `raw_view` leaves it as it is. `global_state` [N F]: all views [S].

    Ends when all bodies have fallen (`halfcheetah` never falls) [R, for several bodies S]; the time limit is a
    truncation [R]. `best_return`: the return of the agent that has earned most. `standing`: share of bodies on their
    feet. There is no script: it applies no torque.

    Attributes:
        task: brax's name.
        falls: whether a body's fall ends its episode.
    """

    Config = BraxConfig
    continuous_actions = True
    task: ClassVar[str]
    falls: ClassVar[bool] = True

    def _setup(self) -> None:
        c = self.config
        self.source = _make(self.task, c.backend)
        self.num_agents, self.time_limit = c.num_agents, c.time_limit
        self.num_actions = int(self.source.action_size)
        self.agents_view_size = int(self.source.observation_size)
        self.global_state_size = c.num_agents * self.agents_view_size
        self.ends_early = self.falls
        # Where it has come to is not seen: a body that may go anywhere leaves out x and y, one on a track x alone.
        unseen = 2 if self.source.sys.link_types[0] == "f" else 1
        is_position = np.arange(self.agents_view_size) < self.source.sys.q_size() - unseen
        self._scale = np.where(is_position, 1.0, VELOCITY).astype(np.float32)

    def reset(self, key: jax.Array) -> tuple[BraxState, TimeStep[Observation]]:
        """Draws a pose for each body."""
        keys = jax.vmap(lambda agent: jax.random.fold_in(key, agent))(jnp.arange(self.num_agents))
        bodies = jax.vmap(self.source.reset)(keys)
        fallen = jnp.zeros(self.num_agents, bool)
        state = BraxState(key, jnp.int32(0), bodies, fallen, jnp.zeros(self.num_agents))
        return state, self._restart(self._observe(state), self._extras(state))

    def step(self, state: BraxState, action: jax.Array) -> tuple[BraxState, TimeStep[Observation]]:
        """One step of brax's for every body on its feet."""
        stepped = jax.vmap(self.source.step)(state.bodies, action)
        reward = jnp.where(state.fallen, 0.0, stepped.reward)

        def kept(new: jax.Array, old: jax.Array) -> jax.Array:
            fallen = state.fallen.reshape(-1, *(1,) * (new.ndim - 1))
            return jnp.where(fallen, old, jnp.asarray(new, old.dtype))

        bodies = jax.tree.map(kept, stepped, state.bodies)
        fallen = state.fallen | (bodies.done > 0)
        earned = state.earned + reward
        state = BraxState(state.key, state.step_count + 1, bodies, fallen, earned)
        extras = self._extras(state)
        return state, self._transition(self._observe(state), reward, jnp.all(fallen), extras)

    def scripted_action(self, state: BraxState) -> jax.Array:
        """No torque."""
        return jnp.zeros((self.num_agents, self.num_actions))

    def _make_viewer(self) -> BraxViewer:
        return BraxViewer(self.task, self.source, self.time_limit)

    def _observe(self, state: BraxState) -> Observation:
        view = state.bodies.obs
        if not self.config.raw_view:
            view = jnp.clip(view / self._scale, -LARGEST, LARGEST)
        view = jnp.where(state.fallen[:, None], 0.0, view).astype(jnp.float32)
        mask = jnp.ones((self.num_agents, self.num_actions), bool)
        return Observation(view, mask, view.ravel(), ~state.fallen, state.step_count)

    def _extras(self, state: BraxState) -> dict[str, jax.Array]:
        return {
            "best_return": state.earned.max(),
            "standing": 1.0 - state.fallen.mean(dtype=jnp.float32),
        }


def _make(task: str, backend: str) -> Any:
    """Makes brax's own environment, without the wrappers that reset it.

    Raises:
        ConfigurationError: if brax is not installed.
    """
    # That brax's physics is not developed further, what MuJoCo has renamed, and what it does without.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            worlds = importlib.import_module("brax.envs")
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                'this task needs brax; install it with, in the clone of marl_jax: pip install -e ".[brax]".'
            ) from error
        return worlds.get_environment(task, backend=backend)
