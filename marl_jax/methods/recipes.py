"""How methods are put together: a backbone, parts that make its agents differ, and options.

A name of the registry is a method as its paper has it. Any other pair has a name too: `gre@qplex` is GRE's part on
QPLEX, `liir+roma@mappo` two parts on MAPPO, each with its options beside the backbone's. A part of your own is named by
its class: `my_parts:Apart@qmix`.
"""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any

from envs import own_classes
from envs.configuration import Config, ConfigurationError, unknown_name
from marl_jax.methods.base import Sizes
from marl_jax.methods.part import Part
from marl_jax.methods.team import TeamConfig, TeamMethod


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
        mixins = [kind for part in self.parts for kind in part.options_on(self.backbone)]
        defaults = {k: v for part in self.parts for k, v in part.defaults_on(self.backbone).items()}
        defaults |= dict(self.defaults)
        base: Any = self.base or self.backbone.Config
        return _with_options(base, tuple(mixins), tuple(sorted(defaults.items())))

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
        if not self.parts:
            return self.backbone(config, sizes)
        return self.backbone(config, sizes, self.parts)  # type: ignore[call-arg]


@functools.cache
def _with_options(
    base: type[TeamConfig],
    mixins: tuple[type[Config], ...],
    defaults: tuple[tuple[str, Any], ...],
) -> type[TeamConfig]:
    """A backbone's options and its parts', with other defaults."""
    if not mixins and not defaults:
        return base
    taken = {field.name for field in dataclasses.fields(base)}
    for mixin in mixins:
        own = {field.name for field in dataclasses.fields(mixin)}
        for name in sorted(own & taken):
            raise ConfigurationError(
                f"the parts and the backbone have two options named {name}; they cannot be put together."
            )
        taken |= own
    plain: Any = dataclasses.make_dataclass("Plain", [], bases=(*mixins, base), frozen=True)
    hints = typing.get_type_hints(plain, include_extras=True)
    fields = [(name, hints[name], dataclasses.field(default=value)) for name, value in defaults]
    name = "".join(kind.__name__ for kind in (*mixins, base))

    def reduce(config: TeamConfig) -> tuple[Any, ...]:
        """How to pickle it: the class has no module to be found in."""
        values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        return _again, (base, mixins, defaults, values)

    namespace = {"__reduce__": reduce}
    made: Any = dataclasses.make_dataclass(
        name, fields, bases=(plain,), namespace=namespace, frozen=True
    )
    made.__doc__ = base.__doc__
    return made


def _again(
    base: Any,
    mixins: tuple[type[Config], ...],
    defaults: tuple[tuple[str, Any], ...],
    values: Mapping[str, Any],
) -> TeamConfig:
    """Options of a backbone and its parts, out of a pickle."""
    return _with_options(base, mixins, defaults)(**values)


def compose(
    name: str, kinds: Mapping[str, tuple[type[Part], ...]], backbones: Mapping[str, Recipe]
) -> Recipe:
    """The recipe of a pair, `PART@BACKBONE` or `PART+PART@BACKBONE`.

    Args:
        name: of the pair.
        kinds: by name, the parts that have it, of which the first that makes sense on the backbone is taken.
        backbones: by name.

    Raises:
        ConfigurationError: if a name is unknown, or a part makes no sense on the backbone.
    """
    parts, _, backbone = name.partition("@")
    if backbone not in backbones:
        raise unknown_name("backbone", backbone, backbones)
    on = backbones[backbone]
    chosen = []
    for part in parts.split("+"):
        candidates = kinds.get(part, ())
        if own_classes.is_own(part):
            candidates = (own_classes.find(part, Part, "part"),)
        if not candidates:
            raise unknown_name("part", part, kinds)
        refusals = [kind.refusal(on.backbone) for kind in candidates]
        if None not in refusals:
            raise ConfigurationError(f"{part} cannot stand on {backbone}: {refusals[0]}.")
        chosen.append(candidates[refusals.index(None)])
    if len(set(chosen)) < len(chosen):
        raise ConfigurationError(f"{name} has a part twice; name each once.")
    with_agents = [kind for kind in chosen if kind.agents is not Part.agents]
    if len(with_agents) > 1:
        raise ConfigurationError(
            f"{name} has {len(with_agents)} parts that bring agents' networks of their own; one may."
        )
    return Recipe(on.backbone, tuple(chosen), on.base, summary=f"{parts} on {backbone}.")
