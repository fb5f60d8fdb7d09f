"""Independent PPO, and what explores with it: EITI, EDTI and Social Influence.

Papers: Schulman et al. 2017 (PPO); Wang et al. 2020, "Influence-Based Multi-Agent Exploration" (EITI, EDTI); Jaques et
al. 2019, "Social Influence as Intrinsic Motivation". Authors' code: github.com/TonghanWang/EITI-EDTI (on OpenAI
Baselines' ppo2), github.com/eugenevinitsky/sequential_social_dilemma_games.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from envs.base import Observation
from envs.configuration import ConfigurationError, Range
from marl_jax.distributions import greedy_action, masked_categorical
from marl_jax.hashing import count_keys, count_table, row_hash, row_keys
from marl_jax.losses import (
    clipped_surrogate_loss,
    clipped_value_loss,
    lambda_returns,
    masked_mean,
    normalise,
    social_influence,
    transition_influence,
)
from marl_jax.methods.team import NotNegative, Positive, SingleStepMethod, TeamConfig, Unit
from marl_jax.networks import MLP, Params, Sharing, apply_per_agent
from marl_jax.optimizers import make_optimizer
from marl_jax.replay import ReplayState
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class IPPOConfig(TeamConfig):
    """Hyper-parameters of independent PPO: those with which EITI's authors run it (README, `ppo2/ppo2.py`)."""

    num_envs: Annotated[int, Range(minimum=1)] = 32
    """Environments played side by side; every iteration learns from one episode of each. The authors learn from 2048
    steps of each, whatever the episodes' length."""
    agent: Literal["mlp"] = "mlp"
    """Network of one agent: feed-forward."""
    hidden_size: Annotated[int, Range(minimum=1)] = 32
    """Units of each hidden layer (tanh) of policies and of values."""
    hidden_layers: Annotated[int, Range(minimum=1)] = 3
    """How many hidden layers they have."""
    sharing: Sharing = "independent"
    """Whether agents share parameters or have their own."""
    observe_last_action: Literal[False] = False
    """Not possible: what is learned from are single steps."""
    observe_identity: bool = False
    """Whether an agent sees which one it is."""
    gamma: Annotated[float, Unit] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, Unit] = 0.95
    """Lambda of the generalised advantages."""
    clip: Annotated[float, Positive] = 0.2
    """How far the probability ratio may depart from 1, and a value from its old one."""
    clip_values: bool = True
    """Whether values are clipped too, as the authors have it. They then move hardly more than `clip` in an iteration,
    so that where returns are in the hundreds they need thousands of iterations to get there."""
    epochs: Annotated[int, Range(minimum=1)] = 4
    """Passes over an iteration's steps."""
    minibatches: Annotated[int, Range(minimum=1)] = 1
    """Parts of each pass, one gradient step each, if episodes last until the time limit. Parts keep their size: where
    episodes end early there are fewer, at least one. The authors play on until an iteration is full."""
    lr: Annotated[float, Positive] = 3e-4
    """Learning rate (Adam)."""
    max_grad_norm: Annotated[float, NotNegative] = 0.5
    """Norm to which each network's gradient is clipped; 0 for never. The authors clip policy and value together."""
    value_weight: Annotated[float, NotNegative] = 0.5
    """Weight of the values' loss."""
    value_scale: Annotated[float, Positive] = 1.0
    """Values are so many times what their networks put out, and their losses divided by its square. Without it (the
    authors) a network takes thousands of steps to put out hundreds."""
    entropy_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the policies' entropy, in nats."""


class PPOState(NamedTuple):
    """All that a learner learns and counts.

    Attributes:
        params: parameters by part ("actor", "critic", and what a method adds).
        optimizer: optimiser states by part.
        env_steps: environment steps taken.
        memory: what a method remembers besides, such as counts.
    """

    params: dict[str, Params]
    optimizer: dict[str, optax.OptState]
    env_steps: Int[Array, ""]
    memory: Any = ()


class Lessons(NamedTuple):
    """What is learned from: [T, B, N], or single steps [M, N].

    Attributes:
        inputs: what agents see.
        action_mask: what they may do.
        action: what they did.
        log_prob: its log-probability then.
        advantage: how good it was.
        value: by part, the values then.
        returns: by part, what the values should have been.
        mask: 1 on the steps that count.
        more: what a method adds.
    """

    inputs: jax.Array
    action_mask: jax.Array
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    value: dict[str, jax.Array]
    returns: dict[str, jax.Array]
    mask: jax.Array
    more: Any


