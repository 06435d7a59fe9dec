from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import discord.gateway
import discord.http
import pytest
import yarl

from bot.sandbox.server import Sandbox
from tests.browser.chromium import Page, browser, find_chromium
from tests.sandbox.sandbox_bot import Bot, add_commands, running


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as up:
        yield up


@pytest.fixture
def route(sandbox: Sandbox) -> Iterator[None]:
    """Point discord.py's two class attributes at the sandbox, and back afterwards."""
    gateway = discord.gateway.DiscordWebSocket
    old = discord.http.Route.BASE, gateway.DEFAULT_GATEWAY
    discord.http.Route.BASE = sandbox.api_url
    gateway.DEFAULT_GATEWAY = yarl.URL(sandbox.gateway_url)
    yield
    discord.http.Route.BASE, gateway.DEFAULT_GATEWAY = old


@pytest.fixture
async def bot(sandbox: Sandbox, route: None) -> AsyncIterator[Bot]:
    """A small bot that defers, opens forms and completes options."""
    made = Bot()
    add_commands(made)
    async with running(sandbox, made):
        yield made


@pytest.fixture
async def page(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Page]:
    """A tab of headless Chromium; no script may have failed in it at the end."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("Chromium is not installed")
    async with browser(executable, tmp_path / "profile") as up, up.page() as tab:
        yield tab
        assert tab.problems == []
