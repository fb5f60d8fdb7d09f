"""Checkpoints of whole run states, by orbax, with a digest so that damage is always noticed."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from envs.configuration import ConfigurationError

DIGEST = "digest.json"
KEPT = 2


class Checkpoints:
    """The checkpoints of one run, in a folder of their own; the last two are kept.

    A checkpoint is a folder named by its step. It counts once its digest is written, which happens last, so that a
    run that is killed while saving falls back to the one before.
    """

    def __init__(self, directory: Path) -> None:
        """Uses `directory`, which need not exist yet."""
        self.directory = directory.absolute()

    def steps(self) -> list[int]:
        """Steps of all complete checkpoints, oldest first."""
        found = self.directory.glob(f"*/{DIGEST}")
        return sorted(int(file.parent.name) for file in found if file.parent.name.isdigit())

    def save(self, step: int, state: Any) -> None:
        """Writes the whole state and forgets old ones."""
        import orbax.checkpoint as ocp

        folder = self.directory / str(step)
        shutil.rmtree(folder, ignore_errors=True)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "state", _without_keys(state))
            checkpointer.wait_until_finished()
        temporary = folder / f"{DIGEST}.tmp"
        temporary.write_text(json.dumps(_digests(folder)))
        temporary.replace(folder / DIGEST)
        for old in self.steps()[:-KEPT]:
            shutil.rmtree(self.directory / str(old), ignore_errors=True)

    def restore(self, step: int, like: Any) -> Any:
        """Reads the state saved at `step`.

        Args:
            step: one of `steps()`.
            like: shapes, types and placement of the state, as `Trainer.abstract_state` gives them.

        Raises:
            ConfigurationError: if the checkpoint is damaged or belongs to another configuration.
        """
        import orbax.checkpoint as ocp

        folder = self.directory / str(step)
        try:
            intact = json.loads((folder / DIGEST).read_text()) == _digests(folder)
        except (OSError, ValueError):
            intact = False
        if not intact:
            raise ConfigurationError(
                f"the checkpoint {folder} is damaged; delete that folder to resume from the one before it."
            )
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                raw = checkpointer.restore(folder / "state", _without_keys(like))
        except (ValueError, KeyError) as error:
            raise ConfigurationError(
                f"the checkpoint {folder} does not fit this version of the program or this configuration."
            ) from error
        return jax.tree.map(
            lambda x, template: jax.random.wrap_key_data(x) if _is_key(template) else x, raw, like
        )


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _without_keys(state: Any) -> Any:
    """The same tree with random keys as plain integers, which orbax knows."""

    def plain(x: Any) -> Any:
        if not _is_key(x):
            return x
        if isinstance(x, jax.ShapeDtypeStruct):
            data = jax.eval_shape(jax.random.key_data, x)
            return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=x.sharding)
        return jax.random.key_data(x)

    return jax.tree.map(plain, state)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder`, by path."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((folder / "state").rglob("*"))
        if file.is_file()
    }
