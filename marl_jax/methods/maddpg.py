"""MADDPG and DDPG: deterministic policy gradients of a team, on discrete actions and on continuous ones.

Papers: Lowe et al. 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive Environments"; Lillicrap et al.
2015 (DDPG); Fujimoto et al. 2018 (TD3), whose twin critics, delayed policies and smoothed targets are options.
Authors' code of MADDPG: github.com/openai/maddpg.
"""

import dataclasses
import functools
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from envs.base import Observation
from envs.configuration import ConfigurationError, Range
from marl_jax.distributions import greedy_action, gumbel_softmax
from marl_jax.losses import one_step_targets
from marl_jax.methods.off_policy import (
    OffPolicyConfig,
    OffPolicyMethod,
    OffPolicyState,
    ended_by_death,
    random_at_first,
)
from marl_jax.methods.part import OWN
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import MLP, Initialization, Params
from marl_jax.optimizers import make_optimizer
from marl_jax.replay import ReplayState
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class DDPGConfig(OffPolicyConfig):
    """Hyper-parameters of DDPG; defaults are those of MADDPG's authors' `train.py` unless said otherwise.

    Learning starts when there are batch_size steps; the authors wait for batch_size episodes' worth.
    """

    num_envs: Annotated[int, Range(minimum=1)] = 4
    """Environments played side by side, at least: where an iteration, one episode of each, would be shorter than
    update_interval, there are as many as it takes. The authors have 1; what counts is update_interval."""
    hidden_size: Annotated[int, Range(minimum=1)] = 64
    """Units of both hidden layers, of policies and of critics."""
    layer_norm: bool = False
    """Whether hidden layers are normalised before their ReLU."""
    initialization: Initialization = "glorot"
    """How weights are drawn; the authors' TensorFlow draws them by Glorot."""
    gamma: Annotated[float, Range(minimum=0, maximum=1)] = 0.95
    """Discount factor."""
    target_update_rate: Annotated[float, Range(above=0, maximum=1)] = 0.01
    """Share of the way that the targets go after every gradient step."""
    actor_lr: Annotated[float, Positive] = 1e-2
    """Learning rate of the policies (Adam)."""
    critic_lr: Annotated[float, Positive] = 1e-2
    """Learning rate of the critics (Adam)."""
    max_grad_norm: Annotated[float, NotNegative] = 0.5
    """Norm to which the gradient of each agent's policy and critic is clipped; 0 for never. The authors clip every
    weight matrix by itself."""
    logit_weight: Annotated[float, NotNegative] = 1e-3
    """Weight of the policies' squared outputs in their loss."""
    reward_scale: Annotated[float, Positive] = 1.0
    """Rewards are multiplied by it before anything learns from them."""
    policy_gain: Annotated[float, Positive] = 1.0
    """Factor of the first weights of the policies' output layers. Where layers are normalised and it is 1, the first
    policies prefer some actions many times over others, wherever they are; with 0.01 they start nearly uniform."""
    temperature: Annotated[float, Positive] = 1.0
    """Of the Gumbel-softmax; discrete actions only."""
    relaxation: Literal["soft", "straight_through"] = "soft"
    """What critics see of discrete actions. soft: the relaxed sample itself, as in the authors' code; it is kept in the
    replay. Its largest component is the action played; the authors play the sample, which their particle world takes
    for a mixture of its actions. straight_through: the action played, one-hot, with the relaxed sample's gradient."""
    exploration_noise: Annotated[float, NotNegative] = 0.1
    """Deviation of the normal noise on continuous actions, which lie between -1 and 1; discrete ones are explored by
    the Gumbel noise alone."""
    random_steps: Annotated[int, NotNegative] = 0
    """Environment steps at first in which continuous actions are drawn uniformly (TD3: 25,000)."""
    twin_critics: bool = False
    """Whether each agent has two critics, of which the smaller is the target (TD3)."""
    climbed: Literal["first", "mean"] = "first"
    """What policies climb where there are two critics: the first, as TD3's authors do, or the mean of both. With one
    critic they are the same."""
    policy_delay: Annotated[int, Range(minimum=1)] = 1
    """Steps of the critics for each step of policies and targets (TD3: 2)."""
    target_noise: Annotated[float, NotNegative] = 0.0
    """Deviation of the normal noise on the target policies' continuous actions, cut off at 0.5 (TD3: 0.2)."""


