"""Runs that differ in numbers alone, such as a learning rate, and are trained by one compiled program."""

import dataclasses
import typing
from collections.abc import Sequence

import jax

from envs.configuration import ConfigurationError
from marl_jax.loading import make_trainer
from marl_jax.runtime import several_processes
from marl_jax.settings import RunSettings


def groups(runs: Sequence[RunSettings]) -> list[list[int]]:
    """Which runs can be trained by one program, by their places, in the order of the first of each group.

    Runs of a group differ in numbers among their methods' options. Options by whose values a method decides what it
    computes are the same in all of them: the program is traced to find these.
    """
    found = []
    for group in _alike(runs, _numbers(runs)):
        several = [runs[i] for i in group]
        found += [[group[i] for i in own] for own in _alike(several, _traced(several))]
    return sorted(found)


def refuse_separate(runs: Sequence[RunSettings]) -> None:
    """Refuses runs that need more than one program, or whose program would run in several processes.

    Raises:
        ConfigurationError: if they do.
    """
    if several_processes():
        raise ConfigurationError(
            f"{len(runs)} choices are to be trained by several processes; it must be one process."
        )
    if len(groups(runs)) > 1:
        names = sorted(_differing(runs) - _traced(runs))
        raise ConfigurationError(
            f"{', '.join(names)} has several values, of which each needs a program of its own; only "
            f"numbers by which {runs[0].method} does not decide what it computes can be searched together."
        )


def _alike(runs: Sequence[RunSettings], names: set[str]) -> list[list[int]]:
    """The places of runs that are alike but for some options of the method."""
    found: dict[RunSettings, list[int]] = {}
    for index, run in enumerate(runs):
        same = {name: getattr(runs[0].method_options, name) for name in names}
        options = dataclasses.replace(run.method_options, **same)
        found.setdefault(dataclasses.replace(run, method_options=options), []).append(index)
    return list(found.values())


def _differing(runs: Sequence[RunSettings]) -> set[str]:
    """The options of the method that are not the same in all runs."""
    values = [vars(run.method_options) for run in runs]
    return {name for name in values[0] if any(own[name] != values[0][name] for own in values)}


def _numbers(runs: Sequence[RunSettings]) -> set[str]:
    """Those of them that are numbers with a fraction."""
    hints = typing.get_type_hints(type(runs[0].method_options))
    return {
        name
        for name in _differing(runs)
        if float in (hints[name], *typing.get_args(hints[name]))
        and all(getattr(run.method_options, name) is not None for run in runs)
    }


def _traced(runs: Sequence[RunSettings]) -> set[str]:
    """Those of them that a program can be given, in runs that are alike but for numbers."""
    names = _numbers(runs)
    if not names or _can_be_given(runs, names):
        return names
    return {name for name in names if _can_be_given(runs, {name})}


def _can_be_given(runs: Sequence[RunSettings], names: set[str]) -> bool:
    """Whether a program can be traced that is given these options."""
    choices = {name: tuple(getattr(run.method_options, name) for run in runs) for name in names}
    trainer = dataclasses.replace(make_trainer(runs[0]), choices=choices)
    try:
        given = (trainer.abstract_state(), trainer.everyone, trainer.row_options)
        jax.eval_shape(trainer.train_chunk, *given)
    except TypeError:  # its value was asked for
        return False
    return True
