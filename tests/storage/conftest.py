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
