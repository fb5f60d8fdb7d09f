"""EOI on QMIX: agents are paid for being told apart by what they observe.

Paper: Jiang and Lu 2021, "The Emergence of Individuality". No code of what it defines was ever published. The authors'
later version (`eoi_released`): github.com/jiechuanjiang/eoi_pymarl, `EOI.py`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from envs.base import Observation
from envs.configuration import ConfigurationError, Range
from marl_jax.distributions import greedy_action
from marl_jax.losses import action_values, masked_mean, one_step_targets, td_loss
from marl_jax.methods.individuality import IndividualityOptions, Recognising
from marl_jax.methods.part import PlainAgents
from marl_jax.methods.q_learner import Learning, only_q_learner
from marl_jax.methods.team import NotNegative, Positive, Unit
from marl_jax.networks import MLP, Params
from marl_jax.optimizers import make_optimizer
from marl_jax.types import Metrics


@dataclasses.dataclass(frozen=True)
class SeekingOptions(IndividualityOptions):
    """The classifier's options, and those of values of its reward."""

    intrinsic_gamma: Annotated[float, Unit] = 0.99
    """Discount factor of the intrinsic reward."""
    intrinsic_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (64, 64)
    """Units of the intrinsic value function's hidden layers."""
    intrinsic_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the intrinsic value function (Adam)."""
    identical_agents: bool = False
    """Whether all agents start with the same parameters (EOI Figure 9)."""


@dataclasses.dataclass(frozen=True)
class EOIOptions(SeekingOptions):
    """Options of EOI on the Q-learner."""

    intrinsic_weight: Annotated[float, NotNegative] = 1e-4
    """Weight of the intrinsic value's slope (alpha). With standardised vectors it decides where an agent's action
    values differ by less than about its root, so it has to fit the task's rewards and discount; search it."""
    intrinsic_input: Literal["executed", "acted", "current"] = "executed"
    """The vector of action values that the intrinsic value function learns from. acted: the one that the agent acted
    on, from the replay, where the paper draws it, as DDPG draws actions. executed: the same with the best value and
    that of the action taken exchanged, since exploration may take another than the best (ours). current: the one it
    has now, which did not cause what followed."""
    intrinsic_scaling: Literal["none", "standardised"] = "standardised"
    """Whether the intrinsic value function sees a vector of action values as it is, or shifted and scaled to mean 0 and
    deviation 1 (ours: values that differ little, or more and more, give a network little to go by)."""


@dataclasses.dataclass(frozen=True)
class EOIReleasedOptions(SeekingOptions):
    """Options of EOI as its authors released it; the defaults are theirs (`eoi_pymarl`)."""

    positive_weight: Annotated[float, NotNegative] = 0.0
    """Weight of the classifier's positive distance (beta 1); their code has none."""
    classifier_lr: Annotated[float, Positive] = 1e-4
    """Learning rate of the classifier (Adam)."""
    intrinsic_gamma: Annotated[float, Unit] = 0.92
    """Discount factor of the intrinsic reward."""
    intrinsic_lr: Annotated[float, Positive] = 1e-4
    """Learning rate of the intrinsic value function (Adam)."""
    released_scale: Annotated[float, NotNegative] = 10.0
    """Factor of the intrinsic reward."""
    released_episodes: Annotated[float, Unit] = 0.4
    """Share of the episodes in which the intrinsic values explore."""
    released_steps: Annotated[float, Unit] = 0.05
    """Share of the steps of such an episode at which one agent follows them; 0.2 and 0.8 on the authors' hard maps."""


def _standardise(q: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
    centred = q - q.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)


def swap_best(
    q: Float[Array, "*batch A"], action: Int[Array, "*batch"], action_mask: Bool[Array, "*batch A"]
) -> Float[Array, "*batch A"]:
    """The values with those of the best available action and of `action` exchanged, so that `action` is the best."""
    best = greedy_action(q, action_mask)
    was, now = action_values(q, best)[..., None], action_values(q, action)[..., None]
    is_best, is_action = (jax.nn.one_hot(a, q.shape[-1], dtype=bool) for a in (best, action))
    return jnp.where(is_action, was, jnp.where(is_best, now, q))


