"""Checkpoints of runs with a replay: saved in parts, put together again exactly."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from envs.configuration import ConfigurationError
from marl_jax import checkpointing
from marl_jax.checkpointing import Checkpoints, DamagedError
from marl_jax.replay import EpisodeReplay, ReplayState
from marl_jax.training import RunState
from tests.methods.learners import make_batch
from tests.probes import LIMIT

CAPACITY = 5
ROWS = LIMIT + 1
"""Of an episode that lasts until the time limit."""


@functools.cache
def history(replay: EpisodeReplay, seed: int, episodes: int) -> ReplayState:
    """After so many episodes, with number and seed as reward; of 1 to 4 steps where the replay expects several."""
    if episodes == 0:
        return jax.tree.map(np.asarray, replay.init(jax.eval_shape(make_batch)))
    number = episodes - 1
    length = LIMIT if replay.shortest is None else 1 + (3 * number + seed) % LIMIT
    batch = make_batch([length], [False], seed=1000 * seed + number)
    batch = batch._replace(reward=jax.numpy.full_like(batch.reward, 100.0 * seed + number))
    before = jax.tree.map(jax.numpy.asarray, history(replay, seed, number))
    return jax.tree.map(np.asarray, add(replay)(before, batch))


@functools.cache
def add(replay: EpisodeReplay) -> Any:
    return jax.jit(replay.add)


FULL, SEVERAL = EpisodeReplay(CAPACITY, LIMIT), EpisodeReplay(CAPACITY, LIMIT, shortest=1)


def filled(*added: int, replay: EpisodeReplay = FULL) -> RunState:
    """Seeds that have played so many episodes, two if one number is given."""
    counts = added * 2 if len(added) == 1 else added
    seeds = [history(replay, seed, count) for seed, count in enumerate(counts, start=1)]
    held = jax.tree.map(lambda *x: jax.numpy.asarray(np.stack(x)), *seeds)
    zeros = jax.numpy.zeros((len(counts),), np.int32)
    keys = jax.random.split(jax.random.key(0), len(counts))
    return RunState({"w": jax.numpy.array(counts)}, held, keys, zeros, zeros)


def like(state: RunState) -> RunState:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=jax.numpy.zeros(()).sharding),
        state,
    )


def check(checkpoints: Checkpoints, step: int, expected: RunState) -> None:
    restored = checkpoints.restore(step, like(expected))
    np.testing.assert_array_equal(
        jax.random.key_data(restored.key), jax.random.key_data(expected.key)
    )
    same = jax.tree.map(np.array_equal, restored._replace(key=0), expected._replace(key=0))
    assert jax.tree.all(same)


def episodes_on_disk(checkpoints: Checkpoints) -> list[str]:
    return sorted(part.name for part in checkpoints.parts.iterdir())


# Less than the capacity between two checkpoints, just as much, and more.
HISTORY = {0: 0, 1: 2, 2: 4, 3: 5, 4: 7, 5: 12, 6: 13, 7: 20}


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def test_a_replay_saved_in_parts_is_the_same_again(saved: Checkpoints) -> None:
    for step, added in HISTORY.items():
        saved.save(step, filled(added))
        for kept in saved.steps():
            check(saved, kept, filled(HISTORY[kept]))
    assert saved.steps() == [6, 7]
    # 13 episodes need the last five of 5's six and 6's one; 20 only those of 7.
    assert episodes_on_disk(saved) == ["5", "6", "7"]


def test_a_state_may_be_overwritten_before_it_is_written(saved: Checkpoints) -> None:
    """As a chunk does that takes over its memory."""
    saved.save(1, filled(2))
    state, expected = filled(4), filled(4)
    write = saved.prepare(2, state)
    change = jax.jit(
        lambda tree: jax.tree.map(lambda x: (x + 1).astype(x.dtype), tree), donate_argnums=0
    )
    jax.block_until_ready(change((state.method, state.replay)))
    assert saved.steps() == [1]
    write()
    check(saved, 2, expected)


def test_only_new_episodes_are_written(saved: Checkpoints) -> None:
    for step, added in ((1, 2), (2, 3)):
        saved.save(step, filled(added))
    rows = [[n // ROWS for n in (*part.first, *part.added)] for part in saved._parts(2, 2)]
    assert rows == [[0, 0, 2, 2], [2, 2, 3, 3]]


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2)])
def test_rows_beyond_the_seeds_come_and_go(saved: Checkpoints, before: int, after: int) -> None:
    """As many as the devices need; two seeds are as they were, also what is saved after that."""

    def rows(num: int, added: int) -> RunState:
        state = filled(added, added, *[0] * (num - 2))
        return state._replace(method={"w": state.method["w"] + 1.0})

    saved.save(1, rows(before, 2))
    saved.save(2, rows(before, 4))
    saved.save(3, rows(after, 5))
    for step, added in ((2, 4), (3, 5)):
        found = saved.restore(step, like(rows(after, added)))
        seeds = jax.tree.map(lambda x: x[:2], (found.method, found.replay))
        expected = jax.tree.map(lambda x: x[:2], rows(2, added))
        assert jax.tree.all(jax.tree.map(np.array_equal, seeds, (expected.method, expected.replay)))


@pytest.mark.slow
def test_episodes_of_several_lengths(saved: Checkpoints) -> None:
    """Bit for bit, also where an episode did not fit before the ring's end."""
    for step, added in enumerate((0, 3, 9, 17, 30)):
        expected = filled(added, added // 2, replay=SEVERAL)
        saved.save(step, expected)
        check(saved, step, expected)
    lost = [int(np.max(np.diff(np.sort(x)))) for x in np.asarray(expected.replay.starts)]
    assert max(lost) > ROWS, "every episode followed the one before"


@pytest.mark.parametrize(
    ("swapped", "waits"),
    [
        (False, 3),
        (True, 8),
        pytest.param(False, 8, marks=pytest.mark.slow),
        pytest.param(True, 3, marks=pytest.mark.slow),
    ],
)
def test_a_seed_that_had_its_budget_earlier(saved: Checkpoints, waits: int, swapped: bool) -> None:
    """It waits, before or after its replay is full, until the other has 23; then it goes on alone, and with it."""
    steps = [(n, min(n, waits)) for n in (0, 2, 4, 5, 8, 9, 14, 15, 16, 23)]
    steps += [(23, waits + 1), (23, waits + 3), (24, waits + 9), (26, waits + 15)]
    for step, counts in enumerate(steps):
        saved.save(step, filled(*(counts[::-1] if swapped else counts)))
        for kept in saved.steps():
            counts = steps[kept]
            check(saved, kept, filled(*(counts[::-1] if swapped else counts)))


def test_many_seeds_that_wait_do_not_keep_the_others_old_episodes(saved: Checkpoints) -> None:
    """Four seeds end two capacities apart."""
    ends = [CAPACITY * k for k in (2, 4, 6, 8)]
    steps = [[min(n, end) for end in ends] for n in range(0, ends[-1] + 1, 4)]
    for step, counts in enumerate(steps):
        saved.save(step, filled(*counts))
        # What the older of two checkpoints needs, and the last.
        assert sum(part.num for part in saved._parts(step, 2)) <= 4 * CAPACITY * ROWS
    for kept in saved.steps():
        check(saved, kept, filled(*steps[kept]))


def test_a_checkpoint_of_another_version_is_refused(saved: Checkpoints) -> None:
    state = filled(2)
    saved.save(1, state)
    for digest in (saved.directory / "1" / "digest.json", saved.parts / "1" / "digest.json"):
        record = json.loads(digest.read_text())
        digest.write_text(json.dumps({"files": record["files"], "episodes": [0, 2]}))
    with pytest.raises(ConfigurationError, match="does not fit this version"):
        saved.restore(1, like(state))
    np.testing.assert_array_equal(
        saved.restore(1, like(state)._replace(replay=None)).method["w"], state.method["w"]
    )


def test_going_on_from_the_checkpoint_before_the_last(saved: Checkpoints) -> None:
    for step, added in ((1, 2), (2, 4), (3, 6)):
        saved.save(step, filled(added))
    shutil.rmtree(saved.directory / "3")
    check(saved, 2, filled(4))
    saved.save(3, filled(6))
    check(saved, 3, filled(6))


@pytest.mark.parametrize("damage", ["first gone", "last gone", "all gone", "one byte", "no digest"])
def test_a_damaged_replay_is_refused_and_the_learner_is_read_without_it(
    saved: Checkpoints, damage: str
) -> None:
    state = filled(4)
    for step, added in ((1, 2), (2, 4)):
        saved.save(step, filled(added))
    if damage == "one byte":
        file = max(saved.parts.glob("2/state/**/*"), key=lambda f: f.stat().st_size * f.is_file())
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "no digest":
        (saved.parts / "1" / "digest.json").write_text("")
    else:
        gone = {"first gone": ["1"], "last gone": ["2"], "all gone": ["1", "2"]}[damage]
        for part in gone:
            shutil.rmtree(saved.parts / part)
    with pytest.raises(DamagedError, match="lacks steps of its replay, without which"):
        saved.restore(2, like(state))
    restored = saved.restore(2, like(state)._replace(replay=None))
    assert restored.replay is None
    np.testing.assert_array_equal(restored.method["w"], state.method["w"])


DIGESTS = ["", "{", "3", "[]", '{"files": 3}', '{"files": {}, "num": "x", "added": [[0], 1]}']


@pytest.mark.parametrize("text", DIGESTS)
def test_the_newest_that_is_whole_is_read(saved: Checkpoints, text: str) -> None:
    for step, added in ((1, 2), (2, 4)):
        saved.save(step, filled(added)._replace(replay=None))
    (saved.directory / "2" / "digest.json").write_text(text)
    expected = filled(2)._replace(replay=None)
    step, state = saved.restore_newest(like(expected))
    assert step == 1
    np.testing.assert_array_equal(state.method["w"], expected.method["w"])
    with pytest.raises(DamagedError, match="is damaged; it must be as it was written"):
        saved.restore(2, like(expected))
    (saved.directory / "1" / "digest.json").write_text(text)
    with pytest.raises(DamagedError, match="checkpoints/2 is damaged"):
        saved.restore_newest(like(expected))
    with pytest.raises(ConfigurationError, match="holds no complete checkpoint"):
        Checkpoints(saved.directory / "none").restore_newest(like(expected))


def test_a_run_goes_on_while_it_is_read(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint that is read is deleted, since two newer ones have been written."""
    states = {step: filled(step)._replace(replay=None) for step in (1, 2, 3)}
    saved.save(1, states[1])
    read = checkpointing._read

    def slow(folder: Path, wanted: Any) -> Any:
        monkeypatch.setattr(checkpointing, "_read", read)
        for step in (2, 3):
            saved.save(step, states[step])
        return read(folder, wanted)

    monkeypatch.setattr(checkpointing, "_read", slow)
    step, state = saved.restore_newest(like(states[1]))
    assert step == 3
    np.testing.assert_array_equal(state.method["w"], states[3].method["w"])


def test_a_full_disk_leaves_the_checkpoint_before(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved.save(1, filled(2))
    full = OSError(28, "No space left on device")

    def refuse(*_: Any, **__: Any) -> None:
        raise full

    for module, name in ((np, "savez"), (checkpointing, "_digests")):
        monkeypatch.setattr(module, name, refuse)
        with pytest.raises(OSError, match="No space left"):
            saved.save(2, filled(4))
        monkeypatch.undo()
    assert not (saved.directory / "2").exists()
    assert saved.restore_newest(like(filled(2)))[0] == 1
    saved.save(2, filled(4))
    check(saved, 2, filled(4))


def test_what_a_killed_run_left_behind_is_swept_up(saved: Checkpoints) -> None:
    for step, added in ((1, 2), (2, 4)):
        saved.save(step, filled(added))
    for folder in (saved.directory / "2", saved.parts / "2"):
        (folder / "digest.json").unlink()
    check(saved, 1, filled(2))
    saved.save(3, filled(5))
    check(saved, 3, filled(5))
    assert episodes_on_disk(saved) == ["1", "3"]
    assert not (saved.directory / "2").exists()


def test_states_along_the_way_stay_without_their_replays(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step, added in HISTORY.items():
        checkpoints.save(step, filled(added), keep_every=3)
    assert checkpoints.steps() == [0, 3, 6, 7]
    check(checkpoints, 7, filled(20))
    learned = filled(5)._replace(replay=None)
    check(checkpoints, 3, learned)
    # Of the replay only what the last two need.
    plain = Checkpoints(tmp_path / "plain")
    for step, added in HISTORY.items():
        plain.save(step, filled(added))
    assert episodes_on_disk(checkpoints) == episodes_on_disk(plain)


def test_a_run_without_replay(saved: Checkpoints) -> None:
    state = filled(3)._replace(replay=None)
    saved.save(1, state)
    check(saved, 1, state)
    assert not saved.parts.exists()
