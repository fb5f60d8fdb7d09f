"""Frozen, validated configuration records, shared by the worlds and the methods.

A configuration is a frozen dataclass that derives from `Config`. Its annotations say what is
allowed; `Config` refuses everything else with one sentence, wherever the value came from (Python,
a TOML file, the command line).
"""

import dataclasses
import difflib
import functools
import itertools
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax

LARGEST: dict[type, float] = {int: 2**31 - 1, float: 3.4e38}
"""By kind, the largest number that JAX's 32 bits hold."""


class ConfigurationError(ValueError):
    """A wrong name or value from the user. Its message is one sentence: what is wrong, what is allowed."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, for use in `typing.Annotated`.

    Attributes:
        minimum: smallest allowed value.
        maximum: largest allowed value.
        above: the value must be strictly greater than this one.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
        )

    def __str__(self) -> str:
        if self.minimum is not None and self.minimum == self.maximum:
            return f"{self.minimum:.10g}, its only value here"
        bounds = {"above": self.above, "at least": self.minimum, "at most": self.maximum}
        return " and ".join(f"{name} {x:.10g}" for name, x in bounds.items() if x is not None)


def shown(value: object) -> str:
    """What a sentence calls a value from the user: its representation, on one line and not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a whole number of thousands of digits; an object that is not whole
        text = ""
    return text if 0 < len(text) <= 200 else f"a {type(value).__name__}"


def plain(value: Any) -> Any:
    """NumPy's and JAX's numbers as Python's, lists and arrays as tuples, anything else as it is."""
    if hasattr(type(value), "tolist"):
        value = value.tolist()
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def whole_number(name: str, value: Any, minimum: int = 0, maximum: int = 2**31 - 1) -> int:
    """A whole number from the user, as Python's.

    Raises:
        ConfigurationError: if it is none, or out of these bounds.
    """
    number = plain(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < minimum:
        raise ConfigurationError(
            f"{name} is {shown(value)}; it must be a whole number at least {minimum}."
        )
    if number > maximum:
        raise ConfigurationError(f"{name} is {shown(value)}; it must be at most {maximum}.")
    return number


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> ConfigurationError:
    """The error for a name that is not among `allowed`, with the closest allowed name."""
    names = sorted(allowed)
    close = difflib.get_close_matches(shown(name).strip("'"), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ConfigurationError(
        f"unknown {kind} {shown(name)}; choose from: {', '.join(_by_family(names))}.{hint}"
    )


def _by_family(names: list[str]) -> list[str]:
    """Sorted names, those of one family together: mpe/{simple_spread, simple_tag}."""
    families = {
        family: [name.removeprefix(f"{family}/") for name in members]
        for family, members in itertools.groupby(names, lambda name: name.partition("/")[0])
    }
    return [
        family if members == [family] else f"{family}/{{{', '.join(members)}}}"
        for family, members in families.items()
    ]


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of every configuration: checks each field's type and range when it is made.

    Annotations may be `bool`, `int`, `float`, `str`, `Literal[...]`, `tuple[X, ...]`, `tuple[()]`, any of these inside
    `Annotated[..., Range(...)]`, and any of these `| None`. NumPy's numbers become Python's, and lists tuples. No
    number may be larger than JAX's 32 bits hold. What a program is compiled to be given, a traced number, has no value
    to check.

    Raises:
        ConfigurationError: if a value has the wrong type or lies outside its range.
    """

    def __post_init__(self) -> None:
        hints = _hints(type(self))  # type: ignore[arg-type]  # a class can be hashed
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, jax.core.Tracer):
                continue
            value = plain(value)
            _check(field.name, value, hints[field.name])
            object.__setattr__(self, field.name, value)

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any], what: str) -> typing.Self:
        """Builds the configuration from plain values; `what` names their owner in error messages.

        Raises:
            ConfigurationError: if a key is no field of this class or a value is refused.
        """
        if not isinstance(options, Mapping):
            raise ConfigurationError(
                f"the options of {what} are {shown(options)}; they must be a table of values by name."
            )
        allowed = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in allowed:
                raise unknown_name(f"option of {what}", name, allowed)
        for field in dataclasses.fields(cls):
            has_default = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
            if field.name not in options and not has_default:
                raise ConfigurationError(
                    f"option {field.name} of {what} has no default; every field of a Config must have one."
                )
        return cls(**options)


@functools.cache
def _hints(config: Any) -> dict[str, Any]:
    """The annotations of a configuration, by field."""
    return typing.get_type_hints(config, include_extras=True)


def _check(name: str, value: Any, hint: Any) -> None:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    bounds = None
    if typing.get_origin(hint) is typing.Annotated:
        hint, *metadata = typing.get_args(hint)
        bounds = next((m for m in metadata if isinstance(m, Range)), None)
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigurationError(
                f"{name} is {shown(value)}; it must be one of: {', '.join(map(str, choices))}."
            )
        return
    if origin is tuple:
        if not isinstance(value, tuple):
            raise ConfigurationError(f"{name} is {shown(value)}; it must be a sequence.")
        if value and not typing.get_args(hint):
            raise ConfigurationError(f"{name} is {shown(value)}; it must be empty.")
        for item in value:
            _check(name, item, typing.get_args(hint)[0])
        return
    _check_one(name, value, hint, bounds)


def _check_one(name: str, value: Any, hint: Any, bounds: Range | None) -> None:
    """The same for a value that is no sequence."""
    allowed = f" {bounds}" if bounds is not None else ""
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, int | float) and not isinstance(value, bool),
        str: isinstance(value, str),
    }
    if hint not in fits:
        raise ConfigurationError(
            f"option {name} has the type {hint}; it must be a truth value, a number, text, a Literal or a tuple of one."
        )
    if not fits[hint] or (bounds is None and value != value):
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[hint]
        raise ConfigurationError(f"{name} is {shown(value)}; it must be {kind}{allowed}.")
    largest = LARGEST.get(hint)
    if largest is not None and abs(value) > largest:
        most = "" if "at most" in allowed else f"{' and' * bool(allowed)} at most {largest:.10g}"
        raise ConfigurationError(f"{name} is {shown(value)}; it must be{allowed}{most}.")
    if bounds is not None and value not in bounds:
        raise ConfigurationError(f"{name} is {shown(value)}; it must be{allowed}.")
