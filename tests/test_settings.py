"""Where options come from, and that a configuration survives its way through JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from envs import ConfigurationError
from marl_jax import settings as settings_module
from marl_jax.settings import RunSettings, environment_record, make_settings


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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "turn").mkdir()
    (tmp_path / "presets" / "small.toml").write_text("[method]\nlr = 0.25\nhidden_size = 8\n")
    file = tmp_path / "turn" / "vdn.toml"
    file.write_text('preset = "small"\n[method]\nlr = 0.5\n')
    monkeypatch.setattr(settings_module, "_configs", lambda: tmp_path)
    options: Any = make_settings("vdn", "turn", 1, 0).method_options
    assert (options.lr, options.hidden_size) == (0.5, 8)
    # A preset that is asked for takes the place of the file's: two would mix.
    (tmp_path / "presets" / "fast.toml").write_text("[method]\nlr = 0.125\n")
    options = make_settings("vdn", "turn", 1, 0, preset="fast").method_options
    assert (options.lr, options.hidden_size) == (0.125, 64)
    file.write_text('preset = "smal"\n')
    with pytest.raises(ConfigurationError, match="unknown preset 'smal'; choose from: fast, small"):
        make_settings("vdn", "turn", 1, 0)
    file.write_text("[methods]\n")
    with pytest.raises(ConfigurationError, match=r"unknown section of vdn.toml 'methods'"):
        make_settings("vdn", "turn", 1, 0)


def test_presets_are_for_methods_that_have_their_options() -> None:
    fitting = (
        "cds",
        "cia",
        "cia_qplex",
        "cw_qmix",
        "eoi",
        "gre",
        "iql",
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
    shared = {"cds", "maven", "roma", "roma_qplex", "roma_vdn", "scds"}
    of_preset = {
        "authors": ("roma",),
        "fast": fitting,
        "grid": tuple(method for method in fitting if method not in shared),
        "grid_maac": ("diayn", "eoi_maac", "maac"),
        "pymarl": fitting,
        "sparse_ppo": ("edti", "eiti", "ippo", "social_influence"),
    }
    assert tuple(of_preset) == settings_module.presets()
    for name, methods in of_preset.items():
        for method in methods:
            make_settings(method, "turn", 1, 0, preset=name)
    with pytest.raises(ConfigurationError) as caught:
        make_settings("iac", "turn", 1, 0, preset="fast")
    assert str(caught.value) == f"preset 'fast' is not for iac; it is for: {', '.join(fitting)}."
    with pytest.raises(
        ConfigurationError, match="unknown preset 'fats'; choose from: authors, fast"
    ):
        make_settings("vdn", "turn", 1, 0, preset="fats")


def test_every_tasks_file_is_accepted() -> None:
    import envs
    from marl_jax import methods

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
    assert "cpu" in record["hardware"]
