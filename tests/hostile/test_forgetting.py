"""What was deleted is in no byte of the database's files: tokens that are of no use any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from storage.database import Database
from tests.engines import Script, ScriptedEngine
from tests.hostile.test_secrets import CANARY, sandbox
from tests.wire.kit import job_id_of, soon, staged

__all__ = ["sandbox"]
_QUARTER_H = 15 * 60


@pytest.fixture
def scrubbed(monkeypatch):
    """Set at each scrub that emptied the log."""
    event, scrub = asyncio.Event(), Database.scrub

    async def observed(database):
        done = await scrub(database)
        if done:
            event.set()
        return done

    monkeypatch.setattr(Database, "scrub", observed)
    return event


def holds(data: Path) -> bool:
    return any(CANARY.encode() in path.read_bytes() for path in data.glob("bot.sqlite3*"))


@pytest.mark.parametrize("end", ["delivered", "expired"])
async def test_a_token_that_opens_nothing_leaves_no_byte(sandbox, tmp_path, scrubbed, end):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine, discord_token=CANARY) as stage:
        message, job_id = await stage.asked()
        assert holds(tmp_path)
        scrubbed.clear()
        if end == "delivered":
            engine.release.set()
            await stage.delivered(job_id)
        else:
            stage.advance(_QUARTER_H + 60)
        await soon(scrubbed.wait())
        assert not holds(tmp_path)
        assert job_id_of(message) == job_id
        engine.release.set()
        await stage.delivered(job_id)


async def test_a_reader_delays_a_scrub_and_nobody_else(tmp_path):
    database = await Database.open(tmp_path / "a.sqlite3")
    reading, done = asyncio.Event(), asyncio.Event()

    async def look(tx):
        await tx.value("SELECT count(*) FROM jobs")
        reading.set()
        await done.wait()

    try:
        await database.write(lambda tx: tx.execute("INSERT INTO facts VALUES ('a', 'b')"))
        long = asyncio.create_task(database.read(look))
        await soon(reading.wait())
        await database.write(lambda tx: tx.execute("INSERT INTO facts VALUES ('c', 'd')"))
        assert not await database.scrub()
        await database.write(lambda tx: tx.execute("INSERT INTO facts VALUES ('e', 'f')"))
        done.set()
        await long
        assert await database.scrub()
        assert (tmp_path / "a.sqlite3-wal").stat().st_size == 0
        assert await database.read(lambda tx: tx.value("SELECT count(*) FROM facts")) == 3
    finally:
        done.set()
        await database.close()
