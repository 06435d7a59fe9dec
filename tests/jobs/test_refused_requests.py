"""A request that cannot be drawn fails at once, is refunded, and blames no engine."""

from __future__ import annotations

from bot.domain.job import JobState
from bot.errors import EngineError, EngineErrorKind


async def test_it_costs_nothing_and_counts_as_no_fault(queue, database):
    from tests.jobs.kit import submit

    job = await submit(queue)
    claimed = await queue.get()
    error = EngineError(EngineErrorKind.REFUSED, "the input picture: broken", sentence="Broken.")
    state = await queue.commits.record_fault(
        claimed, error.kind, "Broken.", error.detail, final=True
    )
    assert state is JobState.FAILED
    found = await queue.job(job.id)
    assert (found.engine_faults, found.error) == (0, "Broken.")
    refunded = await database.read(lambda tx: tx.value("SELECT refunded_at FROM usage"))
    assert refunded is not None
