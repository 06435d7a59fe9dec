"""How jobs end: once, fenced, with their delivery in the same commit."""

from __future__ import annotations

import asyncio

import pytest

from bot.domain.job import ImageRecord, JobState
from bot.errors import JobNotFound, NotAllowed
from bot.jobs.outcomes import MAX_INTERRUPTIONS
from bot.jobs.queue import CancelOutcome, JobQueue
from tests.jobs.kit import MODEL, PLENTY, delivery_state, finish, one, submit


async def usage_of(database, job):
    row = await database.read(lambda tx: tx.one("SELECT * FROM usage WHERE job_id = ?", (job.id,)))
    return (row["images"] if row["refunded_at"] is None else 0), row["gpu_seconds"]


async def restart(database, clock) -> JobQueue:
    return JobQueue(database, PLENTY, model=MODEL, clock=clock)


async def test_a_generated_job(queue, database, clock):
    await submit(queue, count=2)
    job = await queue.get()
    assert (job.state, job.attempts, job.started_at) == (JobState.RUNNING, 1, clock.now)
    assert await delivery_state(database, job) == "waiting"
    clock.now += 9
    images = [
        ImageRecord(job.id, position, f"{job.id}_{position}.png", "ab" * 32, 5, 256, 256, position)
        for position in range(2)
    ]
    timings = {"load": 30.0, "encode": 1.0, "denoise": 7.5, "total": 38.5}
    assert await queue.commits.record_generated(job, images, timings, 4321, MODEL)
    done = await queue.job(job.id)
    assert (done.state, done.finished_at, done.model) == (JobState.GENERATED, clock.now, MODEL)
    assert done.timings == timings
    assert await queue.images(job.id) == images
    assert await delivery_state(database, job) == "pending"
    assert await usage_of(database, job) == (2, 8.5)
    assert await one(database, "SELECT peak_gpu_bytes FROM jobs") == 4321


async def test_only_the_first_outcome_counts(queue, database):
    await submit(queue)
    job = await queue.get()
    assert await finish(queue, job)
    assert not await finish(queue, job)
    assert not await queue.commits.record_cancelled(job)
    assert await queue.commits.record_fault(job, "died", "s", "d") is None
    assert not await queue.commits.give_back(job)
    assert (await queue.job(job.id)).state is JobState.GENERATED
    assert await usage_of(database, job) == (1, 3.0)


async def test_a_late_result_of_an_older_attempt_is_fenced(queue):
    await submit(queue)
    first = await queue.get()
    await queue.commits.record_fault(first, "died", "s", "d")
    second = await queue.get()
    assert second.attempts == 2
    assert not await finish(queue, first)
    assert not await queue.commits.record_cancelled(first)
    assert (await queue.job(first.id)).state is JobState.RUNNING
    assert await finish(queue, second)


async def test_a_fault_is_retried_once_then_told(queue, database):
    await submit(queue)
    job = await queue.get()
    assert (
        await queue.commits.record_fault(job, "died", "one", "d1", spent_s=2.0) is JobState.QUEUED
    )
    row = await queue.job(job.id)
    assert (row.engine_faults, row.error, row.started_at) == (1, None, None)
    assert await usage_of(database, job) == (1, 2.0)
    assert await delivery_state(database, job) == "waiting"
    job = await queue.get()
    assert (
        await queue.commits.record_fault(job, "died", "two", "d2", spent_s=3.0) is JobState.FAILED
    )
    row = await queue.job(job.id)
    assert (row.state, row.error, row.error_kind) == (JobState.FAILED, "two", "died")
    assert await one(database, "SELECT error_detail FROM jobs") == "d2"
    assert await usage_of(database, job) == (0, 5.0)
    assert await delivery_state(database, job) == "pending"


async def test_a_job_that_works_the_second_time_shows_no_error(queue):
    job = await submit(queue)
    await queue.commits.record_fault(await queue.get(), "died", "one", "d1")
    assert (await queue.job(job.id)).error_kind == "died"
    await finish(queue, await queue.get())
    row = await queue.job(job.id)
    assert (row.error, row.error_kind, row.engine_faults) == (None, None, 1)


async def test_a_waiting_job_is_cancelled_at_once(queue, database):
    job = await submit(queue, count=3)
    assert await queue.cancel(job.id, by=1) is CancelOutcome.CANCELLED
    assert (await queue.job(job.id)).state is JobState.CANCELLED
    assert await delivery_state(database, job) == "pending"
    assert await usage_of(database, job) == (0, 0.0)
    assert await queue.cancel(job.id, by=1) is CancelOutcome.ALREADY_DONE
    assert await queue.open_jobs() == []


