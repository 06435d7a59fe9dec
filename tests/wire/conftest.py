from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import discord.gateway
import discord.http
import discord.webhook.async_
import pytest

from bot.client import accept
from bot.delivery import courier, removal
from bot.sandbox import interactions
from bot.sandbox.server import Sandbox
from tests.wire.kit import Stage, staged
from tests.wire.openapi import Judge

LONGEST_RESPONSE_S = 30


@pytest.fixture(scope="session")
def judge() -> Judge | None:
    """Discord's own description of its API, where DISCORD_OPENAPI names it."""
    name = os.environ.get("DISCORD_OPENAPI")
    return Judge(Path(name)) if name else None


@pytest.fixture(autouse=True)
def _route() -> Iterator[None]:
    """Put discord.py's class attributes back, which a connecting bot sets."""
    gateway = discord.gateway.DiscordWebSocket
    old = discord.http.Route.BASE, gateway.DEFAULT_GATEWAY
    yield
    discord.http.Route.BASE, gateway.DEFAULT_GATEWAY = old


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let answers be direct, and refusals private, on a slow machine as on a quick one."""
    monkeypatch.setattr(interactions, "FIRST_RESPONSE_SECONDS", LONGEST_RESPONSE_S)
    monkeypatch.setattr(accept, "DIRECT_ANSWER_S", LONGEST_RESPONSE_S)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, unhurried: None) -> None:
    """Let an answer that is not there at once be deferred."""
    monkeypatch.setattr(accept, "DIRECT_ANSWER_S", 0.05)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let discord.py and the courier retry without their pauses."""

    class Hurried:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, _: float) -> None:
            await asyncio.sleep(0)

    monkeypatch.setattr(discord.http, "asyncio", Hurried())
    monkeypatch.setattr(discord.webhook.async_, "asyncio", Hurried())
    monkeypatch.setattr(courier, "_FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(courier, "_LONGEST_RETRY_S", 0.01)
    monkeypatch.setattr(removal, "_FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(removal, "_LONGEST_RETRY_S", 0.01)


@pytest.fixture
def sudden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a cancelled courier drop what it has in flight."""
    monkeypatch.setattr(courier, "_LAST_MOMENT_S", 0)


@pytest.fixture
async def sandbox(judge: Judge | None) -> AsyncIterator[Sandbox]:
    """A sandbox whose every exchange is judged at the end, where the description is at hand."""
    async with Sandbox() as running:
        yield running
    if judge is not None:
        assert judge.complaints(running.exchanges) == []


@pytest.fixture
async def stage(sandbox: Sandbox, tmp_path) -> AsyncIterator[Stage]:
    async with staged(sandbox, tmp_path / "data") as running:
        yield running
