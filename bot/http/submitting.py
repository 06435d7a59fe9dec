"""Submission over HTTP: from a request to a job, and from a job to what its client is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Header, HTTPException, Request

from bot.config.api_keys import Caller
from bot.domain.job import ImageRecord, Job, JobState, Origin, Target
from bot.domain.request import ImageRequest
from bot.errors import UserError
from bot.http.context import ApiContext
from bot.http.errors import Problem, unforeseen
from bot.http.links import picture_path
from bot.http.schemas import JobView, PictureView
from bot.jobs.admission import Submission
from bot.jobs.compose import Asked, Surroundings, compose, shaped_like
from bot.jobs.with_picture import submit_with_picture
from bot.logs import job_context
from bot.pictures.headers import picture_shape
from storage import jobs

log = logging.getLogger(__name__)

_ASKED: Final = "asked"
"""The field of a stored request that says what its client asked for."""
POLL_S: Final = 5
"""What a client that has to ask again is told to wait."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="The same key finds the first request's job instead of making a second one.",
    ),
]


@contextmanager
def no_prompt_logged(job_id: str, asked: Asked) -> Generator[None]:
    """Answer what nobody foresaw, and keep the prompt out of the log."""
    with job_context(job_id, asked.prompt, asked.negative or ""):
        try:
            yield
        except (UserError, HTTPException):
            raise
        except Exception as error:  # noqa: BLE001 - it is logged here, within the context
            raise unforeseen(error) from None


async def submit(
    context: ApiContext,
    caller: Caller,
    asked: Asked,
    size: tuple[int | None, int | None],
    idempotency_key: str | None,
    *,
    model: str | None = None,
    picture: bytes | None = None,
) -> Submission:
    """Commit what a program asks for, by the rules that hold for people.

    `model` is the name of the one that is to draw, None the default. `picture` is what the job
    starts from; where no size is asked for, it gives the shape.

    Raises `UserError`, or `Problem` for a model that is not offered and for an idempotency key that
    came with another request.
    """
    job_id = context.queue.new_job_id()
    with no_prompt_logged(job_id, asked):
        source, words = job_id, None
        if idempotency_key is not None:
            digest = hashlib.sha256(idempotency_key.encode()).hexdigest()
            source = f"{caller.user_id}:{digest[:32]}"
            words = await asyncio.to_thread(_words, asked, size, idempotency_key, model, picture)
            # Before composing: a default, a LoRA or a model of then may be another now, or gone.
            find = partial(jobs.find_source, source_id=f"h{source}")
            first = await context.database.read(find)
            if first is not None and first.request.extra.get(_ASKED) == words:
                return Submission(first, repeated=True)
        spec = context.offered(model)
        loras = await context.loras[spec.name].known()
        around = Surroundings(spec, suffix=context.suffix, loras=loras, offered=context.models)
        request = _request(around, asked, size)
        if picture is not None and size == (None, None):
            shape = await asyncio.to_thread(picture_shape, picture)
            request = shaped_like(request, shape, spec.sizes) if shape else request
        if words is not None:
            request = request.with_changes(extra={_ASKED: words})
        origin = Origin(
            source_id=f"h{source}",
            target=Target.HTTP,
            user_id=caller.user_id,
            user_name=caller.name,
        )
        drawn_by = None if model is None else spec.name
        if picture is None:
            submission = await context.queue.submit(request, origin, job_id=job_id, model=drawn_by)
        else:
            inputs, asked_for = context.gallery.inputs, request

            async def prepare() -> ImageRequest:
                name = await inputs.keep(job_id, picture)
                return asked_for.with_changes(input_image=name)

            submission = await submit_with_picture(
                context.queue, inputs, request, origin, prepare, job_id=job_id, model=drawn_by
            )
    if submission.repeated:
        if not _same(submission.job.request, request, asked):
            sentence = "This Idempotency-Key was used for another request."
            raise Problem(409, sentence, job_id=submission.job.id)
    else:
        with job_context(job_id):
            log.info("accepted from the key %s", caller.name)
    return submission


