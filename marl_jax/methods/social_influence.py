"""Social Influence: paid for changing what others are expected to do, on the PPO core.

Paper: Jaques et al. 2019, "Social Influence as Intrinsic Motivation for Multi-Agent Deep Reinforcement Learning".
Authors' code: github.com/eugenevinitsky/sequential_social_dilemma_games.
"""

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from envs.configuration import Config, Range
from marl_jax.distributions import masked_categorical
from marl_jax.losses import masked_mean, social_influence
from marl_jax.methods.influence import require_a_team
from marl_jax.methods.part import Learned, Paid, Part
from marl_jax.methods.ppo import ACTIVATIONS, Experience, Lesson, only_ppo
from marl_jax.methods.team import NotNegative, Positive
from marl_jax.networks import MLP, Params, hidden_gain
from marl_jax.rows import Rows, in_rows
from marl_jax.types import Metrics


@dataclasses.dataclass(frozen=True)
class ModelOptions(Config):
    """Options of Social Influence, of its authors (`train.py`)."""

    influence_weight: Annotated[float, NotNegative] = 1.0
    """Weight of the influence reward."""
    influence_anneal_steps: Annotated[int, NotNegative] = 0
    """Environment steps over which the weight rises linearly from 0; 0 for full weight at once. The authors' rises over
    many millions."""
    influence_clip: Annotated[float, Positive] = 10.0
    """The influence reward of a step is at most this, in nats."""
    model_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (32, 32, 32)
    """Units of the hidden layers of the model of other agents, which is feed-forward."""
    model_weight: Annotated[float, Positive] = 0.0667
    """Weight of its loss. It learns in the policies' minibatches with their learning rate, by an optimiser of its own,
    to which the weight matters only where it clips."""


class ModelLessons(NamedTuple):
    """What it learns from; with single steps, T is 1 and B counts steps.

    Attributes:
        inputs: what the agents see.
        action: what they did.
        following: what they did next.
        mask: 1 where an agent (first N) can learn what another one (last N) did next.
        value_mask: 1 where values learn, which orders the minibatches.
        rows: what is where, if the episodes are laid into rows; B counts rows then.
    """

    inputs: Float[Array, "T B N I"]
    action: Int[Array, "T B N"]
    following: Int[Array, "T B N"]
    mask: Float[Array, "T B N N"]
    value_mask: Float[Array, "T B N"]
    rows: Rows | None = None


