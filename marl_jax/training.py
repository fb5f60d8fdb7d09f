"""The training loop: one compiled program for every method, on all seeds at once.

`Trainer.train_chunk` takes the run state of all seeds through some iterations (rollout, update) and one evaluation,
and leaves those as they are that have had their budget.
The Python loop around it lives in `marl_jax.loop`.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import NDArray

from envs.base import MultiAgentEnv
from envs.configuration import Config, Range
from marl_jax.evaluation import evaluate
from marl_jax.lengths import of_all
from marl_jax.methods.base import Method
from marl_jax.replay import ReplayState
from marl_jax.rollout import rollout, rollout_in_turn
from marl_jax.runtime import SEED_AXIS, compiler_options, placed, seed_mesh, seed_sharding
from marl_jax.types import EpisodeBatch, Metrics

EVALUATION_KEY = 20_190_408
"""Seed of the keys that every evaluation plays, the same for all seeds and all times."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Config):
    """What the loop around a method needs to know."""

    total_steps: Annotated[int, Range(minimum=1)] = 2_000_000
    """Environment steps for each seed, rounded up to whole evaluation intervals. A seed whose episodes are longer has
    them sooner, and waits for the others as it is."""
    eval_interval: Annotated[int, Range(minimum=1)] = 16_000
    """Environment steps between two evaluations, rounded to whole iterations of full episodes. So many iterations are a
    chunk, after which a run is saved; where episodes end early a chunk has fewer steps, and an evaluation comes at the
    end of the first that completes an interval."""
    eval_episodes: Annotated[int, Range(minimum=1)] = 32
    """Greedy episodes of each evaluation, always the same ones; as many sampled ones are played beside them."""
    keep_every: Annotated[int, Range(minimum=0)] = 0
    """Checkpoints between two that stay on disk beside the last two, to look at how a team came about; 0 for none. They
    hold what was learned, not the replay. There is one after every chunk of the seeds that still go on."""
    seed_batching: Literal["auto", "map", "vmap"] = "auto"
    """How the seeds on one device run: one after the other inside the compiled program (map: best on a CPU, and
    bit-identical for any number of seeds on it), or as one batch (vmap: best on a GPU or TPU). auto decides by
    device."""


class RunState(NamedTuple):
    """Everything that a seed's run consists of; a checkpoint holds it whole.

    Attributes:
        method: the learner.
        replay: what it draws from, if it keeps a replay; else None.
        key: random key of what is still to come.
        iteration: iterations done.
        env_steps: environment steps taken.
    """

    method: Any
    replay: ReplayState | None
    key: jax.Array
    iteration: Int[Array, ""]
    env_steps: Int[Array, ""]


class ChunkMetrics(NamedTuple):
    """What one chunk measured, for each row of the run state.

    Attributes:
        training: by name, [R, iterations].
        evaluated: [R], whether there was an evaluation, since the chunk completed an interval.
        evaluation: by name, [R, episodes]; zeros if there was none.
        iteration: [R], iterations done so far.
        env_steps: [R], environment steps taken so far.
    """

    training: Metrics
    evaluated: Bool[Array, " R"]
    evaluation: Metrics
    iteration: Int[Array, " R"]
    env_steps: Int[Array, " R"]


