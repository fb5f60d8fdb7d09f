"""Where the time of a value method goes: playing, drawing, agents, mixer, optimiser.

`python benchmarks/gradient_step.py --method qmix --env turn`. The parts are compiled one by one, so that their sum is
not exactly the iteration of the training loop, which is timed in the same run as the reference.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.api import make_trainer
from marl_jax.methods.value_decomposition import ValueDecomposition
from marl_jax.settings import make_settings


@dataclasses.dataclass
class Arguments:
    method: str = "qmix"
    """Value method to time."""
    env: str = "turn"
    """Task to time it on."""
    preset: str | None = None
    """Set of options to start from."""
    repeats: int = 30
    """Calls timed after one to warm up; the median counts."""


def timed(repeats: int, function: Callable[..., Any], *arguments: Any) -> float:
    """Median seconds of a call, compiled and warmed up."""
    compiled = jax.jit(function).lower(*arguments).compile()
    seconds = []
    for i in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        if i > 0:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> int:
    """Times the parts and prints a table; returns the exit status."""
    args = command.parse(Arguments, "Where the time of a value method goes.")
    settings = make_settings(args.method, args.env, 1, 0, preset=args.preset)
    trainer = make_trainer(settings)
    method: Any = trainer.method
    if not isinstance(method, ValueDecomposition):
        raise ConfigurationError(f"--method is {args.method}; it must be a value method.")
    size, key = method.config.batch_size, jax.random.key(0)
    # Filled with fresh episodes, so that every batch is whole.
    state, replay = (
        method.init(key),
        method.replay.init(jax.eval_shape(trainer._play, method.init(key), key)),
    )
    for _ in range(-(-size // method.num_envs)):
        key, play_key = jax.random.split(key)
        replay = jax.jit(method.replay.add)(replay, jax.jit(trainer._play)(state, play_key))
    batch = method.replay.sample(replay, key, size)
    gradients = jax.eval_shape(
        jax.grad(lambda p: method._loss(p, state.target, batch, key)[0]), state.params
    )
    gradients = jax.tree.map(lambda x: jnp.full(x.shape, 1e-3, x.dtype), gradients)

    def online(params: Any) -> jax.Array:
        return jnp.sum(method._unroll(params, batch)[1])

    parts = {
        f"playing {method.num_envs} episodes": timed(args.repeats, trainer._play, state, key),
        f"drawing {size} episodes": timed(
            args.repeats, lambda replay, key: method.replay.sample(replay, key, size), replay, key
        ),
        "target agents, forwards": timed(args.repeats, online, state.target["agent"]),
        "online agents, forwards and backwards": timed(
            args.repeats, jax.grad(online), state.params["agent"]
        ),
    }
    whole = timed(
        args.repeats,
        lambda params: jax.grad(lambda p: method._loss(p, state.target, batch, key)[0])(params),
        state.params,
    )
    agents = parts["target agents, forwards"] + parts["online agents, forwards and backwards"]
    parts["the rest of the loss and its gradient: mixer, targets"] = whole - agents
    parts["optimiser"] = timed(
        args.repeats, method.optimizer.update, gradients, state.optimizer, state.params
    )

    iterations = trainer.iterations_per_chunk
    run = trainer.init()
    train_chunk = trainer.train_chunk.lower(run).compile()
    seconds = []
    for i in range(4):
        began = time.perf_counter()
        run, metrics = train_chunk(run)
        jax.block_until_ready(metrics)
        if i > 0:
            seconds.append((time.perf_counter() - began) / iterations)
    steps = round(method.num_envs * method.config.updates_per_episode)
    print(
        f"{args.method} on {args.env}: {method.num_envs} episodes and {steps} gradient steps an iteration, 1 seed"
    )
    for name, value in parts.items():
        print(f"  {1e3 * value:8.2f} ms  {name}")
    print(f"  {1e3 * statistics.median(seconds):8.2f} ms  an iteration of the training loop")
    return 0


if __name__ == "__main__":
    command.run(main)
