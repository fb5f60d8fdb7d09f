"""Tiny worlds that each fail to be solved when one thing in a learner is wrong.

All have the same sizes (2 agents, 3 actions, 4 steps at most), so that they share compiled updates.
"""

import abc
import dataclasses
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
from jumanji.types import TimeStep

from envs.base import Config, MultiAgentEnv, Observation

AGENTS, ACTIONS, FEATURES, LIMIT = 2, 3, 4, 4


@dataclasses.dataclass(frozen=True)
class ProbeConfig(Config):
    """No options."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class ProbeState:
    """Everything that a probe needs to go on.

    Attributes:
        key: random key of the episode.
        step_count: [] int32, steps since the reset.
        memory: [2] int32, one number for each agent; what it means is the probe's own business.
    """

    key: jax.Array
    step_count: jax.Array
    memory: jax.Array


class Probe(MultiAgentEnv[ProbeState]):
    """Base of the probes: an agent sees the one-hot entry `_shown`, central critics two entries `_global`.

    `extras`: `clock` (steps since the reset) and `memory_sum`.
    """

    Config: ClassVar[type[Config]] = ProbeConfig

    def _setup(self) -> None:
        self.num_agents, self.num_actions = AGENTS, ACTIONS
        self.time_limit = LIMIT
        self.agents_view_size = FEATURES
        self.global_state_size = AGENTS * FEATURES

    @abc.abstractmethod
    def _shown(self, state: ProbeState) -> jax.Array:
        """[2] int32 in 0..3: which entry of its observation is 1 for each agent."""

    @abc.abstractmethod
    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        """The next memory, the reward ([] or [2]) and whether the task has ended."""

    def _draw_memory(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (AGENTS,), 0, ACTIONS, jnp.int32)

    def _mask(self, state: ProbeState) -> jax.Array:
        return jnp.ones((AGENTS, ACTIONS), bool)

    def _alive(self, state: ProbeState) -> jax.Array:
        return jnp.ones((AGENTS,), bool)

    def _global(self, state: ProbeState) -> jax.Array:
        """[2] int32 in 0..3, of which the global state is the one-hot code."""
        return self._shown(state)

    def reset(self, key: jax.Array) -> tuple[ProbeState, TimeStep[Observation]]:
        """Starts an episode."""
        state = ProbeState(key, jnp.zeros((), jnp.int32), self._draw_memory(key))
        return state, self._restart(self._observe(state), self._extras(state))

    def step(
        self, state: ProbeState, action: jax.Array
    ) -> tuple[ProbeState, TimeStep[Observation]]:
        """Plays one step."""
        memory, reward, ended = self._outcome(state, action)
        state = ProbeState(state.key, state.step_count + 1, memory)
        reward, ended = jnp.asarray(reward, jnp.float32), jnp.asarray(ended)
        return state, self._transition(self._observe(state), reward, ended, self._extras(state))

    def _observe(self, state: ProbeState) -> Observation:
        view = jax.nn.one_hot(self._shown(state), self.agents_view_size)
        everything = jax.nn.one_hot(self._global(state), self.agents_view_size).reshape(-1)
        return Observation(
            view, self._mask(state), everything, self._alive(state), state.step_count
        )

    def _extras(self, state: ProbeState) -> dict[str, jax.Array]:
        return {"clock": state.step_count, "memory_sum": jnp.sum(state.memory)}

    def _make_viewer(self) -> NoReturn:
        raise NotImplementedError


class Context(Probe):
    """One step: each agent must name the number that it sees. Fails if observations are not used.

    The reward is the share of agents that are right; the optimum is 1, chance 1/3.
    """

    def _shown(self, state: ProbeState) -> jax.Array:
        return state.memory

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        return state.memory, jnp.mean(action == state.memory), True

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        return state.memory


class Lasts(Context):
    """As many steps as were drawn at the reset, 1 to 5 of 16; the sight of one agent says how many."""

    def _setup(self) -> None:
        super()._setup()
        self.time_limit = 16

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        return state.memory, 1.0 + action[0], state.step_count >= jnp.sum(state.memory)


class Masked(Context):
    """As `Context`, but the number seen is the one action that may not be taken; the next one pays.

    An unavailable action costs 100.
    """

    def _mask(self, state: ProbeState) -> jax.Array:
        return jnp.arange(ACTIONS) != state.memory[:, None]

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        right = jnp.mean(action == (state.memory + 1) % ACTIONS)
        return state.memory, right - 100.0 * jnp.any(action == state.memory), True

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        return (state.memory + 1) % ACTIONS


class Aim(Context):
    """One step of continuous actions: each agent aims at a point that its observation names.

    The reward is minus the mean squared distance; the optimum is 0, standing still gets -0.36.
    """

    def _setup(self) -> None:
        super()._setup()
        self.continuous_actions = True

    def _goal(self, state: ProbeState) -> jax.Array:
        return 0.6 * (2.0 * jax.nn.one_hot(state.memory, ACTIONS) - 1.0)

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        return state.memory, -jnp.mean((action - self._goal(state)) ** 2), True

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        return self._goal(state)


class Recall(Probe):
    """The number is shown at first only and must be named at the last step. Fails without memory."""

    def _shown(self, state: ProbeState) -> jax.Array:
        return jnp.where(state.step_count == 0, state.memory, FEATURES - 1)

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        last = state.step_count == LIMIT - 1
        return state.memory, last * jnp.mean(action == state.memory), last

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        return state.memory


class Delayed(Probe):
    """Only the first action counts (2 is right), and it is paid for at the end. Fails without credit over time."""

    def _draw_memory(self, key: jax.Array) -> jax.Array:
        return jnp.zeros((AGENTS,), jnp.int32)

    def _shown(self, state: ProbeState) -> jax.Array:
        return jnp.broadcast_to(state.step_count, (AGENTS,))

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        memory = jnp.where(state.step_count == 0, action, state.memory)
        last = state.step_count == LIMIT - 1
        return memory, last * jnp.mean(memory == 2), last

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        return jnp.full((AGENTS,), 2, jnp.int32)


class TakeOrWait(Delayed):
    """Agent 0 may take 1 at once with action 0, which ends the episode; the end at step 4 pays 2.

    Right is what the discount says: taking for gamma^3 < 1/2, else waiting.
    """

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        take, last = action[0] == 0, state.step_count == LIMIT - 1
        return state.memory + action, jnp.where(take, 1.0, 2.0 * last), take | last

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum without discount."""
        return jnp.ones((AGENTS,), jnp.int32)


