"""The Q-learner: agents with action values, a mixer, a replay, and the parts that make the agents differ.

IQL, VDN, QMIX and QPLEX are settings of it, as PyMARL has them: a network of action values for each agent, replay of
whole episodes, double Q-learning with delayed targets, one optimiser. Those with a loss of their own, QTRAN-base and
weighted QMIX, are in `joint_values.py`.

Sources: PyMARL `q_learner.py`; QPLEX `dmaq_qatten_learner.py`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from envs.base import Observation, random_action
from envs.configuration import ConfigurationError, Range
from marl_jax.distributions import greedy_action
from marl_jax.losses import (
    action_values,
    greedy_values,
    masked_mean,
    td_loss,
)
from marl_jax.methods.part import OWN, Steps, history, settle
from marl_jax.methods.team import (
    AgentMemory,
    NotNegative,
    Positive,
    ReplayRates,
    TeamConfig,
    TeamMethod,
    Unit,
    make_replay,
    replay_rates,
)
from marl_jax.networks import (
    QMIX,
    QPLEX,
    VDN,
    Mixed,
    MixerInputs,
    Params,
    permute_agents,
    temporal_credits,
)
from marl_jax.optimizers import OptimizerName, make_optimizer
from marl_jax.replay import EpisodeReplay, ReplayState
from marl_jax.rows import Rows, by_episode, by_rows, row_returns
from marl_jax.types import EpisodeBatch, Metrics


@dataclasses.dataclass(frozen=True)
class ValueConfig(TeamConfig):
    """What the family has in common; defaults are PyMARL's (`default.yaml`, `qmix.yaml`)."""

    epsilon_start: Annotated[float, Unit] = 1.0
    """Exploration rate at the start."""
    epsilon_finish: Annotated[float, Unit] = 0.05
    """Exploration rate in the end."""
    epsilon_anneal_steps: Annotated[int, Range(minimum=1)] = 50_000
    """Environment steps over which it falls linearly."""
    num_envs: Annotated[int, Range(minimum=1)] = 1
    """Environments played side by side, at least: where an iteration's episodes would be shorter than update_interval,
    there are as many as it takes."""
    episodes_per_env: Annotated[int, Range(minimum=1)] = 1
    """Episodes of an iteration for each environment. With several, one that is over makes room for the next, and an
    iteration does not wait for its longest episode so often."""
    update_interval: Annotated[int, Range(minimum=1)] = 100
    """Environment steps for each gradient step (elsewhere train_frequency), where episodes count with their time limit;
    an iteration's gradient steps are rounded to whole ones. PyMARL takes one for each episode with one environment,
    and one for eight with eight; QPLEX's own runs take two for each."""
    batch_size: Annotated[int, Range(minimum=1)] = 32
    """Episodes drawn for a gradient step; learning starts when there are as many."""
    replay_capacity: Annotated[int, Range(minimum=1)] = 500_000
    """Environment steps kept, in whole episodes: PyMARL's 5000 of 100 steps. Where episodes end early there are more of
    them, up to eight times as many as would last until the time limit."""
    gamma: Annotated[float, Unit] = 0.99
    """Discount factor."""
    td_lambda: Annotated[float, Unit] = 0.0
    """Lambda of the targets: 0 for one step, 1 for the whole return. PyMARL2 has 0.6 on StarCraft's maps."""
    reward_scale: Annotated[float, Positive] = 1.0
    """By what the task's rewards are multiplied before anything is learned from them; those of a method's own are
    not."""
    double_q: bool = True
    """Whether the online networks choose the action that the target networks value."""
    target_update: Literal["hard", "soft"] = "hard"
    """Copy the networks to the targets now and then, or move the targets a little after every gradient step."""
    target_update_interval: Annotated[int, Range(minimum=1)] = 200
    """Episodes between two hard copies."""
    target_update_rate: Annotated[float, Range(above=0, maximum=1)] = 0.01
    """Share of the way that a soft update goes."""
    optimizer: OptimizerName = "rmsprop"
    """Optimiser; rmsprop is PyTorch's with decay 0.99 and eps 1e-5."""
    lr: Annotated[float, Positive] = 5e-4
    """Learning rate."""
    max_grad_norm: Annotated[float, NotNegative] = 10.0
    """Global norm to which gradients are clipped; 0 for never."""


