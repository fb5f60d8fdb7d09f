"""EITI and EDTI: exploration for the sake of one's influence on others' transitions.

Paper: Wang et al. 2020, "Influence-Based Multi-Agent Exploration". Authors' code: github.com/TonghanWang/EITI-EDTI, on
OpenAI Baselines' ppo2.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from envs.configuration import Config, ConfigurationError, Range
from marl_jax.hashing import count_keys, count_table, find_keys, row_hash, row_keys
from marl_jax.lengths import longest_of, scan_while
from marl_jax.losses import masked_mean, transition_influence
from marl_jax.methods.base import Sizes
from marl_jax.methods.mappo import IPPOConfig
from marl_jax.methods.part import Episodes, Paid, Part
from marl_jax.methods.ppo import Experience, only_ppo
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import Sharing
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class InfluenceConfig(IPPOConfig):
    """Independent PPO as EITI's authors run it (README, `ppo2/ppo2.py`)."""

    batch_steps: Annotated[int, Range(minimum=1)] = 9600
    """Environment steps of an iteration, if its episodes last until the time limit; rounded to whole episodes: 32 of
    Push-Box. The authors learn from 2048 steps of 32 environments, whatever the episodes' length."""
    agent: Literal["gru", "mlp"] = "mlp"
    """Network of one agent: feed-forward; or recurrent, with minibatches of episodes and hidden_layers left alone."""
    hidden_size: Annotated[int, Range(minimum=1)] = 32
    """Units of the agent network."""
    hidden_layers: Annotated[int, Range(minimum=1)] = 3
    """Hidden layers of a feed-forward agent."""
    activation: Literal["relu", "tanh"] = "tanh"
    """Activation of feed-forward agents and critics."""
    sharing: Sharing = "independent"
    """Whether agents share parameters or have their own."""
    observe_last_action: bool = False
    """Whether an agent sees its own last action."""
    observe_identity: bool = False
    """Whether an agent sees which one it is."""
    critic_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (32, 32, 32)
    """Units of the critic's hidden layers; of a recurrent critic, its only number is that of its memory."""
    critic_trunk: Literal["shared", "separate"] = "separate"
    """Where a method learns several values: heads of one network, or a network each."""
    normalise_advantage: Literal["batch", "agent", "minibatch"] = "agent"
    """Over what advantages of living agents get mean 0 and deviation 1: over the iteration; over the iteration, every
    agent by itself; or over a minibatch. The authors' one minibatch is the iteration."""
    epochs: Annotated[int, Range(minimum=1)] = 4
    """Passes over an iteration's episodes."""
    minibatches: Annotated[int, Range(minimum=1)] = 1
    """Parts of each pass, one gradient step each."""
    minibatch_unit: Literal["episodes", "steps"] = "steps"
    """What a minibatch is made of: whole episodes; or, with feed-forward networks, single steps. Minibatches of steps
    keep their size, so where episodes end early there are fewer, at least one; the authors play on until an iteration
    is full."""
    lr: Annotated[float, Positive] = 3e-4
    """Learning rate at the start (Adam)."""
    lr_final: Annotated[float, NotNegative] = 3e-4
    """Learning rate in the end."""
    max_grad_norm: Annotated[float, NotNegative] = 0.5
    """Norm to which the gradients of policies and of values are clipped, each by itself; 0 for never. The authors clip
    an agent's policy and value together."""
    value_weight: Annotated[float, NotNegative] = 0.5
    """Weight of the values' halved squared errors."""
    value_normalisation: bool = False
    """Whether values are learned in units of the returns' running mean and deviation (ValueNorm). Without it (the
    authors) a network takes thousands of steps to put out hundreds."""
    value_clip: Annotated[float, NotNegative] = 0.2
    """How far a value may depart from its old one before the loss says no more, in the network's units; 0 for no limit.
    Without value_normalisation values then move hardly more than this in an iteration, so that where returns are in the
    hundreds they need thousands of iterations to get there."""
    entropy_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the policies' entropy at the start, in nats."""
    entropy_weight_final: Annotated[float, NotNegative] = 0.1
    """Weight of the policies' entropy in the end."""


