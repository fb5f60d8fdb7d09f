"""ALITA's idea on the PPO core: one agent, the influencer, leads, and all explore with it.

Paper: "Influence-Based Reinforcement Learning for Intrinsically-Motivated Agents" (anonymous, under review). It has the
idea on off-policy learners: `marl_jax.methods.alita`. Here all three of its terms are rewards.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from envs.configuration import Config, ConfigurationError, Range
from marl_jax.distributions import masked_categorical
from marl_jax.losses import influence, masked_mean, novelty, synchrony_penalty, td_loss
from marl_jax.methods.influence import require_a_team
from marl_jax.methods.part import Learned, Paid, Part
from marl_jax.methods.ppo import Experience, Lesson, only_ppo
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import MLP, Params
from marl_jax.optimizers import for_each, make_optimizer
from marl_jax.rows import Rows, in_rows
from marl_jax.types import Metrics

TASK_VALUE = "extrinsic"
"""The critic's value of the task's reward alone."""


@dataclasses.dataclass(frozen=True)
class InfluencerOptions(Config):
    """Options of the influencer: ALITA's (App. D) where its paper gives them, for MADDPG.

    Ablations: No F is an influence_weight of 0, No IM a novelty_weight and a penalty_weight of 0, and Symmetric names
    every agent an influencer.
    """

    influencers: tuple[Annotated[int, Range(minimum=0)], ...] = (0,)
    """Who influences all others. The paper draws one agent at random before training."""
    influence_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the influence, which the influencer pays (lambda). The paper's; its tables call it beta. Values are in
    the critic's units: with value_normalisation, influence is in squared deviations of the task's returns."""
    novelty_weight: Annotated[float, NotNegative] = 0.1
    """Weight of the novelty in the influencer's reward (lambda_pi). The paper's."""
    penalty_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the others' penalty. The paper has none, which is 1; 0 leaves the penalty out."""
    penalty_decay: Annotated[float, NotNegative] = 0.1
    """How fast the others' penalty falls with the novelty (omega). The paper's."""
    autoencoder_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (128, 64, 12, 3, 12, 64, 128)
    """Units of the autoencoder's hidden layers. The paper's."""
    autoencoder_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the autoencoder (Adam), as `alita` has it; the paper gives none."""
    estimator_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (128, 128)
    """Units of the hidden layers of the estimator of values. The paper's."""
    estimator_lr: Annotated[float, Positive] = 1e-3
    """Learning rate of the estimator (Adam), as `alita` has it; the paper gives none."""


class InfluencerLessons(NamedTuple):
    """What autoencoder and estimator learn from; with single steps, T is 1 and B counts steps.

    Attributes:
        observation: what the agents observed.
        action: what they did.
        target: what that was worth to each for the task, as the critic learns it.
        alive: 1 where an agent lives.
        value_mask: 1 where values learn, which orders the minibatches.
        rows: what is where, if the episodes are laid into rows; B counts rows then.
    """

    observation: Float[Array, "T B N F"]
    action: Int[Array, "T B N"]
    target: Float[Array, "T B N"]
    alive: Float[Array, "T B N"]
    value_mask: Float[Array, "T B N"]
    rows: Rows | None = None