@dataclasses.dataclass(frozen=True)
class ActionInfluence(Part):
    """Agents are paid for how much their actions change what others are expected to do next, and learn to expect it.

    Every agent predicts the others' next actions from what it sees and what all do. The authors' models and policies
    are recurrent and see images; these models are feed-forward, and policies as `agent` has it.
    """

    name: ClassVar = "social_influence"
    Options: ClassVar = ModelOptions

    @classmethod
    def refusal(cls, backbone: type) -> str | None:
        """Only the PPO core has its passes."""
        return only_ppo(backbone) and (
            "its model of others learns in the minibatches of the PPO core: ippo, mappo, happo, trpo or hatrpo"
        )

    def check(self) -> None:
        """Refuses a single agent."""
        require_a_team(self.core.sizes)

    @property
    def keeps_logits(self) -> bool:
        """The influence is averaged over what might have been done."""
        return True

    @property
    def network(self) -> MLP:
        """From what one agent sees, and what all do, to the logits of what each does next."""
        c, s = self.config, self.core.sizes
        hidden = (*c.model_hidden, s.num_agents * s.num_actions)
        return MLP(
            hidden,
            activation=ACTIVATIONS[c.activation],
            initialization=c.initialization,
            gains=(hidden_gain(c.initialization), 1.0),
        )

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """One like the agents'."""
        return self.core.optimizer["actor"]

    def start(self, key: jax.Array) -> Learned:
        """Draws the model."""
        s = self.core.sizes
        size = self.core.agent_input_size + s.num_agents * s.num_actions
        params = self.core.init_network(self.network, size, key)
        return Learned(params, self.optimizer.init(params))

    def rewards(
        self,
        state: Learned,
        experience: Experience,
        paid: Float[Array, "T B N"],
        env_steps: Int[Array, ""],
    ) -> tuple[Learned, Paid]:
        """Task, and influence on what others do next; at an episode's last step there is no next."""
        c = self.config
        influence = self.influence(state.params, experience)
        others = self._learnable(experience)
        mask = jnp.max(others, axis=-1)
        bonus = jnp.minimum(jnp.sum(influence * others, axis=-1), c.influence_clip)
        weight = jnp.asarray(c.influence_weight, bonus.dtype)
        if c.influence_anneal_steps:
            weight *= jnp.minimum(env_steps / c.influence_anneal_steps, 1.0)
        own = weight * bonus
        return state, Paid(paid + own, own, {"influence": masked_mean(bonus, mask)})

    def learn(self, state: Learned, lesson: Lesson) -> tuple[Learned, Metrics]:
        """The passes of the policies once more, for the model."""
        experience, lessons = lesson.experience, lesson.lessons
        action = experience.batch.action
        shape = lessons.action.shape
        model_lessons = ModelLessons(
            inputs=lessons.inputs,
            action=lessons.action,
            following=jnp.concatenate([action[1:], action[-1:]]).reshape(shape),
            mask=self._learnable(experience).reshape(*shape, shape[-1]),
            value_mask=lessons.value_mask,
        )

        def step(state: Learned, part: ModelLessons) -> tuple[Learned, Metrics]:
            (_, loss), gradient = jax.value_and_grad(self.model_loss, has_aux=True)(
                state.params, part
            )
            updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
            updates = jax.tree.map(lambda x: -lesson.rates.lr * x, updates)
            params = optax.apply_updates(state.params, updates)
            metrics = {"model_loss": loss, "model_grad_norm": optax.tree.norm(gradient)}
            return Learned(params, optimizer), metrics

        return self.core.over_minibatches(step, state, model_lessons, lesson.key)

    def predict(
        self, params: Params, inputs: Float[Array, "*b N I"], actions: Float[Array, "*b N N A"]
    ) -> Float[Array, "*b N N A"]:
        """Logits of every agent's next action (last N), as each agent (first N) expects them.

        Args:
            params: the model.
            inputs: what each agent sees.
            actions: what all agents (last N) do, one-hot, as each agent (first N) is told.
        """
        seen = jnp.concatenate([inputs, actions.reshape(*actions.shape[:-2], -1)], axis=-1)
        logits: jax.Array = self.core.apply_network(self.network, params, seen)
        return logits.reshape(actions.shape)

    def influence(self, params: Params, experience: Experience) -> Float[Array, "T B N N"]:
        """Of every agent (first N) on the next action of every other; nobody influences itself."""
        batch = experience.batch
        assert experience.logits is not None
        oneself = jnp.eye(batch.num_agents, dtype=bool)

        def of_each(seen: tuple[jax.Array, ...], rows: Rows | None) -> jax.Array:
            inputs, logits, mask, action = seen
            joint = self._joint(action)

            def had_it_been(option: Float[Array, " A"]) -> Float[Array, "T B N N A"]:
                return self.predict(params, inputs, jnp.where(oneself[..., None], option, joint))

            expected = jax.vmap(had_it_been, out_axes=-3)(jnp.eye(batch.num_actions))
            policy = masked_categorical(logits, mask).probs
            influence = social_influence(expected, policy, action) * ~oneself
            return influence if rows is None else rows.unpack(influence)

        counts = self.core.sizes.row_counts(batch.valid.shape[1])
        seen = (experience.inputs[:-1], experience.logits, batch.action_mask[:-1], batch.action)
        return in_rows(counts, batch.valid, seen, of_each)

    def model_loss(
        self, params: Params, lessons: ModelLessons
    ) -> tuple[Float[Array, ""], jax.Array]:
        """Cross-entropy of the others' next actions: weighed, and summed over separate models; and its mean."""
        joint = self._joint(lessons.action)
        log_probs = jax.nn.log_softmax(self.predict(params, lessons.inputs, joint))
        right = jnp.sum(log_probs * self._joint(lessons.following), axis=-1)
        own_mean = masked_mean
        if self.config.sharing == "independent":
            own_mean = jax.vmap(masked_mean, in_axes=2)
        return (
            -self.config.model_weight * jnp.sum(own_mean(right, lessons.mask)),
            -masked_mean(right, lessons.mask),
        )

    def _joint(self, action: Int[Array, "*b N"]) -> Float[Array, "*b N N A"]:
        """All agents' actions (last N), as every agent (first N) sees them."""
        one_hot = jax.nn.one_hot(action, self.core.sizes.num_actions)
        return jnp.broadcast_to(one_hot[..., None, :, :], (*action.shape, *one_hot.shape[-2:]))

    def _learnable(self, experience: Experience) -> Float[Array, "T B N N"]:
        """1 where an agent (first N) lives, and another one (last N) does so at the next step too."""
        alive = experience.alive
        follows = jnp.concatenate([alive[1:], jnp.zeros_like(alive[:1])])
        return alive[..., :, None] * follows[..., None, :] * (1.0 - jnp.eye(alive.shape[-1]))
