"""Engines that break down, refuse, hang or leave at a bad moment, beside others that work."""

from __future__ import annotations

import asyncio
import errno
import sqlite3

import pytest

from bot.domain.job import JobState
from bot.engine.protocol import EngineState
from bot.errors import EngineError, EngineErrorKind
from bot.fleet.engine_slot import Standby
from bot.fleet.fleet import Fleet
from tests.engines import Script, ScriptedEngine
from tests.jobs.fleets import at_work, drawn_by, ended
from tests.jobs.kit import finish, submit

Kind = EngineErrorKind


class Fragile(ScriptedEngine):
    """After each of its errors the process behind it is gone."""

    async def generate(self, request):
        self.state = EngineState.IDLE
        try:
            async for event in super().generate(request):
                yield event
        except EngineError:
            self.state = EngineState.STOPPED
            raise


@pytest.mark.parametrize("kind", [Kind.DIED, Kind.RAISED])
async def test_a_broken_engine_does_not_get_the_second_try_too(queue, fleet, monkeypatch, kind):
    broken = Fragile(*(Script(error=EngineError(kind, "the card fell off the bus")) for _ in "12"))
    healthy = ScriptedEngine(Script(hold_at=1))
    await fleet.add("healthy", healthy)
    async with at_work(fleet):
        first = await submit(queue, 1)
        await healthy.holding.wait()
        stands_back, find = asyncio.Event(), queue.job

        async def watched(job_id):
            if fleet.slots["broken"].standing_back:
                stands_back.set()
            return await find(job_id)

        monkeypatch.setattr(queue, "job", watched)
        await fleet.add("broken", broken)
        second = await submit(queue, 2)
        await stands_back.wait()
        third = await submit(queue, 3)
        healthy.release.set()
        assert set(await ended(queue, first, second, third)) == {JobState.GENERATED}
    assert drawn_by(healthy)[:2] == [first.id, second.id]
    assert second.id not in drawn_by(broken)[1:]


async def test_a_broken_engine_goes_on_where_nobody_else_can(queue, fleet):
    broken = Fragile(Script(error=EngineError(Kind.DIED, "once")))
    await fleet.add("other", ScriptedEngine())
    await fleet.add("broken", broken)
    async with at_work(fleet):
        await fleet.set_standby("other", Standby.PAUSED, by=1)
        job = await submit(queue)
        assert await ended(queue, job) == [JobState.GENERATED]
    assert drawn_by(broken) == [job.id, job.id]


async def test_a_refused_job_is_tried_by_every_other_engine_first(queue, fleet, database):
    def lacking() -> ScriptedEngine:
        refused = EngineError(Kind.REFUSED, "not there", sentence="There is no LoRA owl.")
        return ScriptedEngine(*(Script(error=refused) for _ in range(5)))

    poor, poorer = lacking(), lacking()
    for name, engine in {"poor": poor, "poorer": poorer}.items():
        await fleet.add(name, engine)
    async with at_work(fleet):
        job = await submit(queue, loras=("owl",))
        assert await ended(queue, job) == [JobState.FAILED]
        assert (await queue.job(job.id)).error == f"There is no LoRA owl. ({job.id})"
        assert drawn_by(poor) == drawn_by(poorer) == [job.id]
        rich = ScriptedEngine()
        await fleet.add("rich", rich)
        job = await submit(queue, loras=("owl",))
        assert await ended(queue, job) == [JobState.GENERATED]
    row = await queue.job(job.id)
    assert (row.attempts, row.engine_faults) == (1, 0)


async def test_an_engine_that_leaves_takes_its_hold_along(queue, fleet, store, monkeypatch):
    tried = asyncio.Event()

    async def try_writing(_self):
        tried.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(store), "try_writing", try_writing)
    refused = EngineError(Kind.DISK_REFUSED, "x", sentence="the bot's disk is full")
    await fleet.add("a", ScriptedEngine(Script(error=refused)))
    async with at_work(fleet):
        job = await submit(queue)
        await tried.wait()
        assert queue.control.paused
        await fleet.add("b", ScriptedEngine())
        await fleet.remove("a")
        assert await ended(queue, job) == [JobState.GENERATED]


async def test_a_disk_that_refuses_again_is_tried_ever_more_slowly(queue, fleet, monkeypatch):
    full = EngineError(Kind.DISK_REFUSED, "x", sentence="the bot's disk is full")
    engine = ScriptedEngine(*(Script(error=full) for _ in range(4)))
    await fleet.add("a", engine)
    slept, sleep = [], asyncio.sleep

    async def watched(seconds):
        slept.append(seconds)
        await sleep(0)

    with monkeypatch.context() as patched:
        patched.setattr("bot.fleet.worker.asyncio.sleep", watched)
        async with at_work(fleet):
            assert await ended(queue, await submit(queue)) == [JobState.GENERATED]
    assert slept == [0.001, 0.002, 0.004, 0.008]


