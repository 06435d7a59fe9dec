from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import discord
import discord.gateway
import discord.http
import pytest
import yarl

from bot.sandbox.server import Sandbox
from tests.sandbox.sandbox_bot import Bot, add_commands, running


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


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
    made = Bot()
    add_commands(made)
    async with running(sandbox, made):
        yield made
