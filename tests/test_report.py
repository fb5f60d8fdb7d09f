"""The report: one page that holds everything, is true to the runs, and shows in a browser."""

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from experiments import report, run
from marl_jax import ConfigurationError
from marl_jax.loading import make_trainer
from marl_jax.runs import RunDirectory
from marl_jax.settings import make_settings
from tests import tiny
from tests.test_command_line import call

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
VOID = {"meta", "img"}


def written(
    out: Path, method: str, final: Sequence[float], env: str = "turn", **env_options: Any
) -> str:
    """The folder of a finished run without checkpoints, as if it had been trained."""
    sections = {
        "training": tiny.TRAINING,
        "method": tiny.method_options(method),
        "env": tiny.ENV | env_options,
    }
    settings = make_settings(method, env, len(final), 0, sections)
    record = {"versions": {"jax": "0.10.2", "jaxmarl": None}, "hardware": "1 x <cpu>"}
    directory = RunDirectory.create(settings, record, str(out))
    for chunk in (1, 2):
        rows = [
            {"seed": seed, "env_steps": 20 * chunk, "eval_return_mean": chunk * value}
            | {"eval_sampled_return_mean": value, "entropy": 0.5, "train_seconds": 61.0 * chunk}
            for seed, value in enumerate(final)
        ]
        directory.append(rows)
    directory.finish_results(
        {
            seed: {"return": [value - 1.0, value + 1.0], "sampled_return": [value, value]}
            for seed, value in enumerate(final)
        }
    )
    return str(out)


class Page(HTMLParser):
    """What is on a page; refuses one whose elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a run with a team to show, made in the shell's way."""
    folder = tmp_path_factory.mktemp("watched")
    name = written(folder / "run", "iac", [1.0, 3.0])
    directory = RunDirectory.open(name)
    directory.checkpoints.save(0, make_trainer(directory.settings()).init())
    assert report.main([name, "--out", str(folder / "report.html")]) == 0
    return folder / "report.html"


def test_a_page_of_a_run(watched: Path) -> None:
    text = watched.read_text()
    page = Page(text)
    assert page.all("title")
    assert "iac on turn" in page.text
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    # Everything is in the file.
    assert not re.findall(r"https?://|<link|<script|@import|url\(", text)
    pictures = page.all("img")
    kinds = [str(picture["src"]).partition(";")[0] for picture in pictures]
    assert kinds == ["data:image/svg+xml", "data:image/gif"]
    assert all(picture["alt"] for picture in pictures)
    assert "ends at 4 (2 to 6) after 40 steps" in str(pictures[0]["alt"])
    assert "iac, seed 1 (the best one), after 0 environment steps: 5 steps, return " in page.text
    assert all("scope" in cell for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert not list(watched.parent.glob("*.tmp"))


def test_the_numbers_are_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / '<b>"one"&'
    runs = [written(odd, "iac", [1.0, 2.0, 3.0, 10.0]), written(tmp_path / "two", "coma", [7.0])]
    RunDirectory.open(runs[0]).write_failures({1: "loss became nan"})
    out = tmp_path / "report.html"
    arguments = [*runs, "--out", str(out), "--columns", "entropy", "--no-episode", "--no-figures"]
    assert report.main(arguments) == 0
    assert capsys.readouterr().out == f"report: {out}\n"
    page = Page(out.read_text())
    # The middle two of four, in the final evaluation.
    (row,) = [row for row in page.rows if row[0] == "iac" and "final" in row[-1]]
    assert row[1] == "2.5 (1 to 10)"
    assert row[3:] == ["3 of 4", "final evaluation, 2 episodes a seed"]
    assert ["coma", "7 (7 to 7)", "7 (7 to 7)", "1 of 1", row[-1]] in page.rows
    assert ["1", "2", "2", "40", "loss became nan"] in page.rows
    assert ["0", "7", "7", "40"] in page.rows
    assert len(page.all("img")) == 2, "the return, the entropy"
    assert ["--seeds", "4", "1"] in page.rows
    assert ["training took", "2 min 02 s", "2 min 02 s"] in page.rows
    assert ["folder", runs[0], runs[1]] in page.rows
    assert ["hardware", "1 x <cpu>", "1 x <cpu>"] in page.rows
    assert ["jaxmarl", report.NONE, report.NONE] in page.rows


def test_a_run_that_goes_on_is_told_by_its_last_evaluation(tmp_path: Path) -> None:
    name = written(tmp_path / "run", "iac", [1.0, 3.0])
    (tmp_path / "run" / "results.json").unlink()
    out = tmp_path / "report.html"
    assert report.main([name, "--out", str(out)]) == 0
    page = Page(out.read_text())
    assert [
        "iac",
        "4 (2 to 6)",
        "2 (1 to 3)",
        "2 of 2",
        "evaluation after 40 environment steps",
    ] in page.rows
    assert "There is no team to show: " in page.text
    assert "holds no complete checkpoint" in page.text


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("liir", {"value_normalisation": False, "critic_hidden": (4, 5)}),
        ("gre+roma@qmix", {"observe_last_action": False}),
        ("alita", {}),
    ],
)
def test_the_command_trains_such_a_run(method: str, options: dict[str, Any]) -> None:
    own = tiny.method_options(method) | options
    sections = {"training": tiny.TRAINING, "method": own, "env": tiny.ENV}
    settings = make_settings(method, "turn", 3, 5, sections, init_from="runs/a team")
    base = make_settings(method, "turn", 16, 0)
    assert run._settings(report.command_of(settings), base) == (settings, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no run is given; name one or more folders of runs."),
        (["nowhere"], "nowhere is not a run"),
        (["empty"], "empty holds no measurements yet."),
        (["run", "longer"], "longer is a run on turn with other options and run one on turn; all"),
        (["run", "maze"], "maze is a run on windy_maze and run one on turn; all runs must be on"),
        (["run", "--columns", "profit"], "run has no column 'profit'; choose from: seed, "),
        (["run", "--seed", "2"], "--seed is 2; run has seeds 0 to 1."),
        (
            ["run", "--out", "report.pdf"],
            "--out is report.pdf; it must be a .html file in a folder",
        ),
        (["run", "--out", "no/x.html"], "it must be a .html file in a folder that exists."),
        (["run", "--no-episode", "--out", "folder.html"], "cannot write folder.html ("),
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
    written(Path("run"), "iac", [1.0, 3.0])
    written(Path("longer"), "iac", [1.0], time_limit=6)
    written(Path("maze"), "iac", [1.0], env="windy_maze")
    RunDirectory.create(make_settings("iac", "turn", 1, 0), {}, "empty")
    Path("folder.html").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert call(lambda: report.main(arguments), [], monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "report.html").write_text("the old one")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ConfigurationError, match=r"cannot write .*No space left on device"):
        report._write(tmp_path / "report.html", "the new one")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["the old one"]