@dataclasses.dataclass(frozen=True)
class CountingOptions(Config):
    """Options of EITI (README and `Curiosity.py` of the authors)."""

    curiosity_weight: Annotated[float, NotNegative] = 10.0
    """Weight of the reward for rarely visited states (eta)."""
    influence_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the influence on others (beta_T in EITI, beta in EDTI). The authors set one for each task, which is not
    in their code."""
    table_bits: Annotated[int, Range(minimum=1, maximum=28)] = 20
    """Each of the three counts of single agents has a table for 2 to the power of this many different things (8 bytes
    each, for every seed). What finds no room is not counted: nobody is paid for such a state."""
    joint_table_bits: Annotated[int, Range(minimum=1, maximum=28)] = 23
    """The same for the two counts of pairs of agents, of which there are far more, up to N (N - 1) a step for N agents:
    134 MB for every seed. A pair that finds no room has no influence. table_load, among the metrics, is how full
    the table of pairs' outcomes is: a quarter full it has lost 0.5% of the pairs, half full 4%."""


class Counts(NamedTuple):
    """How often what was met, in all environments together: tables of `count_keys`, or keys.

    Attributes:
        visits: states of each agent.
        contexts: an agent's state and action.
        outcomes: an agent's state, action and displacement.
        joint_contexts: an agent's state and action, and another one's.
        joint_outcomes: and the first one's displacement.
    """

    visits: UInt32[Array, "... 2"]
    contexts: UInt32[Array, "... 2"]
    outcomes: UInt32[Array, "... 2"]
    joint_contexts: UInt32[Array, "... 2"]
    joint_outcomes: UInt32[Array, "... 2"]


def require_a_team(sizes: Sizes) -> None:
    """Refuses a single agent, and actions that are no choices.

    Raises:
        ConfigurationError: if there is nobody to influence, or nothing to choose.
    """
    if sizes.num_agents < 2:
        raise ConfigurationError("the task has 1 agent; influence needs at least 2.")
    if sizes.continuous:
        raise ConfigurationError(
            "the task has continuous actions; influence is that of one action among several."
        )


