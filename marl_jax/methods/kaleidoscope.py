"""Kaleidoscope: one set of weights, of which every agent learns a mask.

Paper: Li, Pan and Zhang 2024, "Kaleidoscope: Learnable Masks for Heterogeneous Multi-agent Reinforcement Learning".
Authors' code: github.com/LXXXXR/Kaleidoscope `n_rnn_agent.py`, `Kalei_nq_learner.py` (StarCraft) and
`Kalei_q_learner.py` (MPE). Their masks are per agent in MPE, as here, and per type of unit in StarCraft. Their mean
losses are over the last steps and this one; here they are over the steps before.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int

from envs.configuration import Config, Range
from marl_jax.lengths import of_all
from marl_jax.methods.part import Part, PlainAgents
from marl_jax.methods.ppo import PPO
from marl_jax.methods.team import NotNegative, Unit
from marl_jax.networks import Params, TeamAgent
from marl_jax.types import Metrics

HISTORY = 100
"""Losses that the diversity's weight is a mean over."""
Path = tuple[str, ...]
"""Where a layer's weights are in a tree of parameters."""


@dataclasses.dataclass(frozen=True)
class MaskOptions(Config):
    """Options of Kaleidoscope; defaults are its authors' on MPE (`Kalei_qmix_rnn_1R3.yaml`)."""

    diversity_weight: Annotated[float, NotNegative] = 0.5
    """How large the diversity's term is beside the loss of the values (beta): its weight is this times the ratio of
    their means. Authors: 0.5 in MPE, 5 in StarCraft."""
    reset_interval: Annotated[int, Range(minimum=1)] = 200_000
    """Environment steps between two resets. Authors: 200,000 in MPE, 1,000,000 in StarCraft."""
    reset_ratio: Annotated[float, Unit] = 0.1
    """Probability that a weight which all agents mask is drawn anew then. Authors: 0.1 in MPE, 0.2 in StarCraft."""
    reset_until: Annotated[int, NotNegative] = 800_000
    """Environment steps after which nothing is reset any more, so that no run ends with fresh weights. Authors: the
    steps of the whole run less reset_interval, which this is for a run of a million."""


def masked_weights(
    weights: Float[Array, "I O"], thresholds: Float[Array, "N I O"]
) -> Float[Array, "N I O"]:
    """sign(W) max(|W| - sigmoid(s_i), 0): each agent's weights."""
    kept = jax.nn.relu(jnp.abs(weights) - jax.nn.sigmoid(thresholds))
    return jnp.sign(weights) * kept


def masks(weights: Float[Array, "I O"], thresholds: Float[Array, "N I O"]) -> Float[Array, "N I O"]:
    """M_i: 1 where |W| exceeds sigmoid(s_i), else 0, with the slope of -sigmoid(s_i); none in W.

    The slope is straight through. The authors pass on its tanh, which is the same for slopes as small as these.
    """
    margin = jnp.abs(jax.lax.stop_gradient(weights)) - jax.nn.sigmoid(thresholds)
    return jnp.where(margin > 0, 1.0, 0.0) + (margin - jax.lax.stop_gradient(margin))


def mask_distance(
    weights: Float[Array, "I O"], thresholds: Float[Array, "N I O"]
) -> Float[Array, ""]:
    """Sum over ordered pairs of agents of ||(M_i - M_j) |W|||_1, with a slope in the thresholds only."""
    masks_of = masks(weights, thresholds)
    n = len(thresholds)
    # The sum over j of sign(M_i - M_j), without an array of pairs; M_i times it, summed, is half of the distance.
    differing = n * masks_of - masks_of.sum(axis=0)
    per_weight = 2.0 * jnp.sum(masks_of * jax.lax.stop_gradient(differing), axis=0)
    return jnp.sum(per_weight * jnp.abs(jax.lax.stop_gradient(weights)))


def diversity(layers: list[tuple[Float[Array, "I O"], Float[Array, "N I O"]]]) -> Float[Array, ""]:
    """How far the agents' masks are apart: the distance of two in the mean, for each masked weight.

    A layer counts twice as much as the one before.

    Args:
        layers: weights and thresholds, the first layer's first.
    """
    agents = len(layers[0][1])
    pairs = max(1, agents * (agents - 1))
    total = sum(2.0**k * mask_distance(*layer) for k, layer in enumerate(layers))
    return jnp.asarray(total) / pairs / sum(weights.size for weights, _ in layers)


