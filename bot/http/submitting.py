"""Submission over HTTP: from a request to a job, and from a job to what its client is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from typing import Any, Final

from fastapi import HTTPException, Request

from bot.catalogue.models import ModelSpec
from bot.config.api_keys import Caller
from bot.domain.job import ImageRecord, Job, JobState, Origin, Target
from bot.domain.request import ImageRequest
from bot.domain.writing import Writing
from bot.errors import UserError
from bot.http.context import ApiContext
from bot.http.errors import Problem, unforeseen
from bot.http.lines import committed
from bot.http.request_ids import request_id
from bot.http.retries import Repeat
from bot.http.starts import Start, shaped
from bot.jobs.admission import Submission
from bot.jobs.chosen_model import ModelChoice
from bot.jobs.compose import Asked, Surroundings, compose
from bot.jobs.editing import editor, require_editor
from bot.jobs.enhancing import require_writer, written_first
from bot.jobs.with_picture import holding, submit_with_picture
from bot.logs import job_context
from storage import jobs

log = logging.getLogger(__name__)

_ASKED: Final = "asked"
"""The field of a stored request that says what its client asked for."""
POLL_S: Final = 5
"""What a client that has to ask again is told to wait."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is to be written, in the language of a Discord locale; nothing is drawn.

    `parameters` are what the file of a described picture says of itself.
    """

    task: Writing
    locale: str = "en-US"
    parameters: str = ""

    def of(self, request: ImageRequest) -> ImageRequest:
        """Return the request by which it is written."""
        return request.with_changes(writes=self.task.value, parameters=self.parameters)


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
    repeat: Repeat,
    *,
    model: str | None = None,
    start: Start | None = None,
    text: Text | None = None,
    waits: Request | None = None,
) -> Submission:
    """Commit what a program asks for, by the rules that hold for people.

    `waits` is the request where its client waits for room, too; not with pictures to start from,
    which would be held in memory meanwhile.

    `model` is the name of the one that is to draw, None the default: for an edit the first that
    edits. Where no size is asked for, what the job starts from gives the shape.

    Raises `UserError`, or `Problem` for a model that is not offered and for an idempotency key that
    came with another request.
    """
    job_id = context.queue.new_job_id()
    with no_prompt_logged(job_id, asked):
        source, words, again = job_id, None, None
        if repeat.key is not None:
            digest = hashlib.sha256(repeat.key.encode()).hexdigest()
            source = f"{caller.user_id}:{digest[:32]}"
            words = await asyncio.to_thread(_words, asked, size, repeat.key, model, start, text)
            # Before composing: a default, a LoRA or a model of then may be another now, or gone.
            find = partial(jobs.find_source, source_id=f"h{source}")
            first = await context.read(find)
            if first is not None and first.request.extra.get(_ASKED) == words:
                return Submission(first, repeated=True)
        elif repeat.count is not None:
            secret = f"{context.retries.secret}:{caller.user_id}"
            again = await asyncio.to_thread(_words, asked, size, secret, model, start, text)
            known = context.retries.join(again) if repeat.count else None
            if known is not None and (first := await context.job(known)):
                return Submission(first, repeated=True)
        spec = drawing(context, model, start, text)
        loras = await context.loras[spec.name].known()
        models = context.models  # No server's rules hold here: all that are offered may be used.
        around = Surroundings(
            spec, suffix=context.suffix, loras=loras, offered=models, allowed=models
        )
        request = _request(around, asked, size)
        if start is not None and size == (None, None):
            request = await asyncio.to_thread(shaped, request, start, spec)
        if words is not None:
            request = request.with_changes(extra={_ASKED: words})
        origin = Origin(
            source_id=f"h{source}",
            target=Target.HTTP,
            user_id=caller.user_id,
            user_name=caller.name,
            locale="en-US" if text is None else text.locale,
        )
        drawn_by = None if model is None and spec == context.default else spec.name
        request = request if text is None else text.of(request)
        describes = text is not None and text.task is Writing.DESCRIBE
        request, drawn_by = written_first(
            request,
            ModelChoice(spec, drawn_by),
            models,
            pictures=not describes and start is not None and bool(start.files.references),
        )
        if start is None:
            commit = partial(context.queue.submit, request, origin, job_id=job_id, model=drawn_by)
        else:
            inputs, files = context.gallery.inputs, start.files
            # So many are charged from the start: nothing is written for who cannot pay.
            names = tuple(f"reference{number}" for number, _ in enumerate(files.references, 1))
            request = request.with_changes(references=names, mask_inverted=start.mask_inverted)
            asked_for = request

            async def prepare() -> ImageRequest:
                return holding(asked_for, await inputs.keep(job_id, files))

            commit = partial(
                submit_with_picture,
                *(context.queue, inputs, request, origin, prepare),
                job_id=job_id,
                model=drawn_by,
            )
        submission = await committed(context, caller, commit, waits if start is None else None)
    if submission.repeated:
        if not _same(submission.job.request, request, asked):
            sentence = "This Idempotency-Key was used for another request."
            raise Problem(409, sentence, job_id=submission.job.id)
    else:
        if again is not None:
            context.retries.note(again, job_id)
        with job_context(job_id):
            log.info("accepted from the key %s, request %s", caller.name, request_id())
    return submission


def drawing(
    context: ApiContext, model: str | None, start: Start | None, text: Text | None = None
) -> ModelSpec:
    """Return the model that draws, or describes; raise `Problem`, or `InvalidRequest` for none."""
    spec = context.offered(model)
    count = len(start.files.references) if start else 0
    if text is not None and (text.task is Writing.DESCRIBE or count):
        return require_writer(context.models, spec)
    if count:
        spec = spec if model is not None else editor(context.models) or spec
        require_editor(spec, count, context.models)
    return spec


def _words(
    asked: Asked,
    size: tuple[int | None, int | None],
    secret: str,
    model: str | None,
    start: Start | None,
    text: Text | None,
) -> str:
    """Return a hash of what a client asked for, without what it left out.

    The `secret` is part of it, such as the client's key, which is stored nowhere: after a prompt is
    deleted, nobody can try out which prompt it was.
    """
    said = {name: value for name, value in asdict(asked).items() if value is not None}
    parts: list[Any] = [secret, said, size]
    if model is not None:
        parts.append({"model": model.casefold()})
    if text is not None:
        parts.append([text.task.value, text.locale])
    if start is not None:
        files = start.files
        one, mask, *others = (
            None if data is None else hashlib.sha256(data).hexdigest()
            for data in (files.image, files.mask, *files.references)
        )
        # A lone picture as in earlier versions, whose keys go on.
        alone = mask is None and not others
        parts.append(one if alone else [one, mask, start.mask_inverted, others])
        if start.around is not None:
            parts.append({"outpaint": astuple(start.around)})
    whole = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


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
    there = await context.followers.ended(submission.job.id, context.wait_s, request)
    context.retries.over(submission.job.id, left=not there)
    return await outcome(context, submission.job.id)


async def outcome(context: ApiContext, job_id: str) -> Job:
    """Return a job as it stands, and note that its end was fetched if that has come.

    Raises `Problem` when it ended without a picture.
    """
    job = await context.job(job_id)
    if job is None or job.deleted_at is not None:
        raise Problem(410, "The pictures were deleted.", job_id=job_id)
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
    images = await context.read(partial(jobs.find_images, job_id=job.id))
    if not images:
        raise Problem(410, "The pictures were deleted.", job_id=job.id)
    return images


async def files_of(context: ApiContext, images: Iterable[ImageRecord]) -> list[bytes]:
    """Return the PNG files of pictures; raise `JobNotFound` when one is gone."""
    return list(await asyncio.gather(*map(context.gallery.read, images)))
