"""What the documentation says in tables, for tests that hold it against the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def tables(page: Path) -> list[list[list[str]]]:
    """The cells of each table's rows, the first of which is its head."""
    blocks = re.findall(r"(?:^\|.*\n)+", page.read_text(), re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in block.splitlines()]
        for block in blocks
    ]


def explained_columns() -> set[str]:
    """The columns of metrics.csv that docs/run_folder.md explains."""
    found = [table for table in tables(ROOT / "docs" / "run_folder.md") if table[0][0] == "column"]
    return {
        column for _, _, *rows in found for row in rows for column in re.findall(r"`(\w+)`", row[0])
    }