class ValueState(NamedTuple):
    """All that a learner of the family learns and counts.

    Attributes:
        params: parameters by part ("agent", "mixer", ...).
        target: their delayed copy.
        optimizer: the optimiser's state.
        episodes: episodes played.
        episodes_at_copy: episodes played when the targets were copied last.
        env_steps: environment steps taken, which drives the exploration schedule.
        parts: what each part learns and counts by itself.
    """

    params: dict[str, Params]
    target: dict[str, Params]
    optimizer: optax.OptState
    episodes: Int[Array, ""]
    episodes_at_copy: Int[Array, ""]
    env_steps: Int[Array, ""]
    parts: tuple[Any, ...] = ()


class Values(NamedTuple):
    """The agents' action values along a batch of episodes.

    Attributes:
        online: of the online networks.
        target: of the target networks.
        greedy: the action that the online networks hold best among the available ones.
        chosen: the action whose value the targets take: `greedy`, or without double Q what the target networks hold
            best.
        hidden: the online networks' hidden states.
        target_hidden: the target networks'.
    """

    online: Float[Array, "T+1 B N A"]
    target: Float[Array, "T+1 B N A"]
    greedy: Int[Array, "T+1 B N"]
    chosen: Int[Array, "T+1 B N"]
    hidden: Float[Array, "T+1 B N H"]
    target_hidden: Float[Array, "T+1 B N H"]


class Learning(NamedTuple):
    """A batch in the middle of a gradient step: what parts may look at.

    Attributes:
        params: the parameters that the loss is differentiated in.
        state: the learner before the step.
        batch: the episodes.
        values: the agents' action values.
        taken: the mixer's inputs for the actions taken.
        mixed: what the mixer makes of them.
        key: random key.
        steps: what parts of any backbone may look at.
    """

    params: dict[str, Params]
    state: ValueState
    batch: EpisodeBatch
    values: Values
    taken: MixerInputs
    mixed: Mixed
    key: jax.Array
    steps: Steps

    def of_part(self, k: int) -> "Learning":
        """The same for part `k`, whose draws are its own."""
        if k == 0:
            return self
        key = jax.random.fold_in(self.key, OWN + k)
        return self._replace(
            key=key, steps=self.steps._replace(normal=_normal(self.batch.rows, key))
        )


def _normal(rows: Rows | None, key: jax.Array) -> Callable[[tuple[int, ...]], jax.Array]:
    """Draws standard normal numbers by episode, wherever it lies."""
    return lambda shape: by_episode(rows, shape, key, jax.random.normal)


class Kept(NamedTuple):
    """What the replay keeps of a step, besides what every episode has.

    Attributes:
        latent: what was drawn for the episode.
        values: the action values that the agents acted on.
    """

    latent: Any = ()
    values: Any = ()


