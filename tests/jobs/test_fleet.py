"""Several engines on one queue: who gets which job, who comes and goes, and that nothing is lost."""

from __future__ import annotations

import asyncio

import pytest

from bot.domain.job import JobState
from bot.engine.protocol import EngineState
from bot.errors import EngineError, EngineErrorKind, InvalidRequest
from bot.fleet.engine_slot import Standby
from bot.fleet.fleet import Fleet
from bot.jobs.outlook import EngineOutlook
from bot.jobs.queue import CancelOutcome
from storage import audit
from tests.engines import Script, ScriptedEngine
from tests.jobs.fleets import at_work, drawn_by, ended
from tests.jobs.kit import finish, make_request, one, submit


async def test_two_engines_draw_at_the_same_time(queue, fleet):
    first, second = ScriptedEngine(Script(hold_at=1)), ScriptedEngine(Script(hold_at=1))
    await fleet.add("a", first)
    await fleet.add("b", second)
    async with at_work(fleet):
        jobs = [await submit(queue, user) for user in (1, 2, 3)]
        await first.holding.wait()
        await second.holding.wait()
        held = {slot.job.id for slot in fleet.slots.values()}
        assert held == {jobs[0].id, jobs[1].id}
        assert (await queue.job(jobs[2].id)).state is JobState.QUEUED
        assert fleet.state is EngineState.BUSY
        second.release.set()
        assert await ended(queue, jobs[2]) == [JobState.GENERATED]
        first.release.set()
        assert set(await ended(queue, *jobs)) == {JobState.GENERATED}
    assert drawn_by(second)[-1] == jobs[2].id
    assert len(drawn_by(first)) == 1


async def test_a_cancel_reaches_the_engine_that_draws_the_job(queue, fleet):
    engines = [ScriptedEngine(Script(hold_at=1)), ScriptedEngine(Script(hold_at=1))]
    for name, engine in zip("ab", engines, strict=True):
        await fleet.add(name, engine)
    async with at_work(fleet):
        jobs = [await submit(queue, user) for user in (1, 2)]
        for engine in engines:
            await engine.holding.wait()
        assert await queue.cancel(jobs[1].id, by=2) is CancelOutcome.CANCELLING
        assert await ended(queue, jobs[1]) == [JobState.CANCELLED]
        assert (await queue.job(jobs[0].id)).state is JobState.RUNNING
        for engine in engines:
            engine.release.set()
        assert await ended(queue, jobs[0]) == [JobState.GENERATED]
    assert sorted(len(engine.cancels) > 0 for engine in engines) == [False, True]


async def test_a_loaded_engine_is_preferred_then_one_that_holds_the_loras(queue, fleet):
    cold, warm, other = ScriptedEngine(loaded=False), ScriptedEngine(), ScriptedEngine()
    for name, engine in {"cold": cold, "warm": warm, "other": other}.items():
        await fleet.add(name, engine)
    async with at_work(fleet):
        await ended(queue, await submit(queue, loras=("style",)))
        holder, rest = (warm, other) if warm.requests else (other, warm)
        assert not cold.requests
        for _ in range(2):
            await ended(queue, await submit(queue, loras=("style",)))
        assert len(holder.requests) == 3
        await ended(queue, await submit(queue))
        assert len(rest.requests) == 1
    assert not cold.requests


async def test_engines_join_and_leave_at_work(queue, fleet):
    first, second = ScriptedEngine(Script(hold_at=1)), ScriptedEngine()
    await fleet.add("a", first)
    async with at_work(fleet):
        job = await submit(queue)
        await first.holding.wait()
        await fleet.remove("a")
        row = await queue.job(job.id)
        assert (row.state, row.attempts, row.engine_faults) == (JobState.QUEUED, 0, 0)
        assert first.state is EngineState.STOPPED
        assert fleet.state is EngineState.STOPPED
        await fleet.add("b", second, node="elsewhere", card="a card")
        assert await ended(queue, job) == [JobState.GENERATED]
        assert (fleet.slots["b"].node, fleet.slots["b"].card) == ("elsewhere", "a card")
        assert fleet.slots["b"].speed == pytest.approx(256 * 256 / 1e6)
    assert drawn_by(second) == [job.id]


async def test_nothing_is_claimed_without_an_engine(queue, fleet):
    async with at_work(fleet):
        job = await submit(queue)
        place = await queue.place(job.id)
        assert (place.starts_at, place.ends_at) == (None, None)
        assert (await queue.job(job.id)).attempts == 0
        await fleet.add("a", ScriptedEngine())
        assert await ended(queue, job) == [JobState.GENERATED]


async def test_a_stop_gives_every_job_back(queue, fleet):
    engines = [ScriptedEngine(Script(hold_at=1)) for _ in range(3)]
    for number, engine in enumerate(engines):
        await fleet.add(f"e{number}", engine)
    async with at_work(fleet):
        jobs = [await submit(queue, user) for user in range(1, 6)]
        for engine in engines:
            await engine.holding.wait()
    rows = [await queue.job(job.id) for job in jobs]
    assert {(row.state, row.attempts) for row in rows} == {(JobState.QUEUED, 0)}
    await fleet.close()
    assert {engine.state for engine in engines} == {EngineState.STOPPED}


