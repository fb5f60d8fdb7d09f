"""Bad input, generated: every option, every file of a run, every public parameter gets one sentence.

`pytest tests/test_bad_input.py -rP` shows how many cases there are of each kind.
"""

import collections
import contextlib
import dataclasses
import json
import math
import shutil
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import pytest

import envs
import marl_jax
from envs.configuration import Config, ConfigurationError, Range, shown
from experiments import command, run
from marl_jax import api, loading, methods
from marl_jax.runs import RunDirectory
from marl_jax.training import RunState, TrainingConfig
from tests import tiny


class Started(Exception):
    """Training would begin."""


class Answers:
    """What became of the cases of one test, by kind."""

    def __init__(self) -> None:
        self.number: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def ask(self, kind: str, case: str, call: Callable[[], Any], refused: bool = True) -> None:
        """Calls; a case that is to be refused must be, and none may raise anything but one sentence."""
        self.number[kind] += 1
        try:
            call()
        except ConfigurationError as error:
            text = str(error)
            if "\n" in text or len(text) > 1000 or not text.endswith((".", "?")):
                self.wrong.append(f"{kind}: {case}: {text}")
        except Started:
            if refused:
                self.wrong.append(f"{kind}: {case}: starts")
        except Exception as error:
            self.wrong.append(f"{kind}: {case}: {type(error).__name__}: {error}")
        else:
            if refused:
                self.wrong.append(f"{kind}: {case}: accepted")

    def check(self) -> None:
        """All were answered."""
        for kind, number in self.number.items():
            print(f"{number:5} {kind}")
        assert "\n".join(self.wrong) == ""


@pytest.fixture
def answers() -> Iterator[Answers]:
    found = Answers()
    yield found
    found.check()


# Options.


def options() -> Iterator[tuple[type[Config], str, Any]]:
    """Every option of loop, methods and worlds, with its annotation; each name and annotation once."""
    known: set[tuple[str, str]] = set()
    for config in (
        TrainingConfig,
        *(methods.recipe(name).Config for name in methods.names()),
        *(envs.world_class(name).Config for name in envs.names()),
    ):
        hints = typing.get_type_hints(config, include_extras=True)
        for field in dataclasses.fields(config):
            if (field.name, repr(hints[field.name])) not in known:
                known.add((field.name, repr(hints[field.name])))
                yield config, field.name, hints[field.name]


def parts(hint: Any) -> tuple[Any, Range | None, bool, bool]:
    """The kind of a value, its bounds, whether it may be None, and whether it is a sequence."""
    optional = sequence = False
    bounds = None
    while typing.get_origin(hint) is not None and typing.get_origin(hint) is not Literal:
        origin, inner = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            optional, hint = True, next(x for x in inner if x is not types.NoneType)
        elif origin is Annotated:
            hint, bounds = inner[0], next((x for x in inner[1:] if isinstance(x, Range)), bounds)
        else:
            sequence, hint = True, inner[0] if inner else None
    return hint, bounds, optional, sequence


WRONG: dict[Any, list[Any]] = {
    bool: [0, 1.0, "true", math.nan],
    int: ["1", 1.5, True, math.nan, math.inf, 2**31, -(2**31), 10**5000, np.float32(1.5), 1j],
    float: ["1", True, math.nan, math.inf, -math.inf, 10**5000, 1e39, np.float32(np.nan), 1j],
    str: [1, math.nan, True],
}


def past(kind: Any, bounds: Range | None) -> list[Any]:
    """One past each bound."""
    if bounds is None:
        return []
    step = 1 if kind is int else 1e-3
    found = [bounds.above]
    found += [None if bounds.minimum is None else bounds.minimum - step]
    found += [None if bounds.maximum is None else bounds.maximum + step]
    return [kind(x) for x in found if x is not None]


def test_every_option(answers: Answers) -> None:
    for config, name, hint in options():
        kind, bounds, optional, sequence = parts(hint)
        wrong = WRONG.get(kind, ["no such choice", 12345, math.nan])
        types_of_none = [object(), {"a": 1}, b"x", *([] if optional else [None])]
        cases = {
            "option, wrong type or too large": [*wrong, *types_of_none],
            "option, one past a bound": past(kind, bounds),
            "option, at a bound": [
                kind(x)
                for x in ((bounds.minimum, bounds.maximum) if bounds else ())
                if x is not None
            ],
        }
        if kind is int:
            # No further: others are checked with the sizes of a task.
            cases["option, largest number"] = [2**31 - 1]
        for what, values in cases.items():
            refused = what in ("option, wrong type or too large", "option, one past a bound")
            for value in values:
                for given in [(value,)] if sequence else [value, [value]][: 1 + refused]:
                    answers.ask(
                        what,
                        f"{config.__name__}.{name}",
                        lambda: config.from_mapping({name: given}, "it"),
                        refused,
                    )
        answers.ask(
            "option, unknown name", name, lambda: config.from_mapping({name + "x": 1}, "it")
        )