@dataclasses.dataclass(frozen=True)
class IPPO(SingleStepMethod):
    """Independent PPO (Schulman et al. 2017): every agent learns a policy and a value of what it sees itself.

    Values go on past a time limit, as everywhere in this library; EITI's code ends them there.
    """

    Config: ClassVar[type[IPPOConfig]] = IPPOConfig
    # Values, each with a reward of its own; the policies learn from the first.
    values: ClassVar[tuple[str, ...]] = ("critic",)

    def __post_init__(self) -> None:
        steps = self.config.num_envs * self.sizes.time_limit
        if self.config.minibatches > steps:
            raise ConfigurationError(
                f"minibatches is {self.config.minibatches}; it must be at most {steps}, the steps of an iteration."
            )

    def _network(self, outputs: int, output_gain: float = 1.0) -> MLP:
        """Drawn as OpenAI Baselines draw it."""
        hidden = (self.config.hidden_size,) * self.config.hidden_layers
        sizes, gains = (*hidden, outputs), (2**0.5, output_gain)
        return MLP(sizes, activation=nn.tanh, initialization="orthogonal", gains=gains)

    @property
    def _parts(self) -> dict[str, tuple[MLP, int]]:
        """Every part's network and what it sees."""
        size = self.agent_input_size
        # So that first values are as small as Baselines', whatever they are multiplied by.
        value = (self._network(1, output_gain=1.0 / self.config.value_scale), size)
        return {
            "actor": (self._network(self.sizes.num_actions, output_gain=0.01), size),
            **dict.fromkeys(self.values, value),
        }

    def _apply(self, part: str, params: Params, *inputs: jax.Array) -> jax.Array:
        network = self._parts[part][0]
        outputs: jax.Array = apply_per_agent(
            network.apply, params, *inputs, sharing=self.config.sharing
        )
        return outputs

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        c = self.config
        return self._per_agent(make_optimizer("adam", c.lr, c.max_grad_norm, adam_eps=1e-5))

    def _value(self, part: str, params: Params, inputs: jax.Array) -> jax.Array:
        return self.config.value_scale * self._apply(part, params, inputs)[..., 0]

    # What a method on top changes.

    def _initial_memory(self) -> Any:
        return ()

    def _rewards(
        self,
        state: PPOState,
        batch: EpisodeBatch,
        inputs: Float[Array, "T+1 B N I"],
        values: dict[str, jax.Array],
    ) -> tuple[Any, dict[str, jax.Array], Any, Metrics]:
        """The next memory, each value's reward [T, B, N], what else to learn from, and what to log."""
        del inputs, values
        return state.memory, {"critic": batch.reward}, (), {}

    def _more_loss(self, params: dict[str, Params], lessons: Lessons) -> tuple[jax.Array, Metrics]:
        """What else is learned."""
        del params, lessons
        return jnp.zeros(()), {}

    # The method's contract.

    def init(self, key: jax.Array) -> PPOState:
        """Draws the parameters."""
        keys = jax.random.split(key, len(self._parts))
        params = {
            part: self._init_network(network, size, part_key)
            for part_key, (part, (network, size)) in zip(keys, self._parts.items(), strict=True)
        }
        optimizer = {part: self._optimizer.init(p) for part, p in params.items()}
        return PPOState(params, optimizer, jnp.zeros((), jnp.int32), self._initial_memory())

    def act(
        self, state: PPOState, memory: Any, observation: Observation, key: jax.Array, explore: bool
    ) -> tuple[Any, jax.Array, tuple[()]]:
        """Draws from the policies; or takes the most probable actions."""
        mask = observation.action_mask
        logits = self._apply("actor", state.params["actor"], self._inputs(observation.agents_view))
        if not explore:
            return memory, greedy_action(logits, mask), ()
        action = masked_categorical(logits, mask).sample(seed=key)
        return memory, action.astype(jnp.int32), ()

    def update(
        self, state: PPOState, fresh: EpisodeBatch, replay: ReplayState | None, key: jax.Array
    ) -> tuple[PPOState, Metrics]:
        """Several passes over this iteration's episodes."""
        del replay
        c, length = self.config, fresh.reward.shape[0]
        inputs = self._inputs(fresh.observation)
        values = {p: self._value(p, state.params[p], inputs) for p in self.values}
        memory, rewards, more, metrics = self._rewards(state, fresh, inputs, values)
        mask = jnp.broadcast_to(fresh.valid[..., None], fresh.reward.shape).astype(jnp.float32)
        returns = {
            part: lambda_returns(
                rewards[part], c.gamma * fresh.discount, values[part][1:], c.gae_lambda
            )
            for part in self.values
        }
        logits = self._apply("actor", state.params["actor"], inputs[:-1])
        policy = masked_categorical(logits, fresh.action_mask[:-1])
        first = self.values[0]
        lessons = Lessons(
            inputs[:-1],
            fresh.action_mask[:-1],
            fresh.action,
            policy.log_prob(fresh.action),
            returns[first] - values[first][:-1],
            {part: value[:-1] for part, value in values.items()},
            returns,
            mask,
            more,
        )
        num = length * fresh.reward.shape[1]
        lessons = jax.tree.map(lambda x: x.reshape(num, *x.shape[2:]), lessons)
        params, optimizer, learned = self._learn(state.params, state.optimizer, lessons, key)
        env_steps = state.env_steps + jnp.sum(fresh.valid, dtype=jnp.int32)
        return PPOState(params, optimizer, env_steps, memory), {**metrics, **learned}

    # Parts.

    def _learn(
        self,
        params: dict[str, Params],
        optimizer: dict[str, optax.OptState],
        lessons: Lessons,
        key: jax.Array,
    ) -> tuple[dict[str, Params], dict[str, optax.OptState], Metrics]:
        """All passes, each over minibatches of steps in a new order."""
        c, num = self.config, len(lessons.action)
        size = num // c.minibatches

        def gradient_step(carry: Any, part: Lessons) -> Any:
            params, optimizer = carry
            grads, metrics = jax.grad(self._loss, has_aux=True)(params, part)
            stepped = {p: self._optimizer.update(grads[p], optimizer[p], params[p]) for p in params}
            params = {p: optax.apply_updates(params[p], stepped[p][0]) for p in params}
            return (params, {p: stepped[p][1] for p in params}), metrics

        carry = (params, optimizer)
        if c.minibatches == 1:
            carry, metrics = jax.lax.scan(
                lambda carry, _: gradient_step(carry, lessons), carry, length=c.epochs
            )
            return *carry, jax.tree.map(jnp.mean, metrics)

        played = lessons.mask[:, 0] > 0

        def new_order(key: jax.Array) -> Int[Array, "P K"]:
            order = jax.random.permutation(key, num)
            # What was played first, so that minibatches are full.
            order = order[jnp.argsort(~played[order], stable=True)]
            return order[: size * c.minibatches].reshape(c.minibatches, size)

        def learn(carry: Any, chosen: Int[Array, " K"]) -> Any:
            return gradient_step(carry, jax.tree.map(lambda x: x[chosen], lessons))

        def step(carry: Any, now: Any) -> Any:
            chosen, counts = now
            metrics = jax.eval_shape(learn, carry, chosen)[1]
            nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
            # Without the work where it does not count, if seeds run one after the other.
            return jax.lax.cond(counts, learn, lambda carry, _: (carry, nothing), carry, chosen)

        orders = jax.vmap(new_order)(jax.random.split(key, c.epochs))
        # What is left over after the last full one counts if it is at least half of one.
        counts = (2 * jnp.sum(played[orders], axis=-1) >= size).at[:, 0].set(True)
        orders, counts = orders.reshape(-1, size), counts.reshape(-1)
        carry, metrics = jax.lax.scan(step, carry, (orders, counts))
        return *carry, jax.tree.map(lambda x: jnp.mean(x, where=counts), metrics)

    def _loss(
        self, params: dict[str, Params], lessons: Lessons
    ) -> tuple[Float[Array, ""], Metrics]:
        """PPO's losses of policies and values, of every agent by itself."""
        c = self.config
        value_clip = c.clip if c.clip_values else jnp.inf
        logits = self._apply("actor", params["actor"], lessons.inputs)
        policy = masked_categorical(logits, lessons.action_mask)
        log_prob = policy.log_prob(lessons.action)

        def of_agent(
            log_prob: jax.Array,
            entropy: jax.Array,
            old: jax.Array,
            advantage: jax.Array,
            mask: jax.Array,
        ) -> tuple[jax.Array, jax.Array]:
            advantage = normalise(advantage, mask)
            surrogate = clipped_surrogate_loss(log_prob, old, advantage, c.clip, mask)
            return surrogate, masked_mean(entropy, mask)

        surrogate, entropy = jax.vmap(of_agent, in_axes=-1)(
            log_prob, policy.entropy(), lessons.log_prob, lessons.advantage, lessons.mask
        )
        n = self.sizes.num_agents
        losses = {}
        for part in self.values:
            value = self._value(part, params[part], lessons.inputs)
            old, target = lessons.value[part], lessons.returns[part]
            # The mean over agents times N: each has a mean of its own.
            loss = clipped_value_loss(value, old, target, value_clip, lessons.mask)
            losses[part] = n * loss / c.value_scale**2
        more, metrics = self._more_loss(params, lessons)
        total = jnp.sum(surrogate - c.entropy_weight * entropy) + more
        total += c.value_weight * sum(losses.values())
        named = {f"{part}_loss": loss for part, loss in losses.items()}
        return total, {
            "actor_loss": surrogate.mean(),
            "entropy": entropy.mean(),
            **named,
            **metrics,
        }


