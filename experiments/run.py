"""Trains a method on a task: `python experiments/run.py --method liir --env turn --seeds 16`."""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import argparse
import dataclasses
import itertools
import sys
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import jax
import tyro

import envs
from envs.configuration import Range
from envs.registry import summary
from experiments import command
from marl_jax import ConfigurationError, methods
from marl_jax.limits import check_settings
from marl_jax.loop import run_training
from marl_jax.runs import RunDirectory
from marl_jax.runtime import from_writer, several_processes, writes
from marl_jax.settings import RunSettings, environment_record, make_settings, preset_descriptions
from marl_jax.trackers import make_trackers

DESCRIPTION = """Trains a method on a task, many seeds at once.

A run goes to runs/ENV/METHOD/STAMP: its configuration, metrics.csv, learning curve and checkpoints. Ctrl-C stops it
after the current chunk; --resume goes on. Options of the method are --method.NAME, those of its parts --part.PART.NAME
(--method.NAME too if no two have that name), options of the task --env.NAME; this page shows those of the method and
task named on the command line (liir and turn if none are), with the defaults of the preset if one is named, which takes
the place of one that the task asks for."""

DEFAULTS = ("liir", "turn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    first = _first_look(arguments)
    if first.list:
        print(_listing())
        return 0
    _check_processes(first)
    trackers = make_trackers(first.track or ())
    if first.resume is not None:
        run = RunDirectory.open(first.resume)
        settings = _settings(arguments, run.settings())[0]
        _refuse_difference(run, settings)
        from_writer(run.latest_checkpoint)
        result = run_training(settings, run, resumed=True, trackers=trackers)
    else:
        for name, value, allowed in (
            ("--method", first.method, methods.names()),
            ("--env", first.env, envs.names()),
        ):
            if value is None and not _helps(arguments):
                raise ConfigurationError(f"{name} is missing; choose from: {', '.join(allowed)}.")
        method, env = first.method or DEFAULTS[0], first.env or DEFAULTS[1]
        if first.backbone is not None:
            method = command.pair(method, first.backbone)
        preset = first.preset if first.method else None
        base = make_settings(method, env, 16, 0, preset=preset)
        settings, out = _settings(arguments, base)
        # The preset's learner, if it puts one in the method's place.
        settings = dataclasses.replace(settings, method=base.method)
        check_settings(settings)
        run = RunDirectory.create(settings, environment_record(), out)
        result = run_training(settings, run, trackers=trackers)
    if result.interrupted:
        on = run.resume_command(settings.training.total_steps, command.called("run.py"))
        tracked = "".join(f" --track {name}" for name in first.track or ())
        together = " --distributed" * several_processes()
        if writes():
            print(f"go on with: {on}{tracked}{together}")
        return 130
    return 1 if result.failures else 0


def _first_look(arguments: Sequence[str]) -> argparse.Namespace:
    """What decides which options there are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--method", type=_underscores)
    parser.add_argument("--backbone", type=_underscores)
    for name in ("--env", "--preset", "--resume", "--coordinator", "--processes", "--process"):
        parser.add_argument(name)
    parser.add_argument("--track", action="append")
    for name in ("--list", "--distributed"):
        parser.add_argument(name, action="store_true")
    try:
        return parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError as error:
        raise ConfigurationError(f"{error}; --help lists all options.") from error


def _settings(arguments: Sequence[str], base: RunSettings) -> tuple[RunSettings, str | None]:
    """The settings `base` with the command line's values, and the folder for the run if one is given."""
    config: Any = base.method_options
    hidden = methods.recipe(base.method).fixed if _helps(arguments) else None
    of_backbone, of_parts = _flags(config, hidden)

    @dataclasses.dataclass
    class Run:
        """Command line of a run."""

        method: str = base.method
        """Method to train, or its part for a backbone of your choice, or several (liir+roma); --list shows them."""
        backbone: str | None = None
        """Backbone to put the method's part on, in place of its own; --list shows the pairs."""
        env: str = base.env
        """Task to train on; --list shows them, package.module:Class is one of your own."""
        preset: Annotated[str | None, tyro.conf.arg(help=_preset_help())] = None
        seeds: int = base.seeds
        """How many seeds."""
        seed: int = base.seed
        """The first seed; the others follow it."""
        out: str | None = None
        """Folder for the run, new or empty; runs/ENV/METHOD/STAMP if not given."""
        resume: str | None = None
        """Folder of a run to go on with. Only --total-steps may differ from it."""
        init_from: str | None = base.init_from
        """Run whose teams these start from, or a team's file or name; networks and task must have the same sizes."""
        track: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
        """Sends the numbers of each seed elsewhere too while it trains: tensorboard or wandb; may be given twice."""
        distributed: bool = False
        """Trains on the devices of several processes, each started with the same options. They find each other as JAX
        does (SLURM, Open MPI, TPU, Kubernetes), or by the next three."""
        coordinator: str | None = None
        """HOST:PORT at which process 0 can be reached."""
        processes: int | None = None
        """How many processes there are."""
        process: int | None = None
        """The number of this one, from 0."""
        list: bool = False
        """Shows the methods and tasks, and exits."""
        training: Annotated[Any, tyro.conf.arg(name="", constructor=type(base.training))] = (
            base.training
        )
        method_options: Annotated[
            Any, tyro.conf.arg(name="method", constructor=type(of_backbone))
        ] = of_backbone
        part: Annotated[Any, tyro.conf.arg(constructor=type(of_parts))] = of_parts
        env_options: Annotated[
            Any, tyro.conf.arg(name="env", constructor=type(base.env_options))
        ] = base.env_options

    return _as_settings(command.parse(Run, DESCRIPTION, _by_part(arguments, config)), config)


def _as_settings(args: Any, config: Any) -> tuple[RunSettings, str | None]:
    """What the command line says as settings, and the folder for the run if one is given.

    Args:
        args: its values.
        config: the method's options before, which know whose option stands in which field.

    Raises:
        ConfigurationError: if a run that goes on is given another folder or a preset.
    """
    if args.resume is not None and args.out is not None:
        raise ConfigurationError("--out is given with --resume; a resumed run stays in its folder.")
    if args.resume is not None and args.preset is not None:
        raise ConfigurationError(
            "--preset is given with --resume; a resumed run keeps its options."
        )
    values = vars(args.method_options)
    for name, own in vars(args.part).items():
        values |= {config.parts[name].fields[option]: x for option, x in vars(own).items()}
    args.method_options = type(config)(**values)
    args.method = command.pair(args.method, args.backbone)
    names = [field.name for field in dataclasses.fields(RunSettings)]
    return RunSettings(**{name: getattr(args, name) for name in names}), args.out


def _helps(arguments: Sequence[str]) -> bool:
    """Whether they ask for help."""
    return bool({"-h", "--help"} & set(arguments))


def _flags(config: Any, hidden: Collection[str] | None) -> tuple[Any, Any]:
    """A method's options as the command line has them: the backbone's, and those of each part.

    Where they are shown, those with one legal value are not, nor any that are to be `hidden`; None: they are not shown.
    """

    def made(kind: Any, values: Any) -> Any:
        return (kind if hidden is None else _without_fixed(kind, hidden))(**values)

    kind: Any = type(config).__base__ if config.parts else type(config)
    backbone = made(
        kind, {field.name: getattr(config, field.name) for field in dataclasses.fields(kind)}
    )
    own = {
        name: made(part.kind, vars(config.of_part(name)))
        for name, part in config.parts.items()
        if part.fields
    }
    fields = [(name, type(options)) for name, options in own.items()]
    return backbone, dataclasses.make_dataclass("Parts", fields, frozen=True)(**own)


def _without_fixed(kind: Any, others: Collection[str]) -> Any:
    """A class of options, of which those with one legal value are hidden, and others."""
    hints = get_type_hints(kind, include_extras=True)

    def is_fixed(hint: Any) -> bool:
        bounds = [x for x in getattr(hint, "__metadata__", ()) if isinstance(x, Range)]
        if any(x.minimum is not None and x.minimum == x.maximum for x in bounds):
            return True
        return hint == tuple[()] or (get_origin(hint) is Literal and len(get_args(hint)) == 1)

    fixed = [
        (f.name, Annotated[hints[f.name], tyro.conf.Suppress], dataclasses.field(default=f.default))
        for f in dataclasses.fields(kind)
        if f.name in others or is_fixed(hints[f.name])
    ]
    return dataclasses.make_dataclass(kind.__name__, fixed, bases=(kind,), frozen=True)


def _by_part(arguments: Sequence[str], config: Any) -> list[str]:
    """The arguments with `--part.PART.NAME` in place of `--method.NAME` for the options of parts.

    Raises:
        ConfigurationError: if the option of one part alone is meant, and two have it.
    """
    flags: dict[str, set[str]] = {}
    for name, part in config.parts.items():
        for option, field in part.fields.items():
            # The backbone's options keep their names.
            names = {field} if hasattr(config, option) else {field, option}
            for known, no in itertools.product(names, ("", "no_")):
                flags.setdefault(f"--method.{no}{known}", set()).add(f"--part.{name}.{no}{option}")
    renamed = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        meant = sorted(flags.get(_underscores(flag), {flag}))
        if len(meant) > 1:
            either = " or ".join(one.replace("_", "-") for one in meant)
            raise ConfigurationError(f"{flag} is an option of {len(meant)} parts; give {either}.")
        renamed.append(meant[0] + equals + value)
    return renamed


def _check_processes(args: argparse.Namespace) -> None:
    """Refuses what says something of several processes where there are none."""
    if args.distributed and not jax.distributed.is_initialized():
        raise ConfigurationError(
            "--distributed is given where JAX had started already; it must be given to the program itself."
        )
    for name in ("coordinator", "processes", "process"):
        value = getattr(args, name)
        if value is not None and not args.distributed:
            raise ConfigurationError(
                f"--{name} is {value}; it must be given together with --distributed."
            )


def _preset_help() -> str:
    """What --help says of the presets."""
    known = " ".join(f"{name}: {text}" for name, text in preset_descriptions().items())
    return f"Options to start from. {known}"


def _underscores(name: str) -> str:
    """cia-qplex is cia_qplex; the dashes before a flag stay."""
    return "--" * name.startswith("--") + name.removeprefix("--").replace("-", "_")


def _refuse_difference(run: RunDirectory, settings: RunSettings) -> None:
    """A resumed run may only have another budget."""

    def flat(settings: RunSettings) -> dict[str, Any]:
        record = settings.to_json()
        options = {
            f"{section}.{name}": value
            for section in ("training", "method_options", "env_options")
            for name, value in record.pop(section).items()
        }
        return {**record, **options}

    before, now = flat(run.settings()), flat(settings)
    for name in before | now:
        if name != "training.total_steps" and before.get(name) != now.get(name):
            raise ConfigurationError(
                f"{name} is {now.get(name)!r} but the run in {run.path} has {before.get(name)!r}; a resumed run "
                "keeps its configuration, only --total-steps may change."
            )


def _listing() -> str:
    def lines(texts: dict[str, str]) -> str:
        width = max(map(len, texts))
        return "\n".join(f"  {name:{width}}  {text}" for name, text in texts.items())

    known_methods = {name: methods.recipe(name).description for name in methods.names()}
    known_envs = {name: summary(name) for name in envs.names()}
    return (
        f"methods:\n{lines(known_methods)}\nparts and the backbones that take them (--backbone):\n{_pairs()}"
        f"\nenvironments:\n{lines(known_envs)}"
    )


def _pairs() -> str:
    """The table of parts and backbones."""
    table = methods.pairs()
    width = max(map(len, table))
    rows = [" ".join(methods.BACKBONES)]
    for on in table.values():
        rows.append(" ".join(f"{'-' if no else 'yes':{len(name)}}" for name, no in on.items()))
    names = ["", *table]
    return "\n".join(f"  {n:{width}}  {r}".rstrip() for n, r in zip(names, rows, strict=True))


if __name__ == "__main__":
    command.run(main)
