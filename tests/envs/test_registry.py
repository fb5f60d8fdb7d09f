"""Worlds by name, ours and jumanji's."""

import jax
import jumanji
import pytest

import envs
from envs import bridges
from envs.registry import register_with_jumanji, world_class

IDS = {
    "turn": "Turn-v0",
    "pac_men": "PacMen-v0",
    "sparse_pac_men": "SparsePacMen-v0",
    "windy_maze": "WindyMaze-v0",
    "firefighters": "Firefighters-v0",
    "push_box": "PushBox-v0",
    "secret_room": "SecretRoom-v0",
    "pursuit_1d": "Pursuit1D-v0",
    "battle": "Battle-v0",
    "football": "Football-v0",
}


def test_names_are_sorted_and_complete() -> None:
    assert list(envs.own_names()) == sorted(IDS)
    assert envs.names() == (*sorted(IDS), *bridges.names())


@pytest.mark.parametrize("name", envs.own_names())
def test_make_passes_the_options_on(name: str) -> None:
    env = envs.make(name, time_limit=7)
    assert isinstance(env, world_class(name))
    assert env.time_limit == env.config.time_limit == 7
    assert "time_limit=7" in repr(env)


@pytest.mark.parametrize("name", envs.own_names())
def test_jumanji_makes_the_same_world(name: str) -> None:
    env = jumanji.make(IDS[name], time_limit=5)
    assert type(env) is world_class(name)
    assert env.time_limit == 5
    _, ours = envs.make(name, time_limit=5).reset(jax.random.PRNGKey(3))
    _, theirs = env.reset(jax.random.PRNGKey(3))
    assert (ours.observation.agents_view == theirs.observation.agents_view).all()


def test_registering_twice_is_harmless() -> None:
    register_with_jumanji()
    assert set(IDS.values()) <= set(jumanji.registered_environments())


def test_an_unknown_world_is_refused() -> None:
    with pytest.raises(envs.ConfigurationError) as caught:
        envs.make("trun")
    sentence = str(caught.value)
    assert sentence.startswith(
        "unknown environment 'trun'; choose from: battle, brax/{ant, halfcheetah, "
    )
    assert sentence.endswith("Did you mean 'turn'? A world of your own is package.module:Class.")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("turn", {"time_limit": 0}, "time_limit is 0; it must be at least 1."),
        (
            "turn",
            {"size": 6},
            "unknown option of Turn 'size'; choose from: punish_trapped_eat, time_limit.",
        ),
        ("turn", {"punish_trapped_eat": 1}, "punish_trapped_eat is 1; it must be true or false."),
        ("pursuit_1d", {"clip": -1}, "clip is -1; it must be at least 0."),
        ("pursuit_1d", {"clip": 9}, "clip is 9; it must be 0 (no clipping) or at least 10."),
        (
            "pursuit_1d",
            {"time_limit": 2.5},
            "time_limit is 2.5; it must be a whole number at least 1.",
        ),
    ],
)
def test_a_wrong_option_is_refused(name: str, options: dict, sentence: str) -> None:
    with pytest.raises(envs.ConfigurationError) as caught:
        envs.make(name, **options)
    assert str(caught.value) == sentence
