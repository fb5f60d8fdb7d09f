"""Runs on disk: exact resume, damage, failures, files."""

import csv
import errno
import json
import math
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import marl_jax
from envs import registry
from marl_jax import checkpointing
from marl_jax.checkpointing import Checkpoints
from marl_jax.runs import RunDirectory, curve_of, summary
from tests import tiny


def rows_of(run: Path) -> list[dict[str, float]]:
    rows = RunDirectory(run).rows()
    return [{k: v for k, v in row.items() if k != "train_seconds"} for row in rows]


def assert_same_state(a: object, b: object) -> None:
    def raw(x: jax.Array) -> np.ndarray:
        is_key = jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    jax.tree.map(lambda x, y: np.testing.assert_array_equal(raw(x), raw(y)), a, b)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of LIIR, three seeds, four chunks."""
    out = tmp_path_factory.mktemp("finished") / "run"
    marl_jax.train("liir", "turn", seeds=3, out=str(out), **tiny.options(4, "liir"))
    return out


def test_files_of_a_run(finished: Path) -> None:
    assert {file.name for file in finished.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.json",
        "curve.png",
        "metrics.csv",
        "results.json",
    }
    rows = rows_of(finished)
    assert len(rows) == 3 * 4
    assert list(rows[0])[:2] == ["seed", "env_steps"]
    assert "eval_return_mean" in rows[0]
    assert [row["env_steps"] for row in rows if row["seed"] == 1] == [20, 40, 60, 80]
    config = json.loads((finished / "config.json").read_text())
    assert config["seeds"] == 3
    assert config["method_options"]["gamma"] == 0.99
    assert config["versions"]["jax"] == jax.__version__


def test_results_follow_marl_evals_schema(finished: Path) -> None:
    tree = json.loads((finished / "results.json").read_text())
    seeds = tree["marl_jax"]["turn"]["liir"]
    assert set(seeds) == {"seed_0", "seed_1", "seed_2"}
    assert set(seeds["seed_0"]) == {"step_1", "step_2", "step_3", "step_4", "absolute_metrics"}
    assert seeds["seed_0"]["step_2"]["step_count"] == 40
    row = next(r for r in rows_of(finished) if r["seed"] == 0 and r["env_steps"] == 40)
    for metric in ("return", "sampled_return"):
        assert len(seeds["seed_0"]["absolute_metrics"][metric]) == 20
        measured = seeds["seed_0"]["step_2"][metric]
        assert len(measured) == 2
        assert np.mean(measured) == pytest.approx(row[f"eval_{metric}_mean"])
    assert seeds["seed_0"]["step_2"]["return"] != seeds["seed_0"]["step_2"]["sampled_return"]


def test_a_run_from_before_sampled_returns_is_drawn_but_not_mixed_with_new_rows(
    finished: Path, tmp_path: Path
) -> None:
    rows = [
        {k: v for k, v in row.items() if k != "eval_sampled_return_mean"}
        for row in RunDirectory(finished).rows()
    ]
    shutil.copy(finished / "config.json", tmp_path)
    run = RunDirectory(tmp_path)
    assert run.draw() is None
    run.append(rows)
    assert run.sampled_curve() is None
    assert run.draw() == tmp_path / "curve.png"
    with pytest.raises(marl_jax.ConfigurationError, match="has no column 'eval_sampled_return"):
        run.curve("eval_sampled_return_mean")
    with pytest.raises(marl_jax.ConfigurationError, match="other columns than are measured now"):
        run.append(RunDirectory(finished).rows())
    assert run.rows() == rows
    (tmp_path / "metrics.csv").write_text("seed,env_steps\n0,many\n")
    with pytest.raises(marl_jax.ConfigurationError, match=r"metrics\.csv cannot be read"):
        run.rows()
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(marl_jax.ConfigurationError, match=r"results\.json cannot be read"):
        run.finished()


# QMIX has a replay. Below, and in `tests/test_command_line.py`, runs of IQL and VDN, which have one too, go on.
@pytest.mark.slow
@pytest.mark.parametrize("method", ["qmix", "iac", "liir"])
def test_resume_is_exact(method: str, tmp_path: Path) -> None:
    four, two = tiny.options(4, method), tiny.options(2, method)
    whole = marl_jax.train(method, "turn", seeds=3, out=str(tmp_path / "whole"), **four)
    marl_jax.train(method, "turn", seeds=3, out=str(tmp_path / "half"), **two)
    resumed = marl_jax.resume(tmp_path / "half", total_steps=80, progress=False)
    assert rows_of(tmp_path / "half") == rows_of(tmp_path / "whole")
    assert_same_state(resumed.state, whole.state)
    results = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("whole", "half")]
    assert results[0] == results[1]


def test_resume_measures_again_what_came_after_the_checkpoint(
    finished: Path, tmp_path: Path
) -> None:
    """As after a kill between writing the metrics and saving the checkpoint."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "checkpoints" / "4")
    marl_jax.resume(run, progress=False)
    assert rows_of(run) == rows_of(finished)
    assert (run / "results.json").read_text() == (finished / "results.json").read_text()


