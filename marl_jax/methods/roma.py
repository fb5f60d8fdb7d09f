"""ROMA: an agent's policy is generated from a role that it draws from what it sees, on any mixer.

Paper: Wang et al. 2020, "ROMA: Multi-Agent Reinforcement Learning with Emergent Roles". Authors' code:
github.com/TonghanWang/ROMA `latent_ce_dis_rnn_agent.py`, `latent_q_learner.py`, from which the preset "authors" takes
what departs from the paper. The paper gives the mixing network a ReLU (App. B.1) and says that it is QMIX's (App. D),
whose is an ELU; it is QMIX's here and in the authors' code.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from envs.configuration import Config, Range
from marl_jax.distributions import gaussian
from marl_jax.losses import (
    masked_mean,
    partners,
    scale_to_unit,
    softplus_of_clamped,
    specialisation_loss,
)
from marl_jax.methods.part import Given, HeadedAgents, Part, history
from marl_jax.methods.q_learner import QLearner
from marl_jax.methods.team import NotNegative
from marl_jax.networks import Params
from marl_jax.networks.roles import (
    Dissimilarity,
    Gaussian,
    GaussianEncoder,
    HiddenLayer,
    RoleDecoder,
)
from marl_jax.rows import by_episode
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class RoleOptions(Config):
    """Options of ROMA. Defaults are the paper's; "authors" in a comment is what their code does instead."""

    role_size: Annotated[int, Range(minimum=1)] = 3
    """Numbers that make a role."""
    role_hidden: Annotated[int, Range(minimum=1)] = 12
    """Units of the hidden layer of the role encoder, the role decoder, the trajectory encoder and the dissimilarity
    model. Authors: 16."""
    role_activation: Literal["relu", "leaky_relu"] = "relu"
    """Their activation. Authors: leaky_relu."""
    role_batch_norm: bool = False
    """Whether their hidden units are normalised over environments and agents, always with the statistics of the
    episodes at hand, so that an agent's values depend on the other episodes. Authors: true."""
    role_input: Literal["observation", "all"] = "observation"
    """What the role encoder sees, and the trajectory encoder besides the history: the observation, or all that the
    agent's network sees (last action and identity too). Authors: all."""
    min_role_variance: Annotated[float, Range(above=0, maximum=1)] = 0.1
    """Least variance of a role. Authors: 2e-3 on MMM2, 1e-4 elsewhere."""
    greedy_roles: Literal["sampled", "mean"] = "sampled"
    """Whether greedy agents draw their roles, as in the paper and in training, or take the means (ours)."""
    identifiability_weight: Annotated[float, NotNegative] = 1e-4
    """Weight of the identifiability loss L_I (lambda_I); 0 with specialisation_weight and role_entropy_weight at 0 is
    the ablation L_TD."""
    specialisation_weight: Annotated[float, NotNegative] = 1e-2
    """Weight of the specialisation loss L_D (lambda_D). Authors: 1e-3. With two agents, of which the smaller and the
    larger number of a pair are scaled to 0 and 1 whatever they are, it teaches nothing."""
    role_entropy_weight: Annotated[float, NotNegative] = 0.0
    """Weight of the entropy of the roles in L_I, which is minimised, so that it makes roles less random. The paper has
    none. Authors: 1e-4 on MMM2, 5e-2 elsewhere."""
    softplus: bool = False
    """Whether L_I is clamped and passed through log(1 + exp(.)), which halves its slope. Authors: true."""
    pair_information: Literal["trajectory", "role"] = "trajectory"
    """What a pair's information is: trajectory, log q(role_i | tau_j, o_j), the paper's; or role, the density of
    agent j's role under agent i's own distribution, each number's bounded as in the authors' code."""
    dissimilarity_input: Literal["trajectory", "role"] = "trajectory"
    """What the dissimilarity model compares: histories, or sampled roles. Authors: role, and its absolute value."""
    dissimilarity_norm: Literal["frobenius", "l1"] = "frobenius"
    """Norm of the matrix of dissimilarities. Authors: l1."""
    self_pairs: bool = False
    """Whether an agent is also paired with itself. Authors: true."""
    pair_reduction: Literal["sum", "mean"] = "sum"
    """Whether L_D sums over pairs, or takes their mean. Authors: mean."""
    role_loss_steps: Literal["valid", "all"] = "valid"
    """Which steps L_I and L_D are means over: those of the episode, or also the padding after it. Authors: all; their
    padding is empty, ends with the longest episode of a batch and counts one observation more, ours is what the world
    shows after the end, up to the time limit."""