def _refuse_a_single_agent(method: IPPO) -> None:
    if method.sizes.num_agents < 2:
        raise ConfigurationError("the task has 1 agent; influence needs at least 2.")


@dataclasses.dataclass(frozen=True)
class EITIConfig(IPPOConfig):
    """Hyper-parameters of EITI (README and `Curiosity.py` of the authors)."""

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
        outcomes: an agent's state, action and next state.
        joint_contexts: the same with another agent's state and action.
        joint_outcomes: and its next state.
    """

    visits: jax.Array
    contexts: jax.Array
    outcomes: jax.Array
    joint_contexts: jax.Array
    joint_outcomes: jax.Array


@dataclasses.dataclass(frozen=True)
class EITI(IPPO):
    """EITI (Wang et al. 2020): paid for rarely visited states and for the influence on others' transitions.

    States are what of an agent's view is about itself (`MultiAgentEnv.own_features`), and counted in tables.
    """

    Config: ClassVar = EITIConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_a_single_agent(self)

    @property
    def _pairs(self) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """All pairs of different agents, i and j."""
        i, j = np.nonzero(~np.eye(self.sizes.num_agents, dtype=bool))
        return i, j

    def _initial_memory(self) -> Counts:
        c = self.config
        return Counts(*map(count_table, 3 * (c.table_bits,) + 2 * (c.joint_table_bits,)))

    def _keys(self, batch: EpisodeBatch) -> Counts:
        """What each step is counted as: [T, B, N, 2] of each agent, [T, B, P, 2] of each pair."""
        n, t = self.sizes.num_agents, batch.action.shape[0]
        own = jnp.array(self.sizes.own_features)
        state = row_hash(jnp.where(own, batch.observation, 0.0))
        who = jnp.broadcast_to(jnp.arange(n, dtype=jnp.uint32), batch.action.shape)
        now, then, action = state[:t], state[1:], batch.action

        def keys(*parts: jax.Array) -> jax.Array:
            numbers = jnp.broadcast_arrays(*[p.astype(jnp.uint32) for p in parts])
            return row_keys(jnp.stack(numbers, axis=-1))

        each = (who, now, action)
        i, j = self._pairs
        pair = (*(x[..., j] for x in each), *(x[..., i] for x in each))
        return Counts(
            keys(who, then),
            keys(*each),
            keys(*each, then),
            keys(*pair),
            keys(*pair, then[..., j]),
        )

    def _count(
        self, counts: Counts, batch: EpisodeBatch
    ) -> tuple[Counts, Float[Array, "T B N"], Float[Array, "T B N N"]]:
        """Goes through the steps in order, all environments at once.

        Returns:
            The counts after them; 1 / sqrt(visits + 1) of each state reached, before it is counted; and the influence
            of agent i on agent j's transition, which is counted first; 0 at an episode's first step, as in the code.
        """
        n = self.sizes.num_agents
        i, j = self._pairs

        def step(counts: Counts, now: Any) -> Any:
            keys, valid = now
            each = [
                count_keys(table, key, jnp.broadcast_to(valid[:, None], key.shape[:-1]))
                for table, key in zip(counts, keys, strict=True)
            ]
            counts, met = (Counts(*parts) for parts in zip(*each, strict=True))
            here = keys.visits
            same = jnp.all(here[:, None] == here, axis=-1) & valid[None, :, None]
            before = jnp.maximum(met.visits - jnp.sum(same, axis=1), 0)
            # A state without a slot would be new for ever.
            rarity = jnp.where(met.visits > 0, (before + 1.0) ** -0.5, 0.0)
            alone = met.contexts[:, j], met.outcomes[:, j]
            of_pairs = *alone, met.joint_contexts, met.joint_outcomes
            influence = transition_influence(*(x.astype(jnp.float32) for x in of_pairs))
            return counts, (rarity, jnp.zeros((len(valid), n, n)).at[:, i, j].set(influence))

        counts, (rarity, influence) = jax.lax.scan(step, counts, (self._keys(batch), batch.valid))
        return counts, rarity, influence.at[0].set(0.0)

    def _rewards(
        self,
        state: PPOState,
        batch: EpisodeBatch,
        inputs: Float[Array, "T+1 B N I"],
        values: dict[str, jax.Array],
    ) -> tuple[Any, dict[str, jax.Array], Any, Metrics]:
        """Task, curiosity, and influence."""
        del inputs
        counts, rarity, influence = self._count(state.memory, batch)
        curiosity = self.config.curiosity_weight * rarity
        bonus = self.config.influence_weight * self._bonus(influence, values)
        mask = jnp.broadcast_to(batch.valid[..., None], bonus.shape).astype(jnp.float32)
        rewards = {
            "critic": batch.reward + curiosity + bonus,
            "extrinsic": batch.reward,
            "curiosity": curiosity,
        }
        metrics = {
            "curiosity": masked_mean(curiosity, mask),
            "influence_bonus": masked_mean(bonus, mask),
            # Of a part: hashes spread evenly, and to read a large table takes longer than to learn.
            "table_load": jnp.mean(counts.joint_outcomes[: 1 << 16, 0] > 0),
        }
        return counts, {part: rewards[part] for part in self.values}, (), metrics

    def _bonus(
        self, influence: Float[Array, "T B N N"], values: dict[str, jax.Array]
    ) -> Float[Array, "T B N"]:
        """Influence on all others."""
        del values
        return jnp.sum(influence, axis=-1)


@dataclasses.dataclass(frozen=True)
class EDTIConfig(EITIConfig):
    """Hyper-parameters of EDTI (README of the authors)."""

    extrinsic_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the other's expected reward from the task in the value of an interaction (beta_ext). It is paid at
    every step: where a task ends when it is solved, 0 keeps agents from putting that off (see
    `experiments/results/alita`)."""
    intrinsic_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the other's expected curiosity (beta_int)."""


