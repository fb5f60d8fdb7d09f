"""Train, from Python. The command line in `experiments/` is a thin layer over this."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from envs import own_classes
from envs.base import MultiAgentEnv
from envs.configuration import ConfigurationError, plain, shown
from envs.registry import describe
from marl_jax.choices import refuse_separate
from marl_jax.limits import check_settings
from marl_jax.loop import Assignment, TrainResult, display, run_together, run_training
from marl_jax.methods.team import TeamMethod
from marl_jax.progress import Progress
from marl_jax.runs import RunDirectory
from marl_jax.settings import (
    PART,
    RunSettings,
    environment_record,
    make_settings,
    options_of,
)
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
        ConfigurationError: if a name or value is not allowed, `out` not writable, memory short or a package missing.
    """
    chosen, shown = make_trackers(trackers), display(progress)
    settings = _settings(
        method,
        env,
        seeds,
        seed=seed,
        total_steps=total_steps,
        training_options=training_options,
        method_options=method_options,
        part_options=part_options,
        env_options=env_options,
        preset=preset,
        init_from=init_from,
    )
    check_settings(settings)
    directory = None if out is None else RunDirectory.create(settings, environment_record(), out)
    return run_training(settings, directory, shown, trackers=chosen)


def search(
    method: str | type[TeamMethod],
    env: str | MultiAgentEnv[Any],
    grid: Mapping[str, Sequence[float]],
    seeds: int = 4,
    *,
    out: str | None = None,
    progress: Progress | bool = True,
    **options: Any,
) -> list[TrainResult]:
    """Trains `seeds` teams for each choice of numbers in a grid, all of them side by side by one compiled program.

    >>> results = marl_jax.search("qmix", "turn", {"lr": [1e-4, 3e-4, 1e-3]}, total_steps=100_000)

    Args:
        method: as for `train`.
        env: as for `train`.
        grid: by option of the method, the numbers to try. They may not decide what the method computes.
        seeds: how many seeds of each choice.
        out: folder for the runs `000`, `001`, ...; nothing is written to disk if None.
        progress: as for `train`.
        **options: as for `train`, but for `trackers`.

    Returns:
        What `train` gives for each choice, the last option of the grid changing first. Each is as if it had been
        trained alone, but for the rounding of sums and products of its numbers.

    Raises:
        ConfigurationError: as `train`; or if an option needs a program for each of its values.
    """
    own = _given("method", options.pop("method_options", None))
    numbers = {name: plain(values) for name, values in grid.items()}
    for name, values in numbers.items():
        if not isinstance(values, tuple) or not values or len(set(values)) < len(values):
            raise ConfigurationError(
                f"grid has {shown(values)} for {name}; it must be a list of numbers, each named once."
            )
    choices = [
        dict(zip(numbers, each, strict=True)) for each in itertools.product(*numbers.values())
    ]
    settings = [
        _settings(method, env, seeds, method_options=own | choice, **options) for choice in choices
    ]
    refuse_separate(settings)
    check_settings(*settings)
    progress = display(progress)
    directories: list[RunDirectory | None] = [None] * len(settings)
    if out is not None:
        directories = [
            RunDirectory.create(one, environment_record(), f"{out}/{number:03d}")
            for number, one in enumerate(settings)
        ]
    return run_together(
        [Assignment(*run) for run in zip(settings, directories, strict=True)], progress
    )


def _settings(
    method: str | type[TeamMethod],
    env: str | MultiAgentEnv[Any],
    seeds: int,
    *,
    seed: int = 0,
    total_steps: int | None = None,
    training_options: Mapping[str, Any] | None = None,
    method_options: Mapping[str, Any] | None = None,
    part_options: Mapping[str, Mapping[str, Any]] | None = None,
    env_options: Mapping[str, Any] | None = None,
    preset: str | None = None,
    init_from: str | Path | None = None,
) -> RunSettings:
    """What the arguments of `train` come to."""
    name = own_classes.name_of(method) if isinstance(method, type) else method
    task, of_task = _named(env, env_options)
    training = _given("training", training_options)
    if total_steps is not None:
        training["total_steps"] = total_steps
    options = {"training": training, "method": _given("method", method_options), "env": of_task}
    options |= {f"{PART}{part}": own for part, own in _given("part", part_options).items()}
    start = None if init_from is None else str(init_from)
    return make_settings(name, task, seeds, seed, options, preset=preset, init_from=start)


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