class Roles(Delayed):
    """One step: 1 if agent 0 takes action 0 and agent 1 takes action 1, else 0; both see the same.

    Fails if agents cannot differ.
    """

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        return state.memory, jnp.all(action == jnp.arange(AGENTS)), True

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        return jnp.arange(AGENTS, dtype=jnp.int32)


class Echo(Delayed):
    """Each agent sees what it did last; at the end 1 if agent 0's last action was 0 and agent 1's was 1, else 0.

    What an agent does shows, so that skills are told apart if they do different things.
    """

    def _shown(self, state: ProbeState) -> jax.Array:
        return state.memory

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        last = state.step_count == LIMIT - 1
        return action, last * jnp.all(action == jnp.arange(AGENTS)), last

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        return jnp.arange(AGENTS, dtype=jnp.int32)


class Hidden(Probe):
    """Two steps: the first action must be the number shown; the second step pays for it.

    Whether it was right is seen in the global state only, so an agent's own value of the second step is the same
    for right and wrong. A learner with values of the agents' own and one-step advantages stays at chance, 1/3;
    one that brings the central value's knowledge to the agents reaches 1.
    """

    def _shown(self, state: ProbeState) -> jax.Array:
        return jnp.where(state.step_count == 0, state.memory, FEATURES - 1)

    def _global(self, state: ProbeState) -> jax.Array:
        return state.memory

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        last = state.step_count == 1
        memory = jnp.where(last, state.memory, (action == state.memory).astype(jnp.int32))
        return memory, last * jnp.mean(state.memory), last

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        return state.memory


