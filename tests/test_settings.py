"""Where options come from, and that a configuration survives its way through JSON."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import ConfigurationError
from envs.configuration import Config, Range
from envs.registry import world_class
from experiments import sweep
from experiments.command import option_sections
from marl_jax import api, methods
from marl_jax import settings as settings_module
from marl_jax.methods import recipe
from marl_jax.networks import QPLEX, MixerInputs
from marl_jax.settings import RunSettings, environment_record, make_settings
from marl_jax.training import TrainingConfig


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in the place of `experiments/configs`."""
    (tmp_path / "presets").mkdir()
    (tmp_path / "turn").mkdir()
    monkeypatch.setattr(settings_module, "_configs", lambda: tmp_path)
    return tmp_path


def test_json_round_trip() -> None:
    settings = make_settings("liir", "turn", 3, 7, {"method": {"critic_hidden": [5, 6]}})
    assert settings.method_options.critic_hidden == (5, 6)  # type: ignore[attr-defined]
    assert RunSettings.from_json(settings.to_json()) == settings


def test_callers_options_go_over_the_tasks_file_over_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = {"training": {"total_steps": 11}, "method": {"gamma": 0.5, "actor_lr": 0.1}}
    monkeypatch.setattr(settings_module, "read_task_defaults", lambda *_, **__: table)
    settings = make_settings("iac", "turn", 1, 0, {"method": {"gamma": 0.7}})
    assert settings.training.total_steps == 11
    assert settings.method_options.gamma == 0.7  # type: ignore[attr-defined]
    assert settings.method_options.actor_lr == 0.1  # type: ignore[attr-defined]
    assert settings.method_options.critic_lr == 5e-4  # type: ignore[attr-defined]


def test_a_preset_goes_between_the_tasks_file_and_the_callers_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = {"training": {"eval_episodes": 11}, "method": {"num_envs": 3, "gamma": 0.5}}
    monkeypatch.setattr(settings_module, "read_task_defaults", lambda *_, **__: table)
    settings = make_settings("vdn", "turn", 1, 0, {"method": {"lr": 0.5}}, preset="fast")
    options = settings.method_options
    assert settings.training.eval_episodes == 11
    assert options.gamma == 0.5  # type: ignore[attr-defined]
    assert options.num_envs >= 8  # type: ignore[attr-defined]
    assert options.lr == 0.5  # type: ignore[attr-defined]


def test_a_tasks_file_may_start_from_a_preset(
    configs: Path,
) -> None:
    (configs / "presets" / "small.toml").write_text("[method]\nlr = 0.25\nhidden_size = 8\n")
    file = configs / "turn" / "vdn.toml"
    file.write_text('preset = "small"\n[method]\nlr = 0.5\n')
    options: Any = make_settings("vdn", "turn", 1, 0).method_options
    assert (options.lr, options.hidden_size) == (0.5, 8)
    # A preset that is asked for takes the place of the file's: two would mix.
    (configs / "presets" / "fast.toml").write_text("[method]\nlr = 0.125\n")
    options = make_settings("vdn", "turn", 1, 0, preset="fast").method_options
    assert (options.lr, options.hidden_size) == (0.125, 64)
    file.write_text('preset = "smal"\n')
    with pytest.raises(ConfigurationError, match="unknown preset 'smal'; choose from: fast, small"):
        make_settings("vdn", "turn", 1, 0)
    file.write_text("[methods]\n")
    with pytest.raises(ConfigurationError, match=r"unknown section of vdn.toml 'methods'"):
        make_settings("vdn", "turn", 1, 0)


