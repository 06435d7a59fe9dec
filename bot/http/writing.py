"""Texts over HTTP: `POST /api/v1/prompts/enhance`, `POST /api/v1/images/describe`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from bot.domain.job import Job, JobState
from bot.domain.request import PROMPT_LIMIT
from bot.domain.writing import Enhance, Writing
from bot.http.context import ApiContext, TheCaller, TheContext
from bot.http.errors import Problem, validated
from bot.http.images import json_of
from bot.http.job_views import usage_of, view
from bot.http.retries import TheRepeat
from bot.http.schemas import JobView, refusals
from bot.http.submitting import POLL_S, Start, Text, finished, submit
from bot.http.uploads import FORM, decoded, files_in, form_of, kind_of, large, only_one
from bot.http.writing_schemas import (
    DescribeBody,
    Described,
    DescribeForm,
    EnhanceBody,
    Enhanced,
)
from bot.jobs.admission import Submission
from bot.jobs.compose import Asked
from bot.jobs.descriptions import read_description
from bot.pictures.parameters_read import told_by_itself
from storage.input_pictures import GivenInputs

router = APIRouter(tags=["texts"])

_FILE: Final[dict[str, Any]] = {"type": "string", "format": "binary"}
_FORM_SCHEMA: Final[dict[str, Any]] = DescribeForm.model_json_schema()
_FORM_SCHEMA["properties"]["image"] = _FILE
_FORM_SCHEMA["required"] = ["image"]
_ENHANCE: Final[dict[str, Any]] = {"application/json": {"schema": EnhanceBody.model_json_schema()}}
_DESCRIBE: Final[dict[str, Any]] = {
    "application/json": {"schema": DescribeBody.model_json_schema()},
    FORM: {"schema": _FORM_SCHEMA},
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": JobView, "description": "Accepted, and not written yet: the job."},
    **refusals(401, 403, 409, 410, 413, 415, 422, 429, 502, 503),
}
_QUESTION: Final = "What is in this picture?"
AtOnce = Annotated[bool, Query(alias="async", description="Answer with the job at once.")]


@router.post(
    "/api/v1/prompts/enhance",
    summary="Rewrite a prompt",
    response_model=Enhanced,
    openapi_extra={"requestBody": {"required": True, "content": _ENHANCE}},
    responses=_RESPONSES,
)
async def enhance(
    request: Request,
    context: TheContext,
    caller: TheCaller,
    repeat: TheRepeat,
    at_once: AtOnce = False,
) -> Response:
    """Wait for the rewritten prompt and return it; nothing is drawn.

    Quoted text, numbers and language are kept, or the prompt comes back as it was sent. It waits as
    `POST /api/v1/images/generate` does.
    """
    async with AsyncExitStack() as held:
        if large(request):
            await held.enter_async_context(context.uploads)
        body = validated(EnhanceBody, await json_of(request))
        files = await asyncio.to_thread(
            lambda: tuple(decoded("references", text) for text in body.references)
        )
        start = Start(GivenInputs(references=files)) if files else None
        submission = await submit(
            context,
            caller,
            Asked(body.prompt, enhance=Enhance.ASK, private=True),
            (None, None),
            repeat,
            model=body.model,
            start=start,
            text=Text(Writing.ENHANCE),
            waits=None if at_once else request,
        )
    job = await _ended(context, submission, request, at_once=at_once)
    if job.text is None:
        return await _later(context, job)
    answer = Enhanced(
        prompt=job.text or job.request.prompt,
        rewritten=bool(job.text),
        reason=job.request.unrewritten or None,  # pyright: ignore[reportArgumentType]
        model=job.model or context.default.name,
        usage=await usage_of(context, job),
    )
    return JSONResponse(answer.model_dump(), headers={"X-Job-Id": job.id})


@router.post(
    "/api/v1/images/describe",
    summary="Say what is in a picture",
    response_model=Described,
    openapi_extra={"requestBody": {"required": True, "content": _DESCRIBE}},
    responses=_RESPONSES,
)
async def describe(
    request: Request,
    context: TheContext,
    caller: TheCaller,
    repeat: TheRepeat,
    at_once: AtOnce = False,
) -> Response:
    """Wait for the description and return it, with prompts by which such a picture can be drawn.

    It waits as `POST /api/v1/images/generate` does.
    """
    async with AsyncExitStack() as held:
        if large(request):
            await held.enter_async_context(context.uploads)
        if kind_of(request) == FORM:
            form = await form_of(request)
            [images] = files_in(form, "image")
            body: DescribeBody = validated(DescribeForm, form.texts)
            image = only_one("image", images)
            if image is None or body.image:
                raise Problem(422, "image: send it as a file.", param="image")
        else:
            body = validated(DescribeBody, await json_of(request))
            image = await asyncio.to_thread(decoded, "image", body.image)
        said = await asyncio.to_thread(told_by_itself, image)
        submission = await submit(
            context,
            caller,
            Asked(_QUESTION, private=True),
            (None, None),
            repeat,
            model=body.model,
            start=Start(GivenInputs(references=(image,))),
            text=Text(
                Writing.DESCRIBE,
                locale="zh-CN" if body.language == "zh" else "en-US",
                parameters=said[:PROMPT_LIMIT],
            ),
        )
    job = await _ended(context, submission, request, at_once=at_once)
    if job.text is None:
        return await _later(context, job)
    found = read_description(job.text)
    answer = Described(
        content=found.content,
        prompt=found.english,
        prompt_zh=found.chinese,
        parameters=job.request.parameters or None,
        model=job.model or context.default.name,
        usage=await usage_of(context, job),
    )
    return JSONResponse(answer.model_dump(), headers={"X-Job-Id": job.id})


async def _ended(
    context: ApiContext, submission: Submission, request: Request, *, at_once: bool
) -> Job:
    return submission.job if at_once else await finished(context, submission, request)


async def _later(context: ApiContext, job: Job) -> Response:
    if job.state is JobState.GENERATED:
        raise Problem(410, "What was written was deleted.", job_id=job.id)
    headers = {
        "Location": context.address(f"/api/v1/jobs/{job.id}"),
        "Retry-After": str(POLL_S),
        "X-Job-Id": job.id,
    }
    return JSONResponse((await view(context, job)).model_dump(), 202, headers)
