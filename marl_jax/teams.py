"""What teams have learned, in one file without pickle: `Policy.save`, `load_team`, `checkpoints/best.npz`.

A file is a NumPy archive. It holds what a learner's state holds, without optimisers and delayed copies: an array for
each leaf by its path, and what the team was made with as JSON.
"""

import importlib.resources
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from envs.configuration import ConfigurationError, unknown_name
from envs.files import user_path
from marl_jax.storage import replacing

RECORD = "record"
LEFT_OUT = ("optimizer", "target", "target_critic")
"""Fields of a learner's state that acting does not need. Of a part's own state only `params` is kept, if it has them:
its optimiser and its counts do not act."""
LEARNED = ("params", "parts", "value_norm")
"""Fields that a team that starts from another takes over; its optimisers, schedules and counts begin anew."""

Arrays = dict[str, NDArray[Any]]


def names() -> tuple[str, ...]:
    """Names of the teams that come with the library, "ENV/METHOD", sorted."""
    folder = _library()
    files = (file.relative_to(folder).with_suffix("") for file in folder.rglob("*.npz"))
    return tuple(sorted(file.as_posix() for file in files))


def file_of(team: str | Path) -> Path:
    """The file of a team: one that comes with the library, or a path.

    Raises:
        ConfigurationError: if there is none.
    """
    if isinstance(team, str) and team in names():
        return _library() / f"{team}.npz"
    path = user_path("team", team)
    if not path.is_file():
        raise unknown_name("team", str(path), names())
    return path


def _library() -> Path:
    return Path(str(importlib.resources.files("experiments"))) / "teams"


def kept(state: Any) -> dict[str, Any]:
    """Of a learner's state, what a file holds."""
    if not hasattr(state, "_fields"):
        return {"state": state}
    fields = {name: getattr(state, name) for name in state._fields if name not in LEFT_OUT}
    if "parts" in fields:
        fields["parts"] = tuple(getattr(part, "params", ()) for part in state.parts)
    return fields


def put(state: Any, found: Mapping[str, Any]) -> Any:
    """The learner's state with what was found in its place; delayed copies are made of it.

    Of a state that is shapes only, what was not found becomes zeros: enough to act.
    """
    state = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, state
    )
    if not hasattr(state, "_fields"):
        return jax.tree.map(jnp.array, found["state"])
    found = dict(found)
    if "parts" in found:
        found["parts"] = tuple(
            part._replace(params=params) if hasattr(part, "params") else part
            for part, params in zip(state.parts, found["parts"], strict=True)
        )
    state = state._replace(**found)
    copies = {}
    if "target" in state._fields:
        copies["target"] = {name: state.params[name] for name in state.target}
    if "target_critic" in state._fields:
        copies["target_critic"] = state.params["critic"]
    # Copies: the training loop donates all buffers, and no two may be the same.
    return jax.tree.map(jnp.array, state._replace(**copies))


def write(path: Path, arrays: Arrays, record: Mapping[str, Any]) -> None:
    """Writes arrays by path and a record, all or nothing.

    Raises:
        OSError: if the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{RECORD: json.dumps(record)}, **arrays)


def read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of a file by the paths of their leaves, and its record.

    Raises:
        ConfigurationError: if it is no such file, or damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            record = json.loads(str(file[RECORD]))
            return {name: file[name] for name in file.files if name != RECORD}, record
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise ConfigurationError(
            f"{path} cannot be read; it must be a team's file that this library wrote."
        ) from error


def like(
    template: Any, arrays: Arrays, whose: str, rows: NDArray[np.integer[Any]] | None = None
) -> Any:
    """The tree that a template describes, out of a file's arrays.

    Args:
        template: arrays or their shapes.
        arrays: by path.
        whose: who they belong to, for the error's sentence.
        rows: [S], what to take of the arrays' leading axis, which the template has not got; None takes them whole.

    Raises:
        ConfigurationError: if an array is missing, or has another shape.
    """
    found = {}
    for name, x in _named(template).items():
        array = arrays.get(name)
        shape = None if array is None else array.shape[rows is not None :]
        if array is None or shape != x.shape:
            has = "none" if shape is None else str(list(shape))
            raise ConfigurationError(
                f"{whose} does not fit: {name} must have shape {list(x.shape)}, and it has {has}; method, networks and "
                "task must have the same sizes."
            )
        found[name] = (array if rows is None else array[rows]).astype(x.dtype)
    return jax.tree.unflatten(jax.tree.structure(template), list(found.values()))


def arrays_of(tree: Any) -> Arrays:
    """A tree's arrays by the paths of their leaves."""
    return {name: np.asarray(x) for name, x in _named(tree).items()}


def _named(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
