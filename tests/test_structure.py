"""How the house is built: who imports whom, on how many classes one stands, how long functions are."""

import ast
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.configuration import Config
from marl_jax import methods
from marl_jax.methods.part import Agents, Part
from marl_jax.methods.team import TeamMethod

ROOT = Path(__file__).parent.parent
FLOORS = ("envs", "marl_jax", "experiments")
"""From the lowest up: each may import those below it."""
LONGEST_FUNCTION = 60
LONGEST_CHAIN = 2
"""On how many classes a method, a part or agents stand besides the base of all."""


@functools.cache
def modules() -> dict[str, ast.Module]:
    """By name, what the packages' files say."""
    files = (file for floor in (*FLOORS, "benchmarks") for file in (ROOT / floor).rglob("*.py"))
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            file.read_text()
        )
        for file in files
    }


@functools.cache
def imported(module: str) -> frozenset[str]:
    """The modules that one imports anywhere, for types alone too."""
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found & modules().keys())


def test_imports_point_down() -> None:
    for module in modules():
        floor = module.partition(".")[0]
        if floor in FLOORS:
            above = FLOORS[FLOORS.index(floor) + 1 :]
            upwards = {name for name in imported(module) if name.partition(".")[0] in above}
            assert not upwards, f"{module} imports {upwards}"


def test_viewers_know_no_world_that_knows_them() -> None:
    viewers = [
        name for name in modules() if name.rpartition(".")[2].endswith(("viewer", "viewers"))
    ]
    assert len(viewers) > 10
    for viewer in viewers:
        # A package's own file stands for its modules.
        worlds = {name for name in imported(viewer) if name.count(".") > 1 or name in viewers}
        circles = {world for world in worlds if viewer in imported(world)}
        assert not circles, f"{viewer} and {circles} import each other"


def test_functions_are_short() -> None:
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{module}.{node.name} has {length} lines"


def descendants(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


@pytest.mark.parametrize("base", [TeamMethod, Part, Agents])
def test_chains_are_short_and_there_is_no_diamond(base: type) -> None:
    assert methods.names()
    found = [kind for kind in descendants(base) if kind.__module__.startswith("marl_jax.")]
    assert len(found) > 5
    for kind in found:
        assert len(kind.__bases__) == 1, f"{kind.__name__} stands on several classes"
        chain = kind.__mro__[: kind.__mro__.index(base)]
        assert len(chain) <= 1 + LONGEST_CHAIN, [one.__name__ for one in chain]


def test_no_options_are_reached_by_two_ways() -> None:
    """Options may be put together of two classes, if these have nothing in common."""
    made = [methods.recipe(name).Config for name in (*methods.names(), "cia@qmix", "gre@qmix")]
    for kind in {*made, *descendants(Config)}:
        own = [set(base.__mro__) - {object} for base in kind.__bases__]
        for one, other in itertools.combinations(own, 2):
            assert not one & other, kind.__name__