def _normal(law: Gaussian) -> Any:
    return gaussian(law.mean, law.variance)


def _draw(law: Gaussian, noise: Float[Array, "*shape D"]) -> Float[Array, "*shape D"]:
    """A sample, from normal noise, that passes the slope on to mean and variance."""
    return law.mean + jnp.sqrt(law.variance) * noise


def _over_agents(x: Float[Array, "T B N D"]) -> Float[Array, "T B"]:
    """The sum over a role's numbers, and the mean over agents."""
    return x.sum(-1).mean(-1)


def _bounded(log_density: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """What the authors make of the log-density of one number of a role."""
    return jnp.maximum(log_density + 13.9, -13.9)


def _hidden_layer(config: Any) -> HiddenLayer:
    """Of the small networks."""
    axes = (-3, -2) if config.role_batch_norm else ()
    return HiddenLayer(config.role_hidden, _activation(config), axes)


def _activation(config: Any) -> Any:
    return nn.leaky_relu if config.role_activation == "leaky_relu" else nn.relu


@dataclasses.dataclass(frozen=True)
class RoleAgents(HeadedAgents):
    """Agents whose output layers are generated from roles that they draw at every step."""

    @property
    def encoder(self) -> GaussianEncoder:
        """p(role | o), and of another instance q(role | tau, o)."""
        c = self.config
        return GaussianEncoder(_hidden_layer(c), c.role_size, c.min_role_variance)

    @property
    def decoder(self) -> RoleDecoder:
        """From hidden states and roles to outputs."""
        return RoleDecoder(_hidden_layer(self.config), self.core.sizes.num_actions)

    @property
    def role_input_size(self) -> int:
        """Features that the role encoder sees."""
        sees_all = self.config.role_input == "all"
        return int(self.core.agent_input_size if sees_all else self.core.sizes.observation)

    def init_head(self, key: jax.Array) -> dict[str, Params]:
        """The role encoder and the decoder."""
        _, encoder_key, decoder_key = jax.random.split(key, 3)
        c, n = self.config, self.core.sizes.num_agents
        seen, role = jnp.zeros((1, n, self.role_input_size)), jnp.zeros((1, n, c.role_size))
        return {
            "encoder": self.encoder.init(encoder_key, seen),
            "decoder": self.decoder.init(decoder_key, jnp.zeros((1, n, c.hidden_size)), role),
        }

    def noise(self, num_envs: int, key: jax.Array) -> Float[Array, "B N D"]:
        """What makes the roles."""
        shape = (num_envs, self.core.sizes.num_agents, self.config.role_size)
        return jax.random.normal(key, shape)

    def outputs(self, params: Params, given: Given) -> Float[Array, "*shape N A"]:
        """By a layer that roles generate, which are drawn with the noise that is given, or with new one.

        Greedy agents may take their roles' means, which is to draw 0.
        """
        noise, shape = given.latent, (*given.inputs.shape[:-1], self.config.role_size)
        if not given.explore and self.config.greedy_roles == "mean":
            noise = jnp.zeros(shape)
        elif isinstance(noise, tuple):
            if given.inputs.ndim == 3:
                noise = self.noise(len(given.inputs), given.key)
            else:
                noise = by_episode(given.rows, shape, given.key, jax.random.normal)
        role = _draw(self.encode(params["encoder"], self.seen(given.inputs)), noise)
        return self.decoder.apply(params["decoder"], given.out, role)  # type: ignore[return-value]

    def seen(self, inputs: Float[Array, "*shape N I"]) -> Float[Array, "*shape N J"]:
        """Of what the agents' networks see, what the role encoder does."""
        return inputs[..., : self.role_input_size]

    def encode(self, params: Params, seen: Float[Array, "*shape N I"]) -> Gaussian:
        """The roles' distributions."""
        encoded: Gaussian = self.encoder.apply(params, seen)  # type: ignore[assignment]
        return encoded


@dataclasses.dataclass(frozen=True)
class Roles(Part):
    """ROMA: agents with roles, and the two losses on them.

    The paper plays eight environments side by side, and its authors take a gradient step for eight episodes, each of up
    to a hundred steps or so.
    """

    name: ClassVar = "roma"
    Options: ClassVar = RoleOptions
    # Roles make the output layer, of agents that are alike.
    fixed: ClassVar = {"sharing": "shared", "head_sizes": ()}
    continuous: ClassVar[bool] = True

    @classmethod
    def defaults_on(cls, backbone: type) -> Mapping[str, Any]:
        """The paper's and its authors' rates, on the Q-learner."""
        return {"num_envs": 8, "update_interval": 800} if issubclass(backbone, QLearner) else {}

    @property
    def agents(self) -> RoleAgents:
        """Agents with roles."""
        return RoleAgents(self.core, self.config)

    @property
    def dissimilarity_model(self) -> Dissimilarity:
        """How unlike two agents are."""
        c = self.config
        compares_roles = c.dissimilarity_input == "role"
        return Dissimilarity(c.role_hidden, _activation(c), c.role_batch_norm, compares_roles)

    def init(self, key: jax.Array) -> dict[str, Params]:
        """The trajectory encoder and the dissimilarity model."""
        _, trajectory_key, dissimilarity_key = jax.random.split(key, 3)
        c, n, agents = self.config, self.core.sizes.num_agents, self.agents
        seen = jnp.zeros((1, n, c.hidden_size + agents.role_input_size))
        compared = c.role_size if c.dissimilarity_input == "role" else c.hidden_size
        return {
            "trajectory": agents.encoder.init(trajectory_key, seen),
            "dissimilarity": self.dissimilarity_model.init(
                dissimilarity_key, jnp.zeros((1, n, compared)), self.partners
            ),
        }

    @property
    def own_rows(self) -> bool:
        """Where a loss counts padding, or looks across a batch at each step of it."""
        c = self.config
        return bool(c.role_loss_steps == "all" or c.role_batch_norm or c.softplus)

    def loss(self, learning: Any) -> tuple[jax.Array, Metrics]:
        """Lambda_I L_I + lambda_D L_D (Eq. 7).

        The histories are constant, and so is what the losses see of the agents' networks but the role encoder: they
        train that one, the trajectory encoder and the dissimilarity model.
        """
        c, steps = self.config, learning.steps
        params, before, mask = steps.params, steps.before, steps.mask
        seen = self.agents.seen(steps.inputs)
        roles = self.agents.encode(steps.network["encoder"], seen)
        inferred = self.infer(params, before, seen)
        role = _draw(roles, steps.normal(roles.mean.shape))
        if c.role_loss_steps == "all":
            mask = jnp.ones_like(mask)
        divergence = _over_agents(_normal(roles).kl_divergence(_normal(inferred)))
        entropy = _over_agents(_normal(roles).entropy())
        identifiability = self.identifiability_loss(divergence, entropy, mask)

        dissimilarity = self.dissimilarity(params, before, role)
        information = scale_to_unit(self.information(roles, inferred, role))
        per_step = specialisation_loss(information, dissimilarity, c.dissimilarity_norm)
        if c.pair_reduction == "mean":
            per_step = per_step / max(1, information.shape[-1] * information.shape[-2])
        specialisation = masked_mean(per_step, mask)

        return identifiability + c.specialisation_weight * specialisation, {
            "role_divergence": masked_mean(divergence, mask),
            "role_entropy": masked_mean(entropy, mask),
            "specialisation_loss": specialisation,
        }

    def identifiability_loss(
        self,
        divergence: Float[Array, "T B"],
        entropy: Float[Array, "T B"],
        mask: Float[Array, "T B"],
    ) -> Float[Array, ""]:
        """Lambda_I L_I, and the entropy beside it; perhaps through the authors' softplus."""
        c = self.config
        if c.softplus:
            # The authors' clamp and softplus are of the weighted mean at each step of the batch.
            per_step = c.identifiability_weight * divergence + c.role_entropy_weight * entropy
            counted = jnp.maximum(mask.sum(-1), 1.0)
            per_step = softplus_of_clamped((per_step * mask).sum(-1) / counted)
            return masked_mean(jnp.broadcast_to(per_step[:, None], mask.shape), mask)
        loss = c.identifiability_weight * masked_mean(divergence, mask)
        return loss + c.role_entropy_weight * masked_mean(entropy, mask)

    def seen(self, batch: EpisodeBatch) -> Float[Array, "T B N I"]:
        """What the role encoder sees along episodes."""
        return self.agents.seen(self.core.agent_inputs(batch.observation, batch.last_action))[:-1]

    def partners(self, x: Float[Array, "*shape N D"]) -> Float[Array, "*shape N S D"]:
        """What the other agents have of `x`, beside each agent."""
        return partners(x, self.config.self_pairs)

    def infer(
        self, params: dict[str, Params], before: jax.Array, seen: Float[Array, "T B N I"]
    ) -> Gaussian:
        """The trajectory encoder's q(role | tau, o)."""
        return self.agents.encode(params["trajectory"], jnp.concatenate([before, seen], axis=-1))

    def information(
        self, roles: Gaussian, inferred: Gaussian, role: Float[Array, "T B N D"]
    ) -> Float[Array, "T B N S"]:
        """How much each agent's role says of its partners, not scaled yet."""
        if self.config.pair_information == "trajectory":
            theirs = Gaussian(*(self.partners(x) for x in inferred))
            return _normal(theirs).log_prob(role[..., None, :]).sum(-1)
        own = Gaussian(*(x[..., None, :] for x in roles))
        return _bounded(_normal(own).log_prob(self.partners(role))).mean(-1)

    def dissimilarity(
        self, params: dict[str, Params], before: jax.Array, role: Float[Array, "T B N D"]
    ) -> Float[Array, "T B N S"]:
        """Between each agent and its partners, scaled to 0..1."""
        compared = role if self.config.dissimilarity_input == "role" else before
        d: jax.Array = self.dissimilarity_model.apply(  # type: ignore[assignment]
            params["dissimilarity"], compared, self.partners
        )
        return scale_to_unit(d)

    # What the paper looks at.

    def roles(self, state: Any, batch: EpisodeBatch) -> Gaussian:
        """The roles' distributions along episodes, [T, B, N, role_size] each."""
        return self.agents.encode(_acting(state)["encoder"], self.seen(batch))

    def dissimilarities(self, state: Any, batch: EpisodeBatch) -> Float[Array, "T B N N"]:
        """The learned dissimilarity of every two agents along episodes, scaled to 0..1 as in the loss.

        What is not counted as a pair (an agent with itself, by default) is NaN. Where roles are compared, their means
        are.
        """
        inputs = self.core.agent_inputs(batch.observation, batch.last_action)
        hidden, _ = self.agents.unroll(_acting(state), inputs, (), jax.random.key(0), batch.rows)
        role = self.roles(state, batch).mean
        d = self.dissimilarity(state.params, history(hidden[:-1]), role)
        n, shifts = d.shape[-2:]
        agent = jnp.arange(n)[:, None]
        partner = (agent - jnp.arange(1, shifts + 1)) % n
        return jnp.full((*d.shape[:-1], n), jnp.nan).at[..., agent, partner].set(d)


def _acting(state: Any) -> Params:
    """What the agents act by: a Q-learner's, or the PPO core's."""
    params: Params = state.params["agent" if "agent" in state.params else "actor"]
    return params
