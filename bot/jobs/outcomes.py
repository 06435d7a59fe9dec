"""Outcomes of jobs, which end or go back: each function is one step within a transaction.

Late results are fenced: they count only while the job is running, and in the very attempt that
was claimed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.domain.job import ImageRecord, Job, JobState
from bot.domain.request import ImageRequest
from bot.jobs.schedule import gpu_seconds
from bot.words import _, mark, speaking
from storage import blocks, jobs, texts, usage
from storage.database import Transaction

log = logging.getLogger(__name__)

MAX_ENGINE_FAULTS: Final = 2
MAX_INTERRUPTIONS: Final = 5


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of the jobs that were running when the process last ended."""

    requeued: int = 0
    failed: int = 0
    cancelled: int = 0

    def __str__(self) -> str:
        """Say it in a line of the log."""
        return f"{self.requeued} wait again, {self.failed} failed, {self.cancelled} were cancelled"


async def generated(
    tx: Transaction,
    job: Job,
    now: float,
    *,
    images: Sequence[ImageRecord],
    timings: Mapping[str, float],
    peak_gpu_bytes: int | None,
    model: str,
    text: str | None = None,
) -> bool:
    """End a job with its pictures, or what was written for it; False: the fence fails."""
    if not await jobs.running(tx, job):
        return False
    await jobs.set_result(tx, job.id, model=model, timings=timings, peak_gpu_bytes=peak_gpu_bytes)
    await jobs.add_images(tx, images)
    if text is not None:
        await texts.add(tx, job.id, text)
    await usage.add_gpu_seconds(tx, job.id, gpu_seconds(timings), now)
    await jobs.end(tx, job.id, JobState.GENERATED, now)
    return True


async def rewritten(
    tx: Transaction, job: Job, now: float, *, request: ImageRequest, spent_s: float
) -> bool:
    """Store that a job's prompt was rewritten, or is not going to be; False: the fence fails."""
    if not await jobs.running(tx, job):
        return False
    await texts.rewrite(tx, job.id, request.to_json(), request.tokens)
    await usage.add_gpu_seconds(tx, job.id, spent_s, now)
    return True


async def cancelled(tx: Transaction, job: Job, now: float, *, spent_s: float, drawn: float) -> bool:
    """End a running job as its user wished; the share that was not `drawn` is refunded."""
    if not await jobs.running(tx, job):
        return False
    await usage.add_gpu_seconds(tx, job.id, spent_s, now)
    await end_cancelled(tx, job.id, now, refund=1.0 - drawn)
    return True


async def end_cancelled(tx: Transaction, job_id: str, now: float, *, refund: float = 1.0) -> None:
    """End a job as cancelled, and give a share of what it was charged back.

    All of it where it waited, or where nobody knows any more how far it came.
    """
    await usage.refund(tx, job_id, now, refund)
    await jobs.end(tx, job_id, JobState.CANCELLED, now)


async def fault(
    tx: Transaction,
    job: Job,
    now: float,
    *,
    kind: str,
    sentence: str,
    detail: str,
    spent_s: float,
    final: bool = False,
) -> JobState | None:
    """Count a fault of the engine: the job is queued again, or failed when it was one too many.

    `final` faults fail it at once. A job that its user had asked to cancel ends as cancelled.
    Returns None when the fence fails.
    """
    found = await jobs.running(tx, job)
    if not found:
        return None
    await usage.add_gpu_seconds(tx, job.id, spent_s, now)
    if not final:  # A request that cannot be drawn says nothing about the engine.
        await jobs.count_fault(tx, job.id)
    if found.cancel_requested_at is not None:
        await jobs.set_error(tx, job.id, kind, None, detail)
        await end_cancelled(tx, job.id, now)
        return JobState.CANCELLED
    if not final and found.engine_faults + 1 < MAX_ENGINE_FAULTS:
        await jobs.set_error(tx, job.id, kind, None, detail)
        await jobs.queue_again(tx, job.id)
        return JobState.QUEUED
    await jobs.set_error(tx, job.id, kind, sentence, detail)
    await usage.refund(tx, job.id, now)
    await jobs.end(tx, job.id, JobState.FAILED, now)
    return JobState.FAILED


async def give_back(tx: Transaction, job: Job, now: float) -> JobState | None:
    """Put a job back as if it had not been claimed; None when the fence fails."""
    found = await jobs.running(tx, job)
    if not found:
        return None
    if found.cancel_requested_at is not None:
        await end_cancelled(tx, job.id, now)
        return JobState.CANCELLED
    await jobs.queue_again(tx, job.id, attempts=-1)
    return JobState.QUEUED