def _zeros_like(shapes: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains S seeds of one method on one task, or of each of C choices of numbers among the method's options.

    Seed number k of a run with first seed s uses the random key `s + k` and nothing of its neighbours.

    The run state has a row for each seed of the first choice, then of the second, and so on: C * S in all. Every device
    takes as many rows as the others. Where they cannot be divided so, rows that are never active follow.

    Attributes:
        env: the task.
        method: the learner.
        config: the loop's own settings.
        num_seeds: S.
        first_seed: s.
        choices: by option of the method, its value in each choice, [C]; without any there is one choice.
    """

    env: MultiAgentEnv[Any]
    method: Method
    config: TrainingConfig
    num_seeds: int
    first_seed: int = 0
    choices: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict, hash=False)

    def __repr__(self) -> str:
        method = type(self.method).__name__
        return f"Trainer({method} on {self.env}, {self.num_seeds} seeds from {self.first_seed}, {self.config})"

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """The devices that share the seeds."""
        return seed_mesh(self.num_used)

    @property
    def num_used(self) -> int:
        """C * S, rows that are trained."""
        return self.num_seeds * max((len(values) for values in self.choices.values()), default=1)

    @property
    def num_rows(self) -> int:
        """R, rows of the run state: C * S, rounded up to the devices."""
        return self.mesh.size * -(-self.num_used // self.mesh.size)

    @property
    def _used(self) -> NDArray[np.int64]:
        """[R], the row itself; beyond C * S the last one again."""
        return np.minimum(np.arange(self.num_rows), self.num_used - 1)

    @property
    def row_seeds(self) -> NDArray[np.int64]:
        """[R], whose seed's random key a row begins with; beyond C * S the last seed's again."""
        return self.first_seed + self._used % self.num_seeds

    @property
    def row_options(self) -> dict[str, jax.Array]:
        """By option of which there are choices, each row's value, [R]."""
        choice = self._used // self.num_seeds
        return {
            name: self.spread(np.array(values, np.float32)[choice])
            for name, values in self.choices.items()
        }

    def with_options(self, own: Mapping[str, Any]) -> "Trainer":
        """The training of a seed whose method has options of its own, which may be traced."""
        if not own:
            return self
        method: Any = self.method
        config = dataclasses.replace(method.config, **own)
        return dataclasses.replace(self, method=dataclasses.replace(method, config=config))

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one iteration, if no episode ends before the time limit."""
        return self.method.num_episodes * self.env.time_limit

    @property
    def iterations_per_chunk(self) -> int:
        """Iterations between two evaluations, if no episode ends before the time limit."""
        return max(1, round(self.config.eval_interval / self.steps_per_iteration))

    @property
    def eval_interval(self) -> int:
        """Environment steps between two evaluations: the option, rounded to whole iterations."""
        return self.iterations_per_chunk * self.steps_per_iteration

    @property
    def total_steps(self) -> int:
        """Environment steps of each seed: the option, rounded up to whole evaluation intervals."""
        return self.eval_interval * math.ceil(self.config.total_steps / self.eval_interval)

    def init(self) -> RunState:
        """The run state of untrained seeds, [R, ...]; rows that are not trained are like the last one that is."""

        def init(row: tuple[jax.Array, dict[str, jax.Array]]) -> RunState:
            seed, own = row
            return self.with_options(own)._init_seed(seed)

        # `map`, not `vmap`: a seed's first parameters must not depend on how many others are drawn.
        draw = self._over_devices(lambda *rows: jax.lax.map(init, rows))
        seeds = self.spread(self.row_seeds.astype(np.uint32))
        state: RunState = jax.jit(draw)(seeds, self.row_options)
        return state

    def _init_seed(self, seed: jax.Array) -> RunState:
        """The run state of one untrained seed."""
        key, method_key = jax.random.split(jax.random.key(seed))
        zero = jnp.zeros((), jnp.int32)
        method = self.method.init(method_key)
        replay = None
        if self.method.replay is not None:
            example = jax.eval_shape(self._play, method, key)
            replay = self.method.replay.init(example)
        return RunState(method, replay, key, zero, zero)

    @functools.cached_property
    def choice(self) -> Any:
        """Maps the run state and the number of a choice to that one's own, [S, ...], of which every device has all."""

        def choice(state: RunState, index: int) -> RunState:
            first = index * self.num_seeds
            return jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, first, self.num_seeds), state
            )

        return jax.jit(choice, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    def joined(self, choices: Sequence[RunState]) -> RunState:
        """The run state of those of all choices, [S, ...] each, or [S + rows without a seed, ...]."""
        if len(choices) == 1:
            return choices[0]
        padding = np.full(self.num_rows - self.num_used, -1)

        def join(*own: jax.Array) -> jax.Array:
            rows = [x[: self.num_seeds] for x in own]
            return jnp.concatenate([*rows, rows[-1][padding]])

        # Those of a choice may be on some of the devices.
        given = jax.device_put(list(choices), self.mesh.devices.flat[0])
        rows = jax.jit(lambda states: jax.tree.map(join, *states))(given)
        joined: RunState = jax.device_put(rows, seed_sharding(self.mesh))
        return joined

    def abstract_state(self) -> RunState:
        """Shapes, types and placement of the run state, without computing it."""
        sharding = seed_sharding(self.mesh)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            jax.eval_shape(self.init),
        )

    def _play(self, method_state: Any, key: jax.Array) -> EpisodeBatch:
        """One iteration's episodes."""
        given = (self.env, self.method, method_state, key, self.method.num_episodes)
        if self.method.num_episodes > self.method.num_envs:
            return rollout_in_turn(*given, explore=True)
        return rollout(*given, explore=True)[0]

    def train_seed(
        self, state: RunState, active: Bool[Array, ""] | bool = True
    ) -> tuple[RunState, ChunkMetrics]:
        """One chunk of one seed: some iterations, then an evaluation if it is due.

        If it is not `active` its state stays as it is, and what is measured has no meaning.
        """

        def iteration(state: RunState, _: Any) -> tuple[RunState, Metrics]:
            key, rollout_key, update_key = jax.random.split(state.key, 3)
            # The scopes show in profiles (`benchmarks/time_spent.py`).
            with jax.named_scope("play"):
                batch, replay = self._play(state.method, rollout_key), state.replay
            if self.method.replay is not None and replay is not None:
                with jax.named_scope("replay"):
                    replay = self.method.replay.add(replay, batch, active)
            method, metrics = self.method.update(state.method, batch, replay, update_key)
            env_steps = state.env_steps + jnp.sum(batch.valid, dtype=jnp.int32)
            metrics = {"train_return": batch.team_return.mean(), **metrics}
            return RunState(method, replay, key, state.iteration + 1, env_steps), metrics

        before = state._replace(replay=None)
        state, training = jax.lax.scan(iteration, state, length=self.iterations_per_chunk)
        if active is not True:
            learned = jax.tree.map(
                lambda new, old: jnp.where(active, new, old), state._replace(replay=None), before
            )
            # Not the replay: to choose between two would take the memory of two.
            state = learned._replace(replay=state.replay)
        interval = self.eval_interval
        due = state.env_steps // interval > before.env_steps // interval
        with jax.named_scope("evaluate"):
            evaluation = self._evaluate_if(due, state)
        return state, ChunkMetrics(training, due, evaluation, state.iteration, state.env_steps)

    def _train_seed_or_skip(
        self, state: RunState, active: Bool[Array, ""]
    ) -> tuple[RunState, ChunkMetrics]:
        """The same, without the work if it is not active: for seeds that run one after the other."""
        train = jax.jit(self.train_seed)

        def skip(state: RunState) -> tuple[RunState, ChunkMetrics]:
            nothing = _zeros_like(jax.eval_shape(train, state)[1])
            return state, nothing._replace(iteration=state.iteration, env_steps=state.env_steps)

        return jax.lax.cond(active, train, skip, state)

    def _evaluate_if(self, due: Bool[Array, ""], state: RunState) -> Metrics:
        """The fixed evaluation, or zeros; under `vmap` for all or for none."""
        if not self.env.ends_early:
            # Every chunk is an interval.
            return self.evaluate_seed(state)
        # Without the replay, of which a branch might make a copy.
        state = state._replace(replay=None)
        nothing = _zeros_like(jax.eval_shape(self.evaluate_seed, state))
        anyone = of_all(due.astype(jnp.int32)) > 0
        return jax.lax.cond(anyone, self.evaluate_seed, lambda _: nothing, state)

    def evaluate_seed(self, state: RunState) -> Metrics:
        """The fixed evaluation of one seed: by name, [episodes]."""
        key = jax.random.key(EVALUATION_KEY)
        return evaluate(self.env, self.method, state.method, key, self.config.eval_episodes)

    @property
    def _one_by_one(self) -> bool:
        """Whether the seeds on a device run one after the other."""
        if self.config.seed_batching == "auto":
            return self.mesh.devices.flat[0].platform == "cpu"
        return self.config.seed_batching == "map"

    @property
    def seeds_at_once(self) -> int:
        """How many seeds run at the same time, on all devices together."""
        return self.mesh.size if self._one_by_one else self.num_used

    def over_seeds(self, function: Any) -> Any:
        """Runs a function of one seed on all seeds, spread over the devices; its arguments have a leading axis R."""

        def one_by_one(*arguments: Any) -> Any:
            return jax.lax.map(lambda x: function(*x), arguments)

        return self._over_devices(one_by_one if self._one_by_one else jax.vmap(function))

    def compiled(self, function: Any, **options: Any) -> Any:
        """`jax.jit` of a function of all seeds, with our compiler options."""
        return jax.jit(function, compiler_options=compiler_options(self.mesh), **options)

    def _over_devices(self, function: Any) -> Any:
        """Runs a function of a device's seeds on every device."""
        spec = PartitionSpec(SEED_AXIS)
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=spec, out_specs=spec, check_vma=False
        )

    def _train_one_by_one(
        self, state: RunState, active: Bool[Array, " L"], options: dict[str, Float[Array, " L"]]
    ) -> tuple[RunState, ChunkMetrics]:
        """One chunk of each of a device's seeds, in its place in the state: a map would hold all replays twice."""

        def train(state: RunState, now: Any) -> tuple[RunState, ChunkMetrics]:
            index, active, own = now
            seed = jax.tree.map(
                lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), state
            )
            seed, metrics = self.with_options(own)._train_seed_or_skip(seed, active)
            state = jax.tree.map(
                lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, index, 0), state, seed
            )
            return state, metrics

        return jax.lax.scan(train, state, (jnp.arange(active.shape[0]), active, options))

    def _train_as_batch(
        self, state: RunState, active: Bool[Array, " L"], options: dict[str, Float[Array, " L"]]
    ) -> tuple[RunState, ChunkMetrics]:
        """One chunk of all of a device's seeds at the same time."""

        def train(
            state: RunState, active: Bool[Array, ""], own: dict[str, Float[Array, ""]]
        ) -> tuple[RunState, ChunkMetrics]:
            return self.with_options(own).train_seed(state, active)

        trained: tuple[RunState, ChunkMetrics] = jax.vmap(train)(state, active, options)
        return trained

    @functools.cached_property
    def train_chunk(self) -> Any:
        """Maps the run state of all seeds, [R] which are active and, if there are choices, `row_options` to the next
        run state and `ChunkMetrics`.

        Who is not active stays as it is, bit for bit, and its measurements have no meaning. Donates the run state.
        """
        rows = self._train_one_by_one if self._one_by_one else self._train_as_batch

        def train(state: RunState, active: Any, options: Any = None) -> Any:
            return rows(state, active, options or {})

        return self.compiled(self._over_devices(train), donate_argnums=0)

    def spread(self, x: Any) -> jax.Array:
        """An array [R, ...] on the devices that share the seeds."""
        return placed(np.asarray(x), seed_sharding(self.mesh))

    @property
    def everyone(self) -> Bool[Array, " R"]:
        """All seeds active, for `train_chunk`."""
        return self.spread(np.arange(self.num_rows) < self.num_used)

    @functools.cached_property
    def evaluate(self) -> Any:
        """Maps the run state of all seeds to the evaluation's results: by name, [R, episodes]."""
        return self.compiled(self.over_seeds(self.evaluate_seed))