@dataclasses.dataclass(frozen=True)
class Influencer(Part):
    """The influencer is paid for what is new and pays for what it costs its mates; they are fined where it is not new.

    Mates of an influencer are all other agents. Axis I: the influencers, one unless configured otherwise. Who is dead
    neither pays nor is paid.

    - Novelty (Eq. 10): the squared error of an autoencoder of what the influencer observes and does.
    - Penalty (Eq. 11): what a mate did against its policy's probabilities, where the influencer does nothing new.
    - Influence (Eq. 4): a reward here, since an on-policy core has no gradient through actions. One network, the
      estimator, learns all agents' values of the joint observation and action (Eq. 6), by regression on the core's
      lambda-returns of the task's reward, for which its critic learns a value more. The best that could have been is
      the best of the influencer's own actions beside what its mates did; all are tried. The paper's maximum is over
      everybody's actions, and would charge the influencer with faults of its mates that no action of its own amends.
    """

    name: ClassVar = "influencer"
    Options: ClassVar = InfluencerOptions

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Only the PPO core keeps its policies' probabilities and learns a value of the task alone."""
        return only_ppo(backbone) and (
            "it pays by the policies and values of the PPO core: ippo, mappo, happo, trpo or hatrpo"
        )

    def check(self) -> None:
        """Refuses a single agent, and influencers that are none of the task's agents."""
        sizes, chosen = self.core.sizes, self.config.influencers
        require_a_team(sizes)
        if not chosen or len(set(chosen)) < len(chosen) or max(chosen) >= sizes.num_agents:
            raise ConfigurationError(
                f"influencers is {chosen}; it must be one or more different ones of the task's agents, 0 to "
                f"{sizes.num_agents - 1}."
            )

    @property
    def keeps_logits(self) -> bool:
        """The penalty looks at what policies would have done."""
        return True

    @property
    def values(self) -> tuple[str, ...]:
        """That of the task's reward, which the estimator learns from."""
        return (TASK_VALUE,) if self.config.influence_weight else ()

    @property
    def _influencers(self) -> Int[Array, " I"]:
        return jnp.array(self.config.influencers, int)

    @property
    def autoencoder(self) -> MLP:
        """Of what an influencer observes and does."""
        s = self.core.sizes
        hidden = (*self.config.autoencoder_hidden, s.observation + s.num_actions)
        return MLP(hidden, initialization="kaiming")

    @property
    def estimator(self) -> MLP:
        """From what all observe and do to what it is worth to each."""
        return MLP((*self.config.estimator_hidden, self.core.sizes.num_agents))

    @property
    def _learners(self) -> dict[str, optax.GradientTransformation]:
        """By what is learned, its optimiser."""
        c = self.config

        def adam(lr: float) -> optax.GradientTransformation:
            return make_optimizer("adam", lr, c.max_grad_norm)

        learners = {"autoencoder": for_each(adam(c.autoencoder_lr))}
        if c.influence_weight:
            learners["estimator"] = adam(c.estimator_lr)
        return learners

    def start(self, key: jax.Array) -> dict[str, Learned]:
        """Draws an autoencoder for each influencer and, if influence is paid, the estimator."""
        s, learners = self.core.sizes, self._learners
        keys = jax.random.split(key, len(self.config.influencers) + 1)
        pair = jnp.zeros((s.num_agents, s.observation + s.num_actions))
        drawn = {
            "autoencoder": jax.vmap(lambda k: self.autoencoder.init(k, pair[0]))(keys[1:]),
            "estimator": self.estimator.init(keys[0], pair.reshape(-1)),
        }
        return {name: Learned(drawn[name], one.init(drawn[name])) for name, one in learners.items()}

    def rewards(
        self,
        state: dict[str, Learned],
        experience: Experience,
        paid: Float[Array, "T B N"],
        env_steps: Int[Array, ""],
    ) -> tuple[dict[str, Learned], Paid]:
        """Task, and Eq. 10 less the influence for influencers; Eq. 11, averaged over influencers, for their mates."""
        del env_steps
        c, batch = self.config, experience.batch
        psi, gap = self.judge(state, experience)
        mates = self._mates(experience.alive)
        assert experience.logits is not None
        policy = masked_categorical(experience.logits, batch.action_mask[:-1]).probs
        penalties = jax.vmap(synchrony_penalty, (2, None, None, None), 2)(
            jnp.broadcast_to(psi[..., None], mates.shape),
            policy,
            self.core.one_hot(batch.action),
            c.penalty_decay,
        )
        count = jnp.sum(mates, axis=2)
        penalty = jnp.sum(penalties * mates, axis=2) / jnp.maximum(count, 1.0)
        leads = experience.alive[..., self._influencers]
        led = leads * (c.novelty_weight * psi - c.influence_weight * gap)
        own = (c.penalty_weight * penalty).at[..., self._influencers].add(led)
        said = {
            "novelty": masked_mean(psi, leads),
            "penalty": masked_mean(penalty, jnp.minimum(count, 1.0)),
            "influence": masked_mean(gap, leads),
        }
        return state, Paid(paid + own, own, said, (batch.reward,) * len(self.values))

    def learn(
        self, state: dict[str, Learned], lesson: Lesson
    ) -> tuple[dict[str, Learned], Metrics]:
        """The passes of the policies once more, for autoencoder and estimator."""
        experience, shape = lesson.experience, lesson.lessons.action.shape
        target = lesson.lessons.target
        lessons = InfluencerLessons(
            observation=experience.batch.observation[:-1].reshape(*shape, -1),
            action=lesson.lessons.action,
            target=target[..., self.core.values.index(TASK_VALUE) if self.values else 0],
            alive=experience.alive.reshape(shape),
            value_mask=lesson.lessons.value_mask,
        )
        losses: dict[str, Callable[..., jax.Array]] = {
            "autoencoder": self.autoencoder_loss,
            "estimator": self.estimator_loss,
        }

        def step(
            state: dict[str, Learned], part: InfluencerLessons
        ) -> tuple[dict[str, Learned], Metrics]:
            after, metrics = {}, {}
            for name, optimizer in self._learners.items():
                own = state[name]
                loss, gradient = jax.value_and_grad(losses[name])(own.params, part)
                after[name] = own.after(optimizer, gradient)
                metrics[f"{name}_loss"] = loss
            return after, metrics

        return self.core.over_minibatches(step, state, lessons, lesson.key)

    def autoencoder_loss(self, params: Params, lessons: InfluencerLessons) -> Float[Array, ""]:
        """Mean novelty (Eq. 10), summed over influencers, each of which has an autoencoder of its own."""
        psi = self.novelty(params, self._pairs(lessons.observation, lessons.action))
        alive = lessons.alive[..., self._influencers]
        return jnp.sum(jax.vmap(masked_mean, -1)(psi, alive))

    def estimator_loss(self, params: Params, lessons: InfluencerLessons) -> Float[Array, ""]:
        """Squared errors of the living agents' values (Eq. 6)."""
        values = self.worth(params, self._pairs(lessons.observation, lessons.action))
        return td_loss(values, lessons.target, lessons.alive)

    def judge(
        self, state: dict[str, Learned], experience: Experience
    ) -> tuple[Float[Array, "T B I"], Float[Array, "T B I"]]:
        """Novelty of what influencers did, and its influence: the mates' squared loss by it, mean over the living."""
        batch = experience.batch

        def of_each(seen: tuple[jax.Array, ...], rows: Rows | None) -> tuple[jax.Array, jax.Array]:
            observation, action, mask, alive = seen
            psi = self.novelty(state["autoencoder"].params, self._pairs(observation, action))
            gap = jnp.zeros_like(psi)
            if "estimator" in state:
                gap = self.influence(state["estimator"].params, observation, action, mask, alive)
            return (psi, gap) if rows is None else (rows.unpack(psi), rows.unpack(gap))

        counts = self.core.sizes.row_counts(batch.valid.shape[1])
        seen = (batch.observation[:-1], batch.action, batch.action_mask[:-1], experience.alive)
        return in_rows(counts, batch.valid, seen, of_each)

    def novelty(self, params: Params, pairs: Float[Array, "T B N P"]) -> Float[Array, "T B I"]:
        """Psi of what each influencer observed and did (Eq. 10)."""
        own = pairs[..., self._influencers, :]
        rebuilt: jax.Array = jax.vmap(self.autoencoder.apply, (0, -2), -2)(params, own)  # type: ignore[assignment]
        return novelty(rebuilt, own)

    def worth(self, params: Params, pairs: Float[Array, "T B N P"]) -> Float[Array, "T B N"]:
        """What all observed and did is worth to each for the task, as the critic learns it."""
        joint = pairs.reshape(*pairs.shape[:-2], -1)
        values: jax.Array = self.estimator.apply(params, joint)  # type: ignore[assignment]
        return values

    def influence(
        self,
        params: Params,
        observation: Float[Array, "T B N F"],
        action: Int[Array, "T B N"],
        mask: Bool[Array, "T B N A"],
        alive: Float[Array, "T B N"],
    ) -> Float[Array, "T B I"]:
        """F of each influencer's action (Eq. 4), where the best is the best of its own actions."""
        agents = jnp.arange(self.core.sizes.num_agents)
        value = self.worth(params, self._pairs(observation, action))

        def best(one: Int[Array, ""]) -> Float[Array, "T B N"]:
            """One option after the other: all at once would be as many copies of what all observe."""

            def better(option: Int[Array, ""], best: jax.Array) -> jax.Array:
                tried = self._pairs(observation, jnp.where(agents == one, option, action))
                may = mask[..., one, option, None]
                return jnp.where(may, jnp.maximum(best, self.worth(params, tried)), best)

            found: jax.Array = jax.lax.fori_loop(0, mask.shape[-1], better, value)
            return found

        target = jnp.moveaxis(jax.lax.map(best, self._influencers), 0, 2)
        mates = self._mates(alive)
        weight = mates / jnp.maximum(jnp.sum(mates, axis=-1, keepdims=True), 1.0)
        estimate = jnp.broadcast_to(value[..., None, :], target.shape)
        each: jax.Array = jnp.vectorize(influence, signature="(n),(n),(n)->()")(
            estimate, target, weight
        )
        return each

    def _pairs(
        self, observation: Float[Array, "T B N F"], action: Int[Array, "T B N"]
    ) -> Float[Array, "T B N P"]:
        """What each agent observed and did."""
        return jnp.concatenate([observation, self.core.one_hot(action)], axis=-1)

    def _mates(self, alive: Float[Array, "T B N"]) -> Float[Array, "T B I N"]:
        """1 where an influencer (I) and another agent (N) live."""
        others = 1.0 - jnp.eye(alive.shape[-1])[self._influencers]
        return alive[..., self._influencers, None] * alive[..., None, :] * others
