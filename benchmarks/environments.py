"""Environment steps a second with random actions.

    python benchmarks/environments.py --num-envs 1024

Each timed run is one compiled program: in every environment whole episodes, each from its own
reset, actions drawn inside. After every step the whole time step is part of the loop's carry, so
nothing of it can be optimised away. The programs take turns, run by run, so that all of them meet
the same machine; medians are printed.

If the package `jaxmarl` is installed, two kinds of references go through the same loop: its
MPE_simple_spread_v3 as its users step it (`step`, which resets itself), and, for each world that
comes through the bridge, JaxMARL called directly with the same stepping as the bridge (`step_env`;
in SMAX also `get_avail_actions`, without which nobody can act). On a CPU the environments are spread
over one JAX device a core (`--devices`).
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
        steps: steps of each environment in one timed run, rounded up to whole episodes; a quarter as
            many in those of JaxMARL, some of which are a hundred times as slow.
        runs: timed runs, of which the median counts.
        devices: JAX devices that share the environments on a CPU; 0 takes one a core.
        envs: worlds of our own to measure; all of them if none is named.
        bridged: worlds of JaxMARL, through the bridge and directly.
    """

    num_envs: int = 1024
    steps: int = 200
    runs: int = 7
    devices: int = 0
    envs: tuple[str, ...] = ()
    bridged: tuple[str, ...] = ("mpe/simple_spread", "smax/3m")


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
        needs_keys: whether `step` wants a key.
        reference: the task that its speed is divided by.
    """

    name: str
    episode_length: int
    reset: Callable[[jax.Array], Any]
    step: Callable[[Any, jax.Array | None, jax.Array], Any]
    num_agents: int
    num_actions: int
    note: str = ""
    needs_keys: bool = False
    reference: str = REFERENCE


# Why a world is near or below four times the reference.
NOTES = {
    "battle": "the script of the 12 enemies takes nearly half of a step",
    "firefighters": "four maps of 25 cells for each of four agents, made anew at every step",
    "football": "10 actions drawn for 3; to order 19 others by distance for each agent takes half of a step",
    "pac_men": "three maps of 25 cells for each of four agents, made anew at every step",
}


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
        NOTES.get(name, ""),
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
    return Task(
        REFERENCE, env.max_steps, reset, step, env.num_agents, num_actions, note, needs_keys=True
    )


def bridged_tasks(name: str) -> tuple[Task, Task]:
    """A world of JaxMARL, called directly and through the bridge."""
    bridged = own_task(name)
    import envs

    env: Any = envs.make(name)
    source = env.source
    sizes = [source.action_space(agent).n for agent in source.agents]

    def with_masks(state: Any) -> Any:
        return source.get_avail_actions(state) if name.startswith("smax") else None

    def step(carry: Any, key: jax.Array | None, action: jax.Array) -> Any:
        # An action that an agent lacks is not to be given to JaxMARL; the bridge gets the same.
        actions = {agent: action[i] for i, agent in enumerate(source.agents)}
        out = source.step_env(key, carry[1], actions)
        return *out, with_masks(out[1])

    def reset(key: jax.Array) -> Any:
        observation, state = source.reset(key)
        actions = dict.fromkeys(source.agents, jnp.zeros((), jnp.int32))
        shapes = jax.eval_shape(source.step_env, key, state, actions)
        rest = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[2:])
        return observation, state, *rest, with_masks(state)

    label = f"{name} directly"
    direct = Task(
        label, env.time_limit, reset, step, len(sizes), min(sizes), "JaxMARL's step_env", True, ""
    )
    bridged = dataclasses.replace(
        bridged, num_actions=min(sizes), note="through the bridge", reference=label
    )
    return direct, bridged


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

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        action_key, step_key = jax.random.split(key)
        shape = (local, task.num_agents)
        action = jax.random.randint(action_key, shape, 0, task.num_actions, jnp.int32)
        keys = jax.random.split(step_key, local) if task.needs_keys else None
        axes = (0, 0 if task.needs_keys else None, 0)
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


def measure(tasks: list[Task], arguments: Arguments) -> dict[str, tuple[float, float]]:
    """Times the tasks, taking turns.

    Returns:
        For each task's name the time to compile in seconds, and the environment steps a second, all
        environments together.
    """
    count = jax.device_count()
    keys = [jax.random.split(jax.random.PRNGKey(i), count) for i in range(arguments.runs)]
    programs, compile_seconds, steps = {}, {}, {}
    for task in tasks:
        wanted = arguments.steps if task.reference == REFERENCE else arguments.steps // 4
        episodes = max(1, -(-wanted // task.episode_length))
        start = time.perf_counter()
        run = make_run(task, arguments.num_envs, episodes)
        programs[task.name] = run.lower(keys[0]).compile()  # type: ignore[attr-defined]
        compile_seconds[task.name] = time.perf_counter() - start
        steps[task.name] = arguments.num_envs * episodes * task.episode_length
        jax.block_until_ready(programs[task.name](keys[0]))
        print(f"compiled {task.name}", file=sys.stderr, flush=True)
    seconds: dict[str, list[float]] = {task.name: [] for task in tasks}
    for number, key in enumerate(keys):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(key))
            seconds[name].append(time.perf_counter() - start)
        print(f"run {number + 1} of {len(keys)}", file=sys.stderr, flush=True)
    return {
        name: (compile_seconds[name], steps[name] / statistics.median(times))
        for name, times in seconds.items()
    }


def main(arguments: Arguments) -> None:
    """Measures and prints the table."""
    devices = arguments.devices or os.cpu_count() or 1
    # Must come before the backend starts.
    jax.config.update("jax_num_cpu_devices", devices)
    import envs

    tasks = [own_task(name) for name in arguments.envs or envs.own_names()]
    count = jax.device_count()
    if arguments.num_envs % count:
        sys.exit(f"--num-envs is {arguments.num_envs}; it must be a multiple of {count} (devices).")
    print(
        f"{jax.devices()[0].device_kind} x {count}, jax {jax.__version__}; "
        f"{arguments.num_envs} environments, {arguments.steps} steps or more a run, "
        f"median of {arguments.runs} runs"
    )
    if importlib.util.find_spec("jaxmarl") is not None:
        tasks.insert(0, reference_task())
        tasks += [task for name in arguments.bridged for task in bridged_tasks(name)]
    else:
        print("jaxmarl is not installed: there is nothing to compare with")

    speeds = measure(tasks, arguments)
    print(f"{'environment':<28}{'compile s':>11}{'env steps/s':>14}{'ratio':>8}")
    for task in tasks:
        compile_seconds, speed = speeds[task.name]
        ratio = f"{speed / speeds[task.reference][1]:.2f}" if task.reference in speeds else "-"
        print(f"{task.name:<28}{compile_seconds:>11.2f}{speed:>14,.0f}{ratio:>8}  {task.note}")
    # The most that this process has used, over all programs.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