def test_parts_have_sections(configs: Path) -> None:
    """In files and from the caller; under the method's name they are the same options."""
    file = configs / "turn" / "liir.toml"
    file.write_text(
        "[method]\nlr = 0.5\nintrinsic_weight = 0.25\n[part.liir]\nintrinsic_lr = 0.125\n"
    )
    options: Any = make_settings("liir", "turn", 1, 0).method_options
    assert (options.lr, options.intrinsic_weight, options.intrinsic_lr) == (0.5, 0.25, 0.125)
    (configs / "presets" / "fast.toml").write_text("[part.liir]\nintrinsic_lr = 0.75\n")
    given = {"part.liir": {"intrinsic_weight": 1.0}}
    options = make_settings("liir", "turn", 1, 0, given, preset="fast").method_options
    assert (options.lr, options.intrinsic_weight, options.intrinsic_lr) == (0.5, 1.0, 0.75)
    with pytest.raises(ConfigurationError, match="preset 'fast' is not for mappo; it is for: liir"):
        make_settings("mappo", "turn", 1, 0, preset="fast")
    pair: Any = make_settings("eiti+eoi@mappo", "turn", 1, 0, {"part.eoi": {"intrinsic_weight": 2}})
    assert pair.method_options.intrinsic_weight == 2
    for sections, sentence in (
        ({"part.roma": {}}, "unknown part of liir 'roma'; choose from: liir."),
        ({"part.liir": {"intrinsic_wait": 1}}, "unknown option of part.liir 'intrinsic_wait'"),
        ({"part.liir": 3}, "the options of part.liir are 3"),
        (
            {"method": {"intrinsic_weight": 1}, "part.liir": {"intrinsic_weight": 1}},
            "part.liir.intrinsic_weight is given as an option of the method, too; give it once.",
        ),
        ({"parts": {}}, "unknown section 'parts'; choose from: env, method, part.NAME, training"),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            make_settings("liir", "turn", 1, 0, sections)  # type: ignore[arg-type]


def test_a_pair_has_its_backbones_file_and_its_own_over_it(configs: Path) -> None:
    turn = configs / "turn"
    (turn / "mappo.toml").write_text("[method]\nlr = 0.5\ngamma = 0.5\n")
    (turn / "eoi@mappo.toml").write_text(
        "[method]\ngamma = 0.25\n[part.eoi]\nintrinsic_weight = 2\n"
    )
    (turn / "eoi.toml").write_text("[method]\ngamma = 0.125\n")
    options: Any = make_settings("eoi@mappo", "turn", 1, 0).method_options
    assert (options.lr, options.gamma, options.intrinsic_weight) == (0.5, 0.25, 2.0)
    options = make_settings("eiti+eoi@mappo", "turn", 1, 0).method_options
    assert (options.lr, options.gamma) == (0.5, 0.5)


@pytest.mark.parametrize("env", [*envs.own_names(), "smax/3m"])
def test_every_pair_is_accepted_on_every_world(env: str) -> None:
    """As it comes: its backbone's file there may be for agents of another kind than the parts need."""
    world = envs.make(env)
    for part, on in methods.pairs().items():
        for backbone, refusal in on.items():
            name = f"{part}@{backbone}"
            if refusal is None and recipe(name).plays(world.continuous_actions):
                options: Any = make_settings(name, env, 1, 0).method_options
                recipe(name)(options, methods.Sizes.of(world))


def test_parts_have_options_from_python_and_in_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "check_settings", lambda settings: None)
    monkeypatch.setattr(api, "run_training", lambda settings, *_, **__: settings)
    given: Any = {"eoi": {"intrinsic_weight": 0.5}, "edti": {"intrinsic_weight": 0.25}}
    trained: Any = api.train("eoi+edti@ippo", "turn", 1, part_options=given)
    options = trained.method_options
    assert (options.eoi_intrinsic_weight, options.edti_intrinsic_weight) == (0.5, 0.25)
    sections = option_sections(
        {"part.eoi.intrinsic_weight": 0.5, "part.edti.intrinsic_weight": 0.25}
    )
    assert make_settings("eoi+edti@ippo", "turn", 1, 0, sections).method_options == options
    with pytest.raises(ConfigurationError, match="the options of part are 3"):
        api.train("liir", "turn", part_options=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", ["jaxmarl", "yu"])
def test_others_numbers_are_theirs_in_a_scenario_with_a_file_of_its_own(preset: str) -> None:
    """smax/3m's file has agents without a memory, which neither has."""

    def options(scenario: str) -> dict[str, Any]:
        found = make_settings("mappo", f"smax/{scenario}", 1, 0, preset=preset).method_options
        options = dataclasses.asdict(found)
        if options["lr_final"] == options["lr"]:  # then it does not matter when it falls
            options["lr_anneal_start"] = options["lr_anneal_end"] = None
        return options

    assert options("3m") == options("2s3z")


def test_presets_are_for_methods_that_have_their_options() -> None:
    fitting = (
        "cds",
        "cia",
        "cia_qplex",
        "cw_qmix",
        "dqn",
        "eoi",
        "eoi_released",
        "gre",
        "iql",
        "kaleidoscope",
        "maven",
        "ow_qmix",
        "qmix",
        "qplex",
        "qtran",
        "roma",
        "roma_qplex",
        "roma_vdn",
        "scds",
        "vdn",
    )
    # Their agents share parameters.
    shared = {"cds", "kaleidoscope", "maven", "roma", "roma_qplex", "roma_vdn", "scds"}
    of_preset = {
        "authors": ("liir", "liir_paper", "roma"),
        "battles": fitting,
        "brax_ppo": ("happo", "ippo", "liir", "mappo"),
        "fast": fitting,
        "grid": tuple(method for method in fitting if method not in shared),
        "grid_maac": ("diayn", "eoi_maac", "maac"),
        "grid_ppo": ("happo", "ippo", "liir", "mappo"),
        "jaxmarl": ("ippo", "mappo"),
        "mpe_ppo": ("happo", "ippo", "liir", "mappo"),
        "paper": ("liir",),
        "pymarl": fitting,
        "smax_ppo": ("happo", "ippo", "liir", "mappo"),
        "sparse_ppo": ("edti", "eiti", "ippo", "social_influence"),
        "yu": ("happo", "ippo", "mappo"),
    }
    assert tuple(of_preset) == settings_module.presets()
    for name, fit in of_preset.items():
        for method in fit:
            make_settings(method, "turn", 1, 0, preset=name)
    with pytest.raises(ConfigurationError) as caught:
        make_settings("iac", "turn", 1, 0, preset="fast")
    assert str(caught.value) == f"preset 'fast' is not for iac; it is for: {', '.join(fitting)}."
    with pytest.raises(
        ConfigurationError, match="unknown preset 'fats'; choose from: authors, battles"
    ):
        make_settings("vdn", "turn", 1, 0, preset="fats")


ON_POLICY = {
    "agent": "gru",
    "hidden_size": 64,
    "head_sizes": (),
    "initialization": "orthogonal",
    "policy_gain": 0.01,
    "critic": "gru",
    "critic_hidden": (64,),
    "observe_identity": True,
    "observe_last_action": True,
    "batch_steps": 8 * 400,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip": 0.2,
    "minibatches": 1,
    "lr": 5e-4,
    "lr_final": 5e-4,
    "max_grad_norm": 10.0,
    "value_weight": 1.0,
    "value_normalisation": True,
    "value_clip": 0.2,
    "huber_delta": 10.0,
    "mask_dead_inputs": True,
    "mask_dead_values": False,
    "entropy_weight": 0.01,
    "entropy_weight_final": 0.01,
}
JAXMARL = {
    "agent": "gru",
    "hidden_size": 128,
    "head_sizes": (128,),
    "initialization": "orthogonal",
    "policy_gain": 0.01,
    "critic": "gru",
    "critic_hidden": (128,),
    "observe_identity": False,
    "observe_last_action": False,
    "batch_steps": 128 * 128,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "normalise_advantage": "minibatch",
    "epochs": 4,
    "minibatches": 4,
    "lr_final": 0.0,
    "lr_anneal_start": 0,
    "lr_anneal_end": 10_000_000,
    "max_grad_norm": 0.25,
    "value_weight": 0.5,
    "value_normalisation": False,
    "huber_delta": 0.0,
    "mask_dead_values": False,
}


@pytest.mark.parametrize("name", ["qplex", "cia_qplex", "roma_qplex", "gre@qplex"])
def test_qplex_knows_on_smax_where_an_allys_features_stand(name: str) -> None:
    """Before those of the enemies, and as many as the state has for each unit but for its team."""
    world = envs.make("smax/2s3z")
    settings = make_settings(name, "smax/2s3z", 1, 0)
    method: Any = methods.recipe(name)(settings.method_options, methods.Sizes.of(world))
    assert method.mixer.unit_dim == world.global_state_size // 10 - 1


def test_qplexs_credits_differ_on_smax() -> None:
    """Those of allies that differ; without their features all have one credit."""
    mixer = QPLEX(unit_dim=make_settings("qplex", "smax/3m", 1, 0).method_options.unit_dim)
    state = jax.random.uniform(jax.random.key(0), (66,))
    inputs = MixerInputs(jnp.ones(3), jnp.ones(3), jnp.zeros((3, 8)), state)

    @jax.jit
    def credits(key: jax.Array) -> jax.Array:
        params = mixer.init(key, inputs)
        return jax.grad(lambda q: mixer.apply(params, inputs._replace(q=q)).q_tot)(inputs.q)

    assert np.ptp(credits(jax.random.key(1))) > 1e-2


@pytest.mark.parametrize(
    ("preset", "method", "values"),
    [
        # 0.99999 to the power of 15, and of 5.
        (
            "yu",
            "mappo",
            ON_POLICY
            | {
                "sharing": "shared",
                "critic_input": "state",
                "epochs": 15,
                "normalise_advantage": "batch",
                "value_norm_decay": 0.99985,
            },
        ),
        (
            "yu",
            "ippo",
            ON_POLICY
            | {
                "sharing": "shared",
                "epochs": 15,
                "normalise_advantage": "batch",
                "value_norm_decay": 0.99985,
            },
        ),
        (
            "yu",
            "happo",
            ON_POLICY
            | {
                "sharing": "independent",
                "critic_input": "state",
                "fixed_order": False,
                "epochs": 5,
                "normalise_advantage": "agent",
                "value_norm_decay": 0.99995,
            },
        ),
        (
            "jaxmarl",
            "mappo",
            JAXMARL
            | {
                "critic_input": "state",
                "mask_dead_inputs": False,
                "clip": 0.2,
                "value_clip": 0.2,
                "lr": 2e-3,
                "entropy_weight": 0.0,
                "entropy_weight_final": 0.0,
            },
        ),
        (
            "jaxmarl",
            "ippo",
            JAXMARL
            | {
                "clip": 0.05,
                "value_clip": 0.05,
                "lr": 4e-3,
                "entropy_weight": 0.01,
                "entropy_weight_final": 0.01,
            },
        ),
    ],
)
def test_presets_hold_the_numbers_of_their_sources(
    preset: str, method: str, values: dict[str, Any]
) -> None:
    """on-policy's and HARL's scripts for SMAC; JaxMARL's for SMAX, whose values are clipped as far as its ratios."""
    options = dataclasses.asdict(make_settings(method, "turn", 1, 0, preset=preset).method_options)
    assert {name: options[name] for name in values} == values


MIXED = """# What all share: lr. Another sentence.
[training]
eval_episodes = 3

[method]
lr = 0.5
gamma = 0.5

[methods.vdn.training]
eval_episodes = 4

[methods.vdn.method]
lr = 0.25
"""
STAND_IN = """# Learns (file.yaml) as before,
# over two lines. More.

[methods.liir]
learner = "iac"

[methods.liir.method]
actor_lr = 0.25

[methods.coma.env]
time_limit = 7
"""


def test_a_presets_values_for_a_method_go_over_the_common_ones(configs: Path) -> None:
    (configs / "presets" / "mixed.toml").write_text(MIXED)
    for method, lr, episodes in (("vdn", 0.25, 4), ("iql", 0.5, 3)):
        settings: Any = make_settings(method, "turn", 1, 0, preset="mixed")
        assert (settings.method_options.lr, settings.method_options.gamma) == (lr, 0.5)
        assert settings.training.eval_episodes == episodes
    # MADDPG has a gamma, but no lr.
    with pytest.raises(ConfigurationError, match="preset 'mixed' is not for maddpg; it is for: "):
        make_settings("maddpg", "turn", 1, 0, preset="mixed")
    # A task's file that starts from the preset gets its method's values too.
    (configs / "turn" / "vdn.toml").write_text('preset = "mixed"\n[method]\ngamma = 0.75\n')
    options: Any = make_settings("vdn", "turn", 1, 0).method_options
    assert (options.lr, options.gamma) == (0.25, 0.75)


def test_a_preset_may_put_another_learner_in_the_methods_place(configs: Path) -> None:
    (configs / "presets" / "paper.toml").write_text(STAND_IN)
    # The file is the learner's own, not that of the method in whose place it is.
    (configs / "turn" / "iac.toml").write_text("[method]\ngamma = 0.75\nactor_lr = 0.5\n")
    (configs / "turn" / "liir.toml").write_text("[method]\nintrinsic_lr = 0.5\n")
    settings: Any = make_settings(
        "liir", "turn", 1, 0, {"method": {"td_lambda": 0.5}}, preset="paper"
    )
    assert settings.method == "iac"
    options = settings.method_options
    assert type(options) is recipe("iac").Config
    assert (options.gamma, options.actor_lr, options.td_lambda) == (0.75, 0.25, 0.5)
    assert RunSettings.from_json(settings.to_json()) == settings
    with pytest.raises(ConfigurationError, match="unknown option of iac 'intrinsic_lr'"):
        make_settings("liir", "turn", 1, 0, {"method": {"intrinsic_lr": 1.0}}, preset="paper")
    # Nothing is common, so that it is for those it names.
    assert make_settings("coma", "turn", 1, 0, preset="paper").env_options.time_limit == 7  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError) as caught:
        make_settings("iac", "turn", 1, 0, preset="paper")
    assert str(caught.value) == "preset 'paper' is not for iac; it is for: coma, liir."
    # A task's file is for its method.
    (configs / "turn" / "liir.toml").write_text('preset = "paper"\n')
    with pytest.raises(
        ConfigurationError, match=r"preset 'paper' of liir.toml trains iac in place"
    ):
        make_settings("liir", "turn", 1, 0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[option]\n",
            "unknown section of wrong.toml 'option'; choose from: env, method, part, training.",
        ),
        ("[methods.lir]\n", "unknown method of wrong.toml 'lir'; choose from: a2c, alita"),
        ("[methods.liir]\nlerner = 'iac'\n", "unknown entry of liir in wrong.toml 'lerner'"),
        ("[methods.liir]\nlearner = 'iaac'\n", "unknown method 'iaac'"),
        ("[methods.liir.method]\nx = 1\n", "unknown option of liir 'x'"),
    ],
)
def test_a_wrong_preset_file_is_refused(configs: Path, text: str, sentence: str) -> None:
    (configs / "presets" / "wrong.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        make_settings("liir", "turn", 1, 0, preset="wrong")
    assert str(caught.value).startswith(sentence)


def test_presets_are_described_by_their_first_sentence(configs: Path) -> None:
    (configs / "presets" / "mixed.toml").write_text(MIXED)
    (configs / "presets" / "paper.toml").write_text(STAND_IN)
    (configs / "presets" / "silent.toml").write_text("[training]\n")
    assert settings_module.preset_descriptions() == {
        "mixed": "What all share: lr.",
        "paper": "Learns (file.yaml) as before, over two lines.",
        "silent": "",
    }


def test_every_preset_says_what_it_is() -> None:
    for name, text in settings_module.preset_descriptions().items():
        assert text.endswith("."), name


CONFIGS = {
    TrainingConfig,
    *(recipe(name).Config for name in methods.names()),
    *(world_class(name).Config for name in envs.names()),
}


@pytest.mark.parametrize("config", sorted(CONFIGS, key=lambda config: config.__name__))
def test_every_number_has_a_range(config: type[Config]) -> None:
    hints = typing.get_type_hints(config, include_extras=True)
    names = [field.name for field in dataclasses.fields(config)]
    assert [name for name in names if has_free_number(hints[name])] == []


def has_free_number(hint: Any) -> bool:
    """Whether a type has a number that no `Range` bounds, alone or as an item."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        bounded = any(isinstance(part, Range) for part in parts[1:])
        return has_free_number(parts[0]) and not bounded
    if origin is typing.Literal:
        return False
    return hint in (int, float) or any(map(has_free_number, parts))


def test_a_sweep_takes_a_backbone() -> None:
    given = sweep.Arguments("social-influence+eiti", "turn", ("lr=0.1",), backbone="ippo")
    assert sweep._settings(given, {"lr": 0.1}).method == "social_influence+eiti@ippo"
    twice = dataclasses.replace(given, method="eoi@ippo", backbone="mappo")
    with pytest.raises(ConfigurationError, match="one of them may name the backbone"):
        sweep._settings(twice, {"lr": 0.1})


def test_a_number_without_a_range_is_found() -> None:
    size = typing.Annotated[int, Range(minimum=1)]
    for free in (int, float, float | None, tuple[int, ...], tuple[float, ...] | None):
        assert has_free_number(free)
    for bounded in (size, size | None, tuple[size, ...], bool, str, typing.Literal[1, 2]):
        assert not has_free_number(bounded)


def test_every_tasks_file_is_accepted() -> None:
    for env in envs.names():
        for method in methods.names():
            make_settings(method, env, 1, 0)


def test_the_results_configurations_have_todays_options() -> None:
    """So that their curves can be drawn, and their commands repeated."""
    files = sorted((Path(__file__).parents[1] / "experiments" / "results").rglob("config.json"))
    assert len(files) > 50
    for file in files:
        RunSettings.from_json(json.loads(file.read_text()))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": {"gamm": 1}}, "unknown option of iac 'gamm'"),
        ({"env": {"size": 1}}, "unknown option of turn 'size'"),
        ({"training": {"steps": 1}}, "unknown option of training 'steps'"),
        ({"methods": {}}, "unknown section 'methods'"),
        ({"method": {"gamma": "high"}}, "gamma is 'high'; it must be a number"),
        ({"method": {"num_envs": 1.5}}, "num_envs is 1.5; it must be a whole number"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, dict[str, object]], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_settings("iac", "turn", 1, 0, options)
    assert sentence in str(caught.value)


def test_environment_record_names_versions_and_hardware() -> None:
    record = environment_record()
    assert record["versions"]["jax"]
    assert record["hardware"].endswith("(cpu)")


def test_the_environment_record_names_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "processor : 0\nmodel name\t: Fast CPU: two\nmodel name\t: another\n"
    real = Path.read_text

    def read(path: Path, *arguments: Any, **options: Any) -> str:
        return told if str(path) == "/proc/cpuinfo" else real(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read)
    assert " x Fast CPU: two (cpu)" in environment_record()["hardware"]
