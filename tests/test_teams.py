"""Teams in files: saved and loaded, the best of a run, and teams that start from others."""

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import envs
import marl_jax
from marl_jax import methods, teams
from marl_jax.loading import load, make_trainer, start_from
from marl_jax.runs import RunDirectory
from marl_jax.settings import make_settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of three chunks."""
    out = tmp_path_factory.mktemp("teams") / "run"
    marl_jax.train("iac", "turn", 2, out=str(out), **tiny.options(3))
    return out


def same(tree: object, other: object) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), tree, other))


def test_a_saved_team_plays_as_before(run: Path, tmp_path: Path) -> None:
    policy = marl_jax.load_policy(run, seed=1)
    policy.save(tmp_path / "team.npz")
    again = marl_jax.load_team(tmp_path / "team.npz")
    assert same(again.state.params, policy.state.params)
    assert (again.env_steps, again.settings) == (60, policy.settings)
    played = [p.play(jax.random.key(3), 4, explore=True)[0] for p in (policy, again)]
    assert same(*played)
    assert again.state.env_steps == policy.state.env_steps
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(again.state))


@pytest.mark.parametrize("method", ["iac", "liir", "eiti"])
def test_files_hold_no_optimiser(method: str, tmp_path: Path) -> None:
    policy = marl_jax.load_policy(tiny.untrained(tmp_path / "run", method, "turn", 1))
    policy.save(tmp_path / "team.npz")
    arrays, record = teams.read(tmp_path / "team.npz")
    assert not [name for name in arrays if "optimizer" in name or "target" in name]
    assert bool([name for name in arrays if "parts" in name]) == (method == "liir")
    assert record["method"] == method
    assert record["versions"]["jax"] == jax.__version__


@pytest.mark.parametrize("name", methods.names())
def test_every_method_acts_on_what_a_file_holds(name: str) -> None:
    """Shapes only: what acting needs is what files hold, and everything left out is made again."""
    discrete = methods.recipe(name).plays(continuous=False)
    options = {} if discrete else {"continuous_actions": True}
    spread = name in ("ddpg", "maddpg", "sac", "td3")
    env = envs.make("mpe/simple_spread" if spread else "turn", time_limit=5, **options)
    method = methods.make(name, env, **tiny.method_options(name))
    state = jax.eval_shape(method.init, jax.random.key(0))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), teams.kept(state))
    whole = teams.put(state, zeros)
    assert jax.tree.structure(whole) == jax.tree.structure(state)
    assert same(jax.tree.map(np.shape, whole), jax.tree.map(np.shape, state))


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_damaged_files_get_a_sentence(run: Path, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "team.npz"
    marl_jax.load_policy(run).save(file)
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(marl_jax.ConfigurationError, match="must be a team's file"):
        marl_jax.load_team(file)


def test_an_unknown_team_gets_a_sentence() -> None:
    with pytest.raises(marl_jax.ConfigurationError, match="unknown team 'nobody'"):
        marl_jax.load_team("nobody")


def test_the_best_of_each_seed_is_kept(run: Path) -> None:
    rows = RunDirectory.open(run).rows()
    trainer, best, _ = load(run, "best")
    for seed in range(2):
        own = [row for row in rows if row["seed"] == seed]
        score = max(row["eval_return_mean"] for row in own)
        first = next(row for row in own if row["eval_return_mean"] == score)
        assert best.env_steps[seed] == first["env_steps"]
        policy = marl_jax.load_policy(run, seed, "best")
        evaluated = trainer.evaluate_seed(best._replace(method=policy.state))
        assert float(evaluated["eval_return"].mean()) == pytest.approx(score, abs=1e-5)
    with pytest.raises(marl_jax.ConfigurationError, match="holds 2, 3, best"):
        load(run, 7)


def test_the_best_survives_a_resume(run: Path, tmp_path: Path) -> None:
    parted = tmp_path / "parted"
    marl_jax.train("iac", "turn", 2, out=str(parted), **tiny.options(1))
    marl_jax.resume(parted, total_steps=60, progress=False)
    first, second = (load(folder, "best")[1] for folder in (run, parted))
    assert same(first.method.params, second.method.params)
    assert same(first.env_steps, second.env_steps)


@pytest.mark.parametrize(
    "damage",
    ["missing", *(pytest.param(x, marks=pytest.mark.slow) for x in ("empty", "another's"))],
)
def test_a_best_that_is_lost_is_kept_anew(run: Path, tmp_path: Path, damage: str) -> None:
    """As after a kill between the last checkpoint and it: the last evaluation's teams are still there."""
    shutil.copytree(run, tmp_path / "run")
    file, rows = tmp_path / "run" / "checkpoints" / "best.npz", RunDirectory.open(run).rows()
    file.unlink()
    if damage == "empty":
        file.touch()
    if damage == "another's":
        teams.write(file, {"x": np.zeros(2)}, {})
    marl_jax.resume(tmp_path / "run", progress=False)
    _, best, _ = load(tmp_path / "run", "best")
    for seed in range(2):
        scores = [row["eval_return_mean"] for row in rows if row["seed"] == seed]
        if scores[-1] == max(scores):
            assert best.env_steps[seed] == 60
            params = marl_jax.load_policy(run, seed).state.params
            assert same(marl_jax.load_policy(tmp_path / "run", seed, "best").state.params, params)


