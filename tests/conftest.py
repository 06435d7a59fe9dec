from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage
from typing import Any

import hypothesis
import pytest

from bot.client.bot import ImageBot
from bot.messages import command_mentions

# Processes that share the cores are no faster with several threads each, which wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# An example's time says nothing on a machine that does other work besides.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# What the quick tests have on a disk at once, with room to spare.
_ROOM_BYTES = 4 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Keep the quick tests' files in memory where there is room: a quarter of them wait for a disk.

    The others stay on one: they are about it, or about gigabytes.
    """
    memory = Path("/dev/shm")
    quick = str(config.option.markexpr).startswith("not slow")
    if quick and os.access(memory, os.W_OK) and disk_usage(memory).free > _ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_report_header() -> str:
    name = os.environ.get("DISCORD_OPENAPI")
    if name:
        return (
            f"Discord's OpenAPI description: {name}; every exchange over the wire is judged by it"
        )
    return "DISCORD_OPENAPI is not set: exchanges are NOT judged by Discord's OpenAPI description"


@pytest.fixture(autouse=True)
def _own_commands() -> None:
    """Commands that another test's bot registered are not this one's."""
    command_mentions.learn({})


@pytest.fixture(autouse=True, scope="session")
def _translated_once() -> Iterator[None]:
    """Translate the same commands once for all the bots of a run: into 33 languages, thousands of words."""
    known: dict[str, list[dict[str, Any]]] = {}
    translated = ImageBot.commands_payload

    async def remembered(bot: ImageBot) -> list[dict[str, Any]]:
        commands = [one.to_dict(bot.tree) for one in bot.tree.get_commands(type=None)]
        key = json.dumps(commands, sort_keys=True, default=str)
        if key not in known:
            known[key] = await translated(bot)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageBot, "commands_payload", remembered)
        yield
