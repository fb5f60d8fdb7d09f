"""Tasks, methods and parts of a user's own, from Python and by name, and found again by a run."""

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import envs
import marl_jax
from envs import own_classes
from envs.turn import Turn
from experiments import run
from marl_jax.methods.mappo import IPPO
from marl_jax.methods.part import Part

THIS = __name__


class Quiet(Turn):
    """A world of one's own: Turn by another name."""


class Odd(Turn):
    """Takes more than its options."""

    def __init__(self, size: int, **options: int) -> None:
        self.size = size
        super().__init__(**options)


class Named(IPPO):
    """A method of one's own."""


class Idle(Part):
    """A part that does nothing."""


def short(method: str = "iac") -> dict:
    options = tiny.options(1, method)
    del options["env_options"]
    return options


def test_an_environment_is_trained_and_found_again(tmp_path: Path) -> None:
    out = tmp_path / "own"
    result = marl_jax.train("iac", Quiet(time_limit=5), 1, out=str(out), **short())
    assert result.settings.env == f"{THIS}:Quiet"
    assert result.settings.env_options.time_limit == 5
    policy = marl_jax.load_policy(out)
    assert isinstance(policy.env, Quiet)
    assert policy.env.time_limit == 5
    more = marl_jax.resume(out, total_steps=2 * tiny.CHUNK_STEPS, progress=False)
    assert more.curve()[0].tolist() == [20, 40]


def test_names_of_environments() -> None:
    assert envs.registry.describe(envs.make("turn", time_limit=7))[0] == "turn"
    assert envs.registry.describe(envs.make("sparse_pac_men"))[0] == "sparse_pac_men"
    name, options = envs.registry.describe(envs.make("mpe/simple_spread"))
    assert name == "mpe/simple_spread"
    assert repr(envs.make(name, **options)) == repr(envs.make("mpe/simple_spread"))


def test_a_world_needs_only_its_own_library(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs.make("jumanji/lbf")

    def missing() -> None:
        raise envs.ConfigurationError("not installed")

    monkeypatch.setattr(envs.bridges, "_require_gymnax", missing)
    monkeypatch.setattr(envs.bridges, "require_jaxmarl", missing)
    envs.bridges.bridged_class.cache_clear()
    assert envs.registry.describe(env)[0] == "jumanji/lbf"
    envs.bridges.bridged_class.cache_clear()


def test_options_without_a_default_or_of_another_type_get_a_sentence() -> None:
    @dataclasses.dataclass(frozen=True)
    class Needs(envs.Config):
        size: int

    @dataclasses.dataclass(frozen=True)
    class Lists(envs.Config):
        sizes: list[int] = dataclasses.field(default_factory=list)

    with pytest.raises(envs.ConfigurationError, match="option size of Needs has no default"):
        Needs.from_mapping({}, "Needs")
    with pytest.raises(envs.ConfigurationError, match="option sizes has the type list"):
        Lists()


def test_an_environment_that_cannot_be_found_again_is_refused() -> None:
    class Local(Turn):
        """Within a function."""

    for env, words in ((Local(), "within a function"), (Odd(3), "must be fields of its Config")):
        with pytest.raises(marl_jax.ConfigurationError, match=words):
            marl_jax.train("iac", env, 1, **short())
    with pytest.raises(marl_jax.ConfigurationError, match="env_options is given"):
        marl_jax.train("iac", Quiet(), 1, env_options={"time_limit": 5})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.to_be:Found", "ModuleNotFoundError"),
        (f"{THIS}:Missing", "must hold a class Missing that derives from MultiAgentEnv"),
        (f"{THIS}:Named", "derives from MultiAgentEnv"),
        ("__main__:Gone", "must be defined again"),
        (":Turn", "must be package.module:Class"),
    ],
)
def test_wrong_names_get_a_sentence(name: str, words: str) -> None:
    with pytest.raises(marl_jax.ConfigurationError, match=words):
        envs.make(name)


def test_methods_and_parts() -> None:
    options = {"total_steps": 20, "env_options": tiny.ENV, "progress": False}
    options |= {"training_options": tiny.TRAINING}
    small = {**tiny.method_options("ippo"), "minibatches": 1}
    result = marl_jax.train(Named, "turn", 1, method_options=small, **options)
    assert result.settings.method == f"{THIS}:Named"
    method = marl_jax.methods.make(f"{THIS}:Idle@ippo", envs.make("turn"))
    assert [type(part) for part in method.parts] == [Idle]
    with pytest.raises(marl_jax.ConfigurationError, match="derives from TeamMethod"):
        marl_jax.methods.recipe(f"{THIS}:Idle")
    with pytest.raises(marl_jax.ConfigurationError, match="derives from Part"):
        marl_jax.methods.recipe(f"{THIS}:Named@ippo")


def test_command_line_finds_a_module_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_tasks.py").write_text(
        "from envs.turn import Turn\nclass Calm(Turn):\n    '''My own world.'''\n"
    )
    monkeypatch.chdir(tmp_path)
    flags = ["--method", "iac", "--env", "my_tasks:Calm", "--seeds", "1", "--total-steps", "20"]
    assert run.main([*flags, *tiny.FLAGS]) == 0
    (folder,) = (tmp_path / "runs" / "my_tasks.Calm" / "iac").iterdir()
    assert type(marl_jax.load_policy(folder).env).__name__ == "Calm"
    sys.path.remove(str(tmp_path))
    del sys.modules["my_tasks"]


@pytest.mark.parametrize("field", ["agents_view", "global_state", "alive"])
def test_the_first_time_step_is_held_to_the_contract(field: str) -> None:
    class Broken(Turn):
        def reset(self, key: jax.Array):  # type: ignore[no-untyped-def]
            state, first = super().reset(key)
            value = getattr(first.observation, field)
            broken = jnp.full_like(value, False if field == "alive" else np.nan)
            seen = first.observation._replace(**{field: broken})
            return state, dataclasses.replace(first, observation=seen)

    envs.check_environment(Turn(time_limit=5), jax.random.key(0), 2)
    with pytest.raises(AssertionError, match="at reset"):
        envs.check_environment(Broken(time_limit=5), jax.random.key(0), 2)


def test_names_are_of_the_top_level() -> None:
    assert own_classes.name_of(Quiet) == f"{THIS}:Quiet"
    assert own_classes.find(f"{THIS}:Quiet", Turn, "env") is Quiet