async def test_a_running_job_is_asked_to_stop(queue, database, clock):
    asked = []
    queue.on_cancel.append(asked.append)
    await submit(queue)
    job = await queue.get()
    assert await queue.cancel(job.id, by=1) is CancelOutcome.CANCELLING
    clock.now += 5
    assert await queue.cancel(job.id, by=1) is CancelOutcome.CANCELLING
    assert asked == [job.id, job.id]
    assert (await queue.job(job.id)).cancel_requested_at == clock.now - 5
    assert await queue.commits.record_cancelled(job, spent_s=4.0, drawn=True)
    assert (await queue.job(job.id)).state is JobState.CANCELLED
    assert await usage_of(database, job) == (1, 4.0)


async def test_a_cancel_before_the_first_step_is_refunded(queue, database):
    await submit(queue)
    job = await queue.get()
    await queue.commits.record_cancelled(job, drawn=False)
    assert await usage_of(database, job) == (0, 0.0)


async def test_a_fault_after_a_cancel_ends_the_job(queue):
    await submit(queue)
    job = await queue.get()
    await queue.cancel(job.id, by=1)
    assert await queue.commits.record_fault(job, "died", "s", "d") is JobState.CANCELLED
    assert (await queue.job(job.id)).error is None


async def test_cancel_against_finish_the_first_commit_wins(queue, database):
    for _ in range(20):
        await submit(queue)
        job = await queue.get()
        cancelled, finished, recorded = await asyncio.gather(
            queue.cancel(job.id, by=1), finish(queue, job), queue.commits.record_cancelled(job)
        )
        assert [finished, recorded].count(True) == 1
        assert cancelled in {CancelOutcome.CANCELLING, CancelOutcome.ALREADY_DONE}
        state = (await queue.job(job.id)).state
        assert state is (JobState.GENERATED if finished else JobState.CANCELLED)
        assert await delivery_state(database, job) == "pending"


async def test_who_may_cancel(queue, database):
    job = await submit(queue, 1)
    with pytest.raises(JobNotFound):
        await queue.cancel("nothing", by=1)
    with pytest.raises(NotAllowed):
        await queue.cancel(job.id, by=2)
    assert (await queue.job(job.id)).state is JobState.QUEUED
    assert await one(database, "SELECT count(*) FROM audit") == 0
    assert await queue.cancel(job.id, by=2, moderator=True) is CancelOutcome.CANCELLED
    assert await one(database, "SELECT action || ' ' || target FROM audit") == f"cancel {job.id}"


async def test_a_job_given_back_costs_nothing(queue, database):
    await submit(queue)
    job = await queue.get()
    assert await queue.commits.give_back(job)
    row = await queue.job(job.id)
    assert (row.state, row.attempts, row.interruptions) == (JobState.QUEUED, 0, 0)
    assert await usage_of(database, job) == (1, 0.0)
    job = await queue.get()
    await queue.cancel(job.id, by=1)
    assert await queue.commits.give_back(job)
    assert (await queue.job(job.id)).state is JobState.CANCELLED


async def test_recovery_after_a_crash(queue, database, clock):
    interrupted = [await submit(queue, user) for user in (1, 2)]
    claimed = [await queue.get() for _ in interrupted]
    await queue.cancel(claimed[1].id, by=2)
    waiting = await submit(queue, 3)

    restarted = await restart(database, clock)
    recovery = await restarted.start()
    assert (recovery.requeued, recovery.cancelled, recovery.failed) == (1, 1, 0)
    job = await restarted.job(claimed[0].id)
    assert (job.state, job.interruptions, job.attempts) == (JobState.QUEUED, 1, 1)
    assert (await restarted.job(claimed[1].id)).state is JobState.CANCELLED
    assert await delivery_state(database, claimed[1]) == "pending"
    assert [job.id for job in await restarted.open_jobs()] == [claimed[0].id, waiting.id]
    assert not await finish(queue, claimed[1])


async def test_a_job_under_which_the_bot_keeps_dying_is_given_up(queue, database, clock):
    await submit(queue)
    for death in range(MAX_INTERRUPTIONS):
        job = await queue.get()
        recovery = await (await restart(database, clock)).start()
        assert recovery.requeued == 1
        assert (await queue.job(job.id)).interruptions == death + 1
    job = await queue.get()
    recovery = await (await restart(database, clock)).start()
    assert recovery.failed == 1
    row = await queue.job(job.id)
    assert row.state is JobState.FAILED
    assert job.id in row.error
    assert await usage_of(database, job) == (0, 0.0)
    assert await delivery_state(database, job) == "pending"


async def test_a_delivery_in_flight_is_left_to_the_courier(queue, database, clock):
    await submit(queue)
    job = await queue.get()
    await finish(queue, job)
    sql = "UPDATE deliveries SET state = 'sending'"
    await database.write(lambda tx: tx.execute(sql))
    await (await restart(database, clock)).start()
    assert await delivery_state(database, job) == "sending"
