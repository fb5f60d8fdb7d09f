"""The records that pass between rooms.

Axes: T time, B parallel environments, N agents, A actions, F observation features, G global-state features.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from marl_jax.rows import Rows


class EpisodeBatch(NamedTuple):
    """B whole episodes, time-major. What rollout yields and replay, losses and evaluation read.

    Observations are stored once, T+1 of them: the observation after action t is at t+1. Steps after an
    episode's own end are padding: `valid` is false there and the other fields hold no meaning.

    Attributes:
        observation: each agent's own observation.
        global_state: the state for centralised critics and mixers.
        action_mask: which actions each agent may take.
        alive: which agents still take part.
        action: the action each agent took; continuous ones are [T, B, N, A] float.
        reward: what each agent was paid for it.
        discount: 0 after a termination, else 1 (also after a truncation, which bootstraps).
        valid: whether the step belongs to the episode.
        extras: what the method's actor wants to keep.
        rows: what is where, if the batch is laid into rows that hold several episodes; B counts rows then.
    """

    observation: Float[Array, "T+1 B N F"]
    global_state: Float[Array, "T+1 B G"]
    action_mask: Bool[Array, "T+1 B N A"]
    alive: Bool[Array, "T+1 B N"]
    action: Int[Array, "T B N"] | Float[Array, "T B N A"]
    reward: Float[Array, "T B N"]
    discount: Float[Array, "T B N"]
    valid: Bool[Array, "T B"]
    extras: Any
    rows: Rows | None = None

    @property
    def num_agents(self) -> int:
        """N."""
        return self.observation.shape[-2]

    @property
    def num_actions(self) -> int:
        """A."""
        return self.action_mask.shape[-1]

    @property
    def team_return(self) -> Float[Array, " B"]:
        """Undiscounted return of each episode, averaged over agents."""
        return jnp.sum(self.reward.mean(-1) * self.valid, axis=0)

    @property
    def last_action(self) -> Float[Array, "T+1 B N A"]:
        """The action before each observation, as networks see it; zeros at the start."""
        seen = action_features(self.action, self.num_actions)
        last = jnp.concatenate([jnp.zeros_like(seen[:1]), seen])
        return last if self.rows is None else jnp.where(self.rows.start[..., None, None], 0.0, last)


def action_features(action: jax.Array, num_actions: int) -> jax.Array:
    """Actions as networks see them: [...] integers one-hot, [..., A]; continuous ones as they are."""
    if jnp.issubdtype(action.dtype, jnp.floating):
        return action
    return jax.nn.one_hot(action, num_actions)


SEEN = ("observation", "global_state", "action_mask", "alive")
"""Fields of an `EpisodeBatch` that have an entry after the last step."""

Metrics = dict[str, jax.Array]
"""Scalars worth logging, by name."""
