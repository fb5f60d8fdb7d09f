"""The methods by name: each a backbone, the parts that make its agents differ, and the paper's configuration."""

from typing import Any

from envs import own_classes
from envs.base import MultiAgentEnv
from envs.configuration import ConfigurationError, shown, unknown_name
from marl_jax.methods.alita import ALITA
from marl_jax.methods.base import Method, Sizes
from marl_jax.methods.cds import Heads, Predictors
from marl_jax.methods.central_v import CentralV
from marl_jax.methods.coma import COMA
from marl_jax.methods.credit_assignment import Identities, UnequalCredits
from marl_jax.methods.eoi import IntrinsicExploration, IntrinsicValues
from marl_jax.methods.hc import HC
from marl_jax.methods.hypermarl import Hypernetworks
from marl_jax.methods.iac import IAC
from marl_jax.methods.influence import DecisionInfluence, InfluenceConfig, TransitionInfluence
from marl_jax.methods.influencer import Influencer
from marl_jax.methods.joint_values import QTRAN, WQMIX
from marl_jax.methods.kaleidoscope import Masks
from marl_jax.methods.lica import LICA
from marl_jax.methods.liir import LearnedReward
from marl_jax.methods.liir_paper import LIIRPaper
from marl_jax.methods.maac import MAAC
from marl_jax.methods.maddpg import DDPG, MADDPG
from marl_jax.methods.mappo import HAPPO, IPPO, MAPPO
from marl_jax.methods.maven import Latent
from marl_jax.methods.part import Part
from marl_jax.methods.q_learner import IQL, QMIXMethod, QPLEXMethod, VDNMethod
from marl_jax.methods.recipes import Recipe, compose
from marl_jax.methods.recognition import Recognition, SampledRecognition
from marl_jax.methods.roma import Roles
from marl_jax.methods.sac import SAC
from marl_jax.methods.social_influence import ActionInfluence
from marl_jax.methods.td3 import TD3
from marl_jax.methods.team import TeamMethod
from marl_jax.methods.trpo import HATRPO, TRPO

_METHODS: dict[str, Recipe] = {
    "a2c": Recipe(
        IPPO,
        defaults={"epochs": 1, "minibatches": 1},
        summary="A2C (Mnih et al. 2016) for each agent: PPO's core with one gradient step on fresh episodes.",
    ),
    "alita": Recipe(ALITA),
    "cds": Recipe(
        QMIXMethod,
        (Heads,),
        summary="CDS (Li et al. 2021) on QMIX: agents paid for being told apart, with output layers of their own.",
    ),
    "central_v": Recipe(CentralV),
    "cia": Recipe(
        QMIXMethod,
        (Identities,),
        summary="CIA (Liu et al. 2023) on QMIX: a contrastive loss makes credits over time tell whose they are.",
    ),
    "cia_qplex": Recipe(
        QPLEXMethod,
        (Identities,),
        summary="CIA (Liu et al. 2023) on QPLEX, whose credits are its attention weights.",
    ),
    "coma": Recipe(COMA),
    "cw_qmix": Recipe(
        WQMIX,
        defaults={"weighting": "central"},
        summary="CW-QMIX (Rashid et al. 2020): errors of joint actions neither greedy nor better than it count less.",
    ),
    "ddpg": Recipe(DDPG),
    "diayn": Recipe(
        MAAC,
        (SampledRecognition,),
        # EOI's paper compares with it and gives no values; these are ours.
        defaults={
            "intrinsic_reward": "log_ratio",
            "positive_weight": 0.0,
            "information_weight": 0.0,
        },
        summary="DIAYN (Eysenbach et al. 2019) with a skill per agent on MAAC, whose entropy it maximises, too.",
    ),
    "dqn": Recipe(
        IQL,
        defaults={"agent": "mlp", "sharing": "independent", "observe_last_action": False},
        summary="DQN (Mnih et al. 2015), double, for each agent: IQL without memory or shared parameters.",
    ),
    "edti": Recipe(
        IPPO,
        (DecisionInfluence,),
        InfluenceConfig,
        summary="EDTI (Wang et al. 2020): influence counts as much as the state is worth to which it brings the other.",
    ),
    "eiti": Recipe(
        IPPO,
        (TransitionInfluence,),
        InfluenceConfig,
        summary="EITI (Wang et al. 2020): paid for rarely visited states and for the influence on others' transitions.",
    ),
    "eoi": Recipe(
        QMIXMethod,
        (IntrinsicValues,),
        summary="EOI (Jiang and Lu 2021) on QMIX: every agent also climbs its own value of being recognised.",
    ),
    "eoi_maac": Recipe(
        MAAC,
        (SampledRecognition,),
        summary="EOI (Jiang and Lu 2021) on MAAC: each agent's critic is also paid for its being recognised.",
    ),
    "eoi_released": Recipe(
        QMIXMethod,
        (IntrinsicExploration,),
        summary="EOI as its authors released it, on QMIX: values of being recognised only explore.",
    ),
    "gre": Recipe(
        QMIXMethod,
        (UnequalCredits,),
        summary="GRE (Zhao et al. 2022): QMIX whose credits are made unequal by minimising their entropy at each step.",
    ),
    "happo": Recipe(HAPPO),
    "hatrpo": Recipe(HATRPO),
    "hc": Recipe(HC),
    "iac": Recipe(IAC),
    "ippo": Recipe(IPPO),
    "iql": Recipe(IQL),
    "kaleidoscope": Recipe(
        QMIXMethod,
        (Masks,),
        summary="Kaleidoscope (Li et al. 2024) on QMIX: every agent learns a mask of the weights that all share.",
    ),
    "lica": Recipe(LICA),
    "liir": Recipe(
        MAPPO,
        (LearnedReward,),
        # One network puts out all agents' values of both rewards.
        defaults={"critic_input": "joint"},
        summary="Learning individual intrinsic reward (Du et al. 2019), by a true meta-gradient, on MAPPO's core.",
    ),
    "liir_paper": Recipe(LIIRPaper),
    "maac": Recipe(MAAC),
    "maddpg": Recipe(MADDPG),
    "mappo": Recipe(MAPPO),
    "maven": Recipe(
        QMIXMethod,
        (Latent,),
        # The authors' `noise_mix.py`.
        defaults={"hypernet_layers": 1},
        summary="MAVEN (Mahajan et al. 2019): all agents follow one latent z, drawn once for an episode.",
    ),
    "ow_qmix": Recipe(
        WQMIX,
        summary="OW-QMIX (Rashid et al. 2020): errors of joint actions held too good count less.",
    ),
    "qmix": Recipe(QMIXMethod),
    "qplex": Recipe(QPLEXMethod),
    "qtran": Recipe(QTRAN),
    "reinforce": Recipe(
        IPPO,
        defaults={"epochs": 1, "minibatches": 1, "gae_lambda": 1.0},
        summary="REINFORCE (Williams 1992) for each agent, with a learned baseline: A2C with Monte-Carlo returns.",
    ),
    "roma": Recipe(
        QMIXMethod,
        (Roles,),
        # The paper's; its authors have no hidden layer there (hypernet_layers 1).
        defaults={"hypernet_size": 32},
        summary="ROMA (Wang et al. 2020) on QMIX, the paper's.",
    ),
    "roma_qplex": Recipe(QPLEXMethod, (Roles,), summary="ROMA's agents and losses on QPLEX."),
    "roma_vdn": Recipe(VDNMethod, (Roles,), summary="ROMA's agents and losses on VDN."),
    "sac": Recipe(SAC),
    "scds": Recipe(
        QMIXMethod,
        (Predictors,),
        summary="SCDS (Liu et al. 2023): CDS whose agents share all parameters; what is left is its reward.",
    ),
    "social_influence": Recipe(
        IPPO,
        (ActionInfluence,),
        InfluenceConfig,
        summary="Social Influence (Jaques et al. 2019): paid for changing what others are expected to do next.",
    ),
    "td3": Recipe(TD3),
    "trpo": Recipe(TRPO),
    "vdn": Recipe(VDNMethod),
}

