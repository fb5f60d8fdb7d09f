"""EOI and DIAYN on MAAC.

Papers: Jiang and Lu 2021 (EOI, sections 3.3 and 4.3); Eysenbach et al. 2019 (DIAYN). There is no code of EOI on MAAC by
its authors.
"""

import dataclasses
from typing import Annotated, ClassVar, Literal

import jax
import optax
from jaxtyping import Array, Float

from envs.configuration import Range
from marl_jax.methods.individuality import Classifier, IndividualityOptions
from marl_jax.methods.maac import MAAC, MAACConfig, RewardScale
from marl_jax.methods.off_policy import OffPolicyState
from marl_jax.methods.team import NotNegative
from marl_jax.networks import Params
from marl_jax.replay import ReplayState
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class EOIMAACConfig(IndividualityOptions, MAACConfig):
    """Hyper-parameters of EOI on MAAC."""

    agent: Literal["mlp"] = "mlp"
    """Network of one agent: feed-forward, since single steps are drawn from the replay."""
    hidden_size: Annotated[int, Range(minimum=1)] = 128
    """Units of the policies' layers."""
    observe_last_action: Literal[False] = False
    """Not possible: single steps are drawn from the replay."""
    classifier: Literal["mlp"] = "mlp"
    """What the classifier sees: the observation, since single steps are drawn from the replay."""
    classifier_batch: Annotated[int, Range(minimum=1)] = 32
    """Episodes drawn for a gradient step of the classifier."""


@dataclasses.dataclass(frozen=True)
class EOIMAAC(MAAC):
    """EOI (Jiang and Lu 2021) on MAAC: each agent's critic is also paid for its being recognised.

    The environment's reward may be standardised, the intrinsic one never is: it is added after it. With
    standardised rewards alpha is in their deviations; while they are rare the deviation is small and the task counts
    for more.
    """

    Config: ClassVar = EOIMAACConfig

    @property
    def classifier(self) -> Classifier:
        """Which agent is it?"""
        return Classifier(self.config, self.sizes)

    @property
    def _drawn(self) -> dict[str, int]:
        return {**super()._drawn, "classifier_batch": self.config.classifier_batch}

    @property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        return {**super()._optimizers, "classifier": self.classifier.optimizer}

    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        base_key, classifier_key = jax.random.split(key)
        return {
            **super()._init_params(base_key),
            "classifier": self.classifier.init(classifier_key),
        }

    def _prepare(
        self, state: OffPolicyState, replay: ReplayState, key: jax.Array
    ) -> tuple[OffPolicyState, Metrics]:
        """A gradient step of the classifier, on whole episodes: positives come from the same one."""
        sample_key, loss_key = jax.random.split(key)
        episodes = self.replay.sample(replay, sample_key, self.config.classifier_batch)
        grad = jax.grad(self.classifier.loss, has_aux=True)
        grads, metrics = grad(state.params["classifier"], episodes, loss_key)
        return self._apply(state, "classifier", grads), metrics

    def _rewards(
        self, state: OffPolicyState, batch: EpisodeBatch, scale: RewardScale
    ) -> Float[Array, "B N"]:
        reward = super()._rewards(state, batch, scale)
        alpha = self.classifier.weight(state.env_steps)
        return reward + alpha * self.classifier.reward(state.params["classifier"], batch)[0]

    def recognition(self, state: OffPolicyState, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """p(i | o_i): how surely it tells each agent by what it observes along episodes."""
        return self.classifier.recognition(state.params["classifier"], batch)

    def update(
        self, state: OffPolicyState, fresh: EpisodeBatch, replay: ReplayState | None, key: jax.Array
    ) -> tuple[OffPolicyState, Metrics]:
        """As MAAC's; also logs what a step of the fresh episodes paid, unweighted."""
        paid = self.classifier.paid(state.params["classifier"], fresh)
        state, metrics = super().update(state, fresh, replay, key)
        return state, {**metrics, **paid}


@dataclasses.dataclass(frozen=True)
class DIAYNConfig(EOIMAACConfig):
    """Hyper-parameters of DIAYN; EOI's paper gives none, these are ours."""

    intrinsic_reward: Literal["probability", "log_ratio"] = "log_ratio"
    """log_ratio: log p(i | o_i) - log 1/N, DIAYN's with a skill per agent. probability: p(i | o_i), EOI's."""
    positive_weight: Annotated[float, NotNegative] = 0.0
    """Weight of the classifier's positive distance; none in DIAYN."""
    information_weight: Annotated[float, NotNegative] = 0.0
    """Weight of the classifier's mutual information; none in DIAYN."""


@dataclasses.dataclass(frozen=True)
class DIAYN(EOIMAAC):
    """DIAYN (Eysenbach et al. 2019) with a skill per agent, as EOI's section 4.3 compares with.

    Its reward is added to the environment's; the policies' entropy, which it also maximises, is MAAC's own.
    """

    Config: ClassVar = DIAYNConfig
