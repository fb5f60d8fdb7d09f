"""The methods by name: each a backbone, the parts that make its agents differ, and the paper's configuration."""

import dataclasses
from typing import Any

from envs.base import MultiAgentEnv
from envs.configuration import ConfigurationError, unknown_name
from marl_jax.methods.alita import ALITA
from marl_jax.methods.base import Method, Sizes
from marl_jax.methods.cds import CDSConfig, Heads, Predictors, SCDSConfig
from marl_jax.methods.central_v import CentralV
from marl_jax.methods.coma import COMA
from marl_jax.methods.credit_assignment import (
    CIAConfig,
    CIAQPLEXConfig,
    GREConfig,
    Identities,
    UnequalCredits,
)
from marl_jax.methods.eoi import (
    EOIConfig,
    EOIReleasedConfig,
    IntrinsicExploration,
    IntrinsicValues,
)
from marl_jax.methods.iac import IAC
from marl_jax.methods.influence import (
    DecisionInfluence,
    EDTIConfig,
    EITIConfig,
    TransitionInfluence,
)
from marl_jax.methods.joint_values import CWQMIX, OWQMIX, QTRAN
from marl_jax.methods.liir import LearnedReward, LIIRConfig
from marl_jax.methods.liir_paper import LIIRPaper
from marl_jax.methods.maac import DIAYN, EOIMAAC, MAAC
from marl_jax.methods.maddpg import DDPG, MADDPG
from marl_jax.methods.mappo import HAPPO, IPPO, MAPPO
from marl_jax.methods.maven import Latent, MAVENConfig
from marl_jax.methods.part import Part
from marl_jax.methods.q_learner import IQL, QMIXMethod, QPLEXMethod, VDNMethod
from marl_jax.methods.roma import RoleConfig, Roles, ROMAConfig, ROMAQPLEXConfig
from marl_jax.methods.social_influence import ActionInfluence, SocialInfluenceConfig
from marl_jax.methods.team import TeamConfig, TeamMethod


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a method is made.

    Attributes:
        backbone: who learns.
        parts: what makes its agents differ; a backbone that takes none has its idea within.
        options: the method's configuration; None: the backbone's.
        summary: one line for lists; None: the backbone's.
    """

    backbone: type[TeamMethod]
    parts: tuple[type[Part], ...] = ()
    options: type[TeamConfig] | None = None
    summary: str | None = None

    @property
    def Config(self) -> type[TeamConfig]:  # noqa: N802
        """The class of its options."""
        return self.options or self.backbone.Config

    @property
    def description(self) -> str:
        """One line."""
        return self.summary or (self.backbone.__doc__ or "").strip().splitlines()[0]

    def __call__(self, config: TeamConfig, sizes: Sizes) -> TeamMethod:
        """The method for a task of these sizes."""
        if not self.parts:
            return self.backbone(config, sizes)
        return self.backbone(config, sizes, self.parts)  # type: ignore[call-arg]


_METHODS: dict[str, Recipe] = {
    "alita": Recipe(ALITA),
    "cds": Recipe(
        QMIXMethod,
        (Heads,),
        CDSConfig,
        "CDS (Li et al. 2021) on QMIX: agents are paid for being told apart, and have output layers of their own.",
    ),
    "central_v": Recipe(CentralV),
    "cia": Recipe(
        QMIXMethod,
        (Identities,),
        CIAConfig,
        "CIA (Liu et al. 2023) on QMIX: a contrastive loss makes each agent's credits over time tell its identity.",
    ),
    "cia_qplex": Recipe(
        QPLEXMethod,
        (Identities,),
        CIAQPLEXConfig,
        "CIA (Liu et al. 2023) on QPLEX, whose credits are its attention weights.",
    ),
    "coma": Recipe(COMA),
    "cw_qmix": Recipe(CWQMIX),
    "ddpg": Recipe(DDPG),
    "diayn": Recipe(DIAYN),
    "edti": Recipe(
        IPPO,
        (DecisionInfluence,),
        EDTIConfig,
        "EDTI (Wang et al. 2020): influence counts as much as the state is worth to which it brings the other.",
    ),
    "eiti": Recipe(
        IPPO,
        (TransitionInfluence,),
        EITIConfig,
        "EITI (Wang et al. 2020): paid for rarely visited states and for the influence on others' transitions.",
    ),
    "eoi": Recipe(
        QMIXMethod,
        (IntrinsicValues,),
        EOIConfig,
        "EOI (Jiang and Lu 2021) on QMIX: every agent also climbs its own value of being recognised.",
    ),
    "eoi_maac": Recipe(EOIMAAC),
    "eoi_released": Recipe(
        QMIXMethod,
        (IntrinsicExploration,),
        EOIReleasedConfig,
        "EOI as its authors released it, on QMIX: values of being recognised only explore.",
    ),
    "gre": Recipe(
        QMIXMethod,
        (UnequalCredits,),
        GREConfig,
        "GRE (Zhao et al. 2022): QMIX whose credits are made unequal by minimising their entropy at each step.",
    ),
    "happo": Recipe(HAPPO),
    "iac": Recipe(IAC),
    "ippo": Recipe(IPPO),
    "iql": Recipe(IQL),
    "liir": Recipe(
        MAPPO,
        (LearnedReward,),
        LIIRConfig,
        "Learning individual intrinsic reward (Du et al. 2019), by a true meta-gradient, on MAPPO's core.",
    ),
    "liir_paper": Recipe(LIIRPaper),
    "maac": Recipe(MAAC),
    "maddpg": Recipe(MADDPG),
    "mappo": Recipe(MAPPO),
    "maven": Recipe(
        QMIXMethod,
        (Latent,),
        MAVENConfig,
        "MAVEN (Mahajan et al. 2019): all agents follow one latent z, drawn once for an episode.",
    ),
    "ow_qmix": Recipe(OWQMIX),
    "qmix": Recipe(QMIXMethod),
    "qplex": Recipe(QPLEXMethod),
    "qtran": Recipe(QTRAN),
    "roma": Recipe(
        QMIXMethod, (Roles,), ROMAConfig, "ROMA (Wang et al. 2020) on QMIX, the paper's."
    ),
    "roma_qplex": Recipe(
        QPLEXMethod, (Roles,), ROMAQPLEXConfig, "ROMA's agents and losses on QPLEX."
    ),
    "roma_vdn": Recipe(VDNMethod, (Roles,), RoleConfig, "ROMA's agents and losses on VDN."),
    "scds": Recipe(
        QMIXMethod,
        (Predictors,),
        SCDSConfig,
        "SCDS (Liu et al. 2023): CDS whose agents share all parameters. Its intrinsic reward is all that is left.",
    ),
    "social_influence": Recipe(
        IPPO,
        (ActionInfluence,),
        SocialInfluenceConfig,
        "Social Influence (Jaques et al. 2019): paid for changing what others are expected to do next.",
    ),
    "vdn": Recipe(VDNMethod),
}

__all__ = ["Method", "Recipe", "Sizes", "make", "names", "recipe"]


def names() -> tuple[str, ...]:
    """All names that `make` knows, sorted."""
    return tuple(sorted(_METHODS))


def recipe(name: str) -> Recipe:
    """How the method of a name is made.

    Raises:
        ConfigurationError: if there is no such method.
    """
    if name not in _METHODS:
        raise unknown_name("method", name, _METHODS)
    return _METHODS[name]


def make(name: str, env: MultiAgentEnv[Any], **options: Any) -> Method:
    """Makes the method called `name` for an environment.

    Args:
        name: one of `names()`.
        env: the task, which gives the sizes.
        **options: fields of the method's `Config`.

    Raises:
        ConfigurationError: if the name or an option is unknown, a value is not allowed, or the method cannot choose
            actions of the task's kind.
    """
    known = recipe(name)
    if env.continuous_actions and not known.backbone.continuous:
        able = ", ".join(n for n in names() if _METHODS[n].backbone.continuous)
        raise ConfigurationError(
            f"the task has continuous actions, which {name} cannot choose; choose from: {able}."
        )
    return known(known.Config.from_mapping(options, name), Sizes.of(env))
