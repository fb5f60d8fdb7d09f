"""The notebook, run from top to bottom by a real kernel."""

from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the kernel inherits: no backend of these tests, so that it chooses its own.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MARL_JAX_NOTEBOOK_STEPS", "6400")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not committed"

    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=200, kernel_name="python3", resources=where).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "image/gif"} <= pictures
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert "Did you mean 'gamma'?" in outputs[-1].text
    assert len(list(tmp_path.glob("runs/quickstart/*/metrics.csv"))) == 1
