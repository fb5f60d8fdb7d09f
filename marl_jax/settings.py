"""What defines a run: method, task, seeds and every option, from defaults to files to the user's own values."""

import contextlib
import dataclasses
import importlib.metadata
import importlib.resources
import itertools
import json
import platform
import subprocess
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from envs.configuration import Config, ConfigurationError, shown, unknown_name, whole_number
from envs.registry import world_class
from marl_jax.methods import backbone_of, recipe
from marl_jax.methods import names as method_names
from marl_jax.training import TrainingConfig

SECTIONS = ("training", "method", "env")
PART = "part."
"""What the section of a part's own options begins with: `part.liir`, in a TOML file `[part.liir]`."""
MAX_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """A run, whole.

    Attributes:
        method: name of the method.
        env: name of the task.
        seeds: S, how many seeds.
        seed: the first of them.
        training: options of the loop.
        method_options: options of the method.
        env_options: options of the task.
        init_from: the run, or the team's file or name, that the teams started from, if they did.
    """

    method: str
    env: str
    seeds: int
    seed: int
    training: TrainingConfig
    method_options: Config
    env_options: Config
    init_from: str | None = None

    def __post_init__(self) -> None:
        for name, low in (("seeds", 1), ("seed", 0)):
            value = whole_number(name, getattr(self, name), low, MAX_SEED)
            object.__setattr__(self, name, value)
        if self.seed + self.seeds - 1 > MAX_SEED:
            raise ConfigurationError(
                f"seed is {self.seed!r}; the last of {self.seeds} seeds must be at most {MAX_SEED}."
            )

    def to_json(self) -> dict[str, Any]:
        """As plain values, without what `environment_record` adds."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "RunSettings":
        """The inverse of `to_json`; keys that it does not write are ignored.

        Raises:
            ConfigurationError: if a key is missing or a value is not allowed.
        """
        if not isinstance(record, Mapping):
            raise ConfigurationError(
                f"the configuration is {shown(record)}; it must be a table of values by name."
            )
        needed = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
        missing = [name for name in needed if name not in record]
        if missing:
            raise ConfigurationError(f"the configuration lacks {', '.join(missing)}.")
        return make_settings(
            record["method"],
            record["env"],
            record["seeds"],
            record["seed"],
            {
                "training": record["training"],
                "method": record["method_options"],
                "env": record["env_options"],
            },
            task_defaults=False,
            init_from=record.get("init_from"),
        )


def make_settings(
    method: str,
    env: str,
    seeds: int,
    seed: int,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    task_defaults: bool = True,
    preset: str | None = None,
    init_from: str | None = None,
) -> RunSettings:
    """Puts a run together: the classes' defaults, over them the task's file, the preset and the caller's options.

    Of a pair files and presets may be its backbone's: what its parts need goes over them.

    Args:
        method: name of the method; the preset may put another learner in its place.
        env: name of the task.
        seeds: how many seeds.
        seed: the first of them.
        options: by section ("training", "method", "env", and "part.NAME" for a part of the method), options by name.
        task_defaults: whether to read `experiments/configs/ENV/METHOD.toml`.
        preset: name of a file in `experiments/configs/presets`; it takes the place of one that the task's file names.
        init_from: the run, or the team's file or name, that the teams start from.

    Raises:
        ConfigurationError: if a name is unknown, a value is not allowed or the preset is not for this method.
    """
    # A wrong name of a method or task is told before one of a preset.
    recipe(method)
    env_config, options = world_class(env).Config, options or {}
    for section, values in options.items():
        if section not in SECTIONS and not section.startswith(PART):
            raise unknown_name("section", section, (*SECTIONS, f"{PART}NAME"))
        options_of(section, values)
    chosen = Preset(method, {}) if preset is None else read_preset(preset, method)
    method = chosen.learner
    task = read_task_defaults(method, env, own_preset=preset is None) if task_defaults else {}
    needs = {"method": recipe(method).needs if backbone_of(method) != method else {}}
    merged = _merge([task, chosen.options, needs, _of_method(method, options)])
    return RunSettings(
        method,
        env,
        seeds,
        seed,
        TrainingConfig.from_mapping(merged["training"], "training"),
        recipe(method).Config.from_mapping(merged["method"], method),
        env_config.from_mapping(merged["env"], env),
        init_from,
    )


def options_of(section: str, values: Any) -> dict[str, Any]:
    """The options of a section, by name.

    Raises:
        ConfigurationError: if they are none.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(
            f"the options of {section} are {shown(values)}; they must be a table of values by name."
        )
    return dict(values)


def read_task_defaults(method: str, env: str, own_preset: bool = True) -> dict[str, dict[str, Any]]:
    """The options of `experiments/configs/ENV/METHOD.toml` by section; none if there is no such file.

    A pair, such as gre@qplex, takes those of its backbone, and over them those of a file of its own
    (`ENV/gre@qplex.toml`).

    Over them go those of files one level down: `smax/METHOD.toml` serves all scenarios, `smax/3m/METHOD.toml` one.
    With `own_preset` a file's options go over those of the preset that it names (`preset = "grid"`), if it does.

    Raises:
        ConfigurationError: if that preset puts another learner in the method's place, which has a file of its own.
    """
    names = dict.fromkeys((backbone_of(method), method))
    folders = [_configs()]
    for name in env.split("/"):
        folders.append(folders[-1] / name)
    files = [(folder / f"{name}.toml", name) for folder in folders[1:] for name in names]
    return _merge([_read_task_file(f, name, own_preset) for f, name in files if f.is_file()])


