"""ALITA: one agent, the influencer, learns to bring its teammates' values to their best, and all explore with it.

Paper: "Influence-Based Reinforcement Learning for Intrinsically-Motivated Agents" (anonymous, under review). No code of
it is public. Where the paper does not say enough, the choice is a field of `ALITAConfig` whose comment says so.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from envs.configuration import ConfigurationError, Range
from marl_jax.distributions import greedy_action, masked_categorical
from marl_jax.hashing import row_hash
from marl_jax.losses import influence, influence_surrogate, masked_mean, novelty, synchrony_penalty
from marl_jax.methods.maddpg import DDPG, DDPGConfig, Transitions
from marl_jax.methods.off_policy import OffPolicyState
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import MLP, Initialization, Params
from marl_jax.optimizers import for_each, make_optimizer
from marl_jax.replay import EpisodeReplay, ReplayState
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class ALITAConfig(DDPGConfig):
    """Hyper-parameters of ALITA: the paper's (App. D) where it gives them, MADDPG's otherwise.

    Ablations of the paper's Figure 4: No F is --method.influence-weight 0, No IM is --method.no-intrinsic (in the paper
    the others also become DDPG's; then the influencer's action would be hidden from the copies of their critics), and
    Symmetric names every agent an influencer (--method.influencers 0 1 for two).

    Also chosen by us: intrinsic rewards are constant (no gradient passes through pi_i), and pi_i in the penalty is the
    policy as it is now, on actions of the replay.
    """

    hidden_size: Annotated[int, Range(minimum=1)] = 128
    """Units of both hidden layers, of policies, critics and estimators."""
    layer_norm: bool = True
    """Whether hidden layers are normalised before their ReLU."""
    actor_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the policies (Adam); the paper gives none."""
    critic_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the critics and estimators (Adam); the paper gives none."""
    autoencoder_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the autoencoders (Adam); the paper gives none. With ten times as much the three units in their
    middle die in most draws, and the novelty no longer tells what is rare from what is common."""
    local_critics: tuple[Annotated[int, Range(minimum=0)], ...] = ()
    """Agents whose critics see their own observation and action only, as DDPG's do."""
    influencers: tuple[Annotated[int, Range(minimum=0)], ...] = (0,)
    """Who influences. The paper draws one agent at random before training; among agents that are alike it does not
    matter which, and where they are not it is a choice."""
    opponents: tuple[Annotated[int, Range(minimum=0)], ...] = ()
    """Agents of the other side in a mixed task: MADDPG's (or DDPG's, see local_critics), neither influenced nor
    explored with."""
    influence_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the influence in the influencer's loss (lambda). The paper's tables have a beta that its text does not
    define; we take it for this one."""
    estimator: Literal["multiple", "single"] = "multiple"
    """multiple: copies of the critics, made anew in every iteration and trained on what matches the influencer's
    behaviour (Eq. 8 and 9). single: one network with a value for each agent (Eq. 6 and 7)."""
    estimator_steps: Annotated[int, Range(minimum=1)] = 4
    """Steps of the estimators for each gradient step. The paper's 4 are for each step of the environment, a hundred
    times as many where there is one gradient step for a hundred; more steps here are nearer to it, and slower."""
    matching: Literal["exact", "all"] = "exact"
    """What an estimator learns from (D_t). exact: steps of the newest episodes, and those drawn from the replay in
    which an influencer saw and did just what it does in one of them; in continuous spaces hardly any. all: everything
    drawn."""
    matching_steps: Annotated[int, Range(minimum=1)] = 64
    """Steps of the newest episodes that are drawn for it, for each gradient step, and the most that are taken of those
    which match one of them."""
    influence_gradient: Literal["pathwise", "score"] = "pathwise"
    """How the influencer's policy learns from the influence. pathwise: through its action in Eq. 7 and 9, on steps of
    the replay. score: Theorem 1, on the newest episodes, which are the policy's own in an iteration's first gradient
    step; discrete actions only."""
    joint_maximum: Literal["coordinate", "enumerate", "policy"] = "coordinate"
    """What stands for max_u Q_i(x, u), which the paper does not say how to find. coordinate: the target policies' most
    probable actions, improved by each agent of the team in turn. enumerate: all joint actions of the team. policy: the
    target policies' actions; with continuous actions always. Opponents do in all three what their target policies do,
    since what they might do for the team is nothing to be reached."""
    target_state: Literal["current", "next"] = "current"
    """Where that maximum is taken: at the current state, as Eq. 4 defines the influence; or at the next one, as Eq. 7
    has it, where steps that end an episode do not count. Eq. 7 drives the influencer away from what pays: there a
    teammate's value is more than the next state is worth, and the gap is closed (see `tests/methods/test_alita.py`)."""
    intrinsic: bool = True
    """Whether there are intrinsic rewards (IM)."""
    novelty_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the novelty in the influencer's reward (lambda_pi)."""
    penalty_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the others' penalty. The paper has none, which is 1; 0 leaves the penalty out."""
    penalty_decay: Annotated[float, NotNegative] = 0.1
    """How fast the others' penalty falls with the novelty (omega)."""
    autoencoder_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (128, 64, 12, 3, 12, 64, 128)
    """Units of the autoencoder's hidden layers."""
    autoencoder_data: Literal["replay", "newest"] = "replay"
    """What it is trained on, with every gradient step ("regularly" in the paper): steps of the replay, or of the newest
    episodes."""


