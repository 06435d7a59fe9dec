from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from bot.cli.main import main


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Take back what `main` puts into the environment from a test's `.env`."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def look(capsys):
    """Run one check; return its findings as (level, text, step)."""

    def look(check: str, *options: str) -> list[tuple[str, str, str]]:
        main(["doctor", "--json", *options, "--only", check])
        items = json.loads(capsys.readouterr().out)
        return [(i["level"], i["text"], i["step"]) for i in items if i["check"] != "settings"]

    return look
