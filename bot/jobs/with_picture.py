"""Submission of a job that starts from pictures, which are safe on the disk before the job is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from bot.domain.job import Origin
from bot.domain.request import ImageRequest
from bot.jobs.admission import Submission
from bot.jobs.queue import JobQueue
from storage.input_pictures import InputPictures, KeptInputs

log: Final = logging.getLogger(__name__)


def holding(request: ImageRequest, kept: KeptInputs) -> ImageRequest:
    """Return a request with the names of its job's files; raise `InvalidRequest`.

    What stays of an edit under a mask, or within a larger picture, is of its first reference.
    """
    image = kept.input_image
    if image is None and kept.references and (kept.mask or request.place):
        image = kept.references[0]
    return request.with_changes(input_image=image, references=kept.references, mask=kept.mask)


def kept_of(request: ImageRequest) -> KeptInputs:
    """Return the names of the files that a stored request has."""
    return KeptInputs(request.input_image, request.references, request.mask)


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
    """Commit a request that starts from pictures; raise what `submit` and `prepare` do.

    `prepare` keeps them in `inputs` under `job_id` and returns the request with their names
    (`holding`); see `JobQueue.submit`. Where no new job comes of it, they are deleted.
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
    """Delete the files that no job starts from; one that stays goes at the next start."""
    try:
        await inputs.forget([job_id])
    except OSError as error:
        log.warning("the inputs of %s could not be deleted: %s", job_id, error.strerror)
