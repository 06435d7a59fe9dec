"""Backups of a database in use, and a start from one."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from bot.errors import DatabaseError
from storage.backup import copy_database
from storage.database import Transaction


async def test_a_backup_under_load_is_whole_and_starts(tmp_path, database, opened):
    written = 0
    stop = asyncio.Event()
    started = asyncio.Event()

    async def insert(tx: Transaction) -> None:
        await tx.execute("INSERT INTO notes VALUES (?)", (f"{written} " + "x" * 2000,))

    async def load() -> None:
        nonlocal written
        while not stop.is_set():
            await database.write(insert)
            written += 1
            if written == 300:
                started.set()

    (tmp_path / "restored.d").mkdir()
    loading = asyncio.create_task(load())
    async with asyncio.timeout(30):
        await started.wait()
        committed = written
        await database.backup(tmp_path / "copy.sqlite3")
        during = written
        stop.set()
        await loading
    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (count,) = connection.execute("SELECT count(*) FROM notes").fetchone()
    assert committed <= count <= during + 1
    # A folder has one bot, and one database.
    copy = (tmp_path / "copy.sqlite3").rename(tmp_path / "restored.d" / "bot.sqlite3")
    restored = await opened(copy)
    assert await restored.read(lambda tx: tx.value("SELECT count(*) FROM notes")) == count
    await restored.close()
    assert not list(tmp_path.glob("*.partial"))


async def test_a_backup_replaces_the_last_one_and_never_half(tmp_path, database):
    target = tmp_path / "copy.sqlite3"
    target.write_text("an older backup")
    await database.backup(target)
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with pytest.raises(DatabaseError, match="backup to"):
        await database.backup(tmp_path / "nowhere" / "copy.sqlite3")


async def test_a_backup_of_a_database_that_nobody_has_open(tmp_path, database):
    await database.write(lambda tx: tx.execute("INSERT INTO notes VALUES ('kept')"))
    await database.close()
    copy_database(database.path, tmp_path / "copy.sqlite3")
    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as connection:
        assert connection.execute("SELECT text FROM notes").fetchone() == ("kept",)
