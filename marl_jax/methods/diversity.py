"""QMIX teams that are made to behave in more than one way: MAVEN, CDS, and SCDS.

Papers: Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration"; Li et al. 2021, "Celebrating Diversity in
Shared Multi-Agent Reinforcement Learning" (CDS); SCDS is a baseline of Liu et al. 2023 (CIA). Authors' code:
github.com/AnujMahajanOxf/MAVEN `noise_q_learner.py`, `noise_rnn_agent.py`; github.com/lich14/CDS `CDS_QMIX.py` (its
football tasks) and `dmaq_qatten_learner.py` (its StarCraft tasks).
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from envs.base import Observation
from envs.configuration import ConfigurationError, Range
from marl_jax.losses import mask_unavailable, masked_mean
from marl_jax.methods.team import AgentMemory, NotNegative, Positive
from marl_jax.methods.value_decomposition import (
    Learning,
    QMIXConfig,
    QMIXMethod,
    ValueState,
    history,
)
from marl_jax.networks import MLP, Linear, Params, apply_per_agent, init_per_agent
from marl_jax.networks.generated import GeneratedLinear
from marl_jax.optimizers import make_optimizer
from marl_jax.types import EpisodeBatch, Metrics


def _refuse_further_layers(config: QMIXConfig, what: str) -> None:
    if config.head_sizes:
        raise ConfigurationError(f"head_sizes is {config.head_sizes}; it must be empty for {what}.")


def _refuse_separate_agents(config: QMIXConfig, what: str) -> None:
    if config.sharing != "shared":
        raise ConfigurationError(f"sharing is {config.sharing!r}; it must be 'shared' for {what}.")


# --- MAVEN ---


@dataclasses.dataclass(frozen=True)
class MAVENConfig(QMIXConfig):
    """Hyper-parameters of MAVEN; the authors' `noisemix_smac.yaml`."""

    num_envs: Annotated[int, Range(minimum=1)] = 8
    """Environments played side by side, at least: where an iteration's episodes would be shorter than update_interval,
    there are as many as it takes."""
    update_interval: Annotated[int, Range(minimum=1)] = 800
    """Environment steps for each gradient step (elsewhere train_frequency), where episodes count with their time limit;
    an iteration's gradient steps are rounded to whole ones. The authors take one for eight episodes, each of up to a
    hundred steps or so."""
    hypernet_layers: Annotated[int, Range(minimum=1, maximum=2)] = 1
    """Layers of the networks that make the mixer's weights: 1 in the authors' `noise_mix.py`."""
    latent_size: Annotated[int, Range(minimum=1)] = 2
    """Values that the latent z can take; `noise_dim` of the authors' file."""
    information_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the discriminator's loss, which bounds the mutual information of z and behaviour (`mi_loss`). The
    authors' is for StarCraft's returns of up to 20; where they are about 1, it can make some z behave badly."""
    discriminator_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (64, 64, 64)
    """Units of the discriminator's hidden layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_further_layers(self, "maven")
        _refuse_separate_agents(self, "maven")


