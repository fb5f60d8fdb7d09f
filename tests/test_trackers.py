"""Trackers: every seed's series is that of metrics.csv, also of a run that was killed; none can stop a run."""

import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import marl_jax
from experiments import run
from marl_jax import ConfigurationError
from marl_jax.checkpointing import Checkpoints
from marl_jax.progress import Silent
from marl_jax.runs import RunDirectory
from marl_jax.settings import RunSettings, make_settings
from marl_jax.trackers import Function, TensorBoard, Trackers, make_trackers
from tests import tiny
from tests.test_command_line import TINY, call

Series = dict[tuple[int, int], dict[str, float]]
"""Numbers by seed and environment steps."""


class Told(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


class Kept(dict[tuple[int, int], dict[str, float]]):
    """A function that keeps what it is told, once."""

    def __call__(self, seed: int, env_steps: int, numbers: Mapping[str, float]) -> None:
        assert (seed, env_steps) not in self
        self[seed, env_steps] = dict(numbers)


def measured(folder: Path) -> Series:
    return {
        (int(row.pop("seed")), int(row.pop("env_steps"))): row
        for row in RunDirectory.open(folder).rows()
    }


def events(file: Path) -> Iterator[Any]:
    """What is in one of TensorBoard's files: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data = file.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def shown(folder: Path, seeds: int) -> Series:
    """What TensorBoard shows."""
    found: Series = {}
    for seed in range(seeds):
        for file in sorted((folder / f"seed_{seed}").iterdir()):
            for event in events(file):
                if event.HasField("session_log"):
                    for key in [key for key in found if key[0] == seed and key[1] >= event.step]:
                        del found[key]
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        numbers = found.setdefault((seed, event.step), {})
                        assert value.tag not in numbers
                        numbers[value.tag] = value.simple_value
    return found


def test_series_of_a_killed_run_go_on_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, got, told = tmp_path / "run", Kept(), Told()

    def divide(seed: int, env_steps: int, numbers: Mapping[str, float]) -> None:
        assert env_steps == 20, "called again"
        raise ZeroDivisionError("by a user's mistake")

    prepare = Checkpoints.prepare

    def killed(self: Checkpoints, step: int, *rest: Any) -> Callable[[], None]:
        if step == 2:
            raise RuntimeError("killed")
        return prepare(self, step, *rest)

    options = tiny.options(2) | {"out": str(out), "progress": told}
    monkeypatch.setattr(Checkpoints, "prepare", killed)
    with pytest.raises(RuntimeError, match="killed"):
        marl_jax.train("iac", "turn", seeds=2, trackers=[divide, got, "tensorboard"], **options)
    monkeypatch.setattr(Checkpoints, "prepare", prepare)
    assert set(got) == {(0, 20), (1, 20)}
    assert set(measured(out)) == {*got, (0, 40), (1, 40)}
    (line,) = [text for text in told.messages if "tracker" in text]
    assert line == (
        "the tracker Function stopped (ZeroDivisionError: by a user's mistake); the run goes on."
    )
    marl_jax.resume(out, progress=False, trackers=[got, "tensorboard"])
    rows = measured(out)
    assert got.keys() == rows.keys() == {(seed, steps) for seed in (0, 1) for steps in (20, 40)}
    for key, row in rows.items():
        assert got[key] == pytest.approx(row)
    seen = shown(out / "tensorboard", 2)
    assert seen.keys() == rows.keys()
    assert seen[1, 40]["evaluation/eval_return_mean"] == pytest.approx(
        rows[1, 40]["eval_return_mean"]
    )
    assert seen[1, 40].keys() == {
        f"{'evaluation' if name.startswith('eval_') else 'training'}/{name}" for name in rows[1, 40]
    }


@pytest.fixture
def settings() -> RunSettings:
    return make_settings("iac", "turn", 2, 0)


def test_tensorboard_hides_what_is_measured_again(settings: RunSettings, tmp_path: Path) -> None:
    """As where a run goes on from the checkpoint before the last."""
    for begin, value in ((0, 1.0), (20, 2.0)):
        tracker = TensorBoard()
        tracker.start(settings, tmp_path, {0: begin, 1: begin})
        for steps in range(begin + 20, 80, 20):
            tracker.log(0, steps, {"entropy": value})
        tracker.close()
    assert shown(tmp_path / "tensorboard", 2) == {
        (0, steps): {"training/entropy": value} for steps, value in ((20, 1), (40, 2), (60, 2))
    }
    with pytest.raises(
        ConfigurationError, match=r"tensorboard needs a folder; give out=\.\.\., or"
    ):
        Trackers([TensorBoard()], print).start(settings, None, {0: 0})
    first, *_ = sorted((tmp_path / "tensorboard" / "seed_1").iterdir())
    (text,) = [value for event in events(first) for value in event.summary.value]
    assert '"method": "iac"' in text.tensor.string_val[0].decode()


def logged(file: Path) -> Iterator[bytes]:
    """What is in one of W&B's files, a log as LevelDB has it: blocks of 32 KiB with parts of records."""
    data, at, record = file.read_bytes(), 7, b""
    while at < len(data):
        left = -at % 2**15 or 2**15
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + length > len(data):
            return
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # the whole of a record, or its last part
            yield record
            record = b""


def records(file: Path) -> list[Any]:
    """All that is in such a file; W&B may still be writing it for a moment after a run is finished."""
    from wandb.proto.wandb_internal_pb2 import Record

    deadline = time.monotonic() + 30
    while True:
        found = [Record.FromString(data) for data in logged(file)]
        if (found and found[-1].HasField("exit")) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_weights_and_biases_offline(
    settings: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run for each seed, of which each part keeps the name."""
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    told: list[str] = []
    for begin in (0, 40):
        tracking = Trackers(make_trackers(["wandb"]), told.append)
        tracking.start(settings, tmp_path, {0: begin, 1: begin})
        for steps in (begin + 20, begin + 40):
            tracking.log(
                [{"seed": seed, "env_steps": steps, "entropy": steps + seed} for seed in (0, 1)]
            )
        tracking.close()
    assert told == []
    token = (tmp_path / "wandb" / "id").read_text()
    for seed in (0, 1):
        files = sorted((tmp_path / "wandb").glob(f"offline-run-*/run-{token}-{seed}.wandb"))
        assert len(files) == 2, "one for each part"
        found, config = {}, {}
        for file in files:
            for record in records(file):
                for item in record.run.config.update:
                    config[item.key] = item.value_json
                for item in record.history.item:
                    if "entropy" in (item.key, *item.nested_key):
                        found[record.history.step.num] = float(item.value_json)
        assert found == {steps: steps + seed for steps in (20, 40, 60, 80)}
        assert config["method"] == '"iac"'
        assert config["seed"] == str(seed)


@pytest.mark.parametrize(
    ("trackers", "sentence"),
    [
        (
            ["tensorbord"],
            r"unknown tracker 'tensorbord'; choose from: tensorboard, wandb\. Did you",
        ),
        ("wandb", r"trackers is 'wandb'; it must be a list of names \(tensorboard, wandb\), "),
        (print, r"trackers is <built-in function print>; it must be a list"),
        ([3], r"a tracker is 3; it must be one of tensorboard, wandb, a tracker or a function\."),
        (
            [TensorBoard],
            r"a tracker is <class .*>; it must be one of tensorboard, wandb, a tracker",
        ),
    ],
)
def test_what_is_no_tracker_is_refused(trackers: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        marl_jax.train("iac", "turn", seeds=1, trackers=trackers, **tiny.options(1))


def test_a_missing_package_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, package in (("tensorboard", "tensorboardX"), ("wandb", "wandb")):
        monkeypatch.setitem(sys.modules, package, None)
        arguments = [*TINY, "--out", str(tmp_path / "run"), "--track", name]
        assert call(run.main, arguments, monkeypatch) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {package} cannot be imported (")
        assert error.endswith(f"; install it with: pip install {package}\n")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_cannot_start_is_left_out(settings: RunSettings) -> None:
    class Broken(Function):
        def start(self, *_: object) -> None:
            raise ConnectionError("no\nnetwork")

    got, told = Kept(), []
    trackers = [Broken(print), *make_trackers([got])]
    tracking = Trackers(trackers, told.append)
    tracking.start(settings, None, {0: 0})
    tracking.log([{"seed": 0, "env_steps": 20, "entropy": 1.0}])
    tracking.close()
    assert told == ["the tracker Broken stopped (ConnectionError: no network); the run goes on."]
    assert got == {(0, 20): {"entropy": 1.0}}
