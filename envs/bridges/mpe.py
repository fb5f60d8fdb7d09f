"""MPE of JaxMARL as worlds of ours. Importing this module needs JaxMARL.

Source: github.com/FLAIROx/JaxMARL, version 0.2.0, jaxmarl/environments/mpe. `envs/bridges/jaxmarl.py` says what the
bridge changes. Tags in the docstrings: [R] JaxMARL's code, [S] a choice of this project, [C] computed by this project.
"""

import abc
import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs.base import Observation
from envs.bridges import require_jaxmarl
from envs.bridges.jaxmarl import Bridge
from envs.bridges.states import REACHED, MPEState
from envs.configuration import Config, Range
from envs.viewer import Viewer

require_jaxmarl()
from jaxmarl.environments.mpe import (
    SimpleAdversaryMPE,
    SimpleReferenceMPE,
    SimpleSpeakerListenerMPE,
    SimpleSpreadMPE,
    SimpleTagMPE,
)
from jaxmarl.environments.mpe.default_params import CONTINUOUS_ACT, DISCRETE_ACT

__all__ = [
    "MPE",
    "MPEConfig",
    "MPEState",
    "SimpleAdversary",
    "SimpleAdversaryConfig",
    "SimpleReference",
    "SimpleReferenceConfig",
    "SimpleSpeakerListener",
    "SimpleSpread",
    "SimpleSpreadConfig",
    "SimpleTag",
    "SimpleTagConfig",
]

# [5, 2] (x, y), the directions of MPE's moving actions.
_DIRECTIONS = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.float32)


@dataclasses.dataclass(frozen=True)
class MPEConfig(Config):
    """Options of every task of `MPE`.

    Attributes:
        time_limit: steps of an episode: 25 in the original MPE. JaxMARL's own default plays 26, see
            the module's docstring [S].
        continuous_actions: whether an agent chooses a force in place of one of the moving actions,
            and a speaker says any three numbers between 0 and 1.
    """

    time_limit: Annotated[int, Range(minimum=1)] = 25
    continuous_actions: bool = False