async def test_a_stop_at_the_moment_of_a_claim(queue, fleet, monkeypatch):
    await fleet.add("a", ScriptedEngine(Script(hold_at=1)))
    claim = queue.get

    async def claimed():
        job = await claim()
        asyncio.get_running_loop().call_soon(running.cancel)
        return job

    monkeypatch.setattr(queue, "get", claimed)
    running = asyncio.create_task(fleet.run())
    job = await submit(queue)
    async with asyncio.timeout(20):
        await asyncio.gather(running, return_exceptions=True)
    row = await queue.job(job.id)
    assert (row.state, row.attempts) == (JobState.QUEUED, 0)


async def test_a_stop_while_an_engine_hangs_as_it_leaves(queue, fleet, monkeypatch):
    monkeypatch.setattr("bot.fleet.fleet._STOP_S", 0.05)
    leaves, let_go = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedEngine):
        async def generate(self, request):
            try:
                async for event in super().generate(request):
                    yield event
            finally:
                leaves.set()
                await let_go.wait()

    engine = Slow(Script(hold_at=1))
    await fleet.add("a", engine)
    running = asyncio.create_task(fleet.run())
    async with asyncio.timeout(20):
        job = await submit(queue)
        await engine.holding.wait()
        removing = asyncio.create_task(fleet.remove("a"))
        await leaves.wait()
        for task in (running, removing):
            task.cancel()
            await asyncio.wait({task})
        await fleet.close()
        row = await queue.job(job.id)
        assert (row.state, row.attempts, engine.state) == (JobState.QUEUED, 0, EngineState.STOPPED)
        let_go.set()


async def test_a_late_claim_changes_nothing(queue):
    job = await submit(queue)
    stale = await queue.get()
    assert await queue.commits.give_back(stale)
    now = await queue.get()
    assert (now.id, now.attempts) == (stale.id, stale.attempts)
    assert not await queue.commits.give_back(stale)
    assert not await finish(queue, stale)
    assert not await queue.commits.record_cancelled(stale)
    assert await queue.commits.record_fault(stale, "died", "It died.", "it died") is None
    assert (await queue.job(job.id)).state is JobState.RUNNING
    assert await finish(queue, now)


@pytest.fixture
def refusing(database, monkeypatch):
    """The database refuses every write while the event is set."""
    monkeypatch.setattr("bot.jobs.commits._RETURN_RETRY_S", 0.001)
    monkeypatch.setattr("bot.jobs.commits._RETURN_PATIENCE_S", 0.01)
    refuses, write = asyncio.Event(), database.write

    async def unwilling(*args, **kwargs):
        if refuses.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        return await write(*args, **kwargs)

    monkeypatch.setattr(database, "write", unwilling)
    return refuses


async def test_an_engine_leaves_while_the_database_refuses(queue, fleet, refusing):
    engine = ScriptedEngine(Script(hold_at=1))
    await fleet.add("a", engine)
    async with at_work(fleet):
        job = await submit(queue)
        await engine.holding.wait()
        refusing.set()
        await fleet.remove("a")
        refusing.clear()
        await fleet.add("b", ScriptedEngine())
        assert await ended(queue, job) == [JobState.GENERATED]


async def test_the_last_engine_pauses_while_the_database_refuses(
    queue, fleet, refusing, monkeypatch
):
    engine, paused = ScriptedEngine(), asyncio.Event()
    await fleet.add("a", engine)
    claim = queue.get

    async def claimed():
        job = await claim()
        if not paused.is_set():
            fleet.slots["a"].standby = Standby.PAUSED
            refusing.set()
            paused.set()
        return job

    monkeypatch.setattr(queue, "get", claimed)
    async with at_work(fleet):
        job = await submit(queue)
        await paused.wait()
        refusing.clear()
        while True:
            changed = queue.commits.changed
            if (await queue.job(job.id)).state is JobState.QUEUED:
                break
            await changed.wait()
        assert not engine.requests
        await fleet.set_standby("a", None, by=1)
        assert await ended(queue, job) == [JobState.GENERATED]


async def test_a_drain_while_the_model_is_loaded_anew(queue, fleet):
    begun, go = asyncio.Event(), asyncio.Event()

    class Loading(ScriptedEngine):
        async def load(self):
            async with self._lock:
                begun.set()
                await go.wait()
                self.state = EngineState.IDLE

    engine = Loading(loaded=False)
    await fleet.add("a", engine)
    async with at_work(fleet):
        loading = asyncio.create_task(fleet.load())
        await begun.wait()
        await fleet.set_standby("a", Standby.DRAINED, by=1)
        go.set()
        await loading
        assert engine.state is EngineState.STOPPED


async def test_an_engine_that_was_loaded_for_nobody_is_unloaded_again(
    queue, store, database, clock
):
    fleet = Fleet(queue, store, database, clock=clock, retry_s=0.001, idle_unload_s=0.001)
    engine = ScriptedEngine()
    await fleet.add("a", engine)
    async with at_work(fleet):
        await engine.unloaded.wait()
        engine.unloaded.clear()
        await fleet.load()
        await engine.unloaded.wait()