def _words(
    asked: Asked,
    size: tuple[int | None, int | None],
    idempotency_key: str,
    model: str | None,
    picture: bytes | None,
) -> str:
    """Return a hash of what a client asked for, without what it left out.

    The client's key is part of it, which is stored nowhere: after a prompt is deleted, nobody can
    try out which prompt it was.
    """
    said = {name: value for name, value in asdict(asked).items() if value is not None}
    parts: list[Any] = [idempotency_key, said, size]
    if model is not None:
        parts.append({"model": model.casefold()})
    if picture is not None:
        parts.append(hashlib.sha256(picture).hexdigest())
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _same(first: ImageRequest, again: ImageRequest, asked: Asked) -> bool:
    if _ASKED in first.extra:
        return first.extra[_ASKED] == again.extra[_ASKED]
    # A job from before the hash was kept: what was drawn is compared.
    seed = first.seed if asked.seed is None else asked.seed
    return replace(again, seed=seed, extra=first.extra) == first


def _request(
    around: Surroundings, asked: Asked, size: tuple[int | None, int | None]
) -> ImageRequest:
    request = compose(asked, around)
    width, height = size
    if width is None and height is None:
        return request
    most = around.model.largest_asked
    for what, side in (("width", width), ("height", height)):
        if side is not None and side > most:
            name = around.model.name
            raise Problem(422, f"{name} draws at most {most} pixels on a side: {what}.")
    return request.with_changes(
        width=request.width if width is None else width,
        height=request.height if height is None else height,
        aspect=None,
    )


async def finished(context: ApiContext, submission: Submission, request: Request) -> Job:
    """Return the job once it has ended, or as it stands when the wait is over.

    Raises `Problem` when it ended without a picture.
    """
    await context.followers.ended(submission.job.id, context.wait_s, request)
    job = await context.queue.job(submission.job.id)
    if job is None or job.deleted_at is not None:
        raise Problem(410, "The pictures were deleted.", job_id=submission.job.id)
    if job.state.final:
        await context.fetched(job)
    if job.state is JobState.FAILED:
        sentence = job.error or "The picture could not be made."
        raise Problem(422 if job.error_kind == "refused" else 502, sentence, job_id=job.id)
    if job.state is JobState.CANCELLED:
        raise Problem(409, _why_cancelled(job), job_id=job.id)
    return job


def _why_cancelled(job: Job) -> str:
    return f"The job was cancelled: {job.error}" if job.error else "The job was cancelled."


async def images_of(context: ApiContext, job: Job) -> list[ImageRecord]:
    """Return the pictures of a drawn job; raise `Problem` when they are gone."""
    images = await context.queue.images(job.id)
    if not images:
        raise Problem(410, "The pictures were deleted.", job_id=job.id)
    return images


async def files_of(context: ApiContext, images: Iterable[ImageRecord]) -> list[bytes]:
    """Return the PNG files of pictures; raise `JobNotFound` when one is gone."""
    return list(await asyncio.gather(*map(context.gallery.read, images)))


async def view(context: ApiContext, job: Job) -> JobView:
    """Return a job as its key's holder sees it."""
    place = None if job.state.final else await context.queue.place(job.id)
    images = await context.queue.images(job.id) if job.state is JobState.GENERATED else []
    request = job.request
    latest = context.queue.feed.latest(job.id)
    step = latest.step if latest else 0
    return JobView(
        id=job.id,
        state=job.state.value,
        model=job.model or context.default.name,
        width=request.width,
        height=request.height,
        seed=request.seed,
        num_inference_steps=request.steps,
        count=request.count,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        ahead=place.ahead if place else None,
        starts_at=place.starts_at if place else None,
        ends_at=place.ends_at if place else None,
        step=request.steps if job.state is JobState.GENERATED else step,
        stage=(latest.stage or None) if latest else None,
        error=job.error,
        images=[
            PictureView(
                url=context.address(picture_path(job.id, image.position)),
                position=image.position,
                width=image.width,
                height=image.height,
                seed=image.seed,
                size_bytes=image.size_bytes,
                sha256=image.sha256,
            )
            for image in images
            if job.deleted_at is None
        ],
        status_url=context.address(f"/api/v1/jobs/{job.id}"),
        events_url=context.address(f"/api/v1/jobs/{job.id}/events"),
    )
