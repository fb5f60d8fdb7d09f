"""Regularisers of a mixer's credits: CIA on QMIX and on QPLEX, and GRE.

Papers: Liu et al. 2023, "Contrastive Identity-Aware Learning for Multi-Agent Value Decomposition"; Zhao et al. 2022
(GRE). Authors' code: github.com/liushunyu/CIA `cia_q_learner.py`, `cia_qplex_learner.py`; github.com/sgzZ123/GRE
`q_learner_GRE.py`.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from envs.configuration import ConfigurationError
from marl_jax.losses import (
    contrastive_identity_loss,
    credit_entropy,
    credit_vectors,
    identity_classification_loss,
)
from marl_jax.methods.team import NotNegative
from marl_jax.methods.value_decomposition import (
    Learning,
    QMIXConfig,
    QMIXMethod,
    QPLEXConfig,
    QPLEXMethod,
    ValueConfig,
    ValueDecomposition,
)
from marl_jax.networks import Linear, MixerInputs, Params
from marl_jax.types import Metrics


@dataclasses.dataclass(frozen=True)
class IdentityConfig(ValueConfig):
    """What CIA adds to a method."""

    cia_weight: Annotated[float, NotNegative] = 0.02
    """Weight of the loss on the credits (alpha). Authors: on QMIX 0.02 for Turn and half of their SMAC maps, else
    0.005 or 0.1; on QPLEX 0.02 to 0.1."""
    identity_loss: Literal["contrastive", "classification"] = "contrastive"
    """contrastive: each identity picks its agent among the agents (CIA). classification: each agent's credits are
    sorted into an identity (the ablation CC)."""


@dataclasses.dataclass(frozen=True)
class CreditConfig(QMIXConfig):
    """What methods on QMIX's credits add to QMIX."""

    credit: Literal["exact", "authors"] = "exact"
    """exact: dQ_tot/dq_i, as the papers define it. authors: their code's slope of the ELU, exp(ELU(z)) where it is
    exp(z); what their code keeps of the credits after an episode's end is left out in both."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shuffle_agents:
            raise ConfigurationError(
                "shuffle_agents is True; it must be false where credits are told apart by agent."
            )


@dataclasses.dataclass(frozen=True)
class _Identities(ValueDecomposition):
    """The learned identities, and the loss that makes credits tell them."""

    @property
    def identity(self) -> Linear:
        """Maps a credit vector to one score for each identity; its kernels are the identities."""
        return Linear(self.sizes.num_agents)

    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        base_key, identity_key = jax.random.split(key)
        params = super()._init_params(base_key)
        vector = jnp.zeros((self.sizes.time_limit,))
        return {**params, "identity": self.identity.init(identity_key, vector)}

    def _regulariser(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        added, metrics = super()._regulariser(learning)
        params, batch = learning.params, learning.batch
        credits, valid = self._credits(params, learning.taken), batch.valid
        if batch.rows is not None:
            # A credit vector is a whole episode's.
            credits, valid = batch.rows.unpack(credits), batch.rows.valid
        vectors = credit_vectors(credits, valid)
        scores: Any = self.identity.apply(params["identity"], vectors)
        contrastive = self.config.identity_loss == "contrastive"
        loss = (contrastive_identity_loss if contrastive else identity_classification_loss)(scores)
        return added + self.config.cia_weight * loss, {**metrics, "identity_loss": loss}


@dataclasses.dataclass(frozen=True)
class _QMIXCredits(QMIXMethod):
    """Credits of QMIX's mixer, exact or as the authors approximate them."""

    def _credits(self, params: dict[str, Params], taken: MixerInputs) -> Float[Array, "*batch N"]:
        if self.config.credit == "exact":
            return super()._credits(params, taken)
        credits: Any = self.mixer.apply(params["mixer"], taken, method="authors_credits")
        return credits


@dataclasses.dataclass(frozen=True)
class CIAConfig(IdentityConfig, CreditConfig):
    """Hyper-parameters of CIA on QMIX; the authors' `cia_grad_qmix_turn.yaml`."""


@dataclasses.dataclass(frozen=True)
class CIA(_Identities, _QMIXCredits):
    """CIA (Liu et al. 2023) on QMIX: a contrastive loss makes each agent's credits over time tell its identity."""

    Config: ClassVar = CIAConfig


@dataclasses.dataclass(frozen=True)
class CIAQPLEXConfig(IdentityConfig, QPLEXConfig):
    """Hyper-parameters of CIA on QPLEX."""

    agent_index: bool = True
    """Whether the attention also sees which agent it weighs (ours). Without it and unit_dim all have one credit, and
    CIA's loss is a constant."""


@dataclasses.dataclass(frozen=True)
class CIAQPLEX(_Identities, QPLEXMethod):
    """CIA (Liu et al. 2023) on QPLEX, whose credits are its attention weights."""

    Config: ClassVar = CIAQPLEXConfig


@dataclasses.dataclass(frozen=True)
class GREConfig(CreditConfig):
    """Hyper-parameters of GRE; the authors' `qmix_GRE.yaml`."""

    entropy_weight: Annotated[float, NotNegative] = 1e-3
    """Weight of the credits' normalised entropy, which is minimised; 1e-4 in the authors' README."""


@dataclasses.dataclass(frozen=True)
class GRE(_QMIXCredits):
    """GRE (Zhao et al. 2022): QMIX whose credits are made unequal by minimising their entropy at each step."""

    Config: ClassVar = GREConfig

    def _regulariser(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        added, metrics = super()._regulariser(learning)
        credits = self._credits(learning.params, learning.taken)
        entropy = credit_entropy(credits, learning.batch.valid.astype(credits.dtype))
        return added + self.config.entropy_weight * entropy, {**metrics, "credit_entropy": entropy}
