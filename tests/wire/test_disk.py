"""A database that refuses: a sentence for each command, nothing lost, and on as soon as it can."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import storage.database
from bot.domain.job import JobState
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import staged, text_of

# Inserts take a page of their own, so that the limit is met at once.
BALLAST = "CREATE TABLE ballast (x BLOB) STRICT"
HEAVY = (
    "CREATE TRIGGER heavy AFTER INSERT ON jobs"
    " BEGIN INSERT INTO ballast VALUES (zeroblob(100000)); END"
)


async def pragma(stage, text: str) -> int:
    rows = await stage.database._writer.execute_fetchall(f"PRAGMA {text}")
    return next(iter(rows))[0]


@asynccontextmanager
async def held(stage) -> AsyncIterator[sqlite3.Connection]:
    """Hold the database's lock, as another program does."""
    path = stage.database.path
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        # In a thread: whatever the bot is writing just now needs this loop to end.
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        yield other
        other.execute("ROLLBACK")


async def test_a_full_disk_refuses_commands_and_keeps_the_queue(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=2))
    async with staged(sandbox, tmp_path, engine) as stage:
        for sql in (BALLAST, HEAVY):
            await stage.database.write(lambda tx, sql=sql: tx.execute(sql))
        running = await stage.imagine("alice", "one")
        await engine.holding.wait()
        waiting = await stage.imagine("bob", "two")
        await waiting.response()
        await pragma(stage, f"max_page_count = {await pragma(stage, 'page_count')}")
        refused = await (await stage.imagine("alice", "three")).answer()
        assert refused.ephemeral
        assert "Not accepted: the bot's disk is full." in text_of(refused)
        assert await stage.jobs_made() == 2
        await pragma(stage, "max_page_count = 1073741823")
        engine.release.set()
        for invocation in (running, waiting, await stage.imagine("alice", "three")):
            message = await stage.outcome(invocation)
            assert (await stage.job_of(message)).state is JobState.GENERATED


async def test_a_locked_database_lets_a_command_wait_with_an_answer(sandbox, tmp_path, impatient):
    async with staged(sandbox, tmp_path) as stage:
        async with held(stage) as other:
            invocation = await stage.imagine("alice", "a boat")
            # The lock is still held: whatever answers now did not wait for the database.
            assert (await invocation.response()).deferred
            assert other.in_transaction
        await stage.outcome(invocation)


async def test_a_database_locked_for_too_long_is_said(sandbox, tmp_path, monkeypatch):
    async with staged(sandbox, tmp_path) as stage:
        # The sweep at the start puts the writer's patience back.
        monkeypatch.setattr(storage.database, "_PATIENCE", "busy_timeout = 10")
        await pragma(stage, "busy_timeout = 10")
        async with held(stage):
            refused = await (await stage.imagine("alice", "a boat")).answer()
            assert "the bot's database is held by another program" in text_of(refused)
            admin = await stage.sandbox.user("alice").slash("general", "admin pause")
            said = text_of(await admin.answer())
            assert said.startswith("Not done: the bot's database is held")
        assert await stage.jobs_made() == 0
        await stage.outcome(await stage.imagine("alice", "a boat"))
