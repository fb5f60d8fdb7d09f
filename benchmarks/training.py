"""Speed and memory of training: compile time, environment steps per second, memory, time to the default budget.

The time to compile is in four columns: to trace and lower the program; to compile it; the processor's time of both,
which a busy machine hardly changes; and the compiled program's instructions.

`python benchmarks/training.py --method liir --env turn --seeds 16`. The reference in the same run is the same task
stepped with random actions, without learning.
"""

import dataclasses
import resource
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import envs
from experiments import command
from marl_jax.loading import make_trainer
from marl_jax.rollout import rollout
from marl_jax.settings import make_settings
from marl_jax.training import RunState, Trainer


@dataclasses.dataclass
class Arguments:
    method: str = "liir"
    """Method to time."""
    env: str = "turn"
    """Task to time it on."""
    preset: str | None = None
    """Set of options to start from."""
    seeds: int = 16
    """Seeds trained at once; one seed alone is timed too."""
    chunks: int = 5
    """Chunks timed after one to warm up; the median counts."""
    options: tuple[str, ...] = ()
    """What is to differ from the task's options: NAME=VALUE of the method, env.NAME=VALUE, training.NAME=VALUE."""


@dataclasses.dataclass(frozen=True)
class RandomActions:
    """The reference: uniformly random actions, nothing learned."""

    num_envs: int
    shape: tuple[int, int]

    def initial_memory(self, state: object, num_envs: int, key: jax.Array) -> tuple[()]:
        return ()

    def act(
        self,
        state: object,
        memory: tuple[()],
        observation: envs.Observation,
        key: jax.Array,
        explore: bool,
    ):
        n, a = self.shape
        action = jnp.floor(a * jax.random.uniform(key, (observation.action_mask.shape[0], n)))
        return (), action.astype(jnp.int32), ()


class Compiled(NamedTuple):
    """The program of a chunk, and what it took.

    Attributes:
        program: to call.
        lowering: seconds to trace and lower it.
        compiling: seconds to compile it.
        processor: seconds of processor time, both together.
        instructions: of the compiled program.
    """

    program: Any
    lowering: float
    compiling: float
    processor: float
    instructions: int


def compiled(trainer: Trainer) -> Compiled:
    """Compiles the program of a chunk, without what is kept on disk of an earlier time."""
    state = trainer.abstract_state()
    before, began = time.process_time(), time.perf_counter()
    lowered = trainer.train_chunk.lower(state, trainer.everyone)
    lowering = time.perf_counter() - began
    program = lowered.compile()
    compiling = time.perf_counter() - began - lowering
    processor = time.process_time() - before
    return Compiled(program, lowering, compiling, processor, program.as_text().count(" = "))


def timed(trainer: Trainer, train_chunk: Any, chunks: int) -> tuple[float, float]:
    """Median seconds of a chunk, and median environment steps a second, without padding."""
    state, seconds, rates, before = trainer.init(), [], [], 0
    for i in range(chunks + 1):
        began = time.perf_counter()
        state, metrics = train_chunk(state, trainer.everyone)
        played = int(metrics.env_steps.sum())
        if i > 0:
            seconds.append(time.perf_counter() - began)
            rates.append((played - before) / seconds[-1])
        before = played
    return statistics.median(seconds), statistics.median(rates)


def timed_reference(trainer: Trainer, chunks: int) -> float:
    """Median seconds of as many episodes as a chunk of `trainer` plays, with random actions."""
    env = trainer.env
    random = RandomActions(trainer.method.num_episodes, (env.num_agents, env.num_actions))

    def play(state: RunState) -> jax.Array:
        def iteration(key: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            key, rollout_key = jax.random.split(key)
            batch, _ = rollout(env, random, None, rollout_key, random.num_envs, explore=True)  # type: ignore[arg-type]
            used = batch.observation.sum() + batch.global_state.sum()
            return key, batch.team_return.mean() + 0.0 * used

        return jax.lax.scan(iteration, state.key, length=trainer.iterations_per_chunk)[1].mean()

    state = trainer.init()
    run = jax.jit(trainer.over_seeds(play)).lower(state).compile()
    seconds = []
    for i in range(chunks + 1):
        began = time.perf_counter()
        jax.block_until_ready(run(state))
        if i > 0:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> int:
    args = command.parse(Arguments, "Speed and memory of training.")
    options = command.option_sections(command.named_values("--options", args.options))
    print(f"{args.method} on {args.env}, {len(jax.devices())} x {jax.devices()[0].device_kind}")
    heads = (
        "seeds",
        "lower s",
        "compile s",
        "CPU s",
        "instructions",
        "env steps/s",
        "per seed",
        "budget min",
        "random steps/s",
        "peak MiB",
    )
    print("".join(f"{head:>16}" for head in heads))
    for seeds in dict.fromkeys((1, args.seeds)):
        settings = make_settings(args.method, args.env, seeds, 0, options, preset=args.preset)
        trainer = make_trainer(settings)
        made = compiled(trainer)
        chunk, rate = timed(trainer, made.program, args.chunks)
        reference = rate * chunk / timed_reference(trainer, args.chunks)
        to_compile = made.lowering + made.compiling
        budget = to_compile + seeds * settings.training.total_steps / rate
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cells = (
            f"{seeds}",
            f"{made.lowering:.1f}",
            f"{made.compiling:.1f}",
            f"{made.processor:.1f}",
            f"{made.instructions:,}",
            f"{rate:,.0f}",
            f"{rate / seeds:,.0f}",
            f"{budget / 60:.1f}",
            f"{reference:,.0f}",
            f"{peak:,.0f}",
        )
        print("".join(f"{cell:>16}" for cell in cells))
    print("budget: compilation and the task's default environment steps for every seed")
    return 0


if __name__ == "__main__":
    command.run(main)
