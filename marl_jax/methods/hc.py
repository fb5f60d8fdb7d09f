"""HC: skills by DIAYN, then one central policy that gives each agent a skill.

Papers: Lee, Yang and Lim 2020, "Learning to Coordinate Manipulation Skills via Skill Behavior Diversification" (code:
clvrai/coordination); Jiang and Lu 2021 (EOI, section 4), who compare with a discrete version of their own that was
never published. They say of it that skills come from DIAYN for 6,000 episodes, and that a centralised policy then picks
one for each agent. All else here is a choice of this project.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from envs.base import Observation
from envs.configuration import Range
from marl_jax.losses import identity_cross_entropy, masked_mean
from marl_jax.methods.mappo import IPPO, IPPOConfig
from marl_jax.methods.part import Learned
from marl_jax.methods.ppo import Acted, PPOState
from marl_jax.methods.team import AgentMemory, NotNegative, Positive, TeamMethod
from marl_jax.networks import MLP, Params, Sharing
from marl_jax.optimizers import make_optimizer
from marl_jax.replay import ReplayState
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class HCConfig(IPPOConfig):
    """Hyper-parameters of HC; those of PPO are of both levels, those of the agents' networks of the skills."""

    sharing: Sharing = "shared"
    """Whether agents share their skills, or have their own."""
    observe_identity: bool = False
    """Whether a skill sees whose it is; the central policy does."""
    num_skills: Annotated[int, Range(minimum=2)] = 8
    """Skills that there are (K)."""
    skill_steps: Annotated[int, Range(minimum=1)] = 10
    """Environment steps for which an agent keeps a skill."""
    skill_training_steps: Annotated[int, Range(minimum=0)] = 600_000
    """Environment steps after which skills learn no more, and the central policy begins to. EOI's paper has 6,000
    episodes: so many of 100 steps."""
    entropy_weight: Annotated[float, NotNegative] = 0.01
    """Weight of both levels' entropy at the start, in nats. With the core's 0.15 skills stay nearly uniform, so that
    they cannot be told apart."""
    entropy_weight_final: Annotated[float, NotNegative] = 0.01
    """Weight of both levels' entropy in the end."""
    discriminator_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (64, 64)
    """Units of the hidden layers of the network that tells skills apart."""
    discriminator_lr: Annotated[float, Positive] = 1e-3
    """Its learning rate (Adam)."""
    discriminator_steps: Annotated[int, Range(minimum=1)] = 4
    """Its gradient steps in an iteration, each on all episodes."""


class HCMemory(NamedTuple):
    """What agents carry.

    Attributes:
        low: what their networks carry.
        skill: which skill each has.
    """

    low: AgentMemory
    skill: Int[Array, "B N"]


class HCActed(NamedTuple):
    """What is kept of an action.

    Attributes:
        low: of the action itself.
        skill: the skill that chose it.
        log_prob: the skill's log-probability; it counts at the steps at which skills are chosen.
    """

    low: Acted
    skill: Int[Array, "T B N"]
    log_prob: Float[Array, "T B N"]


