"""EOI on the PPO core: agents are paid for being recognised by what they observe.

Paper: Jiang and Lu 2021, "The Emergence of Individuality", Eq. 2 and 3: r + alpha p(i | o_i). The paper stands on MAAC
and QMIX; this pair is ours.
"""

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from envs.configuration import ConfigurationError, Range
from marl_jax.losses import masked_mean
from marl_jax.methods.diagnostics import intrinsic_ratio
from marl_jax.methods.individuality import Classifier, IndividualityOptions
from marl_jax.methods.part import Part
from marl_jax.methods.ppo import Experience, Lesson, PPOState, only_ppo
from marl_jax.networks import Params
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class RecognitionOptions(IndividualityOptions):
    """Options of EOI on the PPO core."""

    classifier_steps: Annotated[int, Range(minimum=1)] = 16
    """Gradient steps of the classifier in an iteration, each on all of its episodes."""


class ClassifierState(NamedTuple):
    """What the classifier learns.

    Attributes:
        params: its parameters.
        optimizer: its optimiser's state.
    """

    params: Params
    optimizer: optax.OptState


@dataclasses.dataclass(frozen=True)
class Recognition(Part):
    """EOI's reward: how surely a classifier tells an agent by what it observes."""

    Options: ClassVar = RecognitionOptions
    continuous: ClassVar[bool] = True

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Only the PPO core pays it."""
        return only_ppo(backbone)

    def check(self) -> None:
        """Refuses agents that cannot differ."""
        c = self.core.config
        if c.sharing == "shared" and not c.observe_identity:
            raise ConfigurationError(
                "observe_identity is False; it must be true where agents share parameters, or they cannot differ."
            )

    @property
    def classifier(self) -> Classifier:
        """Which agent is it?"""
        return Classifier(self.core.config, self.core.sizes)

    def start(self, key: jax.Array) -> ClassifierState:
        """Draws the classifier."""
        params = self.classifier.init(key)
        return ClassifierState(params, self.classifier.optimizer.init(params))

    def rewards(
        self,
        state: ClassifierState,
        experience: Experience,
        paid: Float[Array, "T B N"],
        env_steps: Int[Array, ""],
    ) -> tuple[ClassifierState, Float[Array, "T B N"], tuple[jax.Array, ...], Metrics]:
        """Alpha p(i | o_i) on top, for the living."""
        own = self.classifier.reward(state.params, experience.batch) * experience.alive
        bonus = self.classifier.weight(env_steps) * own
        reward = paid + bonus
        advantage = self.core.advantage(experience, reward)
        return (
            state,
            reward,
            (),
            {
                "intrinsic_reward": masked_mean(own, experience.alive),
                "intrinsic_ratio": intrinsic_ratio(bonus, advantage, experience.alive),
            },
        )

    def recognition(self, state: PPOState, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """p(i | o_i): how surely it tells each agent by what it observes along episodes."""
        own = state.parts[self.core.parts.index(self)]
        return self.classifier.recognition(own.params, batch)

    def learn(self, state: ClassifierState, lesson: Lesson) -> tuple[ClassifierState, Metrics]:
        """Some gradient steps of the classifier, whose positives are drawn anew for each."""
        batch, classifier = lesson.experience.batch, self.classifier

        def step(state: ClassifierState, key: jax.Array) -> tuple[ClassifierState, Metrics]:
            grads, metrics = jax.grad(classifier.loss, has_aux=True)(state.params, batch, key)
            updates, optimizer = classifier.optimizer.update(grads, state.optimizer, state.params)
            return ClassifierState(optax.apply_updates(state.params, updates), optimizer), metrics

        keys = jax.random.split(lesson.key, self.core.config.classifier_steps)
        state, metrics = jax.lax.scan(step, state, keys)
        return state, jax.tree.map(jnp.mean, metrics)
