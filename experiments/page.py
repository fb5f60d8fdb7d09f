"""A page of HTML that is one file: its style and its pictures are inside it, and it runs no script."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --back: #fff; --line: #b8bfc7; --soft: #f2f4f6; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --back: #14171a; --line: #4a525a; --soft: #22272c; }
}
body { margin: 0; background: var(--back); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption, caption { font-size: 0.9rem; text-align: left; padding: 0.3rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: min(100%, 24rem); font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-top: 1px solid var(--line); }
thead th { border-top: none; }
tbody th { font-weight: normal; }
p { overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--soft); padding: 0.75rem; border-radius: 4px; }
details { margin: 0.5rem 0; }
summary { cursor: pointer; }
"""

TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".gif": "image/gif"}
"""Kinds of pictures by the ends of their files' names."""


def page(title: str, blocks: Iterable[str]) -> str:
    """The whole page; all texts that are given here and below are escaped, blocks are HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(blocks) + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, blocks: Iterable[str]) -> str:
    """A heading and what is under it."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(blocks) + "\n</section>"


def folded(title: str, blocks: Iterable[str], opened: bool = False) -> str:
    """Blocks that a reader can open and close."""
    state = " open" if opened else ""
    return (
        f"<details{state}>\n<summary>{escape(title)}</summary>\n"
        + "\n".join(blocks)
        + "\n</details>"
    )


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def verbatim(text: str) -> str:
    """A program's input or output, line by line."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column says what its rows are; on a narrow screen it is moved sideways, not the page."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" role="region" aria-label="{escape(caption)}" tabindex="0">\n<table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def picture(data: bytes, kind: str, alt: str, caption: str = "") -> str:
    """A picture.

    Args:
        data: its file's content.
        kind: the end of its file's name, one of `TYPES`.
        alt: what it shows, for who cannot see it.
        caption: what stands below it, if anything.
    """
    source = f"data:{TYPES[kind]};base64,{base64.b64encode(data).decode()}"
    below = f"\n<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure>\n<img src="{source}" alt="{escape(alt)}">{below}\n</figure>'
