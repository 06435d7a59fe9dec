"""`POST /v1/images/generations` and what OpenAI's clients ask for besides.

https://platform.openai.com/docs/api-reference/images/create
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from bot.catalogue.models import ModelSpec
from bot.http.context import TheCaller, TheContext
from bot.http.errors import Problem, validated
from bot.http.openai_answers import answered, model_asked, require_drawable
from bot.http.openai_edits import start_of
from bot.http.openai_schemas import (
    OpenAIAnswer,
    OpenAIBody,
    OpenAIEdit,
    OpenAIModel,
    OpenAIModels,
    OpenAIRefusal,
)
from bot.http.openai_stream import STREAMED, streamed
from bot.http.retries import TheRepeat
from bot.http.schemas import refusals
from bot.http.starts import strength_of
from bot.http.submitting import drawing, finished, submit
from bot.http.uploads import files_in, form_of, only_one
from bot.jobs.compose import Asked

router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])

_ANSWERS: Final = STREAMED | refusals(
    *(400, 401, 403, 409, 410, 413, 415, 422, 429, 502, 503, 504), model=OpenAIRefusal
)
_SIZE: Final = re.compile(r"(\d{1,4})x(\d{1,4})")
_QUALITIES: Final = {"low": "fast", "medium": "standard", "high": "high", "hd": "high"}


@router.post(
    "/images/generations",
    summary="Draw pictures",
    response_model=OpenAIAnswer,
    responses=_ANSWERS,
)
async def create_images(
    body: OpenAIBody,
    request: Request,
    context: TheContext,
    caller: TheCaller,
    repeat: TheRepeat,
) -> Response:
    """Wait for the pictures and return them as links, base64, or both."""
    model = model_asked(context, body)
    require_drawable(body, context, model)
    asked, size = _asked_by(body), _size_of(body)
    submission = await submit(context, caller, asked, size, repeat, model=model, waits=request)
    if body.stream:
        return streamed(context, body, submission.job, "image_generation")
    job = await finished(context, submission, request)
    return await answered(context, caller, request, body, job)


_FORM: Final[dict[str, Any]] = OpenAIEdit.model_json_schema()
_FORM["properties"] = {
    "image": {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": (
            "PNG, JPEG, WebP or GIF pictures of at most 50 megapixels, and 25 MiB together; how "
            "many, is the model's."
        ),
    },
    "mask": {
        "type": "string",
        "format": "binary",
        "description": "Of the first picture's shape; what is transparent in it is drawn anew.",
    },
    **_FORM["properties"],
}
_FORM["required"] = ["image", *_FORM["required"]]


@router.post(
    "/images/edits",
    summary="Edit pictures",
    response_model=OpenAIAnswer,
    responses=_ANSWERS,
    openapi_extra={
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
    },
)
async def edit_images(
    request: Request,
    context: TheContext,
    caller: TheCaller,
    repeat: TheRepeat,
) -> Response:
    """Edit pictures by the prompt, within the mask if there is one, by a model that does that.

    With `strength`, or a mask and no such model, the first picture is drawn over instead: the
    prompt says what is to be seen.
    """
    async with context.uploads:
        form = await form_of(request)
        images, masks = files_in(form, "image", "mask")
        body = validated(OpenAIEdit, form.texts)
        model = model_asked(context, body)
        start = await asyncio.to_thread(
            start_of, context, body, model, images, only_one("mask", masks)
        )
        require_drawable(body, context, drawing(context, model, start).name)
        strength = strength_of(body.strength, start)
        asked = replace(_asked_by(body), strength=strength)
        submission = await submit(
            context, caller, asked, _size_of(body), repeat, model=model, start=start
        )
    del form, images, masks, start  # They lie on the disk, and the wait is long.
    if body.stream:
        return streamed(context, body, submission.job, "image_edit")
    job = await finished(context, submission, request)
    return await answered(context, caller, request, body, job)


def _asked_by(body: OpenAIBody) -> Asked:
    """Return what OpenAI's body asks for."""
    return Asked(
        prompt=body.prompt,
        quality=_QUALITIES.get(body.quality or ""),
        count=body.n or 1,
        seed=body.seed,
        negative=body.negative_prompt,
        guidance=body.guidance_scale,
        steps=body.num_inference_steps,
        lora=body.lora,
        lora_strength=body.lora_strength,
        private=True,
        transparent=True if body.background == "transparent" else None,
    )


def _size_of(body: OpenAIBody) -> tuple[int | None, int | None]:
    """Return width and height in pixels, None where they are left out; raise `Problem`."""
    if body.size is None or body.size == "auto":
        return None, None
    match = _SIZE.fullmatch(body.size)
    if match is None:
        raise Problem(
            422, "The size must be auto, or WIDTHxHEIGHT such as 1024x1024.", param="size"
        )
    return int(match[1]), int(match[2])


@router.get("/models", summary="The models", responses=refusals(401, 403, model=OpenAIRefusal))
async def list_models(context: TheContext, _caller: TheCaller) -> OpenAIModels:
    """Return the models that may be asked for; the first draws where a request names none."""
    return OpenAIModels(object="list", data=[_model(spec) for spec in context.models])


@router.get(
    # The names of models have slashes in them.
    "/models/{model_id:path}",
    summary="A model by its name",
    responses=refusals(401, 403, 404, model=OpenAIRefusal),
)
async def retrieve_model(model_id: str, context: TheContext, _caller: TheCaller) -> OpenAIModel:
    """Return the model, by its full name or what stands after the slash."""
    return _model(context.offered(model_id))


def _model(spec: ModelSpec) -> OpenAIModel:
    return OpenAIModel(id=spec.name, object="model", created=0, owned_by="imagebot")