def test_every_option_of_the_command_line(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(flags: list[str]) -> None:
        """The sentence that the command line prints, raised."""
        monkeypatch.setattr(sys, "argv", ["run.py", "--method", "iac", "--env", "turn", *flags])
        with pytest.raises(SystemExit) as stopped:
            command.run(run.main)
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert error.startswith("error: ")
        raise ConfigurationError(error.removeprefix("error: ").removesuffix("\n"))

    monkeypatch.setattr(run, "run_training", lambda *_, **__: pytest.fail("it starts"))
    fields = [field.name for field in dataclasses.fields(TrainingConfig)]
    for name in ("seeds", "seed", *fields):
        flag = f"--{name.replace('_', '-')}"
        for value in ("x", "1.5", "nan", "-1", str(2**32), "9" * 30, ""):
            answers.ask("command line", f"{flag} {value}", lambda: main([flag, value]))
    for flag in ("--eval-episodes", "--method.num-envs", "--env.time-limit", "--total-steps"):
        answers.ask("command line, memory and counters", flag, lambda: main([flag, "2147483647"]))


# Files.


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every file, but nothing was trained."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run = RunDirectory(Path(tiny.untrained(folder, "iac", "turn", 2)))
    names = ("eval_return_mean", "eval_sampled_return_mean", "train_seconds")
    steps = {0: 20, 1: 20}
    run.append([{"seed": s, "env_steps": n, **dict.fromkeys(names, 0.5)} for s, n in steps.items()])
    episodes = {"return": [0.5], "sampled_return": [0.5]}
    run.add_results({s: {"step_1": {"step_count": n, **episodes}} for s, n in steps.items()})
    run.write_failures({1: "loss became nan"})
    return folder


@pytest.fixture(scope="module")
def like(whole: Path) -> RunState:
    return loading.make_trainer(RunDirectory(whole).settings()).abstract_state()


def damages(content: bytes) -> dict[str, bytes | None]:
    """By name, what may become of a file; None if it is gone."""
    found: dict[str, bytes | None] = {
        "missing": None,
        "empty": b"",
        "cut": content[: len(content) // 2],
        "cut at its end": content[:-1],
        "no text": b"\xff\x00\xfe",
    }
    shapes = ["[]", "3", "null", '"x"', "{}", '{"a": 1}', "seed,env_steps\r\n0,x\r\n", "a\r\n1\r\n"]
    found |= {f"wrong shape {i}": shape.encode() for i, shape in enumerate(shapes)}
    with contextlib.suppress(ValueError):
        record = json.loads(content)
        for key in record:
            for other in (None, [], {}, "x", -1, [1], {"x": [1]}, math.nan):
                changed = json.dumps({**record, key: other}).encode()
                found[f"{key} is {other}"] = changed
    return found


def read(folder: Path, like: RunState) -> dict[str, Callable[[], Any]]:
    """All that reads a run, without making its task and method each time."""
    directory = RunDirectory.open(folder)
    return {
        "settings": directory.settings,
        "rows": directory.rows,
        "curve": directory.curve,
        "results": directory.read_results,
        "finished": directory.finished,
        "failures": directory.failures,
        "headline": directory.headline_column,
        "newest": lambda: directory.checkpoints.restore_newest(like),
        "kept": lambda: directory.keep_measurements({0: 20, 1: 20}),
        "command": lambda: directory.resume_command(7),
    }


FILES = {
    "config.json": ("open", "settings", "results", "headline", "command"),
    "metrics.csv": ("rows", "curve", "kept"),
    "results.json": ("results", "finished", "kept"),
    "failures.json": ("failures", "curve"),
    "checkpoints/0/digest.json": ("newest", "command"),
}
"""By file of a run, what reads it."""


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_a_run(
    answers: Answers, whole: Path, like: RunState, tmp_path: Path, name: str
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    folder, content = tmp_path / "run", (whole / name).read_bytes()
    for damage, changed in damages(content).items():
        kind = "file, wrong value" if " is " in damage else f"file, {damage.rstrip(' 0123456789')}"
        for reader in FILES[name]:
            if changed is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_bytes(changed)

            def call(reader: str = reader) -> None:
                found = {"open": lambda: None} | read(folder, like)
                found[reader]()

            answers.ask(kind, f"{name} {damage}: {reader}", call, refused=False)


@pytest.mark.slow
def test_every_file_of_a_checkpoint(
    answers: Answers, whole: Path, like: RunState, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    checkpoints = RunDirectory(tmp_path / "run").checkpoints
    for file in sorted((tmp_path / "run" / "checkpoints" / "0" / "state").rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            for changed in (None, b"", content[: len(content) // 2], b"[]"):
                if changed == content:
                    continue
                file.unlink() if changed is None else file.write_bytes(changed)
                answers.ask(
                    "file of a checkpoint", str(file), lambda: checkpoints.restore_newest(like)
                )
            file.write_bytes(content)
    assert checkpoints.restore_newest(like)[0] == 0
    (tmp_path / "run" / "checkpoints" / "²").mkdir()
    (tmp_path / "run" / "checkpoints" / "²" / "digest.json").write_text("{}")
    assert checkpoints.steps() == [0]


# Parameters.

NONSENSE: list[Any] = [
    object(),
    1.5,
    -1,
    True,
    math.nan,
    10**5000,
    b"x",
    "x",
    "",
    "a\nb",
    "\0",
    [],
    [1],
    ["x"],
    {},
    {1: 2},
    set(),
    int,
    np.zeros(3),
    np.array(["x"]),
    np.float32("nan"),
    jax.numpy.zeros(2),
    lambda: None,
]


def nonsense(*fine: Any) -> list[Any]:
    """Values of every type, but for those that are fine."""
    return [
        x
        for x in NONSENSE
        if not any(type(x) is type(y) and (not isinstance(x, int | str) or x == y) for y in fine)
    ]


PATHS = ("x", "", "a\nb", b"x")
"""What may be a path, or has a sentence of its own."""


def test_every_parameter_of_training(
    answers: Answers, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: Any, **__: Any) -> None:
        raise Started

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "run_training", start)
    monkeypatch.setattr(api, "check_settings", lambda _: None)
    fine = {"method": "iac", "env": "turn", "out": str(tmp_path / "run")}
    by_name: dict[str, list[Any]] = {
        "method": nonsense(),
        "env": nonsense(),
        "seeds": [*nonsense(), 0, 2**33, None],
        "seed": [*nonsense(), 2**32],
        "total_steps": [*nonsense(), 0, 2**31],
        "out": nonsense("x", "a\nb"),
        "training_options": nonsense({}),
        "method_options": nonsense({}),
        "env_options": nonsense({}),
        "preset": nonsense(),
        "progress": nonsense(True),
    }
    for name, values in by_name.items():
        for value in values:
            answers.ask(
                "parameter of train",
                f"{name} = {shown(value)}",
                lambda: marl_jax.train(**{**fine, name: value}),
            )
    assert not (tmp_path / "run").exists()
    for value in [*nonsense("x"), "x"]:
        answers.ask("parameter of resume", f"run = {shown(value)}", lambda: marl_jax.resume(value))
        for of_run in (marl_jax.load, marl_jax.load_policy, marl_jax.load_team):
            answers.ask("parameter of load", f"run = {shown(value)}", lambda: of_run(value))
        if not isinstance(value, str):
            answers.ask(
                "parameter of resume",
                f"total_steps = {shown(value)}",
                lambda: marl_jax.resume(whole, value),
            )


def test_every_parameter_of_environments(answers: Answers) -> None:
    env = envs.make("turn")
    state, _ = env.reset(jax.random.key(0))
    for value in nonsense():
        answers.ask("parameter of make", f"name = {shown(value)}", lambda: envs.make(value))
        answers.ask(
            "parameter of make",
            f"time_limit = {shown(value)}",
            lambda: envs.make("turn", time_limit=value),
        )
        answers.ask(
            "parameter of animate", f"path = {shown(value)}", lambda: env.animate([state], value)
        )
    for name in ("a.mp4", "a.png", "a", "nowhere/a.gif", "~nobody-of-that-name/a.gif"):
        answers.ask("parameter of animate", name, lambda: env.animate([state], name))


def test_every_parameter_of_policies(answers: Answers, whole: Path) -> None:
    team = marl_jax.load(whole)
    policy = loading.policy_of(*team)
    _, first = policy.env.reset(jax.random.key(0))
    seen = jax.tree.map(lambda x: x[None], first.observation)
    memory = policy.initial_memory()
    keys = jax.random.split(jax.random.key(0), 2)
    calls: dict[str, tuple[list[Any], Callable[[Any], Any]]] = {
        "play, key": ([*nonsense(), keys, 2**32], lambda x: policy.play(x, 1)),
        "play, num_episodes": ([*nonsense(), 0, 2**31, 10**9], lambda x: policy.play(0, x)),
        "play, explore": (nonsense(True), lambda x: policy.play(0, 1, x)),
        "initial_memory, num_envs": ([*nonsense(), 0], policy.initial_memory),
        "initial_memory, key": (nonsense(), lambda x: policy.initial_memory(1, x)),
        "call, observation": ([*nonsense(), first.observation], lambda x: policy(x, memory)),
        "call, memory": ([*nonsense(), policy.initial_memory(2)], lambda x: policy(seen, x)),
        "call, key": (nonsense(), lambda x: policy(seen, memory, x)),
        "call, explore": (nonsense(True), lambda x: policy(seen, memory, 0, x)),
        "episode, key": (nonsense(), policy.episode),
        "states, key": (nonsense(), lambda x: policy.states(x, policy.play(0, 1)[0])),
        "states, batch": (nonsense(), lambda x: policy.states(0, x)),
        "render, path": ([*nonsense(), "a.mp4"], policy.render),
        "policy, seed": ([*nonsense(), 2], lambda x: loading.policy_of(*team, x)),
        "load_policy, checkpoint": (
            [*nonsense(), 7],
            lambda x: marl_jax.load_policy(whole, checkpoint=x),
        ),
        "curve, column": (nonsense(), RunDirectory(whole).curve),
    }
    for name, (values, call) in calls.items():
        for value in values:
            answers.ask("parameter of a policy", f"{name} = {shown(value)}", lambda: call(value))
