"""The machine: its devices and processes, how seeds are spread over them, and the cache of compiled programs."""

import contextlib
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from numpy.typing import NDArray

T = TypeVar("T")

SEED_AXIS = "seed"


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the same configuration starts at once the second time.

    They go to JAX's own setting if there is one (environment variable JAX_COMPILATION_CACHE_DIR), else to
    `marl_jax` in the user's cache folder; nowhere if that cannot be written.
    """
    if getattr(jax.config, "jax_compilation_cache_dir") is not None:
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marl_jax"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(cache, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def compiler_options(mesh: Mesh) -> dict[str, Any]:
    """What XLA is told about the large programs of a run.

    On a CPU, LLVM's first level of optimisation in the place of its third: a program compiles in two thirds of the
    time, and runs as fast. A level that a user has set stays, by `XLA_FLAGS` or `jax_disable_most_optimizations`.
    """
    level = "xla_backend_optimization_level"
    chosen = level in os.environ.get("XLA_FLAGS", "")
    chosen |= bool(jax.config.values.get("jax_disable_most_optimizations"))
    return {level: 1} if mesh.devices.flat[0].platform == "cpu" and not chosen else {}


def seed_mesh(num_seeds: int) -> Mesh:
    """A one-axis mesh over the devices that share the seeds: all there are; in a run of one process at most one a
    seed."""
    devices = jax.devices()
    if not several_processes():
        devices = devices[:num_seeds]
    return jax.make_mesh(
        (len(devices),),
        (SEED_AXIS,),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=devices,
    )


def seed_sharding(mesh: Mesh) -> NamedSharding:
    """Splits the leading axis of an array over the mesh."""
    return NamedSharding(mesh, PartitionSpec(SEED_AXIS))


def several_processes() -> bool:
    """Whether this process trains together with others, by `jax.distributed`."""
    return jax.process_count() > 1


def writes() -> bool:
    """Whether this process is the one that writes, draws and reports."""
    return jax.process_index() == 0


def from_writer(function: Callable[[], T]) -> T:
    """What a function gives in the process that writes, or raises there, in all processes.

    All must call it; the others do not call the function.
    """
    if not several_processes():
        return function()
    outcome: tuple[T | None, Exception | None] = (None, None)
    if writes():
        try:
            outcome = (function(), None)
        except Exception as error:
            outcome = (None, error)
    told = np.frombuffer(pickle.dumps(outcome), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(told))))
    told = multihost_utils.broadcast_one_to_all(np.resize(told, length))
    value, raised = pickle.loads(np.asarray(told, np.uint8).tobytes())
    if raised is not None:
        raise raised
    return value


def lost_process(error: Exception) -> bool:
    """Whether an error says that something could not be exchanged with the other processes."""
    # XLA's errors begin with a status, such as "UNKNOWN: Gloo AllGather failed".
    lost = "UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION"
    return several_processes() and re.match(f"({lost}): ", str(error)) is not None


def meet() -> None:
    """Waits until all processes are here."""
    if several_processes():
        multihost_utils.sync_global_devices("marl_jax")


def anywhere(flag: bool) -> bool:
    """Whether a flag is set in any process; all must call it."""
    if not several_processes():
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def on_host(tree: Any) -> Any:
    """A tree of arrays as NumPy's, those spread over several processes whole; all must call it."""
    if several_processes():
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.asarray, tree)


def placed(x: NDArray[Any], sharding: Sharding) -> jax.Array:
    """An array that all processes have, on the devices: each puts its own part there."""
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def own_rows(sharding: Sharding, num: int) -> NDArray[np.int64]:
    """Which of `num` rows of an array's leading axis are on this process's devices, rising."""
    indices = sharding.addressable_devices_indices_map((num,)).values()
    return np.unique(np.concatenate([np.arange(num)[index] for index in indices]))


def own_part(x: jax.Array) -> NDArray[Any]:
    """The rows of an array that are on this process's devices, as `own_rows` names them."""
    shards = {shard.index[0].indices(len(x))[0]: shard.data for shard in x.addressable_shards}
    return np.concatenate([np.asarray(shards[first]) for first in sorted(shards)])


def memory_size(mesh: Mesh) -> int | None:
    """Bytes that the mesh's devices have in all, for CPUs what its processes may use; None if it is not known.

    Processes are taken to be alike.
    """
    device = mesh.local_devices[0]
    if device.platform == "cpu":
        main = _main_memory()
        return None if main is None else main * jax.process_count()
    statistics = device.memory_stats() or {}
    limit = statistics.get("bytes_limit")
    return None if limit is None else limit * mesh.size


def _main_memory() -> int | None:
    """The machine's memory, or less if the process is in a container with a limit (cgroups)."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        # Where there is none it is "max", or a number beyond the machine's.
        with contextlib.suppress(ValueError, OSError):
            found.append(int((Path("/sys/fs/cgroup") / limit).read_text()))
    return min((size for size in found if size > 0), default=None)