class MPE(Bridge[MPEState]):
    """The particle world: agents are discs that push themselves about in the plane.

    Tags: [R] JaxMARL's code, [S] a choice of this project, [C] computed by this project.

    Physics [R]: positions start uniformly in [-1, 1]^2 and are not bounded, at rest. Each step
    lasts 0.1: the position moves by 0.1 velocity, then the velocity loses a quarter and gains 0.5
    in the direction of the action. So the speed stays below 2, pushes apart, and an action shows in
    the position one step late.

    Moving actions [R]: 0 nothing, 1 left (-x), 2 right (+x), 3 down (-y), 4 up (+y). With
    `continuous_actions` [S for their range]: the force (x, y), each from -1 to 1, of which the moving
    actions are the five cases; A is 2, or 3 if somebody speaks.

    End [R]: after `time_limit` = 25 steps, and only then; it is a truncation, discount 1.

    Scale [C]: nothing is bounded or divided, as in the source, so that results compare with others'. An
    agent that pushes one way for all of 25 steps comes 4.2 far, so that an offset may reach 10; random
    and scripted episodes stay within 5.

    Chance: the start, nothing else. Step t plays with `fold_in(state.key, t)` all the same. [S]
    """

    totalled: ClassVar[tuple[str, ...]] = ()
    ends_early = False

    @property
    def _source_options(self) -> dict[str, Any]:
        """Options that all of JaxMARL's tasks have."""
        kind = CONTINUOUS_ACT if self.continuous_actions else DISCRETE_ACT
        return {"max_steps": self.config.time_limit - 1, "action_type": kind}

    def _says(self, name: str) -> int:
        """How many words an agent has, if it speaks in place of moving; else 0."""
        del name
        return 0

    def _action_size(self, name: str) -> int:
        if self.continuous_actions:
            return self._says(name) or 2
        return super()._action_size(name)

    def _source_action(self, name: str, action: jax.Array) -> jax.Array:
        if not self.continuous_actions:
            return action
        if self._says(name):
            return (1.0 + action[: self._says(name)]) / 2
        # JaxMARL's five numbers are those of the moving actions; opposite ones are subtracted.
        return jnp.zeros((5,)).at[jnp.array([2, 4])].set(action[:2])

    def _moves(self, choices: jax.Array) -> jax.Array:
        """Moving actions [...] as actions of the task's kind."""
        if not self.continuous_actions:
            return choices
        moves = jnp.asarray(_DIRECTIONS)[choices]
        return jnp.pad(moves, [(0, 0)] * choices.ndim + [(0, self.num_actions - 2)])

    @abc.abstractmethod
    def _hidden(self, inner: Any) -> tuple[jax.Array, ...]:
        """What belongs to the global state besides positions and velocities."""

    @abc.abstractmethod
    def _measure(self, inner: Any) -> dict[str, jax.Array]:
        """What can be said about one state in numbers, [] each."""

    def _extras(self, state: MPEState, now: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The extras, from what was measured now and from `state.totals`."""
        return now

    def _setup(self) -> None:
        self.continuous_actions = self.config.continuous_actions
        super()._setup()
        _, inner = jax.eval_shape(self.source.reset, jax.random.key(0))
        self.global_state_size = jax.eval_shape(self._global_state, inner).size

    def reset(self, key: jax.Array) -> tuple[MPEState, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        key, reset_key = jax.random.split(key)
        views, inner = self.source.reset(reset_key)
        now = self._measure(inner)
        state = MPEState(
            key=key,
            step_count=jnp.zeros((), jnp.int32),
            inner=inner,
            totals={name: jnp.zeros_like(now[name]) for name in self.totalled},
        )
        return state, self._restart(self._observe(state, views), self._extras(state, now))

    def step(self, state: MPEState, action: jax.Array) -> tuple[MPEState, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [N] int32, each in 0..A-1; continuous: [N, A] float32.

        Returns:
            The next state and its time step.
        """
        step_count = state.step_count + 1
        key = jax.random.fold_in(state.key, step_count)
        views, inner, reward = self._play(key, state.inner, action)
        now = self._measure(inner)
        totals = {name: total + now[name] for name, total in state.totals.items()}
        state = MPEState(key=state.key, step_count=step_count, inner=inner, totals=totals)
        never = jnp.zeros((), bool)
        observation, extras = self._observe(state, views), self._extras(state, now)
        return state, self._transition(observation, reward, never, extras)

    def _observe(self, state: MPEState, views: dict[str, jax.Array]) -> Observation:
        return Observation(
            agents_view=self._agents_view(views),
            action_mask=self._own_actions,
            global_state=self._global_state(state.inner),
            alive=jnp.ones((self.num_agents,), bool),
            step_count=state.step_count,
        )

    def _places(self, inner: Any) -> tuple[jax.Array, jax.Array]:
        """Positions: [N, 2] of all of JaxMARL's agents, [L, 2] of the landmarks."""
        return inner.p_pos[: self.source.num_agents], inner.p_pos[self.source.num_agents :]

    def _global_state(self, inner: Any) -> jax.Array:
        velocities = inner.p_vel[: self.source.num_agents]
        parts = [inner.p_pos, velocities, *self._hidden(inner)]
        return jnp.concatenate([part.ravel() for part in parts])


@dataclasses.dataclass(frozen=True)
class SimpleSpreadConfig(MPEConfig):
    """Options of `SimpleSpread`.

    Attributes:
        num_agents: N, which is also the number of landmarks. [R: 3]
        local_ratio: the share of an agent's own collisions in its reward; the rest is the team's
            distance to the landmarks. [R: 0.5]
    """

    num_agents: Annotated[int, Range(minimum=1, maximum=1000)] = 3
    local_ratio: Annotated[float, Range(minimum=0.0, maximum=1.0)] = 0.5


class SimpleSpread(MPE):
    """Simple spread, or cooperative navigation: N agents are to cover N landmarks.

    Physics, moving actions, end and chance are those of `MPE`. Tags as there.

    Actions, [N] int32: the five moving actions, for every agent; `action_mask` [N, 5] is all true.

    Reward [R], [N] float32: -(1 - local_ratio) times the sum over landmarks of the distance to the
    nearest agent, -local_ratio times the number of agents that this agent touches. So rewards
    differ between agents. Agents are discs of radius 0.15 and push each other off.

    Observation [R]: `agents_view` [N, 6 N] float32, for each agent its velocity (2), its position
    (2), the offsets to the landmarks (2 N), the offsets to the other agents in order of their
    number (2 (N - 1)), and 2 (N - 1) zeros, where JaxMARL carries a channel that nobody can speak
    in. Nothing in it says which agent it is.

    `global_state` [6 N] float32 [S]: positions of agents (2 N), of landmarks (2 N), velocities of
    agents (2 N).

    `extras` [S]: `distance` float32, the sum over landmarks of the distance to the nearest agent,
    now; `mean_distance`, its mean over the steps so far; `collisions` int32, touching pairs, summed
    over the steps so far; `covered` int32, landmarks with an agent within 0.1 [the original MPE's
    bound].

    `scripted_action` gives every agent a landmark of its own, so that the sum of distances is
    least, and steers it there. It ignores collisions.

    Mean returns of an agent [C], N = 3, 4,096 episodes: uniformly random actions -26.2 (standard
    deviation 7.8), `scripted_action` -7.5 (3.4).
    """

    Config: ClassVar[type[Config]] = SimpleSpreadConfig
    totalled: ClassVar[tuple[str, ...]] = ("distance", "collisions")

    def _make_source(self) -> SimpleSpreadMPE:
        config = self.config
        return SimpleSpreadMPE(
            num_agents=config.num_agents,
            num_landmarks=config.num_agents,
            local_ratio=config.local_ratio,
            **self._source_options,
        )

    def scripted_action(self, state: MPEState) -> jax.Array:
        """Best assignment of agents to landmarks, then straight there.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [N] int32, or continuous actions.
        """
        agents, landmarks = self._places(state.inner)
        goals = landmarks[_assign(_distances(agents, landmarks))]
        return self._moves(jax.vmap(_steer)(agents, state.inner.p_vel[: self.num_agents], goals))

    def _hidden(self, inner: Any) -> tuple[jax.Array, ...]:
        return ()

    def _measure(self, inner: Any) -> dict[str, jax.Array]:
        agents, landmarks = self._places(inner)
        nearest = _distances(landmarks, agents).min(axis=1)
        touching = _distances(agents, agents) < 2 * self.source.rad[0]
        pairs = (jnp.sum(touching, dtype=jnp.int32) - self.num_agents) // 2
        covered = jnp.sum(nearest < REACHED, dtype=jnp.int32)
        return {"distance": nearest.sum(), "collisions": pairs, "covered": covered}

    def _extras(self, state: MPEState, now: dict[str, jax.Array]) -> dict[str, jax.Array]:
        steps = jnp.maximum(state.step_count, 1)
        return {
            "distance": now["distance"],
            "mean_distance": state.totals["distance"] / steps,
            "collisions": state.totals["collisions"],
            "covered": now["covered"],
        }

    def _make_viewer(self) -> Viewer[MPEState]:
        from envs.bridges.viewer import SimpleSpreadViewer

        return SimpleSpreadViewer(self.source, self.time_limit)


class SimpleSpeakerListener(MPE):
    """Simple speaker-listener: one agent knows the goal and only speaks, the other only moves.

    Physics, moving actions, end and chance are those of `MPE`. Tags as there.

    Agents: 0 the speaker, 1 the listener.

    Actions, [2] int32: the speaker says 0, 1 or 2, `action_mask` masks its 3 and 4; the listener
    has the five moving actions. `action_mask` is [2, 5].

    Reward [R], [2] float32, the same number for both: minus the square of the distance between the
    listener and the goal, which is one of three landmarks.

    Observation [R]: `agents_view` [2, 11] float32. The speaker's: 0.65 at the goal's number, 0.15
    elsewhere (3), then 8 zeros of padding [S]. The listener's: its velocity (2), the offsets to the
    three landmarks (6), what the speaker said in the last step, one-hot (3). No identity is in it,
    but the two look so different that each can tell which one it is.

    With `continuous_actions` the speaker says (a + 1) / 2 for its three numbers a, and the
    listener's third has no effect.

    `global_state` [20] float32 [S]: positions of speaker, listener and landmarks (10), velocities
    of speaker and listener (4), the goal one-hot (3), what was said one-hot, zeros at first (3).

    `extras` [S]: `distance` float32, from the listener to the goal, now; `reached` int32, whether
    it is below 0.1.

    `scripted_action`: the speaker says the goal's number, the listener steers to the goal.

    Mean returns [C], 4,096 episodes: uniformly random actions -39.4 (standard deviation 32.2),
    `scripted_action` -7.3 (7.8), which reaches the goal in all of them.
    """

    Config: ClassVar[type[Config]] = MPEConfig

    def _make_source(self) -> SimpleSpeakerListenerMPE:
        return SimpleSpeakerListenerMPE(**self._source_options)

    def _says(self, name: str) -> int:
        return int(self.source.dim_c) if name == self._names[0] else 0

    def scripted_action(self, state: MPEState) -> jax.Array:
        """The speaker names the goal, the listener goes there.

        Args:
            state: the state, of which it sees everything (the listener need not wait for the word).

        Returns:
            [2] int32.
        """
        inner = state.inner
        agents, landmarks = self._places(inner)
        move = _steer(agents[1], inner.p_vel[1], landmarks[inner.goal])
        if self.continuous_actions:
            word = 2.0 * jax.nn.one_hot(inner.goal, self.num_actions) - 1.0
            return jnp.stack([word, self._moves(move)])
        return jnp.stack([inner.goal.astype(jnp.int32), move])

    def _hidden(self, inner: Any) -> tuple[jax.Array, ...]:
        return jax.nn.one_hot(inner.goal, self.source.num_landmarks), inner.c[0]

    def _measure(self, inner: Any) -> dict[str, jax.Array]:
        agents, landmarks = self._places(inner)
        distance = jnp.linalg.norm(agents[1] - landmarks[inner.goal])
        return {"distance": distance, "reached": (distance < REACHED).astype(jnp.int32)}

    def _make_viewer(self) -> Viewer[MPEState]:
        from envs.bridges.viewer import SimpleSpeakerListenerViewer

        return SimpleSpeakerListenerViewer(self.source, self.time_limit)


@dataclasses.dataclass(frozen=True)
class SimpleAdversaryConfig(MPEConfig):
    """Options of `SimpleAdversary`.

    Attributes:
        num_good_agents: how many good agents; there are as many landmarks. [R: 2]
    """

    num_good_agents: Annotated[int, Range(minimum=1, maximum=1000)] = 2


class SimpleAdversary(MPE):
    """Simple adversary, or physical deception: good agents hide their target from an adversary.

    Physics, moving actions, end and chance are those of `MPE`. Tags as there.

    Agents: 0 the adversary, 1..N-1 the good ones. As many landmarks as good agents; one is the
    target, which only the good ones know. All pass through each other.

    Actions, [N] int32: the five moving actions, for every agent; `action_mask` [N, 5] is all true.

    Reward [R], [N] float32: the adversary pays its distance to the target; each good agent earns
    the adversary's distance to the target, less the distance of the good agent nearest to it. So
    this is no common reward, and its mean over agents means little.

    Observation [R]: `agents_view` [N, 2 + 4 (N - 1)] float32. A good agent's: the offsets to the
    target (2), to every landmark (2 (N - 1)), to the other agents in order of their number
    (2 (N - 1)). The adversary's lacks the first two and has two zeros of padding at the end [S]. No
    speed, no position and no identity is in it, but the target in front tells a good agent from the
    adversary.

    `global_state` [2 N + 2 (N - 1) + 2 N + (N - 1)] float32 [S]: positions of agents and of
    landmarks, velocities of agents, the target one-hot.

    `extras` [S]: `good_distance` float32, from the target to the nearest good agent, now;
    `adversary_distance`, to the adversary; `good_reached` and `adversary_reached` int32, whether
    they are below 0.16, two landmarks' radii [the bound in the original MPE's sparse reward].

    `scripted_action`: the good agents spread over all landmarks; the adversary cannot know better
    than to go to the landmark that a good agent is nearest to.

    Mean returns of the adversary and of a good agent [C], 4,096 episodes: uniformly random actions
    -28.2 and 7.3 (standard deviations 12.8 and 15.6), `scripted_action` -16.2 and 10.9 (10.3 and
    9.1); at the end of the latter the adversary is at the target in 33%, a good agent in all.
    """

    Config: ClassVar[type[Config]] = SimpleAdversaryConfig

    def _make_source(self) -> SimpleAdversaryMPE:
        n = self.config.num_good_agents
        return SimpleAdversaryMPE(num_good_agents=n, num_obs=n, **self._source_options)

    def scripted_action(self, state: MPEState) -> jax.Array:
        """Good agents cover all landmarks, the target among them; the adversary follows them.

        Args:
            state: the state, of which nobody uses the target.

        Returns:
            [N] int32, or continuous actions.
        """
        agents, landmarks = self._places(state.inner)
        between = _distances(agents[1:], landmarks)
        goals = landmarks[jnp.append(between.min(axis=0).argmin(), _assign(between))]
        return self._moves(jax.vmap(_steer)(agents, state.inner.p_vel[: self.num_agents], goals))

    def _hidden(self, inner: Any) -> tuple[jax.Array, ...]:
        return (jax.nn.one_hot(inner.goal, self.source.num_landmarks),)

    def _measure(self, inner: Any) -> dict[str, jax.Array]:
        agents, landmarks = self._places(inner)
        distances = jnp.linalg.norm(agents - landmarks[inner.goal], axis=1)
        adversary, good, bound = distances[0], distances[1:].min(), 2 * self.source.rad[-1]
        return {
            "good_distance": good,
            "adversary_distance": adversary,
            "good_reached": (good < bound).astype(jnp.int32),
            "adversary_reached": (adversary < bound).astype(jnp.int32),
        }

    def _make_viewer(self) -> Viewer[MPEState]:
        from envs.bridges.viewer import SimpleAdversaryViewer

        return SimpleAdversaryViewer(self.source, self.time_limit)


@dataclasses.dataclass(frozen=True)
class SimpleReferenceConfig(MPEConfig):
    """Options of `SimpleReference`.

    Attributes:
        local_ratio: the share of an agent's own part in its reward; the rest is the mean of both. [R: 0.5]
    """

    local_ratio: Annotated[float, Range(minimum=0.0, maximum=1.0)] = 0.5


class SimpleReference(MPE):
    """Simple reference: two agents move and speak, and each knows the other's goal.

    Physics, end and chance are those of `MPE`. Tags as there.

    Actions [R], [2] int32: moving action + 5 times one of ten words; `action_mask` [2, 50] is all true. With
    `continuous_actions` the force (2), then ten numbers a, of which (1 + a) / 2 is said [S].

    Reward [R], [2] float32: an agent's own part is minus the distance between the *other* and the other's goal, which
    is one of three landmarks. It earns `local_ratio` of it, and of the mean of both parts the rest.

    Observation [R]: `agents_view` [2, 21] float32: own velocity (2), offsets to the landmarks (6), 0.75 at the number
    of the other's goal, 0.25 elsewhere (3), what the other said in the last step (10). Nothing in it says which agent
    it is.

    `global_state` [40] float32 [S]: positions of agents and landmarks (10), velocities of agents (4), both goals
    one-hot (6), what both said, zeros at first (20).

    `extras` [S]: `distance` float32, of the agents to their goals, the mean, now; `reached` int32, how many of them are
    within 0.1.

    `scripted_action`: each says the other's goal and goes to its own.
    """

    Config: ClassVar[type[Config]] = SimpleReferenceConfig

    def _make_source(self) -> SimpleReferenceMPE:
        return SimpleReferenceMPE(local_ratio=self.config.local_ratio, **self._source_options)

    def _action_size(self, name: str) -> int:
        if self.continuous_actions:
            return 2 + int(self.source.dim_c)
        return super()._action_size(name)

    def _source_action(self, name: str, action: jax.Array) -> jax.Array:
        if not self.continuous_actions:
            return action
        return jnp.concatenate([super()._source_action(name, action), (1.0 + action[2:]) / 2])

    def scripted_action(self, state: MPEState) -> jax.Array:
        """Each says the other's goal and goes to its own.

        Args:
            state: the state, of which it sees everything (nobody waits for a word).

        Returns:
            [2] int32, or continuous actions.
        """
        inner = state.inner
        agents, landmarks = self._places(inner)
        moves = jax.vmap(_steer)(agents, inner.p_vel[: self.num_agents], landmarks[inner.goal])
        words = inner.goal[::-1]
        if not self.continuous_actions:
            return (moves + len(_DIRECTIONS) * words).astype(jnp.int32)
        said = 2.0 * jax.nn.one_hot(words, self.source.dim_c) - 1.0
        return jnp.concatenate([jnp.asarray(_DIRECTIONS)[moves], said], axis=-1)

    def _hidden(self, inner: Any) -> tuple[jax.Array, ...]:
        return jax.nn.one_hot(inner.goal, self.source.num_landmarks), inner.c

    def _measure(self, inner: Any) -> dict[str, jax.Array]:
        agents, landmarks = self._places(inner)
        distances = jnp.linalg.norm(agents - landmarks[inner.goal], axis=1)
        return {
            "distance": distances.mean(),
            "reached": jnp.sum(distances < REACHED, dtype=jnp.int32),
        }

    def _make_viewer(self) -> Viewer[MPEState]:
        from envs.bridges.viewer import SimpleReferenceViewer

        return SimpleReferenceViewer(self.source, self.time_limit)


@dataclasses.dataclass(frozen=True)
class SimpleTagConfig(MPEConfig):
    """Options of `SimpleTag`.

    Attributes:
        num_hunters: how many hunters, JaxMARL's adversaries. [R: 3]
        num_prey: how much prey, JaxMARL's good agents. [R: 1]
        num_obstacles: how many landmarks, which nobody can pass. [R: 2]
        prey: "scripted": the agents are the hunters, and the prey flees by a rule [S]; "learns": the prey are agents
            too, behind the hunters, as in JaxMARL [R].
    """

    num_hunters: Annotated[int, Range(minimum=1, maximum=1000)] = 3
    num_prey: Annotated[int, Range(minimum=1, maximum=1000)] = 1
    num_obstacles: Annotated[int, Range(minimum=1, maximum=1000)] = 2
    prey: Literal["scripted", "learns"] = "scripted"


class SimpleTag(MPE):
    """Simple tag, or predator and prey: slow hunters are paid for touching faster prey.

    End and chance are those of `MPE`, physics and moving actions too, but that nothing passes through anything, a
    hunter gains 0.3 and is at most 1.0 fast, prey 0.4 and 1.3 [R]. Tags as there.

    Agents: the hunters; with `prey="learns"` the prey behind them. Scripted prey takes the moving action after which
    the nearest hunter is farthest, and loses twice its way beyond 0.9 from the middle [S].

    Actions, [N] int32: the five moving actions; `action_mask` [N, 5] is all true.

    Reward [R], [N] float32: 10 to every hunter for each pair of hunter and prey that touch. Prey loses 10 for each
    hunter that touches it, and more and more beyond 0.9 from the middle along an axis.

    Observation [R]: `agents_view` [N, F] float32: own velocity (2) and position (2), offsets to the obstacles, offsets
    to the others in order of their number; a hunter also sees the velocity of the last prey (2), in whose place prey
    has padding [S]. Nothing in it says which hunter it is.

    `global_state` float32 [S]: positions of hunters, prey and obstacles, velocities of hunters and prey.

    `extras` [S]: `catches` int32, touching pairs of hunter and prey, summed over the steps so far; it is the headline.

    `scripted_action`: every hunter runs at the prey that is nearest to it, prey as above.
    """

    Config: ClassVar[type[Config]] = SimpleTagConfig
    headline: ClassVar[str | None] = "catches"
    totalled: ClassVar[tuple[str, ...]] = ("catches",)

    def _make_source(self) -> SimpleTagMPE:
        config = self.config
        return SimpleTagMPE(
            num_good_agents=config.num_prey,
            num_adversaries=config.num_hunters,
            num_obs=config.num_obstacles,
            **self._source_options,
        )

    def _players(self) -> tuple[str, ...]:
        if self.config.prey == "learns":
            return super()._players()
        return tuple(self.source.adversaries)

    def _everybody(self, inner: Any, action: jax.Array) -> dict[str, jax.Array]:
        ours = super()._everybody(inner, action)
        if self.config.prey == "learns":
            return ours
        return ours | dict(zip(self.source.good_agents, self._flee(inner), strict=True))

    def scripted_action(self, state: MPEState) -> jax.Array:
        """Hunters run at the nearest prey, prey runs away.

        Args:
            state: the state, of which all see everything.

        Returns:
            [N] int32, or continuous actions.
        """
        inner, n = state.inner, self.config.num_hunters
        agents, _ = self._places(inner)
        hunters, prey = agents[:n], agents[n:]
        nearest = prey[_distances(hunters, prey).argmin(axis=1)]
        chase = self._moves(jax.vmap(_steer)(hunters, inner.p_vel[:n], nearest))
        if self.config.prey == "scripted":
            return chase
        return jnp.concatenate([chase, self._flee(inner)])

    def _flee(self, inner: Any) -> jax.Array:
        """[prey], the prey's actions: the nearest hunter far away, but not far outside."""
        agents, n = self._places(inner)[0], self.config.num_hunters
        ahead = agents + 0.1 * inner.p_vel[: len(agents)]
        hunters, prey = ahead[:n], ahead[n:]
        pushed = 0.75 * inner.p_vel[n : len(agents), None] + 0.4 * _DIRECTIONS
        places = prey[:, None] + 0.3 * pushed
        nearest = jnp.linalg.norm(places[:, :, None] - hunters, axis=-1).min(axis=-1)
        outside = jnp.maximum(jnp.abs(places) - 0.9, 0.0).sum(axis=-1)
        return self._moves(jnp.argmax(nearest - 2.0 * outside, axis=-1).astype(jnp.int32))

    def _hidden(self, inner: Any) -> tuple[jax.Array, ...]:
        return ()

    def _measure(self, inner: Any) -> dict[str, jax.Array]:
        agents, n = self._places(inner)[0], self.config.num_hunters
        reach = self.source.rad[0] + self.source.rad[n]
        touching = _distances(agents[:n], agents[n:]) < reach
        return {"catches": jnp.sum(touching, dtype=jnp.int32)}

    def _extras(self, state: MPEState, now: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {"catches": state.totals["catches"]}

    def _make_viewer(self) -> Viewer[MPEState]:
        from envs.bridges.viewer import SimpleTagViewer

        return SimpleTagViewer(self.source, self.time_limit)


def _distances(ours: jax.Array, theirs: jax.Array) -> jax.Array:
    """[A, 2] and [B, 2] positions to [A, B] distances."""
    return jnp.linalg.norm(ours[:, None] - theirs, axis=-1)


def _assign(costs: jax.Array) -> jax.Array:
    """[N] int32, the column of each row that makes the sum of `costs` [N, N] least."""
    from optax.assignment import hungarian_algorithm

    rows, columns = hungarian_algorithm(costs)
    return jnp.zeros_like(columns).at[rows].set(columns)


def _steer(position: jax.Array, velocity: jax.Array, goal: jax.Array) -> jax.Array:
    """[] int32, the moving action that brings an agent nearest to `goal`.

    It counts the squared distances at the first two positions that the action has a part in, with
    nothing done in between.
    """
    position = position + 0.1 * velocity
    velocities = 0.75 * velocity + 0.5 * _DIRECTIONS
    first = position + 0.1 * velocities
    second = first + 0.075 * velocities
    return jnp.argmin(jnp.sum((first - goal) ** 2 + (second - goal) ** 2, axis=1)).astype(jnp.int32)
