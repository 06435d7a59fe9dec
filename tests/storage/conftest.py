from __future__ import annotations

from pathlib import Path

import pytest

from storage.database import Database


@pytest.fixture
async def database(tmp_path: Path):
    database = await Database.open(tmp_path / "bot.sqlite3")
    await database.write(lambda tx: tx.execute("CREATE TABLE notes (text TEXT NOT NULL)"))
    yield database
    await database.close()


@pytest.fixture
async def opened():
    """Open databases that are closed again whatever the test does: an open one keeps threads."""
    databases: list[Database] = []

    async def open_database(path: Path, **options: Path) -> Database:
        databases.append(await Database.open(path, **options))
        return databases[-1]

    yield open_database
    for database in databases:
        await database.close()
