"""The notebooks, run from top to bottom by a real kernel."""

import re
import tomllib
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from test_contributing import blocks
from test_documentation import anchors, too_long

from marl_jax import teams

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "experiments" / "notebooks"
URL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
BUDGET = {"STEPS": "6400", "SEEDS": "2", "EPISODES": "4"}


def run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The executed notebook, and the kinds of its outputs."""
    # What the kernel inherits: no backend of these tests, so that it chooses its own.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for budget, value in BUDGET.items():
        monkeypatch.setenv(f"MARL_JAX_NOTEBOOK_{budget}", value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not committed"

    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=250, kernel_name="python3", resources=where).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    return outputs, [kind for output in outputs for kind in output.get("data", {})]


@pytest.mark.slow
def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, kinds = run("quickstart", tmp_path, monkeypatch)
    assert kinds.count("image/gif") == 2
    assert "image/png" in kinds
    assert "Did you mean 'gamma'?" in outputs[-1].text
    assert len(list(tmp_path.glob("runs/quickstart/*/metrics.csv"))) == 1


@pytest.mark.slow
def test_own_task_and_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, kinds = run("own_task_and_part", tmp_path, monkeypatch)
    assert {"image/png", "image/gif"} <= set(kinds)
    assert "cannot stand on mappo" in outputs[-1].text


@pytest.mark.slow
def test_five_ideas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, kinds = run("five_ideas", tmp_path, monkeypatch)
    assert kinds.count("image/png") == 5


def sources(name: str) -> list[str]:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells]


def test_cells_are_those_of_the_docs() -> None:
    cells = sources("own_task_and_part")
    for page in ("own_task", "own_method"):
        assert blocks(page, "python")[0].strip() in cells


def test_notebooks_agree_on_what_must_be_filled_in() -> None:
    """All install from the address that pyproject.toml has, and load teams that there are."""
    installs = set()
    for path in NOTEBOOKS.glob("*.ipynb"):
        text = "\n".join(sources(path.stem))
        installs.add(sources(path.stem)[1])
        assert re.findall(r'^REPOSITORY = "(.*)"$', text, re.MULTILINE) == [URL]
        named = set(re.findall(r'"((?:turn|pac_men|pursuit_1d)/\w+)"', text))
        chosen = re.findall(r'^METHOD, ENV = "(\w+)", "(\w+)"', text, re.MULTILINE)
        named |= {f"{env}/{method}" for method, env in chosen}
        assert named <= set(teams.names())
    assert len(installs) == 1


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_each_notebook_opens_on_colab_and_links_to_pages_that_there_are(path: Path) -> None:
    """And its sentences are as short as the documentation's."""
    texts = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    colab = URL.replace("github.com", "colab.research.google.com/github")
    assert f"]({colab}/blob/main/{path.relative_to(ROOT)})" in texts[0]
    pages = re.findall(rf"\({URL}/blob/main/([\w/.]+)#?([\w-]*)\)", "".join(texts))
    for page, anchor in pages:
        assert anchor in {"", *anchors((ROOT / page).read_text())}
    assert not [sentence for text in texts for sentence in too_long(text)]