def test_pictures_of_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIA's is of all runs together, or of its own where others have no mixer; ROMA's is of each of its own."""
    asked = []

    def main(arguments: Sequence[str]) -> int:
        asked.append([Path(name).name for name in arguments[:-2]])
        if "central" in asked[-1]:
            raise ConfigurationError("a run of central_v; it must have a mixer.")
        Path(arguments[-1]).write_bytes(b"\x89PNG")
        print("credits correlate\npicture: x.png")
        return 0

    figures = {idea: report.FIGURES[idea]._replace(main=main, flags=()) for idea in ("cia", "roma")}
    monkeypatch.setattr(report, "FIGURES", figures)
    names = {"q": "qmix", "c": "cia_qplex", "r": "roma", "p": "gre+roma@qmix", "a": "alita"}
    runs = [written(tmp_path / name, method, [1.0]) for name, method in names.items()]
    out = tmp_path / "report.html"
    assert report.main([*runs, "--out", str(out), "--no-episode"]) == 0
    assert asked == [["q", "c", "r", "p", "a"], ["r"], ["p"]]
    page = Page(out.read_text())
    alts = [picture["alt"] for picture in page.all("img")]
    assert alts[1] == "How the mixer pays each agent (CIA, Figures 4 and 2). credits correlate"
    assert f"Drawn by: marl-jax roles {runs[2]}" in page.text
    assert f"marl-jax influence {runs[4]} --out influence.png" in page.text
    assert "picture: x.png" not in page.text
    asked.clear()
    central = written(tmp_path / "central", "central_v", [1.0])
    assert report.main([runs[1], central, "--out", str(out), "--no-episode"]) == 0
    assert asked == [["c", "central"], ["c"]]
    assert "There is no picture" not in out.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cia", "eoi", "roma"])
def test_pictures_of_papers_are_drawn(method: str, tmp_path: Path) -> None:
    name = written(tmp_path / "run", method, [1.0])
    directory = RunDirectory.open(name)
    directory.checkpoints.save(0, make_trainer(directory.settings()).init())
    out = tmp_path / "report.html"
    assert report.main([name, "--out", str(out), "--no-episode"]) == 0
    page = Page(out.read_text())
    assert str(page.all("img")[1]["src"]).startswith("data:image/png;base64,")
    assert report.FIGURES[method].shows in page.text
    assert "There is no picture" not in page.text


@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_it(watched: Path, width: int) -> None:
    """On a phone and on a desk: every picture is drawn, and nothing stands out at the side."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium or Chrome is installed to show the page in")
    frame = watched.with_name(f"frame_{width}.html")
    measure = """
        const page = frame.contentDocument, root = page.documentElement
        document.body.textContent = "found " + JSON.stringify({
            pictures: [...page.images].map(x => [x.naturalWidth > 0, x.getBoundingClientRect().width]),
            wide: root.scrollWidth, view: root.clientWidth, title: page.title,
        })
    """
    frame.write_text(
        f'<body><iframe id="frame" width="{width}" height="800" style="border: 0" '
        f"onload='{measure}' srcdoc=\"{html.escape(watched.read_text())}\"></iframe></body>"
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--timeout=20000"]
    shown = subprocess.run(
        [browser, *flags, f"--user-data-dir={watched.parent / 'profile'}", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=100,
    )
    found = json.loads(html.unescape(shown.stdout.split("found ")[1].split("</body>")[0]))
    assert found["title"] == "iac on turn"
    assert found["wide"] <= found["view"] <= width
    assert len(found["pictures"]) == 2
    assert all(drawn and 100 < size <= width for drawn, size in found["pictures"])
