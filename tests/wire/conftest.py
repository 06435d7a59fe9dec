from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import discord.gateway
import discord.http
import pytest

from bot.sandbox.server import Sandbox
from tests.wire.kit import Stage, staged


@pytest.fixture(autouse=True)
def _route() -> Iterator[None]:
    """Put discord.py's class attributes back, which a connecting bot sets."""
    gateway = discord.gateway.DiscordWebSocket
    old = discord.http.Route.BASE, gateway.DEFAULT_GATEWAY
    yield
    discord.http.Route.BASE, gateway.DEFAULT_GATEWAY = old


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


@pytest.fixture
async def stage(sandbox: Sandbox, tmp_path) -> AsyncIterator[Stage]:
    async with staged(sandbox, tmp_path / "data") as running:
        yield running