@dataclasses.dataclass(frozen=True)
class MADDPGConfig(DDPGConfig):
    """Hyper-parameters of MADDPG (`train.py` of the authors)."""

    local_critics: tuple[Annotated[int, Range(minimum=0)], ...] = ()
    """Agents whose critics see their own observation and action only, as DDPG's do."""


class Critics(nn.Module):
    """One agent's critic, or two of them: [..., I] to [..., num].

    Attributes:
        hidden_size: units of both hidden layers.
        num: 1, or 2 for twins.
        layer_norm: whether hidden layers are normalised before their ReLU.
        initialization: how weights are drawn.
    """

    hidden_size: int
    num: int
    layer_norm: bool
    initialization: Initialization

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... K"]:
        """The values."""
        network = functools.partial(
            MLP,
            (self.hidden_size, self.hidden_size, 1),
            layer_norm=self.layer_norm,
            initialization=self.initialization,
        )
        return jnp.concatenate([network(name=f"critic_{k}")(x) for k in range(self.num)], axis=-1)


class Transitions(NamedTuple):
    """What is learned from: B single steps.

    Attributes:
        steps: as drawn, with T = 1.
        inputs: what agents see before and after the step, [2, B, N, I].
        vectors: what critics see of the actions taken.
        reward: what the critics learn from.
        target: their targets.
    """

    steps: EpisodeBatch
    inputs: Float[Array, "2 B N I"]
    vectors: Float[Array, "B N A"]
    reward: Float[Array, "B N"]
    target: Float[Array, "B N"]


