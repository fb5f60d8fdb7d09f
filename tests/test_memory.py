"""What a seed keeps, known before anything is computed."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import marl_jax
from marl_jax.loading import make_trainer
from marl_jax.memory import described, kept
from marl_jax.settings import make_settings
from marl_jax.training import Trainer
from tests import tiny
from tests.test_trackers import Told

TABLES = {"table_bits": 12, "joint_table_bits": 13}
"""Large beside the networks."""


def trainer(method: str, env: str = "turn", seeds: int = 2) -> Trainer:
    known = tiny.method_options(method)
    options = known | {name: size for name, size in TABLES.items() if name in known}
    sections = {"training": tiny.TRAINING, "env": tiny.ENV, "method": options}
    return make_trainer(make_settings(method, env, seeds, 0, sections))


def allocated(state: Any) -> int:
    """Bytes of its arrays, on all devices."""
    arrays = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in jax.tree.leaves(state)
    ]
    return sum(shard.data.nbytes for x in arrays for shard in x.addressable_shards)


@pytest.mark.parametrize("method", ["qmix", pytest.param("edti", marks=pytest.mark.slow)])
def test_what_is_allocated_was_predicted(method: str) -> None:
    run = trainer(method)
    predicted = run.num_rows * sum(kept(run).values())
    state = run.init()
    assert allocated(state) == pytest.approx(predicted, rel=0.1)
    assert state.env_steps.shape == (run.num_rows,)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qmix", "edti"])
def test_what_the_program_asks_for_was_predicted(method: str) -> None:
    run = trainer(method)
    predicted = run.num_rows * sum(kept(run).values())
    state = run.init()
    compiled = run.train_chunk.lower(state, run.everyone).compile().memory_analysis()
    asked = run.mesh.size * compiled.argument_size_in_bytes
    assert asked == pytest.approx(predicted, rel=0.1)


def test_kinds() -> None:
    qmix, edti = kept(trainer("qmix")), kept(trainer("edti"))
    assert list(qmix) == ["replay", "optimisers", "networks", "tables and counts"]
    assert "replay" not in edti
    # Three tables of 12 bits and two of 13, 8 bytes an entry or more.
    assert edti["tables and counts"] > 8 * (3 * 2**12 + 2 * 2**13)
    assert described({"replay": 2_000_000, "networks": 500_000}) == (
        "2.5 MB (replay 2, networks 0.5)"
    )


@pytest.mark.parametrize(("have", "warned"), [(1, True), (10**12, False), (None, False)])
def test_a_program_that_takes_more_than_there_is_is_told_of(
    have: int | None, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes is known once it is compiled; it may fit all the same, and so nothing is refused."""
    monkeypatch.setattr("marl_jax.loop.memory_size", lambda mesh: have)
    told = Told()
    marl_jax.train("iac", "turn", seeds=1, out=None, **tiny.options(1) | {"progress": told})
    assert any("which may not be enough" in message for message in told.messages) == warned
