"""`POST /v1/images/generations`, as OpenAI's clients call it.

https://platform.openai.com/docs/api-reference/images/create
"""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from bot.domain.job import JobState
from bot.http.context import TheCaller, TheContext
from bot.http.errors import Problem
from bot.http.links import signed_path
from bot.http.schemas import OpenAIAnswer, OpenAIBody, OpenAIRefusal, refusals
from bot.http.submitting import IdempotencyKey, finished, pictures, submit
from bot.jobs.compose import Asked

router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])

_SIZE: Final = re.compile(r"(\d{1,4})x(\d{1,4})")
_QUALITIES: Final = {"low": "fast", "medium": "standard", "high": "high", "hd": "high"}


@router.post(
    "/images/generations",
    summary="Draw pictures",
    response_model=OpenAIAnswer,
    responses=refusals(
        400, 401, 403, 409, 410, 413, 415, 422, 429, 502, 503, 504, model=OpenAIRefusal
    ),
)
async def create_images(
    body: OpenAIBody,
    request: Request,
    context: TheContext,
    caller: TheCaller,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Wait for the pictures and return them as links or base64."""
    asked = Asked(
        prompt=body.prompt,
        quality=_QUALITIES.get(body.quality or ""),
        count=body.n or 1,
        seed=body.seed,
        lora=body.lora,
        lora_strength=body.lora_strength,
        private=True,
    )
    submission = await submit(context, caller, asked, _size(body.size), idempotency_key)
    job = await finished(context, submission, request)
    if job.state is not JobState.GENERATED:
        raise Problem(
            504,
            f"Not drawn yet; the job {job.id} goes on: GET /api/v1/jobs/{job.id}",
            job_id=job.id,
        )
    created = int(job.finished_at or job.created_at)
    headers = {"X-Job-Id": job.id}
    if body.response_format != "b64_json":
        base = str(request.base_url).rstrip("/")
        images = await context.queue.images(job.id)
        links = [
            {"url": base + signed_path(caller, job.id, image.position), "b64_json": None}
            for image in images
        ]
        return JSONResponse({"created": created, "data": links}, headers=headers)
    files = await pictures(context, job)

    def encode() -> Response:
        data = [{"url": None, "b64_json": base64.b64encode(file).decode()} for file in files]
        return JSONResponse({"created": created, "data": data}, headers=headers)

    return await asyncio.to_thread(encode)


def _size(text: str | None) -> tuple[int | None, int | None]:
    if text is None or text == "auto":
        return None, None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Problem(422, "The size must be auto, or WIDTHxHEIGHT such as 1024x1024.")
    return int(match[1]), int(match[2])


@router.get(
    "/models", summary="The loaded model", responses=refusals(401, 403, model=OpenAIRefusal)
)
async def list_models(context: TheContext, _caller: TheCaller) -> dict[str, Any]:
    """Return the one model there is, for clients that ask first."""
    model = {"id": context.model.name, "object": "model", "created": 0, "owned_by": "imagebot"}
    return {"object": "list", "data": [model]}
