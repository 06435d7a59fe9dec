"""`POST /api/v1/images/generate`, and the pictures themselves."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import JSONResponse, Response

from bot.config.api_keys import Caller
from bot.domain.job import Job, JobState
from bot.domain.writing import Enhance
from bot.http.context import ApiContext, TheCaller, TheContext
from bot.http.errors import Problem, validated
from bot.http.job_views import usage_of, view
from bot.http.retries import Repeat, TheRepeat
from bot.http.schemas import (
    GenerateBody,
    Generated,
    GenerateForm,
    JobView,
    LoraView,
    refusals,
)
from bot.http.starts import Start, checked, start_of, strength_of
from bot.http.submitting import POLL_S, files_of, finished, images_of, submit
from bot.http.uploads import (
    FORM,
    UploadedForm,
    body_of,
    files_in,
    form_of,
    kind_of,
    large,
    only_one,
)
from bot.jobs.admission import Submission
from bot.jobs.compose import Asked
from storage.input_pictures import GivenInputs

router = APIRouter(tags=["images"])

_FILE: Final[dict[str, Any]] = {"type": "string", "format": "binary"}
_FORM_SCHEMA: Final[dict[str, Any]] = GenerateForm.model_json_schema()
_FORM_SCHEMA["properties"] |= {
    "image": _FILE,
    "references": {"type": "array", "items": _FILE},
    "mask": _FILE,
}
_BODY: Final[dict[str, Any]] = {
    "application/json": {"schema": GenerateBody.model_json_schema()},
    FORM: {"schema": _FORM_SCHEMA},
}

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
    openapi_extra={"requestBody": {"required": True, "content": _BODY}},
    responses={
        202: {"model": JobView, "description": "Accepted, and not drawn yet: the job."},
        **refusals(401, 403, 409, 410, 413, 415, 422, 429, 502, 503),
    },
)
async def generate(
    request: Request,
    context: TheContext,
    caller: TheCaller,
    repeat: TheRepeat,
    at_once: Annotated[
        bool, Query(alias="async", description="Answer with the job at once.")
    ] = False,
) -> Response:
    """Wait for the picture and return it as a data URL.

    After HTTP_WAIT_SECONDS, or at once with `async=true`, the answer is 202 with the job, which
    goes on. A client that hangs up cancels nothing.
    """
    submission = await _submitted(request, context, caller, repeat, waits=not at_once)
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


async def _submitted(
    request: Request, context: ApiContext, caller: Caller, repeat: Repeat, *, waits: bool
) -> Submission:
    """Read the body, and commit what it asks for; its bytes are given up before the wait."""
    async with AsyncExitStack() as held:
        if large(request):
            await held.enter_async_context(context.uploads)
        if kind_of(request) == FORM:
            form = await form_of(request)
            body, start = _of_form(form)
        else:
            body = validated(GenerateBody, await json_of(request))
            start = await asyncio.to_thread(start_of, body)
        asked = _asked_by(body, start)
        size = body.width, body.height
        return await submit(
            context,
            caller,
            asked,
            size,
            repeat,
            model=body.model,
            start=start,
            waits=request if waits else None,
        )


def _of_form(form: UploadedForm) -> tuple[GenerateBody, Start | None]:
    images, references, masks = files_in(form, "image", "references", "mask")
    body = validated(GenerateForm, form.texts)
    files = GivenInputs(only_one("image", images), tuple(references), only_one("mask", masks))
    # Pictures as text are not taken from forms, where they can be files.
    for name in ("image", "mask", "references"):
        if name in body.model_fields_set:
            raise Problem(422, f"{name}: send it as a file.", param=name)
    return body, checked(body, files)


async def json_of(request: Request) -> Any:
    """Return the values of a request's body in JSON; raise `Problem`."""
    kind = kind_of(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(
            415,
            f"Send JSON, with the header Content-Type: application/json, or a form, with {FORM}.",
        )
    data = await body_of(request)
    try:
        return await asyncio.to_thread(json.loads, data)
    except (ValueError, RecursionError):
        raise Problem(422, "The body is not valid JSON.") from None


def _asked_by(body: GenerateBody, start: Start | None) -> Asked:
    """Return what a body asks for."""
    return Asked(
        prompt=body.prompt,
        count=body.count,
        seed=body.seed,
        negative=body.negative_prompt,
        guidance=body.guidance_scale,
        steps=body.num_inference_steps,
        lora=body.lora,
        lora_strength=body.lora_strength,
        private=True,
        strength=strength_of(body.strength, start),
        transparent=body.transparent or None,
        enhance=Enhance.ALWAYS if body.enhance else None,
    )


async def _drawn(context: ApiContext, job: Job) -> Response:
    files = await files_of(context, await images_of(context, job))
    usage = await usage_of(context, job)

    def encode() -> bytes:
        urls = [_DATA_URL + base64.b64encode(data).decode("ascii") for data in files]
        answer: dict[str, Any] = {
            "image_url": urls[0],
            "model": job.model or context.default.name,
            "width": job.request.width,
            "height": job.request.height,
            "seed": job.request.seed,
            "num_inference_steps": job.request.steps,
            "format": "png",
            "usage": usage.model_dump(),
        }
        if job.request.rewritten:
            answer["revised_prompt"] = job.request.rewritten
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
