"""What pictures say of themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from marl_jax.plots import RoleCloud, learning_curves, role_pictures

OUT = Path("out.png")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []

    def save(figure: Figure, *_: Any, **__: Any) -> None:
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", save)
    return figures


def test_identical_curves_both_show(drawn: list[Figure]) -> None:
    steps = np.arange(3.0)
    one = np.array([[0.0, 1.0, 2.0]])
    learning_curves({"a": (steps, one), "b": (steps, one), "c": (steps, one + 1)}, OUT, "")
    (axes,) = drawn[0].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["a (1 seed)", "b (1 seed, as a)", "c (1 seed)"]
    # A dashed line above a whole one.
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "-"]
    learning_curves({"a": (steps, one), "b": (steps[:2], one[:, :2])}, OUT, "")
    assert {line.get_linestyle() for line in drawn[1].axes[0].lines} == {"-"}


def test_every_axis_of_roles_has_a_name(drawn: list[Figure]) -> None:
    cloud = RoleCloud("step 0", np.arange(6.0).reshape(2, 3), np.arange(2.0))
    role_pictures([cloud, cloud], "agent", OUT)
    *spaces, bar = drawn[0].axes
    for axes in spaces:
        names = (axes.get_xlabel(), axes.get_ylabel(), axes.get_zlabel())  # type: ignore[attr-defined]
        assert names == ("role[0]", "role[1]", "role[2]")
    assert bar.get_ylabel() == "agent; the number at a point: its agent"
