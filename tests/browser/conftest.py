from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.sandbox.server import Sandbox
from tests.browser.chromium import Page, browser, find_chromium
from tests.sandbox.conftest import bot, route, sandbox  # noqa: F401 - its fixtures


@pytest.fixture
async def page(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Page]:
    """A tab of headless Chromium; no script may have failed in it at the end."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("Chromium is not installed")
    async with browser(executable, tmp_path / "profile") as up, up.page() as tab:
        yield tab
        assert tab.problems == []