@dataclasses.dataclass(frozen=True)
class MAVEN(QMIXMethod):
    """MAVEN (Mahajan et al. 2019): all agents follow one latent z, drawn once for an episode.

    An agent's action values are W(z, i) h, with h what its network makes of its history: z and the agent's number i
    make the output layer. The mixer sees z beside the state. At every step a discriminator tells z from the state and
    softmax_a of every agent's action values, and its loss trains the agents too, so that each z gets a behaviour of
    its own. z is uniform, in training and in greedy play. What the authors' configuration leaves off is not here: the
    bandit that learns which z to draw, and the recurrent discriminator.
    """

    Config: ClassVar[type[MAVENConfig]] = MAVENConfig

    @property
    def _agent_outputs(self) -> int:
        return 0

    @property
    def head(self) -> GeneratedLinear:
        """From an agent's hidden state, and z with the agent's number, to its action values."""
        return GeneratedLinear(self.sizes.num_actions, use_bias=False)

    @property
    def discriminator(self) -> MLP:
        """From the agents' policies and the state to a score for each z."""
        c = self.config
        return MLP((*c.discriminator_hidden, c.latent_size))

    def _init_agent(self, key: jax.Array) -> Params:
        body_key, head_key = jax.random.split(key)
        c = self.config
        hidden = jnp.zeros((c.hidden_size,))
        code = jnp.zeros((c.latent_size + self.sizes.num_agents,))
        return {
            "body": super()._init_agent(body_key),
            "head": self.head.init(head_key, hidden, code),
        }

    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        base_key, discriminator_key = jax.random.split(key)
        sizes = self.sizes
        seen = jnp.zeros((sizes.num_agents * sizes.num_actions + sizes.global_state,))
        discriminator = self.discriminator.init(discriminator_key, seen)
        return {**super()._init_params(base_key), "discriminator": discriminator}

    def initial_memory(self, state: ValueState, num_envs: int, key: jax.Array) -> AgentMemory:
        """As QMIX's, with z, one-hot."""
        memory = super().initial_memory(state, num_envs, key)
        size = self.config.latent_size
        latent = jax.nn.one_hot(jax.random.randint(key, (num_envs,), 0, size), size)
        return memory._replace(latent=latent)

    def _kept(self, memory: AgentMemory, q: Float[Array, "B N A"]) -> Float[Array, "B Z"]:
        return memory.latent

    def _action_values(
        self,
        params: Params,
        hidden: Float[Array, "*shape B N H"],
        latent: Float[Array, "*#shape B Z"],
    ) -> Float[Array, "*shape B N A"]:
        identity = self._identity(latent.shape[:-1])
        latent = jnp.broadcast_to(latent[..., None, :], (*identity.shape[:-1], latent.shape[-1]))
        code = jnp.concatenate([latent, identity], axis=-1)
        values: Any = self.head.apply(params, hidden, code)
        return values

    def _step(
        self,
        params: Params,
        memory: AgentMemory,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[Float[Array, "B N H"], Float[Array, "B N A"]]:
        carried, hidden = super()._step(params["body"], memory, observation, key, explore)
        return carried, self._action_values(params["head"], hidden, memory.latent)

    def _unroll(
        self, params: Params, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, "T+1 B N H"], Float[Array, "T+1 B N A"]]:
        hidden, _ = super()._unroll(params["body"], batch, key)
        return hidden, self._action_values(params["head"], hidden, self._latents(batch))

    def _latents(self, batch: EpisodeBatch) -> Float[Array, "T+1 B Z"] | Float[Array, "B Z"]:
        """Z of each episode, or, where rows hold several, at each entry: at an episode's last what was before it."""
        if batch.rows is None:
            return batch.extras[0]
        latent = jnp.concatenate([batch.extras, batch.extras[-1:]])
        before = jnp.concatenate([latent[:1], latent[:-1]])
        steps = jnp.concatenate([batch.valid, jnp.zeros_like(batch.valid[:1])])
        return jnp.where(steps[..., None], latent, before)

    @property
    def _mixer_state_size(self) -> int:
        return super()._mixer_state_size + self.config.latent_size

    def _mixer_state(self, batch: EpisodeBatch) -> Float[Array, "T+1 B G+Z"]:
        state, latent = super()._mixer_state(batch), self._latents(batch)
        latent = jnp.broadcast_to(latent, (*state.shape[:-1], latent.shape[-1]))
        return jnp.concatenate([state, latent], axis=-1)

    def _regulariser(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        """Adds the discriminator's cross-entropy, whose gradient passes the softmax of the action values."""
        added, metrics = super()._regulariser(learning)
        batch = learning.batch
        q = mask_unavailable(learning.values.online[:-1], batch.action_mask[:-1])
        policies = jax.nn.softmax(q).reshape(*q.shape[:-2], -1)
        seen = jnp.concatenate([policies, batch.global_state[:-1]], axis=-1)
        scores: Any = self.discriminator.apply(learning.params["discriminator"], seen)
        loss = optax.softmax_cross_entropy(scores, batch.extras)
        loss = masked_mean(loss, batch.valid.astype(loss.dtype))
        added += self.config.information_weight * loss
        return added, {**metrics, "discriminator_loss": loss}


# --- CDS and SCDS ---

PREDICTOR_MAX_GRAD_NORM = 1.0
"""Global norm to which the gradients of each of CDS's predictors are clipped."""


@dataclasses.dataclass(frozen=True)
class SCDSConfig(QMIXConfig):
    """Hyper-parameters of SCDS; where it shares them, of the authors' `CDS_QMIX.yaml` for CDS.

    The authors train the predictors apart from the agents: in football every 16 episodes, for 25 epochs in chunks of
    256 transitions; in StarCraft once over every batch in such chunks. Here they take one Adam step on the whole batch
    of every gradient step (ours).
    """

    observe_identity: bool = False
    """Whether an agent sees which one it is. It must not: its history is to tell."""
    intrinsic_weight: Annotated[float, NotNegative] = 0.05
    """Weight of the intrinsic reward (beta). Authors: 0.05 in football, 0.03 to 0.1 in StarCraft."""
    identity_weight: Annotated[float, NotNegative] = 0.5
    """Weight of what the predictor that knows the identity expects, and inverse temperature of the policies
    (beta 1). Authors: 0.5, on two StarCraft maps 2."""
    policy_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the policies' divergence (beta 2). Authors: 1, on one StarCraft map 0.5."""
    predictor_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (128, 128)
    """Units of the predictors' hidden layers."""
    predictor_lr: Annotated[float, Positive] = 3e-4
    """Learning rate of the predictors (Adam). Authors: 3e-4 in football, 1e-3 in StarCraft."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_separate_agents(self, "cds and scds")
        if self.observe_identity:
            raise ConfigurationError(
                "observe_identity is True; it must be false for cds and scds, whose agents are told apart by what "
                "they do."
            )


def log_mean_policy(
    log_policies: Float[Array, "*shape A"], axis: int
) -> Float[Array, "*shape_with_1 A"]:
    """The logarithm of the mean of policies along `axis`, which stays with size 1."""
    total = jax.nn.logsumexp(log_policies, axis=axis, keepdims=True)
    return total - jnp.log(log_policies.shape[axis])


def policy_divergence(
    q: Float[Array, "*shape A"], log_mean: Float[Array, "*shape A"], scale: float
) -> Float[Array, "*shape"]:
    """KL(softmax(scale q) || mean); the first term of CDS's intrinsic reward.

    Args:
        q: an agent's action values; available or not makes no difference, as in the authors' code.
        log_mean: the logarithm of the policy to compare with.
        scale: beta 1.
    """
    log_policy = jax.nn.log_softmax(scale * q)
    return jnp.sum(jnp.exp(log_policy) * (log_policy - log_mean), axis=-1)


@dataclasses.dataclass(frozen=True)
class SCDS(QMIXMethod):
    """SCDS (Liu et al. 2023): CDS whose agents share all parameters. Its intrinsic reward is all that is left.

    The team is paid, averaged over agents i with histories tau, for information about i in what they do:

        beta (beta1 log q(o' | tau, a, i) - log p(o' | tau, a) + beta2 KL(softmax(beta1 Q_i) || p(a)))

    where log-densities are minus the squared errors of two predictors of the next observation, of which one knows i,
    and p(a) is the mean of the agents' policies softmax(Q_j). The paper's p(a | tau), what any agent would do in the
    place of i, is the policy of i itself where all parameters are shared.
    """

    Config: ClassVar[type[SCDSConfig]] = SCDSConfig

    @property
    def predictor(self) -> MLP:
        """From an agent's past hidden state, observation and action, and perhaps its number, to what it sees next."""
        return MLP((*self.config.predictor_hidden, self.sizes.observation))

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """QMIX's for agents and mixer, Adam for each of the predictors."""
        adam = make_optimizer("adam", self.config.predictor_lr, PREDICTOR_MAX_GRAD_NORM)
        own = ("predictor", "identity_predictor")
        groups = {"team": super().optimizer, **dict.fromkeys(own, adam)}
        labels = {"agent": "team", "mixer": "team", **{name: name for name in own}}
        return optax.multi_transform(groups, labels)

    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        base_key, key, identity_key = jax.random.split(key, 3)
        sizes = self.sizes
        size = self.config.hidden_size + sizes.observation + sizes.num_actions
        return {
            **super()._init_params(base_key),
            "predictor": self.predictor.init(key, jnp.zeros((size,))),
            "identity_predictor": self.predictor.init(
                identity_key, jnp.zeros((size + sizes.num_agents,))
            ),
        }

    def _log_predictions(
        self, params: dict[str, Params], learning: Learning
    ) -> tuple[Float[Array, "T B N"], Float[Array, "T B N"]]:
        """By the predictors in `params`: log p(o' | tau, a) and log q(o' | tau, a, i), up to the same constant."""
        batch = learning.batch
        parts = [
            history(learning.values.hidden, batch.rows),
            batch.observation[:-1],
            self._one_hot(batch.action),
        ]
        seen = jnp.concatenate(parts, axis=-1)
        identified = jnp.concatenate([seen, self._identity(seen.shape[:-2])], axis=-1)

        def log_density(name: str, x: jax.Array) -> jax.Array:
            expected: Any = self.predictor.apply(params[name], x)
            return -jnp.sum((expected - batch.observation[1:]) ** 2, axis=-1)

        return log_density("predictor", seen), log_density("identity_predictor", identified)

    def _log_mean_policies(self, learning: Learning) -> Float[Array, "T B #N A"]:
        """The policies that each agent's is compared with."""
        return log_mean_policy(jax.nn.log_softmax(learning.values.online[:-1]), axis=-2)

    def _intrinsic_reward(self, learning: Learning) -> Float[Array, "T B N"]:
        """What each agent's step is paid, before beta; constant. The target networks' predictors judge it."""
        c = self.config
        log_p, log_q = self._log_predictions(learning.state.target, learning)
        log_mean = self._log_mean_policies(learning)
        divergence = policy_divergence(learning.values.online[:-1], log_mean, c.identity_weight)
        reward = c.identity_weight * log_q - log_p + c.policy_weight * divergence
        return jax.lax.stop_gradient(reward)

    def _bonus(self, learning: Learning) -> Float[Array, "T B"]:
        reward = self._intrinsic_reward(learning).mean(-1)
        return super()._bonus(learning) + self.config.intrinsic_weight * reward

    def _regulariser(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        """Adds the predictors' losses, which reach only the predictors; also logs the reward, unweighted."""
        added, metrics = super()._regulariser(learning)
        log_p, log_q = self._log_predictions(learning.params, learning)
        valid = learning.batch.valid.astype(log_p.dtype)
        loss, identity_loss = (-masked_mean(x.mean(-1), valid) for x in (log_p, log_q))
        return added + loss + identity_loss, {
            **metrics,
            "predictor_loss": loss,
            "identity_predictor_loss": identity_loss,
            "intrinsic_reward": masked_mean(self._intrinsic_reward(learning).mean(-1), valid),
        }


@dataclasses.dataclass(frozen=True)
class CDSConfig(SCDSConfig):
    """Hyper-parameters of CDS on QMIX; the authors' `CDS_QMIX.yaml`."""

    individual_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the mean size of the individual action values (L1). Where returns are much smaller than in the
    authors' tasks, it can keep agents from differing."""
    policy_average: Literal["same_history", "same_head", "own_history"] = "same_history"
    """What the mean policy, with which an agent's is compared, is a mean of. same_history: all agents' heads on the
    agent's history, the paper's p(a | tau). same_head: the agent's head on all agents' histories, as the authors'
    football code has it. own_history: each agent's head on its own history, as their StarCraft code has it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_further_layers(self, "cds")


@dataclasses.dataclass(frozen=True)
class CDS(SCDS):
    """CDS (Li et al. 2021) on QMIX: agents are paid for being told apart, and have output layers of their own.

    An agent's action values are those of a layer that all share plus those of its own, which are kept small, so that
    agents differ where it pays. The intrinsic reward is that of `SCDS`.
    """

    Config: ClassVar[type[CDSConfig]] = CDSConfig

    @property
    def _agent_outputs(self) -> int:
        return 0

    @property
    def head(self) -> Linear:
        """From a hidden state to action values: the shared ones, or one agent's individual ones."""
        return Linear(self.sizes.num_actions)

    def _init_agent(self, key: jax.Array) -> Params:
        body_key, shared_key, individual_key = jax.random.split(key, 3)
        hidden = jnp.zeros((self.config.hidden_size,))

        def init(key: jax.Array) -> Params:
            return self.head.init(key, hidden)

        n = self.sizes.num_agents
        return {
            "body": super()._init_agent(body_key),
            "shared": init(shared_key),
            "individual": init_per_agent(init, individual_key, n, "independent"),
        }

    def _individual_values(
        self, params: Params, hidden: Float[Array, "*shape N H"]
    ) -> Float[Array, "*shape N A"]:
        """Q_i of each agent's own layer."""
        values: jax.Array = apply_per_agent(
            self.head.apply, params["individual"], hidden, sharing="independent"
        )
        return values

    def _action_values(
        self, params: Params, hidden: Float[Array, "*shape N H"]
    ) -> Float[Array, "*shape N A"]:
        shared: Any = self.head.apply(params["shared"], hidden)
        return shared + self._individual_values(params, hidden)

    def _step(
        self,
        params: Params,
        memory: AgentMemory,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[Float[Array, "B N H"], Float[Array, "B N A"]]:
        carried, hidden = super()._step(params["body"], memory, observation, key, explore)
        return carried, self._action_values(params, hidden)

    def _unroll(
        self, params: Params, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, "T+1 B N H"], Float[Array, "T+1 B N A"]]:
        hidden, _ = super()._unroll(params["body"], batch, key)
        return hidden, self._action_values(params, hidden)

    def _log_mean_policies(self, learning: Learning) -> Float[Array, "T B #N A"]:
        average = self.config.policy_average
        if average == "own_history":
            return super()._log_mean_policies(learning)
        params, hidden = learning.params["agent"], learning.values.hidden[:-1]
        heads = jax.vmap(self.head.apply, in_axes=(0, None), out_axes=-2)
        shared: Any = self.head.apply(params["shared"], hidden)
        # [T, B, N histories, N heads, A]
        q = shared[..., None, :] + heads(params["individual"], hidden)
        axis = -2 if average == "same_history" else -3
        return log_mean_policy(jax.nn.log_softmax(q), axis).squeeze(axis)

    def _regulariser(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        added, metrics = super()._regulariser(learning)
        own = self._individual_values(learning.params["agent"], learning.values.hidden[:-1])
        size = masked_mean(jnp.abs(own).mean((-2, -1)), learning.batch.valid.astype(own.dtype))
        added += self.config.individual_weight * size
        return added, {**metrics, "individual_values": size}
