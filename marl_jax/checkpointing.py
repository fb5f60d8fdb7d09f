"""Checkpoints of whole run states, by orbax, with a digest so that damage is always noticed."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from envs.configuration import ConfigurationError
from marl_jax.replay import ReplayState
from marl_jax.runtime import (
    from_writer,
    lost_process,
    on_host,
    own_part,
    own_rows,
    placed,
    several_processes,
    writes,
)
from marl_jax.storage import replacing
from marl_jax.training import RunState

Counts = NDArray[np.integer[Any]]
DIGEST = "digest.json"
INDEX = ("episodes", "starts", "lengths")
"""What of a replay says which rows make up an episode."""
INDEX_FILE = "replay_index.npz"
KEPT = 2
MOST_PARTS = 3
"""As many replays' worth of parts one checkpoint may need."""


class DamagedError(ConfigurationError):
    """Of a checkpoint something is gone or is not what was written."""


class Checkpoints:
    """The checkpoints of one run, in a folder of their own; the last two are kept, and others if asked for.

    A checkpoint is a folder named by its step. It counts once its digest is written, which happens last, so that a
    run that is killed while saving falls back to the one before.

    A replay, which is large and changes little, is saved in parts: `replay/STEP` holds the rows added since the
    checkpoint before, and stays as long as a checkpoint that is kept needs some of them. Seeds that had their budget
    earlier than others have fewer; a part then repeats some of theirs, since it holds as many of each seed. Which rows
    make up an episode is in the checkpoint.

    Where several processes train together each of them saves and restores, at the same time, and writes and reads the
    rows of its own devices; the folder must be one that all can see. What was saved on other numbers of devices is
    restored as well: rows that follow those of the seeds are left out, or are zeros.
    """

    def __init__(self, directory: Path) -> None:
        """Uses `directory`, which need not exist yet."""
        self.directory = directory.absolute()
        self.parts = self.directory / "replay"

    def steps(self) -> list[int]:
        """Steps of all complete checkpoints, oldest first."""
        return _steps(self.directory)

    def save(self, step: int, state: RunState, keep_every: int = 0) -> None:
        """Writes the whole state and forgets old ones, but for those whose step is a multiple of `keep_every`.

        Raises:
            OSError: if it cannot be written; those before it stay.
        """
        self.prepare(step, state, keep_every)()

    def prepare(self, step: int, state: RunState, keep_every: int = 0) -> Callable[[], None]:
        """Copies what is to be saved of a state, and returns what writes it, see `save`.

        The state may then be overwritten, but not where several processes train together: they exchange what they
        write, and so write before they train on. The checkpoint before must have been written.
        """
        learner, replay = _without_keys(state._replace(replay=None)), None
        if not several_processes():
            shardings = jax.tree.map(lambda x: x.sharding, learner)
            learner = jax.device_put(learner, shardings, may_alias=False)
        if state.replay is not None:
            replay = self._new_rows(step, state.replay)
        # A copy that is still to be made would wait for whatever is computed next.
        jax.block_until_ready((learner, replay))
        return lambda: self._save(step, learner, replay, keep_every)

    def _save(self, step: int, learner: Any, replay: "_NewRows | None", keep_every: int) -> None:
        """Writes what `prepare` has copied."""
        # Not its parents: a run that was removed stays away.
        from_writer(lambda: self.directory.mkdir(exist_ok=True))
        added, index = np.zeros((0,), int), None
        if replay is not None:
            added, index = replay.added, replay.layout
            if replay.num > 0:
                _write(self.parts / str(step), replay.rows, replay.num, added)
        _write(self.directory / str(step), learner, 0, added, index)
        if writes():
            for old in self.steps()[:-KEPT]:
                if not keep_every or old % keep_every:
                    _delete(self.directory / str(old))
            if replay is not None:
                self._forget_parts(replay.capacity)

    def restore(self, step: int, like: RunState) -> RunState:
        """Reads the state saved at `step`.

        Args:
            step: one of `steps()`.
            like: shapes, types and placement of the state, as `Trainer.abstract_state` gives them. Without its
                replay, the saved one is not read.

        Raises:
            DamagedError: if it is damaged.
            ConfigurationError: if it belongs to another configuration.
        """
        folder = self.directory / str(step)
        from_writer(lambda: self._check(folder, like))
        state: RunState = _read(folder, like._replace(replay=None))
        if like.replay is not None:
            state = state._replace(replay=self._restore_replay(step, like.replay))
        return jax.tree.map(
            lambda x, template: jax.random.wrap_key_data(x) if _is_key(template) else x,
            state,
            like._replace(replay=state.replay),
        )

    def restore_newest(self, like: RunState) -> tuple[int, RunState]:
        """Reads the newest checkpoint that is whole, and says its step; the run may go on writing meanwhile.

        Args:
            like: as for `restore`.

        Raises:
            DamagedError: if there are only damaged ones.
            ConfigurationError: if there is none, or it belongs to another configuration.
        """
        tried: dict[int, DamagedError] = {}
        # Anew each time: a run that goes on deletes old ones, and writes others.
        while left := [step for step in from_writer(self.steps) if step not in tried]:
            try:
                return left[-1], self.restore(left[-1], like)
            except DamagedError as error:
                tried[left[-1]] = error
        if tried:
            raise tried[max(tried)]
        raise ConfigurationError(
            f"{self.directory.parent} holds no complete checkpoint; only a run that has saved one can be loaded or "
            "resumed."
        )

    def _check(self, folder: Path, like: RunState) -> None:
        """Refuses a checkpoint that is damaged, or lacks the index of a replay that is asked for."""
        if not _intact(folder):
            raise DamagedError(f"the checkpoint {folder} is damaged; it must be as it was written.")
        if like.replay is not None and (
            "num" not in _record(folder) or not (folder / INDEX_FILE).exists()
        ):
            raise _other_version(folder)

    def _new_rows(self, step: int, replay: ReplayState) -> "_NewRows":
        """A copy of the rows that the checkpoints before this one do not hold."""
        capacity = _capacity(replay)
        added = np.array(on_host(replay.added))
        layout = {name: np.array(on_host(getattr(replay, name))) for name in INDEX}
        num = from_writer(lambda: self._num_new(step, capacity, added))
        rows = None
        if num > 0:
            where = ((added - num)[:, None] + np.arange(num)) % capacity
            rows = _taken(replay.rows, placed(where, replay.added.sharding))
        return _NewRows(rows, num, capacity, added, layout)

    def _num_new(self, step: int, capacity: int, added: Counts) -> int:
        """How many rows of each seed the checkpoints before this one do not hold."""
        before = self._parts(step - 1, len(added))
        num = _few_sizes(int(np.max(added - (before[-1].added if before else 0))))
        num = min(capacity, num)
        held = sum(part.num for part in before)
        if num > 0 and held + num > MOST_PARTS * capacity:
            # Seeds that wait need old parts, which hold the others' old rows, too: begin anew.
            num = capacity
        return num

    def _restore_replay(self, step: int, like: ReplayState) -> ReplayState:
        capacity, folder = _capacity(like), self.directory / str(step)
        seeds = like.added.shape[0]
        added, parts, kept_index = from_writer(lambda: self._whole_replay(step, seeds, capacity))
        sharding = like.added.sharding
        own = own_rows(sharding, seeds)
        rows = jax.tree.map(lambda x: np.zeros((len(own), *x.shape[1:]), x.dtype), like.rows)
        for part in parts:
            found = _read(part.folder, _slots(like.rows, part.num))
            where = (part.first[own, None] + np.arange(part.num)) % capacity
            for kept, new in zip(jax.tree.leaves(rows), jax.tree.leaves(found), strict=True):
                kept[np.arange(len(own))[:, None], where] = own_part(new)
        index = {"added": added.astype(like.added.dtype), **kept_index}
        if any(x.shape != getattr(like, name).shape for name, x in index.items()):
            raise _other_version(folder)
        return ReplayState(
            jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), rows),
            **{name: placed(x, sharding) for name, x in index.items()},
        )

    def _whole_replay(
        self, step: int, seeds: int, capacity: int
    ) -> tuple[Counts, list["_Part"], dict[str, NDArray[Any]]]:
        """What has been added to a replay at a step [R], the parts that hold it, and its index [R, ...].

        Raises:
            DamagedError: if parts are missing or damaged.
        """
        folder = self.directory / str(step)
        added = _fitted(_counts(folder)[1], seeds)
        parts, complete = self._needed(step, added, capacity)
        if not complete or not all(_intact(part.folder) for part in parts):
            raise DamagedError(
                f"the checkpoint {folder} is damaged: {self.parts} lacks steps of its replay, without which it can "
                "only be played and evaluated."
            )
        with np.load(folder / INDEX_FILE) as index:
            return added, parts, {name: _fitted(index[name], seeds) for name in INDEX}

    def _parts(self, step: int, seeds: int) -> list["_Part"]:
        """The replay's parts up to a step, oldest first; without those whose digest cannot be read."""
        folders = [self.parts / str(part) for part in _steps(self.parts) if part <= step]
        counts = {folder: _counts(folder) for folder in folders if "num" in _record(folder)}
        return [_Part(folder, num, _fitted(x, seeds)) for folder, (num, x) in counts.items()]

    def _needed(self, step: int, added: Counts, capacity: int) -> tuple[list["_Part"], bool]:
        """The parts, oldest first, that hold the replay as it was at a step, and whether they hold all of it."""
        missing, oldest = added, np.maximum(added - capacity, 0)
        needed = []
        for part in reversed(self._parts(step, len(added))):
            # Rows from `missing` on have been found; a part is of use where it goes on from there.
            use = (part.first < missing) & (missing <= part.added) & (missing > oldest)
            if use.any():
                needed.append(part)
                missing = np.where(use, part.first, missing)
        return needed[::-1], bool(np.all(missing <= oldest))

    def _forget_parts(self, capacity: int) -> None:
        """Deletes what even the older of the last two checkpoints does not need."""
        oldest = self.steps()[-KEPT:][0]
        folder = self.directory / str(oldest)
        if "num" not in _record(folder):
            return
        added = _counts(folder)[1]
        needed, _ = self._needed(oldest, added, capacity)
        kept = {part.folder for part in needed}
        for part in self._parts(oldest, len(added)):
            if part.folder not in kept:
                _delete(part.folder)


