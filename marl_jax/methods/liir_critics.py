"""The two arrangements of LIIR's intrinsic reward and values: the paper's three networks, the authors' shared trunk.

Each owns its networks, says what they see and which optimiser's group their parameters belong to: "critic", which the
sweep trains, or "intrinsic", which the meta-gradient trains.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from marl_jax.losses import masked_mean
from marl_jax.networks import MLP, Linear, Params
from marl_jax.types import EpisodeBatch


@dataclasses.dataclass(frozen=True)
class LIIRCritic:
    """The intrinsic reward r_in, the value V_i of each agent's proxy reward and the value V_ex of the team's reward.

    What the networks see is a tree of arrays with the leading axes of a batch ([T+1, B], or those of one time step).

    Attributes:
        core: the method that they are of.
    """

    core: Any

    def _apply(self, network: nn.Module, params: Params, x: jax.Array) -> jax.Array:
        """What a network of each agent's makes of what it sees."""
        result: jax.Array = self.core.apply_network(network, params, x)
        return result

    def _bounded(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        bound = self.core.config.intrinsic_bound
        bounded: jax.Array = bound * jnp.tanh(x / bound)
        return bounded


def _proxy_loss(
    value: Float[Array, "B N"], target: Float[Array, "B N"], valid: Float[Array, " B"]
) -> Float[Array, ""]:
    agents = jnp.broadcast_to(valid[..., None], value.shape)
    return masked_mean((value - target) ** 2, agents)


@dataclasses.dataclass(frozen=True)
class SeparateNetworks(LIIRCritic):
    """Three networks, r_in(o_i, u_i), V_i(o_i) and V_ex(s): the paper's Figure 1.

    "critic" has V_i and V_ex, "intrinsic" has r_in. The last action and the identity go to V_i and r_in beside the
    observation where they go to the actor.
    """

    @property
    def _value_net(self) -> MLP:
        return MLP((*self.core.config.critic_hidden, 1))

    @property
    def _reward_net(self) -> MLP:
        return MLP((*self.core.config.critic_hidden, self.core.sizes.num_actions))

    def init(self, key: jax.Array) -> dict[str, Params]:
        """Draws the groups."""
        proxy_key, extrinsic_key, reward_key, _ = jax.random.split(key, 4)
        state = jnp.zeros((self.core.sizes.global_state,))
        local = self.core.critic_inputs.local_size
        critic = {
            "proxy": self.core.init_network(self._value_net, local, proxy_key),
            "extrinsic": self._value_net.init(extrinsic_key, state),
        }
        reward = self.core.init_network(self._reward_net, local, reward_key)
        return {"critic": critic, "intrinsic": {"reward": reward}}

    def target_source(self, params: dict[str, Params]) -> Params:
        """What the target critic is a copy of: the critic."""
        return params["critic"]

    def observe(self, batch: EpisodeBatch, joint_action: Int[Array, "T+1 B N"]) -> Any:
        """What each agent sees, and the state."""
        del joint_action
        return self.core.critic_inputs.local(batch), batch.global_state

    def proxy_value(self, critic: Params, x: Any) -> Float[Array, "*batch N"]:
        """V_i(o_i)."""
        return self._apply(self._value_net, critic["proxy"], x[0])[..., 0]

    def extrinsic_value(self, critic: Params, intrinsic: Params, x: Any) -> Float[Array, "*batch"]:
        """V_ex(s)."""
        del intrinsic
        value: jax.Array = self._value_net.apply(critic["extrinsic"], x[1])  # type: ignore[assignment]
        return value[..., 0]

    def intrinsic_rewards(
        self, critic: Params, intrinsic: Params, x: Any
    ) -> Float[Array, "*batch N A"]:
        """r_in(o_i, .)."""
        del critic
        return self._bounded(self._apply(self._reward_net, intrinsic["reward"], x[0]))

    def sweep_loss(
        self,
        critic: Params,
        x: Any,
        proxy_target: Float[Array, "B N"],
        extrinsic_target: Float[Array, " B"],
        valid: Float[Array, " B"],
    ) -> tuple[Float[Array, ""], Any]:
        """Squared errors of V_i and V_ex on one time step, which "critic" descends; and both as predicted there."""
        proxy, extrinsic = self.proxy_value(critic, x), self.extrinsic_value(critic, None, x)
        loss = _proxy_loss(proxy, proxy_target, valid)
        return loss + masked_mean((extrinsic - extrinsic_target) ** 2, valid), (proxy, extrinsic)

    def swept_values(
        self, predicted: Any, params: dict[str, Params], x: Any
    ) -> tuple[Float[Array, "T B N"], Float[Array, "T B"]]:
        """V_i and V_ex as `sweep_loss` predicted them."""
        del params, x
        proxy, extrinsic = predicted
        return proxy, extrinsic

    def intrinsic_value_loss(
        self,
        critic: Params,
        intrinsic: Params,
        x: Any,
        extrinsic_target: Float[Array, "T B"],
        valid: Float[Array, "T B"],
    ) -> Float[Array, ""]:
        """What "intrinsic" descends beside the meta-gradient: nothing, both values belong to "critic"."""
        del critic, intrinsic, x, valid
        return jnp.zeros((), extrinsic_target.dtype)


@dataclasses.dataclass(frozen=True)
class SharedTrunk(LIIRCritic):
    """One trunk for each agent with three heads: the authors' code, `critics/liir.py`.

    The trunk sees what COMA's critic sees, the others' current actions and everybody's last ones included, whatever
    the actor sees. V_ex is a layer on all agents' trunks together. "critic" has trunk and V_i, "intrinsic" the heads of
    r_in and V_ex, which do not train the trunk.
    """

    @property
    def _trunk(self) -> MLP:
        return MLP(self.core.config.critic_hidden, activate_last=True)

    @property
    def _value_head(self) -> Linear:
        return Linear(1)

    @property
    def _reward_head(self) -> Linear:
        return Linear(self.core.sizes.num_actions)

    def init(self, key: jax.Array) -> dict[str, Params]:
        """Draws the groups."""
        proxy_key, extrinsic_key, reward_key, trunk_key = jax.random.split(key, 4)
        features, inputs = self.core.config.critic_hidden[-1], self.core.critic_inputs
        together = jnp.zeros((self.core.sizes.num_agents * features,))
        critic = {
            "trunk": self.core.init_network(self._trunk, inputs.joint_size, trunk_key),
            "proxy": self.core.init_network(self._value_head, features, proxy_key),
        }
        intrinsic = {
            "reward": self.core.init_network(self._reward_head, features, reward_key),
            "extrinsic": self._value_head.init(extrinsic_key, together),
        }
        return {"critic": critic, "intrinsic": intrinsic}

    def target_source(self, params: dict[str, Params]) -> Params:
        """What the target critic is a copy of: the critic, and V_ex."""
        return {**params["critic"], "extrinsic": params["intrinsic"]["extrinsic"]}

    def observe(self, batch: EpisodeBatch, joint_action: Int[Array, "T+1 B N"]) -> Any:
        """What COMA's critic sees."""
        return self.core.critic_inputs.joint(batch, joint_action)

    def _features(self, critic: Params, x: jax.Array) -> Float[Array, "*batch N H"]:
        return self._apply(self._trunk, critic["trunk"], x)

    def proxy_value(self, critic: Params, x: Any) -> Float[Array, "*batch N"]:
        """V_i on the trunk, which it trains."""
        features = self._features(critic, x)
        return self._apply(self._value_head, critic["proxy"], features)[..., 0]

    def extrinsic_value(self, critic: Params, intrinsic: Params, x: Any) -> Float[Array, "*batch"]:
        """V_ex on all trunks."""
        features = jax.lax.stop_gradient(self._features(critic, x))
        together = features.reshape(*features.shape[:-2], -1)
        value: jax.Array = self._value_head.apply(intrinsic["extrinsic"], together)  # type: ignore[assignment]
        return value[..., 0]

    def intrinsic_rewards(
        self, critic: Params, intrinsic: Params, x: Any
    ) -> Float[Array, "*batch N A"]:
        """r_in on the trunk."""
        features = jax.lax.stop_gradient(self._features(critic, x))
        head = self._apply(self._reward_head, intrinsic["reward"], features)
        return self._bounded(head)

    def sweep_loss(
        self,
        critic: Params,
        x: Any,
        proxy_target: Float[Array, "B N"],
        extrinsic_target: Float[Array, " B"],
        valid: Float[Array, " B"],
    ) -> tuple[Float[Array, ""], Any]:
        """Squared error of V_i on one time step, which "critic" descends; and V_i as predicted there."""
        del extrinsic_target
        proxy = self.proxy_value(critic, x)
        return _proxy_loss(proxy, proxy_target, valid), proxy

    def swept_values(
        self, predicted: Any, params: dict[str, Params], x: Any
    ) -> tuple[Float[Array, "T B N"], Float[Array, "T B"]]:
        """V_i as `sweep_loss` predicted it, V_ex as it was before the sweep."""
        return predicted, self.extrinsic_value(params["critic"], params["intrinsic"], x)

    def intrinsic_value_loss(
        self,
        critic: Params,
        intrinsic: Params,
        x: Any,
        extrinsic_target: Float[Array, "T B"],
        valid: Float[Array, "T B"],
    ) -> Float[Array, ""]:
        """What "intrinsic" descends beside the meta-gradient: the squared error of V_ex."""
        value = self.extrinsic_value(critic, intrinsic, x)
        return masked_mean((value - extrinsic_target) ** 2, valid)
