"""Every test that the page of promises names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")


def test_each_named_test_exists():
    files = {path.relative_to(ROOT).as_posix(): path for path in ROOT.glob("tests/**/*.py")}
    texts = {name: path.read_text("utf-8") for name, path in files.items()}
    named = re.findall(r"`(?:(tests/[\w/]+\.py)(?:::)?)?(test_\w+)?`", PAGE)
    assert len(named) >= 10
    for file, test in named:
        assert not file or file in files, file
        places = [texts[file]] if file else texts.values()
        assert not test or any(f"def {test}(" in text for text in places), f"{file} {test}"


def test_each_promise_has_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise")]
    assert promises
    for row in promises:
        shown = row.rsplit(" | ", 1)[1]
        assert "test_" in shown, row