async def test_a_paused_engine_ends_its_job_and_takes_no_other(
    queue, fleet, store, database, clock
):
    first, second = ScriptedEngine(Script(hold_at=1)), ScriptedEngine()
    await fleet.add("a", first)
    async with at_work(fleet):
        job = await submit(queue)
        await first.holding.wait()
        await fleet.set_standby("a", Standby.PAUSED, by=9, guild_id=77)
        waiting = await submit(queue)
        assert (await queue.place(waiting.id)).starts_at is None
        first.release.set()
        assert await ended(queue, job) == [JobState.GENERATED]
        assert first.state is EngineState.IDLE
        await fleet.add("b", second)
        assert await ended(queue, waiting) == [JobState.GENERATED]
        await fleet.set_standby("b", Standby.PAUSED, by=9)
        more = await submit(queue)
        await fleet.set_standby("a", None, by=9)
        assert await ended(queue, more) == [JobState.GENERATED]
    assert drawn_by(first) == [job.id, more.id]
    assert drawn_by(second) == [waiting.id]
    again = Fleet(queue, store, database, clock=clock)
    await again.add("b", ScriptedEngine())
    assert again.slots["b"].standby is Standby.PAUSED
    rows = await database.read(lambda tx: audit.newest(tx, audit.Wanted(), 10))
    assert [(row.action, row.target) for row in rows] == [
        ("engine_resume", "a"),
        ("engine_paused", "b"),
        ("engine_paused", "a"),
    ]


async def test_a_drained_engine_frees_its_card(queue, fleet):
    busy, idle = ScriptedEngine(Script(hold_at=1)), ScriptedEngine()
    await fleet.add("busy", busy)
    async with at_work(fleet):
        job = await submit(queue)
        await busy.holding.wait()
        await fleet.add("idle", idle)
        await fleet.set_standby("idle", Standby.DRAINED, by=9)
        assert idle.state is EngineState.STOPPED
        await fleet.set_standby("busy", Standby.DRAINED, by=9)
        assert busy.state is EngineState.BUSY
        busy.release.set()
        assert await ended(queue, job) == [JobState.GENERATED]
        await busy.unloaded.wait()
    with pytest.raises(InvalidRequest, match="busy, idle"):
        await fleet.set_standby("nobody", None, by=9)


async def test_a_worker_that_ends_by_itself_ends_the_fleet(queue, fleet, monkeypatch):
    member = await fleet.add("a", ScriptedEngine())

    async def broken() -> None:
        raise RuntimeError("a fault of the bot's own")

    monkeypatch.setattr(member.worker, "run", broken)
    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="own"):
            await fleet.run()


async def test_left_overs_of_a_crash_are_cleared_at_start(queue, store, fleet):
    (store.work_dir("01oldjob") / "0.png").write_bytes(b"half a picture")
    await fleet.add("a", ScriptedEngine())
    async with at_work(fleet):
        await ended(queue, await submit(queue))
    assert not (store.root / ".work" / "01oldjob").exists()


async def test_the_work_folder_is_gone_before_another_engine_can_have_the_job(
    queue, store, fleet, monkeypatch
):
    left: list[bool] = []
    give_back = queue.commits.give_back

    async def watched(job) -> None:
        left.append((store.root / ".work" / job.id).exists())
        await give_back(job)

    monkeypatch.setattr(queue.commits, "give_back", watched)
    error = EngineError(EngineErrorKind.LOAD_FAILED, "not there")
    await fleet.add("a", ScriptedEngine(Script(error=error)))
    async with at_work(fleet):
        await ended(queue, await submit(queue))
    assert left == [False]


async def test_estimates_count_the_engines(queue, clock):
    await submit(queue)
    await finish(queue, await queue.get(), seconds=6.0)
    area = make_request().megapixel_steps
    await queue.forecast.note_load_time(60.0)
    jobs = [await submit(queue, user) for user in (2, 3, 4, 5)]
    queue.forecast.engines = lambda: [EngineOutlook(), EngineOutlook(ready=False)]
    places = [await queue.place(job.id) for job in jobs]
    starts = [place.starts_at - clock.now for place in places]
    assert starts == pytest.approx([0, 6, 12, 18], abs=1e-3)
    assert [place.ahead for place in places] == [0, 0, 1, 2]
    queue.forecast.engines = lambda: [EngineOutlook(), EngineOutlook(), EngineOutlook(taking=False)]
    starts = [(await queue.place(job.id)).starts_at - clock.now for job in jobs]
    assert starts == pytest.approx([0, 0, 6, 6], abs=1e-3)
    running = await queue.get()
    queue.forecast.engines = lambda: [EngineOutlook(job_id=running.id), EngineOutlook()]
    waiting = [job for job in jobs if job.id != running.id]
    starts = [(await queue.place(job.id)).starts_at - clock.now for job in waiting]
    assert starts == pytest.approx([0, 6, 6], abs=1e-3)
    assert await one(queue._database, "SELECT count(*) FROM jobs WHERE state = 'running'") == 1
    # One that takes no more ends its job, and lets nobody begin; another is three times as fast.
    queue.forecast.engines = lambda: [
        EngineOutlook(job_id=running.id, taking=False),
        EngineOutlook(rate=2 / area),
    ]
    places = [await queue.place(job.id) for job in waiting]
    assert [place.ahead for place in places] == [0, 1, 2]
    assert [place.starts_at - clock.now for place in places] == pytest.approx([0, 2, 4], abs=1e-3)
    queue.forecast.engines = lambda: [
        EngineOutlook(job_id=running.id, rate=2 / area),
        EngineOutlook(rate=5 / area),
    ]
    ends = [(await queue.place(job.id)).ends_at - clock.now for job in [running, *waiting]]
    assert ends == pytest.approx([2, 5, 4, 6], abs=1e-3)
