"""Losses on a mixer's credits: CIA, on QMIX and on QPLEX, and GRE.

Papers: Liu et al. 2023, "Contrastive Identity-Aware Learning for Multi-Agent Value Decomposition"; Zhao et al. 2022
(GRE). Authors' code: github.com/liushunyu/CIA `cia_q_learner.py`, `cia_qplex_learner.py`; github.com/sgzZ123/GRE
`q_learner_GRE.py`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from envs.configuration import Config, ConfigurationError
from marl_jax.losses import (
    contrastive_identity_loss,
    credit_entropy,
    credit_vectors,
    identity_classification_loss,
)
from marl_jax.methods.part import Part
from marl_jax.methods.q_learner import Learning, QMIXMethod, QPLEXMethod
from marl_jax.methods.team import NotNegative
from marl_jax.networks import Linear, MixerInputs, Params
from marl_jax.types import Metrics


@dataclasses.dataclass(frozen=True)
class IdentityOptions(Config):
    """Options of CIA."""

    cia_weight: Annotated[float, NotNegative] = 0.02
    """Weight of the loss on the credits (alpha). Authors: on QMIX 0.02 for Turn and half of their SMAC maps, else
    0.005 or 0.1; on QPLEX 0.02 to 0.1."""
    identity_loss: Literal["contrastive", "classification"] = "contrastive"
    """contrastive: each identity picks its agent among the agents (CIA). classification: each agent's credits are
    sorted into an identity (the ablation CC)."""


@dataclasses.dataclass(frozen=True)
class CreditOptions:
    """How QMIX's credits are seen: beside a part's own options."""

    credit: Literal["exact", "authors"] = "exact"
    """exact: dQ_tot/dq_i, as the papers define it. authors: their code's slope of the ELU, exp(ELU(z)) where it is
    exp(z); what their code keeps of the credits after an episode's end is left out in both."""


@dataclasses.dataclass(frozen=True)
class EntropyOptions(Config):
    """Options of GRE; the authors' `qmix_GRE.yaml`."""

    entropy_weight: Annotated[float, NotNegative] = 1e-3
    """Weight of the credits' normalised entropy, which is minimised; 1e-4 in the authors' README."""


@functools.cache
def _of_qmix(options: Any) -> type[Config]:
    """A part's options, and how QMIX's credits are seen."""
    bases = (CreditOptions, options)
    return dataclasses.make_dataclass(f"QMIX{options.__name__}", [], bases=bases, frozen=True)


@dataclasses.dataclass(frozen=True)
class CreditPart(Part):
    """A loss on the mixer's credits, exact or as the authors approximate QMIX's."""

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Where there is no mixer with parameters."""
        if issubclass(backbone, QMIXMethod | QPLEXMethod):
            return None
        return (
            "it teaches the credits that a mixer gives its agents, which only qmix and qplex learn"
        )

    @classmethod
    def options_on(cls, backbone: type) -> type[Config]:
        """QMIX's credits may be the authors'."""
        own: Any = cls.Options
        return _of_qmix(own) if issubclass(backbone, QMIXMethod) else own

    @classmethod
    def defaults_on(cls, backbone: type) -> Mapping[str, Any]:
        """QPLEX's attention sees whom it weighs: otherwise agents have one credit, and the loss is a constant."""
        return {"agent_index": True} if issubclass(backbone, QPLEXMethod) else {}

    def check(self) -> None:
        """Refuses what mixes the agents up, or weighs all alike."""
        if not (getattr(self.config, "agent_index", True) or getattr(self.config, "unit_dim", 1)):
            raise ConfigurationError(
                f"agent_index is False; it must be true for {self.name} unless unit_dim is set: QPLEX's attention "
                "weighs all agents alike without, and their credits teach nothing."
            )
        if getattr(self.config, "shuffle_agents", False):
            raise ConfigurationError(
                "shuffle_agents is True; it must be false where credits are told apart by agent."
            )

    def credits(self, params: dict[str, Params], taken: MixerInputs) -> Float[Array, "*batch N"]:
        """Each agent's credit."""
        if getattr(self.config, "credit", "exact") == "exact":
            credits: Any = self.core.credits_of(params, taken)
        else:
            credits = self.core.mixer.apply(params["mixer"], taken, method="authors_credits")
        return credits


@dataclasses.dataclass(frozen=True)
class Identities(CreditPart):
    """CIA's learned identities, and the loss that makes credits tell them."""

    name: ClassVar = "cia"
    Options: ClassVar = IdentityOptions

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
        params, batch, c = learning.params, learning.batch, self.config
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

    name: ClassVar = "gre"
    Options: ClassVar = EntropyOptions

    def loss(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        """The entropy, which is minimised."""
        credits = self.credits(learning.params, learning.taken)
        entropy = credit_entropy(credits, learning.batch.valid.astype(credits.dtype))
        return self.config.entropy_weight * entropy, {"credit_entropy": entropy}
