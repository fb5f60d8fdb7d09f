"""Environment steps a second with random actions.

    python benchmarks/environments.py --num-envs 1024 --episodes 10

Each timed run is one compiled program: in every environment whole episodes, each from its own
reset, actions drawn inside. After every step the whole time step is part of the loop's carry, so
nothing of it can be optimised away. JaxMARL's MPE_simple_spread_v3 goes through the same loop in
the same process, if the package `jaxmarl` is installed. On a CPU the environments are spread over
one JAX device a core (`--devices`).
"""

import dataclasses
import importlib.util
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import tyro

REFERENCE = "MPE_simple_spread_v3"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to measure.

    Attributes:
        num_envs: environments stepped side by side, over all devices.
        episodes: episodes of each environment in one timed run.
        runs: timed runs, of which the median counts.
        devices: JAX devices that share the environments on a CPU; 0 takes one a core.
        envs: worlds to measure.
    """

    num_envs: int = 1024
    episodes: int = 10
    runs: int = 7
    devices: int = 0
    envs: tuple[str, ...] = ("turn", "pursuit_1d")


@dataclasses.dataclass(frozen=True)
class Task:
    """One line of the table.

    Attributes:
        name: of the environment.
        episode_length: steps in an episode.
        reset: key -> carry, of one environment.
        step: (carry, key, action) -> carry, of one environment.
        num_agents: actions drawn for each step.
        num_actions: actions to choose from.
        note: printed behind the line.
    """

    name: str
    episode_length: int
    reset: Callable[[jax.Array], Any]
    step: Callable[[Any, jax.Array | None, jax.Array], Any]
    num_agents: int
    num_actions: int
    note: str = ""


def own_task(name: str) -> Task:
    """A world of this project."""
    import envs  # here, because it imports jumanji, which starts JAX's backend: see main

    env = envs.make(name)
    return Task(
        name,
        env.time_limit,
        env.reset,
        lambda carry, key, action: env.step(carry[0], action),
        env.num_agents,
        env.num_actions,
    )


def reference_task() -> Task:
    """JaxMARL's simple_spread. Its `step` wants a key, and resets an environment by itself."""
    import jaxmarl

    env: Any = jaxmarl.make(REFERENCE)

    def reset(key: jax.Array) -> Any:
        observation, state = env.reset(key)
        zeros = jax.tree.map(jnp.zeros_like, env.rewards(state))
        done = jnp.zeros((), bool)
        return observation, state, zeros, dict.fromkeys([*env.agents, "__all__"], done), {}

    def step(carry: Any, key: jax.Array | None, action: jax.Array) -> Any:
        actions = {agent: action[i] for i, agent in enumerate(env.agents)}
        return env.step(key, carry[1], actions)

    num_actions = env.action_space(env.agents[0]).n
    note = "reference; resets itself inside step"
    return Task(REFERENCE, env.max_steps, reset, step, env.num_agents, num_actions, note)


def make_run(task: Task, num_envs: int, episodes: int) -> Callable[[jax.Array], Any]:
    """The program that is timed.

    Args:
        task: what to step.
        num_envs: environments, over all devices.
        episodes: of each environment.

    Returns:
        A function of [devices] random keys, giving the last carry of every environment.
    """
    devices = jax.devices()
    local = num_envs // len(devices)
    needs_keys = task.name == REFERENCE

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        action_key, step_key = jax.random.split(key)
        shape = (local, task.num_agents)
        action = jax.random.randint(action_key, shape, 0, task.num_actions, jnp.int32)
        keys = jax.random.split(step_key, local) if needs_keys else None
        axes = (0, 0 if needs_keys else None, 0)
        return jax.vmap(task.step, axes)(carry, keys, action), None

    def episode(carry: Any, key: jax.Array) -> tuple[Any, None]:
        reset_key, key = jax.random.split(key)
        carry = jax.vmap(task.reset)(jax.random.split(reset_key, local))
        carry, _ = jax.lax.scan(step, carry, jax.random.split(key, task.episode_length))
        return carry, None

    def on_device(key: jax.Array) -> Any:
        carry = jax.eval_shape(jax.vmap(task.reset), jax.random.split(key[0], local))
        carry = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), carry)
        return jax.lax.scan(episode, carry, jax.random.split(key[0], episodes))[0]

    mesh = jax.make_mesh(
        (len(devices),), ("device",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices
    )
    spec = jax.sharding.PartitionSpec("device")
    return jax.jit(
        jax.shard_map(on_device, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    )


def measure(task: Task, arguments: Arguments) -> tuple[float, float]:
    """Times one task.

    Returns:
        The time to compile in seconds, and the environment steps a second, all environments
        together.
    """
    count = jax.device_count()
    keys = [jax.random.split(jax.random.PRNGKey(i), count) for i in range(arguments.runs)]
    start = time.perf_counter()
    run = make_run(task, arguments.num_envs, arguments.episodes)
    compiled = run.lower(keys[0]).compile()  # type: ignore[attr-defined]
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(keys[0]))
    seconds = []
    for key in keys:
        start = time.perf_counter()
        jax.block_until_ready(compiled(key))
        seconds.append(time.perf_counter() - start)
    steps = arguments.num_envs * arguments.episodes * task.episode_length
    return compile_seconds, steps / statistics.median(seconds)


def main(arguments: Arguments) -> None:
    """Measures and prints the table."""
    devices = arguments.devices or os.cpu_count() or 1
    # Must come before the backend starts.
    jax.config.update("jax_num_cpu_devices", devices)
    tasks = [own_task(name) for name in arguments.envs]
    count = jax.device_count()
    if arguments.num_envs % count:
        sys.exit(f"--num-envs is {arguments.num_envs}; it must be a multiple of {count} (devices).")
    print(
        f"{jax.devices()[0].device_kind} x {count}, jax {jax.__version__}; "
        f"{arguments.num_envs} environments, {arguments.episodes} episodes a run, "
        f"median of {arguments.runs} runs"
    )
    if importlib.util.find_spec("jaxmarl") is not None:
        tasks.insert(0, reference_task())
    else:
        print("jaxmarl is not installed: there is no reference to compare with")

    print(f"{'environment':<22}{'compile s':>11}{'env steps/s':>14}{'ratio':>8}{'peak MiB':>10}")
    base = None
    for task in tasks:
        compile_seconds, speed = measure(task, arguments)
        base = speed if task.name == REFERENCE else base
        ratio = f"{speed / base:.1f}" if base else "-"
        # The most that this process has used so far: it never falls from one line to the next.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{task.name:<22}{compile_seconds:>11.2f}{speed:>14,.0f}{ratio:>8}{peak:>10,.0f}  "
            f"{task.note}",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
