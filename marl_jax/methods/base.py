"""What the training loop knows of a method."""

from typing import Any, NamedTuple, Protocol

import jax

from envs.base import MultiAgentEnv, Observation
from marl_jax.replay import EpisodeReplay, ReplayState
from marl_jax.rows import row_counts
from marl_jax.types import EpisodeBatch, Metrics


class Sizes(NamedTuple):
    """What a learner knows of a task before it plays.

    Attributes:
        num_agents: N.
        num_actions: A.
        observation: F.
        global_state: G.
        time_limit: T.
        continuous: whether an action is A numbers in place of one of A choices.
        own_features: [N][F], see `MultiAgentEnv.own_features`; [1][1] stands for all.
        body_features: [N][F], see `MultiAgentEnv.body_features`; [1][1] stands for all.
        time_limit_is_termination: whether nothing is worth anything after the time limit.
        ends_early: whether an episode may end before the time limit.
        binary: what holds 0 and 1 alone, see `MultiAgentEnv.binary`.
    """

    num_agents: int
    num_actions: int
    observation: int
    global_state: int
    time_limit: int
    continuous: bool = False
    own_features: tuple[tuple[bool, ...], ...] = ((True,),)
    body_features: tuple[tuple[bool, ...], ...] = ((True,),)
    time_limit_is_termination: bool = True
    ends_early: bool = False
    binary: tuple[str, ...] = ()

    def row_counts(self, num_episodes: int) -> tuple[int, ...]:
        """How many rows so many episodes are laid into, see `marl_jax.rows`."""
        return row_counts(num_episodes, self.time_limit, self.ends_early)

    @classmethod
    def of(cls, env: MultiAgentEnv[Any]) -> "Sizes":
        """The sizes of an environment."""
        return cls(
            env.num_agents,
            env.num_actions,
            env.agents_view_size,
            env.global_state_size,
            env.time_limit,
            env.continuous_actions,
            tuple(tuple(map(bool, row)) for row in env.own_features),
            tuple(tuple(map(bool, row)) for row in env.body_features),
            env.time_limit_is_termination,
            env.ends_early,
            tuple(env.binary),
        )


class Method(Protocol):
    """A learner: pure functions around one state that holds all it learns and counts.

    Attributes:
        num_envs: W, the environments it plays side by side in every iteration.
        num_episodes: B, the episodes that these play, one after the other.
        replay: the replay it learns from; None if it learns from fresh episodes only. The training loop
            keeps what is in it and adds every iteration's episodes before the update.
    """

    @property
    def num_envs(self) -> int:
        """W."""
        ...

    @property
    def num_episodes(self) -> int:
        """B."""
        ...

    @property
    def replay(self) -> EpisodeReplay | None:
        """The replay."""
        ...

    def init(self, key: jax.Array) -> Any:
        """The state of an untrained learner."""
        ...

    def initial_memory(self, state: Any, num_envs: int, key: jax.Array) -> Any:
        """What the actors carry from step to step, at the start of an episode (hidden state, role, skill)."""
        ...

    def act(
        self, state: Any, memory: Any, observation: Observation, key: jax.Array, explore: bool
    ) -> tuple[Any, jax.Array, Any]:
        """Chooses actions for B environments.

        Args:
            state: the learner.
            memory: what the actors carry.
            observation: fields with a leading axis B.
            key: random key.
            explore: whether to act as in training; otherwise greedily.

        Returns:
            The next memory, actions [B, N] int32 (continuous ones: [B, N, A] float32), and extras to keep in the
            `EpisodeBatch`.
        """
        ...

    def update(
        self, state: Any, fresh: EpisodeBatch, replay: ReplayState | None, key: jax.Array
    ) -> tuple[Any, Metrics]:
        """Learns from this iteration's episodes or, if it keeps one, from its replay."""
        ...
