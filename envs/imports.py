"""Imports jumanji without its side effects on a notebook."""

import builtins
import warnings


def import_jumanji() -> None:
    """Imports jumanji, and leaves a user's matplotlib as it was; importing `envs` or `marl_jax` calls it.

    In a Jupyter kernel jumanji runs `%matplotlib ipympl` when it is imported, a backend that nothing installs, and
    in IPython's shell `%matplotlib`. It looks at `builtins.__IPYTHON__` to find out where it is. That name is hidden
    from it while it is imported. What one of its dependencies says about missing notebook widgets is not shown.

    Importing it starts JAX's backend, an accelerator's too: it makes arrays while it is imported (its `StepType`, the
    moves of its worlds), and offers no way around. So JAX's settings, `jax.distributed.initialize()` among them, must
    come before the first import of `envs` or `marl_jax`; environment variables always come in time.
    """
    names = vars(builtins)
    hidden = {name: names.pop(name) for name in ("__IPYTHON__",) if name in names}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")
            import jumanji  # noqa: F401
    finally:
        names.update(hidden)