@dataclasses.dataclass(frozen=True)
class Recognised(Recognising):
    """A classifier of the agents, and each agent's values of being recognised.

    A member says what these values are of, and what they are for. Agents have parameters of their own, as the paper's
    do in grid worlds; those that share them need to see who they are. The classifier never does.
    """

    @classmethod
    def defaults_on(cls, backbone: type) -> Mapping[str, Any]:
        """The papers'."""
        del backbone
        return {"sharing": "independent", "observe_identity": False, "observe_last_action": False}

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Only the Q-learner has its losses."""
        return only_q_learner(backbone)

    def check(self) -> None:
        """Refuses agents that cannot differ."""
        super().check()
        c = self.config
        if c.identical_agents and c.sharing == "shared":
            raise ConfigurationError(
                "identical_agents is True; it must be false where agents share parameters, which are the same anyway."
            )

    @property
    def network(self) -> MLP:
        """The intrinsic value function of one agent."""
        return MLP((*self.config.intrinsic_hidden, self.num_values))

    @property
    def num_values(self) -> int:
        """Numbers that it puts out."""
        return 1

    @property
    def num_more(self) -> int:
        """Features that it sees besides an agent's observation."""
        return 0

    @property
    def agents(self) -> PlainAgents:
        """The backbone's, which may start all the same."""
        core = self.core
        return PlainAgents(core.agent, core.agent_input_size, self.config.identical_agents)

    def init(self, key: jax.Array) -> dict[str, Params]:
        """The classifier and the intrinsic values."""
        _, classifier_key, intrinsic_key = jax.random.split(key, 3)
        c, sizes = self.config, self.core.sizes
        size = sizes.observation + sizes.num_agents * (c.sharing == "shared")
        return {
            "classifier": self.classifier.init(classifier_key),
            "intrinsic": self.core.init_network(self.network, size + self.num_more, intrinsic_key),
        }

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Adam for each."""
        intrinsic = make_optimizer("adam", self.config.intrinsic_lr, 0.0)
        return {"classifier": self.classifier.optimizer, "intrinsic": intrinsic}

    def intrinsic_values(
        self, params: Params, observation: Float[Array, "*shape N F"], *more: jax.Array
    ) -> Float[Array, "*shape N O"]:
        """The intrinsic values of each agent, of what it observes and `more`."""
        parts = [observation, *more]
        if self.config.sharing == "shared":
            parts.append(self.core.identities(observation.shape[:-2]))
        x = jnp.concatenate(parts, axis=-1)
        values: jax.Array = self.core.apply_network(self.network, params, x)
        return values

    def loss(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        """The classifier's, and that of the values of its reward."""
        params = learning.params["classifier"]
        told, of_classifier = self.classifier.loss(params, learning.batch, learning.key)
        reward = self.classifier.reward(params, learning.batch)
        valued, of_values = self.values_loss(learning, reward)
        return told + valued, {**of_classifier, **of_values}

    def values_loss(
        self, learning: Learning, reward: Float[Array, "T B N"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Of the intrinsic values."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class IntrinsicValues(Recognised):
    """EOI's own: a value of an agent's whole vector of action values, up whose slope the agent climbs."""

    name: ClassVar = "eoi"
    Options: ClassVar = EOIOptions

    @property
    def num_more(self) -> int:
        """The vector."""
        return int(self.core.sizes.num_actions)

    @property
    def keeps_values(self) -> bool:
        """Unless it learns from today's."""
        return bool(self.config.intrinsic_input != "current")

    def of_vector(
        self, params: Params, observation: Float[Array, "*shape N F"], q: jax.Array
    ) -> Float[Array, "*shape N"]:
        """Q^p of each agent's vector of action values."""
        if self.config.intrinsic_scaling == "standardised":
            q = _standardise(q)
        return self.intrinsic_values(params, observation, q)[..., 0]

    @property
    def range(self) -> tuple[float, float]:
        """Between what an episode's intrinsic rewards can sum up to, discounted."""
        c, sizes = self.config, self.core.sizes
        gamma, steps = c.intrinsic_gamma, sizes.time_limit
        most = steps if gamma == 1.0 else (1.0 - gamma**steps) / (1.0 - gamma)
        if c.intrinsic_reward == "log_ratio":
            return -math.inf, most * math.log(sizes.num_agents)
        return 0.0, most

    def values_loss(
        self, learning: Learning, reward: Float[Array, "T B N"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """EOI section 3.3: Q^p's own loss, and what makes the agents climb it.

        Each side holds the other constant. The agents' part is a sum over agents, so that each agent's parameters get
        alpha times the slope of its own mean value.
        """
        c = self.config
        params, target, batch = learning.params, learning.state.target, learning.batch
        observation, valid = batch.observation, batch.valid.astype(reward.dtype)
        q = learning.values.online[:-1]
        seen = q if c.intrinsic_input == "current" else batch.extras.values
        if c.intrinsic_input == "executed":
            seen = swap_best(seen, batch.action, batch.action_mask[:-1])

        value = self.of_vector(params["intrinsic"], observation[:-1], jax.lax.stop_gradient(seen))
        ahead = self.of_vector(target["intrinsic"], observation[1:], learning.values.target[1:])
        discount = c.intrinsic_gamma * batch.discount
        y = jnp.clip(one_step_targets(reward, discount, ahead), *self.range)
        mask = jnp.broadcast_to(valid[..., None], y.shape)
        loss = td_loss(value, y, mask)

        climbed = self.of_vector(jax.lax.stop_gradient(params["intrinsic"]), observation[:-1], q)
        alpha = self.classifier.weight(learning.state.env_steps)
        gain = masked_mean(jnp.sum(climbed, axis=-1), valid)
        metrics = {"intrinsic_loss": loss, "intrinsic_value": gain / self.core.sizes.num_agents}
        return loss - alpha * gain, metrics


RELEASED_TARGET_RATE = 0.005
"""What the released code's moving target is meant to have; it writes 0.995, with which values grow 199-fold."""


@dataclasses.dataclass(frozen=True)
class ExploringAgents(PlainAgents):
    """Agents that explore in some episodes, which are drawn."""

    share: float = 0.0

    def latent(self, num_envs: int, key: jax.Array) -> Bool[Array, " B"]:
        """In which."""
        return jax.random.bernoulli(key, self.share, (num_envs,))


@dataclasses.dataclass(frozen=True)
class IntrinsicExploration(Recognised):
    """EOI as released: a value of each action, that now and then an agent follows to explore, and no more."""

    name: ClassVar = "eoi_released"
    Options: ClassVar = EOIReleasedOptions

    @property
    def num_values(self) -> int:
        """One for each action."""
        return int(self.core.sizes.num_actions)

    @property
    def agents(self) -> ExploringAgents:
        """The backbone's, and the episodes in which they explore."""
        plain, share = super().agents, self.config.released_episodes
        return ExploringAgents(plain.team, plain.input_size, plain.identical, share)

    @property
    def target_rates(self) -> dict[str, float]:
        """The values' targets move slowly."""
        return {"intrinsic": RELEASED_TARGET_RATE}

    def explore(
        self,
        state: Any,
        latent: Bool[Array, " B"],
        observation: Observation,
        action: Int[Array, "B N"],
        key: jax.Array,
    ) -> Int[Array, "B N"]:
        """Now and then lets one agent seek to be recognised."""
        coin_key, agent_key = jax.random.split(key)
        num_envs, n = action.shape
        coin = jax.random.bernoulli(coin_key, self.config.released_steps, (num_envs,))
        who = jax.random.randint(agent_key, (num_envs,), 0, n)
        chosen = (who[:, None] == jnp.arange(n)) & (coin & latent)[:, None]
        values = self.intrinsic_values(state.params["intrinsic"], observation.agents_view)
        return jnp.where(chosen, greedy_action(values, observation.action_mask), action)

    def values_loss(
        self, learning: Learning, reward: Float[Array, "T B N"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Q-learning of the intrinsic reward; every action counts as available, as in the authors' code."""
        c = self.config
        params, target, batch = learning.params, learning.state.target, learning.batch
        values = self.intrinsic_values(params["intrinsic"], batch.observation[:-1])
        ahead = self.intrinsic_values(target["intrinsic"], batch.observation[1:])
        discount = c.intrinsic_gamma * batch.discount
        y = one_step_targets(c.released_scale * reward, discount, ahead.max(-1))
        value = action_values(values, batch.action)
        mask = jnp.broadcast_to(batch.valid[..., None], y.shape).astype(y.dtype)
        loss = td_loss(value, y, mask)
        return loss, {"intrinsic_loss": loss, "intrinsic_value": masked_mean(value, mask)}
