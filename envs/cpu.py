"""Settings of JAX's CPU backend, which has to find them when it starts; and processes in which it does not work."""

import os

import jax

from envs.configuration import ConfigurationError

_forked = False


def prepare_cpu_backend() -> None:
    """Makes the CPU backend safe and puts all cores to use; importing `envs` or `marl_jax` calls it.

    - jaxlib 0.10 dead-locks on machines with few cores: a compiled scan stops and never returns. A thread pool
      larger than the number of cores avoids it (`PJRT_NPROC`).
    - Every core becomes a device of its own, so that seeds run side by side (`JAX_NUM_CPU_DEVICES`).

    A process that is forked from this one later is marked, see `refuse_forked_process`.

    A user's own values win. Nothing happens if the backend has started already, which importing jumanji does.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_mark)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        cores = os.cpu_count() or 1
    os.environ.setdefault("PJRT_NPROC", str(max(8, 2 * cores)))
    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if getattr(jax.config, "jax_num_cpu_devices") < 1 and not forced:
        try:
            jax.config.update("jax_num_cpu_devices", cores)
        except RuntimeError:
            return


def _mark() -> None:
    global _forked
    _forked = True


def refuse_forked_process() -> None:
    """Refuses to compute in a process that was forked from one in which JAX had started: there it would hang.

    Raises:
        ConfigurationError: in such a process.
    """
    if _forked:
        raise ConfigurationError(
            "this process was forked from one in which JAX had started, and would hang; workers must be started by "
            "multiprocessing.get_context('spawn')."
        )
