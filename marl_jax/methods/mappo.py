"""IPPO, MAPPO and HAPPO, on the PPO core.

Papers: de Witt et al. 2020 (IPPO); Yu et al. 2022 (MAPPO; code: marlbenchmark/on-policy); Kuba et al. 2022 and Zhong et
al. 2024 (HAPPO; code: PKU-MARL/HARL).
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from marl_jax.losses import masked_mean
from marl_jax.methods.part import PlainAgents
from marl_jax.methods.ppo import PPO, Learner, Lessons, PPOConfig, Rates
from marl_jax.networks import Params, Sharing, TeamAgent
from marl_jax.rows import Rows, in_rows
from marl_jax.types import Metrics


@dataclasses.dataclass(frozen=True)
class IPPOConfig(PPOConfig):
    """Hyper-parameters of IPPO."""

    critic_input: Literal["own"] = "own"
    """What a value is a function of: what its agent sees."""
    share_reward: bool = False
    """Whether everyone is paid the mean of all rewards; no difference where the task pays a team."""


@dataclasses.dataclass(frozen=True)
class IPPO(PPO):
    """Independent PPO (de Witt et al. 2020): an agent's value is a function of what it sees itself."""

    Config: ClassVar = IPPOConfig


@dataclasses.dataclass(frozen=True)
class MAPPOConfig(PPOConfig):
    """Hyper-parameters of MAPPO."""

    critic_input: Literal["state", "joint"] = "state"
    """What a value is a function of. state: the global state, the clock where the time limit ends the task, and what
    its agent sees (Yu et al.'s agent-specific state). joint: state and clock alike, and what all agents see; one
    network then puts out all agents' values, which is faster."""


@dataclasses.dataclass(frozen=True)
class MAPPO(PPO):
    """Multi-agent PPO (Yu et al. 2022): recurrent policies, and a central critic that they learn with."""

    Config: ClassVar = MAPPOConfig


@dataclasses.dataclass(frozen=True)
class HAPPOConfig(MAPPOConfig):
    """Hyper-parameters of HAPPO."""

    sharing: Literal["independent"] = "independent"
    """Agents have parameters of their own."""
    normalise_advantage: Literal["batch", "agent"] = "agent"
    """Over what living agents' advantages get mean 0 and deviation 1: over the iteration, or every agent by itself."""
    fixed_order: bool = False
    """Whether agents always learn in the order of their numbers; else in a new random one in every iteration."""


@dataclasses.dataclass(frozen=True)
class HAPPO(PPO):
    """Heterogeneous-agent PPO (Kuba et al. 2022): agents learn one after the other.

    Each agent's advantage is multiplied by M, the product of the probability ratios of those that have learned in this
    iteration (their Eq. 11), so that it learns for the team as the others have become. The critic learns last.
    """

    Config: ClassVar = HAPPOConfig
    takes_agents: ClassVar = False
    hooks: ClassVar = ("rewards",)

    config: HAPPOConfig

    def learn(
        self, learner: Learner, lessons: Lessons, rates: Rates, key: jax.Array
    ) -> tuple[Learner, Metrics]:
        """All agents' passes, then the critic's."""
        n = self.sizes.num_agents
        order_key, critic_key, key = jax.random.split(key, 3)
        order = jnp.arange(n) if self.config.fixed_order else jax.random.permutation(order_key, n)

        def one_agent(
            carry: tuple[Learner, Float[Array, "T B"]], now: tuple[Int[Array, ""], jax.Array]
        ) -> tuple[tuple[Learner, Float[Array, "T B"]], Metrics]:
            team, weight = carry
            index, key = now
            own = self._lessons_of(index, lessons, weight)
            before = jax.tree.map(lambda x: x[index], team)
            after, metrics = self.learn_alone(before, own, rates, key)
            # Adam's momentum would move an agent that was dead all along.
            learns = jnp.any(own.mask > 0)
            after = jax.tree.map(lambda new, old: jnp.where(learns, new, old), after, before)
            log_prob = in_rows(
                self.row_counts(own.action.shape[1]),
                own.value_mask[..., 0] > 0,
                own,
                lambda own, rows: self._own_log_prob(after.params["actor"], own, rows),
            )
            ratio = jnp.exp(log_prob - own.log_prob)
            # Padding may hold anything; its ratio is that of nothing.
            weight = weight * jnp.where(own.mask > 0, ratio, 1.0)[..., 0]
            team = jax.tree.map(lambda x, new: x.at[index].set(new), team, after)
            return (team, weight), {
                **metrics,
                "ratio_product": masked_mean(weight, own.value_mask[..., 0]),
            }

        actors = Learner(*({"actor": x["actor"]} for x in learner))
        ones = jnp.ones(lessons.action.shape[:2])
        (actors, _), metrics = jax.lax.scan(
            one_agent, (actors, ones), (order, jax.random.split(key, n))
        )
        critics, valued = self.learn_values(learner, lessons, rates, critic_key)
        both = Learner(
            {**actors.params, **critics.params}, {**actors.optimizer, **critics.optimizer}
        )
        return both, {**jax.tree.map(jnp.mean, metrics), **valued}

    def learn_alone(
        self, learner: Learner, lessons: Lessons, rates: Rates, key: jax.Array
    ) -> tuple[Learner, Metrics]:
        """One agent's passes over its own lessons."""

        def step(learner: Learner, part: Lessons) -> tuple[Learner, Metrics]:
            optimizer = {"actor": self.one_optimizer}
            return self._gradient_step(self._own_loss, optimizer, learner, part, rates)

        return self.over_minibatches(step, learner, lessons, key)

    def _lessons_of(
        self, index: Int[Array, ""], lessons: Lessons, weight: Float[Array, "T B"]
    ) -> Lessons:
        """What agent number `index` learns from."""

        def own(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, index, 1, axis=2)

        mine = jax.tree.map(own, lessons._replace(critic_inputs=lessons.inputs))
        return mine._replace(weight=jnp.broadcast_to(weight[..., None], mine.log_prob.shape))

    def _own_logits(self, actor: Params, lessons: Lessons) -> Float[Array, "T B 1 O"]:
        sharing: Sharing = "shared"
        one = PlainAgents(TeamAgent(self.agent.network, 1, sharing), self.agent_input_size)
        # Nothing is drawn.
        given = (lessons.inputs, (), jax.random.key(0), lessons.rows)
        return self.acting(one).unroll(actor, *given)[1]

    def _own_log_prob(
        self, actor: Params, lessons: Lessons, rows: Rows | None
    ) -> Float[Array, "T B 1"]:
        """Of episodes, also where what is given is laid into rows."""
        logits = self._own_logits(actor, lessons._replace(rows=rows))
        log_prob: jax.Array = self.policy(logits, lessons.action_mask).log_prob(lessons.action)
        return log_prob if rows is None else rows.unpack(log_prob)

    def _own_loss(
        self, params: dict[str, Params], lessons: Lessons, rates: Rates
    ) -> tuple[Float[Array, ""], Metrics]:
        return self.actor_loss(self._own_logits(params["actor"], lessons), lessons, rates)
