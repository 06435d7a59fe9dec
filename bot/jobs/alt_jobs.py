"""Jobs that write alternative texts, which end with the pictures that they are about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from bot.domain.job import JobState
from bot.jobs import outcomes
from bot.jobs.queue import JobQueue
from storage import jobs, texts
from storage.database import Transaction


async def end_alt_texts(
    queue: JobQueue,
    drawn_ids: Sequence[str],
    now: float,
    within: Callable[[Transaction], Awaitable[None]] | None = None,
) -> None:
    """Cancel what still writes of the pictures of jobs, of which nobody needs it any more.

    `within` is done in the same transaction: what deletes the pictures, say. The copies of the
    pictures stay for the caller to delete.
    """
    stopping: list[str] = []

    async def end(tx: Transaction) -> list[str]:
        if within is not None:
            await within(tx)
        ended: list[str] = []
        for job_id in await texts.alt_jobs(tx, drawn_ids):
            job = await jobs.find(tx, job_id)
            if job is None or job.state.final:
                continue
            if job.state is JobState.RUNNING:
                await jobs.ask_cancel(tx, job_id, now)
                stopping.append(job_id)
            else:
                await outcomes.end_cancelled(tx, job_id, now)
                ended.append(job_id)
        return ended

    await queue.ending(end)
    for job_id in stopping:
        for listener in queue.on_cancel:
            listener(job_id)