def test_incomplete_checkpoint_is_passed_over(finished: Path, tmp_path: Path) -> None:
    """A run killed while saving has a folder without a digest."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "checkpoints" / "4" / "digest.json").unlink()
    # From which it goes on as in the test above.
    assert Checkpoints(run / "checkpoints").steps() == [3]


def cut(file: Path, by: int = 10) -> None:
    file.write_bytes(file.read_bytes()[:-by])


def damage(run: Path, step: int) -> None:
    files = [f for f in (run / "checkpoints" / str(step) / "state").rglob("*") if f.is_file()]
    cut(max(files, key=lambda f: f.stat().st_size))


def test_a_run_goes_on_from_the_newest_checkpoint_that_is_whole(
    finished: Path, tmp_path: Path
) -> None:
    """And from metrics whose last line is cut: both are computed again."""
    run, display = tmp_path / "run", Told()
    shutil.copytree(finished, run)
    damage(run, 4)
    cut(run / "metrics.csv")
    with pytest.warns(UserWarning, match="checkpoint 4 of .* is damaged; this is 3, the newest"):
        assert marl_jax.load_policy(run).env_steps == 60
    with pytest.raises(marl_jax.ConfigurationError, match=r"checkpoints/4 is damaged; it must be"):
        marl_jax.load(run, checkpoint=4)
    result = marl_jax.resume(run, progress=display)
    assert "checkpoint 4 is damaged; going on from 3, the newest that is whole" in display.messages
    assert rows_of(run) == rows_of(finished)
    assert (run / "results.json").read_text() == (finished / "results.json").read_text()
    # With nothing whole nothing is touched.
    for step in (3, 4):
        damage(run, step)
    before = (run / "metrics.csv").read_text()
    with pytest.raises(marl_jax.ConfigurationError, match=r"checkpoints/4 is damaged"):
        marl_jax.resume(run, progress=False)
    assert (run / "metrics.csv").read_text() == before
    assert not result.interrupted


def test_lost_measurements_are_counted(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    kept = dict.fromkeys((0, 1, 2), 60)
    lines = (run.path / "metrics.csv").read_text().splitlines(keepends=True)
    (run.path / "metrics.csv").write_text("".join(lines[:5]) + lines[5][:9])
    # Of 3 seeds x 3 evaluations 4 are left.
    assert run.keep_measurements(kept) == 5
    assert len(run.rows()) == 4
    assert (run.path / "metrics.csv").read_text().endswith("\n")
    (run.path / "results.json").unlink()
    assert RunDirectory(run.path).keep_measurements(kept) == 4


def test_a_folder_has_one_writer(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    with (
        RunDirectory(run).locked(),
        pytest.raises(marl_jax.ConfigurationError, match="is being written by another process"),
    ):
        marl_jax.resume(run, progress=False)
    assert marl_jax.resume(run, progress=False).final_returns.shape == (3,)


FULL = OSError(errno.ENOSPC, "No space left on device")


def refuse(*_: Any, **__: Any) -> None:
    raise FULL


def test_a_full_disk_gets_a_sentence_and_the_command_to_go_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "checkpoints" / "4")
    monkeypatch.setattr(checkpointing, "_write_arrays", refuse)
    sentence = (
        rf"cannot write to {run} \(No space left on device\); what is saved there is whole: once it can be written, "
        rf"go on with: marl-jax train --resume {run}$"
    )
    with pytest.raises(marl_jax.ConfigurationError, match=sentence):
        marl_jax.resume(run, progress=False)
    monkeypatch.undo()
    assert RunDirectory(run).checkpoints.steps() == [3]
    marl_jax.resume(run, progress=False)
    assert rows_of(run) == rows_of(finished)


def test_a_full_disk_leaves_every_file_as_it_was(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    directory = RunDirectory(run)
    rows, results = directory.rows(), directory.read_results()
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(csv.DictWriter, "writerows", refuse)
    for write in (
        lambda: directory.append(rows[:1]),
        lambda: directory.keep_measurements({0: 40, 1: 40, 2: 40}),
        lambda: directory.add_results({0: results["seed_0"]}),
        lambda: directory.write_failures({1: "nan"}),
        lambda: directory.draw(),
    ):
        with pytest.raises(marl_jax.ConfigurationError, match="No space left"), directory.writing():
            write()
        assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


def test_a_folder_that_is_removed_stays_away(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    state = marl_jax.load(run)[1]
    shutil.rmtree(run)
    directory = RunDirectory(run)
    for write in (
        lambda: directory.checkpoints.save(5, state),
        lambda: directory.append([{"seed": 0, "env_steps": 100}]),
    ):
        with pytest.raises(marl_jax.ConfigurationError, match="was removed"), directory.writing():
            write()
    assert not run.exists()


def test_a_failed_seed_does_not_take_its_neighbours_along(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for step in ("3", "4"):
        shutil.rmtree(run / "checkpoints" / step)
    marl_jax.train("liir", "turn", seeds=3, out=str(tmp_path / "half"), **tiny.options(2, "liir"))
    _, state, _ = marl_jax.load(tmp_path / "half")
    actor = state.method.params["actor"]
    poisoned = jax.tree.map(lambda x: x.at[1].set(math.nan), actor)
    learner = state.method._replace(params={**state.method.params, "actor": poisoned})
    Checkpoints(tmp_path / "half" / "checkpoints").save(2, state._replace(method=learner))
    result = marl_jax.resume(tmp_path / "half", total_steps=80, progress=False)
    assert set(result.failures) == {1}
    assert "became nan at iteration 5" in result.failures[1]
    assert result.final_returns.shape == (2,)
    healthy = [row for row in rows_of(finished) if row["seed"] != 1]
    assert [row for row in rows_of(tmp_path / "half") if row["seed"] != 1] == healthy
    assert max(r["env_steps"] for r in rows_of(tmp_path / "half") if r["seed"] == 1) == 40
    assert RunDirectory(tmp_path / "half").failures() == result.failures


def test_a_seed_among_others(finished: Path, tmp_path: Path) -> None:
    """Bit for bit: on a CPU the seeds of a device run one after the other."""
    others = marl_jax.train(
        "liir", "turn", seeds=3, seed=2, out=str(tmp_path / "run"), **tiny.options(4, "liir")
    )
    own = [
        [row for row in rows_of(run) if row["seed"] == 2] for run in (tmp_path / "run", finished)
    ]
    assert own[0] == own[1]
    _, state, _ = marl_jax.load(finished)
    assert_same_state(
        *(jax.tree.map(lambda x, i=i: x[i], s) for s, i in ((state, 2), (others.state, 0)))
    )


@pytest.fixture
def uneven(monkeypatch: pytest.MonkeyPatch) -> str:
    """A task whose episodes last 1 to 4 steps, as the agents choose: seeds have their budget at different times."""
    monkeypatch.setitem(registry._WORLDS, "uneven", ("tests.probes", "TakeOrWait", "Uneven-v0"))
    return "uneven"


def uneven_options(total_steps: int) -> dict[str, Any]:
    # Four episodes of at most 16 steps in all, at least 4, between evaluations; the replay holds more of them.
    return {
        "total_steps": total_steps,
        "training_options": {"eval_interval": 16, "eval_episodes": 2},
        "method_options": tiny.method_options("iql")
        | {"update_interval": 4, "replay_capacity": 10 * 4},
    }


class Told:
    """A display that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float]] = []
        self.value = ""
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def chunk(self, fraction: float, steps_per_second: float, value: str, left: float) -> None:
        self.told.append((fraction, left))
        self.value = value

    def close(self) -> None:
        pass