class Context(NamedTuple):
    """What the gradient steps of an iteration have in common.

    Attributes:
        newest: the newest episodes as a replay of their own.
        episodes: the same as they came.
    """

    newest: ReplayState
    episodes: EpisodeBatch


@dataclasses.dataclass(frozen=True)
class ALITA(DDPG):
    """ALITA on MADDPG.

    Axis I: the influencers, one unless configured otherwise. Axis M: the mates of an influencer, whom it influences.
    """

    Config: ClassVar = ALITAConfig
    central: ClassVar[bool] = True
    takes_no_parts: ClassVar = "it is an idea on MADDPG itself; take maddpg"

    def __post_init__(self) -> None:
        super().__post_init__()
        c, n = self.config, self.sizes.num_agents
        if n < 2:
            raise ConfigurationError(
                "the task has 1 agent; ALITA needs at least 2, since one influences others."
            )
        for name in ("influencers", "opponents"):
            chosen = getattr(c, name)
            if any(i >= n for i in chosen) or len(set(chosen)) < len(chosen):
                raise ConfigurationError(
                    f"{name} is {chosen}; it must be different ones of the task's agents, 0 to {n - 1}."
                )
        if not c.influencers or set(c.influencers) & set(c.opponents):
            raise ConfigurationError(
                f"influencers is {c.influencers}; it must be at least one agent that is none of the opponents."
            )
        if len(self._team) < 2:
            raise ConfigurationError(
                f"opponents is {c.opponents}; it must leave two agents that are none, since one influences others."
            )
        hidden = sorted(set(self._mates.flat) & set(c.local_critics))
        if hidden and c.influence_weight and c.estimator == "multiple":
            raise ConfigurationError(
                f"local_critics is {c.local_critics}; it must be without the influencer's mates, here {hidden}, whose "
                "critics do not see what influences them."
            )
        if self.sizes.continuous and c.influence_gradient == "score":
            raise ConfigurationError(
                "influence_gradient is 'score'; it must be pathwise for continuous actions."
            )

    @property
    def _influencers(self) -> jax.Array:
        return jnp.array(self.config.influencers, int)

    @property
    def _team(self) -> tuple[int, ...]:
        """All agents but the opponents."""
        return tuple(i for i in range(self.sizes.num_agents) if i not in self.config.opponents)

    @property
    def _mates(self) -> Int[np.ndarray, "I M"]:
        """Whom each influencer influences: its team without itself."""
        others = [[i for i in self._team if i != chosen] for chosen in self.config.influencers]
        return np.array(others, int)

    @property
    def _autoencoder(self) -> MLP:
        size = self.agent_input_size + self.sizes.num_actions
        kaiming: Initialization = "kaiming"
        return MLP((*self.config.autoencoder_hidden, size), initialization=kaiming)

    @property
    def _single(self) -> MLP:
        return self._network(self.sizes.num_agents)

    @property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Of every influencer's part by itself."""
        c, parts = self.config, super()._optimizers
        if c.intrinsic:
            one = make_optimizer("adam", c.autoencoder_lr, c.max_grad_norm)
            parts["autoencoder"] = for_each(one)
        if c.influence_weight:
            one = make_optimizer("adam", c.critic_lr, c.max_grad_norm)
            # Copies of the critics are clipped as the critics are: by agent, for each influencer.
            parts["estimator"] = for_each(
                self._per_agent(one) if c.estimator == "multiple" else one
            )
        return parts

    def _init_params(self, key: jax.Array) -> dict[str, Params]:
        base_key, autoencoder_key, estimator_key = jax.random.split(key, 3)
        c, params = self.config, super()._init_params(base_key)
        count = len(c.influencers)
        if c.intrinsic:
            x = jnp.zeros((self.agent_input_size + self.sizes.num_actions,))
            keys = jax.random.split(autoencoder_key, count)
            params["autoencoder"] = jax.vmap(lambda k: self._autoencoder.init(k, x))(keys)
        if c.influence_weight:
            if c.estimator == "multiple":
                params["estimator"] = self._copies(params["critic"])
            else:
                x = jnp.zeros((self._joint_size,))
                keys = jax.random.split(estimator_key, count)
                params["estimator"] = jax.vmap(lambda k: self._single.init(k, x))(keys)
        return params

    def _copies(self, critic: Any) -> Any:
        """[I, M, ...] copies of the mates' critics, or of their optimisers' states, for every influencer."""
        return jax.tree.map(lambda x: x[self._mates], critic)

    @staticmethod
    def _newest(fresh: EpisodeBatch) -> EpisodeReplay:
        """A replay of an iteration's episodes."""
        time_limit, num_envs = fresh.valid.shape
        return EpisodeReplay(num_envs, time_limit)

    def _begin(
        self, state: OffPolicyState, fresh: EpisodeBatch, replay: ReplayState
    ) -> tuple[OffPolicyState, Context]:
        """Copies the critics: in every iteration, of num_envs episodes (in the paper at each episode)."""
        newest = self._newest(fresh)
        context = Context(newest.add(newest.init(fresh), fresh), fresh)
        if "estimator" in state.params and self.config.estimator == "multiple":
            # With the critics' scale of gradients, since an Adam that knows none goes as far as it may in its first
            # steps, whatever the error; and without their momentum, which would take the copies on where the critics
            # were going. Either would be most of the influence.
            optimizer = self._copies(state.optimizer["critic"])
            still = jax.tree.map(jnp.zeros_like, optax.tree_utils.tree_get(optimizer, "mu"))
            optimizer = optax.tree_utils.tree_set(optimizer, mu=still)
            state = state._replace(
                params={**state.params, "estimator": self._copies(state.params["critic"])},
                optimizer={**state.optimizer, "estimator": optimizer},
            )
        return state, context

    # Intrinsic rewards.

    def _mean(
        self, outputs: Float[Array, "B N A"], action_mask: Bool[Array, "B N A"]
    ) -> Float[Array, "B N A"]:
        """What the policies do without noise: probabilities of discrete actions."""
        if self.sizes.continuous:
            return jnp.tanh(outputs)
        return masked_categorical(outputs, action_mask).probs

    def _novelty(
        self, params: Params, inputs: Float[Array, "B N I"], vectors: Float[Array, "B N A"]
    ) -> Float[Array, "I B"]:
        """Psi of what each influencer saw and did."""
        pairs = jnp.concatenate([inputs, vectors], axis=-1)[:, self._influencers]
        pairs = jnp.moveaxis(pairs, 1, 0)
        rebuilt: jax.Array = jax.vmap(self._autoencoder.apply)(params, pairs)  # type: ignore[assignment]
        return novelty(rebuilt, pairs)

    def _rewards(
        self,
        state: OffPolicyState,
        steps: EpisodeBatch,
        inputs: Float[Array, "2 B N I"],
        vectors: Float[Array, "B N A"],
    ) -> Float[Array, "B N"]:
        """Eq. 10 for influencers; Eq. 11, averaged over the influencers of its team, for whom they influence.

        The dead are paid neither.
        """
        c, reward = self.config, super()._rewards(state, steps, inputs, vectors)
        if not c.intrinsic:
            return reward
        psi = self._novelty(state.params["autoencoder"], inputs[0], vectors)
        policy = self._mean(self._outputs(state.params["actor"], inputs[0]), steps.action_mask[0])
        penalty = synchrony_penalty(
            jnp.broadcast_to(psi[..., None], (*psi.shape, self.sizes.num_agents)),
            jnp.broadcast_to(policy, (len(psi), *policy.shape)),
            jnp.broadcast_to(vectors, (len(psi), *vectors.shape)),
            c.penalty_decay,
        )
        counted = np.zeros((len(psi), 1, self.sizes.num_agents))
        np.put_along_axis(counted, self._mates[:, None], 1.0, axis=-1)
        penalty = jnp.sum(penalty * counted, axis=0) / np.maximum(counted.sum(axis=0), 1.0)
        own = (c.penalty_weight * penalty).at[:, self._influencers].add(c.novelty_weight * psi.T)
        return jax.lax.stop_gradient(reward + own * steps.alive[0])

    # Influence.

    def _estimates(
        self, params: Params, inputs: Float[Array, "B N I"], vectors: Float[Array, "I B N A"]
    ) -> Float[Array, "I B M"]:
        """q_i of joint actions, of which every influencer's estimator may be given another one."""

        def of_one(params: Params, vectors: jax.Array, mates: jax.Array) -> jax.Array:
            if self.config.estimator == "multiple":
                return self._values(params, inputs, vectors[:, None], mates)[..., 0]
            joint = jnp.concatenate([inputs, vectors], axis=-1)
            values: Any = self._single.apply(params, joint.reshape(len(joint), -1))
            return values[:, mates]

        return jax.vmap(of_one)(params, vectors, jnp.array(self._mates))

    def _behaviour(self, steps: EpisodeBatch, inputs: Float[Array, "2 B N I"]) -> jax.Array:
        """[B, I] numbers that are equal where an influencer saw and did the same."""
        action = steps.action[0] if self.sizes.continuous else steps.action[0][..., None]
        pairs = jnp.concatenate([inputs[0], action.astype(inputs.dtype)], axis=-1)
        return row_hash(pairs)[:, self._influencers]

    def _estimator_loss(
        self, params: Params, batch: Transitions, weight: Float[Array, "I B"]
    ) -> tuple[Float[Array, ""], jax.Array]:
        """Eq. 6 and 8: weighted mean squared errors to the critics' targets, over teammates."""
        vectors = jnp.broadcast_to(batch.vectors, (len(weight), *batch.vectors.shape))
        target = jnp.moveaxis(batch.target[:, self._mates], 1, 0)
        errors = (self._estimates(params, batch.inputs[0], vectors) - target) ** 2
        loss = jax.vmap(masked_mean)(jnp.sum(errors, axis=-1), weight)
        return jnp.sum(loss), loss

    def _prepare(
        self, state: OffPolicyState, context: Context, batch: Transitions, key: jax.Array
    ) -> tuple[OffPolicyState, Any, Metrics]:
        """Trains autoencoders and estimators."""
        c, metrics = self.config, {}
        newest = self._newest(context.episodes)
        sample_key, target_key = jax.random.split(key)
        steps = newest.sample_transitions(context.newest, sample_key, c.matching_steps)
        recent = self._transitions(state, steps, target_key)
        if c.intrinsic:
            data = batch if c.autoencoder_data == "replay" else recent
            state, metrics["novelty"] = self._learn_novelty(state, data)
        if c.influence_weight:
            data, weight = batch, jnp.ones((len(c.influencers), c.batch_size))
            if c.matching == "exact":
                data, weight, metrics["matching"] = self._matching(recent, batch)
            state, metrics["estimator_loss"] = self._learn_estimators(state, data, weight)
        return state, context, metrics

    def _learn_novelty(
        self, state: OffPolicyState, data: Transitions
    ) -> tuple[OffPolicyState, Float[Array, ""]]:
        """A step of the autoencoders; the mean novelty."""

        def mean_novelty(params: Params) -> tuple[jax.Array, jax.Array]:
            each = jnp.mean(self._novelty(params, data.inputs[0], data.vectors), axis=1)
            total = jnp.sum(each)
            return total, total / len(each)

        return self._descend(state, "autoencoder", mean_novelty)

    def _matching(
        self, recent: Transitions, batch: Transitions
    ) -> tuple[Transitions, Float[Array, "I B"], Float[Array, ""]]:
        """Recent steps and those of the batch at which influencers did the same, their weights, and the share of it."""
        c = self.config
        here = self._behaviour(recent.steps, recent.inputs)
        there = self._behaviour(batch.steps, batch.inputs)
        same = jnp.any(there[:, None] == here, axis=1).T.astype(float)
        share = same.mean()
        most = min(c.matching_steps, c.batch_size)
        _, matched = jax.lax.top_k(jnp.max(same, axis=0), most)
        data = _join(recent, batch, matched)
        certain = jnp.ones((len(same), c.matching_steps))
        return data, jnp.concatenate([certain, same[:, matched]], axis=1), share

    def _learn_estimators(
        self, state: OffPolicyState, data: Transitions, weight: Float[Array, "I B"]
    ) -> tuple[OffPolicyState, Float[Array, ""]]:
        """All steps of the estimators; the last one's mean loss."""

        def once(state: OffPolicyState, _: None) -> tuple[OffPolicyState, jax.Array]:
            return self._descend(state, "estimator", self._estimator_loss, data, weight)

        state, losses = jax.lax.scan(once, state, length=self.config.estimator_steps)
        return state, losses[-1].mean()

    def _best_values(
        self, state: OffPolicyState, steps: EpisodeBatch, inputs: Float[Array, "2 B N I"]
    ) -> Float[Array, "I B M"]:
        """z_i: what the best joint action is worth to each mate."""
        # Influencers have mates in common: each is valued once.
        valued, where = np.unique(self._mates, return_inverse=True)
        best = self._best_values_of(jnp.array(valued), state, steps, inputs)
        return jnp.moveaxis(best[:, where.reshape(self._mates.shape)], 1, 0)

    def _best_values_of(
        self,
        agents: Int[Array, " U"],
        state: OffPolicyState,
        steps: EpisodeBatch,
        inputs: Float[Array, "2 B N I"],
    ) -> Float[Array, "B U"]:
        """What the best joint action is worth to some agents."""
        c = self.config
        when = 1 if c.target_state == "next" else 0
        x, mask = inputs[when], steps.action_mask[when]
        # What is seen at an episode's end may allow nothing; its value has weight 0, and must still be a number.
        mask |= ~jnp.any(mask, axis=-1, keepdims=True)
        outputs = self._outputs(state.target["actor"], x)
        critics = jax.tree.map(lambda leaf: leaf[agents], state.params["critic"])

        def value(vectors: jax.Array) -> jax.Array:
            return self._values(critics, x, vectors, agents)[..., 0]

        if self.sizes.continuous:
            return value(jnp.tanh(outputs)[:, None])
        start = self.one_hot(greedy_action(outputs, mask))
        if c.joint_maximum == "policy":
            return value(start[:, None])
        if c.joint_maximum == "enumerate":
            return self._best_of_all(value, start, mask)
        return self._best_by_turns(value, start, mask, len(agents))

    def _best_of_all(
        self,
        value: Callable[[jax.Array], jax.Array],
        start: Float[Array, "B N A"],
        mask: Bool[Array, "B N A"],
    ) -> Float[Array, "B U"]:
        """The largest value of any joint action of the team."""
        team, a = self._team, self.sizes.num_actions
        options = jnp.eye(a)
        grid = jnp.meshgrid(*[jnp.arange(a)] * len(team), indexing="ij")
        joint = jnp.stack(grid, -1).reshape(-1, len(team))
        may = mask[None, :, jnp.array(team)]
        legal = jnp.all(jnp.take_along_axis(may, joint[:, None, :, None], -1), (2, 3))

        def of_joint(action: jax.Array) -> jax.Array:
            return value(start.at[:, jnp.array(team)].set(options[action])[:, None])

        values = jax.lax.map(of_joint, joint)
        return jnp.max(jnp.where(legal[..., None], values, -jnp.inf), axis=0)

    def _best_by_turns(
        self,
        value: Callable[[jax.Array], jax.Array],
        start: Float[Array, "B N A"],
        mask: Bool[Array, "B N A"],
        critics: int,
    ) -> Float[Array, "B U"]:
        """The value once each of the team in turn has taken what is best beside the others' actions."""
        options = jnp.eye(self.sizes.num_actions)
        # Every critic has a joint action of its own: [B, U critics, N agents, A].
        best = jnp.repeat(start[:, None], critics, axis=1)
        for agent in self._team:
            tries = jax.vmap(lambda option, i=agent, best=best: best.at[:, :, i].set(option))(
                options
            )
            tried = jnp.moveaxis(jax.vmap(value)(tries), 0, -1)
            tried = jnp.where(mask[:, None, agent], tried, -jnp.inf)
            best = best.at[:, :, agent].set(options[jnp.argmax(tried, axis=-1)])
        return jnp.max(tried, axis=-1)

    def _weighted(self, steps: EpisodeBatch) -> Float[Array, "I B M"]:
        """alpha_i for single steps: all alike, as in Eq. 9; 0 where there is no next state to be valued."""
        goes_on = (steps.discount[0] > 0) | (self.config.target_state == "current")
        counts = jnp.moveaxis((goes_on & steps.valid[0][:, None])[:, self._mates], 1, 0)
        return counts / self._mates.shape[1]

    def _actor_terms(
        self,
        params: Params,
        state: OffPolicyState,
        batch: Transitions,
        prepared: Context,
        vectors: Float[Array, "B N A"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """Lambda F for every influencer, whose policy alone it moves."""
        c = self.config
        if not c.influence_weight:
            return jnp.zeros(()), {}
        if c.influence_gradient == "score":
            term = self._score(params, state, prepared.episodes)
            return c.influence_weight * term, {}
        own = jnp.arange(self.sizes.num_agents) == self._influencers[:, None]
        moved = jnp.where(own[:, None, :, None], vectors, jax.lax.stop_gradient(vectors))
        estimate = self._estimates(state.params["estimator"], batch.inputs[0], moved)
        best = self._best_values(state, batch.steps, batch.inputs)
        measured = jax.vmap(influence)(estimate, best, self._weighted(batch.steps))
        return c.influence_weight * jnp.sum(measured), {"influence": measured.mean()}

    def _score(
        self, params: Params, state: OffPolicyState, episodes: EpisodeBatch
    ) -> Float[Array, ""]:
        """Theorem 1 on whole episodes: has the gradient of F summed over influencers, whatever its value."""
        length, num = episodes.valid.shape
        inputs = self._inputs(episodes.observation)
        policy = masked_categorical(self._outputs(params, inputs[:-1]), episodes.action_mask[:-1])
        log_prob = policy.log_prob(episodes.action)

        def single(x: jax.Array) -> jax.Array:
            """[T, B, ...] or [T+1, B, ...] as T B single steps."""
            times = [x[i : i + length] for i in range(x.shape[0] - length + 1)]
            return jnp.stack([part.reshape(length * num, *x.shape[2:]) for part in times])

        steps, pairs = jax.tree.map(single, episodes), single(inputs)
        vectors = self._vectors(steps)
        joint = jnp.broadcast_to(vectors, (len(self.config.influencers), *vectors.shape))
        estimate = self._estimates(state.params["estimator"], pairs[0], joint)
        best = self._best_values(state, steps, pairs)
        counted = self._weighted(steps) > 0
        weight = jnp.full((self._mates.shape[1],), 1.0 / self._mates.shape[1])

        def of_one(
            log_prob: jax.Array, estimate: jax.Array, best: jax.Array, counted: jax.Array
        ) -> jax.Array:
            surrogate = jax.vmap(influence_surrogate, in_axes=(1, 1, 1, 1, None), out_axes=1)
            shape = (length, num, -1)
            target = jnp.where(counted, best, estimate).reshape(shape)
            discount = self.config.gamma * episodes.discount.mean(-1) * episodes.valid
            terms = surrogate(log_prob, estimate.reshape(shape), target, discount, weight)
            return masked_mean(terms, episodes.valid.astype(terms.dtype))

        each = jnp.moveaxis(log_prob[..., self._influencers], -1, 0)
        return jnp.sum(jax.vmap(of_one)(each, estimate, best, counted))


def _join(first: Transitions, second: Transitions, chosen: jax.Array) -> Transitions:
    """A batch of single steps, and those chosen of another."""

    def join(axis: int, one: Any, other: Any) -> Any:
        def both(x: jax.Array, y: jax.Array) -> jax.Array:
            return jnp.concatenate([x, jnp.take(y, chosen, axis=axis)], axis=axis)

        return jax.tree.map(both, one, other)

    return Transitions(
        join(1, first.steps, second.steps),
        join(1, first.inputs, second.inputs),
        *join(0, first[2:], second[2:]),
    )
