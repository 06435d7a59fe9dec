from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engines import ScriptedEngine
from tests.upgrade.installation import Installation, unpack
from tests.upgrade.kit import Drill, upgraded
from tests.wire.conftest import _route, judge, sandbox

__all__ = ["_route", "judge", "sandbox"]


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("c520ff5")
    unpack(folder)
    return folder


@pytest.fixture
def old(unpacked, tmp_path, monkeypatch) -> Installation:
    """A copy, without the large model, which is the working folder: its paths are relative."""
    left_out = shutil.ignore_patterns("qwen-image")
    root = Path(shutil.copytree(unpacked, tmp_path / "bot", ignore=left_out))
    # For an hour the bot keeps what an open form starts from; the upgrade comes within it.
    for path in (root / "data" / "images" / "kept").iterdir():
        path.touch()
    monkeypatch.chdir(root)
    return Installation(root)


@pytest.fixture
async def drill(sandbox, old) -> AsyncIterator[Drill]:
    async with upgraded(sandbox, old, ScriptedEngine()) as running:
        yield running
