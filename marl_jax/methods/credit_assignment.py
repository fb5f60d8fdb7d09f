"""Losses on a mixer's credits: CIA, on QMIX and on QPLEX, and GRE.

Papers: Liu et al. 2023, "Contrastive Identity-Aware Learning for Multi-Agent Value Decomposition"; Zhao et al. 2022
(GRE). Authors' code: github.com/liushunyu/CIA `cia_q_learner.py`, `cia_qplex_learner.py`; github.com/sgzZ123/GRE
`q_learner_GRE.py`.
"""

import dataclasses
from typing import Annotated, Any, Literal

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
from marl_jax.methods.part import Part
from marl_jax.methods.q_learner import Learning, QMIXConfig, QPLEXConfig, ValueConfig
from marl_jax.methods.team import NotNegative
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
class CreditPart(Part):
    """A loss on the mixer's credits, exact or as the authors approximate QMIX's."""

    def credits(self, params: dict[str, Params], taken: MixerInputs) -> Float[Array, "*batch N"]:
        """Each agent's credit."""
        if getattr(self.core.config, "credit", "exact") == "exact":
            credits: Any = self.core.credits_of(params, taken)
        else:
            credits = self.core.mixer.apply(params["mixer"], taken, method="authors_credits")
        return credits


@dataclasses.dataclass(frozen=True)
class Identities(CreditPart):
    """CIA's learned identities, and the loss that makes credits tell them."""

    @property
    def identity(self) -> Linear:
        """Maps a credit vector to one score for each identity; its kernels are the identities."""
        return Linear(self.core.sizes.num_agents)

    def init(self, key: jax.Array) -> dict[str, Params]:
        """The identities."""
        vector = jnp.zeros((self.core.sizes.time_limit,))
        return {"identity": self.identity.init(jax.random.split(key)[1], vector)}

    def loss(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        """Contrastive, or a classification."""
        params, batch, c = learning.params, learning.batch, self.core.config
        credits, valid = self.credits(params, learning.taken), batch.valid
        if batch.rows is not None:
            # A credit vector is a whole episode's.
            credits, valid = batch.rows.unpack(credits), batch.rows.valid
        vectors = credit_vectors(credits, valid)
        scores: Any = self.identity.apply(params["identity"], vectors)
        contrastive = c.identity_loss == "contrastive"
        loss = (contrastive_identity_loss if contrastive else identity_classification_loss)(scores)
        return c.cia_weight * loss, {"identity_loss": loss}


@dataclasses.dataclass(frozen=True)
class UnequalCredits(CreditPart):
    """GRE's loss: the credits' entropy at each step."""

    def loss(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        """The entropy, which is minimised."""
        credits = self.credits(learning.params, learning.taken)
        entropy = credit_entropy(credits, learning.batch.valid.astype(credits.dtype))
        return self.core.config.entropy_weight * entropy, {"credit_entropy": entropy}


@dataclasses.dataclass(frozen=True)
class CIAConfig(IdentityConfig, CreditConfig):
    """Hyper-parameters of CIA on QMIX; the authors' `cia_grad_qmix_turn.yaml`."""


@dataclasses.dataclass(frozen=True)
class CIAQPLEXConfig(IdentityConfig, QPLEXConfig):
    """Hyper-parameters of CIA on QPLEX, whose credits are its attention weights."""

    agent_index: bool = True
    """Whether the attention also sees which agent it weighs (ours). Without it and unit_dim all have one credit, and
    CIA's loss is a constant."""


@dataclasses.dataclass(frozen=True)
class GREConfig(CreditConfig):
    """Hyper-parameters of GRE; the authors' `qmix_GRE.yaml`."""

    entropy_weight: Annotated[float, NotNegative] = 1e-3
    """Weight of the credits' normalised entropy, which is minimised; 1e-4 in the authors' README."""