@dataclasses.dataclass(frozen=True)
class QLearner(TeamMethod):
    """The backbone. A member of the family defines its mixer, or its loss."""

    Config: ClassVar[type[ValueConfig]] = ValueConfig
    takes_agents: ClassVar = True
    hooks: ClassVar = ("init", "bonus", "loss", "explore")

    def __post_init__(self) -> None:
        # Refuses a replay that is too small.
        _ = self.rates
        super().__post_init__()

    @property
    def rates(self) -> ReplayRates:
        """Environments, gradient steps of an iteration, and episodes kept."""
        drawn = {"batch_size": self.config.batch_size}
        c = self.config
        return replay_rates(c, self.sizes.time_limit, drawn, c.episodes_per_env)

    @property
    def num_envs(self) -> int:
        """W."""
        return self.rates.num_envs

    @property
    def num_episodes(self) -> int:
        """B."""
        return self.rates.num_episodes

    @property
    def replay(self) -> EpisodeReplay:
        """The last `replay_capacity` steps' episodes."""
        return make_replay(self.rates, self.sizes)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """One for the team and what goes with it, and those that parts have of their own."""
        c = self.config
        team = make_optimizer(c.optimizer, c.lr, c.max_grad_norm)
        own = {name: one for part in self.parts for name, one in part.optimizers.items()}
        if not own:
            return team
        return optax.multi_transform(
            {"team": team, **own},
            lambda params: {name: name if name in own else "team" for name in params},
        )

    # What a member defines.

    @property
    def mixer(self) -> nn.Module | None:
        """Maps `MixerInputs` to `Mixed`; None for independent learners."""
        return None

    def in_order(self, inputs: MixerInputs, key: jax.Array) -> MixerInputs:
        """The agents in the order in which they are handed to the mixer."""
        del key
        return inputs

    def mixer_loss(self, mixed: Mixed, batch: EpisodeBatch) -> tuple[jax.Array, Metrics]:
        """What the mixer adds to the loss."""
        del mixed, batch
        return jnp.zeros(()), {}

    def init_team(self, key: jax.Array) -> dict[str, Params]:
        """Parameters of agents and mixer."""
        agent_key, mixer_key = jax.random.split(key)
        params = {"agent": self.agents.init(agent_key)}
        if self.mixer is not None:
            params["mixer"] = self.mixer.init(mixer_key, self.example())
        return params

    def loss(
        self, params: dict[str, Params], state: ValueState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of `params` on one batch of episodes, and what is worth logging.

        `state` is the learner before the gradient step: its targets and its counts.
        """
        part_key, values_key, order_key = (jax.random.fold_in(key, i) for i in (1, 2, 3))
        values = self.values(params, state.target, batch, values_key)
        taken = self.in_order(self.taken(values, batch), order_key)
        mixed = self.mix(params, taken)
        ahead = self.mix(state.target, self.in_order(self.next_taken(values, batch), order_key))
        steps = self.steps(params, batch, values, part_key)._replace(parts=state.parts)
        learning = Learning(params, state, batch, values, taken, mixed, part_key, steps)
        y = self.targets(batch, ahead.q_tot, self.bonus(learning))
        mask = batch.valid.astype(y.dtype)
        loss = td_loss(mixed.q_tot, y, mask)
        metrics = {"td_loss": loss, "q_tot": masked_mean(mixed.q_tot, mask)}
        of_parts = [part.loss(learning.of_part(k)) for k, part in enumerate(self.parts)]
        for added, logged in [self.mixer_loss(mixed, batch), *of_parts]:
            loss, metrics = loss + added, {**metrics, **logged}
        return loss, metrics

    def bonus(self, learning: Learning) -> Float[Array, "T B"] | float:
        """What the parts pay the team."""
        paid = [part.bonus(learning.of_part(k)) for k, part in enumerate(self.parts)]
        return sum((weight * each.mean(-1) for weight, each in filter(None, paid)), 0.0)

    # The method's contract.

    def init(self, key: jax.Array) -> ValueState:
        """Draws the parameters."""
        own, parts, key = self.init_parts(key)
        params = {**self.init_team(key), **own}
        zero = jnp.zeros((), jnp.int32)
        # A copy, not the same buffers: the training loop donates both.
        copy = jax.tree.map(jnp.copy, params)
        return ValueState(params, copy, self.optimizer.init(params), zero, zero, zero, parts)

    def initial_memory(self, state: Any, num_envs: int, key: jax.Array) -> AgentMemory:
        """Zeros, no last action, and what is drawn for the episode."""
        memory = super().initial_memory(state, num_envs, key)
        return memory._replace(latent=self.agents.latent(num_envs, key))

    def act(
        self,
        state: ValueState,
        memory: AgentMemory,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[AgentMemory, jax.Array, Kept]:
        """Epsilon-greedy, each agent on its own, and what the parts make of it; or greedy."""
        # Not the second of two halves of the key, which `fold_in` with 1 gives too.
        step_key = jax.random.fold_in(key, 3)
        hidden, q = self.step(state.params["agent"], memory, observation, step_key, explore)
        action = greedy_action(q, observation.action_mask)
        if explore:
            coin_key, action_key = jax.random.split(key)
            tries = jax.random.uniform(coin_key, action.shape) < self.epsilon(state)
            action = jnp.where(tries, random_action(action_key, observation.action_mask), action)
            for k, part in enumerate(self.parts):
                part_key = jax.random.fold_in(key, 4 + k)
                action = part.explore(state, memory.latent, observation, action, part_key)
        carried = memory._replace(hidden=hidden, last_action=self.one_hot(action))
        kept = Kept(
            memory.latent if self.agents.context_size else (),
            q if any(part.keeps_values for part in self.parts) else (),
        )
        return carried, action, kept

    def update(
        self, state: ValueState, fresh: EpisodeBatch, replay: ReplayState | None, key: jax.Array
    ) -> tuple[ValueState, Metrics]:
        """Takes a gradient step for every `update_interval` steps played, each on episodes drawn anew."""
        assert replay is not None
        state, watched = self.watch_parts(state, fresh)
        state = state._replace(
            episodes=state.episodes + self.num_episodes,
            env_steps=state.env_steps + jnp.sum(fresh.valid, dtype=jnp.int32),
        )
        enough = self.replay.size(replay) >= self.config.batch_size

        def step(state: ValueState, key: jax.Array) -> tuple[ValueState, Metrics]:
            sample_key, loss_key = jax.random.split(key)
            with jax.named_scope("replay"):
                drawn = self.replay.choose(replay, sample_key, self.config.batch_size)

            def slope(rows: Rows | None) -> tuple[dict[str, Params], Metrics]:
                with jax.named_scope("replay"):
                    batch = self.replay.read(replay, drawn, rows)
                return self.gradients(state, batch, loss_key)

            lengths = jnp.maximum(drawn.lengths, 0)
            # Only this depends on the number of rows. What follows is in the program once.
            found = by_rows(self.row_counts, lengths, self.sizes.time_limit, slope)
            learned, metrics = self.descend(state, *found, loss_key)
            # Not a `cond`: under `vmap` over seeds it would be turned into this anyway.
            learned = jax.tree.map(lambda new, old: jnp.where(enough, new, old), learned, state)
            return self.follow(learned, enough), metrics

        keys = jax.random.split(key, self.rates.gradient_steps)
        state, metrics = jax.lax.scan(step, state, keys)
        metrics = {name: jnp.where(enough, jnp.mean(x), 0.0) for name, x in metrics.items()}
        metrics["epsilon"] = self.epsilon(state)
        return state, {**metrics, **watched}

    @property
    def row_counts(self) -> tuple[int, ...]:
        """The numbers of rows that drawn episodes are laid into."""
        size = self.config.batch_size
        if any(part.own_rows for part in self.parts):
            return (size,)
        return self.sizes.row_counts(size)

    def gradient_step(
        self, state: ValueState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[ValueState, Metrics]:
        """`gradients` and `descend` on a batch of episodes, for those who have one; the targets stay as they are."""
        return self.descend(state, *self.gradients(state, batch, key), key)

    def gradients(
        self, state: ValueState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[dict[str, Params], Metrics]:
        """Gradients of the loss, and what to log."""
        return jax.grad(self.loss, has_aux=True)(state.params, state, batch, key)

    def descend(
        self, state: ValueState, grads: dict[str, Params], metrics: Metrics, key: jax.Array
    ) -> tuple[ValueState, Metrics]:
        """Takes the optimiser's step, and lets the parts make of it what they do."""
        with jax.named_scope("optimizer"):
            updates, optimizer = self.optimizer.update(grads, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
        metrics = {**metrics, "grad_norm": optax.tree.norm(grads)}
        parts, params = settle(self.parts, state.parts, params, metrics, state.env_steps, key)
        return state._replace(params=params, optimizer=optimizer, parts=parts), metrics

    # Steps of an update.

    def follow(self, state: ValueState, learned: jax.Array) -> ValueState:
        """Brings the targets up to date after a gradient step."""
        before = state
        if self.config.target_update == "soft":
            rate = jnp.where(learned, self.config.target_update_rate, 0.0)
            target = optax.incremental_update(state.params, state.target, rate)
            state = state._replace(target=target)
        else:
            passed = state.episodes - state.episodes_at_copy
            due = passed >= self.config.target_update_interval
            target = jax.tree.map(
                lambda new, old: jnp.where(due, new, old), state.params, state.target
            )
            at_copy = jnp.where(due, state.episodes, state.episodes_at_copy)
            state = state._replace(target=target, episodes_at_copy=at_copy)
        for part in self.parts:
            for name, share in part.target_rates.items():
                rate = jnp.where(learned, share, 0.0)
                moved = optax.incremental_update(before.params[name], before.target[name], rate)
                state = state._replace(target={**state.target, name: moved})
        return state

    def steps(
        self, params: dict[str, Params], batch: EpisodeBatch, values: Values, key: jax.Array
    ) -> Steps:
        """What parts of any backbone may look at."""
        inputs = self.agent_inputs(batch.observation, batch.last_action)[:-1]
        before, mask = history(values.hidden[:-1], batch.rows), batch.valid
        normal = _normal(batch.rows, key)
        return Steps(params, params["agent"], inputs, before, mask.astype(inputs.dtype), normal)

    def example(self) -> MixerInputs:
        """Inputs of the mixer's shapes."""
        n, a = self.sizes.num_agents, self.sizes.num_actions
        zeros = jnp.zeros((n,))
        seen = jnp.zeros((self.sizes.global_state + self.agents.context_size,))
        return MixerInputs(zeros, zeros, jnp.zeros((n, a)), seen)

    def step(
        self,
        params: Params,
        memory: AgentMemory,
        observation: Observation,
        key: jax.Array,
        explore: bool,
    ) -> tuple[Float[Array, "B N H"], Float[Array, "B N A"]]:
        """The agents' next hidden states, and their action values."""
        inputs = self.agent_inputs(observation.agents_view, memory.last_action)
        return self.agents.step(params, memory.hidden, inputs, memory.latent, key, explore)

    def unroll(
        self, params: Params, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, "T+1 B N H"], Float[Array, "T+1 B N A"]]:
        """The agents' hidden states and action values along episodes."""
        inputs = self.agent_inputs(batch.observation, batch.last_action)
        return self.agents.unroll(params, inputs, self.latents(batch), key, batch.rows)

    def latents(self, batch: EpisodeBatch) -> Any:
        """What was drawn for each episode, [B, Z]; in rows, for each entry's, [T+1, B, Z]; () if nothing is."""
        if not self.agents.context_size:
            return ()
        kept = batch.extras.latent
        if batch.rows is None:
            return kept[0]
        # At an episode's last entry there is no step; it is that of the one before.
        latent = jnp.concatenate([kept, kept[-1:]])
        before = jnp.concatenate([latent[:1], latent[:-1]])
        steps = jnp.concatenate([batch.valid, jnp.zeros_like(batch.valid[:1])])
        return jnp.where(steps[..., None], latent, before)

    def mixer_state(self, batch: EpisodeBatch) -> Float[Array, "T+1 B G"]:
        """The state that the mixer sees, and beside it what the agents have drawn."""
        state, latent = batch.global_state, self.latents(batch)
        if not self.agents.context_size:
            return state
        latent = jnp.broadcast_to(latent, (*state.shape[:-1], latent.shape[-1]))
        return jnp.concatenate([state, latent], axis=-1)

    def values(
        self,
        params: dict[str, Params],
        target: dict[str, Params],
        batch: EpisodeBatch,
        key: jax.Array,
    ) -> Values:
        """The agents' action values along episodes, of online and of target networks."""
        online_key, target_key = jax.random.split(key)
        hidden, online = self.unroll(params["agent"], batch, online_key)
        ahead = self.unroll(target["agent"], batch, target_key)
        target_hidden, delayed = jax.lax.stop_gradient(ahead)
        greedy = greedy_action(jax.lax.stop_gradient(online), batch.action_mask)
        chosen = greedy if self.config.double_q else greedy_action(delayed, batch.action_mask)
        return Values(online, delayed, greedy, chosen, hidden, target_hidden)

    def mixer_inputs(
        self,
        q: Float[Array, "T B N A"],
        action: Int[Array, "T B N"],
        mask: jax.Array,
        state: Float[Array, "T B G"],
    ) -> MixerInputs:
        """What the mixer sees when the agents, whose values are `q`, take `action`."""
        best = greedy_values(jax.lax.stop_gradient(q), mask)
        return MixerInputs(action_values(q, action), best, self.one_hot(action), state)

    def taken(self, values: Values, batch: EpisodeBatch) -> MixerInputs:
        """The mixer's inputs at each step, for the actions taken."""
        mask, state = batch.action_mask[:-1], self.mixer_state(batch)[:-1]
        return self.mixer_inputs(values.online[:-1], batch.action, mask, state)

    def next_taken(self, values: Values, batch: EpisodeBatch) -> MixerInputs:
        """The target mixer's inputs at the step after, for the actions chosen there."""
        mask, state = batch.action_mask[1:], self.mixer_state(batch)[1:]
        return self.mixer_inputs(values.target[1:], values.chosen[1:], mask, state)

    def mix(self, params: dict[str, Params], inputs: MixerInputs) -> Mixed:
        """The mixer's value of the joint action."""
        assert self.mixer is not None
        mixed: Mixed = self.mixer.apply(params["mixer"], inputs)  # type: ignore[assignment]
        return mixed

    def targets(
        self,
        batch: EpisodeBatch,
        next_q: Float[Array, "T B"],
        bonus: Float[Array, "T B"] | float = 0.0,
    ) -> Float[Array, "T B"]:
        """TD(lambda) targets of the team: the agents' mean reward and a bonus; the episode ends for all at once."""
        c = self.config
        reward = c.reward_scale * batch.reward.mean(-1) + bonus
        discount = c.gamma * batch.discount.min(-1)
        return row_returns(batch.rows, batch.valid, reward, discount, next_q, c.td_lambda)

    def credits_of(self, params: dict[str, Params], taken: MixerInputs) -> Float[Array, "*batch N"]:
        """Each agent's credit dQ_tot/dq_i; a constant in the agents' parameters."""
        return temporal_credits(functools.partial(self.mix, params), taken)

    def credits(self, state: ValueState, batch: EpisodeBatch) -> Float[Array, "T B N"]:
        """Each agent's temporal credit dQ_tot/dq_i along episodes (CIA Eq. 2), for the actions taken.

        A method that is set to the authors' approximation gives that.

        Raises:
            ConfigurationError: if the method has no mixer.
        """
        if self.mixer is None:
            raise ConfigurationError(
                f"{type(self).__name__} has no mixer, so its agents have no credits; take a run of a method that "
                "mixes, such as qmix or cia."
            )
        values = self.values(state.params, state.target, batch, jax.random.key(0))
        taken = self.taken(values, batch)
        for part in self.parts:
            seen = part.credits(state.params, taken)
            if seen is not None:
                return seen
        return self.credits_of(state.params, taken)


def only_q_learner(backbone: type) -> str | None:
    """Why a part of the Q-learner makes no sense elsewhere, see `Part.refusal`."""
    if issubclass(backbone, QLearner):
        return None
    return "it adds to the loss of a Q-learner with a mixer: vdn, qmix or qplex"


@dataclasses.dataclass(frozen=True)
class IQL(QLearner):
    """Independent Q-learning (Tan 1993): each agent learns its own values from its own reward."""

    Config: ClassVar = ValueConfig
    takes_no_parts: ClassVar = (
        "its agents' values are not mixed, so there is no team's loss to add to"
    )

    def loss(
        self, params: dict[str, Params], state: ValueState, batch: EpisodeBatch, key: jax.Array
    ) -> tuple[Float[Array, ""], Metrics]:
        """Of each agent by itself."""
        values = self.values(params, state.target, batch, key)
        q = action_values(values.online[:-1], batch.action)
        next_q = action_values(values.target[1:], values.chosen[1:])
        c = self.config
        reward, discount = c.reward_scale * batch.reward, c.gamma * batch.discount
        y = row_returns(batch.rows, batch.valid, reward, discount, next_q, c.td_lambda)
        mask = jnp.broadcast_to(batch.valid[..., None], q.shape).astype(q.dtype)
        loss = td_loss(q, y, mask)
        return loss, {"td_loss": loss, "q_tot": masked_mean(q, mask)}


@dataclasses.dataclass(frozen=True)
class VDNMethod(QLearner):
    """VDN (Sunehag et al. 2018): the team's value is the sum of its agents'."""

    Config: ClassVar = ValueConfig

    @property
    def mixer(self) -> VDN:
        """The sum."""
        return VDN()


@dataclasses.dataclass(frozen=True)
class QMIXConfig(ValueConfig):
    """Hyper-parameters of QMIX; PyMARL's `qmix.yaml`."""

    mixer_embed: Annotated[int, Range(minimum=1)] = 32
    """Units of the mixer's hidden layer."""
    hypernet_layers: Annotated[int, Range(minimum=1, maximum=2)] = 2
    """Layers of the networks that make the mixer's weights: 2 in `qmix.yaml`, 1 in `qmix_beta.yaml`."""
    hypernet_size: Annotated[int, Range(minimum=1)] = 64
    """Units of their hidden layers."""
    init_scale: Annotated[float, Positive] = 1.0
    """By what the first weights of their last layers are multiplied; with a small one Q_tot starts near 0 (JaxMARL:
    0.001)."""
    shuffle_agents: bool = False
    """CIA's random shuffle RS: every gradient step hands the agents to the mixer in a fresh random order, and to the
    target mixer in the same one."""


@dataclasses.dataclass(frozen=True)
class QMIXMethod(QLearner):
    """QMIX (Rashid et al. 2018): a monotonic mixer whose weights come from the state."""

    Config: ClassVar[type[ValueConfig]] = QMIXConfig

    @property
    def mixer(self) -> QMIX:
        """The monotonic mixer."""
        c = self.config
        return QMIX(c.mixer_embed, c.hypernet_layers, c.hypernet_size, c.init_scale)

    def in_order(self, inputs: MixerInputs, key: jax.Array) -> MixerInputs:
        """In a random one, if it is asked for."""
        if not self.config.shuffle_agents:
            return inputs
        return permute_agents(inputs, jax.random.permutation(key, self.sizes.num_agents))


@dataclasses.dataclass(frozen=True)
class QPLEXConfig(ValueConfig):
    """Hyper-parameters of QPLEX; the authors' `qplex_qatten_sc2.yaml`, with CIA's one step an episode."""

    unit_dim: Annotated[int, Range(minimum=0)] = 0
    """Features of one agent at the front of the state, 10 in SMAX; 0 gives every agent the whole state (CIA's
    is_token)."""
    agent_index: bool = False
    """Whether the attention also sees which agent it weighs (ours; without it and unit_dim all weigh the same)."""
    num_heads: Annotated[int, Range(minimum=1)] = 4
    """Heads of the attention."""
    num_kernels: Annotated[int, Range(minimum=1)] = 4
    """Terms of the advantage's weight."""
    mixer_embed: Annotated[int, Range(minimum=1)] = 32
    """Units of queries, keys and the state's value."""
    hypernet_size: Annotated[int, Range(minimum=1)] = 64
    """Hidden units of the queries' networks."""
    weighted_head: bool = False
    """Whether each head has a weight that depends on the state."""
    attention_weight: Annotated[float, NotNegative] = 1e-3
    """Weight of the attention's squared logits in the loss: of their mean over the episodes' steps. Authors: also over
    the padding behind them."""


@dataclasses.dataclass(frozen=True)
class QPLEXMethod(QLearner):
    """QPLEX (Wang et al. 2021) with Qatten's attention head."""

    Config: ClassVar[type[ValueConfig]] = QPLEXConfig

    @property
    def mixer(self) -> QPLEX:
        """The duplex duelling mixer."""
        c = self.config
        return QPLEX(
            c.unit_dim,
            c.agent_index,
            c.num_heads,
            c.num_kernels,
            c.mixer_embed,
            c.hypernet_size,
            c.weighted_head,
        )

    def mixer_loss(self, mixed: Mixed, batch: EpisodeBatch) -> tuple[jax.Array, Metrics]:
        """The attention's squared logits."""
        mask = batch.valid.astype(mixed.regulariser.dtype)
        attention = self.config.attention_weight * masked_mean(mixed.regulariser, mask)
        return attention, {"attention_loss": attention}