class Steady(Delayed):
    """Always the same sight, one legal action, 1 per step; truncated at the limit.

    Its value is 1 / (1 - gamma) at every step.
    """

    def _shown(self, state: ProbeState) -> jax.Array:
        return jnp.zeros((AGENTS,), jnp.int32)

    def _mask(self, state: ProbeState) -> jax.Array:
        return jnp.broadcast_to(jnp.arange(ACTIONS) == 0, (AGENTS, ACTIONS))

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        return state.memory, 1.0, False

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """All there is."""
        return jnp.zeros((AGENTS,), jnp.int32)


class SteadyThenOver(Steady):
    """As `Steady`, but the limit is a termination: nothing comes after it."""

    time_limit_is_termination: ClassVar[bool] = True


class TwoGoals(Probe):
    """Two goals at the ends of a corridor, one near, one far; nobody can reach both, and each pays 1 once, at the end.

    The agents start at the same cell, see where they are, and step left with one action, right with two. Both are soon
    at the near goal, to the right, for 1 together; 2 needs one of them to leave the other.
    """

    near: ClassVar[int] = 2
    far: ClassVar[int] = 4

    def _setup(self) -> None:
        super()._setup()
        self.time_limit = self.far + 1
        self.agents_view_size = self.near + self.far + 1
        self.global_state_size = AGENTS * self.agents_view_size

    def _draw_memory(self, key: jax.Array) -> jax.Array:
        return jnp.full((AGENTS,), self.far, jnp.int32)

    def _shown(self, state: ProbeState) -> jax.Array:
        return state.memory

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        last = state.step_count == self.time_limit - 1
        arrived = (state.memory == 0) | (state.memory == self.near + self.far)
        place = jnp.where(arrived, state.memory, state.memory + jnp.where(action == 0, -1, 1))
        goals = jnp.any(place == 0) + 1.0 * jnp.any(place == self.near + self.far)
        return place, last * goals, last

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        return jnp.array([0, 2], jnp.int32)


class Lock(Delayed):
    """A lock with four digits for each of two agents, to be entered at once: a right pair of actions goes on to the
    next digit, a wrong one back to the first, and the last right pair pays 10.

    Of nine pairs one is right, so that random play opens it in one of 6,561 episodes. Both see the digit they are at.
    """

    code: ClassVar[tuple[tuple[int, int], ...]] = ((0, 1), (2, 0), (1, 2), (0, 0))

    def _shown(self, state: ProbeState) -> jax.Array:
        return jnp.minimum(state.memory, len(self.code) - 1)

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        right = jnp.all(action == self.scripted_action(state))
        memory = jnp.where(right, state.memory + 1, 0)
        opened = memory[0] == len(self.code)
        return memory, 10.0 * opened, opened

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The next digits."""
        return jnp.array(self.code, jnp.int32)[self._shown(state)[0]]


class Vault(Delayed):
    """A door behind eight digits that agent 0 enters alone, one a step, a wrong one leading back to the first; at the
    door one pair of actions pays 10 and every other leads back. The episode is just as long as that takes.

    Agent 1 matters at the door only, where random play arrives in one of 6,561 episodes, and opens it in one of 59,049.
    Both see the digit they are at.
    """

    code: ClassVar[tuple[int, ...]] = (0, 2, 1, 0, 1, 2, 1, 0)

    def _setup(self) -> None:
        super()._setup()
        self.time_limit = self.agents_view_size = len(self.code) + 1
        self.global_state_size = AGENTS * self.agents_view_size

    def _shown(self, state: ProbeState) -> jax.Array:
        return jnp.minimum(state.memory, len(self.code))

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        right = action == self.scripted_action(state)
        on_the_way = state.memory[0] < len(self.code)
        memory = jnp.where(right[0] & (on_the_way | right[1]), state.memory + 1, 0)
        opened = memory[0] > len(self.code)
        return memory, 10.0 * opened, opened

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The next digit and, at the door, the pair."""
        at = self._shown(state)[0]
        return jnp.stack([jnp.array([*self.code, 1])[at], 2 * (at == len(self.code))])


