"""What OpenAI's clients are answered: links, base64 or both, in the kind of file they asked for."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Final, Literal

from fastapi import Request
from starlette.responses import JSONResponse, Response

from bot.config.api_keys import Caller
from bot.domain.job import ImageRecord, Job, JobState
from bot.http.context import ApiContext
from bot.http.errors import Problem
from bot.http.job_views import usage_of
from bot.http.links import signed_path
from bot.http.openai_schemas import OpenAIBody, OpenAIUsage
from bot.http.submitting import files_of, images_of
from bot.jobs.compose import no_transparency
from bot.pictures.reencoded import reencoded

PictureField = Literal["url", "b64_json"]
BOTH: Final[frozenset[PictureField]] = frozenset({"url", "b64_json"})
# OpenAI's models that always answer base64, and take no response_format.
_BASE64_MODELS: Final = ("gpt-image", "chatgpt-image")
# Those that answer links unless they are told otherwise.
_LINK_MODELS: Final = ("dall-e",)
# The fields that the former alone have.
_BASE64_FIELDS: Final = frozenset(
    {"background", "input_fidelity", "moderation", "output_compression", "output_format"}
    | {"partial_images"}
)
_WHOLE_QUALITY: Final = 100
# What the answer calls each quality; steps and guidance of one's own do not change the name.
_QUALITY_NAMES: Final = {"low": "low", "high": "high", "hd": "high"}


def fields_for(body: OpenAIBody) -> frozenset[PictureField]:
    """Return how the client expects its pictures.

    OpenAI has two generations of clients: those of DALL-E read `url` unless they have said
    `response_format`, those of gpt-image may not say it and read `b64_json` alone. The model's name
    or a field of one generation alone tells them apart; who shows neither gets both.
    """
    if body.response_format is not None:
        return frozenset({body.response_format})
    model = _plain(body.model)
    told = any(getattr(body, name, None) is not None for name in _BASE64_FIELDS)
    if told or model.startswith(_BASE64_MODELS):
        return frozenset({"b64_json"})
    return frozenset({"url"}) if model.startswith(_LINK_MODELS) else BOTH


def model_asked(context: ApiContext, body: OpenAIBody) -> str | None:
    """Return the name of the model that is to draw, None for the default.

    Clients name OpenAI's own models where nobody has told them another: those mean the default. So
    does any name where one model is offered, since it is all that can be meant.
    """
    if len(context.models) == 1 or not body.model:
        return None
    return None if _plain(body.model).startswith((*_BASE64_MODELS, *_LINK_MODELS)) else body.model


def _plain(model: str | None) -> str:
    """Return a model's name as the prefixes above are: gateways put the provider before it."""
    return (model or "").lower().rpartition("/")[2]


def require_drawable(body: OpenAIBody, context: ApiContext, model: str | None) -> None:
    """Raise `Problem` for what would change the answer and cannot be done.

    `model` is the name of the one that is to draw, None the default.
    """
    if body.stream and body.response_format == "url":
        raise Problem(
            422,
            'Streamed pictures come as base64: leave "response_format" out, or send "b64_json".',
            param="response_format",
        )
    kind = body.output_format or "png"
    if body.background == "transparent":
        spec = context.offered(model)
        if not spec.alpha:
            sentence = no_transparency(spec, context.models)
            raise Problem(
                422,
                f'{sentence} Else leave "background" out, or send "opaque".',
                param="background",
            )
        if kind == "jpeg":
            raise Problem(
                422,
                "A JPEG has no transparent background: send the output_format png or webp.",
                param="background",
            )
    if kind == "png" and body.output_compression not in {None, _WHOLE_QUALITY}:
        raise Problem(
            422,
            'PNG is not compressed with loss: send "output_compression" with the output_format '
            "jpeg or webp.",
            param="output_compression",
        )
    if kind != "png" and body.response_format == "url":
        raise Problem(
            422,
            f'Links open PNG files; {kind} comes with the response_format "b64_json".',
            param="output_format",
        )


async def answered(
    context: ApiContext, caller: Caller, request: Request, body: OpenAIBody, job: Job
) -> Response:
    """Return the pictures of a job; raise `Problem` for one that is not drawn yet."""
    if job.state is not JobState.GENERATED:
        raise still_drawn(job)
    wanted, described = fields_for(body), await description_of(context, body, job)
    base = context.public_url or str(request.base_url).rstrip("/")
    images = await images_of(context, job)
    files = await files_of(context, images) if "b64_json" in wanted else [None] * len(images)

    def one(image: ImageRecord, file: bytes | None) -> dict[str, str | None]:
        url = base + signed_path(caller, job.id, image.position) if "url" in wanted else None
        return {"url": url, "b64_json": None if file is None else encoded(body, file)}

    def encode() -> Response:
        return JSONResponse(
            {
                "created": int(job.finished_at or job.created_at),
                "data": [one(*pair) for pair in zip(images, files, strict=True)],
                **described,
            },
            headers={"X-Job-Id": job.id},
        )

    return await asyncio.to_thread(encode)


def still_drawn(job: Job) -> Problem:
    """Return the answer about a job that has not ended within the wait."""
    sentence = f"Not drawn yet; the job {job.id} goes on: GET /api/v1/jobs/{job.id}"
    return Problem(504, sentence, job_id=job.id)


def encoded(body: OpenAIBody, file: bytes) -> str:
    """Return a PNG in the kind of file that was asked for, as base64. Blocking."""
    kind = body.output_format or "png"
    if kind != "png":
        quality = body.output_compression
        file = reencoded(file, kind, _WHOLE_QUALITY if quality is None else quality)
    return base64.b64encode(file).decode()


async def description_of(context: ApiContext, body: OpenAIBody, job: Job) -> dict[str, Any]:
    """Return what is said of a job's pictures beside them."""
    usage = await usage_of(context, job)
    return {
        **asked_of(body, job),
        "seed": job.request.seed,
        "usage": OpenAIUsage(gpu_seconds=usage.gpu_seconds).model_dump(),
    }


def asked_of(body: OpenAIBody, job: Job) -> dict[str, str]:
    """Return what is known of a job's pictures before they are drawn."""
    return {
        "background": "transparent" if job.request.transparent else "opaque",
        "output_format": body.output_format or "png",
        "size": f"{job.request.width}x{job.request.height}",
        "quality": _QUALITY_NAMES.get(body.quality or "", "medium"),
    }