def test_what_users_look_at_first_comes_first(tmp_path: Path) -> None:
    """A task's headline, here whether the box was delivered: said, kept and drawn before the return."""
    display, out = Told(), tmp_path / "run"
    options = {**tiny.options(2, "mappo"), "progress": display}
    result = marl_jax.train("mappo", "push_box", seeds=2, out=str(out), **options)
    assert result.final_headline is not None
    assert result.final_headline.shape == (2,)
    run = RunDirectory(out)
    assert run.headline_column() == "eval_solved_mean"
    for measured in run.read_results().values():
        assert all(set(episodes) >= {"return", "solved"} for episodes in measured.values())
    assert re.fullmatch(r"solved \S+  return \S+ \(sampled \S+\)", display.value)
    ends = [text for text in display.messages if text.startswith("final ")]
    assert [text.split(",")[0] for text in ends] == ["final solved", "final return"]
    interval = summary(result.final_headline)
    assert f"2 seeds x 20 episodes: {interval}; per seed" in ends[0]


@pytest.mark.slow
def test_a_seed_stops_at_its_own_budget(uneven: str, tmp_path: Path) -> None:
    options, display = uneven_options(60), Told()
    out = tmp_path / "run"
    result = marl_jax.train("iql", uneven, 4, out=str(out), progress=display, **options)
    rows = rows_of(out)
    chunks = [[row["chunk"] for row in rows if row["seed"] == seed] for seed in range(4)]
    last_chunks = [numbers[-1] for numbers in chunks]
    assert len(set(last_chunks)) > 1, "all seeds took as long"
    assert all(sorted(set(numbers)) == numbers for numbers in chunks)
    # The first that has its budget waits for the others.
    for seed in (int(np.argmin(last_chunks)),):
        alone = marl_jax.train(
            "iql", uneven, 1, seed=seed, out=str(tmp_path / str(seed)), progress=False, **options
        )
        own = rows_of(tmp_path / str(seed))
        assert [row for row in rows if row["seed"] == seed] == own
        assert own[-2]["env_steps"] < 64 <= own[-1]["env_steps"] == result.policy(seed).env_steps
        assert result.final_returns[seed] == alone.final_returns[0]
        of_seed = jax.tree.map(lambda x, seed=seed: x[seed : seed + 1], result.state)
        assert_same_state(of_seed, alone.state)
    # The display follows the seed with the fewest steps.
    assert len(display.told) == max(last_chunks)
    assert display.told[-1] == (1.0, 0.0)
    assert all(fraction < 1.0 and left > 0.0 for fraction, left in display.told[:-1])
    # The means over seeds of each one's last greedy and sampled returns; of the final ones the IQM.
    last = {row["seed"]: row for row in rows}.values()
    greedy, sampled = (
        np.mean([row[f"eval_{name}_mean"] for row in last]) for name in ("return", "sampled_return")
    )
    assert display.value == f"return {greedy:.4g} (sampled {sampled:.4g})"
    line = next(text for text in display.messages if text.startswith("final return"))
    for values in (result.final_returns, result.final_sampled_returns):
        assert f"{np.sort(values)[1:3].mean():.4g} (95% interval " in line
    # marl-eval finds the same steps of every seed: what completes each interval of 16.
    for seed, measured in enumerate(RunDirectory(out).read_results().values()):
        assert list(measured) == ["step_1", "step_2", "step_3", "step_4", "absolute_metrics"]
        own = [row["env_steps"] for row in rows if row["seed"] == seed]
        assert [measured[f"step_{k}"]["step_count"] for k in (1, 2, 3, 4)] == own
        # A chunk has at most 16 steps, and the budget of 60 is rounded up.
        assert all(end <= x < end + 16 for end, x in zip((16, 32, 48, 64), own, strict=True))


