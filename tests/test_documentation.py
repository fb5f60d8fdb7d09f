"""README and docs: their length, their links, and that what they tell to type works."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import envs
from experiments import run
from marl_jax import methods
from marl_jax.runs import RunDirectory
from marl_jax.settings import RunSettings

ROOT = Path(__file__).parent.parent
PROGRAM = "python experiments/run.py"
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "experiments" / "results").rglob("README.md")),
]
WITH_COMMANDS = [
    ROOT / "README.md",
    ROOT / "docs" / "usage.md",
    *(
        ROOT / "docs" / "results" / f"{page}.md"
        for page in ("cia", "eoi", "roma", "alita", "liir", "ppo")
    ),
]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings outside code blocks: "What it is" can be linked to as #what-it-is."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_short() -> None:
    assert 700 <= len(README.split()) <= 1000


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def training_commands(page: Path) -> list[str]:
    """What `run.py` is given in the page's indented lines; not where a shell's variables or a run are part of it."""
    blocks = "\n".join(re.findall(r"^    (.*)$", page.read_text(), re.MULTILINE))
    found = re.findall(r"python experiments/run\.py (--method .*)", blocks)
    return [line for line in found if "$" not in line and "--help" not in line]


COMMANDS = [(page, line) for page in WITH_COMMANDS for line in training_commands(page)]


def test_readme_has_the_two_commands() -> None:
    lines = [line.strip() for line in README.splitlines()]
    training = "python experiments/run.py --method liir --env turn --seeds 16"
    assert f"pip install -e . && {training}" in lines
    assert 'pip install -e ".[test]" && pytest' in lines
    assert training_commands(ROOT / "README.md") == [training.removeprefix(f"{PROGRAM} ")]


@pytest.mark.parametrize(
    ("page", "line"),
    COMMANDS,
    ids=lambda value: value.name if isinstance(value, Path) else value[:50],
)
def test_training_commands_parse(
    page: Path, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to where training would begin: names, options and values are all allowed."""
    begun = []

    def begin(settings: RunSettings, directory: RunDirectory, **_: object) -> SimpleNamespace:
        begun.append(settings)
        return SimpleNamespace(interrupted=False, failures={})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "check_settings", lambda settings: None)
    monkeypatch.setattr(run, "run_training", begin)
    assert run.main(shlex.split(line, comments=True)) == 0
    assert len(begun) == 1


def test_readme_names_what_there_is() -> None:
    table = set(re.findall(r"`([\w/]+)`", README))
    assert set(methods.names()) - {"liir_paper"} <= table
    assert set(envs.own_names()) <= table


def test_the_world_of_the_docs_steps(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = python_blocks(ROOT / "docs" / "environments.md")
    exec(compile(block, "docs/environments.md", "exec"), {})
    assert capsys.readouterr().out.startswith("[")


@pytest.mark.slow
def test_readme_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, but with one seed and a small budget."""
    (block,) = python_blocks(ROOT / "README.md")
    assert block in python_blocks(ROOT / "docs" / "usage.md")
    small = block.replace("seeds=4, total_steps=200_000", "seeds=1, total_steps=100")
    small = small.replace("num_episodes=100", "num_episodes=2")
    assert small.count("=1, ") == small.count("=2)") == 1
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(small, "README.md", "exec"), names)
    assert names["returns"].shape[0] == 1
    assert (tmp_path / "episode.gif").read_bytes().startswith(b"GIF")
    assert (tmp_path / "runs" / "first" / "curve.png").exists()


def test_the_table_of_pairs_is_todays() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    for part, on in methods.pairs().items():
        cells = " | ".join("yes" if refusal is None else "" for refusal in on.values())
        assert f"| `{part}` | {cells} |" in text
    assert f"| part | {' | '.join(methods.BACKBONES)} |" in text