async def leave_guild(tx: Transaction, guild_id: int, now: float) -> list[str]:
    """Cancel the queued jobs of a server that the bot is no longer in; return their ids."""
    job_ids = await jobs.waiting_in_guild(tx, guild_id)
    for job_id in job_ids:
        sentence = mark("the bot was removed from the server.")
        await jobs.set_error(tx, job_id, "left_guild", sentence, "removed from the server")
        await end_cancelled(tx, job_id, now)
        log.info("job %s: cancelled, the bot is no longer in server %d", job_id, guild_id)
    return job_ids


async def is_forbidden(tx: Transaction, job_id: str, now: float) -> bool:
    """Tell whether a queued job is a blocked user's, or of a closed channel."""
    return bool(await blocks.forbidden_jobs(tx, now, job_id))


async def drop_forbidden(tx: Transaction, now: float) -> list[str]:
    """Cancel what waits of blocked users and in closed channels; return the jobs' ids.

    Most is refused when it is asked for. A job that ran when its user was blocked may have gone
    back to the queue, and a channel may have been closed since.
    """
    found = await blocks.forbidden_jobs(tx, now)
    for job_id, blocked in found:
        kind, sentence = "channel_closed", mark("the bot no longer draws in this channel.")
        if blocked:
            kind, sentence = "blocked", mark("you were blocked.")
        await jobs.set_error(tx, job_id, kind, sentence, "dropped when it would have begun")
        await end_cancelled(tx, job_id, now, refund=True)
        log.info("job %s: cancelled (%s)", job_id, kind)
    return [job_id for job_id, _blocked in found]


async def drop_unoffered(tx: Transaction, now: float, offered: Collection[str]) -> list[str]:
    """Cancel what waits for models that are no longer offered; return the jobs' ids.

    They are not drawn by another one: whoever chose a model reads that it is gone, and can choose.
    """
    dropped: list[str] = []
    for job in await jobs.find_open(tx):
        if job.state is JobState.RUNNING or job.model is None or job.model in offered:
            continue
        with speaking(job.locale):
            sentence = _("the model {model} is no longer offered.").format(model=job.model)
        await jobs.set_error(tx, job.id, "model_gone", sentence, "dropped when it would have begun")
        await end_cancelled(tx, job.id, now)
        log.warning("job %s: cancelled, its model %s is not offered", job.id, job.model)
        dropped.append(job.id)
    return dropped


async def _end_unreadable(tx: Transaction, job: Job, now: float) -> None:
    """Fail a job whose stored request cannot be read; one bad row stops nothing else."""
    if job.state is JobState.QUEUED:
        await jobs.start(tx, job.id, now)
    with speaking(job.locale):
        sentence = _(
            "This request was stored in a way that the bot can no longer read. Please ask again. "
            "({job})"
        ).format(job=job.id)
    await jobs.set_error(tx, job.id, "unreadable", sentence, "the stored request is not valid")
    await usage.refund(tx, job.id, now)
    await jobs.end(tx, job.id, JobState.FAILED, now)
    log.error("job %s: its stored request cannot be read; the job fails", job.id)


async def recover(tx: Transaction, now: float) -> Recovery:
    """Put the jobs back that were running when the process died."""
    requeued = failed = cancelled = 0
    for job in await jobs.find_open(tx):
        if not job.readable:
            await _end_unreadable(tx, job, now)
            failed += 1
            continue
        if job.state is not JobState.RUNNING:
            continue
        if job.cancel_requested_at is not None:
            await end_cancelled(tx, job.id, now)
            cancelled += 1
        elif job.interruptions >= MAX_INTERRUPTIONS:
            with speaking(job.locale):
                sentence = _(
                    "The bot was interrupted {count} times while it drew this, so it gave up. If "
                    "it happens again, tell the server's admins this number: {job}."
                ).format(count=job.interruptions + 1, job=job.id)
            await jobs.set_error(
                tx,
                job.id,
                "interrupted",
                sentence,
                "the process ended while the job was running",
            )
            await usage.refund(tx, job.id, now)
            await jobs.end(tx, job.id, JobState.FAILED, now)
            failed += 1
        else:
            await jobs.queue_again(tx, job.id, interruptions=1)
            requeued += 1
    return Recovery(requeued, failed, cancelled)
