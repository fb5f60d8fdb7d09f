"""What the command lines share: parsing whose errors are one sentence, and an entry point without tracebacks for a
user's mistake."""

import ast
import contextlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import jax
import numpy as np
import tyro
from numpy.typing import NDArray

from envs.files import user_path
from experiments import startup
from marl_jax import ConfigurationError, teams
from marl_jax.interrupts import BESIDE
from marl_jax.loading import Checkpoint, load, load_team, policy_of
from marl_jax.policy import Policy
from marl_jax.runtime import several_processes
from marl_jax.settings import SECTIONS, RunSettings
from marl_jax.types import EpisodeBatch

T = TypeVar("T")

PROGRAM = "marl-jax"
"""The console command, see `experiments/console.py`."""

_KINDS = {"INT": "a whole number", "FLOAT": "a number", "INT [INT ...]": "whole numbers"}


def called(script: str) -> str:
    """What to type for an entry point in the way in which the user called this one: as a script, or by `marl-jax`."""
    name = sys.argv[0]
    return name if name.startswith(f"{PROGRAM} ") else f"python experiments/{script}"


def fail(sentence: str) -> NoReturn:
    """Says what is wrong and exits with status 2."""
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def parse(kind: type[T], description: str, arguments: Sequence[str] | None = None) -> T:
    """Parses the command line into the dataclass `kind`; a wrong one gets one sentence and status 2."""
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(kind, args=arguments, description=description)
    except SystemExit as stopped:
        if stopped.code in (0, None):
            raise
        fail(_one_sentence(captured.getvalue()))


def _one_sentence(report: str) -> str:
    """Tyro's framed report as one sentence that says what is wrong and what is allowed."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in report.splitlines()]
    lines = [line for line in lines if line and not line.startswith("─ ")]
    # A rule of dashes ends the sentence. Without box characters (another encoding) the title has one too.
    rules = [i for i, line in enumerate(lines) if set(line) <= set("─-")] or [len(lines)]
    begin, end = (0, rules[0]) if "╭" in report or len(rules) == 1 else (rules[0] + 1, rules[1])
    sentence = " ".join(lines[begin:end]).rstrip(".")
    flags = [line for line in lines[end:] if line.startswith("--") and set(line) != {"-"}]
    # What a configuration itself refuses is a sentence already.
    refused = re.match(r"Error parsing \S+: (.* is .*; it must .*)$", sentence)
    if refused:
        return f"{refused[1]}."
    value = re.match(r"Error parsing (\S+): .*?('[^']*')$", sentence)
    if value and flags:
        kind = flags[0].split(" ", 1)[-1]
        return f"{value[1]} is {value[2]}; it must be {_KINDS.get(kind, kind)}."
    if flags and "Unrecognized" in sentence:
        return f"{sentence}; did you mean {flags[0].split()[0]}? --help lists all options."
    return f"{sentence}; --help lists all options."


def pair(method: str, backbone: str | None) -> str:
    """The name of what is trained, from --method and --backbone; in both a dash is an underscore.

    Raises:
        ConfigurationError: if both name a backbone.
    """
    method = method.replace("-", "_")
    if backbone is None:
        return method
    if "@" in method:
        raise ConfigurationError(
            f"--backbone is {backbone}, and --method is {method}; one of them may name the backbone."
        )
    return f"{method}@{backbone.replace('-', '_')}"


def option_value(text: str) -> Any:
    """A number or a truth value; anything else is a name."""
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def named_values(flag: str, entries: Sequence[str]) -> dict[str, Any]:
    """Values by name, of entries NAME=VALUE.

    Raises:
        ConfigurationError: if one is none.
    """
    for entry in entries:
        if not all(entry.partition("=")):
            raise ConfigurationError(f"{flag} has {entry!r}; each must be NAME=VALUE.")
    pairs = (entry.split("=", 1) for entry in entries)
    return {name: option_value(text) for name, text in pairs}


def option_sections(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options by section: "env.size" is the task's, "part.liir.intrinsic_weight" a part's, "lr" the method's."""
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in options.items():
        section, _, option = name.rpartition(".")
        sections.setdefault(section or "method", {})[option] = value
    return sections


def picture(name: str, runs: Sequence[str], episodes: int) -> Path:
    """The path of a picture of some runs, beside which tables go; checks what such commands are asked for.

    Raises:
        ConfigurationError: if there is no run or no episode to draw, or it is no picture.
    """
    if not runs:
        raise ConfigurationError("no run is given; name one or more folders of runs.")
    if episodes < 1:
        raise ConfigurationError(f"--episodes is {episodes}; it must be at least 1.")
    from matplotlib.backend_bases import FigureCanvasBase

    target = user_path("--out", name)
    formats = FigureCanvasBase.get_supported_filetypes()
    if target.suffix.lower().lstrip(".") not in formats or not target.parent.is_dir():
        raise ConfigurationError(
            f"--out is {target}; it must be a picture such as out.png in a folder that exists."
        )
    return target


