"""README and docs: their length, their links, and that what they tell to type and to expect is so."""

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

import envs
from experiments import play, run
from marl_jax import methods
from marl_jax.runs import RunDirectory
from marl_jax.settings import RunSettings
from tests.documented import ROOT, explained_columns, tables

PROGRAM = "python experiments/run.py"
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "experiments" / "results").rglob("README.md")),
]
WRITTEN = [page for page in PAGES if "experiments" not in page.relative_to(ROOT).parts]
"""Of which every sentence and block is held to the rules; the others keep a record of what was run."""
MOST_WORDS = 30


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings outside code blocks: "What it is" can be linked to as #what-it-is."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_short() -> None:
    words = [word for word in README.split() if re.search(r"\w", word)]
    assert 700 <= len(words) <= 1000


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


def own_task() -> str:
    """The module that docs/howto/own_task.md tells to save as meeting.py."""
    text = (ROOT / "docs" / "howto" / "own_task.md").read_text()
    (block,) = re.findall(r"^   ```python\n(.*?)^   ```", text, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(block)


def training_commands(page: Path) -> list[str]:
    """What `run.py` is given in the page's indented lines; not where a shell's variables or a run are part of it."""
    blocks = "\n".join(re.findall(r"^    (.*)$", page.read_text(), re.MULTILINE))
    found = re.findall(r"(?:python experiments/run\.py|marl-jax train) (--method .*)", blocks)
    return [line for line in found if "$" not in line and "--help" not in line]


COMMANDS = sorted({(line, page) for page in WRITTEN for line in training_commands(page)})


def prose(text: str) -> list[str]:
    """The sentences of a page and its tables, without headings and code; a name between backticks is one word."""
    text = re.sub(r"^ *```.*?^ *```$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^\$\$.*?\$\$$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(    .*|#.*|<.*|!\[.*|[-|]+)$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^ *([-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    rows = re.compile(r"^(\|.*|.* \| .*)$", re.MULTILINE)
    text = rows.sub(lambda row: f"\n\n{row[0]}\n\n".replace("|", "\n\n"), text)
    paragraphs = re.split(r"\n\s*\n", text)
    return [s for p in paragraphs for s in re.split(r"(?<=[.!?])[*_)\"]*\s+", p.strip()) if s]


def too_long(text: str) -> list[str]:
    """The sentences of a page that have more words than one can follow."""
    return [s for s in prose(text) if len(re.findall(r"\S*\w\S*", s)) > MOST_WORDS]


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_sentences_are_short(page: Path) -> None:
    assert not too_long(page.read_text())


def test_what_a_sentence_is() -> None:
    text = "# A b\n\nOne `x y` [two three](z.md). Four\nfive\n\n    code here\n\n- Six. **Seven.** Eight"
    assert prose(text) == ["One code two three.", "Four\nfive", "Six.", "**Seven.", "Eight"]
    table = "one | two\n---|---\n`1 | 2` | Three. Four\n\n| five |\n|---|\n| six | | seven |"
    assert prose(table) == ["one", "two", "code", "Three.", "Four", "five", "six", "seven"]


def test_readme_has_the_two_commands() -> None:
    lines = [line.strip() for line in README.splitlines()]
    training = "python experiments/run.py --method liir --env turn --seeds 16"
    assert f"pip install -e . && {training}" in lines
    assert 'pip install -e ".[test]" && pytest' in lines
    assert training_commands(ROOT / "README.md") == [training.removeprefix(f"{PROGRAM} ")]


@pytest.mark.parametrize(
    ("line", "page"),
    COMMANDS,
    ids=lambda value: value.name if isinstance(value, Path) else value[:50],
)
def test_training_commands_parse(
    line: str, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to where training would begin: names, options and values are all allowed."""
    begun = []

    def begin(settings: RunSettings, directory: RunDirectory, **_: object) -> SimpleNamespace:
        begun.append(settings)
        return SimpleNamespace(interrupted=False, failures={})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "check_settings", lambda settings: None)
    # Whether JAX knows other processes is known to the program alone.
    monkeypatch.setattr(run, "_check_processes", lambda first: None)
    monkeypatch.setattr(run, "run_training", begin)
    assert run.main(shlex.split(line, comments=True)) == 0
    assert len(begun) == 1


def other_commands(page: Path) -> list[tuple[str, str]]:
    """By line, the program of `experiments` besides `run.py` and what it is given."""
    lines = re.findall(r"^    (python experiments/.*)$", page.read_text(), re.MULTILINE)
    found = [re.findall(r"experiments/(\w+)\.py ([^#]*)", line) for line in lines]
    return [(program, given) for parts in found for program, given in parts if program != "run"]


@pytest.mark.parametrize("page", [page for page in WRITTEN if other_commands(page)], ids=name)
def test_other_commands_have_these_options(page: Path) -> None:
    for program, given in other_commands(page):
        tree = ast.parse((ROOT / "experiments" / f"{program}.py").read_text())
        fields = [node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
        known = {field.id.replace("_", "-") for field in fields if isinstance(field, ast.Name)}
        flags = re.findall(r"--(?:no-)?([\w-]+)(?![\w.-])", given)
        assert set(flags) <= known, (program, given)


def test_scripts_of_the_shell_parse() -> None:
    text = (ROOT / "docs" / "howto" / "clusters.md").read_text()
    (script,) = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_readme_names_what_there_is() -> None:
    table = set(re.findall(r"`([\w/]+)`", README))
    assert set(methods.names()) - {"liir_paper"} <= table
    assert set(envs.own_names()) <= table


@pytest.mark.parametrize("page", [page for page in WRITTEN if python_blocks(page)], ids=name)
def test_python_blocks_compile_and_import(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meeting.py").write_text(own_task())
    monkeypatch.syspath_prepend(tmp_path)
    for block in python_blocks(page):
        tree = ast.parse(block, str(page))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for module in node.names:
                    importlib.import_module(module.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, imported.name) for imported in node.names)


def test_the_world_of_the_docs_steps(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = python_blocks(ROOT / "docs" / "environments.md")
    exec(compile(block, "docs/environments.md", "exec"), {})
    assert capsys.readouterr().out.startswith("[")


OPTION = re.compile(r"`([\w/@]+)` option")


def config_of(name: str) -> Any:
    """The options of a world or a method."""
    return (
        envs.world_class(name).Config() if name in envs.names() else methods.recipe(name).Config()
    )


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").glob("[mw]*/*.md")), ids=lambda page: page.stem
)
def test_options_have_these_defaults(page: Path) -> None:
    """Of the tables whose first column is called "`NAME` option"."""
    found = [table for table in tables(page) if OPTION.fullmatch(table[0][0])]
    assert found
    for head, _, *rows in found:
        config = config_of(OPTION.fullmatch(head[0])[1])
        for option, default, *_ in rows:
            assert str(getattr(config, option.strip("`"))) == default, option


def sizes_of(world: str) -> list[str]:
    env = envs.make(world)
    sizes = (env.num_agents, env.num_actions, env.time_limit)
    return [str(size) for size in (*sizes, env.agents_view_size, env.global_state_size)]


def documented_sizes() -> dict[str, list[str]]:
    """By world, the numbers of its row in the first table of its page."""
    pages = [tables(page)[0] for page in sorted((ROOT / "docs" / "worlds").glob("*.md"))]
    assert all(
        head[1:] == ["agents", "actions", "time limit", "view", "global state"]
        for head, *_ in pages
    )
    return {world.strip("`"): numbers for _, _, *rows in pages for world, *numbers in rows}


def test_worlds_have_these_sizes() -> None:
    sizes = documented_sizes()
    assert {world: sizes[world] for world in envs.own_names()} == {
        world: sizes_of(world) for world in envs.own_names()
    }


@pytest.mark.slow
def test_bridged_worlds_have_these_sizes() -> None:
    sizes = documented_sizes()
    # Without brax nothing is known of its worlds' sizes: tests/envs/test_brax.py.
    bridged = {world for world in sizes if not world.startswith(("brax/", "mabrax/"))} - set(
        envs.own_names()
    )
    assert len(bridged) == 12
    assert all(sizes[world] == sizes_of(world) for world in bridged)


def test_every_method_has_a_page() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs" / "methods").glob("*.md"))
    assert not [method for method in methods.names() if f"`{method}`" not in text]


@pytest.mark.parametrize(
    "env",
    [
        *envs.own_names(),
        "jumanji/lbf",
        pytest.param("mpe/simple_spread", marks=pytest.mark.slow),
        pytest.param("mpe/simple_adversary", marks=pytest.mark.slow),
    ],
)
def test_columns_of_the_worlds_are_explained(env: str) -> None:
    """Those of methods, and of the other bridged worlds, are checked where they are traced: `test_all_pairs.py`."""
    timestep = jax.eval_shape(envs.make(env).reset, jax.random.key(0))[1]
    assert {f"eval_{extra}_mean" for extra in timestep.extras} <= explained_columns()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip('the site is built with Sphinx: pip install -e ".[docs]"')
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (command,) = re.findall(r"^    pip install .* && (sphinx-build .*)$", text, re.MULTILINE)
    arguments = shlex.split(command)[1:-1]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *arguments, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "docs" / "api" / "marl_jax.html").read_text()
    assert "Trains <code" in page


def test_readme_shows_a_trained_team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With three pictures, which take most of the time."""
    (command,) = [
        given for program, given in other_commands(ROOT / "README.md") if program == "play"
    ]
    animate = envs.MultiAgentEnv.animate

    def animate_the_first(env: Any, states: list[Any], *given: Any) -> None:
        assert len(states) > 3
        animate(env, states[:3], *given)

    monkeypatch.setattr(envs.MultiAgentEnv, "animate", animate_the_first)
    monkeypatch.chdir(tmp_path)
    assert play.main(shlex.split(command)) == 0
    assert (tmp_path / "episode.gif").read_bytes().startswith(b"GIF")


@pytest.mark.slow
def test_readme_starts_from_a_trained_team(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one seed and a small budget."""
    (given,) = re.findall(r"`(--init-from [^`]+)`", README)
    (line,) = training_commands(ROOT / "README.md")
    monkeypatch.chdir(tmp_path)
    small = f"{line.replace('--seeds 16', '--seeds 1')} --total-steps 100 --eval-episodes 2 {given}"
    assert run.main(shlex.split(small)) == 0
    assert "final return" in capsys.readouterr().out
    (metrics,) = tmp_path.glob("runs/turn/liir/*/metrics.csv")
    assert float(RunDirectory.open(metrics.parent).rows()[0]["eval_return_mean"]) > 20


@pytest.mark.slow
def test_readme_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, but with one seed and a small budget."""
    (block,) = python_blocks(ROOT / "README.md")
    assert block in python_blocks(ROOT / "docs" / "howto" / "python.md")
    small = block.replace("seeds=4, total_steps=200_000", "seeds=1, total_steps=100")
    small = small.replace("num_episodes=100", "num_episodes=2")
    assert small.count("=1, ") == small.count("=2)") == 1
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(small, "README.md", "exec"), names)
    assert names["returns"].shape[0] == 1
    assert set(names["result"].rows[0]) <= explained_columns()
    assert (tmp_path / "episode.gif").read_bytes().startswith(b"GIF")
    assert (tmp_path / "runs" / "first" / "curve.png").exists()


@pytest.mark.slow
def test_the_trackers_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Word for word, but with one seed and a small budget."""
    (block,) = python_blocks(ROOT / "docs" / "howto" / "trackers.md")
    small = block.replace('"turn", ', '"turn", seeds=1, total_steps=100, ')
    assert small != block
    monkeypatch.chdir(tmp_path)
    exec(compile(small, "trackers.md", "exec"), {})
    assert re.search(r"^0 \d+ -?\d", capsys.readouterr().out, re.MULTILINE)
    assert list(tmp_path.glob("runs/tracked/tensorboard/seed_0/*"))


def test_the_table_of_pairs_is_todays() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    for part, on in methods.pairs().items():
        cells = " | ".join("yes" if refusal is None else "" for refusal in on.values())
        assert f"| `{part}` | {cells} |" in text
    assert f"| part | {' | '.join(methods.BACKBONES)} |" in text
