"""LIIR: learning individual intrinsic reward (Du et al., NeurIPS 2019), on the PPO core.

Each agent i is paid r + lambda r_in(o_i, u_i; eta) (Eq. 2) and has a value of that proxy reward, which its policy
follows (Eq. 6). The intrinsic reward follows the team's own return through a policy step (Eq. 7): eta moves so that the
*updated* policy earns more.

The meta-gradient, exactly and without second derivatives of the recurrent network. Let g(eta) be the policy gradient of
a batch under the proxy advantages (`meta_share` says of how many of an iteration's episodes), theta' = theta + alpha
g(eta) a plain step, and J(theta') the importance-weighted objective (Eq. 8). Then

    dJ/deta = alpha < grad J(theta'), dg/deta >

and g is linear in the advantages: g = mean_t A_t(eta) grad log pi(u_t). So dJ/deta is the gradient of mean_t c_t A_t
with c_t = alpha < grad J(theta'), grad log pi(u_t) >, which one forward-mode derivative of the unrolled policies gives
for all steps at once.

`--preset paper` trains the paper's own actor-critic in place of this core (`liir_paper`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from envs.configuration import Config, ConfigurationError, Range
from marl_jax.losses import (
    action_values,
    importance_weighted_objective,
    masked_mean,
    normalise,
    policy_gradient_loss,
)
from marl_jax.methods.diagnostics import intrinsic_ratio
from marl_jax.methods.mappo import HAPPO
from marl_jax.methods.part import Learned, Paid, Part
from marl_jax.methods.ppo import Experience, Learner, Lesson, PPOState, only_ppo
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.methods.trpo import TRPO
from marl_jax.networks import MLP, Params
from marl_jax.rows import Rows, in_rows
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class RewardOptions(Config):
    """Options of the intrinsic reward."""

    intrinsic_weight: Annotated[float, NotNegative] = 0.01
    """Lambda of Eq. 2, the weight of the intrinsic reward; with 0 nothing of it is learned."""
    intrinsic_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the intrinsic reward (Adam)."""
    intrinsic_eps: Annotated[float, Positive] = 1e-10
    """What its optimiser adds to the root of the mean square: far below meta-gradients, whose norm is 1e-4 to 1e-2."""
    intrinsic_bound: Annotated[float, Positive] = 10.0
    """The intrinsic reward is bound * tanh(x / bound) (authors' code; paper silent)."""
    intrinsic_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (64, 64)
    """Units of the hidden layers of the intrinsic reward's network."""
    meta_gradient: Literal["step", "all"] = "step"
    """Through what the meta-gradient goes. step: one plain gradient step (Eq. 7) of a share of the batch, meta_share.
    all: through all of PPO's gradient steps of an iteration, Adam and clipping included, which are taken once more and
    differentiated."""
    meta_share: Annotated[float, Range(above=0, maximum=1)] = 0.125
    """Share of an iteration's episodes that the meta-gradient through a plain step is taken on. With all of them (1) it
    costs three more passes over the policies, forwards and backwards. No matter under meta_gradient "all"."""
    inner_lr: Annotated[float, Positive] = 1.0
    """Size alpha of that plain step. No matter under meta_gradient "all"."""


