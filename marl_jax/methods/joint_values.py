"""Learners with a second value of the joint action that no mixer restricts: QTRAN-base, OW-QMIX and CW-QMIX.

Sources: Son et al. 2019, PyMARL `qtran_learner.py`; Rashid et al. 2020, github.com/oxwhirl/wqmix `max_q_learner.py`.
"""

import dataclasses
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from envs.configuration import Range
from marl_jax.losses import (
    action_values,
    central_weights,
    greedy_values,
    masked_mean,
    optimistic_weights,
    qtran_nopt_loss,
    qtran_opt_loss,
    td_loss,
)
from marl_jax.methods.q_learner import QLearner, QMIXConfig, QMIXMethod, ValueConfig, ValueState
from marl_jax.methods.team import NotNegative, Unit
from marl_jax.networks import CentralMixer, JointValues, Mixed, Params, QTRANJoint
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class QTRANConfig(ValueConfig):
    """Hyper-parameters of QTRAN-base; PyMARL's `qtran.yaml`."""

    joint_embed: Annotated[int, Range(minimum=1)] = 64
    """Units of the joint networks' hidden layers."""
    opt_weight: Annotated[float, NotNegative] = 1.0
    """Weight of L_opt."""
    nopt_weight: Annotated[float, NotNegative] = 0.1
    """Weight of L_nopt."""


@dataclasses.dataclass(frozen=True)
class QTRAN(QLearner):
    """QTRAN-base (Son et al. 2019): a free joint value that the agents' sum must match at its best action."""

    Config: ClassVar = QTRANConfig
    takes_no_parts: ClassVar = "its loss is of several values at once, and parts add to that of one"

    @property
    def joint(self) -> QTRANJoint:
        """Q_jt and V_jt."""
        return QTRANJoint(self.config.joint_embed)

    def init_team(self, key: jax.Array) -> dict[str, Params]:
        """Agents, and the joint value."""
        base_key, joint_key = jax.random.split(key)
        example = self.example()
        hidden = jnp.zeros((self.sizes.num_agents, self.config.hidden_size))
        joint = self.joint.init(joint_key, hidden, example.action, example.state)
        return {**super().init_team(base_key), "joint": joint}

    def _joint(
        self,
        params: dict[str, Params],
        hidden: Float[Array, "T B N H"],
        action: Int[Array, "T B N"],
        state: Float[Array, "T B G"],
    ) -> JointValues:
        one_hot = self.one_hot(action)
        joint: JointValues = self.joint.apply(params["joint"], hidden, one_hot, state)  # type: ignore[assignment]
        return joint

    def loss(
        self, params: dict[str, Params], state: ValueState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, ""], Metrics]:
        """That of the joint value, L_opt and L_nopt."""
        target = state.target
        values = self.values(params, target, batch, key)
        world = self.mixer_state(batch)
        hidden, q = values.hidden[:-1], values.online[:-1]
        taken = self._joint(params, hidden, batch.action, world[:-1])
        greedy = self._joint(params, hidden, values.greedy[:-1], world[:-1])
        ahead = self._joint(target, values.target_hidden[1:], values.chosen[1:], world[1:])
        y = self.targets(batch, ahead.q)
        mask = batch.valid.astype(y.dtype)
        td = td_loss(taken.q, y, mask)
        best = greedy_values(q, batch.action_mask[:-1])
        opt = qtran_opt_loss(best, greedy.q, taken.v, mask)
        nopt = qtran_nopt_loss(action_values(q, batch.action), taken.q, taken.v, mask)
        metrics = {
            "td_loss": td,
            "opt_loss": opt,
            "nopt_loss": nopt,
            "q_tot": masked_mean(taken.q, mask),
        }
        return td + self.config.opt_weight * opt + self.config.nopt_weight * nopt, metrics


@dataclasses.dataclass(frozen=True)
class WQMIXConfig(QMIXConfig):
    """Hyper-parameters of weighted QMIX; the authors' `ow_qmix.yaml`, `cw_qmix.yaml`."""

    weighting: Literal["optimistic", "central"] = "optimistic"
    """Which errors count less. optimistic: those of joint actions held too good (OW-QMIX). central: those of joint
    actions neither greedy nor better than it (CW-QMIX)."""
    alpha: Annotated[float, Unit] = 0.1
    """Weight of the errors that count less; 0.5 in the authors' example for SMAC."""
    central_hidden: Annotated[int, Range(minimum=1)] = 256
    """Units of the unrestricted mixer's hidden layers."""


@dataclasses.dataclass(frozen=True)
class WQMIX(QMIXMethod):
    """Weighted QMIX (Rashid et al. 2020): weighted errors towards targets of an unrestricted Q* with its own agents."""

    Config: ClassVar[type[ValueConfig]] = WQMIXConfig
    takes_no_parts: ClassVar = "its loss is of several values at once, and parts add to that of one"

    @property
    def central_mixer(self) -> CentralMixer:
        """Q* of the central agents' values."""
        return CentralMixer(self.config.central_hidden)

    def init_team(self, key: jax.Array) -> dict[str, Params]:
        """QMIX's, and those of Q*."""
        base_key, agent_key, mixer_key = jax.random.split(key, 3)
        return {
            **super().init_team(base_key),
            "central_agent": self.agents.init(agent_key),
            "central_mixer": self.central_mixer.init(mixer_key, self.example()),
        }

    def _central(
        self,
        params: dict[str, Params],
        q: Float[Array, "T B N A"],
        action: Int[Array, "T B N"],
        mask: Bool[Array, "T B N A"],
        state: Float[Array, "T B G"],
    ) -> Float[Array, "T B"]:
        """Q*(s, action), from the central agents' values `q`."""
        inputs = self.mixer_inputs(q, action, mask, state)
        mixed: Mixed = self.central_mixer.apply(params["central_mixer"], inputs)  # type: ignore[assignment]
        return mixed.q_tot

    def loss(
        self, params: dict[str, Params], state: ValueState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, ""], Metrics]:
        """The weighted errors of Q_tot, and those of Q*."""
        target = state.target
        keys = jax.random.split(key, 4)
        values = self.values(params, target, batch, keys[0])
        q_tot = self.mix(params, self.in_order(self.taken(values, batch), keys[1])).q_tot
        _, central = self.unroll(params["central_agent"], batch, keys[2])
        ahead = self.unroll(target["central_agent"], batch, keys[3])
        _, delayed = jax.lax.stop_gradient(ahead)
        mask, world = batch.action_mask, self.mixer_state(batch)
        central_q = self._central(params, central[:-1], batch.action, mask[:-1], world[:-1])
        greedy_q = self._central(target, delayed[:-1], values.greedy[:-1], mask[:-1], world[:-1])
        next_q = self._central(target, delayed[1:], values.chosen[1:], mask[1:], world[1:])
        y = jax.lax.stop_gradient(self.targets(batch, next_q))
        valid = batch.valid.astype(y.dtype)
        if self.config.weighting == "optimistic":
            weight = optimistic_weights(q_tot, y, self.config.alpha)
        else:
            weight = central_weights(
                batch.action, values.greedy[:-1], y, greedy_q, self.config.alpha
            )
        td, central_td = td_loss(q_tot, y, valid, weight), td_loss(central_q, y, valid)
        metrics = {
            "td_loss": td,
            "central_td_loss": central_td,
            "weight": masked_mean(weight, valid),
            "q_tot": masked_mean(q_tot, valid),
        }
        return td + central_td, metrics
