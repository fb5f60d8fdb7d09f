"""Frozen, validated configuration records, shared by the worlds and the methods.

A configuration is a frozen dataclass that derives from `Config`. Its annotations say what is
allowed; `Config` refuses everything else with one sentence, wherever the value came from (Python,
a TOML file, the command line).
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal


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
        parts = []
        if self.above is not None:
            parts.append(f"above {self.above:g}")
        if self.minimum is not None:
            parts.append(f"at least {self.minimum:g}")
        if self.maximum is not None:
            parts.append(f"at most {self.maximum:g}")
        return " and ".join(parts)


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> ConfigurationError:
    """The error for a name that is not among `allowed`, with the closest allowed name."""
    names = sorted(allowed)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ConfigurationError(f"unknown {kind} {name!r}; choose from: {', '.join(names)}.{hint}")


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of every configuration: checks each field's type and range when it is made.

    Annotations may be `bool`, `int`, `float`, `str`, `Literal[...]`, `tuple[X, ...]`, any of these inside
    `Annotated[..., Range(...)]`, and any of these `| None`.

    Raises:
        ConfigurationError: if a value has the wrong type or lies outside its range.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), hints[field.name])

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any], what: str) -> typing.Self:
        """Builds the configuration from plain values; `what` names their owner in error messages.

        Raises:
            ConfigurationError: if a key is no field of this class or a value is refused.
        """
        allowed = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in allowed:
                raise unknown_name(f"option of {what}", name, allowed)
        # TOML and JSON know lists, not tuples.
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        return cls(**values)


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
                f"{name} is {value!r}; it must be one of: {', '.join(map(str, choices))}."
            )
        return
    if origin is tuple:
        if not isinstance(value, tuple):
            raise ConfigurationError(f"{name} is {value!r}; it must be a sequence.")
        for item in value:
            _check(name, item, typing.get_args(hint)[0])
        return
    allowed = f" {bounds}" if bounds is not None else ""
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, int | float) and not isinstance(value, bool),
        str: isinstance(value, str),
    }
    if not fits[hint]:
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[hint]
        raise ConfigurationError(f"{name} is {value!r}; it must be {kind}{allowed}.")
    if bounds is not None and value not in bounds:
        raise ConfigurationError(f"{name} is {value!r}; it must be{allowed}.")