@dataclasses.dataclass(frozen=True)
class DDPG(OffPolicyMethod):
    """DDPG (Lillicrap et al. 2015) for every agent by itself: its critic sees its own observation and action.

    Attributes:
        central: whether critics see all agents', but for those of `local_critics`.
    """

    Config: ClassVar[type[DDPGConfig]] = DDPGConfig
    continuous: ClassVar[bool] = True
    central: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.central:
            return
        n = self.sizes.num_agents
        if self.config.sharing == "shared":
            raise ConfigurationError(
                "sharing is 'shared'; it must be independent: the agents' critics see the same, and learn what each "
                "agent is paid."
            )
        if any(i >= n for i in self.config.local_critics):
            raise ConfigurationError(
                f"local_critics is {self.config.local_critics}; the task has agents 0 to {n - 1}."
            )

    @property
    def _visible(self) -> Bool[Array, "N N"]:
        """Whose observations and actions (second axis) an agent's critic (first) sees."""
        n = self.sizes.num_agents
        if not self.central:
            return jnp.eye(n, dtype=bool)
        local = jnp.isin(jnp.arange(n), jnp.array(self.config.local_critics, int))
        return ~local[:, None] | jnp.eye(n, dtype=bool)

    def _network(self, outputs: int) -> MLP:
        c = self.config
        sizes = (c.hidden_size, c.hidden_size, outputs)
        return MLP(sizes, layer_norm=c.layer_norm, initialization=c.initialization)

    @property
    def _policy_network(self) -> MLP:
        gains = (1.0, self.config.policy_gain)
        return dataclasses.replace(self._network(self.sizes.num_actions), gains=gains)

    @property
    def _critic_network(self) -> Critics:
        c = self.config
        return Critics(c.hidden_size, 1 + c.twin_critics, c.layer_norm, c.initialization)

    @property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        c = self.config
        return {
            part: self._per_agent(make_optimizer("adam", lr, c.max_grad_norm))
            for part, lr in (("actor", c.actor_lr), ("critic", c.critic_lr))
        }

    @property
    def _joint_size(self) -> int:
        """Features of what a critic sees: all agents' inputs and actions."""
        return self.sizes.num_agents * (self.agent_input_size + self.sizes.num_actions)

    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        actor_key, critic_key = jax.random.split(key)
        policy, critic = self._policy_network, self._critic_network
        return {
            "actor": self.init_network(policy, self.agent_input_size, actor_key),
            "critic": self.init_network(critic, self._joint_size, critic_key),
        }

    def act(
        self,
        state: OffPolicyState,
        memory: Any,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[Any, jax.Array, Any]:
        """Plays a relaxed draw's largest component, or a continuous action with noise, at first any; or is greedy."""
        mask = observation.action_mask
        outputs = self._outputs(state.params["actor"], self._inputs(observation.agents_view))
        if self.sizes.continuous:
            action = jnp.tanh(outputs)
            if explore:
                noise = self.config.exploration_noise * jax.random.normal(key, action.shape)
                action = jnp.clip(action + noise, -1.0, 1.0)
                action = random_at_first(state, self.config.random_steps, action, key)
            return memory, action, ()
        if not explore:
            action = greedy_action(outputs, mask)
            return memory, action, self._kept(self.one_hot(action))
        relaxed = gumbel_softmax(key, outputs, mask, self.config.temperature)
        return memory, greedy_action(relaxed, mask), self._kept(relaxed)

    def _step(
        self, state: OffPolicyState, context: Any, replay: ReplayState, key: jax.Array
    ) -> tuple[OffPolicyState, Metrics]:
        """One gradient step of critics, then of policies, and the targets after them."""
        sample_key, target_key, actor_key = jax.random.split(key, 3)
        state, taught = self.teach_parts(state, replay, jax.random.fold_in(key, OWN))
        batch = self._transitions(state, self._sample(replay, sample_key), target_key)
        state, prepared, metrics = self._prepare(state, context, batch, jax.random.fold_in(key, 3))
        state, of_critic = self._descend(state, "critic", self._critic_loss, batch)
        given = (state, batch, prepared, actor_key)
        followed, of_actor = self._descend(state, "actor", self._actor_loss, *given)
        followed = self._follow(followed)
        if self.config.policy_delay > 1:
            due = (state.updates + 1) % self.config.policy_delay == 0
            followed = jax.tree.map(lambda new, old: jnp.where(due, new, old), followed, state)
        return followed, {**taught, **metrics, **of_critic, **of_actor}

    # What ALITA changes.

    def _rewards(
        self,
        state: OffPolicyState,
        steps: EpisodeBatch,
        inputs: Float[Array, "2 B N I"],
        vectors: Float[Array, "B N A"],
    ) -> Float[Array, "B N"]:
        """What the critics learn from: the environment's reward, and what the parts pay."""
        del inputs, vectors
        return self.paid(state, steps, self.config.reward_scale * steps.reward[0])

    def _prepare(
        self, state: OffPolicyState, context: Any, batch: Transitions, key: jax.Array
    ) -> tuple[OffPolicyState, Any, Metrics]:
        """What is learned before critics and policies, and what the policies' loss needs of it."""
        del context, batch, key
        return state, (), {}

    def _actor_terms(
        self,
        params: Params,
        state: OffPolicyState,
        batch: Transitions,
        prepared: Any,
        vectors: Float[Array, "B N A"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """What the loss of the policies has besides their critics; `vectors` are the actions they choose."""
        del params, state, batch, prepared, vectors
        return jnp.zeros(()), {}

    # Parts.

    def _kept(self, vectors: Float[Array, "B N A"]) -> Any:
        """What the replay keeps of an action besides its number."""
        return vectors if self.config.relaxation == "soft" else ()

    def _vectors(self, steps: EpisodeBatch) -> Float[Array, "B N A"]:
        """What critics see of the actions taken in single steps."""
        if self.sizes.continuous:
            return steps.action[0]
        if self.config.relaxation == "soft":
            return steps.extras[0]
        return self.one_hot(steps.action[0])

    def _outputs(
        self, params: Params, inputs: Float[Array, "*shape N I"]
    ) -> Float[Array, "*s N A"]:
        """The policy networks' outputs."""
        return self.apply_network(self._policy_network, params, inputs)

    def _decide(
        self, outputs: Float[Array, "B N A"], action_mask: Bool[Array, "B N A"], key: jax.Array
    ) -> Float[Array, "B N A"]:
        """The policies' actions as critics see them: differentiable, and drawn if they are discrete."""
        c = self.config
        if self.sizes.continuous:
            return jnp.tanh(outputs)
        hard = c.relaxation == "straight_through"
        return gumbel_softmax(key, outputs, action_mask, c.temperature, hard)

    def _values(
        self,
        params: Params,
        inputs: Float[Array, "B N I"],
        vectors: Float[Array, "B #U N A"],
        agents: Int[Array, " U"] | None = None,
    ) -> Float[Array, "B U K"]:
        """The values of joint actions to `params`, the critics of some agents or all; each may be given another one."""
        visible = self._visible if agents is None else self._visible[agents]
        inputs = jnp.broadcast_to(inputs[:, None], (len(inputs), len(visible), *inputs.shape[1:]))
        vectors = jnp.broadcast_to(vectors, (*inputs.shape[:3], vectors.shape[-1]))
        joint = jnp.concatenate([inputs, vectors], axis=-1) * visible[..., None]
        joint = joint.reshape(*joint.shape[:2], -1)
        return self.apply_network(self._critic_network, params, joint)

    def _transitions(
        self, state: OffPolicyState, steps: EpisodeBatch, key: jax.Array
    ) -> Transitions:
        """Single steps with their rewards and the critics' targets, y = r + d Q'(x', mu'(x')).

        Where actions are continuous, the value of an agent that has died is 0: its body has fallen, and earns no more.
        """
        if self.sizes.continuous:
            steps = ended_by_death(steps)
        inputs, vectors = self._inputs(steps.observation), self._vectors(steps)
        reward = self._rewards(state, steps, inputs, vectors)
        next_q = self._target_values(state, inputs[1], steps.action_mask[1], key)
        y = one_step_targets(reward, self.config.gamma * steps.discount[0], next_q)
        return Transitions(steps, inputs, vectors, reward, y)

    def _target_values(
        self,
        state: OffPolicyState,
        inputs: Float[Array, "B N I"],
        action_mask: Bool[Array, "B N A"],
        key: jax.Array,
    ) -> Float[Array, "B N"]:
        """Q'(x, mu'(x)): what the target critics hold of the target policies' actions."""
        scale, target = self.config.target_noise, state.target
        action_key, noise_key = jax.random.split(key)
        vectors = self._decide(self._outputs(target["actor"], inputs), action_mask, action_key)
        if self.sizes.continuous and scale:
            noise = scale * jax.random.normal(noise_key, vectors.shape)
            vectors = jnp.clip(vectors + jnp.clip(noise, -0.5, 0.5), -1.0, 1.0)
        return self._values(target["critic"], inputs, vectors[:, None]).min(-1)

    def _critic_loss(self, params: Params, batch: Transitions) -> tuple[Float[Array, ""], Metrics]:
        """Over agents, the mean squared errors of their critics; ALITA Eq. 1."""
        values = self._values(params, batch.inputs[0], batch.vectors[:, None])
        error = values - batch.target[..., None]
        loss = self.over_agents(jnp.mean(error**2, axis=0))
        return loss, {"critic_loss": loss, "value": values.mean(), "reward": batch.reward.mean()}

    def _actor_loss(
        self,
        params: Params,
        state: OffPolicyState,
        batch: Transitions,
        prepared: Any,
        key: jax.Array,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Over agents, minus the value of their own actions, drawn anew among the others' old ones; Eq. 2."""
        outputs = self._outputs(params, batch.inputs[0])
        vectors = self._decide(outputs, batch.steps.action_mask[0], key)
        own = jnp.eye(self.sizes.num_agents, dtype=bool)[..., None]
        joint = jnp.where(own, vectors[:, None], batch.vectors[:, None])
        values = self._values(state.params["critic"], batch.inputs[0], joint)
        values = values[..., 0] if self.config.climbed == "first" else values.mean(-1)
        squared = self.config.logit_weight * jnp.mean(outputs**2, axis=(0, 2))
        loss = self.over_agents(squared - jnp.mean(values, axis=0))
        more, metrics = self._actor_terms(params, state, batch, prepared, vectors)
        return loss + more, {"actor_loss": loss, **metrics}


@dataclasses.dataclass(frozen=True)
class MADDPG(DDPG):
    """MADDPG (Lowe et al. 2017): every agent's critic sees all observations and actions and learns its own reward.

    Teams may be mixed: with `local_critics` some agents are DDPG's.
    """

    Config: ClassVar = MADDPGConfig
    central: ClassVar[bool] = True
