"""Every sentence that a wrong option can earn."""

import dataclasses
import json
from typing import Annotated, Literal

import jax.numpy as jnp
import numpy as np
import pytest

from envs.configuration import Config, ConfigurationError, Range, shown, unknown_name


@dataclasses.dataclass(frozen=True)
class Example(Config):
    flag: bool = True
    count: Annotated[int, Range(minimum=1, maximum=9)] = 3
    rate: Annotated[float, Range(above=0.0, maximum=1.0)] = 0.5
    plain: float = 0.0
    name: str = "a"
    kind: Literal["soft", "hard"] = "soft"
    sizes: tuple[Annotated[int, Range(minimum=1)], ...] = (64, 64)
    limit: Annotated[int, Range(minimum=1)] | None = None
    mode: Literal["x", "y"] | None = None


def test_defaults_and_good_values_are_accepted() -> None:
    assert Example() == Example.from_mapping({}, "Example")
    made = Example.from_mapping(
        {"flag": False, "count": 9, "rate": 1, "name": "b", "kind": "hard", "sizes": [8]}, "Example"
    )
    assert made == Example(flag=False, count=9, rate=1, name="b", kind="hard", sizes=(8,))
    assert made.sizes == (8,), "a list becomes a tuple"
    assert Example(limit=5, mode="y").limit == 5
    assert Example(limit=None, mode=None) == Example()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"limit": 0}, "limit is 0; it must be at least 1."),
        ({"limit": "5"}, "limit is '5'; it must be a whole number at least 1."),
        ({"mode": "z"}, "mode is 'z'; it must be one of: x, y."),
        ({"flag": 1}, "flag is 1; it must be true or false."),
        ({"count": 0}, "count is 0; it must be at least 1 and at most 9."),
        ({"count": 10}, "count is 10; it must be at least 1 and at most 9."),
        ({"count": 2.0}, "count is 2.0; it must be a whole number at least 1 and at most 9."),
        ({"count": True}, "count is True; it must be a whole number at least 1 and at most 9."),
        ({"rate": 0.0}, "rate is 0.0; it must be above 0 and at most 1."),
        ({"rate": 1.5}, "rate is 1.5; it must be above 0 and at most 1."),
        ({"rate": float("nan")}, "rate is nan; it must be above 0 and at most 1."),
        ({"rate": "x"}, "rate is 'x'; it must be a number above 0 and at most 1."),
        ({"plain": None}, "plain is None; it must be a number."),
        ({"plain": float("nan")}, "plain is nan; it must be a number."),
        ({"plain": 1e39}, "plain is 1e+39; it must be at most 3.4e+38."),
        ({"plain": 10**5000}, "plain is a int; it must be at most 3.4e+38."),
        ({"limit": 2**31}, "limit is 2147483648; it must be at least 1 and at most 2147483647."),
        ({"limit": np.float32(2)}, "limit is 2.0; it must be a whole number at least 1."),
        ({"plain": False}, "plain is False; it must be a number."),
        ({"name": 3}, "name is 3; it must be text."),
        ({"kind": "sfot"}, "kind is 'sfot'; it must be one of: soft, hard."),
        ({"sizes": 64}, "sizes is 64; it must be a sequence."),
        ({"sizes": (64, 0)}, "sizes is 0; it must be at least 1."),
        (
            {"cuont": 3},
            "unknown option of Example 'cuont'; choose from: count, flag, kind, limit, mode, name, "
            "plain, rate, "
            "sizes. Did you mean 'count'?",
        ),
        (
            {"zzz": 3},
            "unknown option of Example 'zzz'; choose from: count, flag, kind, limit, mode, name, plain, "
            "rate, "
            "sizes.",
        ),
    ],
)
def test_wrong_options_are_refused_with_a_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Example.from_mapping(options, "Example")
    assert str(caught.value) == sentence


def test_numbers_of_numpy_and_jax_become_pythons() -> None:
    made = Example(
        flag=np.bool_(True),
        count=np.int64(9),
        rate=np.float32(0.25),
        plain=jnp.float32(2),
        name=np.str_("b"),
        sizes=np.array([8, 4]),
        limit=jnp.int32(5),
    )
    assert made == Example(count=9, rate=0.25, plain=2.0, name="b", sizes=(8, 4), limit=5)
    assert json.loads(json.dumps(dataclasses.asdict(made)))["sizes"] == [8, 4]


def test_what_a_sentence_shows_is_short() -> None:
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert shown("x" * 1000) == "a str"
    assert shown(10**5000) == "a int"


def test_the_constructor_checks_as_well() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        Example(count=0)
    with pytest.raises(ConfigurationError, match="at most 9"):
        dataclasses.replace(Example(), count=10)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Example().count = 4  # type: ignore[misc]


def test_a_configuration_error_is_a_value_error() -> None:
    assert issubclass(ConfigurationError, ValueError)


def test_unknown_name_lists_what_is_allowed() -> None:
    error = unknown_name("method", "liri", ["qmix", "liir"])
    assert str(error) == "unknown method 'liri'; choose from: liir, qmix. Did you mean 'liir'?"


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Range(), [-1e9, 0, 1e9], [float("inf"), float("nan")]),
        (Range(minimum=1), [1, 2], [0.999]),
        (Range(maximum=1), [1, 0], [1.001]),
        (Range(above=0), [1e-9], [0, -1]),
    ],
)
def test_range(bounds: Range, inside: list, outside: list) -> None:
    assert all(x in bounds for x in inside)
    assert not any(x in bounds for x in outside)
