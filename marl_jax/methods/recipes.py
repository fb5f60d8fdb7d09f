"""How methods are put together: a backbone, parts that make its agents differ, and options.

A name of the registry is a method as its paper has it. Any other pair has a name too: `gre@qplex` is GRE's part on
QPLEX, `liir+roma@mappo` two parts on MAPPO, each with its options beside the backbone's. A part of your own is named by
its class: `my_parts:Apart@qmix`.

All options stand in one flat record. Where two parts have an option of one name, the record's are `PART_OPTION`, while
each part and whoever gives options still calls it by its own name.
"""

import collections
import dataclasses
import functools
import itertools
import typing
from collections.abc import Mapping
from typing import Any

from envs import own_classes
from envs.configuration import Config, ConfigurationError, unknown_name
from marl_jax.methods.base import Sizes
from marl_jax.methods.part import Part
from marl_jax.methods.team import PartFields, TeamConfig, TeamMethod


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a method is made.

    Attributes:
        backbone: who learns.
        parts: what makes its agents differ; a backbone without any has its idea within.
        base: the backbone's options, if they are others than its own.
        defaults: values of options that are others than those of backbone and parts.
        summary: one line for lists; None: the backbone's.
    """

    backbone: type[TeamMethod]
    parts: tuple[type[Part], ...] = ()
    base: type[TeamConfig] | None = None
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    summary: str | None = None

    @property
    def Config(self) -> type[TeamConfig]:  # noqa: N802
        """The class of its options."""
        own = tuple((part.name, part.options_on(self.backbone)) for part in self.parts)
        defaults = {k: v for part in self.parts for k, v in part.defaults_on(self.backbone).items()}
        defaults |= self.needs | dict(self.defaults)
        base: Any = self.base or self.backbone.Config
        return _with_options(base, own, tuple(sorted(defaults.items())))

    @property
    def fixed(self) -> dict[str, Any]:
        """Options of the backbone, by name, of which its parts take one value alone."""
        return {name: value for part in self.parts for name, value in part.fixed.items()}

    @property
    def needs(self) -> dict[str, Any]:
        """Values of the backbone's options, by name, without which its parts make no sense."""
        return {k: v for part in self.parts for k, v in part.needs_on(self.backbone).items()}

    def plays(self, continuous: bool) -> bool:
        """Whether it can choose actions of a kind."""
        if not continuous:
            return self.backbone.discrete
        return self.backbone.continuous and all(part.continuous for part in self.parts)

    @property
    def description(self) -> str:
        """One line."""
        return self.summary or (self.backbone.__doc__ or "").strip().splitlines()[0]

    def __call__(self, config: TeamConfig, sizes: Sizes) -> TeamMethod:
        """The method for a task of these sizes."""
        return self.backbone(config, sizes, self.parts)


@functools.cache
def _with_options(
    base: type[TeamConfig],
    own: tuple[tuple[str, type[Config]], ...],
    defaults: tuple[tuple[str, Any], ...],
) -> type[TeamConfig]:
    """A backbone's options and those of its parts, with other defaults.

    Where two have an option of one name, the parts' fields are PART_OPTION.
    """
    if not own and not defaults:
        return base
    kinds: list[Any] = [base, *(kind for _, kind in own)]
    taken = collections.Counter(f.name for kind in kinds for f in dataclasses.fields(kind))
    hints, values, parts = _hints(base), dict[str, Any](), dict[str, PartFields]()
    for part, kind in own:
        options = {field.name: field for field in dataclasses.fields(kind)}
        names = {name: name if taken[name] == 1 else f"{part}_{name}" for name in options}
        parts[part] = PartFields(kind, names)
        hints |= {names[name]: hint for name, hint in _hints(kind).items() if name in names}
        values |= {names[name]: field.default for name, field in options.items()}
    values |= dict(defaults)
    fields = [(name, hints[name], dataclasses.field(default=x)) for name, x in values.items()]

    def reduce(config: TeamConfig) -> tuple[Any, ...]:
        """How to pickle it: the class has no module to be found in."""
        return _again, (base, own, defaults, vars(config))

    made: Any = dataclasses.make_dataclass(
        "".join(kind.__name__ for kind in reversed(kinds)),
        fields,
        bases=(base,),
        namespace={"__reduce__": reduce, "parts": parts},
        frozen=True,
    )
    made.__doc__ = base.__doc__
    return made


def _hints(kind: type[Config]) -> dict[str, Any]:
    """The annotations of options, by name."""
    return typing.get_type_hints(kind, include_extras=True)


def _again(base: Any, own: Any, defaults: Any, values: Mapping[str, Any]) -> TeamConfig:
    """Options of a backbone and its parts, out of a pickle."""
    return _with_options(base, own, defaults)(**values)


def compose(name: str, kinds: tuple[type[Part], ...], backbones: Mapping[str, Recipe]) -> Recipe:
    """The recipe of a pair, `PART@BACKBONE` or `PART+PART@BACKBONE`.

    Args:
        name: of the pair.
        kinds: all parts; of those of one name the first that makes sense on the backbone is taken.
        backbones: by name.

    Raises:
        ConfigurationError: if a name is unknown, or a part makes no sense on the backbone.
    """
    parts, _, backbone = name.partition("@")
    if backbone not in backbones:
        raise unknown_name("backbone", backbone, backbones)
    on = backbones[backbone]
    if on.backbone.takes_no_parts is not None:
        raise ConfigurationError(f"{backbone} takes no parts: {on.backbone.takes_no_parts}.")
    chosen = []
    for part in parts.split("+"):
        candidates = [kind for kind in kinds if kind.name == part]
        if own_classes.is_own(part):
            candidates = [own_classes.find(part, Part, "part")]
        if not candidates:
            raise unknown_name("part", part, {kind.name for kind in kinds})
        refusals = [kind.refusal(on.backbone) for kind in candidates]
        if None not in refusals:
            raise ConfigurationError(f"{part} cannot stand on {backbone}: {refusals[0]}.")
        chosen.append(candidates[refusals.index(None)])
    if len({kind.name for kind in chosen}) < len(chosen):
        raise ConfigurationError(f"{name} has a part twice; name each once.")
    for one, other in itertools.permutations(chosen, 2):
        if issubclass(one, other):
            raise ConfigurationError(
                f"{name} has {other.name} twice, since {one.name} builds on it; name one of them."
            )
    with_agents = [kind for kind in chosen if kind.agents is not Part.agents]
    if len(with_agents) > 1:
        raise ConfigurationError(
            f"{name} has {len(with_agents)} parts that bring agents' networks of their own; one may."
        )
    return Recipe(on.backbone, tuple(chosen), on.base, summary=f"{parts} on {backbone}.")
