"""A drain: nothing new, what there is ends, then a pause; held by the database."""

from __future__ import annotations

import pytest

from bot.errors import QueueClosed
from tests.jobs.kit import finish, make_origin, make_request, one, open_queue, refused, submit


async def test_a_drain_ends_what_there_is_and_then_pauses(queue):
    first, second = await submit(queue), await submit(queue, 2)
    await queue.control.drain("new card", by=9)
    with refused(QueueClosed, match="new card"):
        await submit(queue, 3)
    assert queue.control.draining == "new card"
    assert queue.control.paused is None
    for expected in (first, second):
        job = await queue.get()
        assert job.id == expected.id
        assert await finish(queue, job)
    assert queue.control.paused == "new card"
    with pytest.raises(QueueClosed):
        await submit(queue)
    await queue.control.resume(by=9)
    assert queue.control.paused is queue.control.draining is None
    await submit(queue)


async def test_a_drain_of_an_empty_queue_pauses_at_once(queue, database):
    await queue.control.drain("new card", by=9, guild_id=77)
    assert queue.control.paused == "new card"
    assert await one(database, "SELECT action || guild_id || detail FROM audit") == (
        "drain77new card"
    )


async def test_a_cancel_of_the_last_job_ends_a_drain(queue):
    job = await submit(queue)
    await queue.control.drain("new card", by=9)
    await queue.cancel(job.id, by=1)
    assert queue.control.paused == "new card"


async def test_a_drain_ends_a_pause_and_a_pause_holds_a_drain(queue):
    await submit(queue)
    await queue.control.pause("lunch", by=9)
    await queue.control.drain("new card", by=9)
    assert queue.control.paused is None
    await queue.control.pause("lunch", by=9)
    assert (queue.control.paused, queue.control.draining) == ("lunch", "new card")
    await queue.control.resume(by=9)
    assert await queue.get()


async def test_a_drain_outlives_the_process(tmp_path):
    async with open_queue(tmp_path) as (queue, _database):
        await submit(queue)
        await queue.get()
        await queue.control.drain("new card", by=9)
    async with open_queue(tmp_path) as (queue, _database):
        with refused(QueueClosed, match="new card"):
            await submit(queue)
        assert await finish(queue, await queue.get())
        assert queue.control.paused == "new card"
    async with open_queue(tmp_path) as (queue, _database):
        assert (queue.control.paused, queue.control.draining) == ("new card", "new card")
        await queue.control.resume(by=9)
    async with open_queue(tmp_path) as (queue, _database):
        await submit(queue)


async def test_a_request_seen_before_is_found_though_nothing_new_is_taken(queue):
    origin = make_origin()
    first = await queue.submit(make_request(), origin)
    await queue.control.drain("new card", by=9)
    again = await queue.submit(make_request(), origin)
    assert again.repeated
    assert again.job.id == first.job.id