_PARTS: tuple[type[Part], ...] = (
    ActionInfluence,
    DecisionInfluence,
    Heads,
    Hypernetworks,
    Identities,
    Influencer,
    IntrinsicExploration,
    IntrinsicValues,
    Latent,
    LearnedReward,
    Masks,
    Predictors,
    Recognition,
    Roles,
    SampledRecognition,
    TransitionInfluence,
    UnequalCredits,
)
"""Parts, for pairs that no paper has; of those of one name a backbone takes the first that makes sense on it."""

_SETTINGS = {"a2c", "dqn", "reinforce"}
"""Names for options of another backbone, which parts know by that."""

_PLAIN = {n: one for n, one in _METHODS.items() if not one.parts and n not in _SETTINGS}

BACKBONES = tuple(n for n, one in sorted(_PLAIN.items()) if one.backbone.takes_no_parts is None)
"""Backbones that take them."""

__all__ = [
    "BACKBONES",
    "Method",
    "Recipe",
    "Sizes",
    "backbone_of",
    "make",
    "names",
    "pairs",
    "recipe",
]


def names() -> tuple[str, ...]:
    """All names of the registry, sorted. Pairs (`gre@qplex`) have names besides."""
    return tuple(sorted(_METHODS))


def recipe(name: str) -> Recipe:
    """How the method of a name is made: in the registry, a pair such as `gre@qplex`, or one of your own.

    `package.module:Class` is a method of your own; in a pair it is a part of your own.

    Raises:
        ConfigurationError: if there is no such method, or the pair makes no sense.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"method is {shown(name)}; it must be the name of a method.")
    if "@" in name:
        return compose(name, _PARTS, _PLAIN)
    if own_classes.is_own(name):
        kind: type[Any] = TeamMethod
        return Recipe(own_classes.find(name, kind, "method"))
    if name not in _METHODS:
        raise unknown_name("method", name, _METHODS)
    return _METHODS[name]


def backbone_of(name: str) -> str:
    """Of a pair the name of its backbone; of the registry's methods their own."""
    return name.rpartition("@")[2]


def pairs() -> dict[str, dict[str, str | None]]:
    """By part and backbone, why they make no sense together; None where they do."""
    found: dict[str, dict[str, str | None]] = {}
    for part in sorted({kind.name for kind in _PARTS}):
        found[part] = {}
        for backbone in BACKBONES:
            on = _METHODS[backbone].backbone
            refusals = [kind.refusal(on) for kind in _PARTS if kind.name == part]
            found[part][backbone] = None if None in refusals else refusals[0]
    return found


def make(name: str, env: MultiAgentEnv[Any], **options: Any) -> Method:
    """Makes the method called `name` for an environment.

    Args:
        name: one of `names()`, or a pair.
        env: the task, which gives the sizes.
        **options: fields of the method's `Config`.

    Raises:
        ConfigurationError: if the name or an option is unknown, a value is not allowed, or the method cannot choose
            actions of the task's kind.
    """
    known = recipe(name)
    continuous = env.continuous_actions
    if not known.plays(continuous):
        able = ", ".join(n for n in names() if _METHODS[n].plays(continuous))
        raise ConfigurationError(
            f"the task has {'continuous' if continuous else 'discrete'} actions, which {name} cannot choose; choose "
            f"from: {able}."
        )
    return known(known.Config.from_mapping(options, name), Sizes.of(env))