@dataclasses.dataclass(frozen=True)
class LearnedReward(Part):
    """LIIR's intrinsic reward of each agent, learned by meta-gradient."""

    name: ClassVar = "liir"
    Options: ClassVar = RewardOptions
    continuous: ClassVar[bool] = True

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Only the PPO core pays it, and its agents learn together."""
        if issubclass(backbone, HAPPO):
            return "its gradient goes through a step that all agents take at once, and happo's take turns"
        if issubclass(backbone, TRPO):
            return "its gradient goes through gradient steps of the policies, and trpo's take another kind"
        return only_ppo(backbone) and (
            "its meta-gradient goes through the policies' step of the PPO core: ippo or mappo"
        )

    @classmethod
    def needs_on(cls, backbone: type) -> Mapping[str, Any]:
        """Advantages that a plain step follows."""
        del backbone
        return {"normalise_advantage": "batch"}

    def check(self) -> None:
        """Refuses advantages that a plain step does not follow."""
        c = self.config
        if c.meta_gradient == "step" and c.normalise_advantage == "minibatch":
            raise ConfigurationError(
                "normalise_advantage is 'minibatch'; it must be 'batch' or 'agent' unless meta_gradient is 'all'."
            )
        # The meta-gradient goes through the task's reward and its own, and knows of no other.
        if any(type(part).rewards is not Part.rewards for part in self.core.parts if part != self):
            raise ConfigurationError(
                "liir stands beside a part that pays agents, too; it must be the only one that does."
            )

    @property
    def values(self) -> tuple[str, ...]:
        """That of the task's reward, which the outer objective is about."""
        return ("extrinsic",)

    @property
    def network(self) -> MLP:
        """From what one agent sees to a number for each of its actions; continuous ones are seen, too."""
        sizes = self.core.sizes
        outputs = 1 if sizes.continuous else sizes.num_actions
        return MLP((*self.config.intrinsic_hidden, outputs))

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam, never clipped."""
        c = self.config
        return optax.adam(c.intrinsic_lr, eps=c.intrinsic_eps)

    def start(self, key: jax.Array) -> Learned:
        """Draws eta."""
        core = self.core
        size = core.agent_input_size + core.sizes.num_actions * core.sizes.continuous
        params = core.init_network(self.network, size, key)
        return Learned(params, self.optimizer.init(params))

    def table(self, eta: Params, inputs: Float[Array, "T B N I"]) -> Float[Array, "T B N A"]:
        """The intrinsic reward of every action; [T, B, N, 1] of a continuous one that stands behind the inputs."""
        c = self.config
        out = self.core.apply_network(self.network, eta, inputs)
        reward: jax.Array = c.intrinsic_bound * jnp.tanh(out / c.intrinsic_bound)
        return reward

    def of_taken(self, eta: Params, experience: Experience) -> Float[Array, "T B N"]:
        """The intrinsic reward of the actions taken; 0 once an agent is dead, when what it does means nothing."""
        batch = experience.batch

        def of_each(seen: tuple[jax.Array, jax.Array], rows: Rows | None) -> jax.Array:
            inputs, action = seen
            if self.core.sizes.continuous:
                taken = self.table(eta, jnp.concatenate([inputs, action], axis=-1))[..., 0]
            else:
                taken = action_values(self.table(eta, inputs), action)
            return taken if rows is None else rows.unpack(taken)

        seen = (experience.inputs[:-1], batch.action)
        if batch.rows is None:
            counts = self.core.sizes.row_counts(batch.valid.shape[1])
            taken = in_rows(counts, batch.valid, seen, of_each)
        else:
            taken = of_each(seen, None)
        return jnp.where(experience.alive > 0, taken, 0.0)

    def proxy_reward(
        self, eta: Params, experience: Experience, paid: Float[Array, "T B N"]
    ) -> Float[Array, "T B N"]:
        """R + lambda r_in (Eq. 2)."""
        weight = self.config.intrinsic_weight
        return paid + weight * self.of_taken(eta, experience) if weight else paid

    def rewards(
        self,
        state: Learned,
        experience: Experience,
        paid: Float[Array, "T B N"],
        env_steps: Int[Array, ""],
    ) -> tuple[Learned, Paid]:
        """The proxy reward, and the task's."""
        del env_steps
        proxy = self.proxy_reward(state.params, experience, paid)
        return state, Paid(proxy, None, {}, (experience.batch.reward,))

    def learn(self, state: Learned, lesson: Lesson) -> tuple[Learned, Metrics]:
        """One step along the meta-gradient."""
        c, experience = self.config, lesson.experience
        if not c.intrinsic_weight:
            return state, {}
        share = self._share(lesson)
        batch = share.experience.batch

        def climb(experience: Experience, rows: Rows | None) -> tuple[jax.Array, Params]:
            laid = experience._replace(batch=experience.batch._replace(rows=rows))
            return self.meta_gradient(state.params, share._replace(experience=laid))

        # The passes of all gradient steps choose their own rows.
        once = c.meta_gradient != "all"
        num = batch.valid.shape[1]
        counts = self.core.sizes.row_counts(num) if once else (num,)
        objective, gradient = in_rows(counts, batch.valid, share.experience, climb)
        learned = state.after(self.optimizer, jax.tree.map(jnp.negative, gradient))

        mask = experience.alive
        r_in = self.of_taken(state.params, experience)
        return learned, {
            "outer_objective": objective,
            "meta_grad_norm": optax.tree.norm(gradient),
            "intrinsic_reward_mean": masked_mean(r_in, mask),
            "intrinsic_reward_abs": masked_mean(jnp.abs(r_in), mask),
            "intrinsic_ratio": intrinsic_ratio(
                c.intrinsic_weight * r_in, self.extrinsic_advantage(experience), mask
            ),
        }

    def _share(self, lesson: Lesson) -> Lesson:
        """The episodes that the meta-gradient is taken on."""
        c = self.config
        if c.meta_gradient == "all":
            return lesson
        episodes = max(1, round(c.meta_share * lesson.experience.played.shape[1]))
        share = jax.tree.map(lambda x: x[:, :episodes], lesson.experience)
        return lesson._replace(experience=share)

    def extrinsic_advantage(self, experience: Experience) -> Float[Array, "T B N"]:
        """The advantage of the task's reward, which the outer objective is about."""
        value = self.core.values_of(self, experience)[..., 0]
        return self.core.advantage(experience, experience.batch.reward, value)

    def proxy_advantage(self, eta: Params, lesson: Lesson) -> Float[Array, "T B N"]:
        """The advantage that the policies follow, as a function of eta; values count as constants."""
        experience = lesson.experience
        proxy = self.proxy_reward(eta, experience, experience.batch.reward)
        return self.core.normalised(experience, self.core.advantage(experience, proxy))

    def log_prob(self, actor: Params, experience: Experience) -> Float[Array, "T B N"]:
        """Of the actions taken, under other parameters of the policies."""
        rows = experience.batch.rows
        noise = experience.batch.extras.noise
        logits = self.core.logits(actor, experience.inputs[:-1], noise, rows)[1]
        policy = self.core.policy(logits, experience.batch.action_mask[:-1])
        taken: jax.Array = policy.log_prob(self.core.decisions(experience.batch))
        # Padding may hold an action that is not available.
        return jnp.where(experience.chooses > 0, taken, 0.0)

    def inner_step(self, eta: Params, lesson: Lesson) -> Params:
        """Theta' of Eq. 6: the policies after a plain step along the proxy advantages."""
        advantage = self.proxy_advantage(eta, lesson)

        def loss(actor: Params) -> jax.Array:
            log_prob = self.log_prob(actor, lesson.experience)
            return policy_gradient_loss(log_prob, advantage, lesson.experience.chooses)

        actor = lesson.before.params["actor"]
        gradient = jax.grad(loss)(actor)
        return jax.tree.map(lambda x, g: x - self.config.inner_lr * g, actor, gradient)

    def outer_objective(self, actor: Params, lesson: Lesson) -> Float[Array, ""]:
        """J of updated policies on what the old ones did (Eq. 8), each agent with its own ratio."""
        experience = lesson.experience
        advantage = normalise(self.extrinsic_advantage(experience), experience.alive)
        old = jnp.where(experience.chooses > 0, experience.batch.extras.log_prob, 0.0)
        return importance_weighted_objective(
            self.log_prob(actor, experience), old, advantage, experience.chooses
        )

    def meta_gradient(self, eta: Params, lesson: Lesson) -> tuple[Float[Array, ""], Params]:
        """J of the updated policies, and its gradient in eta, to ascend."""
        if self.config.meta_gradient == "all":
            return jax.value_and_grad(lambda eta: self._after_everything(eta, lesson))(eta)
        before, mask = lesson.before.params["actor"], lesson.experience.chooses
        updated = self.inner_step(eta, lesson)
        objective, direction = jax.value_and_grad(self.outer_objective)(updated, lesson)
        _, change = jax.jvp(
            lambda actor: self.log_prob(actor, lesson.experience), (before,), (direction,)
        )
        influence = self.config.inner_lr * change

        def through_advantages(eta: Params) -> jax.Array:
            return -policy_gradient_loss(influence, self.proxy_advantage(eta, lesson), mask)

        return objective, jax.grad(through_advantages)(eta)

    def _after_everything(self, eta: Params, lesson: Lesson) -> Float[Array, ""]:
        """J after all of PPO's gradient steps, which are taken once more, as a function of eta."""
        advantage = self.proxy_advantage(eta, lesson).reshape(lesson.lessons.advantage.shape)
        lessons = lesson.lessons._replace(advantage=advantage)
        learner: Learner = self.core.learn(lesson.before, lessons, lesson.rates, lesson.order)[0]
        return self.outer_objective(learner.params["actor"], lesson)

    def intrinsic_reward_table(
        self, state: PPOState, batch: EpisodeBatch
    ) -> Float[Array, "T B N A"]:
        """The intrinsic reward of every action at every step of `batch`.

        Raises:
            ConfigurationError: if actions are continuous.
        """
        if self.core.sizes.continuous:
            raise ConfigurationError(
                "the task has continuous actions; they must be discrete for a table of every action's reward."
            )
        inputs = self.core.agent_inputs(batch.observation, batch.last_action)
        own = state.parts[self.core.parts.index(self)]
        return self.table(own.params, inputs[:-1])
