"""Every method fits a world, one of each family fits every kind of world, and one takes a few steps on each world."""

from typing import Any

import jax
import numpy as np
import pytest

import envs
import marl_jax
from marl_jax import methods
from marl_jax.methods.part import WAYS, Part
from marl_jax.training import Trainer, TrainingConfig
from tests import tiny
from tests.documented import explained_columns

# The quickest to compile; the others are traced, and trained on the probes.
RUN_EVERYWHERE = "iac"
THE_OTHERS = sorted(set(methods.names()) - {RUN_EVERYWHERE})
# Worlds that differ in kind: early ends, units that die, actions that only some agents have.
KINDS = ("secret_room", "smax/3m", "mpe/simple_speaker_listener")
# Sparse Pac-Men is Pac-Men with another reward.
WORLDS = [
    *(name for name in envs.own_names() if name != "sparse_pac_men"),
    *("smax/3m", "mpe/simple_speaker_listener", "mpe/simple_adversary"),
]
# Put together of what others are put together of.
COMBINED = (
    *("cia_qplex", "cw_qmix", "ddpg", "hatrpo", "roma_qplex", "roma_vdn", "scds", "td3", "vdn"),
)
# One of each family on all of them, the rest of the family on the first.
PAIRS = [
    pytest.param(method, env, marks=[pytest.mark.slow] if method in COMBINED else [])
    for method in THE_OTHERS
    for env in (KINDS if method in ("liir", "qmix") else KINDS[:1])
    if methods.recipe(method).plays(continuous=False)
]
CONTINUOUS = ["sac", pytest.param("td3", marks=pytest.mark.slow)]
# Ideas on backbones that no paper has them on.
NEW_PAIRS = (
    *("eoi@mappo", "eoi@ippo", "roma@mappo", "maven@qplex", "liir+roma@mappo", "eiti@qmix"),
    *("gre@qplex", "hypermarl@mappo", "kaleidoscope@mappo", "influencer@mappo"),
)


@pytest.mark.parametrize(("method", "env"), PAIRS)
def test_pair_fits(method: str, env: str) -> None:
    """Traced but not compiled: a chunk of training maps the run state to one of the same form."""
    assert_fits(method, envs.make(env, **tiny.ENV))


@pytest.mark.parametrize("method", CONTINUOUS)
def test_pair_with_continuous_actions_fits(method: str) -> None:
    world = envs.make("mpe/simple_speaker_listener", continuous_actions=True, **tiny.ENV)
    assert_fits(method, world)


def assert_fits(method: str, world: Any, **options: Any) -> None:
    given = tiny.method_options(method)
    given |= {name: value for name, value in options.items() if name in given}
    trainer = Trainer(
        world,
        methods.make(method, world, **given),
        TrainingConfig(**tiny.TRAINING),
        2,
    )
    before = trainer.abstract_state()
    after, metrics = jax.eval_shape(trainer.train_chunk, before, trainer.everyone)
    assert form(after) == form(before)
    assert metrics.evaluation["eval_return"].shape == (2, 2)
    evaluated = {f"{name}_mean" for name in metrics.evaluation}
    assert set(metrics.training) | evaluated <= explained_columns()


def form(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@pytest.mark.parametrize("backbone", methods.BACKBONES)
def test_a_backbone_calls_the_hooks_that_it_says(backbone: str) -> None:
    """Of a part that has all of them; one that is in vain is refused before it trains."""
    called: set[str] = set()

    def noted(hook: str) -> Any:
        def call(self: Part, *given: Any) -> Any:
            called.add(hook)
            return getattr(Part, hook)(self, *given)

        return call

    hooks = {hook for ways in WAYS for hook in ways}
    kind = type("All", (Part,), {hook: noted(hook) for hook in hooks})
    bare, world = methods.recipe(backbone), envs.make("turn", **tiny.ENV)
    if not bare.plays(continuous=False):
        world = envs.make("mpe/simple_speaker_listener", continuous_actions=True, **tiny.ENV)
    recipe = methods.Recipe(bare.backbone, (kind,), bare.base, bare.defaults)
    method: Any = recipe(recipe.Config(**tiny.method_options(backbone)), methods.Sizes.of(world))
    trainer = Trainer(world, method, TrainingConfig(**tiny.TRAINING), 2)
    jax.eval_shape(trainer.train_chunk, trainer.abstract_state(), trainer.everyone)
    assert called - {"init"} == set(bare.backbone.hooks) - {"init", "drawn"}
    for hook in hooks:
        refused = type("One", (Part,), {hook: noted(hook)}).refusal(bare.backbone)
        assert refused == (
            None if hook in bare.backbone.hooks else f"nothing there calls its {hook}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("env", WORLDS)
def test_every_world_runs(env: str) -> None:
    result = marl_jax.train(RUN_EVERYWHERE, env, seeds=2, **tiny.options(1, RUN_EVERYWHERE))
    assert not result.failures
    assert np.isfinite(result.final_returns).all()


@pytest.mark.slow
# One of each family.
@pytest.mark.parametrize("method", ["iac", "liir", "qmix"])
def test_recurrent_and_independent(method: str) -> None:
    options = tiny.options(1, method)
    options["method_options"] |= {"agent": "gru", "sharing": "independent"}
    result = marl_jax.train(method, "turn", seeds=1, **options)
    assert not result.failures


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cia", "cia_qplex", "gre"])
def test_methods_without_a_probe_run(method: str) -> None:
    result = marl_jax.train(method, "turn", seeds=2, **tiny.options(1, method))
    assert not result.failures
    assert np.isfinite(result.final_returns).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [
        {"critic": "shared_trunk", "advantage": "td_lambda", "likelihood_ratio": "joint"},
        {"meta_gradient": "batch"},
        {"inner_update": "sgd", "optimizer": "adam", "normalise_advantage": False},
    ],
)
def test_variants_of_liir_paper(variant: dict[str, object]) -> None:
    options = tiny.options(1, "liir_paper")
    options["method_options"] |= variant
    result = marl_jax.train("liir_paper", "pursuit_1d", seeds=1, **options)
    assert not result.failures


@pytest.mark.slow
# Where episodes end early, and where little is paid.
@pytest.mark.parametrize("env", ["turn", "windy_maze", "sparse_pac_men", "smax/2s3z"])
@pytest.mark.parametrize("pair", NEW_PAIRS)
def test_new_pair_fits(pair: str, env: str) -> None:
    assert_fits(pair, envs.make(env, time_limit=16), replay_capacity=64)
