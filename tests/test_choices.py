"""Runs that differ in numbers alone: one program trains them, and each is as if alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import marl_jax
from marl_jax import choices
from marl_jax.loop import Assignment, run_together
from marl_jax.runs import RunDirectory
from marl_jax.settings import RunSettings, make_settings
from tests import tiny

RATES = [0.001, 0.1]


def settings(method: str, **options: Any) -> RunSettings:
    sections = {"method": tiny.method_options(method) | options, "env": tiny.ENV}
    return make_settings(method, "turn", 1, 0, {**sections, "training": tiny.TRAINING})


def rows_of(run: Path) -> list[dict[str, float]]:
    """Without what a clock says."""
    rows = RunDirectory(run).rows()
    return [{name: x for name, x in row.items() if name != "train_seconds"} for row in rows]


def assert_same_state(one: Path, other: Path) -> None:
    for x, y in zip(*(jax.tree.leaves(marl_jax.load(run)[1]) for run in (one, other)), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def search(out: Path) -> list[marl_jax.TrainResult]:
    return marl_jax.search("iac", "turn", {"actor_lr": RATES}, 2, out=str(out), **tiny.options(2))


def test_each_choice_is_a_run_of_its_own(tmp_path: Path) -> None:
    """Bit for bit, as with its number in the program; what is on disk too."""
    found = search(tmp_path)
    options = tiny.options(2)
    method = options.pop("method_options") | {"actor_lr": RATES[1]}
    alone = marl_jax.train(
        "iac", "turn", 2, method_options=method, out=str(tmp_path / "alone"), **options
    )
    assert [one.settings.method_options.actor_lr for one in found] == RATES
    np.testing.assert_array_equal(found[1].final_returns, alone.final_returns)
    own, reference = tmp_path / "001", tmp_path / "alone"
    assert rows_of(own) == rows_of(reference) != rows_of(tmp_path / "000")
    assert_same_state(own, reference)
    records = [json.loads((run / "results.json").read_text()) for run in (own, reference)]
    assert records[0] == records[1]
    assert (
        marl_jax.load_policy(own, seed=1, checkpoint="best").settings.method_options.actor_lr == 0.1
    )


@pytest.mark.slow
def test_runs_that_were_killed_at_different_chunks_go_on(tmp_path: Path) -> None:
    """One is a chunk behind; the other waits."""
    search(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    folders = [tmp_path / "killed" / name for name in ("000", "001")]
    for folder in folders:
        (folder / "results.json").unlink()
    shutil.rmtree(folders[0] / "checkpoints" / "2")
    assignments = []
    for folder in folders:
        run = RunDirectory.open(folder)
        assignments.append(Assignment(run.settings(), run, resumed=True))
    run_together(assignments, progress=False)
    for name in ("000", "001"):
        one, other = tmp_path / "whole" / name, tmp_path / "killed" / name
        assert rows_of(one) == rows_of(other)
        assert_same_state(one, other)
        assert RunDirectory(other).finished()


def test_options_that_decide_what_is_computed_are_no_part_of_a_program() -> None:
    grid = [
        {"actor_lr": rate, "max_grad_norm": norm, "hidden_size": size}
        for size, norm in ((4, 0.0), (4, 1.0), (8, 1.0))
        for rate in RATES
    ]
    found = choices.groups([settings("iac", **one) for one in grid])
    assert found == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ({"max_grad_norm": [1.0, 10.0]}, "max_grad_norm has several values, of which each needs"),
        ({"hidden_size": [4, 8]}, "hidden_size has several values"),
        ({"actor_lr": 0.1}, "grid has 0.1 for actor_lr; it must be a list of numbers"),
        ({"actor_lr": [0.1, 0.1]}, "each named once"),
        ({"actor_lr": [0.1, -0.1]}, "actor_lr is -0.1; it must be above 0"),
        ({"rate": [0.1]}, "unknown option of iac 'rate'"),
    ],
)
def test_what_cannot_be_searched_gets_one_sentence(
    grid: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(marl_jax.ConfigurationError, match=sentence):
        marl_jax.search("iac", "turn", grid, out=str(tmp_path / "out"), **tiny.options(1))
    assert not (tmp_path / "out").exists()