class Skills(Probe):
    """Four agents alike in everything but a private feature that asks for another skill; three steps.

    An agent sees which of two kinds it is, drawn for each agent and episode, and the step's number, 0 to 2, the same
    for all. Agents of the first kind must name the number, the others the next one. The reward is the share of agents
    that are right, divided by the number of steps; the optimum is 1, chance 1/3. What one kind does well is wrong for
    the other at every number, which two hidden units cannot tell apart.
    """

    team: ClassVar[int] = 4
    steps: ClassVar[int] = 3

    def _setup(self) -> None:
        super()._setup()
        self.num_agents, self.time_limit = self.team, self.steps
        self.agents_view_size = 2 + ACTIONS
        self.global_state_size = self.num_agents * self.agents_view_size

    def _draw_memory(self, key: jax.Array) -> jax.Array:
        """Kind and first number of each agent."""
        kind_key, number_key = jax.random.split(key)
        kind = jax.random.randint(kind_key, (self.team, 1), 0, 2, jnp.int32)
        number = jax.random.randint(number_key, (), 0, ACTIONS, jnp.int32)
        return jnp.concatenate([kind, jnp.full_like(kind, number)], axis=-1)

    def _shown(self, state: ProbeState) -> NoReturn:
        raise NotImplementedError

    def _observe(self, state: ProbeState) -> Observation:
        kind, number = state.memory.T
        number = (number + state.step_count) % ACTIONS
        view = jnp.concatenate([jax.nn.one_hot(kind, 2), jax.nn.one_hot(number, ACTIONS)], axis=-1)
        mask = jnp.ones((self.team, ACTIONS), bool)
        alive = jnp.ones((self.team,), bool)
        return Observation(view, mask, view.reshape(-1), alive, state.step_count)

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        right = jnp.mean(action == self.scripted_action(state))
        return state.memory, right / self.steps, state.step_count == self.steps - 1

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum."""
        kind, number = state.memory.T
        return (kind + number + state.step_count) % ACTIONS


class Fallen(Probe):
    """Four steps: each agent must name the number that it sees; agent 1 dies after the first.

    What the world stores of the dead means nothing, and here it misleads: agent 1 still sees a number, acts, and is
    paid, three times as much as the living, for naming the *next* one. Agents that share a policy and cannot tell who
    they are learn that instead if they learn from the dead. The living agent's reward sums up to 1.
    """

    def _shown(self, state: ProbeState) -> jax.Array:
        return state.memory

    def _alive(self, state: ProbeState) -> jax.Array:
        return jnp.array([True, False]) | (state.step_count == 0)

    def _outcome(self, state: ProbeState, action: jax.Array) -> tuple[Any, Any, Any]:
        dead = ~self._alive(state)
        right = action == jnp.where(dead, (state.memory + 1) % ACTIONS, state.memory)
        last = state.step_count == LIMIT - 1
        return state.memory, jnp.where(dead, 3.0, 1.0) * right / LIMIT, last

    def scripted_action(self, state: ProbeState) -> jax.Array:
        """The optimum of the living."""
        return state.memory


class FallenUnnoticed(Fallen):
    """As `Fallen`, but the world does not say who is dead."""

    def _observe(self, state: ProbeState) -> Observation:
        return super()._observe(state)._replace(alive=jnp.ones((AGENTS,), bool))
