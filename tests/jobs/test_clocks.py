"""The clock is a day or ten years off, at the start or while running: nobody waits for it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from bot.archive.privacy import Privacy
from bot.errors import LimitReached
from bot.fleet.fleet import Fleet
from bot.jobs.clock_watch import ClockWatch
from bot.jobs.queue import JobQueue
from bot.rules.limits import DAY_S, Limits
from bot.rules.preferences import Preferences
from storage import blocks, deliveries
from storage.blocks import Block
from storage.clock import LONGEST_PAUSE_S
from storage.images import ImageStore
from tests.engines import Script, ScriptedEngine
from tests.jobs.kit import (
    MODEL,
    PLENTY,
    Clock,
    finish,
    make_origin,
    make_request,
    one,
    open_queue,
    refused,
    submit,
)

YEARS = 10 * 365 * DAY_S
BACK = pytest.mark.parametrize("back", [7200.0, DAY_S, YEARS])
AT_START = pytest.mark.parametrize("at_start", [True, False])


@BACK
@AT_START
async def test_a_cooldown_does_not_last_until_the_clock_is_there_again(tmp_path, back, at_start):
    clock, limits = Clock(), Limits(cooldown_s=5, open_jobs=9)
    async with open_queue(tmp_path, limits, clock) as (queue, database):
        await submit(queue)
        clock.now -= back
        later = JobQueue(database, limits, model=MODEL, clock=clock)
        if at_start:
            await later.start()
            clock.now += 6  # It has been as long as it was meant to be by now.
        await submit(later)
        clock.now += 1
        with refused(LimitReached, "."):
            await submit(later)


@BACK
async def test_a_cooldown_still_holds_while_the_clock_jitters(tmp_path, back):
    clock = Clock()
    async with open_queue(tmp_path, Limits(cooldown_s=5, open_jobs=9), clock) as (queue, _):
        await submit(queue)
        clock.now -= 2
        with refused(LimitReached, ".") as caught:
            await submit(queue)
        assert caught.value.retry_at <= clock.now + 5


@BACK
async def test_a_days_quota_is_a_day_long(tmp_path, back):
    clock, limits = Clock(), Limits(images_per_day=1, open_jobs=9)
    async with open_queue(tmp_path, limits, clock) as (queue, database):
        await submit(queue)
        clock.now -= back
        again = JobQueue(database, limits, model=MODEL, clock=clock)
        await again.start()
        with refused(LimitReached, ".") as caught:
            await submit(again)
        assert caught.value.retry_at <= clock.now + DAY_S
        clock.now += DAY_S + 1
        await submit(again)


@BACK
@AT_START
async def test_an_answer_that_was_put_off_is_due(queue, database, clock, back, at_start):
    job = await submit(queue)
    await finish(queue, await queue.get())
    watch = ClockWatch(database, clock=clock, timer=Clock())
    later = partial(deliveries.retry, job_id=job.id, next_attempt_at=clock.now + 30, error="503")
    await database.write(later)
    clock.now -= back
    if at_start:
        await JobQueue(database, PLENTY, model=MODEL, clock=clock).start()
    else:
        assert await watch.look() == pytest.approx(-back)
    await _due_within(database, clock, 30)


async def _due_within(database, clock: Clock, seconds: float) -> None:
    outlook = await database.read(partial(deliveries.outlook, now=clock.now, limit=9))
    if not outlook.due:
        assert clock.now < outlook.next_due_at <= clock.now + seconds
        clock.now += seconds
        outlook = await database.read(partial(deliveries.outlook, now=clock.now, limit=9))
    assert len(outlook.due) == 1


async def test_a_date_later_than_any_pause_is_due_now(queue, database, clock):
    """Also before anybody has looked at the clock."""
    job = await submit(queue)
    await finish(queue, await queue.get())
    for ahead, due in ((LONGEST_PAUSE_S - 1, 0), (LONGEST_PAUSE_S + 1, 1)):
        at = clock.now + ahead
        await database.write(
            partial(deliveries.retry, job_id=job.id, next_attempt_at=at, error="503")
        )
        outlook = await database.read(partial(deliveries.outlook, now=clock.now, limit=9))
        assert len(outlook.due) == due
        assert outlook.next_due_at == (None if due else at)


@pytest.mark.parametrize("step", [-YEARS, -DAY_S, -90.0, 90.0, DAY_S, YEARS])
async def test_pauses_and_tokens_last_as_long_whatever_the_clock_is_set_to(
    queue, database, clock, step
):
    timer = Clock(5.0)
    job = await queue.submit(*_asked(clock.now + 800))
    await finish(queue, await queue.get())
    watch = ClockWatch(database, clock=clock, timer=timer)
    await database.write(
        partial(deliveries.retry, job_id=job.job.id, next_attempt_at=clock.now + 100, error="503")
    )
    clock.now += 10
    timer.now += 10
    assert await watch.look() == 0
    clock.now += step + 10
    timer.now += 10
    assert await watch.look() == pytest.approx(step)
    delivery = await database.read(partial(deliveries.get, job_id=job.job.id))
    assert delivery.next_attempt_at == pytest.approx(clock.now + 80)
    assert delivery.token_expires_at == pytest.approx(clock.now + 780)


def _asked(expires_at: float):
    return make_request(), make_origin(token_expires_at=expires_at)


@BACK
async def test_a_block_is_as_long_as_it_was_meant_to_be(database, queue, clock, back):
    await database.write(
        partial(blocks.put, block=Block(1, 77, clock.now, clock.now + 600, "spam", 2))
    )
    clock.now -= back
    await JobQueue(database, PLENTY, model=MODEL, clock=clock).start()
    find = partial(blocks.find, user_id=1, guild_id=77)
    assert (await database.read(partial(find, now=clock.now + 599))) is not None
    assert (await database.read(partial(find, now=clock.now + 601))) is None


@BACK
async def test_the_fair_order_forgets_what_was_served_ahead_of_now(queue, database, clock, back):
    """Or its user would count as the one who was just served, for years."""
    await submit(queue, 1)
    await finish(queue, await queue.get(), seconds=1000)
    first, other = await submit(queue, 1), await submit(queue, 2)
    clock.now -= back
    assert [job.id for job in await queue.open_jobs()] == [first.id, other.id]
    assert (await queue.get()).id == first.id


@pytest.mark.slow
@pytest.mark.parametrize("leap", [-YEARS, -DAY_S, DAY_S, 40 * DAY_S, YEARS])
@AT_START
async def test_nothing_is_swept_by_a_leap(queue, database, store, clock, leap, at_start):
    def privacy() -> Privacy:
        return Privacy(database, store, Preferences(database), queue, keep_days=30, clock=clock)

    old, young = await _drawn(queue, database), None
    sweeping = privacy()
    for hour in range(29 * 24):
        clock.now += 3600
        if hour % 12 == 0:
            assert await sweeping.sweep() == 0
    young = await _drawn(queue, database)
    clock.now += leap
    if at_start:
        sweeping = privacy()
    for _ in range(20):
        await sweeping.sweep()
        clock.now += 3600
        # A day at most is what the leap is worth before it has held for one.
        assert await queue.job(young) is not None
        assert await one(database, "SELECT count(*) FROM usage WHERE job_id = ?", young) == 1
    if leap > 30 * DAY_S:
        clock.now += 5 * 3600
        assert await sweeping.sweep() == 2, "it has held for a day"
        assert await queue.job(old) is None


async def _drawn(queue, database) -> str:
    job = await submit(queue)
    await finish(queue, await queue.get())
    await database.write(partial(deliveries.taken, job_id=job.id, now=queue._clock()))
    return job.id


@pytest.mark.parametrize("leap", [-DAY_S, DAY_S, YEARS])
async def test_what_a_job_cost_is_measured_by_a_clock_that_nobody_sets(
    queue, database, store, clock, leap
):
    fleet = Fleet(queue, store, database, clock=clock, retry_s=0.001)
    engine = ScriptedEngine(Script(hold_at=2))
    await fleet.add("a", engine)
    running = asyncio.create_task(fleet.run())
    job = await submit(queue)
    async with asyncio.timeout(20):
        await engine.holding.wait()
        clock.now += leap
        with queue.feed.subscribe() as updates:
            await queue.cancel(job.id, by=1)
            async for update in updates:
                if update.kind == "final":
                    break
    running.cancel()
    await asyncio.wait({running})
    await fleet.close()
    spent = await one(database, "SELECT gpu_seconds FROM usage WHERE job_id = ?", job.id)
    assert 0 <= spent < 20


async def test_a_form_that_is_open_keeps_its_picture_whatever_the_clock_does(tmp_path):
    timer, clock = Clock(100.0), Clock()
    pictures = ImageStore(tmp_path, clock=clock, timer=timer).form_pictures
    await pictures.keep(1, "key", b"picture")
    clock.now += YEARS
    await pictures.sweep()
    assert await pictures.read(1, "key") == b"picture"
    # The next process does not know when it was written, and gives it an hour from then on.
    again = ImageStore(tmp_path, clock=clock, timer=timer).form_pictures
    for seconds, there in ((0, True), (3599, True), (2, False)):
        timer.now += seconds
        await again.sweep()
        assert (tmp_path / "kept" / "1_key").exists() is there


async def test_the_watch_goes_on_after_a_database_that_refuses(queue, database, clock, monkeypatch):
    looks = 0
    watch = ClockWatch(database, clock=clock, timer=Clock())

    async def look() -> float:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError
        await asyncio.Event().wait()
        return 0.0

    monkeypatch.setattr("bot.jobs.clock_watch._LOOK_S", 0)
    monkeypatch.setattr(watch, "look", look)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(10):
        while looks < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
