"""`bench together` ends when the bot cannot start, instead of waiting for its pictures."""

from __future__ import annotations

import argparse
import asyncio

import pytest

from bot.app.app import App
from bot.errors import StartupError
from bot.lab.bench.together import bench_together


async def test_a_bot_that_does_not_start_ends_it(monkeypatch) -> None:
    async def run(_app: App) -> None:
        raise StartupError("The database is in use.")

    monkeypatch.setattr(App, "run", run)
    options = argparse.Namespace(model="tiny", folder=None, quality="fast", json=None)
    async with asyncio.timeout(50):
        with pytest.raises(StartupError, match="in use"):
            await bench_together(options)
