"""EOI as a reward: agents are paid for being recognised by what they observe.

Paper: Jiang and Lu 2021, "The Emergence of Individuality", Eq. 2 and 3: r + alpha p(i | o_i). On MAAC it is the paper's
(sections 3.3 and 4.3), without code of its authors; on the PPO core, the actor-critics and MADDPG it is ours. With
another reward it is DIAYN (Eysenbach et al. 2019) with a skill per agent.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from envs.configuration import Range
from marl_jax.losses import masked_mean
from marl_jax.methods.actor_critic import BaselineMethod
from marl_jax.methods.individuality import IndividualityOptions, Recognising
from marl_jax.methods.off_policy import OffPolicyMethod, Sampled
from marl_jax.methods.part import Episodes, Learned, Paid
from marl_jax.methods.ppo import PPO
from marl_jax.networks import Params
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class RecognitionOptions(IndividualityOptions):
    """Options of EOI where it learns from fresh episodes."""

    classifier_steps: Annotated[int, Range(minimum=1)] = 16
    """Gradient steps of the classifier in an iteration, each on all of its episodes."""


@dataclasses.dataclass(frozen=True)
class Recognition(Recognising):
    """EOI's reward, where agents learn from fresh episodes: how surely a classifier tells each by what it observes."""

    name: ClassVar = "eoi"
    Options: ClassVar = RecognitionOptions
    continuous: ClassVar[bool] = True

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Whoever learns from fresh episodes pays it."""
        return (
            None if issubclass(backbone, PPO | BaselineMethod) else "it learns from fresh episodes"
        )

    def start(self, key: jax.Array) -> Learned:
        """Draws the classifier."""
        params = self.classifier.init(key)
        return Learned(params, self.classifier.optimizer.init(params))

    def rewards(
        self,
        state: Learned,
        experience: Episodes,
        paid: Float[Array, "T B N"],
        env_steps: Int[Array, ""],
    ) -> tuple[Learned, Paid]:
        """Alpha p(i | o_i) on top, for the living."""
        own = self.classifier.reward(state.params, experience.batch) * experience.alive
        bonus = self.classifier.weight(env_steps) * own
        said = {"intrinsic_reward": masked_mean(own, experience.alive)}
        return state, Paid(paid + bonus, bonus, said)

    def recognition(self, state: Any, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """p(i | o_i): how surely it tells each agent by what it observes along episodes."""
        own = state.parts[self.core.parts.index(self)]
        return self.classifier.recognition(own.params, batch)

    def learn(self, state: Learned, lesson: Any) -> tuple[Learned, Metrics]:
        """Some gradient steps of the classifier, whose positives are drawn anew for each."""
        batch, classifier = lesson.experience.batch, self.classifier

        def step(state: Learned, key: jax.Array) -> tuple[Learned, Metrics]:
            grads, metrics = jax.grad(classifier.loss, has_aux=True)(state.params, batch, key)
            return state.after(classifier.optimizer, grads), metrics

        keys = jax.random.split(lesson.key, self.config.classifier_steps)
        state, metrics = jax.lax.scan(step, state, keys)
        return state, jax.tree.map(jnp.mean, metrics)


@dataclasses.dataclass(frozen=True)
class SampledRecognitionOptions(IndividualityOptions):
    """Options of EOI where single steps are drawn from a replay."""

    classifier: Literal["mlp"] = "mlp"
    """What the classifier sees: the observation, since single steps are drawn from the replay."""
    classifier_batch: Annotated[int, Range(minimum=1)] = 32
    """Episodes drawn for a gradient step of the classifier."""


@dataclasses.dataclass(frozen=True)
class SampledRecognition(Recognising):
    """EOI's reward, where agents learn from single steps of a replay.

    MAAC may standardise the environment's reward; the intrinsic one never is, it is added after it. With standardised
    rewards alpha is in their deviations; while they are rare the deviation is small and the task counts for more.
    """

    name: ClassVar = "eoi"
    Options: ClassVar = SampledRecognitionOptions

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Its classifier draws whole episodes beside the steps."""
        return None if issubclass(backbone, OffPolicyMethod) else "it learns from single steps"

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Adam."""
        return {"classifier": self.classifier.optimizer}

    def init(self, key: jax.Array) -> dict[str, Params]:
        """The classifier."""
        return {"classifier": self.classifier.init(jax.random.split(key)[1])}

    @property
    def drawn(self) -> dict[str, int]:
        """Positives come from the same episode."""
        return {"classifier_batch": self.config.classifier_batch}

    def loss(self, learning: Sampled) -> tuple[jax.Array, Metrics]:
        """The classifier's."""
        assert learning.key is not None
        return self.classifier.loss(learning.params["classifier"], learning.batch, learning.key)

    def bonus(self, learning: Sampled) -> tuple[Any, Float[Array, "1 B N"]]:
        """Alpha, and p(i | o_i)."""
        weight = self.classifier.weight(learning.state.env_steps)
        return weight, self.classifier.reward(learning.params["classifier"], learning.batch)
