"""Submission of a job that starts from a picture, which is safe on the disk before the job is."""

from __future__ import annotations

import logging
from typing import Final

from bot.domain.job import Origin
from bot.domain.request import ImageRequest
from bot.errors.disk import refused_politely
from bot.jobs.admission import Submission
from bot.jobs.queue import JobQueue
from storage.input_pictures import InputPictures

log: Final = logging.getLogger(__name__)


async def submit_with_picture(
    queue: JobQueue,
    inputs: InputPictures,
    request: ImageRequest,
    origin: Origin,
    picture: bytes,
    *,
    job_id: str,
) -> Submission:
    """Keep a picture's bytes and commit the request that starts from it; raise what `submit` does.

    Where no new job comes of it, the picture is deleted.
    """
    try:
        with refused_politely():
            name = await inputs.keep(job_id, picture)
        request = request.with_changes(input_image=name)
        submission = await queue.submit(request, origin, job_id=job_id)
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
