"""TRPO and HATRPO, on the PPO core: in every iteration policies take one step inside of a trust region.

Papers: Schulman et al. 2015 (TRPO; code: openai/baselines `trpo_mpi`); Kuba et al. 2022 (HATRPO; code: PKU-MARL/HARL).
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from envs.configuration import Range
from marl_jax.losses import importance_weighted_objective, masked_mean
from marl_jax.methods.mappo import HAPPO, HAPPOConfig, IPPOConfig
from marl_jax.methods.ppo import PPO, Learner, Lessons, Rates
from marl_jax.methods.team import NotNegative
from marl_jax.networks import Params
from marl_jax.rows import Rows, in_rows
from marl_jax.trust_region import TrustRegion, trust_region_step
from marl_jax.types import Metrics


@dataclasses.dataclass(frozen=True)
class TrustRegionConfig(TrustRegion):
    """What changes in the PPO core's options, whose passes are the critic's alone."""

    epochs: Annotated[int, Range(minimum=1)] = 5
    """The critic's passes over an iteration's episodes (OpenAI Baselines, HARL)."""
    clip: Annotated[float, Range(minimum=0.2, maximum=0.2)] = 0.2
    """PPO's, without effect: the trust region keeps policies near the old ones."""
    entropy_weight: Annotated[float, NotNegative] = 0.0
    """Weight of the policies' entropy at the start, in nats. The papers have none; Baselines have it as an option."""
    entropy_weight_final: Annotated[float, NotNegative] = 0.0
    """Weight of the policies' entropy in the end."""
    normalise_advantage: Literal["batch", "agent"] = "batch"
    """Over what living agents' advantages get mean 0 and deviation 1: over the iteration, or every agent by itself."""


@dataclasses.dataclass(frozen=True)
class TRPOConfig(TrustRegionConfig, IPPOConfig):
    """Hyper-parameters of TRPO."""


@dataclasses.dataclass(frozen=True)
class TRPO(PPO):
    """Independent TRPO (Schulman et al. 2015): IPPO whose policies take one step in a trust region, all at once."""

    Config: ClassVar = TRPOConfig
    takes_agents: ClassVar = False
    hooks: ClassVar = ("rewards",)

    config: TRPOConfig

    def learn(
        self, learner: Learner, lessons: Lessons, rates: Rates, key: jax.Array
    ) -> tuple[Learner, Metrics]:
        """The policies' step, then the critic's passes."""

        def outputs(actor: Params, lessons: Lessons) -> jax.Array:
            return self.logits(actor, lessons.inputs, lessons.noise, lessons.rows)[1]

        actor, metrics = natural_step(self, outputs, learner.params["actor"], lessons, rates)
        critic, valued = self.learn_values(learner, lessons, rates, key)
        optimizer = {**learner.optimizer, **critic.optimizer}
        return Learner({"actor": actor, **critic.params}, optimizer), {**metrics, **valued}


@dataclasses.dataclass(frozen=True)
class HATRPOConfig(TrustRegionConfig, HAPPOConfig):
    """Hyper-parameters of HATRPO."""

    normalise_advantage: Literal["batch", "agent"] = "agent"
    """Over what living agents' advantages get mean 0 and deviation 1: over the iteration, or every agent by itself."""


@dataclasses.dataclass(frozen=True)
class HATRPO(HAPPO):
    """Heterogeneous-agent TRPO (Kuba et al. 2022): HAPPO whose agents each take one step in a trust region."""

    Config: ClassVar = HATRPOConfig

    config: HATRPOConfig

    def learn_alone(
        self, learner: Learner, lessons: Lessons, rates: Rates, key: jax.Array
    ) -> tuple[Learner, Metrics]:
        """One agent's step."""
        del key
        before = learner.params["actor"]
        actor, metrics = natural_step(self, self._own_logits, before, lessons, rates)
        return learner._replace(params={"actor": actor}), metrics


def natural_step(
    core: PPO,
    outputs: Callable[[Params, Lessons], Float[Array, "T B N O"]],
    actor: Params,
    lessons: Lessons,
    rates: Rates,
) -> tuple[Params, Metrics]:
    """The step up the surrogate of a whole iteration, of those agents that are in its lessons.

    Args:
        core: whose policies they are; its options are a `TrustRegion`, too.
        outputs: of the agents' networks, given their parameters.
        actor: these parameters.
        lessons: of an iteration.
        rates: the entropy's weight.
    """

    def step(lessons: Lessons, rows: Rows | None) -> tuple[Params, Metrics]:
        laid = lessons._replace(rows=rows)

        def policy(params: Params) -> Any:
            return core.policy(outputs(params, laid), laid.action_mask)

        def entropy(policy: Any) -> Float[Array, ""]:
            return masked_mean(policy.entropy(), laid.mask)

        def gain(params: Params) -> Float[Array, ""]:
            new = policy(params)
            given = (laid.log_prob, laid.weight * laid.advantage, laid.mask)
            surrogate = importance_weighted_objective(new.log_prob(laid.action), *given)
            return surrogate + rates.entropy_weight * entropy(new)

        old = policy(actor)

        def divergence(params: Params) -> Float[Array, ""]:
            return masked_mean(old.kl_divergence(policy(params)), laid.mask)

        taken = trust_region_step(gain, divergence, actor, core.config)
        return taken.params, {
            "actor_loss": -taken.gain,
            "actor_grad_norm": taken.grad_norm,
            "entropy": entropy(old),
            "kl": taken.divergence,
            "step_share": taken.share,
        }

    played = jnp.any(lessons.value_mask > 0, axis=2)
    return in_rows(core.row_counts(played.shape[1]), played, lessons, step)
