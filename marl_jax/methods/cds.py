"""CDS and SCDS on QMIX: the team is paid for information about who an agent is in what it does.

Papers: Li et al. 2021, "Celebrating Diversity in Shared Multi-Agent Reinforcement Learning" (CDS); SCDS is a baseline
of Liu et al. 2023 (CIA). Authors' code: github.com/lich14/CDS `CDS_QMIX.py` (its football tasks) and
`dmaq_qatten_learner.py` (its StarCraft tasks).
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from envs.configuration import Config, Range
from marl_jax.losses import masked_mean
from marl_jax.methods.part import Given, HeadedAgents, Part
from marl_jax.methods.q_learner import (
    Learning,
    only_q_learner,
)
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import Linear, Params, apply_per_agent, init_per_agent
from marl_jax.optimizers import make_optimizer
from marl_jax.types import Metrics

PREDICTOR_MAX_GRAD_NORM = 1.0
"""Global norm to which the gradients of each of CDS's predictors are clipped."""


@dataclasses.dataclass(frozen=True)
class PredictorOptions(Config):
    """Options of SCDS; where it shares them, of the authors' `CDS_QMIX.yaml` for CDS.

    The authors train the predictors apart from the agents: in football every 16 episodes, for 25 epochs in chunks of
    256 transitions; in StarCraft once over every batch in such chunks. Here they take one Adam step on the whole batch
    of every gradient step (ours).
    """

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


class Predictor(nn.Module):
    """Dense layers with ReLUs between them; the first two also see an agent's identity (authors: `predict_net.py`).

    Weights start uniform as Xavier's, biases at 0. In StarCraft the authors also normalise the first layer's outputs.

    Attributes:
        features: units of each layer.
    """

    features: tuple[int, ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch I"], identity: Float[Array, "*batch K"]
    ) -> Float[Array, "*batch O"]:
        """Maps [..., I] to [..., features[-1]]; K is 0 for one that does not know the identity."""
        for i, size in enumerate(self.features):
            x = nn.relu(x) if i else x
            x = jnp.concatenate([x, identity], axis=-1) if i < 2 else x
            x = Linear(size, initialization="glorot")(x)
        return x


