"""Starts that are refused: exit code 78, one sentence, the file untouched."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from bot.sandbox.server import Sandbox
from storage.migrate import prepare, read_migrations
from tests.process.kit import PATIENCE_S, bot_process


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("zeroed", "Put a backup in its place"),
        pytest.param("cut", "Put a backup in its place", marks=pytest.mark.slow),
        pytest.param("newer", "Update the bot", marks=pytest.mark.slow),
    ],
)
async def test_a_database_that_is_not_ours_to_touch(tmp_path, damage, words):
    path = tmp_path / "bot.sqlite3"
    prepare(path, read_migrations())
    content = path.read_bytes()
    if damage == "zeroed":
        path.write_bytes(bytes(len(content)))
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path) as process:
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await process.communicate()
    assert process.returncode == 78
    (sentence,) = errors.decode().strip().splitlines()
    assert words in sentence
    assert str(path) in sentence
    assert path.read_bytes() == before