def _read_task_file(file: Traversable, method: str, own_preset: bool) -> dict[str, dict[str, Any]]:
    table: dict[str, Any] = tomllib.loads(file.read_text())
    preset = table.pop("preset", None)
    table = _sections(f"section of {file.name}", table)
    chosen = read_preset(preset, method) if preset and own_preset else Preset(method, {})
    if chosen.learner != method:
        raise ConfigurationError(
            f"preset {preset!r} of {file.name} trains {chosen.learner} in place of {method}; it must be one that "
            f"trains {method}."
        )
    return _merge([chosen.options, _of_method(method, table)])


def presets() -> tuple[str, ...]:
    """Names of all presets, sorted."""
    files = (Path(file.name) for file in (_configs() / "presets").iterdir())
    return tuple(sorted(file.stem for file in files if file.suffix == ".toml"))


def preset_descriptions() -> dict[str, str]:
    """By preset, the first sentence of the comment that its file begins with."""
    return {name: _first_sentence(_preset_file(name).read_text()) for name in presets()}


class Preset(NamedTuple):
    """What a preset says of a method.

    Attributes:
        learner: the registered method that is trained: the method itself, or one that stands for it.
        options: by section.
    """

    learner: str
    options: dict[str, dict[str, Any]]


def read_preset(name: str, method: str) -> Preset:
    """What `experiments/configs/presets/NAME.toml` says of a method.

    The file's sections are for all methods that have their options. `[methods.METHOD]` is for one: its own sections
    (`[methods.METHOD.training]`) go over the common ones, and its `learner` names a method to train in its place, whose
    options those of the section "method" then are. A file without common sections is for the methods that it names.

    Raises:
        ConfigurationError: if there is no such preset, or it is not for this method.
    """
    if not isinstance(name, str) or name not in presets():
        raise unknown_name("preset", name, presets())
    file = _preset_file(name)
    table: dict[str, Any] = tomllib.loads(file.read_text())
    own: dict[str, Any] = table.pop("methods", {})
    table = _sections(f"section of {file.name}", table)
    _check_names(f"method of {file.name}", own, method_names())
    learners = {other: its.pop("learner", other) for other, its in own.items()}
    own = {other: _sections(f"entry of {other} in {file.name}", its) for other, its in own.items()}

    def of(method: str) -> Preset | None:
        its = own.get(backbone_of(method), {})
        learner = learners.get(backbone_of(method), method)
        config = recipe(learner).Config
        known = {*(f.name for f in dataclasses.fields(config)), *(PART + p for p in config.parts)}
        for_it = backbone_of(method) in own or bool(table)
        asked = {*table.get("method", {}), *(name for name in table if name.startswith(PART))}
        if not for_it or not known.issuperset(asked):
            return None
        return Preset(learner, _merge([_of_method(learner, table), _of_method(learner, its)]))

    found = of(method)
    if found is None:
        fit = ", ".join(other for other in method_names() if of(other) is not None)
        raise ConfigurationError(f"preset {name!r} is not for {method}; it is for: {fit}.")
    return found


def _configs() -> Traversable:
    return importlib.resources.files("experiments") / "configs"


def _preset_file(name: str) -> Traversable:
    return _configs() / "presets" / f"{name}.toml"


def _first_sentence(text: str) -> str:
    """Of the comment that a file begins with; ends with its full stop."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    joined = " ".join(line.removeprefix("#").strip() for line in comment)
    sentence, stop, _ = f"{joined} ".partition(". ")
    return (sentence + stop).strip()


def _check_names(kind: str, names: Iterable[str], allowed: Sequence[str]) -> None:
    for name in names:
        if name not in allowed:
            raise unknown_name(kind, name, allowed)


def _sections(kind: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a file; those of parts are `part.NAME`."""
    sections = {name: options for name, options in table.items() if name != "part"}
    _check_names(kind, sections, (*SECTIONS, "part"))
    own = options_of("part", table.get("part", {}))
    return {**sections, **{f"{PART}{name}": options for name, options in own.items()}}


def _of_method(
    method: str, sections: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """The same options, with those of parts among the method's, by the fields that hold them.

    Raises:
        ConfigurationError: if the method has no such part, the part no such option, or one is given twice.
    """
    parts, options = recipe(method).Config.parts, dict(sections.get("method", {}))
    for section, values in sections.items():
        if not section.startswith(PART):
            continue
        name = section.removeprefix(PART)
        if name not in parts:
            raise unknown_name(f"part of {method}", name, parts or ("none",))
        fields = parts[name].fields
        for option, value in options_of(section, values).items():
            if option not in fields:
                raise unknown_name(f"option of {section}", option, fields)
            if fields[option] in options:
                raise ConfigurationError(
                    f"{section}.{option} is given as an option of the method, too; give it once."
                )
            options[fields[option]] = value
    return {**sections, "method": options}


def _merge(layers: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By section, the options of all layers; later ones go over earlier ones."""
    return {
        section: {name: value for layer in layers for name, value in layer.get(section, {}).items()}
        for section in SECTIONS
    }


def environment_record() -> dict[str, Any]:
    """Where a run ran: versions, commit and hardware."""
    packages = (
        "marl-jax",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "distrax",
        "jumanji",
        "rlax",
        "jaxmarl",
    )
    devices = jax.devices()
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        kind = _processor() or kind
    return {
        "versions": {name: _version(name) for name in packages},
        "python": platform.python_version(),
        "commit": _commit(),
        "hardware": f"{len(devices)} x {kind} ({devices[0].platform})",
    }


def _processor() -> str | None:
    """The processor's model, where the system says it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this checkout, with a plus sign if files differ from it; None where it is no checkout."""
    root = Path(__file__).parent.parent
    try:
        # Not that of a user's repository, in which this is installed.
        _, commit, status = (
            subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (
                ("ls-files", "--error-unmatch", str(Path(__file__))),
                ("rev-parse", "--short=12", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + "+" * bool(status)