@pytest.mark.slow
def test_resume_with_more_steps_of_seeds_that_waited(uneven: str, tmp_path: Path) -> None:
    for name, total in (("whole", 100), ("half", 60)):
        out = str(tmp_path / name)
        marl_jax.train("iql", uneven, 4, out=out, progress=False, **uneven_options(total))
    _, half, _ = marl_jax.load(tmp_path / "half")
    assert len(set(half.iteration.tolist())) > 1, "nobody waited"
    resumed = marl_jax.resume(tmp_path / "half", total_steps=100, progress=False)
    rows = [
        sorted(rows_of(tmp_path / n), key=lambda row: (row["seed"], row["chunk"]))
        for n in ("whole", "half")
    ]
    assert rows[0] == rows[1]
    _, whole, _ = marl_jax.load(tmp_path / "whole")
    assert_same_state(resumed.state._replace(replay=None), whole)
    results = [RunDirectory(tmp_path / n).read_results() for n in ("whole", "half")]
    for seed, measured in results[0].items():
        assert measured == results[1][seed]


def test_a_curve_of_seeds_evaluated_after_different_steps() -> None:
    def series(seed: int, points: list[tuple[int, float]]) -> list[dict[str, float]]:
        return [{"seed": seed, "env_steps": x, "y": y} for x, y in points]

    slow = series(0, [(10, 1.0), (20, 5.0), (30, 9.0)])
    quick = series(3, [(5, 0.0), (10, 1.0), (15, 2.0), (26, 4.2)])
    failed = series(4, [(5, 9.0)])
    steps, values = curve_of([*quick, *slow, *failed], "y", {4})
    assert steps.tolist() == [10, 18, 26]
    np.testing.assert_allclose(values, [[1.0, 2.6, 4.2], [1.0, 4.2, 7.4]])
    # Of one length, as they are; nothing in common, where the first ends.
    steps, values = curve_of([*slow, *series(1, [(10, 2.0), (20, 0.0), (30, 1.0)])], "y")
    assert steps.tolist() == [10, 20, 30]
    assert values.tolist() == [[1.0, 5.0, 9.0], [2.0, 0.0, 1.0]]
    steps, values = curve_of([*slow, *failed], "y")
    assert (steps.tolist(), values.tolist()) == ([5], [[1.0], [9.0]])