@dataclasses.dataclass(frozen=True)
class TransitionInfluence(Part):
    """EITI's part: agents are paid for rarely visited states and for the influence on others' transitions.

    An agent's state is what of its view is about itself and the things around (`MultiAgentEnv.own_features`); the
    outcome of a step is where that moves its own body (`MultiAgentEnv.body_features`), as in the authors' code, which
    counts displacements. Both are counted in tables. Who is dead is neither counted nor paid.
    """

    name: ClassVar = "eiti"
    Options: ClassVar[type[Config]] = CountingOptions

    def check(self) -> None:
        """Refuses a single agent."""
        require_a_team(self.core.sizes)

    @property
    def pairs(self) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """All pairs of different agents, i and j."""
        i, j = np.nonzero(~np.eye(self.core.sizes.num_agents, dtype=bool))
        return i, j

    def start(self, key: jax.Array) -> Counts:
        """Empty tables."""
        del key
        c = self.config
        return Counts(*map(count_table, 3 * (c.table_bits,) + 2 * (c.joint_table_bits,)))

    def rewards(
        self,
        state: Counts,
        experience: Episodes,
        paid: Float[Array, "T B N"],
        env_steps: Int[Array, ""],
    ) -> tuple[Counts, Paid]:
        """Task, curiosity and influence together; then, if they are values too, the task's and curiosity alone."""
        del env_steps
        c, task, mask = self.config, experience.batch.reward, experience.alive
        state, rarity, influence = self.count(state, experience.batch, mask > 0)
        curiosity = c.curiosity_weight * rarity
        bonus = c.influence_weight * self.worth(influence, experience)
        said = self._said(state, curiosity, bonus, mask)
        values = (task, curiosity)[: len(self.values)]
        return state, Paid(paid + curiosity + bonus, curiosity + bonus, said, values)

    def _said(
        self,
        counts: Counts,
        curiosity: Float[Array, "T B N"],
        bonus: Float[Array, "T B N"],
        mask: Float[Array, "T B N"],
    ) -> Metrics:
        """What was paid, and how full the largest table is."""
        return {
            "curiosity": masked_mean(curiosity, mask),
            "influence_bonus": masked_mean(bonus, mask),
            # Of a part: hashes spread evenly, and to read a large table takes longer than to learn.
            "table_load": jnp.mean(counts.joint_outcomes[: 1 << 16, 0] > 0),
        }

    def watch(self, state: Any, own: Counts, fresh: EpisodeBatch) -> tuple[Counts, Metrics]:
        """Counts what was met, where episodes are learned from more than once."""
        del state
        alive = fresh.alive[:-1] & fresh.valid[..., None]
        own, rarity, influence = self.count(own, fresh, alive)
        c, mask = self.config, alive.astype(rarity.dtype)
        paid = (c.curiosity_weight * rarity, c.influence_weight * influence.sum(-1))
        return own, self._said(own, *paid, mask)

    def bonus(self, learning: Any) -> tuple[float, Float[Array, "T B N"]]:
        """Curiosity and influence of steps that were counted before, by what has been counted until now."""
        c, batch = self.config, learning.batch
        own = learning.state.parts[self.core.parts.index(self)]
        met = Counts(*map(find_keys, own, self.keys(batch)))
        n, (i, j) = self.core.sizes.num_agents, self.pairs
        alive = batch.alive[:-1] & batch.valid[..., None]
        rarity = jnp.where(met.visits > 0, jnp.maximum(met.visits, 1) ** -0.5, 0.0) * alive
        of_pairs = (
            met.contexts[..., j],
            met.outcomes[..., j],
            met.joint_contexts,
            met.joint_outcomes,
        )
        influence = transition_influence(*(x.astype(jnp.float32) for x in of_pairs))
        # Of a step that stands alone nobody knows whether it is an episode's first.
        first = (jnp.arange(len(alive))[:, None] == 0) & (len(alive) > 1)
        if batch.rows is not None:
            first = batch.rows.start[:-1]
        counts = alive[..., i] & alive[..., j] & ~first[..., None]
        each = jnp.zeros((*alive.shape, n)).at[..., i, j].set(influence * counts)
        return 1.0, c.curiosity_weight * rarity + c.influence_weight * each.sum(-1)

    def worth(self, influence: Float[Array, "T B N N"], experience: Any) -> Float[Array, "T B N"]:
        """Influence on all others."""
        del experience
        return jnp.sum(influence, axis=-1)

    def keys(self, batch: EpisodeBatch) -> Counts:
        """What each step is counted as: [T, B, N, 2] of each agent, [T, B, P, 2] of each pair."""
        sizes, t = self.core.sizes, batch.action.shape[0]

        def seen(features: tuple[tuple[bool, ...], ...]) -> UInt32[Array, "T+1 B N"]:
            return row_hash(jnp.where(jnp.array(features), batch.observation, 0.0))

        state, body = seen(sizes.own_features), seen(sizes.body_features)
        agents = jnp.arange(sizes.num_agents, dtype=jnp.uint32)
        who = jnp.broadcast_to(agents, batch.action.shape)

        def keys(*parts: jax.Array) -> UInt32[Array, "T B _ 2"]:
            return row_keys(jnp.stack([p.astype(jnp.uint32) for p in parts], axis=-1))

        each = (who, state[:t], batch.action)
        # From one state, other places are other displacements.
        outcome = body[1:]
        i, j = self.pairs
        pair = (*(x[..., j] for x in each), *(x[..., i] for x in each))
        return Counts(
            keys(who, state[1:]),
            keys(*each),
            keys(*each, outcome),
            keys(*pair),
            keys(*pair, outcome[..., j]),
        )

    def count(
        self, counts: Counts, batch: EpisodeBatch, alive: Bool[Array, "T B N"]
    ) -> tuple[Counts, Float[Array, "T B N"], Float[Array, "T B N N"]]:
        """Goes through the steps in order, all environments at once.

        Returns:
            The counts after them; 1 / sqrt(visits + 1) of each state reached, before it is counted; and the influence
            of agent i on agent j's transition, which is counted first; 0 at an episode's first step, as in the code.
        """
        n = self.core.sizes.num_agents
        i, j = self.pairs

        def step(
            counts: Counts, now: tuple[Counts, Bool[Array, "B N"]]
        ) -> tuple[Counts, tuple[Float[Array, "B N"], Float[Array, "B N N"]]]:
            keys, alive = now
            both = alive[:, i] & alive[:, j]
            counted = Counts(alive, alive, alive, both, both)
            each = [count_keys(*x) for x in zip(counts, keys, counted, strict=True)]
            counts, met = (Counts(*parts) for parts in zip(*each, strict=True))
            here = keys.visits
            same = jnp.all(here[:, None] == here, axis=-1) & alive
            before = jnp.maximum(met.visits - jnp.sum(same, axis=1), 0)
            # A state without a slot would be new for ever.
            rarity = jnp.where(met.visits > 0, (before + 1.0) ** -0.5, 0.0)
            alone = met.contexts[:, j], met.outcomes[:, j]
            of_pairs = *alone, met.joint_contexts, met.joint_outcomes
            influence = transition_influence(*(x.astype(jnp.float32) for x in of_pairs))
            return counts, (rarity, jnp.zeros((len(alive), n, n)).at[:, i, j].set(influence))

        longest = longest_of(batch.valid)
        counts, (rarity, influence), _ = scan_while(
            step, counts, (self.keys(batch), alive), lambda time, _: time < longest
        )
        return counts, rarity, influence.at[0].set(0.0)