def test_teams_start_from_trained_ones(run: Path, tmp_path: Path) -> None:
    trained = load(run)[1].method
    options = {**tiny.options(1), "init_from": run}
    options["training_options"] = {**tiny.TRAINING, "keep_every": 1}
    out = str(tmp_path / "next")
    marl_jax.train("iac", "turn", 2, seed=5, out=out, **options)
    first = load(out, 0)[1].method
    # By their numbers: seed 5 from the run's seed 1, seed 6 from its seed 0.
    assert same(first.params, jax.tree.map(lambda x: x[::-1], trained.params))
    assert same(first.target_critic, first.params["critic"])
    assert not np.any(first.env_steps)
    assert marl_jax.load_policy(out).settings.init_from == str(run)


def test_more_seeds_than_teams_take_them_again_from_the_first(run: Path) -> None:
    _, state, settings = load(run)
    more = make_trainer(dataclasses.replace(settings, seeds=5))
    found = start_from(str(run), more)
    again = jax.tree.map(lambda x: x[np.array([0, 1, 0, 1, 0])], state.method.params)
    # Behind them stand rows of no seed, so that all devices have as many.
    assert same(jax.tree.map(lambda x: x[:5], found["params"]), again)


@pytest.mark.slow
def test_what_teams_started_from_may_go(run: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "next")
    marl_jax.train("iac", "turn", 1, out=out, **{**tiny.options(1), "init_from": run})
    run.rename(tmp_path / "gone")
    try:
        marl_jax.resume(out, total_steps=40, progress=False)
    finally:
        (tmp_path / "gone").rename(run)


def test_teams_of_other_sizes_are_refused_before_anything_is_written(
    run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "next"
    for method, words in (("iac", "must have shape"), ("iql", "has none")):
        options = {**tiny.options(1, method), "init_from": run, "out": str(out)}
        options["method_options"] = {**options["method_options"], "hidden_size": 8}
        with pytest.raises(marl_jax.ConfigurationError, match=words):
            marl_jax.train(method, "turn", 1, **options)
    options = {**tiny.options(1), "init_from": "nowhere", "out": str(out)}
    with pytest.raises(marl_jax.ConfigurationError, match="unknown team"):
        marl_jax.train("iac", "turn", 1, **options)
    assert not out.exists()


@pytest.mark.parametrize("name", teams.names())
def test_teams_that_come_with_the_library_fit(name: str) -> None:
    policy = marl_jax.load_team(name)
    env, method = name.rsplit("/", 1)
    assert (policy.settings.env, policy.settings.method) == (env, method)
    assert teams.file_of(name).stat().st_size < 1_000_000
    make_trainer(policy.settings)
    assert make_settings(method, env, 1, 0).env == env
