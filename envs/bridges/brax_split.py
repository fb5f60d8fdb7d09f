"""brax's walkers as worlds in which agents share one body, each with some of its joints. Making one needs brax.

Sources: github.com/FLAIROx/JaxMARL, jaxmarl/environments/mabrax (MABrax); de Witt et al. 2020, "Deep Multi-Agent
Reinforcement Learning for Decentralized Continuous Cooperative Control" (MAMuJoCo); github.com/google/brax, 0.14.2.
Tags: [R] MABrax, [B] brax, [S] a choice of this project.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation
from envs.bridges.brax_viewer import BraxViewer
from envs.bridges.brax_worlds import Brax, BraxState
from envs.configuration import Config, Range


class Split(NamedTuple):
    """Who moves and sees what of a body with J joints.

    Attributes:
        body: brax's name.
        root: how many positions, and how many velocities, the trunk has in brax's view. Behind each come the joints'.
        joints: of each agent, its joints by number.
        beside: of each agent, the joints of others next to its own.
        torques: of each joint, the number of its torque among brax's actions.
    """

    body: str
    root: tuple[int, int]
    joints: tuple[tuple[int, ...], ...]
    beside: tuple[tuple[int, ...], ...]
    torques: tuple[int, ...]

    def seen(self, agent: int) -> list[int]:
        """Which of the numbers of brax's view an agent sees."""
        places, speeds = self.root
        behind = places + len(self.torques)
        own = self.joints[agent]
        return [
            *range(places),
            *(places + joint for joint in sorted((*own, *self.beside[agent]))),
            *range(behind, behind + speeds),
            *(behind + speeds + joint for joint in own),
        ]


SPLITS = {
    # Its legs' joints are hip and ankle, leg by leg; brax drives the last leg first.
    "ant_4x2": Split(
        "ant",
        (5, 6),
        ((0, 1), (2, 3), (4, 5), (6, 7)),
        ((2, 4, 6), (0, 4, 6), (0, 2, 6), (0, 2, 4)),
        (2, 3, 4, 5, 6, 7, 0, 1),
    ),
    # Thigh, shin and foot, of the back and of the front leg.
    "halfcheetah_6x1": Split(
        "halfcheetah",
        (2, 3),
        ((0,), (1,), (2,), (3,), (4,), (5,)),
        ((1, 3), (0, 2), (1,), (0, 4), (3, 5), (4,)),
        (0, 1, 2, 3, 4, 5),
    ),
    # Thigh, leg and foot.
    "hopper_3x1": Split("hopper", (2, 3), ((0,), (1,), (2,)), ((1,), (0, 2), (1,)), (0, 1, 2)),
    # Thigh, leg and foot, of the right and of the left leg.
    "walker2d_2x3": Split(
        "walker2d", (2, 3), ((0, 1, 2), (3, 4, 5)), ((3,), (0,)), (0, 1, 2, 3, 4, 5)
    ),
}


@dataclasses.dataclass(frozen=True)
class SplitConfig(Config):
    """Options of `SplitBody`.

    Attributes:
        backend: brax's physics: spring is the fastest on a CPU; positional is MABrax's. [S: spring]
        time_limit: steps of an episode. [R: 1,000]
        raw_view: whether agents see brax's numbers, neither divided nor cut off. [R: true, S: false]
    """

    backend: Literal["spring", "generalized", "positional", "mjx"] = "spring"
    time_limit: Annotated[int, Range(minimum=1)] = 1000
    raw_view: bool = False


class SplitBody(MultiAgentEnv[BraxState]):
    """N agents share one body: each applies the torques of its own joints, and sees what is near them [R].

    Actions, [N, A] float32 in -1..1: the torques of an agent's joints [R]; `action_mask` [N, A] allows all.

    Reward, [N] float32: brax's, the same for all [R]: speed forwards, something for every step on the feet, minus the
    cost of the torques.

    Observation: `agents_view` [N, F] float32: the trunk's positions, those of the agent's joints and of the joints next
    to them, the trunk's velocities, those of the agent's joints; zeros behind, where others see more [R]. MABrax's own
    lists [R] are not taken [S]: those of the ant are of another leg than the one that is moved, those of halfcheetah
    one number off, those of walker2d without the trunk's angle. Velocities are divided by 10, and everything is cut off
    at 5 [S]; `raw_view` leaves it as it is. `global_state`: brax's whole view.

    Ends when the body falls (halfcheetah never does) [B]; the time limit is a truncation [B]. `standing`: 1 until then.
    There is no script: it applies no torque.

    Attributes:
        split: who moves and sees what.
        alone: the body, as a world of one agent.
    """

    Config = SplitConfig
    continuous_actions = True
    split: ClassVar[Split]
    alone: ClassVar[type[Brax]]

    def _setup(self) -> None:
        split, c = self.split, self.config
        self.body = self.alone(
            num_agents=1, backend=c.backend, time_limit=c.time_limit, raw_view=c.raw_view
        )
        seen = [split.seen(agent) for agent in range(len(split.joints))]
        self.num_agents, self.num_actions = len(split.joints), len(split.joints[0])
        self.time_limit, self.ends_early = c.time_limit, self.body.ends_early
        self.agents_view_size = max(map(len, seen))
        self.global_state_size = self.body.agents_view_size
        # The number behind the view's last is 0.
        nothing = self.body.agents_view_size
        self._seen = np.full((self.num_agents, self.agents_view_size), nothing)
        for agent, numbers in enumerate(seen):
            self._seen[agent, : len(numbers)] = numbers
        self._torques = np.array(split.torques)[np.array(split.joints)]

    def reset(self, key: jax.Array) -> tuple[BraxState, TimeStep[Observation]]:
        """Draws a pose."""
        state, whole = self.body.reset(key)
        return state, self._restart(self._observe(whole.observation), self._extras(whole))

    def step(self, state: BraxState, action: jax.Array) -> tuple[BraxState, TimeStep[Observation]]:
        """One step of brax's with everybody's torques."""
        torques = jnp.zeros((1, self.body.num_actions)).at[0, self._torques].set(action)
        state, whole = self.body.step(state, torques)
        reward = jnp.broadcast_to(whole.reward, (self.num_agents,))
        view = self._observe(whole.observation)
        return state, self._transition(view, reward, state.fallen[0], self._extras(whole))

    def scripted_action(self, state: BraxState) -> jax.Array:
        """No torque."""
        return jnp.zeros((self.num_agents, self.num_actions))

    def _make_viewer(self) -> BraxViewer:
        return self.body._make_viewer()

    def _observe(self, whole: Observation) -> Observation:
        view = whole.agents_view[0]
        mask = jnp.ones((self.num_agents, self.num_actions), bool)
        alive = jnp.broadcast_to(whole.alive, (self.num_agents,))
        return Observation(jnp.append(view, 0.0)[self._seen], mask, view, alive, whole.step_count)

    def _extras(self, whole: TimeStep[Observation]) -> dict[str, Any]:
        return {"standing": whole.extras["standing"]}