def labels(methods: Sequence[str], folders: Sequence[str]) -> list[str]:
    """What a picture calls runs: by their methods; where those are alike, by the folders' names too, or their paths."""
    names = [
        method if methods.count(method) == 1 else f"{method} ({Path(folder).resolve().name})"
        for method, folder in zip(methods, folders, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{method} ({folder})"
        for name, method, folder in zip(names, methods, folders, strict=True)
    ]


def refuse_unknown(flag: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuses names that are not among those allowed.

    Raises:
        ConfigurationError: if one is not.
    """
    known = list(allowed)
    for name in given:
        if name not in known:
            raise ConfigurationError(
                f"{flag} has {name!r}; each must be one of {', '.join(known)}."
            )


def refuse_different_tasks(runs: Sequence[str], settings: Sequence[RunSettings]) -> None:
    """Runs are compared on one task.

    Args:
        runs: folders.
        settings: of each of them.

    Raises:
        ConfigurationError: if one is on another task than the first, or on the same with other options.
    """
    for name, other in zip(runs, settings, strict=True):
        if (other.env, other.env_options) != (settings[0].env, settings[0].env_options):
            same = " with other options" if other.env == settings[0].env else ""
            raise ConfigurationError(
                f"{name} is a run on {other.env}{same} and {runs[0]} one on {settings[0].env}; all runs must be on one "
                "task."
            )


def policies(
    name: str, seed: int | None = None, checkpoint: Checkpoint = None
) -> dict[int, Policy]:
    """By seed, the teams of a run, or one team.

    Args:
        name: the folder of a run, or a team: its file, or the name of one that comes with the library.
        seed: only this one; all of a run's if None.
        checkpoint: which of a run's, see `load`.

    Raises:
        ConfigurationError: if there is no such run or team, or it lacks the seed or checkpoint.
    """
    path = user_path("run", name)
    if not path.is_dir() and (name in teams.names() or path.is_file()):
        team = load_team(name)
        own = team.settings.seed
        if seed not in (None, own) or checkpoint is not None:
            raise ConfigurationError(
                f"{name} is one team; it has seed {own} and no other, and no checkpoints."
            )
        return {own: team}
    trainer, state, settings = load(name, checkpoint)
    seeds = range(settings.seed, settings.seed + settings.seeds) if seed is None else [seed]
    return {one: policy_of(trainer, state, settings, one) for one in seeds}


class Team(NamedTuple):
    """What was trained in a run.

    Attributes:
        folder: of the run, or the team, as it was named.
        method: name of the method.
        policy: one seed's.
    """

    folder: str
    method: str
    policy: Policy


def load_teams(runs: Sequence[str], seed: int | None) -> dict[str, Team]:
    """By label, the team of each run; all must be on one task.

    Args:
        runs: folders of runs, or teams.
        seed: whose team; each run's first if None.

    Raises:
        ConfigurationError: if a run cannot be loaded, lacks the seed or is on another task.
    """
    found = [next(iter(policies(name, seed).values())) for name in runs]
    refuse_different_tasks(runs, [policy.settings for policy in found])
    methods = [policy.settings.method for policy in found]
    by_run = [Team(*each) for each in zip(runs, methods, found, strict=True)]
    return dict(zip(labels(methods, runs), by_run, strict=True))


def cells(policy: Policy, key: jax.Array, batch: EpisodeBatch) -> NDArray[np.integer[Any]] | None:
    """Row and column of each agent along the episodes that a policy has played with a key.

    Returns:
        [T+1, B, N, 2]; None where agents have no cells.
    """
    state, _ = jax.eval_shape(policy.env.reset, key)
    here = getattr(state, "positions", key)
    if here.shape != (batch.num_agents, 2) or not np.issubdtype(here.dtype, np.integer):
        return None
    return np.asarray(policy.states(key, batch).positions)


@contextlib.contextmanager
def writing(path: object, flag: str) -> Iterator[None]:
    """Around the writing of a user's file: what the system or the format refuses becomes one sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"cannot write {path} ({error}); give {flag} a file that can be written."
        ) from error


def run(main: Callable[[], int]) -> NoReturn:
    """Exits with what `main` returns; a `ConfigurationError` becomes one sentence and status 2."""
    if signal.getsignal(signal.SIGINT) is startup.interrupted:
        # What is imported by now can tidy up.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = main()
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
        if several_processes():
            # Python would wait for the others, which may have ended.
            _exit_at_once(status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
        if any(thread.name == BESIDE for thread in threading.enumerate()):
            # A compiled program cannot be stopped, and Python would wait for its end.
            _exit_at_once(status)
    except BrokenPipeError:
        # Whoever read the output has left. Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    raise SystemExit(status)


def _exit_at_once(status: int) -> NoReturn:
    """Ends the program without tidying up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
