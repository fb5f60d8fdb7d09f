"""What GitHub and PyPI read: workflows, citation, the project's address, what a wheel holds."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.versions import SETS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADDRESS = PROJECT["urls"]["Repository"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    # YAML takes the word for a truth value.
    return {"on" if key is True else key: value for key, value in loaded.items()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read_end_in_time_and_call_what_is_there(path: Path) -> None:
    loaded = workflow(path.name)
    assert loaded["permissions"] == {"contents": "read"}
    for job in loaded["jobs"].values():
        assert job["timeout-minutes"] <= 180
        for step in job["steps"]:
            for called in re.findall(r"(?:\.ci|benchmarks|tests)/[\w./]+", step.get("run", "")):
                assert (ROOT / called).is_file(), called


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_say_which_version_that_is(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_every_supported_set_of_versions_is_tested() -> None:
    assert workflow("tests.yml")["jobs"]["versions"]["strategy"]["matrix"]["set"] == list(SETS)
    table = (ROOT / "CONTRIBUTING.md").read_text()
    assert re.findall(r"^`(3\.\d+-\w+)` \|", table, re.MULTILINE) == list(SETS)


def test_supported_pythons_are_those_that_are_tried() -> None:
    said = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    tried = {versions.python for versions in SETS.values()}
    assert {said[0], said[-1]} == tried
    assert PROJECT["requires-python"] == f">={said[0]}"


def test_the_schedule_is_alone_in_its_file_and_off_the_full_hour() -> None:
    scheduled = {path.name for path in WORKFLOWS if "schedule" in workflow(path.name)["on"]}
    assert scheduled == {"weekly.yml"}
    starts = workflow("weekly.yml")["on"]
    assert set(starts) == {"schedule", "workflow_dispatch"}
    assert int(starts["schedule"][0]["cron"].split()[0]) != 0


def test_only_the_job_that_uploads_may_speak_for_the_project() -> None:
    loaded = workflow("publish.yml")
    assert loaded["on"] == {"push": {"tags": ["v*"]}}
    build, upload = loaded["jobs"]["build"], loaded["jobs"]["pypi"]
    assert "permissions" not in build
    assert upload["permissions"] == {"id-token": "write"}
    assert (upload["needs"], upload["environment"]) == ("build", "pypi")


def test_the_site_is_published_from_main_alone() -> None:
    build, pages = (workflow("docs.yml")["jobs"][job] for job in ("docs", "pages"))
    assert "permissions" not in build
    assert pages["permissions"] == {"pages": "write", "id-token": "write"}
    assert (pages["needs"], pages["if"]) == ("docs", "github.ref == 'refs/heads/main'")
    built = build["steps"][-2]["run"].split()[-1]
    assert build["steps"][-1]["with"]["path"] == built


def step_of_publishing(name: str, folder: Path) -> int:
    """The exit status of a step of the job that builds, run in a folder, as GitHub runs it."""
    steps = workflow("publish.yml")["jobs"]["build"]["steps"]
    (command,) = [step["run"] for step in steps if step.get("name") == name]
    tag = {"GITHUB_REPOSITORY": "owner/name", "GITHUB_REF_NAME": "v1.2.3"}
    return subprocess.run(
        ["bash", "-e", "-c", command], cwd=folder, env={**os.environ, **tag}, capture_output=True
    ).returncode


@pytest.mark.parametrize(
    "name",
    ["pyproject.toml", "README.md", "CITATION.cff", "docs/a.md", "experiments/notebooks/a.ipynb"],
)
def test_nothing_is_published_before_the_address_is_filled_in(tmp_path: Path, name: str) -> None:
    check, file = "The address must be filled in", tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("https://github.com/owner/name")
    assert step_of_publishing(check, tmp_path) == 0
    file.write_text("https://github.com/TO_BE_FILLED_IN/name")
    assert step_of_publishing(check, tmp_path) == 1


def test_links_of_the_page_on_pypi_lead_to_the_tag(tmp_path: Path) -> None:
    before = (ROOT / "README.md").read_text()
    (tmp_path / "README.md").write_text(before)
    assert step_of_publishing("The page's links must lead to the repository", tmp_path) == 0
    after = (tmp_path / "README.md").read_text()
    links = [re.findall(r"\]\(([^)]+)\)", text) for text in (before, after)]
    assert len(links[0]) == len(links[1])
    for was, now in zip(*links, strict=True):
        kind = "raw" if was.endswith((".gif", ".png")) else "blob"
        absolute = was if "://" in was else f"https://github.com/owner/name/{kind}/v1.2.3/{was}"
        assert now == absolute


def test_results_hold_no_path_of_the_machine_that_made_them() -> None:
    for path in (ROOT / "experiments" / "results").rglob("*"):
        if path.suffix in {".csv", ".json", ".md", ".txt"}:
            found = re.search(r"(?<![\w.])/(home|opt|root|tmp|usr|work)/", path.read_text())
            assert found is None, path


def test_the_weekly_tests_install_what_others_skip_without() -> None:
    ((installed, beside),) = re.findall(
        r"\[([\w,]+)\]\" (.*) &&", (ROOT / ".ci" / "slow").read_text()
    )
    assert set(installed.split(",")) == {"test", "docs", "wandb", "brax", "ray", "slurm"}
    assert beside == "magent2"


def test_citation_names_this_version_and_the_five_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    papers = {paper["notes"]: paper for paper in citation["references"]}
    assert set(papers) == {"EOI", "LIIR", "ROMA", "CIA", "ALITA"}
    readme = (ROOT / "README.md").read_text()
    for paper in papers.values():
        assert paper["title"].split(": ")[-1] in readme


def test_the_address_is_the_same_everywhere() -> None:
    texts = [*ROOT.glob("*.md"), ROOT / "CITATION.cff", *(ROOT / ".github").rglob("*.*")]
    texts += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").glob("*.py")]
    texts += (ROOT / "experiments" / "notebooks").glob("*.ipynb")
    owner_and_name = ADDRESS.removeprefix("https://github.com/")
    repository = owner_and_name.split("/")[1]
    found = {
        path.name: set(re.findall(rf"github(?:\.com)?/([\w.-]+/{repository})\b", path.read_text()))
        for path in texts
    }
    assert found["CITATION.cff"] == {owner_and_name}
    assert set().union(*found.values()) == {owner_and_name}


@pytest.mark.slow
def test_a_wheel_holds_types_and_task_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("envs", "marl_jax", "experiments"):
        ignore = shutil.ignore_patterns("results", "__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), "."]
    subprocess.run([sys.executable, *build], cwd=source, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {"envs/py.typed", "marl_jax/py.typed"} <= held
    for files in ("configs/**/*.toml", "teams/**/*.npz"):
        needed = {str(path.relative_to(ROOT)) for path in (ROOT / "experiments").glob(files)}
        assert needed
        assert needed <= held
