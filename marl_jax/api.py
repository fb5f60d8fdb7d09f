"""Train, from Python. The command line in `experiments/` is a thin layer over this."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from envs import own_classes
from envs.base import MultiAgentEnv
from envs.configuration import ConfigurationError
from envs.registry import describe
from marl_jax.limits import check_settings
from marl_jax.loop import TrainResult, display, run_training
from marl_jax.methods.team import TeamMethod
from marl_jax.progress import Progress
from marl_jax.runs import RunDirectory
from marl_jax.settings import PART, environment_record, make_settings, options_of
from marl_jax.trackers import Log, Tracker, make_trackers


def train(
    method: str | type[TeamMethod],
    env: str | MultiAgentEnv[Any],
    seeds: int = 16,
    *,
    seed: int = 0,
    total_steps: int | None = None,
    out: str | None = None,
    training_options: Mapping[str, Any] | None = None,
    method_options: Mapping[str, Any] | None = None,
    part_options: Mapping[str, Mapping[str, Any]] | None = None,
    env_options: Mapping[str, Any] | None = None,
    preset: str | None = None,
    init_from: str | Path | None = None,
    progress: Progress | bool = True,
    trackers: Iterable[str | Tracker | Log] = (),
) -> TrainResult:
    """Trains `seeds` teams side by side.

    >>> result = marl_jax.train(method="liir", env="turn", seeds=4, total_steps=100_000)

    Args:
        method: name of the method, `package.module:Class` or class for one of your own.
        env: name of the task, `package.module:Class` for one of your own; or an environment, whose class must stand at
            the top level of a module, script or notebook.
        seeds: how many seeds.
        seed: the first of them.
        total_steps: environment steps for each seed; the task's default if None.
        out: folder for the run; nothing is written to disk if None.
        training_options: fields of `TrainingConfig`.
        method_options: fields of the method's `Config`.
        part_options: by the name of a part of the method, its options; needed where two parts have one of one name.
        env_options: fields of the task's `Config`.
        preset: name of a set of options, which those given here override.
        init_from: folder of a run whose teams these start from, or a team's file or name (`load_team`). They take over
            networks and what parts have learned; optimisers, schedules and counts begin anew.
        progress: a display, or whether to show the default one.
        trackers: where the numbers go while it trains: "tensorboard", "wandb", a `marl_jax.trackers.Tracker`, or a
            function of a seed, its environment steps and its numbers by name.

    Raises:
        ConfigurationError: if a name is unknown, a value is not allowed, `out` cannot be written, there is not memory
            enough or a tracker's package is missing.
    """
    name = own_classes.name_of(method) if isinstance(method, type) else method
    task, of_task = _named(env, env_options)
    chosen = make_trackers(trackers)
    training = _given("training", training_options)
    if total_steps is not None:
        training["total_steps"] = total_steps
    options = {"training": training, "method": _given("method", method_options), "env": of_task}
    options |= {f"{PART}{part}": own for part, own in _given("part", part_options).items()}
    start = None if init_from is None else str(init_from)
    settings = make_settings(name, task, seeds, seed, options, preset=preset, init_from=start)
    check_settings(settings)
    progress = display(progress)
    directory = None
    if out is not None:
        directory = RunDirectory.create(settings, environment_record(), out)
    return run_training(settings, directory, progress, trackers=chosen)


def _given(section: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """A section's options; none if None."""
    return {} if options is None else options_of(section, options)


def _named(
    env: str | MultiAgentEnv[Any], options: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """The name and the options of a task, which may be given as an environment."""
    if not isinstance(env, MultiAgentEnv):
        return env, _given("env", options)
    if options:
        raise ConfigurationError(
            "env_options is given with an environment; give its options where it is made."
        )
    name, own = describe(env)
    return name, dict(own)


def resume(
    run: str | Path,
    total_steps: int | None = None,
    progress: Progress | bool = True,
    trackers: Iterable[str | Tracker | Log] = (),
) -> TrainResult:
    """Goes on with a run from its last checkpoint, bit for bit as if it had never stopped.

    Args:
        run: folder of the run.
        total_steps: a new budget for each seed; the run's own if None.
        progress: a display, or whether to show the default one.
        trackers: as for `train`; their series go on where they were.

    Raises:
        ConfigurationError: if the folder is not a run, its checkpoint is damaged, there is not memory enough or a
            tracker's package is missing.
    """
    chosen = make_trackers(trackers)
    directory = RunDirectory.open(run)
    settings = directory.settings()
    if total_steps is not None:
        training = dataclasses.replace(settings.training, total_steps=total_steps)
        settings = dataclasses.replace(settings, training=training)
    return run_training(settings, directory, progress, resumed=True, trackers=chosen)