@dataclasses.dataclass(frozen=True)
class MaskedAgents(PlainAgents):
    """Agents that share weights, of which each sees those that its own mask leaves.

    Masks are on all layers but the memory's; biases have none.
    """

    def init(self, key: jax.Array) -> dict[str, Params]:
        """The weights, and the thresholds of each agent's masks: -(5 + 5 U[0, 1])."""
        weights_key, mask_key = jax.random.split(key)
        weights = self.team.init(weights_key, self.input_size)
        kernels = {path: x for path, x in flatten_dict(weights).items() if path[-1] == "kernel"}
        thresholds = {}
        for (path, x), k in zip(
            sorted(kernels.items()), jax.random.split(mask_key, len(kernels)), strict=True
        ):
            drawn = jax.random.uniform(k, (self.team.num_agents, *x.shape))
            thresholds[path] = -(5.0 + 5.0 * drawn)
        return {"weights": weights, "thresholds": unflatten_dict(thresholds)}

    def layers(self, params: Params) -> dict[Path, tuple[jax.Array, jax.Array]]:
        """Weights and thresholds of the masked layers, the first layer's first."""
        weights, thresholds = (flatten_dict(params[name]) for name in ("weights", "thresholds"))
        return {path: (weights[path], thresholds[path]) for path in sorted(thresholds)}

    def networks(self, params: Params) -> tuple[TeamAgent, Params]:
        """The agents' networks with parameters that partly are their own, and these."""
        shared = flatten_dict(params["weights"])
        own = {path: masked_weights(*layer) for path, layer in self.layers(params).items()}
        axes = unflatten_dict({path: 0 if path in own else None for path in shared})
        team = dataclasses.replace(self.team, sharing="independent", axes=axes)
        return team, unflatten_dict({**shared, **own})

    def reset(self, params: Params, ratio: float, key: jax.Array) -> Params:
        """Draws weights that all agents mask anew, and their thresholds; each with probability `ratio`.

        Those of the first layer stay.
        """
        fresh_key, key = jax.random.split(key)
        fresh = self.layers(self.init(fresh_key))
        weights, thresholds = (flatten_dict(params[name]) for name in ("weights", "thresholds"))
        layers = list(self.layers(params).items())[1:]
        for (path, layer), k in zip(layers, jax.random.split(key, len(layers)), strict=True):
            nobodys = jnp.all(masks(*layer) == 0, axis=0)
            drawn = nobodys & (jax.random.uniform(k, nobodys.shape) < ratio)
            weights[path], thresholds[path] = (
                jnp.where(drawn, new, old) for new, old in zip(fresh[path], layer, strict=True)
            )
        return {"weights": unflatten_dict(weights), "thresholds": unflatten_dict(thresholds)}


class MaskState(NamedTuple):
    """What Kaleidoscope counts.

    Attributes:
        value_losses: the last losses of the values, by the number of the step modulo their number; 0 where none was.
        diversities: the last diversities, likewise.
        steps: how many there were.
        reset_at: environment steps at the last reset.
    """

    value_losses: Float[Array, " K"]
    diversities: Float[Array, " K"]
    steps: Int[Array, ""]
    reset_at: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Masks(Part):
    """Kaleidoscope's agents, the loss that drives their masks apart, and the resets.

    The diversity's weight follows the loss of the values: the Q-learner's temporal-difference loss, or on the PPO core
    the critic's, of which it is the like (ours). The loss of policies has no size that would do: its advantages have
    the mean 0.
    """

    name: ClassVar = "kaleidoscope"
    Options: ClassVar = MaskOptions
    fixed: ClassVar = {"sharing": "shared"}

    @classmethod
    def defaults_on(cls, backbone: type) -> Mapping[str, Any]:
        """Its authors' two layers more behind the memory; first policies with weights above their thresholds (ours)."""
        more = {"policy_gain": 0.1} if issubclass(backbone, PPO) else {}
        return {"head_sizes": (64, 64), **more}

    @classmethod
    def needs_on(cls, backbone: type) -> Mapping[str, Any]:
        """Masks make shared weights differ; what follows a memory is masked, too."""
        whole = {"minibatch_unit": "episodes"} if issubclass(backbone, PPO) else {}
        return {**cls.fixed, "agent": "gru", **whole}

    @property
    def agents(self) -> MaskedAgents:
        """Agents with masks."""
        return MaskedAgents(self.core.agent, self.core.agent_input_size)

    @property
    def names(self) -> tuple[str, str]:
        """What the backbone calls its agents' parameters, and the loss of its values."""
        return ("actor", "value_loss") if isinstance(self.core, PPO) else ("agent", "td_loss")

    def start(self, key: jax.Array) -> MaskState:
        """Nothing yet."""
        del key
        none, zero = jnp.zeros((HISTORY,)), jnp.zeros((), jnp.int32)
        return MaskState(none, none, zero, zero)

    def weight(self, state: MaskState) -> Float[Array, ""]:
        """Of the diversity in the loss."""
        beta, total = self.config.diversity_weight, state.diversities.sum()
        return jnp.where(total > 0, beta * state.value_losses.sum() / total, beta)

    def loss(self, learning: Any) -> tuple[jax.Array, Metrics]:
        """Minus the weighted diversity; also logs the share of masked weights."""
        steps = learning.steps
        layers = list(self.agents.layers(steps.network).values())
        apart = diversity(layers)
        weight = self.weight(steps.parts[self.core.parts.index(self)])
        flat = jnp.concatenate([masks(*layer).ravel() for layer in layers])
        return -weight * apart, {
            "diversity": apart,
            "diversity_weight": weight,
            "sparsity": 1.0 - jnp.mean(flat),
        }

    def settle(
        self,
        state: MaskState,
        params: dict[str, Params],
        metrics: Metrics,
        env_steps: Int[Array, ""],
        key: jax.Array,
    ) -> tuple[MaskState, dict[str, Params]]:
        """Keeps the losses; resets weights when it is time."""
        c, slot = self.config, state.steps % HISTORY
        agents, value_loss = self.names
        due = (env_steps - state.reset_at >= c.reset_interval) & (env_steps <= c.reset_until)

        def reset(own: Params) -> Params:
            new = self.agents.reset(own, c.reset_ratio, key)
            return jax.tree.map(lambda x, old: jnp.where(due, x, old), new, own)

        # Without the work where no seed's is due.
        anyone = of_all(due.astype(jnp.int32)) > 0
        kept = jax.lax.cond(anyone, reset, lambda own: own, params[agents])
        after = MaskState(
            state.value_losses.at[slot].set(metrics[value_loss]),
            state.diversities.at[slot].set(metrics["diversity"]),
            state.steps + 1,
            jnp.where(due, env_steps, state.reset_at),
        )
        return after, {**params, agents: kept}
