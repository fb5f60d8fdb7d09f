"""The command lines: what good and bad input get."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

import marl_jax
from envs import registry
from experiments import (
    command,
    credits,
    engines,
    evaluate,
    individuality,
    intrinsic_rewards,
    plot,
    roles,
    run,
    sweep,
)
from marl_jax import settings as settings_module
from marl_jax.loading import make_trainer
from marl_jax.loop import Assignment
from marl_jax.runs import RunDirectory
from marl_jax.settings import RunSettings, make_settings, presets
from marl_jax.storage import only_writer
from tests import tiny
from tests.methods.learners import make_batch
from tests.test_runs import rows_of

ROOT = Path(__file__).parent.parent
TINY = ["--method", "iac", "--env", "turn", "--seeds", "2", *tiny.FLAGS]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    marl_jax.train("iac", "turn", seeds=2, out=str(out), **tiny.options(2))
    return out


def call(main: object, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Calls an entry point as a program would be; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.run(main)  # type: ignore[arg-type]
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "lir", "--env", "turn"], "unknown method 'lir'; choose from: "),
        (["--method", "liir", "--env", "trun"], "Did you mean 'turn'?"),
        (["--method", "liir"], "--env is missing; choose from: "),
        (["--env", "turn"], "--method is missing; choose from: "),
        (["--method"], "--method: expected one argument"),
        ([*TINY, "--seeds", "0"], "seeds is 0; it must be a whole number at least 1."),
        ([*TINY, "--seed", "-1"], "seed is -1; it must be a whole number at least 0."),
        ([*TINY, "--seed", "4294967295"], "must be at most 4294967295"),
        ([*TINY, "--total-steps", "-1"], "total_steps is -1; it must be at least 1."),
        ([*TINY, "--total-steps", "many"], "--total-steps is 'many'; it must be a whole number."),
        ([*TINY, "--method.gamma", "x"], "--method.gamma is 'x'; it must be a number."),
        ([*TINY, "--method.gamma", "1.5"], "gamma is 1.5; it must be at least 0 and at most 1."),
        ([*TINY, "--method.gamma", "nan"], "gamma is nan; it must be"),
        ([*TINY, "--method.gama", "1"], "did you mean --method.gamma?"),
        ([*TINY, "--method.agent", "cnn"], "Expected one of ('gru', 'mlp')"),
        ([*TINY, "--env.time-limit", "0"], "time_limit is 0; it must be at least 1."),
        (
            [*TINY, "--preset", "fats"],
            "unknown preset 'fats'; choose from: authors, battles, brax_ppo, fast, grid, grid_maac, grid_ppo, jaxmarl, "
            "mpe_ppo, paper, pymarl, smax_ppo, sparse_ppo, yu.",
        ),
        ([*TINY, "--preset", "fast"], "preset 'fast' is not for iac; it is for: cds, cia, "),
        ([*TINY, "--resume", "nowhere"], "nowhere is not a run"),
        ([*TINY, "--out", "file/run"], "cannot write to file/run"),
        ([*TINY, "--out", "full"], "full exists already; give --out a new or empty folder"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    assert call(run.main, arguments, monkeypatch) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*")) == [
        "file",
        "full",
        "full/thesis.txt",
    ]


def test_resume_refuses_another_configuration(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, sentence in (
        (["--method.gamma", "0.5"], "method_options.gamma is 0.5 but the run in"),
        (["--seeds", "3"], "seeds is 3 but"),
        (["--method", "liir"], "method is 'liir' but"),
        (["--out", "elsewhere"], "--out is given with --resume"),
        (["--preset", "fast"], "--preset is given with --resume"),
    ):
        assert call(run.main, ["--resume", str(finished), *flags], monkeypatch) == 2
        assert sentence in capsys.readouterr().err


def test_resume_refuses_a_broken_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, sentence in (
        ("{", "cannot be read"),
        ("{}", "lacks method"),
        ("[]", "must be a table"),
    ):
        (tmp_path / "config.json").write_text(text)
        assert call(run.main, ["--resume", str(tmp_path)], monkeypatch) == 2
        assert sentence in capsys.readouterr().err


def test_list_and_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(run.main, ["--list"], monkeypatch) == 0
    listing = capsys.readouterr().out
    assert all(name in listing for name in ("iac", "central_v", "coma", "liir", "pursuit_1d"))
    assert call(run.main, ["--preset", "fast", "--help"], monkeypatch) == 0
    text = capsys.readouterr().out
    assert all(f" {name}: " in text for name in presets())
    assert "fast: Value methods in a fraction of the time: " in " ".join(text.split())
    assert call(run.main, ["--method", "liir", "--env", "turn", "--help"], monkeypatch) == 0
    text = capsys.readouterr().out
    for flag in ("--total-steps", "--part.liir.intrinsic-weight", "--env.time-limit", "--resume"):
        assert flag in text
    assert call(run.main, ["--method", "maddpg", "--env", "turn", "--help"], monkeypatch) == 0
    text = capsys.readouterr().out
    assert "--method.hidden-size" in text
    for only in ("--method.agent", "--method.head-sizes", "--method.observe-last-action"):
        assert only not in text
    assert call(run.main, ["--method", "trpo", "--env", "turn", "--help"], monkeypatch) == 0
    text = capsys.readouterr().out
    assert "--method.max-kl " in text
    assert "--method.clip " not in text


def test_a_presets_learner_is_trained_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "paper.toml").write_text("[methods.liir]\nlearner = 'iac'\n")
    monkeypatch.setattr(settings_module, "_configs", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    trained = []

    def run_training(settings: RunSettings, *_: object, **__: object) -> SimpleNamespace:
        trained.append(settings)
        return SimpleNamespace(interrupted=False, failures={})

    monkeypatch.setattr(run, "run_training", run_training)
    start = ["--method", "liir", "--env", "turn", "--preset", "paper"]
    assert call(run.main, [*start, "--method.td-lambda", "0.5"], monkeypatch) == 0
    assert trained == [make_settings("iac", "turn", 16, 0, {"method": {"td_lambda": 0.5}})]
    (folder,) = (tmp_path / "runs" / "turn" / "iac").iterdir()
    assert RunDirectory.open(folder).settings() == trained[0]
    assert call(run.main, [*start, "--help"], monkeypatch) == 0
    text = capsys.readouterr().out
    assert "--method.td-lambda" in text
    assert "--method.intrinsic-weight" not in text


def test_parts_have_options_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "check_settings", lambda settings: None)
    trained: list[Any] = []

    def run_training(settings: RunSettings, *_: object, **__: object) -> SimpleNamespace:
        trained.append(settings.method_options)
        return SimpleNamespace(interrupted=False, failures={})

    monkeypatch.setattr(run, "run_training", run_training)
    both = ["--method", "social-influence+eiti", "--backbone", "ippo", "--env", "turn"]
    flags = [
        "--part.eiti.influence-weight",
        "0.75",
        "--part.social-influence.influence-weight=0.25",
    ]
    rest = ["--method.table-bits", "6", "--method.lr", "0.5", "--out", "run"]
    assert call(run.main, [*both, *flags, *rest], monkeypatch) == 0
    own = trained[0]
    assert (own.eiti_influence_weight, own.social_influence_influence_weight) == (0.75, 0.25)
    assert (own.table_bits, own.lr) == (6, 0.5)
    assert RunDirectory.open("run").settings().method_options == own
    assert call(run.main, [*both, "--method.influence-weight", "1"], monkeypatch) == 2
    assert (
        "--method.influence-weight is an option of 2 parts; give --part.eiti.influence-weight or "
        "--part.social-influence.influence-weight."
    ) in capsys.readouterr().err
    # One part's options are the method's, too, under either name.
    for flag in ("--method.intrinsic-weight", "--part.liir.intrinsic-weight"):
        assert call(run.main, ["--method", "liir", "--env", "turn", flag, "0.5"], monkeypatch) == 0
        assert trained[-1].intrinsic_weight == 0.5


def test_more_seeds_than_there_is_memory_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = ["--method", "qmix", "--env", "turn", "--seeds", "1000000", "--out", str(out)]
    assert call(run.main, arguments, monkeypatch) == 2
    error = capsys.readouterr().err
    assert "seeds is 1000000; each keeps 0." in error
    most = re.search(r"the memory has (.*) GB, enough for (\d+)\.", error)
    assert most is not None
    # 5000 episodes of Turn take 27 MB.
    assert 30 * float(most[1]) < int(most[2]) < 40 * float(most[1])
    assert not out.exists()


def test_evaluate_draws_and_plot_compares(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gif, png = tmp_path / "out.gif", tmp_path / "curves.png"
    arguments = ["--run", str(finished), "--episodes", "3", "--render", str(gif)]
    assert call(evaluate.main, arguments, monkeypatch) == 0
    text = capsys.readouterr().out
    assert re.search(r"seed 0: return \S+ \(deviation \S+\), sampled \S+ \(deviation ", text)
    assert re.search(r"IQM of 2 seeds: .* interval .*\), sampled .* interval ", text)
    # Three episodes of five steps: at most six cells in one, and no fewer in all than in one.
    seeds, mean = _covered(text, r"seed \d: cells"), _covered(text, "mean of 2 seeds: cells")
    assert len(seeds) == 2
    np.testing.assert_allclose(np.mean(seeds, axis=0)[None], mean, atol=0.01)
    assert all(
        1 <= one <= 6 and one <= together <= 3 * one for together, one in zip(*mean[0], strict=True)
    )
    assert gif.read_bytes().startswith(b"GIF89a")
    assert call(plot.main, [str(finished), str(finished), "--out", str(png)], monkeypatch) == 0
    assert ", sampled " in capsys.readouterr().out
    both = png.read_bytes()
    assert both.startswith(b"\x89PNG")
    for column in ("eval_return_mean", "eval_sampled_return_mean"):
        arguments = [str(finished), str(finished), "--out", str(png), "--column", column]
        assert call(plot.main, arguments, monkeypatch) == 0
        assert "sampled " not in capsys.readouterr().out
        assert png.read_bytes() != both, "alone"
    for main, arguments, sentence in (
        (evaluate.main, ["--run", str(tmp_path)], "is not a run"),
        (evaluate.main, ["--run", str(finished), "--episodes", "0"], "must be at least 1"),
        (evaluate.main, ["--run", str(finished), "--seed", "7"], "must be one of 0 to 1"),
        (evaluate.main, ["--run", str(finished), "--checkpoint", "9"], "checkpoint is 9; "),
        (evaluate.main, ["--run", str(finished), "--render", "x.txt"], "must be a .gif file"),
        (plot.main, [str(finished), "--column", "profit"], "has no column 'profit'"),
        (plot.main, [str(finished), "--out", str(tmp_path / "no" / "x.png")], "cannot write"),
        (
            intrinsic_rewards.main,
            ["--run", str(finished)],
            "must be one of liir or liir_paper on pursuit_1d or smax",
        ),
    ):
        assert call(main, arguments, monkeypatch) == 2
        assert sentence in capsys.readouterr().err


def test_evaluate_plays_random_and_scripted_policies_in_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(registry._WORLDS, "uneven", ("tests.probes", "TakeOrWait", "Uneven-v0"))
    start = ["--env", "uneven", "--episodes", "4000", "--policy"]
    assert call(evaluate.main, [*start, "scripted"], monkeypatch) == 0
    line = "scripted on uneven: mean return of 4000 episodes 2 (95% interval 2 to 2)\n"
    assert capsys.readouterr().out == line
    assert call(evaluate.main, [*start, "random"], monkeypatch) == 0
    found = re.search(r"episodes (.*) \(95% interval (.*) to (.*)\)", capsys.readouterr().out)
    assert found is not None
    mean, low, high = map(float, found.groups())
    # 2 if one of three actions is not taken in four steps, p = (2/3)^4, else 1; deviation sqrt(p (1 - p)) = 0.398.
    assert mean == pytest.approx(1 + 16 / 81, abs=4 * 0.398 / 4000**0.5)
    assert high - mean == pytest.approx(1.96 * 0.398 / 4000**0.5, abs=2e-3)
    assert mean - low == pytest.approx(high - mean, abs=2e-3)
    for wrong, sentence in (
        ([], "--run is missing; give the folder of a run, or --policy random or scripted"),
        (["--env", "turn"], "--env is given without --policy"),
        (["--run", "x", "--env.time-limit", "3"], "--env.time-limit is given without --policy"),
        (["--policy", "scripted"], "--env is missing; choose from: "),
        (["--policy", "best", "--env", "turn"], "--policy is 'best'; it must be random or"),
        (["--policy", "random", "--env", "trun"], "Did you mean 'turn'?"),
        (["--policy", "random", "--env", "turn", "--run", "x"], "--run is given with --policy"),
        (["--policy", "random", "--env", "turn", "--episodes", "0"], "must be at least 1"),
    ):
        assert call(evaluate.main, wrong, monkeypatch) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1


def _covered(text: str, begin: str) -> NDArray[np.float64]:
    """The lines about cells: in all episodes and in one, of each agent; [lines, 2, N]."""
    found = re.findall(rf"^{begin} of each agent (.*), in one episode (.*)$", text, re.MULTILINE)
    return np.array([[[float(x) for x in part.split()] for part in line] for line in found])


@pytest.mark.slow
def test_credits_of_two_runs(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    png = tmp_path / "credits.png"
    runs = [tiny.untrained(tmp_path / method, method, "turn", 1) for method in ("vdn", "cia")]
    assert call(credits.main, [*runs, "--episodes", "2", "--out", str(png)], monkeypatch) == 0
    text = capsys.readouterr().out
    assert "vdn: the first two agents have the same credit at every step" in text
    assert "KL(vdn || vdn, cia) = 0, " in text
    assert png.read_bytes().startswith(b"\x89PNG")
    rows = png.with_suffix(".csv").read_text().splitlines()
    assert rows[0] == "run,step,agent,credit"
    assert len(rows) == 1 + 2 * 5 * 2
    assert (tmp_path / "credits_kl.csv").read_text().startswith("run,vdn,cia\nvdn,0,")
    for arguments, sentence in (
        ([], "no run is given"),
        ([str(finished)], "is a run of iac; it must be one of a value method with a mixer."),
        ([runs[0], "--episodes", "0"], "--episodes is 0; it must be at least 1."),
        ([runs[0], "--seed", "3"], "seed is 3; it must be one of 0 to 0."),
        ([runs[0], "--out", "numbers.csv"], "--out is numbers.csv; it must be a picture"),
    ):
        assert call(credits.main, arguments, monkeypatch) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_whereabouts_of_two_runs(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    png, eoi = tmp_path / "who.png", tiny.untrained(tmp_path / "eoi", "eoi", "turn", 1)
    arguments = [str(finished), eoi, "--episodes", "3", "--out", str(png)]
    assert call(individuality.main, arguments, monkeypatch) == 0
    text = capsys.readouterr().out
    assert "iac: two agents share " in text
    assert "eoi: two agents share " in text
    assert png.read_bytes().startswith(b"\x89PNG")
    rows = [line.split(",") for line in png.with_suffix(".csv").read_text().splitlines()]
    assert rows[0] == ["run", "agent", "row", "column", "share"]
    for run_name in ("iac", "eoi"):
        for agent in ("0", "1"):
            shares = [float(r[4]) for r in rows[1:] if r[:2] == [run_name, agent]]
            assert sum(shares) == pytest.approx(1.0, abs=1e-4)
    for arguments, sentence in (
        ([], "no run is given"),
        ([eoi, "--episodes", "0"], "--episodes is 0; it must be at least 1."),
        ([eoi, "--out", "numbers.csv"], "--out is numbers.csv; it must be a picture"),
        ([eoi, "--out", "nowhere/roles.png"], "a picture such as out.png in a folder that exists."),
    ):
        assert call(individuality.main, arguments, monkeypatch) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_roles_of_a_run_and_how_they_came_about(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method_options = tiny.method_options("roma")
    sections = {"training": tiny.TRAINING, "method": method_options, "env": tiny.ENV}
    # The preset's role encoder sees the last action too.
    settings = make_settings("roma", "pac_men", 1, 0, sections, preset="authors")
    run = RunDirectory.create(settings, {}, str(tmp_path / "roma"))
    state = make_trainer(settings).init()
    for evaluation in range(4):
        run.checkpoints.save(evaluation, state, keep_every=1)
        row = {"seed": 0, "env_steps": 20 * evaluation, "chunk": evaluation}
        run.append([{**row, "eval_return_mean": 0.0}])
    png, name = tmp_path / "roles.png", str(tmp_path / "roma")
    arguments = [name, "--steps", "0", "4", "--colour", "row", "--episodes", "2"]
    assert call(roles.main, [*arguments, "--out", str(png)], monkeypatch) == 0
    text = capsys.readouterr().out
    assert "dissimilarity within a type: 0." in text
    assert "between types" not in text, "all agents of Pac-Men are alike"
    for picture in ("roles", "roles_evolution"):
        assert (tmp_path / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    rows = png.with_suffix(".csv").read_text().splitlines()
    assert rows[0] == "step,agent,mean_0,mean_1,mean_2"
    assert len(rows) == 1 + 5 * 4
    rows = (tmp_path / "roles_dissimilarity.csv").read_text().splitlines()
    assert rows[0] == "agent,other,dissimilarity"
    assert len(rows) == 1 + 4 * 3, "no agent with itself"
    for more, sentence in (
        ([str(finished)], "is a run of a method without roles; it must be one of roma"),
        (
            [name, "--colour", "health"],
            "--colour is health; on this task it must be one of agent, row, column.",
        ),
        ([name, "--steps", "9"], "--steps is 9; each must be from 0 to 4"),
        ([name, "--episodes", "0"], "--episodes is 0; it must be at least 1."),
    ):
        assert call(roles.main, more, monkeypatch) == 2
        assert sentence in capsys.readouterr().err
    with pytest.raises(marl_jax.ConfigurationError, match=r"checkpoint is 9; .* holds 0, 1, 2, 3"):
        marl_jax.load_policy(name, checkpoint=9)


def test_dissimilarities_between_and_within_types() -> None:
    """Agents 0 and 1 are of one type, 2 of another; the second step counts in the first episode only.

    In a third episode, of which nothing is said between types, all are of one.
    """
    nan = np.nan
    first = [[nan, 0.1, 0.8], [0.3, nan, 1.0], [0.6, 0.8, nan]]
    second = [[nan, 0.5, 0.9], [0.5, nan, 0.9], [0.9, 0.9, nan]]
    alike = np.where(np.eye(3, dtype=bool), nan, 0.5)
    matrix = np.array([[first, first, alike], [second, np.full((3, 3), 7.0), alike]])
    kind = np.broadcast_to(np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]]), (3, 3, 3))
    valid = np.array([[True, True, True], [True, False, True]])
    # Episodes: between (0.8 + 0.9)/2 and 0.8, within (0.2 + 0.5)/2, 0.2 and 0.5.
    assert roles._table(matrix, kind, valid).split("\n") == [
        "dissimilarity between types: 0.8250 +- 0.0250 (2 episodes)",
        "dissimilarity within a type: 0.3500 +- 0.1225 (3 episodes)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("together", [[], ["--together"]])
def test_a_sweep_tries_every_choice_once(
    together: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = "agent=mlp hidden_size=4 num_envs=2 update_interval=5 batch_size=2 replay_capacity=20"
    chunks = ["training.eval_interval=20", "training.eval_episodes=2"]
    grid = [*small.split(), *chunks, "env.time_limit=5", "lr=0.001,0.01"]
    start = ["--method", "vdn", "--env", "turn", "--seeds", "2", "--total-steps", "20", *together]
    out = ["--out", str(tmp_path / "sweep")]
    assert call(sweep.main, [*start, *out, "--grid", *grid], monkeypatch) == 0
    assert "choice 2 of 2: agent=mlp, " in capsys.readouterr().out
    table = [
        line.split(",") for line in (tmp_path / "sweep" / "table.csv").read_text().splitlines()
    ]
    assert table[0][:7] == ["run", "return", "low", "high", "seeds", "sampled", "failed"]
    rows = RunDirectory(tmp_path / "sweep" / table[1][0]).rows()
    assert float(table[1][5]) == pytest.approx(
        np.mean([row["eval_sampled_return_mean"] for row in rows]), rel=1e-3
    )
    assert {(row[0], row[-1]) for row in table[1:]} == {("000", "0.001"), ("001", "0.01")}
    assert float(table[1][1]) >= float(table[2][1])
    assert (tmp_path / "sweep" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    # Once more trains nothing; another grid is refused, and so are wrong ones.
    assert call(sweep.main, [*start, *out, "--grid", *grid], monkeypatch) == 0
    assert "compiling" not in capsys.readouterr().out
    for wrong, sentence in (
        (["--grid", *grid[:-1], "lr=0.1"], "holds a run of another sweep"),
        (["--grid", "lr"], "--grid is 'lr'; it must be NAME=VALUE,VALUE,..."),
        (["--grid", "lr=1", "lr=2"], "--grid names lr twice"),
        (["--grid", "lr=1,2", "--draws", "3"], "--draws is 3; it must be at least 1 and at most 2"),
        (["--grid", "lr=1,2", "--draws", "1", "--draw-seed", "-1"], "--draw-seed is -1; it must"),
        (["--grid", "lr=0"], "lr is 0; it must be above 0."),
    ):
        assert call(sweep.main, [*start, *out, *wrong], monkeypatch) == 2
        assert sentence in capsys.readouterr().err
    # The second choice is found not to fit before the first is trained.
    large = ["--grid", "batch_size=2", "replay_capacity=1000,1000000000"]
    assert call(sweep.main, [*start, "--out", str(tmp_path / "large"), *large], monkeypatch) == 2
    assert "GB, enough for 0." in capsys.readouterr().err
    assert not (tmp_path / "large").exists()


def test_a_sweep_trains_choices_of_one_program_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which ones are, is said by `choices.groups`."""
    trained = []

    def train(assignments: Sequence[Assignment], _: object) -> list[SimpleNamespace]:
        folders = [one.directory for one in assignments]
        trained.append([folder.path.name for folder in folders])
        row = {"seed": 0, "env_steps": 20, "eval_sampled_return_mean": 1.0}
        for folder in folders:
            folder.append([row | {"eval_return_mean": float(folder.path.name)}])
        return [SimpleNamespace(interrupted=False) for _ in folders]

    monkeypatch.setattr(engines, "run_together", train)
    monkeypatch.setattr(sweep, "groups", lambda _: [[0, 2], [1, 3]])
    arguments = ["--method", "iac", "--env", "turn", "--seeds", "1", "--together"]
    grid = ["--grid", "gamma=0.8,0.9", "max_grad_norm=0,10"]
    out = ["--out", str(tmp_path / "sweep")]
    assert call(sweep.main, [*arguments, *out, *grid], monkeypatch) == 0
    assert trained == [["000", "002"], ["001", "003"]]
    text = capsys.readouterr().out
    assert "4 choices in 2 programs\n" in text
    assert text.index("choice 3 is done") < text.index("choice 2 of 4: gamma=0.8")
    with (tmp_path / "sweep" / "table.csv").open(newline="") as stream:
        table = [(row["run"], row["gamma"]) for row in csv.DictReader(stream)]
    assert table == [("003", "0.9"), ("002", "0.9"), ("001", "0.8"), ("000", "0.8")]