def test_policy_of_a_run(finished: Path) -> None:
    policy = marl_jax.load_policy(finished, seed=1)
    state, timestep = policy.env.reset(jax.random.key(0))
    del state
    observation = jax.tree.map(lambda x: x[None], timestep.observation)
    action, memory = policy(observation, policy.initial_memory())
    assert action.shape == (1, 2)
    action, _ = policy(observation, memory, jax.random.key(1), explore=True)
    assert policy.env.action_spec.num_values.shape == action.shape[1:]
    batch, extras = policy.play(jax.random.key(0), num_episodes=3)
    assert batch.reward.shape == (5, 3, 2)
    assert extras["penalties"].shape == (3,)
    assert len(policy.episode(jax.random.key(0)).states) == 6
    with pytest.raises(marl_jax.ConfigurationError, match="one of 0 to 2"):
        marl_jax.load_policy(finished, seed=3)
    with pytest.raises(marl_jax.ConfigurationError, match=r"agents_view .* must be \[environments"):
        policy(timestep.observation, memory)
    with pytest.raises(marl_jax.ConfigurationError, match="the memory is not that of 1 env"):
        policy(observation, policy.initial_memory(2))
    # A seed is as good as a key, typed or raw.
    for key in (0, np.int64(0), jax.random.PRNGKey(0)):
        same, _ = policy.play(key, np.int32(3))
        np.testing.assert_array_equal(same.action, batch.action)
    again = pickle.loads(pickle.dumps(policy))
    np.testing.assert_array_equal(again(observation, memory)[0], policy(observation, memory)[0])
    assert repr(policy).startswith("Policy(")
    assert len(repr(policy)) < 200


def test_train_without_a_folder_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = marl_jax.train("iac", "turn", seeds=2, **tiny.options(1))
    assert list(tmp_path.iterdir()) == []
    steps, values = result.curve()
    assert steps.tolist() == [20]
    assert values.shape == (2, 1)
    last = {row["seed"]: row["eval_sampled_return_mean"] for row in result.rows}
    assert result.curve("eval_sampled_return_mean")[1].tolist() == [[last[0]], [last[1]]]
    with pytest.raises(marl_jax.ConfigurationError, match=r"no column 'profit'; choose from: seed"):
        result.curve("profit")
    assert "2 seeds, final returns [" in repr(result)
    assert all(len(repr(x)) < 400 for x in (result, result.trainer))
    assert result.policy(1).initial_memory(4).last_action.shape == (4, 2, 6)


def test_what_does_not_fit_the_task_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(marl_jax.ConfigurationError, match="influencers is"):
        marl_jax.train("alita", "turn", out=str(out), method_options={"influencers": (5,)})
    assert not out.exists()
