"""Submission of a job that starts from a picture, which is safe on the disk before the job is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from bot.domain.job import Origin
from bot.domain.request import ImageRequest
from bot.jobs.admission import Submission
from bot.jobs.queue import JobQueue
from storage.input_pictures import InputPictures

log: Final = logging.getLogger(__name__)


async def submit_with_picture(
    queue: JobQueue,
    inputs: InputPictures,
    request: ImageRequest,
    origin: Origin,
    prepare: Callable[[], Awaitable[ImageRequest]],
    *,
    job_id: str,
    model: str | None = None,
) -> Submission:
    """Commit a request that starts from a picture; raise what `submit` and `prepare` do.

    `prepare` keeps the picture in `inputs` under `job_id` and returns the request with it; see
    `JobQueue.submit`. Where no new job comes of it, the picture is deleted.
    """
    try:
        submission = await queue.submit(
            request, origin, job_id=job_id, model=model, prepare=prepare
        )
    except Exception:
        await _forget(inputs, job_id)
        raise
    if submission.repeated:
        await _forget(inputs, job_id)
    return submission


async def _forget(inputs: InputPictures, job_id: str) -> None:
    """Delete a picture that no job starts from; one that stays goes at the next start."""
    try:
        await inputs.forget(job_id)
    except OSError as error:
        log.warning("the input of %s could not be deleted: %s", job_id, error.strerror)