@dataclasses.dataclass(frozen=True)
class EDTI(EITI):
    """EDTI (Wang et al. 2020): influence counts as much as the state is worth to which it brings the other."""

    Config: ClassVar = EDTIConfig
    values: ClassVar[tuple[str, ...]] = ("critic", "extrinsic", "curiosity")

    def _bonus(
        self, influence: Float[Array, "T B N N"], values: dict[str, jax.Array]
    ) -> Float[Array, "T B N"]:
        """Gamma sum_j c_ij (beta_ext V_j^ext(s') + beta_int V_j^cur(s')).

        Also where an episode ends. There the authors' code has the value of the next episode's first observation; here
        it is that of the last one.
        """
        c = self.config
        worth = c.extrinsic_weight * values["extrinsic"] + c.intrinsic_weight * values["curiosity"]
        return c.gamma * jnp.sum(influence * worth[1:][..., None, :], axis=-1)


@dataclasses.dataclass(frozen=True)
class SocialInfluenceConfig(IPPOConfig):
    """Hyper-parameters of Social Influence: independent PPO's, and the authors' for the rest (`train.py`)."""

    influence_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the influence reward."""
    influence_anneal_steps: Annotated[int, NotNegative] = 0
    """Environment steps over which the weight rises linearly from 0; 0 for full weight at once. The authors' rises over
    many millions."""
    influence_clip: Annotated[float, Positive] = 10.0
    """The influence reward of a step is at most this, in nats."""
    model_weight: Annotated[float, Positive] = 0.0667
    """Weight of the loss of the model of other agents."""


@dataclasses.dataclass(frozen=True)
class SocialInfluence(IPPO):
    """Social Influence (Jaques et al. 2019): paid for how much an action changes what others are expected to do next.

    Every agent predicts the others' next actions from what it sees and what all do. The authors' models and policies
    are recurrent and see images; these are feed-forward.
    """

    Config: ClassVar = SocialInfluenceConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_a_single_agent(self)

    @property
    def _parts(self) -> dict[str, tuple[MLP, int]]:
        n, a = self.sizes.num_agents, self.sizes.num_actions
        return {**super()._parts, "model": (self._network(n * a), self.agent_input_size + n * a)}

    def _predict(
        self, params: Params, inputs: Float[Array, "*b N I"], actions: Float[Array, "*b N NA"]
    ) -> Float[Array, "*b N N A"]:
        """Logits of every agent's next action (last N), as each agent (first N) expects them."""
        n, a = self.sizes.num_agents, self.sizes.num_actions
        logits = self._apply("model", params, jnp.concatenate([inputs, actions], axis=-1))
        return logits.reshape(*logits.shape[:-1], n, a)

    def _joint(self, action: Int[Array, "*b N"]) -> Float[Array, "*b N NA"]:
        """All agents' actions, as every agent sees them."""
        n, a = self.sizes.num_agents, self.sizes.num_actions
        joint = self._one_hot(action).reshape(*action.shape[:-1], 1, n * a)
        return jnp.broadcast_to(joint, (*action.shape, n * a))

    def _influence(
        self,
        params: dict[str, Params],
        inputs: Float[Array, "*b N I"],
        action: Int[Array, "*b N"],
        policy: Float[Array, "*b N A"],
    ) -> Float[Array, "*b N N"]:
        """Of every agent (first N) on the next action of every other; nobody influences itself."""
        n, a = self.sizes.num_agents, self.sizes.num_actions
        joint = self._joint(action).reshape(*action.shape, n, a)
        own = jnp.eye(n, dtype=bool)[..., None]

        def had_it_been(option: jax.Array) -> jax.Array:
            changed = jnp.where(own, option, joint).reshape(*action.shape, n * a)
            return self._predict(params["model"], inputs, changed)

        logits = jax.vmap(had_it_been, out_axes=-3)(jnp.eye(a))
        return social_influence(logits, policy, action) * ~jnp.eye(n, dtype=bool)

    def _rewards(
        self,
        state: PPOState,
        batch: EpisodeBatch,
        inputs: Float[Array, "T+1 B N I"],
        values: dict[str, jax.Array],
    ) -> tuple[Any, dict[str, jax.Array], Any, Metrics]:
        """Task, and influence on what others do next; at an episode's last step there is no next."""
        del values
        c = self.config
        logits = self._apply("actor", state.params["actor"], inputs[:-1])
        policy = masked_categorical(logits, batch.action_mask[:-1]).probs
        influence = self._influence(state.params, inputs[:-1], batch.action, policy)
        follows = jnp.concatenate([batch.valid[1:], jnp.zeros_like(batch.valid[:1])])[..., None]
        bonus = jnp.minimum(jnp.sum(influence, axis=-1), c.influence_clip) * follows
        weight: Any = c.influence_weight
        if c.influence_anneal_steps:
            weight *= jnp.minimum(state.env_steps / c.influence_anneal_steps, 1.0)
        mask = jnp.broadcast_to(follows, bonus.shape).astype(jnp.float32)
        following = jnp.concatenate([batch.action[1:], batch.action[-1:]])
        more = (following, mask)
        return (
            (),
            {"critic": batch.reward + weight * bonus},
            more,
            {"influence": masked_mean(bonus, mask)},
        )

    def _more_loss(self, params: dict[str, Params], lessons: Lessons) -> tuple[jax.Array, Metrics]:
        """Cross-entropy of the others' next actions, summed over agents."""
        n = self.sizes.num_agents
        following, mask = lessons.more
        logits = self._predict(params["model"], lessons.inputs, self._joint(lessons.action))
        log_probs = jax.nn.log_softmax(logits)
        next_action = jnp.broadcast_to(following[..., None, :], log_probs.shape[:-1])
        right = jnp.sum(log_probs * self._one_hot(next_action), axis=-1)
        others = ~jnp.eye(n, dtype=bool) * mask[..., None]
        loss = -masked_mean(right, others)
        return self.config.model_weight * n * loss, {"model_loss": loss}
