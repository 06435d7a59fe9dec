"""What docs/troubleshooting.md and docs/cards.md quote is what the program writes, word for word."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("troubleshooting.md", "cards.md")
# Said by others: the system, a browser of Discord's, SQLite.
OTHERS = {"Permission denied", "disk I/O error", "malformed"}
QUOTED = re.compile(r'"([^"]+)"')
LEFT_OUT = re.compile(r"…|%[.\d]*[sdf]|\{[^{}]*\}")


def spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


@cache
def written() -> str:
    """Every literal text of the program, an f-string's parts joined by an ellipsis."""
    found: list[str] = []
    for folder in ("bot", "cogs", "storage"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (
                        str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values
                    )
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(spaced(LEFT_OUT.sub("…", text)) for text in found)


def quotes(page: str) -> list[str]:
    """What stands in quotation marks in the first column of the page's tables."""
    lines = (ROOT / "docs" / page).read_text("utf-8").splitlines()
    rows = [line.split(" | ")[0] for line in lines if line.startswith("| ")]
    return [quote for row in rows for quote in QUOTED.findall(row) if quote not in OTHERS]


@pytest.mark.parametrize("quote", [quote for page in PAGES for quote in quotes(page)])
def test_a_quoted_line_is_written_so(quote):
    # An ellipsis at an end leaves out words, one within stands for a value.
    assert spaced(quote).strip("… ") in written()


def test_the_lines_about_cards_are_there():
    told = "\n".join(quotes("troubleshooting.md"))
    for line in (
        "refuses to pin",
        "moves the card's memory",
        "Blocks are not compiled",
        "cannot be compiled",
        "RTX 30 series",
        "is installed, … is wanted",
        "WSL 2",
        "has no room for",
    ):
        assert line in told, line
