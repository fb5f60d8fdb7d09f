"""1D Pursuit, the toy task of LIIR.

Source of the rules: Du et al., "LIIR: Learning Individual Intrinsic Reward in Multi-Agent
Reinforcement Learning", section 5.1. No code of this task was ever published.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation
from envs.configuration import Config, ConfigurationError, Range
from envs.pursuit_1d.state import REWARD, State
from envs.viewer import Viewer

INCREASE, DECREASE, KEEP = range(3)
START_LIMIT = 10


@dataclasses.dataclass(frozen=True)
class Pursuit1DConfig(Config):
    """Options of `Pursuit1D`, on all of which the paper is silent.

    Each default is a choice of this project [S].

    Attributes:
        time_limit: steps an episode lasts at most. 10 reach the target from anywhere; 20 leave
            slack.
        clip: the values never leave -clip..clip; 0 does not bound them.
        terminate_at_target: whether the episode ends, with discount 0, once both values are at the
            target.

    Raises:
        ConfigurationError: also if `clip` is above 0 and would cut into the starting values.
    """

    time_limit: Annotated[int, Range(minimum=1)] = 20
    clip: Annotated[int, Range(minimum=0)] = 0
    terminate_at_target: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.clip < START_LIMIT:
            raise ConfigurationError(
                f"clip is {self.clip!r}; it must be 0 (no clipping) or at least {START_LIMIT}."
            )


class Pursuit1D(MultiAgentEnv[State]):
    """Two agents, each with an integer, are paid for bringing both closer to an unknown target.

    Tags: [P] the paper, section 5.1, [S] a choice of this project where it is silent, [C] computed
    by this project.

    Start [P]: both values uniform over the 21 integers -10..10, independently. The target is 0 [P].

        -10 . . . . A . . . 0 . . . . . B . +10

    Actions [P], [2] int32; all are legal always, `action_mask` is [2, 3] and all true:
        0 adds 1, 1 subtracts 1, 2 keeps the value.
    Values may leave -10..10 without bound, unless `clip` is set [S].

    An action is *good* if its agent's distance to the target falls, *bad* if it grows, neither
    otherwise; so a step off the target is bad and keeping the value is neither, at the target too
    [S for the last two].

    Reward [P], [2] float32, the same for both: +0.01 if both actions are good, -0.01 if both are
    bad, 0 otherwise. (The paper's prose also calls it inversely proportional to the sum of the
    distances; its definition is implemented.)

    End [S]: at `time_limit` = 20 steps, a truncation (discount 1). With `terminate_at_target` also
    as soon as both values are at the target, a termination (discount 0); by default reaching it
    ends nothing.

    Observation [P for the content, S for the scale]: `agents_view` [2, 2] float32, own value / 10,
    the other's value / 10.

    `global_state` [3] float32 [S]: agent 0's value / 10, agent 1's value / 10, step_count /
    time_limit.

    `extras` [S]: `good_actions`, `bad_actions` and `net_joint_moves`, [] int32, counts since the
    reset. Return = 0.01 net_joint_moves.

    Chance: the starting values and nothing else: floor(21 u) - 10 with u uniform float32 in [0, 1),
    23 random bits [S].

    Known mean returns [C]: uniformly random actions -0.0042 (at the target they can only be bad or
    neither), always "keep" 0, `scripted_action` 0.0349: the mean over all starts of
    0.01 min(|x|, |y|), which is 0 from some starts and 0.10 at most. It is not the most that can be
    earned: an agent that steps off the target alone pays nothing, and both are paid when they
    return together.
    """

    Config: ClassVar[type[Config]] = Pursuit1DConfig

    def _setup(self) -> None:
        self.ends_early = self.config.terminate_at_target
        self.num_agents = 2
        self.num_actions = 3
        self.time_limit = self.config.time_limit
        self.agents_view_size = 2
        self.global_state_size = 3

    def reset(self, key: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        zero = jnp.zeros((), jnp.int32)
        uniform = jax.random.uniform(key, (2,))
        values = jnp.floor((2 * START_LIMIT + 1) * uniform).astype(jnp.int32) - START_LIMIT
        state = State(key, zero, values, zero, zero, zero)
        return state, self._restart(self._observe(state), _extras(state))

    def step(self, state: State, action: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [2] int32, each in 0..2.

        Returns:
            The next state and its time step.
        """
        kind = self.classify_actions(state.values, action)
        good, bad = kind == 1, kind == -1
        joint = jnp.all(good).astype(jnp.int32) - jnp.all(bad).astype(jnp.int32)
        next_state = State(
            key=state.key,
            step_count=state.step_count + 1,
            values=self._move(state.values, action),
            good_actions=state.good_actions + jnp.sum(good, dtype=jnp.int32),
            bad_actions=state.bad_actions + jnp.sum(bad, dtype=jnp.int32),
            net_joint_moves=state.net_joint_moves + joint,
        )
        arrived = jnp.all(next_state.values == 0) & self.config.terminate_at_target
        timestep = self._transition(
            self._observe(next_state), REWARD * joint, arrived, _extras(next_state)
        )
        return next_state, timestep

    def classify_actions(self, values: jax.Array, action: jax.Array) -> jax.Array:
        """Tells good actions from bad ones (the two classes of LIIR's Figure 2).

        Args:
            values: [..., 2] the values before the action, integers of any number type;
                `10 * agents_view[..., 0]` holds them.
            action: [..., 2] int32, each in 0..2.

        Returns:
            [..., 2] int32: 1 if the action brings its agent closer to the target, -1 if it takes it
            away, 0 otherwise.
        """
        values = jnp.round(values).astype(jnp.int32)
        return jnp.sign(jnp.abs(values) - jnp.abs(self._move(values, action)))

    def scripted_action(self, state: State) -> jax.Array:
        """Straight home: each agent walks to the target and keeps its value there.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [2] int32.
        """
        walk = jnp.where(state.values < 0, INCREASE, DECREASE)
        return jnp.where(state.values == 0, KEEP, walk).astype(jnp.int32)

    def _move(self, values: jax.Array, action: jax.Array) -> jax.Array:
        step = (action == INCREASE).astype(jnp.int32) - (action == DECREASE).astype(jnp.int32)
        moved = values + step
        return jnp.clip(moved, -self.config.clip, self.config.clip) if self.config.clip else moved

    def _observe(self, state: State) -> Observation:
        scaled = state.values.astype(jnp.float32) / START_LIMIT
        clock = state.step_count.astype(jnp.float32) / self.time_limit
        return Observation(
            agents_view=jnp.stack([scaled, scaled[::-1]], axis=1),
            action_mask=jnp.ones((2, self.num_actions), bool),
            global_state=jnp.concatenate([scaled, clock[None]]),
            alive=jnp.ones((2,), bool),
            step_count=state.step_count,
        )

    def _make_viewer(self) -> Viewer[State]:
        from envs.pursuit_1d.viewer import Pursuit1DViewer

        return Pursuit1DViewer(self.time_limit)


def _extras(state: State) -> dict[str, Any]:
    return {
        "good_actions": state.good_actions,
        "bad_actions": state.bad_actions,
        "net_joint_moves": state.net_joint_moves,
    }