def test_a_sweep_goes_on_after_choices_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One raises, one loses a seed, one both of them before anything was measured."""

    def train(assignments: Sequence[Assignment], _: object) -> list[SimpleNamespace]:
        (run,) = [one.directory for one in assignments]
        number = run.path.name
        if number == "000":
            raise RuntimeError("RESOURCE_EXHAUSTED:\n out of memory")
        failed = {"001": {}, "002": {1: "loss became nan"}, "003": {0: "inf", 1: "inf"}}[number]
        row = {"env_steps": 20, "eval_return_mean": 2.0, "eval_sampled_return_mean": 1.0}
        healthy = [{"seed": seed, **row} for seed in (0, 1) if seed not in failed]
        if healthy:
            run.append(healthy)
        if failed:
            run.write_failures(failed)
        return [SimpleNamespace(interrupted=False)]

    monkeypatch.setattr(engines, "run_together", train)
    out = tmp_path / "sweep"
    arguments = ["--method", "iac", "--env", "turn", "--seeds", "2", "--out", str(out)]
    grid = ["--grid", "gamma=0.6,0.7,0.8,0.9"]
    assert call(sweep.main, [*arguments, *grid], monkeypatch) == 1
    text = capsys.readouterr().out
    assert "choice 1 failed: RuntimeError: RESOURCE_EXHAUSTED: out of memory\n" in text
    assert "choice 3 failed: seed 1: loss became nan\n" in text
    assert "3 of 4 choices failed; the table says how\n" in text
    with (out / "table.csv").open(newline="") as stream:
        table = {row["run"]: row for row in csv.DictReader(stream)}
    assert list(table) == ["001", "002", "000", "003"]
    assert [row["return"] for row in table.values()] == ["2", "2", "", ""]
    assert table["001"]["failed"] == ""
    assert table["003"]["failed"] == "seed 0: inf; seed 1: inf"
    with only_writer(out):
        assert call(sweep.main, [*arguments, *grid], monkeypatch) == 2
    assert "is being written by another process" in capsys.readouterr().err


@pytest.mark.slow
def test_intrinsic_reward_histogram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, png = (
        tiny.untrained(tmp_path / "run", "liir_paper", "pursuit_1d", 2),
        tmp_path / "figure2.png",
    )
    arguments = ["--run", out, "--episodes", "4", "--out", str(png)]
    assert call(intrinsic_rewards.main, arguments, monkeypatch) == 0
    assert "of 2 seeds" in capsys.readouterr().out
    assert png.exists()
    assert png.with_suffix(".csv").read_text().startswith("seed,good_mean")


def test_attacks_below_half_health() -> None:
    """Of five: one that is not an attack, one at half health, one by a dead agent, one after the end."""
    health = jnp.array([0.2, 0.3, 0.5, 0.1, 0.4])[:, None, None]
    batch = make_batch([4], [True], steps=5)
    agents = batch.num_agents
    batch = batch._replace(
        global_state=jnp.broadcast_to(
            jnp.pad(health, ((0, 1), (0, 0), (0, 0)))[..., :1], (6, 1, 10 * agents + 40)
        ),
        action=jnp.broadcast_to(jnp.array([5, 4, 6, 5, 5])[:, None, None], (5, 1, agents)),
        alive=jnp.ones((6, 1, agents), bool).at[3, 0, 1:].set(False),
    )
    table = np.broadcast_to(np.arange(7.0), (5, 1, agents, 7))
    found, paid = intrinsic_rewards.attacks_below_half(batch, table, 5)
    # The first step's attacks by all, the fourth's by agent 0.
    np.testing.assert_allclose(sorted(found), [0.1] + [0.2] * agents, rtol=1e-6)
    np.testing.assert_array_equal(paid, 5.0)
    # (0.2, 0.1) and (5, 5), by hand for one attack each: 1.5 / (sqrt 0.05 sqrt 50) = 0.9487
    assert intrinsic_rewards.cosine(np.array([0.2, 0.1]), np.array([5.0, 5.0])) == pytest.approx(
        0.948683, abs=1e-6
    )
    assert intrinsic_rewards.cosine(np.zeros(2), np.ones(2)) == 0.0


@pytest.mark.slow
def test_intrinsic_rewards_of_battles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tiny.untrained(tmp_path / "run", "liir", "smax/3m", 2, time_limit=40)
    png = tmp_path / "health.png"
    arguments = ["--run", out, "--episodes", "16", "--out", str(png)]
    assert call(intrinsic_rewards.main, arguments, monkeypatch) == 0
    assert "mean cosine over seeds: " in capsys.readouterr().out
    assert png.exists()
    assert png.with_suffix(".csv").read_text().startswith("seed,attacks,cosine,correlation")


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "experiments" / "run.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def wait_for_evaluations(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if RunDirectory(out).checkpoints.steps()[-1:] >= [count]:
            return
        time.sleep(0.01)
    process.kill()
    pytest.fail(f"the run never got that far: {process.communicate()[0]}")


VDN = ["--method", "vdn", "--env", "turn", "--seeds", "2", *tiny.VALUE_FLAGS]


def stopped(number: signal.Signals, out: Path) -> tuple[int, str]:
    """The exit status and output of a run of VDN, which keeps a replay, that is sent a signal in its midst."""
    process = start([*VDN, "--total-steps", "4000", "--out", str(out)])
    wait_for_evaluations(out, 3, process)
    process.send_signal(number)
    text = process.communicate(timeout=60)[0]
    assert 3 <= RunDirectory(out).checkpoints.steps()[-1] < 200
    return process.returncode, text


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    status, text = stopped(signal.SIGINT, out)
    assert status == 130
    assert f"go on with: python experiments/run.py --resume {out}" in text


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped(signal.SIGKILL, out)
    reached = RunDirectory(out).checkpoints.steps()[-1]
    resumed = marl_jax.resume(out, total_steps=20 * (reached + 2), progress=False)
    options = tiny.options(reached + 2, "vdn")
    whole = marl_jax.train("vdn", "turn", seeds=2, out=str(tmp_path / "whole"), **options)
    assert rows_of(out) == rows_of(tmp_path / "whole")
    assert resumed.final_returns.tolist() == whole.final_returns.tolist()


@pytest.mark.slow
def test_output_without_a_terminal_is_plain(tmp_path: Path) -> None:
    process = start([*TINY, "--total-steps", "40", "--out", str(tmp_path / "run")])
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 0, text
    lines = text.splitlines()
    assert lines[0].startswith("iac on turn: 2 seeds, 40 env steps each")
    assert lines[1].startswith("each seed keeps")
    assert lines[2] == "compiling ..."
    assert re.fullmatch(r"compiled in .* s, takes .* GB of memory", lines[3])
    assert "100%" in text
    assert "env steps/s" in text
    assert "final return, IQM of 2 seeds" in text
    assert "\x1b" not in text