@dataclasses.dataclass(frozen=True)
class Predictors(Part):
    """SCDS: two predictors of what an agent sees next, of which one knows who it is, and what they pay the team.

    The team is paid, averaged over agents i with histories tau, for information about i in what they do:

        beta (beta1 log q(o' | tau, a, i) - log p(o' | tau, a) + beta2 KL(softmax(beta1 Q_i) || p(a)))

    where log-densities are minus the squared errors of the predictors, and p(a) is the mean of the agents' policies
    softmax(Q_j). The paper's p(a | tau), what any agent would do in the place of i, is the policy of i itself where all
    parameters are shared. Agents do not see who they are: their histories are to tell.
    """

    name: ClassVar = "scds"
    Options: ClassVar[type[Config]] = PredictorOptions
    # Agents are told apart by what they do.
    fixed: ClassVar[Mapping[str, Any]] = {"sharing": "shared", "observe_identity": False}

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Only the Q-learner has its losses."""
        return only_q_learner(backbone)

    @property
    def predictor(self) -> Predictor:
        """From an agent's past hidden state, observation and action, and perhaps its number, to what it sees next."""
        return Predictor((*self.config.predictor_hidden, self.core.sizes.observation))

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Adam for each of the predictors."""
        adam = make_optimizer("adam", self.config.predictor_lr, PREDICTOR_MAX_GRAD_NORM)
        return {"predictor": adam, "identity_predictor": adam}

    def init(self, key: jax.Array) -> dict[str, Params]:
        """The predictors."""
        _, key, identity_key = jax.random.split(key, 3)
        sizes = self.core.sizes
        seen = jnp.zeros((self.config.hidden_size + sizes.observation + sizes.num_actions,))
        return {
            "predictor": self.predictor.init(key, seen, seen[:0]),
            "identity_predictor": self.predictor.init(
                identity_key, seen, jnp.zeros((sizes.num_agents,))
            ),
        }

    def log_predictions(
        self, params: dict[str, Params], learning: Learning
    ) -> tuple[Float[Array, "T B N"], Float[Array, "T B N"]]:
        """By the predictors in `params`: log p(o' | tau, a) and log q(o' | tau, a, i), up to the same constant."""
        batch = learning.batch
        parts = [learning.steps.before, batch.observation[:-1], self.core.one_hot(batch.action)]
        seen = jnp.concatenate(parts, axis=-1)
        identity = self.core.identities(seen.shape[:-2])

        def log_density(name: str, identity: jax.Array) -> jax.Array:
            expected: Any = self.predictor.apply(params[name], seen, identity)
            return -jnp.sum((expected - batch.observation[1:]) ** 2, axis=-1)

        known = log_density("identity_predictor", identity)
        return log_density("predictor", identity[..., :0]), known

    def log_mean_policies(self, learning: Learning) -> Float[Array, "T B #N A"]:
        """The policies that each agent's is compared with."""
        return log_mean_policy(jax.nn.log_softmax(learning.values.online[:-1]), axis=-2)

    def reward(self, learning: Learning) -> Float[Array, "T B N"]:
        """What each agent's step is paid, before beta; constant. The target networks' predictors judge it."""
        c = self.config
        log_p, log_q = self.log_predictions(learning.state.target, learning)
        log_mean = self.log_mean_policies(learning)
        divergence = policy_divergence(learning.values.online[:-1], log_mean, c.identity_weight)
        reward = c.identity_weight * log_q - log_p + c.policy_weight * divergence
        return jax.lax.stop_gradient(reward)

    def bonus(self, learning: Learning) -> tuple[float, Float[Array, "T B N"]]:
        """Beta, and the reward."""
        return self.config.intrinsic_weight, self.reward(learning)

    def loss(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        """The predictors' losses, which reach only the predictors; also logs the reward, unweighted."""
        log_p, log_q = self.log_predictions(learning.params, learning)
        valid = learning.batch.valid.astype(log_p.dtype)
        loss, identity_loss = (-masked_mean(x.mean(-1), valid) for x in (log_p, log_q))
        return loss + identity_loss, {
            "predictor_loss": loss,
            "identity_predictor_loss": identity_loss,
            "intrinsic_reward": masked_mean(self.reward(learning).mean(-1), valid),
        }


@dataclasses.dataclass(frozen=True)
class HeadOptions(PredictorOptions):
    """Options of CDS; the authors' `CDS_QMIX.yaml`."""

    individual_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the mean size of the individual action values (L1). Where returns are much smaller than in the
    authors' tasks, it can keep agents from differing."""
    policy_average: Literal["same_history", "same_head", "own_history"] = "same_history"
    """What the mean policy, with which an agent's is compared, is a mean of. same_history: all agents' heads on the
    agent's history, the paper's p(a | tau). same_head: the agent's head on all agents' histories, as the authors'
    football code has it. own_history: each agent's head on its own history, as their StarCraft code has it."""


@dataclasses.dataclass(frozen=True)
class AgentsWithHeads(HeadedAgents):
    """Agents whose action values are those of a layer that all share plus those of a layer of their own."""

    @property
    def head(self) -> Linear:
        """From a hidden state to action values: the shared ones, or one agent's individual ones."""
        return Linear(self.core.sizes.num_actions)

    def init_head(self, key: jax.Array) -> dict[str, Params]:
        """Both layers."""
        _, shared_key, individual_key = jax.random.split(key, 3)
        hidden = jnp.zeros((self.config.hidden_size,))

        def init(key: jax.Array) -> Params:
            return self.head.init(key, hidden)

        n = self.core.sizes.num_agents
        return {
            "shared": init(shared_key),
            "individual": init_per_agent(init, individual_key, n, "independent"),
        }

    def individual_values(
        self, params: Params, hidden: Float[Array, "*shape N H"]
    ) -> Float[Array, "*shape N A"]:
        """Q_i of each agent's own layer."""
        values: jax.Array = apply_per_agent(
            self.head.apply, params["individual"], hidden, sharing="independent"
        )
        return values

    def outputs(self, params: Params, given: Given) -> Float[Array, "*shape N A"]:
        """Both together."""
        shared: Any = self.head.apply(params["shared"], given.out)
        return shared + self.individual_values(params, given.out)


@dataclasses.dataclass(frozen=True)
class Heads(Predictors):
    """CDS: SCDS's reward, and output layers of the agents' own, kept small so that agents differ where it pays."""

    name: ClassVar = "cds"
    Options: ClassVar[type[Config]] = HeadOptions
    fixed: ClassVar[Mapping[str, Any]] = {**Predictors.fixed, "head_sizes": ()}

    @property
    def agents(self) -> AgentsWithHeads:
        """Agents with an output layer each."""
        return AgentsWithHeads(self.core, self.config)

    def log_mean_policies(self, learning: Learning) -> Float[Array, "T B #N A"]:
        """By `policy_average`."""
        average = self.config.policy_average
        if average == "own_history":
            return super().log_mean_policies(learning)
        params, hidden = learning.steps.network, learning.values.hidden[:-1]
        head = self.agents.head
        heads = jax.vmap(head.apply, in_axes=(0, None), out_axes=-2)
        shared: Any = head.apply(params["shared"], hidden)
        # [T, B, N histories, N heads, A]
        q = shared[..., None, :] + heads(params["individual"], hidden)
        axis = -2 if average == "same_history" else -3
        return log_mean_policy(jax.nn.log_softmax(q), axis).squeeze(axis)

    def loss(self, learning: Learning) -> tuple[jax.Array, Metrics]:
        """The predictors', and the size of the individual values."""
        added, metrics = super().loss(learning)
        params, hidden = learning.steps.network, learning.values.hidden[:-1]
        own = self.agents.individual_values(params, hidden)
        size = masked_mean(jnp.abs(own).mean((-2, -1)), learning.batch.valid.astype(own.dtype))
        added += self.config.individual_weight * size
        return added, {**metrics, "individual_values": size}