@dataclasses.dataclass(frozen=True)
class WorthOptions(CountingOptions):
    """Options of EDTI (README of the authors)."""

    extrinsic_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the other's expected reward from the task in the value of an interaction (beta_ext). It is paid at
    every step: where a task ends when it is solved, 0 keeps agents from putting that off (see
    `experiments/results/alita`)."""
    intrinsic_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the other's expected curiosity (beta_int)."""


@dataclasses.dataclass(frozen=True)
class DecisionInfluence(TransitionInfluence):
    """EDTI's part: influence counts as much as the state is worth to which it brings the other."""

    name: ClassVar = "edti"
    Options: ClassVar[type[Config]] = WorthOptions

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """It asks a critic what states are worth."""
        return only_ppo(backbone) and (
            "it asks what states are worth of values that only the PPO core learns: ippo, mappo, happo, trpo or hatrpo"
        )

    @property
    def values(self) -> tuple[str, ...]:
        """Those of the task's reward and of curiosity."""
        return ("extrinsic", "curiosity")

    def worth(
        self, influence: Float[Array, "T B N N"], experience: Experience
    ) -> Float[Array, "T B N"]:
        """Gamma sum_j c_ij (beta_ext V_j^ext(s') + beta_int V_j^cur(s')).

        A terminal s' is worth nothing; at a time limit it is the last observation. In either case the authors' code has
        the value of the next episode's first observation.
        """
        c = self.config
        extrinsic, curiosity = jnp.moveaxis(self.core.values_of(self, experience)[1:], -1, 0)
        worth = c.extrinsic_weight * extrinsic + c.intrinsic_weight * curiosity
        worth = c.gamma * experience.batch.discount * worth
        return jnp.sum(influence * worth[..., None, :], axis=-1)
