"""The machine: its devices, how seeds are spread over them, and the cache of compiled programs."""

import contextlib
import os
from pathlib import Path

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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


def seed_mesh(num_seeds: int) -> Mesh:
    """A one-axis mesh over as many devices as divide `num_seeds` evenly."""
    devices = jax.devices()
    count = max(d for d in range(1, len(devices) + 1) if num_seeds % d == 0)
    return jax.make_mesh(
        (count,),
        (SEED_AXIS,),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=devices[:count],
    )


def seed_sharding(mesh: Mesh) -> NamedSharding:
    """Splits the leading axis of an array over the mesh."""
    return NamedSharding(mesh, PartitionSpec(SEED_AXIS))


def memory_size(mesh: Mesh) -> int | None:
    """Bytes that the mesh's devices have in all, for CPUs what this process may use; None if it is not known."""
    devices = list(mesh.devices.flat)
    if devices[0].platform == "cpu":
        return _main_memory()
    statistics = devices[0].memory_stats() or {}
    limit = statistics.get("bytes_limit")
    return None if limit is None else limit * len(devices)


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
