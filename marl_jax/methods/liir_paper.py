"""LIIR on its paper's own substrate: learning individual intrinsic reward (Du et al., NeurIPS 2019).

Each agent i is paid r + lambda r_in(o_i, u_i; eta) (Eq. 2). Its policy follows that proxy reward (Eq. 6). The
intrinsic reward follows the team's own return through that policy step (Eq. 7): eta moves so that the *updated*
policy earns more.

How the meta-gradient is computed, exactly and without second derivatives of the recurrent network. Let
g(eta) = grad_theta L(theta, eta) be the actor's gradient, theta' = theta + U(g) its update by the optimiser and
J(theta') the importance-weighted objective (Eq. 8). Then

    dJ/deta = < (dU/dg)^T grad J(theta'),  dg/deta > = d/deta < v, grad_theta L(theta, eta) >

with v = (dU/dg)^T grad J(theta'), one vector-Jacobian product through the optimiser. The actor's loss is linear in
log pi(u_t | o_t), so the inner product is the same loss with log pi replaced by c_t = < v, grad_theta log pi(u_t) >,
and one forward-mode derivative of the unrolled network gives c_t for all samples at once. With plain SGD this is
Eq. 9 to the letter.

The authors' code (yalidu/liir) does something else: it multiplies the *batch mean* of grad log pi with grad J, one
number for all samples, and descends. `meta_gradient="batch"` is that variant.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from envs.configuration import ConfigurationError, Range
from marl_jax.losses import (
    action_values,
    explained_variance,
    importance_weighted_objective,
    lambda_returns,
    masked_mean,
    normalise,
    policy_gradient_loss,
)
from marl_jax.methods.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    ActorCriticState,
    CriticSweep,
    append_final_action,
    sweep_critic,
)
from marl_jax.methods.diagnostics import critic_fit, intrinsic_ratio
from marl_jax.methods.liir_critics import SeparateNetworks, SharedTrunk
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import Params
from marl_jax.optimizers import make_optimizer
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class LIIRPaperConfig(ActorCriticConfig):
    """Hyper-parameters of LIIR; each departure of the authors' code from the paper is a value here."""

    observe_last_action: bool = True
    """Whether an agent sees its own last action, and with it r_in and V_i under critic "separate"; under "shared_trunk"
    they see everybody's in any case (authors' code)."""
    observe_identity: bool = True
    """Whether an agent sees which one it is, and with it r_in and V_i under critic "separate"; under "shared_trunk"
    they see it in any case (authors' code)."""
    critic_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (80, 80)
    """Units of the hidden layers of reward and values. The paper makes its three networks together as large as
    COMA's one critic (5.2.1); with COMA's 128, 128 that is about 80, 80 on Turn. The authors' code has 128, 128."""
    normalise_advantage: bool = True
    """Whether advantages are scaled to mean 0 and deviation 1 over the batch (authors' code; paper silent)."""
    intrinsic_weight: Annotated[float, NotNegative] = 0.01
    """Lambda of Eq. 2, the weight of the intrinsic reward."""
    intrinsic_lr: Annotated[float, Positive] = 5e-4
    """Beta of Algorithm 1, the learning rate of the intrinsic reward."""
    intrinsic_eps: Annotated[float, Positive] = 1e-5
    """What the intrinsic reward's rmsprop or adam adds to the root of the mean square. A meta-gradient far below it
    (see meta_grad_norm) moves nothing."""
    intrinsic_bound: Annotated[float, Positive] = 10.0
    """The intrinsic reward is bound * tanh(x / bound) (authors' code; paper silent)."""
    critic: Literal["separate", "shared_trunk"] = "separate"
    """What intrinsic reward and values see. separate: three networks, r_in(o_i, u_i), V_i(o_i) and V_ex(s)
    (paper, Figure 1). shared_trunk: one trunk that also sees the state and the others' current actions, with
    three heads; the intrinsic optimiser owns the heads of r_in and V_ex (authors' code)."""
    advantage: Literal["one_step", "td_lambda"] = "one_step"
    """one_step: r + gamma V(s') - V(s) (paper, below Eq. 6). td_lambda: the TD(lambda) return minus V
    (authors' code)."""
    likelihood_ratio: Literal["agent", "joint"] = "agent"
    """Ratio in the post-update objective: each agent's own (Algorithm 1, step 5) or the product over agents
    (authors' code)."""
    meta_gradient: Literal["per_sample", "batch"] = "per_sample"
    """per_sample: the gradient of Eq. 7, one coefficient per sample, ascended. batch: the authors' code, one
    coefficient for the whole batch, descended."""
    inner_update: Literal["optimizer", "sgd"] = "optimizer"
    """What per_sample differentiates through: the actor's optimiser as it is, clipping included; or a plain
    gradient step, as Eq. 9 is written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic == "shared_trunk" and not self.critic_hidden:
            raise ConfigurationError(
                "critic_hidden is (); it must have at least one layer where critic is 'shared_trunk'."
            )


class UpdateData(NamedTuple):
    """What all parts of an update read.

    Attributes:
        state: the learner before the update.
        batch: the episodes.
        actor_inputs: what the policy saw.
        critic_inputs: what the critics see, a tree of arrays [T+1, B, ...].
        epsilon: the exploration floor that the episodes were played with.
        mask: where an agent lives and can choose.
        logits: the policy's outputs.
        probs: the policy.
        backward: maps a gradient in `logits` to one in the policy's parameters.
    """

    state: ActorCriticState
    batch: EpisodeBatch
    actor_inputs: Float[Array, "T+1 B N I"]
    critic_inputs: Any
    epsilon: Float[Array, ""]
    mask: Float[Array, "T B N"]
    logits: Float[Array, "T+1 B N A"]
    probs: Float[Array, "T+1 B N A"]
    backward: Callable[[jax.Array], tuple[Params]]


class CriticValues(NamedTuple):
    """Values and targets of a batch. They count as constants in the meta-gradient.

    Attributes:
        proxy: V_i, for each step as the sweep had it just before it learned from that step.
        extrinsic: V_ex, likewise (under critic="shared_trunk": before the sweep).
        target_proxy: V_i of the target critic.
        target_extrinsic: V_ex of the target critic.
        extrinsic_target: TD(lambda) return of the team's reward.
    """

    proxy: Float[Array, "T+1 B N"]
    extrinsic: Float[Array, "T+1 B"]
    target_proxy: Float[Array, "T+1 B N"]
    target_extrinsic: Float[Array, "T+1 B"]
    extrinsic_target: Float[Array, "T B"]


class PolicyStep(NamedTuple):
    """The inner step.

    Attributes:
        actor: theta', the policy's parameters after it.
        optimizer: the actor's optimiser after it.
        grads: the gradient it followed.
        loss: the loss that was descended.
    """

    actor: Params
    optimizer: optax.OptState
    grads: Params
    loss: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class LIIRPaper(ActorCritic):
    """Learning individual intrinsic reward (Du et al. 2019), by a true meta-gradient.

    Parameter groups: "actor" (theta), "critic" (phi of the proxy values and, under critic="separate", of the
    extrinsic value; swept backwards in time) and "intrinsic" (eta).
    """

    Config: ClassVar = LIIRPaperConfig
    takes_no_parts: ClassVar = (
        "its meta-gradient goes through the task's reward and its own, and knows of no other"
    )

    @property
    def intrinsic_optimizer(self) -> optax.GradientTransformation:
        """Optimiser of the intrinsic reward; never clipped (authors' code)."""
        c = self.config
        eps = c.intrinsic_eps
        return make_optimizer(c.optimizer, c.intrinsic_lr, 0.0, adam_eps=eps, rmsprop_eps=eps)

    @property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        return {**super()._optimizers, "intrinsic": self.intrinsic_optimizer}

    @property
    def critic(self) -> SeparateNetworks | SharedTrunk:
        """The networks of intrinsic reward and values."""
        return SharedTrunk(self) if self.config.critic == "shared_trunk" else SeparateNetworks(self)

    def _init_critic(self, key: jax.Array) -> dict[str, Params]:
        return self.critic.init(key)

    def _target_source(self, params: dict[str, Params]) -> Params:
        return self.critic.target_source(params)

    def intrinsic_reward_table(
        self, state: ActorCriticState, batch: EpisodeBatch
    ) -> Float[Array, "T B N A"]:
        """r_in of every action at every step of `batch`, under the learned parameters."""
        action = jnp.concatenate([batch.action, jnp.zeros_like(batch.action[:1])])
        inputs = jax.tree.map(lambda x: x[:-1], self.critic.observe(batch, action))
        return self.critic.intrinsic_rewards(
            state.params["critic"], state.params["intrinsic"], inputs
        )

    # The update.

    def _learn(
        self, state: ActorCriticState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[ActorCriticState, Metrics]:
        """Algorithm 1, once: critics, policy, intrinsic reward."""
        data = self.prepare(state, batch, key)
        sweep, values = self.train_critics(data)
        step = self.policy_step(data, values, state.params["intrinsic"])
        outer, direction = self.outer_gradient(data, values, step)
        meta_grads = self.meta_gradient(data, values, step, direction)
        value_grads = jax.grad(self._intrinsic_value_loss, argnums=2)(
            data, values, state.params["intrinsic"]
        )
        grads = jax.tree.map(jnp.add, meta_grads, value_grads)
        updates, intrinsic_optimizer = self.intrinsic_optimizer.update(
            grads, state.optimizer["intrinsic"], state.params["intrinsic"]
        )
        params = {
            "actor": step.actor,
            "critic": sweep.params,
            "intrinsic": optax.apply_updates(state.params["intrinsic"], updates),
        }
        optimizer = {
            "actor": step.optimizer,
            "critic": sweep.optimizer,
            "intrinsic": intrinsic_optimizer,
        }
        metrics = {
            "actor_loss": step.loss,
            "actor_grad_norm": optax.tree.norm(step.grads),
            "critic_loss": sweep.loss,
            "critic_grad_norm": sweep.grad_norm,
            "entropy": self._entropy(data.logits[:-1], batch, data.mask),
            "entropy_weight": self.entropy_weight(state),
            "epsilon": data.epsilon,
            "outer_objective": outer,
            "meta_grad_norm": optax.tree.norm(meta_grads),
            "intrinsic_grad_norm": optax.tree.norm(grads),
            **self._value_metrics(data, values),
            **self._reward_metrics(data, values),
        }
        return self._finish(state, batch, sweep, params, optimizer), metrics

    def _value_metrics(self, data: UpdateData, values: CriticValues) -> Metrics:
        """How well V_i and V_ex fit the discounted returns, which bootstrap at a time limit alone."""
        batch = data.batch
        discount, team_discount = self._discounts(batch)
        proxy_reward = self._proxy_reward(data, data.state.params["intrinsic"])
        proxy_return = lambda_returns(proxy_reward, discount, values.target_proxy[1:], 1.0)
        team_return = lambda_returns(
            batch.reward.mean(-1), team_discount, values.target_extrinsic[1:], 1.0
        )
        valid = batch.valid.astype(batch.reward.dtype)
        agents = jnp.broadcast_to(valid[..., None], proxy_return.shape)
        extrinsic = explained_variance(values.extrinsic[:-1], team_return, valid)
        return {
            **critic_fit(values.proxy[:-1], proxy_return, agents),
            "extrinsic_explained_variance": extrinsic,
        }

    def _reward_metrics(self, data: UpdateData, values: CriticValues) -> Metrics:
        """What the intrinsic reward is, and its spread beside that of the advantage that the policy follows."""
        intrinsic = data.state.params["intrinsic"]
        r_in = self._taken_reward(data, intrinsic)
        advantage = self._raw_proxy_advantage(data, values, intrinsic)
        return {
            "intrinsic_reward_mean": masked_mean(r_in, data.mask),
            "intrinsic_reward_abs": masked_mean(jnp.abs(r_in), data.mask),
            "intrinsic_ratio": intrinsic_ratio(
                self.config.intrinsic_weight * r_in, advantage, data.mask
            ),
        }

    def prepare(self, state: ActorCriticState, batch: EpisodeBatch, key: jax.Array) -> UpdateData:
        """One forward pass of the policy, and the inputs of the critics."""
        actor_inputs = self.agent_inputs(batch.observation, batch.last_action)
        logits, backward = jax.vjp(
            lambda actor: self.agent.unroll(actor, actor_inputs)[1], state.params["actor"]
        )
        epsilon = self.epsilon(state)
        probs = self._probs(logits, batch.action_mask, epsilon)
        return UpdateData(
            state=state,
            batch=batch,
            actor_inputs=actor_inputs,
            critic_inputs=self.critic.observe(batch, append_final_action(batch, probs, key)),
            epsilon=epsilon,
            mask=self._agent_mask(batch),
            logits=logits,
            probs=probs,
            backward=backward,
        )

    def train_critics(self, data: UpdateData) -> tuple[CriticSweep, CriticValues]:
        """The sweep over the swept values, and all values that the rest of the update reads."""
        state, batch, inputs = data.state, data.batch, data.critic_inputs
        intrinsic = state.params["intrinsic"]
        target_proxy = self.critic.proxy_value(state.target_critic, inputs)
        target_extrinsic = self.critic.extrinsic_value(
            state.target_critic, state.target_critic, inputs
        )
        _, team_discount = self._discounts(batch)
        extrinsic_target = lambda_returns(
            batch.reward.mean(-1), team_discount, target_extrinsic[1:], self.config.td_lambda
        )
        proxy_target = self._proxy_returns(batch, target_proxy, self._proxy_reward(data, intrinsic))
        sweep = self._sweep(data, proxy_target, extrinsic_target)

        now = jax.tree.map(lambda x: x[:-1], inputs)
        proxy, extrinsic = self.critic.swept_values(sweep.values, state.params, now)
        # Nothing learns at the last observation; its values are those before the sweep.
        final = jax.tree.map(lambda x: x[-1], inputs)
        final_proxy = self.critic.proxy_value(state.params["critic"], final)
        final_extrinsic = self.critic.extrinsic_value(state.params["critic"], intrinsic, final)
        return sweep, CriticValues(
            proxy=jnp.concatenate([proxy, final_proxy[None]]),
            extrinsic=jnp.concatenate([extrinsic, final_extrinsic[None]]),
            target_proxy=target_proxy,
            target_extrinsic=target_extrinsic,
            extrinsic_target=extrinsic_target,
        )

    def policy_step(self, data: UpdateData, values: CriticValues, intrinsic: Params) -> PolicyStep:
        """The inner step: the policy follows the proxy reward (Eq. 6)."""
        advantage = self._proxy_advantage(data, values, intrinsic)

        loss, grad_logits = jax.value_and_grad(self._actor_loss)(
            data.logits, data.state, data.batch, advantage
        )
        (grads,) = data.backward(grad_logits)
        actor = data.state.params["actor"]
        updates, optimizer = self.actor_optimizer.update(
            grads, data.state.optimizer["actor"], actor
        )
        return PolicyStep(optax.apply_updates(actor, updates), optimizer, grads, loss)

    def outer_objective(
        self, data: UpdateData, values: CriticValues, actor: Params
    ) -> Float[Array, ""]:
        """J of an updated policy on the samples of the old one (Eq. 8)."""
        log_prob = self._actor_log_prob(data, actor)
        behaviour = self._log_prob(data.logits[:-1], data.batch, data.epsilon)
        advantage = self._extrinsic_advantage(data, values)
        if self.config.likelihood_ratio == "agent":
            return importance_weighted_objective(
                log_prob, behaviour, advantage[..., None], data.mask
            )
        return importance_weighted_objective(
            jnp.sum(log_prob * data.mask, axis=-1),
            jnp.sum(behaviour * data.mask, axis=-1),
            advantage,
            jnp.max(data.mask, axis=-1),
        )

    def outer_gradient(
        self, data: UpdateData, values: CriticValues, step: PolicyStep
    ) -> tuple[Float[Array, ""], Params]:
        """J of the updated policy and its gradient in the policy's parameters."""
        return jax.value_and_grad(lambda actor: self.outer_objective(data, values, actor))(
            step.actor
        )

    def meta_gradient(
        self, data: UpdateData, values: CriticValues, step: PolicyStep, direction: Params
    ) -> Params:
        """What the intrinsic optimiser descends, given the gradient of J at the updated policy.

        Under "per_sample" it is the gradient of -J (Eq. 7); under "batch" what the authors' code has instead.
        """
        if self.config.meta_gradient == "batch":
            influence = self._batch_influence(data, direction)

            def loss(intrinsic: Params) -> jax.Array:
                reward = self._proxy_reward(data, intrinsic)
                returns = self._proxy_returns(data.batch, values.target_proxy, reward)
                return masked_mean(influence * returns, data.mask)
        else:
            influence = self._influence(data, self._through_inner_update(data, step, direction))

            def loss(intrinsic: Params) -> jax.Array:
                advantage = self._proxy_advantage(data, values, intrinsic)
                return -policy_gradient_loss(influence, advantage, data.mask)

        return jax.grad(loss)(data.state.params["intrinsic"])

    def _through_inner_update(
        self, data: UpdateData, step: PolicyStep, direction: Params
    ) -> Params:
        """(dU/dg)^T of a gradient at the updated policy, U the inner update as a function of the actor's gradient g."""
        if self.config.inner_update == "sgd":
            return jax.tree.map(lambda d: -self.config.actor_lr * d, direction)

        def inner_update(grads: Params) -> Params:
            state = data.state
            return self.actor_optimizer.update(
                grads, state.optimizer["actor"], state.params["actor"]
            )[0]

        # The root in RMSprop and Adam has an infinite slope where a parameter has never had a gradient (a dead
        # unit, an input that is always 0), which makes NaN of U's perfectly finite slope there, and clipping spreads
        # the NaN to all parameters. The slope is therefore taken a hair beside such points.
        grads = jax.tree.map(lambda g: jnp.where(jnp.abs(g) < 1e-12, 1e-12, g), step.grads)
        _, through = jax.vjp(inner_update, grads)
        return through(direction)[0]

    def _actor_log_prob(self, data: UpdateData, actor: Params) -> Float[Array, "T B N"]:
        """Log-probability of the actions taken under other parameters of the policy."""
        logits = self.agent.unroll(actor, data.actor_inputs)[1]
        return self._log_prob(logits[:-1], data.batch, data.epsilon)

    def _influence(self, data: UpdateData, direction: Params) -> Float[Array, "T B N"]:
        """c_t = < direction, grad_theta log pi(u_t) > of every sample, by one forward-mode derivative."""
        actor = data.state.params["actor"]
        return jax.jvp(lambda a: self._actor_log_prob(data, a), (actor,), (direction,))[1]

    def _batch_influence(self, data: UpdateData, direction: Params) -> Float[Array, ""]:
        """The authors' scalar: < mean grad log pi (without exploration floor), grad J(theta') >."""
        unfloored = data._replace(epsilon=jnp.zeros(()))
        return masked_mean(self._influence(unfloored, direction), data.mask)

    # Rewards, returns and advantages.

    def _taken_reward(self, data: UpdateData, intrinsic: Params) -> Float[Array, "T B N"]:
        """r_in of the actions taken."""
        now = jax.tree.map(lambda x: x[:-1], data.critic_inputs)
        rewards = self.critic.intrinsic_rewards(data.state.params["critic"], intrinsic, now)
        return action_values(rewards, data.batch.action)

    def _proxy_reward(self, data: UpdateData, intrinsic: Params) -> Float[Array, "T B N"]:
        """R + lambda r_in (Eq. 2)."""
        r_in = self._taken_reward(data, intrinsic)
        return data.batch.reward + self.config.intrinsic_weight * r_in

    def _discounts(self, batch: EpisodeBatch) -> tuple[jax.Array, jax.Array]:
        """Discount of each agent [T, B, N] and of the team [T, B]."""
        gamma = self.config.gamma
        return gamma * batch.discount, gamma * batch.discount.mean(-1)

    def _proxy_returns(
        self,
        batch: EpisodeBatch,
        target_proxy: Float[Array, "T+1 B N"],
        proxy_reward: Float[Array, "T B N"],
    ) -> Float[Array, "T B N"]:
        """TD(lambda) returns of the proxy reward under the target critic."""
        discount, _ = self._discounts(batch)
        return lambda_returns(proxy_reward, discount, target_proxy[1:], self.config.td_lambda)

    def _proxy_advantage(
        self, data: UpdateData, values: CriticValues, intrinsic: Params
    ) -> Float[Array, "T B N"]:
        """Advantage of the proxy reward, a differentiable function of the intrinsic reward's parameters."""
        advantage = self._raw_proxy_advantage(data, values, intrinsic)
        return normalise(advantage, data.mask) if self.config.normalise_advantage else advantage

    def _raw_proxy_advantage(
        self, data: UpdateData, values: CriticValues, intrinsic: Params
    ) -> Float[Array, "T B N"]:
        reward = self._proxy_reward(data, intrinsic)
        if self.config.advantage == "one_step":
            discount, _ = self._discounts(data.batch)
            return reward + discount * values.proxy[1:] - values.proxy[:-1]
        return self._proxy_returns(data.batch, values.target_proxy, reward) - values.proxy[:-1]

    def _extrinsic_advantage(self, data: UpdateData, values: CriticValues) -> Float[Array, "T B"]:
        """Advantage of the team's reward."""
        batch, value = data.batch, values.extrinsic
        if self.config.advantage == "one_step":
            _, discount = self._discounts(batch)
            advantage = batch.reward.mean(-1) + discount * value[1:] - value[:-1]
        else:
            advantage = values.extrinsic_target - value[:-1]
        if self.config.normalise_advantage:
            return normalise(advantage, batch.valid.astype(advantage.dtype))
        return advantage

    # Values.

    def _sweep(
        self,
        data: UpdateData,
        proxy_target: Float[Array, "T B N"],
        extrinsic_target: Float[Array, "T B"],
    ) -> CriticSweep:
        """Trains the swept values, backwards in time."""
        state, valid = data.state, data.batch.valid.astype(data.batch.reward.dtype)

        def loss_fn(critic: Params, step: Any) -> tuple[jax.Array, Any]:
            return self.critic.sweep_loss(critic, *step)

        now = jax.tree.map(lambda x: x[:-1], data.critic_inputs)
        return sweep_critic(
            loss_fn,
            state.params["critic"],
            self.critic_optimizer,
            state.optimizer["critic"],
            (now, proxy_target, extrinsic_target, valid),
            jnp.max(valid, axis=-1),
        )

    def _intrinsic_value_loss(
        self, data: UpdateData, values: CriticValues, intrinsic: Params
    ) -> Float[Array, ""]:
        """What the intrinsic optimiser descends beside the meta-gradient."""
        now = jax.tree.map(lambda x: x[:-1], data.critic_inputs)
        valid = data.batch.valid.astype(data.batch.reward.dtype)
        return self.critic.intrinsic_value_loss(
            data.state.params["critic"], intrinsic, now, values.extrinsic_target, valid
        )
