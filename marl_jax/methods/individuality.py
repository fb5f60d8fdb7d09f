"""EOI's classifier: it tells agents apart by what they observe, and they are paid for it.

Paper: Jiang and Lu 2021, "The Emergence of Individuality", section 3.2. With another reward it is DIAYN's.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from envs.configuration import Config, ConfigurationError, Range
from marl_jax.losses import (
    conditional_entropy,
    earlier_steps,
    identity_cross_entropy,
    masked_mean,
    positive_distance,
)
from marl_jax.methods.base import Sizes
from marl_jax.methods.part import Part
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import GRUAgent, MLPAgent, Params, TeamAgent
from marl_jax.optimizers import make_optimizer
from marl_jax.rows import Rows, by_episode
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class IndividualityOptions(Config):
    """The classifier and what agents are paid for being told apart.

    The paper's values were never published; these are ours, and so is the classifier's size (that of the authors'
    later code).
    """

    intrinsic_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the intrinsic reward (alpha)."""
    intrinsic_anneal_steps: Annotated[int, NotNegative] = 0
    """Environment steps over which the weight falls linearly to 0 (the paper's large tasks); 0 for never."""
    intrinsic_reward: Literal["probability", "log_ratio"] = "probability"
    """probability: p(i | o_i), EOI's. log_ratio: log p(i | o_i) - log 1/N, DIAYN's with a skill per agent."""
    positive_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the classifier's positive distance (beta 1)."""
    positive_window: Annotated[int, Range(minimum=1)] = 4
    """Steps before an observation from which its positive is drawn (delta-t)."""
    information_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the classifier's mutual information (beta 2)."""
    classifier: Literal["mlp", "gru"] = "mlp"
    """What the classifier sees: the observation, or all observations of the episode up to it through a recurrent
    network of its own (the agents' own hidden states would give away whose parameters made them)."""
    classifier_hidden: Annotated[int, Range(minimum=1)] = 64
    """Units of the classifier's layers."""
    classifier_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the classifier (Adam)."""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """EOI's classifier: which agent is it that sees this?

    Attributes:
        config: its options, `IndividualityOptions` among them.
        sizes: those of the task.
    """

    config: Any
    sizes: Sizes

    @property
    def network(self) -> TeamAgent:
        """Maps each agent's observation to scores of the N agents that it may be of; the same for all."""
        n, hidden = self.sizes.num_agents, self.config.classifier_hidden
        network = (GRUAgent if self.config.classifier == "gru" else MLPAgent)(n, hidden)
        return TeamAgent(network, n, "shared")

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return make_optimizer("adam", self.config.classifier_lr, 0.0)

    def init(self, key: jax.Array) -> Params:
        """Draws the parameters."""
        return self.network.init(key, self.sizes.observation)

    def logits(
        self, params: Params, observation: Float[Array, "T B N F"], rows: Rows | None = None
    ) -> Float[Array, "T B N N"]:
        """Scores along episodes from their start."""
        return self.network.unroll(params, observation, rows)[1]

    def loss(
        self, params: Params, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, ""], Metrics]:
        """EOI section 3.2: cross-entropy with the agents' numbers, positive distance and mutual information."""
        c, n = self.config, self.sizes.num_agents
        rows = batch.rows
        logits = self.logits(params, batch.observation[:-1], rows)
        lots = by_episode(rows, logits.shape[:-1], key, jax.random.uniform)
        time = None if rows is None else rows.time[:-1]
        steps, exists = earlier_steps(lots, c.positive_window, time)
        positives = jnp.take_along_axis(
            jax.lax.stop_gradient(logits), steps[..., None], axis=0, mode="clip"
        )
        valid = jnp.broadcast_to(batch.valid[..., None], logits.shape[:-1]).astype(logits.dtype)
        agent = jnp.broadcast_to(jnp.arange(n), logits.shape[:-1])
        own = masked_mean(identity_cross_entropy(logits, agent), valid)
        distance = positive_distance(logits, positives)
        distance = masked_mean(distance, valid * exists)
        entropy = masked_mean(conditional_entropy(logits), valid)
        loss = own + c.positive_weight * distance + c.information_weight * entropy
        return loss, {
            "classifier_loss": own,
            "positive_distance": distance,
            "identity_entropy": entropy,
        }

    def log_recognition(self, params: Params, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """The logarithm of p(i | o_i) along episodes; constant."""
        logits = self.logits(params, batch.observation[:-1], batch.rows)
        logits = jax.lax.stop_gradient(logits)
        return jnp.diagonal(jax.nn.log_softmax(logits), axis1=-2, axis2=-1)

    def recognition(self, params: Params, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """p(i | o_i): how surely it tells each agent by what it observes along episodes."""
        return jnp.exp(self.log_recognition(params, batch))

    def reward(self, params: Params, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """What each agent is paid for each observation of episodes from their start, before it is weighted."""
        if self.config.intrinsic_reward == "log_ratio":
            return self.log_recognition(params, batch) + math.log(self.sizes.num_agents)
        return self.recognition(params, batch)

    def weight(self, env_steps: Int[Array, ""]) -> Float[Array, ""] | float:
        """Alpha after so many environment steps."""
        c = self.config
        if not c.intrinsic_anneal_steps:
            return c.intrinsic_weight
        left = 1.0 - env_steps / c.intrinsic_anneal_steps
        return c.intrinsic_weight * jnp.maximum(left, 0.0)

    def paid(self, params: Params, fresh: EpisodeBatch) -> Metrics:
        """What a step of an iteration's episodes paid, unweighted."""
        reward = self.reward(params, fresh).mean(-1)
        return {"intrinsic_reward": masked_mean(reward, fresh.valid.astype(reward.dtype))}


@dataclasses.dataclass(frozen=True)
class Recognising(Part):
    """Base of the parts that pay agents for being told apart; the backbone learns their classifier, if they do not."""

    def check(self) -> None:
        """Refuses agents that cannot differ."""
        c = self.config
        if c.sharing == "shared" and not c.observe_identity:
            raise ConfigurationError(
                "observe_identity is False; it must be true where agents share parameters, or they cannot differ."
            )

    @property
    def classifier(self) -> Classifier:
        """Which agent is it?"""
        return Classifier(self.config, self.core.sizes)

    def recognition(self, state: Any, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """p(i | o_i): how surely it tells each agent by what it observes along episodes."""
        return self.classifier.recognition(state.params["classifier"], batch)

    def watch(self, state: Any, own: Any, fresh: EpisodeBatch) -> tuple[Any, Metrics]:
        """Logs what a step paid."""
        return own, self.classifier.paid(state.params["classifier"], fresh)
