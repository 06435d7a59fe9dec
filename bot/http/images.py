"""`POST /api/v1/images/generate`, and the pictures themselves."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import JSONResponse, Response

from bot.config.api_keys import Caller
from bot.domain.job import Job, JobState
from bot.http.context import ApiContext, TheCaller, TheContext
from bot.http.errors import Problem
from bot.http.schemas import GenerateBody, Generated, JobView, LoraView, refusals
from bot.http.submitting import (
    POLL_S,
    IdempotencyKey,
    files_of,
    finished,
    images_of,
    submit,
    view,
)
from bot.jobs.compose import Asked

router = APIRouter(tags=["images"])

_DATA_URL: Final = "data:image/png;base64,"
_PNG: Final = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
_PICTURE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The PNG.", "content": _PNG},
    304: {"description": "The client has it already."},
    **refusals(401, 403, 404, 422),
}


@router.post(
    "/api/v1/images/generate",
    summary="Draw a picture",
    response_model=Generated,
    responses={
        202: {"model": JobView, "description": "Accepted, and not drawn yet: the job."},
        **refusals(401, 403, 409, 410, 413, 415, 422, 429, 502, 503),
    },
)
async def generate(
    body: GenerateBody,
    request: Request,
    context: TheContext,
    caller: TheCaller,
    idempotency_key: IdempotencyKey = None,
    at_once: Annotated[
        bool, Query(alias="async", description="Answer with the job at once.")
    ] = False,
) -> Response:
    """Wait for the picture and return it as a data URL.

    After HTTP_WAIT_SECONDS, or at once with `async=true`, the answer is 202 with the job, which
    goes on. A client that hangs up cancels nothing.
    """
    asked = Asked(
        prompt=body.prompt,
        count=body.count,
        seed=body.seed,
        negative=body.negative_prompt,
        guidance=body.guidance_scale,
        steps=body.num_inference_steps,
        lora=body.lora,
        lora_strength=body.lora_strength,
        private=True,
        transparent=body.transparent or None,
    )
    submission = await submit(
        context, caller, asked, (body.width, body.height), idempotency_key, model=body.model
    )
    job = submission.job
    if not at_once:
        job = await finished(context, submission, request)
        if job.state is JobState.GENERATED:
            return await _drawn(context, job)
    headers = {
        "Location": context.address(f"/api/v1/jobs/{job.id}"),
        "Retry-After": str(POLL_S),
        "X-Job-Id": job.id,
    }
    return JSONResponse((await view(context, job)).model_dump(), 202, headers)


async def _drawn(context: ApiContext, job: Job) -> Response:
    files = await files_of(context, await images_of(context, job))

    def encode() -> bytes:
        urls = [_DATA_URL + base64.b64encode(data).decode("ascii") for data in files]
        answer: dict[str, Any] = {
            "image_url": urls[0],
            "model": job.model or context.default.name,
            "width": job.request.width,
            "height": job.request.height,
            "seed": job.request.seed,
            "num_inference_steps": job.request.steps,
        }
        if len(urls) > 1:
            answer["image_urls"] = urls
        return json.dumps(answer, ensure_ascii=False).encode()

    content = await asyncio.to_thread(encode)
    return Response(content, media_type="application/json", headers={"X-Job-Id": job.id})


@router.get(
    "/api/v1/loras",
    summary="The LoRAs that a picture can have",
    response_model=list[LoraView],
    responses=refusals(401, 403, 422),
)
async def list_loras(
    context: TheContext,
    _caller: TheCaller,
    model: Annotated[
        str | None, Query(description="The model that is to draw; the default if left out.")
    ] = None,
) -> list[LoraView]:
    """Return what `lora` may name; empty where the model draws without."""
    loras = await context.loras[context.offered(model).name].known()
    return [
        LoraView(name=one.name, strength=one.strength, trigger_words=one.words)
        for one in loras.choices
    ]


@router.head("/api/v1/images/{job_id}.png", include_in_schema=False)
@router.get(
    "/api/v1/images/{job_id}.png",
    summary="The first picture of a job",
    response_class=Response,
    responses=_PICTURE,
)
async def first_picture(
    job_id: str,
    request: Request,
    context: TheContext,
    caller: TheCaller,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the PNG as it was drawn, with its parameters in it."""
    return await _picture(context, caller, request, (job_id, 0), if_none_match)


@router.head("/api/v1/images/{job_id}/{position}.png", include_in_schema=False)
@router.get(
    "/api/v1/images/{job_id}/{position}.png",
    summary="A picture of a job",
    response_class=Response,
    responses=_PICTURE,
)
async def one_picture(
    job_id: str,
    position: int,
    request: Request,
    context: TheContext,
    caller: TheCaller,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the PNG of a batch's picture; positions count from 0."""
    return await _picture(context, caller, request, (job_id, position), if_none_match)


@router.delete(
    "/api/v1/images/{job_id}.png",
    summary="Delete the pictures of a job",
    status_code=204,
    response_class=Response,
    responses=refusals(401, 403, 404, 409, 422),
)
async def delete_pictures(job_id: str, context: TheContext, caller: TheCaller) -> Response:
    """Delete every picture of a job that has ended; what it cost stays charged."""
    job = await context.own_job(caller, job_id)
    if not job.state.final:
        raise Problem(409, "This job is not done yet; cancel it first.", job_id=job_id)
    await context.gallery.delete(job, by=caller.user_id)
    return Response(status_code=204)


async def _picture(
    context: ApiContext, caller: Caller, request: Request, which: tuple[str, int], known: str | None
) -> Response:
    job_id, position = which
    job = await context.own_job(caller, job_id)
    image = await context.gallery.picture(job, position)
    tag = f'"{image.sha256}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
    if known is not None and tag in known:
        return Response(status_code=304, headers=headers)
    data = await context.gallery.read(image)
    if request.method != "HEAD":  # HEAD asks without taking the picture.
        await context.fetched(job)
    headers["Content-Disposition"] = f'inline; filename="{job.id}_{position}.png"'
    return Response(data, media_type="image/png", headers=headers)
