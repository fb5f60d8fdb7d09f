"""What the critics of the actor-critic family see."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from marl_jax.methods.base import Sizes
from marl_jax.types import EpisodeBatch


@dataclasses.dataclass(frozen=True)
class CriticInputs:
    """Builds the inputs of critics from episodes, and knows their sizes.

    The actor's own inputs, observation, last action and identity, follow its options in `local`. A critic of the team
    or of joint actions sees everybody's last actions in any case, as PyMARL's does: the options are of its controller.

    Attributes:
        sizes: sizes of the task.
        last_action: whether an agent sees its own last action.
        identity: whether an agent sees which one it is.
    """

    sizes: Sizes
    last_action: bool = True
    identity: bool = True

    @property
    def local_size(self) -> int:
        """Features of `local`."""
        s = self.sizes
        return s.observation + s.num_actions * self.last_action + s.num_agents * self.identity

    def local(self, batch: EpisodeBatch) -> Float[Array, "T+1 B N I"]:
        """Own observation, last action and identity, as the options say: what a decentralised critic sees."""
        parts = [batch.observation]
        if self.last_action:
            parts.append(batch.last_action)
        if self.identity:
            parts.append(self.identities(batch.observation.shape[:2]))
        return jnp.concatenate(parts, axis=-1)

    @property
    def team_size(self) -> int:
        """Features of `team`."""
        s = self.sizes
        return s.global_state + s.num_agents * (s.observation + s.num_actions)

    def team(self, batch: EpisodeBatch) -> Float[Array, "T+1 B I"]:
        """State, all observations, all last actions: what a centralised critic of the team sees."""
        shape = batch.observation.shape[:2]
        return jnp.concatenate(
            [
                batch.global_state,
                batch.observation.reshape(*shape, -1),
                batch.last_action.reshape(*shape, -1),
            ],
            axis=-1,
        )

    @property
    def joint_size(self) -> int:
        """Features of `joint`."""
        s = self.sizes
        n, a = s.num_agents, s.num_actions
        return s.global_state + s.observation + 2 * n * a + n

    def joint(
        self, batch: EpisodeBatch, joint_action: Int[Array, "T+1 B N"]
    ) -> Float[Array, "T+1 B N I"]:
        """State, own observation, the others' actions, all last actions, identity: COMA's critic.

        The block of the agent's own action is zero; PyMARL `critics/coma.py`.
        """
        n, a = self.sizes.num_agents, self.sizes.num_actions
        shape = batch.observation.shape[:2]

        def for_each_agent(x: jax.Array) -> jax.Array:
            return jnp.broadcast_to(x[:, :, None], (*shape, n, x.shape[-1]))

        actions = jax.nn.one_hot(joint_action, a).reshape(*shape, n * a)
        others = jnp.repeat(1.0 - jnp.eye(n), a, axis=-1)  # [N, N A]
        return jnp.concatenate(
            [
                for_each_agent(batch.global_state),
                batch.observation,
                for_each_agent(actions) * others,
                for_each_agent(batch.last_action.reshape(*shape, n * a)),
                self.identities(shape),
            ],
            axis=-1,
        )

    def identities(self, shape: tuple[int, ...]) -> Float[Array, "*shape N N"]:
        """Every agent's number, one-hot."""
        n = self.sizes.num_agents
        return jnp.broadcast_to(jnp.eye(n), (*shape, n, n))
