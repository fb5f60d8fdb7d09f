"""The documentation's site. Its source is the whole repository, so that a link means the same here and on GitHub."""

import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

project = "marl_jax"
author = copyright = "the authors of marl_jax"
release = PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = ["CONTRIBUTING.md", "docs/**.md", "experiments/results/**/README.md"]
# docs/README.md is part of docs/index.md.
exclude_patterns = [".*", "build", "dist", "docs/README.md", "docs/_build", "runs"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

# Docstrings have names between single backticks.
default_role = "literal"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
# Attributes are described where their class is, and not once more as members.
napoleon_use_ivar = True

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"marl_jax {release}"
html_copy_source = False
templates_path = ["_templates"]
# What a browser gets that asks for the folder.
html_additional_pages = {"index": "redirect.html"}


def keep_lines(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Shows what follows the summary of a world's docstring as it is, since it holds maps and tables."""
    from envs import MultiAgentEnv

    if what == "class" and issubclass(obj, MultiAgentEnv) and obj is not MultiAgentEnv:
        lines[1:] = ["", "::", "", *(f"    {line}" for line in lines[1:])]


def show_equation(translator: Any, node: nodes.math | nodes.math_block) -> None:
    """Writes an equation as MathML, which needs no network; what cannot be read ends the build."""
    block = isinstance(node, nodes.math_block)
    equation = tex2mathml(node.astext(), as_block=block)
    # With room above and below, or furo puts a scroll bar beside it.
    translator.body.append(f'<div style="padding: 0.5em 0">{equation}</div>' if block else equation)
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Registers the above; docstrings come to `keep_lines` before napoleon reads them."""
    app.connect("autodoc-process-docstring", keep_lines, priority=400)
    app.add_html_math_renderer("mathml", (show_equation, None), (show_equation, None))