class HCState(NamedTuple):
    """All that HC learns and counts.

    Attributes:
        low: what learns skills.
        high: what chooses them.
        discriminator: what tells them apart.
        env_steps: environment steps learned from.
    """

    low: PPOState
    high: PPOState
    discriminator: Learned
    env_steps: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class HC(TeamMethod):
    """HC (Lee et al. 2020) as EOI's paper compares with it: DIAYN's skills, then a central policy that deals them out.

    Both levels are the PPO core. Skills are its agents, who also see which skill they have and are paid for its being
    told from what they bring about, and for nothing else. The central policy is a team of its own: each member sees
    what all agents see, chooses a skill for its agent every `skill_steps` steps, and all are paid the team's reward.
    So agents do not act by what they see alone, unlike those of other methods.
    """

    Config: ClassVar = HCConfig
    takes_no_parts: ClassVar = "its skills are its part, on two PPO cores"

    def __post_init__(self) -> None:
        # Refuses what the core refuses.
        _ = self.low, self.high

    @property
    def low(self) -> IPPO:
        """The learner of skills, of a task whose agents see their skill."""
        seen = self.sizes.observation + self.config.num_skills
        return IPPO(self.config, self.sizes._replace(observation=seen))

    @property
    def high(self) -> IPPO:
        """The learner of their choice, of a task whose agents see everything and whose actions are skills."""
        s, c = self.sizes, self.config
        config = dataclasses.replace(
            c,
            num_envs=self.num_episodes,
            episodes_per_env=1,
            agent="mlp",
            head_sizes=(),
            critic="mlp",
            minibatch_unit="episodes",
            minibatches=min(c.minibatches, self.num_episodes),
            sharing="shared",
            observe_last_action=False,
            observe_identity=True,
            share_reward=True,
        )
        sizes = s._replace(
            num_actions=c.num_skills,
            observation=s.num_agents * s.observation,
            time_limit=-(-s.time_limit // c.skill_steps),
            ends_early=False,
        )
        return IPPO(config, sizes)

    @property
    def num_envs(self) -> int:
        """W."""
        return self.low.num_envs

    @property
    def num_episodes(self) -> int:
        """B."""
        return self.low.num_episodes

    @property
    def _discriminator(self) -> MLP:
        return MLP((*self.config.discriminator_hidden, self.config.num_skills))

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return make_optimizer("adam", self.config.discriminator_lr, 0.0)

    # The method's contract.

    def init(self, key: jax.Array) -> HCState:
        """Draws the parameters."""
        low_key, high_key, key = jax.random.split(key, 3)
        discriminator = self._discriminator.init(key, jnp.zeros((self.sizes.observation,)))
        return HCState(
            self.low.init(low_key),
            self.high.init(high_key),
            Learned(discriminator, self._optimizer.init(discriminator)),
            jnp.zeros((), jnp.int32),
        )

    def initial_memory(self, state: HCState, num_envs: int, key: jax.Array) -> Any:
        """No skill yet: the first step chooses one."""
        low = self.low.initial_memory(state.low, num_envs, key)
        return HCMemory(low, jnp.zeros((num_envs, self.sizes.num_agents), jnp.int32))

    def act(
        self,
        state: HCState,
        memory: HCMemory,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[HCMemory, Int[Array, "B N"], HCActed]:
        """Chooses skills where it is time, at random while they are learned; then acts by them."""
        random_key, high_key, low_key = jax.random.split(key, 3)
        view, skills = observation.agents_view, self.config.num_skills
        nothing = self.high.initial_memory(state.high, len(view), high_key)
        seen = observation._replace(
            agents_view=self._all_see(view), action_mask=jnp.ones((*view.shape[:2], skills), bool)
        )
        _, chosen, choice = self.high.act(state.high, nothing, seen, high_key, explore)
        drawn = jax.random.randint(random_key, chosen.shape, 0, skills, jnp.int32)
        new = jnp.where(self._learns_skills(state), drawn, chosen)
        due = observation.step_count % self.config.skill_steps == 0
        skill = jnp.where(due[:, None], new, memory.skill)
        seen = observation._replace(agents_view=self._with_skill(view, skill))
        low, action, acted = self.low.act(state.low, memory.low, seen, low_key, explore)
        return HCMemory(low, skill), action, HCActed(acted, skill, choice.log_prob)

    def update(
        self, state: HCState, fresh: EpisodeBatch, replay: ReplayState | None, key: jax.Array
    ) -> tuple[HCState, Metrics]:
        """Skills and what tells them apart learn, or else their choice."""
        del replay
        low_key, high_key = jax.random.split(key)
        skills = self._learns_skills(state)
        steps = jnp.sum(fresh.valid, dtype=jnp.int32)
        batch = self.skill_batch(state.discriminator.params, fresh)
        low, of_low = self.low.update(state.low, batch, None, low_key)
        high, of_high = self.high.update(state.high, self.choice_batch(fresh), None, high_key)
        # Its schedules count environment steps, not choices.
        high = high._replace(env_steps=state.high.env_steps + steps)
        discriminator, loss = self._discriminate(state.discriminator, fresh)

        # Not a `cond`: under `vmap` over seeds it would be turned into this anyway.
        def whichever(one: Any, other: Any) -> Any:
            return jax.tree.map(lambda x, y: jnp.where(skills, x, y), one, other)

        low, discriminator = whichever((low, discriminator), (state.low, state.discriminator))
        alive = (fresh.valid[..., None] & fresh.alive[:-1]).astype(batch.reward.dtype)
        metrics = {
            **whichever(of_low, of_high),
            "skill_loss": loss,
            "skill_reward": masked_mean(batch.reward, alive),
        }
        high = whichever(state.high, high)
        return HCState(low, high, discriminator, state.env_steps + steps), metrics

    # What the levels learn from.

    def skill_batch(self, discriminator: Params, batch: EpisodeBatch) -> EpisodeBatch:
        """The same episodes for the learner of skills: agents see theirs, and are paid log q(z | o') - log 1/K."""
        skill = batch.extras.skill
        logits: Any = self._discriminator.apply(discriminator, batch.observation[1:])
        return batch._replace(
            observation=self._with_skill(batch.observation, jnp.concatenate([skill, skill[-1:]])),
            reward=jnp.log(self.config.num_skills) - identity_cross_entropy(logits, skill),
            extras=batch.extras.low,
        )

    def choice_batch(self, batch: EpisodeBatch) -> EpisodeBatch:
        """The same episodes for the learner of choices, whose steps are `skill_steps` of theirs.

        What a step pays is the sum of what those paid. It counts if its first one does, and ends the task if one does.
        """
        length = self.config.skill_steps
        time, number = batch.valid.shape[0], self.high.sizes.time_limit
        starts = jnp.arange(number) * length
        # The last one may be shorter.
        ends = jnp.minimum(jnp.arange(number + 1) * length, time)

        def parts(x: Float[Array, "T B N"], filling: float) -> Float[Array, "S L B N"]:
            x = jnp.where(batch.valid[..., None], x, filling)
            pad = jnp.full((number * length - time, *x.shape[1:]), filling)
            return jnp.concatenate([x, pad]).reshape(number, length, *x.shape[1:])

        alive = batch.alive[ends]
        return EpisodeBatch(
            observation=self._all_see(batch.observation[ends]),
            global_state=batch.global_state[ends],
            action_mask=jnp.ones((*alive.shape, self.config.num_skills), bool),
            alive=alive,
            action=batch.extras.skill[starts],
            reward=jnp.sum(parts(batch.reward, 0.0), axis=1),
            discount=jnp.prod(parts(batch.discount, 1.0), axis=1),
            valid=batch.valid[starts],
            extras=Acted(batch.extras.log_prob[starts]),
        )

    # Parts.

    def _learns_skills(self, state: HCState) -> jax.Array:
        return state.env_steps < self.config.skill_training_steps

    def _all_see(self, view: Float[Array, "*batch N F"]) -> Float[Array, "*batch N _"]:
        """What all see, for everyone."""
        everything = view.reshape(*view.shape[:-2], 1, -1)
        return jnp.broadcast_to(everything, (*view.shape[:-1], everything.shape[-1]))

    def _with_skill(
        self, view: Float[Array, "*batch N F"], skill: Int[Array, "*batch N"]
    ) -> Float[Array, "*batch N _"]:
        return jnp.concatenate([view, jax.nn.one_hot(skill, self.config.num_skills)], axis=-1)

    def _discriminate(
        self, discriminator: Learned, batch: EpisodeBatch
    ) -> tuple[Learned, Float[Array, ""]]:
        """The discriminator after this iteration's steps, and their mean loss."""
        mask = (batch.valid[..., None] & batch.alive[:-1]).astype(batch.observation.dtype)

        def loss_fn(params: Params) -> jax.Array:
            logits: Any = self._discriminator.apply(params, batch.observation[1:])
            return masked_mean(identity_cross_entropy(logits, batch.extras.skill), mask)

        def step(learned: Learned, _: None) -> tuple[Learned, jax.Array]:
            loss, grads = jax.value_and_grad(loss_fn)(learned.params)
            return learned.after(self._optimizer, grads), loss

        steps = self.config.discriminator_steps
        discriminator, losses = jax.lax.scan(step, discriminator, length=steps)
        return discriminator, jnp.mean(losses)
