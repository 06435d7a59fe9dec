"""Streams of OpenAI's shape: unfinished pictures as they come, and each finished one.

https://platform.openai.com/docs/api-reference/images-streaming
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final, Literal

from starlette.responses import StreamingResponse

from bot.domain.job import Job
from bot.errors import UserError
from bot.http.context import ApiContext
from bot.http.errors import Problem, openai_error, problem_of, unforeseen
from bot.http.events import KEEP_ALIVE_S, STILL_THERE, event_stream
from bot.http.openai_answers import asked_of, description_of, encoded, still_drawn
from bot.http.openai_schemas import OpenAIBody
from bot.http.submitting import files_of, images_of, outcome
from bot.jobs.feed import JobUpdate

What = Literal["image_generation", "image_edit"]

STREAMED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": (
            "The pictures; with `stream` server-sent events: up to `partial_images` times "
            "`image_generation.partial_image` (`image_edit.partial_image`), and "
            "`image_generation.completed` (`image_edit.completed`) for each picture, or `error`."
        ),
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "event": {"type": "string"},
                        "data": {"type": "string", "description": "JSON."},
                    },
                }
            }
        },
    }
}


def streamed(context: ApiContext, body: OpenAIBody, job: Job, what: What) -> StreamingResponse:
    """Return the stream of an accepted job, which goes on when its client hangs up."""
    return event_stream(_events(context, body, job, what), {"X-Job-Id": job.id})


async def _events(
    context: ApiContext, body: OpenAIBody, job: Job, what: What
) -> AsyncGenerator[str]:
    left = True
    try:
        async with aclosing(_unfinished(context, body, job, what)) as unfinished:
            async for said in unfinished:
                yield said
        async with aclosing(_finished(context, body, job, what)) as finished:
            async for said in finished:
                yield said
    except Problem as problem:
        yield _refusal(problem)
    except UserError as error:
        yield _refusal(problem_of(error))
    except Exception as error:  # noqa: BLE001 - it is logged there
        yield _refusal(unforeseen(error))
    else:
        left = False
    finally:
        # A retry after a refusal here is a new request; its clients make none by themselves.
        context.retries.over(job.id, left=left)


async def _unfinished(
    context: ApiContext, body: OpenAIBody, job: Job, what: What
) -> AsyncGenerator[str]:
    """Yield unfinished pictures, spread over the steps, until the job ends or the wait is over."""
    wanted, sent = body.partial_images or 0, 0
    loop = asyncio.get_running_loop()
    until = loop.time() + context.wait_s
    with context.followers.following(job.id) as follower:
        now = await context.job(job.id)
        if now is None or now.state.final:
            return
        # A line at once: a proxy sees that the answer has begun.
        yield STILL_THERE
        pause_s = min(KEEP_ALIVE_S, context.wait_s)
        async with aclosing(context.followers.updates(follower, pause_s)) as updates:
            async for update in updates:
                if loop.time() >= until or (update is not None and update.kind == "final"):
                    return
                if update is None:
                    yield STILL_THERE
                elif update.preview is not None and _is_due(update, sent, wanted):
                    yield _event(
                        f"{what}.partial_image",
                        {
                            "b64_json": base64.b64encode(update.preview).decode(),
                            "created_at": int(now.created_at),
                            **asked_of(body, job),
                            # As the engine sends it: nothing here decodes what no check has seen.
                            "output_format": "jpeg",
                            "partial_image_index": sent,
                        },
                    )
                    sent += 1


def _is_due(update: JobUpdate, sent: int, wanted: int) -> bool:
    return sent < wanted and update.step * (wanted + 1) >= update.total * (sent + 1)


async def _finished(
    context: ApiContext, body: OpenAIBody, job: Job, what: What
) -> AsyncGenerator[str]:
    """Yield each picture; raise what refuses them."""
    job = await outcome(context, job.id)
    if not job.state.final:
        raise still_drawn(job)
    described = await description_of(context, body, job)
    images = await images_of(context, job)
    for image, file in zip(images, await files_of(context, images), strict=True):
        values = {
            "b64_json": await asyncio.to_thread(encoded, body, file),
            "created_at": int(job.finished_at or job.created_at),
            **described,
            "seed": image.seed,
        }
        yield _event(f"{what}.completed", values)


def _refusal(problem: Problem) -> str:
    error = openai_error(problem, problem.status_code)
    return _event("error", {"error": error, "job_id": problem.job_id})


def _event(name: str, values: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, **values})}\n\n"
