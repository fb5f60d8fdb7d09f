"""One side of `compare.py` or `gradient_steps.py`: measures a world, a method or its update for each line it reads.

    PYTHONPATH=CHECKOUT python benchmarks/one_side.py world turn '{"num_envs": 1024, "steps": 200}'

What is measured is the checkout's code. The measuring is what lies beside this file, so that both sides are measured
alike. Prints one line of JSON when it is ready, and one for each measurement.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import envs
from marl_jax import methods
from marl_jax.rollout import rollout
from marl_jax.settings import make_settings
from marl_jax.training import Trainer

STEPS = 20
"""Gradient steps or updates of a timed run."""


def world(name: str, num_envs: int, steps: int) -> Callable[[], dict[str, Any]]:
    """Steps whole episodes with random actions.

    Args:
        name: of the world.
        num_envs: environments side by side, rounded down to a multiple of the devices.
        steps: of each environment in one measurement, rounded up to whole episodes.

    Returns:
        What measures: `speed` in environment steps a second, all environments together.
    """
    # Here, since tests know it by another name.
    import environments

    task, devices = environments.own_task(name), jax.device_count()
    episodes, local = -(-steps // task.episode_length), max(1, num_envs // devices)
    run = environments.make_run(task, local * devices, episodes)
    keys = jax.random.split(jax.random.PRNGKey(0), devices)
    jax.block_until_ready(run(keys))

    def measure() -> dict[str, Any]:
        began = time.perf_counter()
        jax.block_until_ready(run(keys))
        played = local * devices * episodes * task.episode_length
        return {"speed": played / (time.perf_counter() - began)}

    return measure


def method(name: str, env: str, seeds: int, steps: int) -> Callable[[], dict[str, Any]]:
    """Trains chunk after chunk, from the first on; each ends with an evaluation.

    Args:
        name: of the method or pair.
        env: task.
        seeds: S, trained at once.
        steps: environment steps of each seed in a chunk, rounded to whole iterations.

    Returns:
        What measures: `speed` in environment steps a second, all seeds together, and `returns` [S], the mean greedy
        return of each in its last evaluation; NaN before the first.
    """
    settings = make_settings(name, env, seeds, 0, {"training": {"eval_interval": steps}})
    # By what every commit has, not by its shortest way.
    task = envs.make(env, **dataclasses.asdict(settings.env_options))
    learner = methods.make(name, task, **dataclasses.asdict(settings.method_options))
    trainer = Trainer(task, learner, settings.training, seeds)
    state = trainer.init()
    train_chunk = trainer.train_chunk.lower(state, trainer.everyone).compile()
    state, _ = train_chunk(state, trainer.everyone)
    returns = np.full(seeds, np.nan)

    def measure() -> dict[str, Any]:
        nonlocal state, returns
        before = int(state.env_steps.sum())
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(train_chunk(state, trainer.everyone))
        speed = (int(metrics.env_steps.sum()) - before) / (time.perf_counter() - began)
        latest = np.asarray(metrics.evaluation["eval_return"], float)[:seeds].mean(axis=1)
        returns = np.where(np.asarray(metrics.evaluated)[:seeds], latest, returns)
        return {"speed": speed, "returns": returns.tolist()}

    return measure


def update(name: str, env: str, batch_size: int) -> Callable[[], dict[str, Any]]:
    """Takes gradient steps of a value method, or updates of another one, all on one batch of exploring episodes.

    Args:
        name: of the method or pair.
        env: task.
        batch_size: episodes of a value method's gradient step.

    Returns:
        What measures: `speed` in steps or updates a second, and `compile`, the seconds that compiling took.
    """
    task = envs.make(env)
    learner: Any = methods.make(name, task)
    # By what every commit has.
    of_values = hasattr(learner, "gradient_step")
    if of_values:
        learner = methods.make(name, task, batch_size=batch_size)
    num = batch_size if of_values else learner.num_episodes
    key = jax.random.key(0)
    state = jax.jit(learner.init)(key)
    batch, _ = jax.jit(lambda state: rollout(task, learner, state, key, num, explore=True))(state)
    replay = None
    if not of_values and learner.replay is not None:
        replay = jax.jit(lambda b: learner.replay.add(learner.replay.init(b), b))(batch)

    def steps(state: Any, batch: Any, replay: Any) -> Any:
        def step(state: Any, key: jax.Array) -> tuple[Any, None]:
            if of_values:
                return learner.gradient_step(state, batch, key)[0], None
            return learner.update(state, batch, replay, key)[0], None

        return jax.lax.scan(step, state, jax.random.split(key, STEPS))[0]

    began = time.perf_counter()
    program = jax.jit(steps).lower(state, batch, replay).compile()
    seconds = time.perf_counter() - began
    jax.block_until_ready(program(state, batch, replay))

    def measure() -> dict[str, Any]:
        began = time.perf_counter()
        jax.block_until_ready(program(state, batch, replay))
        return {"speed": STEPS / (time.perf_counter() - began), "compile": seconds}

    return measure


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    kind, name, options = sys.argv[1:]
    kinds = {"world": world, "method": method, "update": update}
    measure = kinds[kind](name, **json.loads(options))
    say({"ready": name})
    for _ in sys.stdin:
        say(measure())


if __name__ == "__main__":
    main()