class _NewRows(NamedTuple):
    """What a checkpoint writes of a replay.

    Attributes:
        rows: the last `num` of each seed; None if there are none.
        num: how many.
        capacity: how many the replay holds of each seed.
        added: [R], how many it had been given in all.
        layout: which rows make up an episode, [R, ...].
    """

    rows: Any
    num: int
    capacity: int
    added: Counts
    layout: dict[str, NDArray[Any]]


class _Part(NamedTuple):
    """The last `num` rows that a replay had of each seed when it had been given `added` in all, in a folder.

    Attributes:
        folder: where they are.
        num: how many.
        added: [S].
    """

    folder: Path
    num: int
    added: Counts

    @property
    def first(self) -> Counts:
        """[S], the number of the first; below 0 where there were fewer."""
        return self.added - self.num


def _few_sizes(num: int) -> int:
    """A number of rows, rounded up by an eighth at most: each new one has a program compiled to take so many."""
    unit = 1 << max(0, num.bit_length() - 4)
    return -(-num // unit) * unit


@jax.jit
def _taken(rows: Any, where: jax.Array) -> Any:
    """Rows of each seed's replay, [S, num, ...]."""
    return jax.tree.map(lambda x: jax.vmap(lambda own, i: own[i])(x, where), rows)


def _fitted(x: NDArray[Any], seeds: int) -> NDArray[Any]:
    """An array [S', ...] with zeros after it, or cut, to [seeds, ...]: rows beyond the seeds depend on the devices."""
    return np.concatenate([x[:seeds], np.zeros((max(0, seeds - len(x)), *x.shape[1:]), x.dtype)])


def _slots(rows: Any, num: int) -> Any:
    """The shapes of so many rows of a replay of all seeds."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            (x.shape[0], num, *x.shape[2:]), x.dtype, sharding=x.sharding
        ),
        rows,
    )


def _capacity(replay: ReplayState) -> int:
    return jax.tree.leaves(replay.rows)[0].shape[1]


def _steps(directory: Path) -> list[int]:
    found = directory.glob(f"*/{DIGEST}")
    return sorted(int(file.parent.name) for file in found if _is_step(file.parent))


def _is_step(folder: Path) -> bool:
    """Whether a folder is named as a checkpoint is."""
    return folder.name.isascii() and folder.name.isdigit()


def _write(
    folder: Path,
    tree: Any,
    num: int,
    added: Counts,
    index: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Writes a tree of arrays and, last, its digest.

    Args:
        folder: where it goes; what is there is replaced.
        tree: the arrays.
        num: how many rows of the replay the tree holds of each seed.
        added: [S], the rows added to the replay so far.
        index: arrays that say which rows make up an episode.

    Raises:
        OSError: if it cannot be written; what there was of it is deleted.
    """
    from_writer(lambda: _make_room(folder))
    try:
        _write_arrays(folder / "state", tree)
        from_writer(lambda: _finish(folder, num, added, index))
    except OSError:
        if writes():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _make_room(folder: Path) -> None:
    """Deletes what is in the place of a checkpoint, and what is left of others."""
    # A run that was killed while it deleted leaves folders without a digest.
    for other in folder.parent.glob("*"):
        if _is_step(other) and not (other / DIGEST).exists():
            shutil.rmtree(other, ignore_errors=True)
    _delete(folder)


def _finish(
    folder: Path, num: int, added: Counts, index: Mapping[str, NDArray[Any]] | None
) -> None:
    """Writes what makes arrays a checkpoint, see `_write`."""
    if index is not None:
        np.savez(folder / INDEX_FILE, allow_pickle=False, **index)
    record = {"files": _digests(folder), "num": num, "added": added.tolist()}
    with replacing(folder / DIGEST) as file:
        file.write_text(json.dumps(record))


def _write_arrays(folder: Path, tree: Any) -> None:
    """Writes a tree of arrays by orbax.

    Raises:
        OSError: if it cannot be written.
    """
    import orbax.checkpoint as ocp

    try:
        with _silent("absl"), ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder, tree)
            checkpointer.wait_until_finished()
    except ValueError as error:
        if lost_process(error):
            raise
        # The library below says it in its own words.
        code = errno.ENOSPC if os.strerror(errno.ENOSPC) in str(error) else errno.EIO
        raise OSError(code, os.strerror(code)) from error


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keeps a logger from telling, with tracebacks, what is raised anyway."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _delete(folder: Path) -> None:
    """Deletes the digest first: what is half deleted does not count."""
    (folder / DIGEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _record(folder: Path) -> dict[str, Any]:
    """What a digest says; nothing if it cannot be read or is not what one says."""
    try:
        record = json.loads((folder / DIGEST).read_text())
        if "num" in record:
            int(record["num"]), np.array(record["added"], int)
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return record if isinstance(record, dict) else {}


def _intact(folder: Path) -> bool:
    try:
        return _record(folder).get("files") == _digests(folder)
    except OSError:  # unreadable, or deleted meanwhile
        return False


def _counts(folder: Path) -> tuple[int, Counts]:
    """How many rows of each seed are in a folder, and how many had been added, [S]."""
    record = _record(folder)
    return record["num"], np.array(record["added"])


def _read(folder: Path, like: Any) -> Any:
    import orbax.checkpoint as ocp

    like = _without_keys(like)
    try:
        with _silent("absl"), ocp.StandardCheckpointer() as checkpointer:
            saved = checkpointer.metadata(folder / "state").item_metadata
            if saved is None:
                raise OSError("nothing is there")
            # Only leading axes may differ: rows beyond the seeds are cut off, or become zeros.
            before, now = (
                {name: x.shape[1:] for name, x in ocp.tree.to_flat_dict(tree).items()}
                for tree in (saved.tree, like)
            )
            if before != now:
                raise ValueError("arrays have other names or shapes")
            return checkpointer.restore(folder / "state", like, strict=False)
    except (ValueError, KeyError, OSError) as error:
        if lost_process(error):
            raise
        if not _intact(folder):
            # A run that goes on has just deleted it.
            raise DamagedError(f"the checkpoint {folder} is gone.") from error
        raise _other_version(folder) from error


def _other_version(folder: Path) -> ConfigurationError:
    return ConfigurationError(
        f"the checkpoint {folder} does not fit this version of the program or this configuration."
    )


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


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
    files = [*sorted((folder / "state").rglob("*")), folder / INDEX_FILE]
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }
