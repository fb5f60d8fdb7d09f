"""The methods by name."""

from typing import Any

from envs.base import MultiAgentEnv
from envs.configuration import ConfigurationError, unknown_name
from marl_jax.methods.actor_critic import COMA, IAC, CentralV
from marl_jax.methods.alita import ALITA
from marl_jax.methods.base import Method, Sizes
from marl_jax.methods.credit_assignment import CIA, CIAQPLEX, GRE
from marl_jax.methods.diversity import CDS, MAVEN, SCDS
from marl_jax.methods.individuality import EOI
from marl_jax.methods.influence import EDTI, EITI
from marl_jax.methods.joint_values import CWQMIX, OWQMIX, QTRAN
from marl_jax.methods.liir import LIIR
from marl_jax.methods.maac import DIAYN, EOIMAAC, MAAC
from marl_jax.methods.maddpg import DDPG, MADDPG
from marl_jax.methods.mappo import HAPPO, IPPO, MAPPO
from marl_jax.methods.roma import ROMA, ROMAQPLEX, ROMAVDN
from marl_jax.methods.social_influence import SocialInfluence
from marl_jax.methods.team import TeamMethod
from marl_jax.methods.value_decomposition import IQL, QMIXMethod, QPLEXMethod, VDNMethod

_METHODS: dict[str, type[TeamMethod]] = {
    "alita": ALITA,
    "cds": CDS,
    "central_v": CentralV,
    "cia": CIA,
    "cia_qplex": CIAQPLEX,
    "coma": COMA,
    "cw_qmix": CWQMIX,
    "ddpg": DDPG,
    "diayn": DIAYN,
    "edti": EDTI,
    "eiti": EITI,
    "eoi": EOI,
    "eoi_maac": EOIMAAC,
    "gre": GRE,
    "happo": HAPPO,
    "iac": IAC,
    "ippo": IPPO,
    "iql": IQL,
    "liir": LIIR,
    "maac": MAAC,
    "maddpg": MADDPG,
    "mappo": MAPPO,
    "maven": MAVEN,
    "ow_qmix": OWQMIX,
    "qmix": QMIXMethod,
    "qplex": QPLEXMethod,
    "qtran": QTRAN,
    "roma": ROMA,
    "roma_qplex": ROMAQPLEX,
    "roma_vdn": ROMAVDN,
    "scds": SCDS,
    "social_influence": SocialInfluence,
    "vdn": VDNMethod,
}

__all__ = ["Method", "Sizes", "make", "method_class", "names"]


def names() -> tuple[str, ...]:
    """All names that `make` knows, sorted."""
    return tuple(sorted(_METHODS))


def method_class(name: str) -> type[TeamMethod]:
    """The class behind a name.

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
    cls = method_class(name)
    if env.continuous_actions and not cls.continuous:
        able = ", ".join(n for n in names() if _METHODS[n].continuous)
        raise ConfigurationError(
            f"the task has continuous actions, which {name} cannot choose; choose from: {able}."
        )
    return cls(cls.Config.from_mapping(options, name), Sizes.of(env))
