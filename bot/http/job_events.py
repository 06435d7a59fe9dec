"""Events of a job as they come, which a client that was cut off takes up again.

An event says how a job stands, so that each makes those before it needless. Its id names what it
says: a client that comes back with the last one (`Last-Event-ID`) hears of what is new since.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header
from starlette.responses import Response, StreamingResponse

from bot.domain.job import Job, JobState
from bot.http.context import ApiContext, TheCaller, TheContext
from bot.http.events import KEEP_ALIVE_S, STILL_THERE, event_stream
from bot.http.job_views import view
from bot.http.schemas import refusals
from bot.jobs.feed import JobUpdate

router = APIRouter(tags=["jobs"])

_DONE: Final = "done"
_RETRY_MS: Final = 2000
"""How long browsers wait before they come back."""
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events `queued`, `loading`, `running`, `writing`, `step`, and last `done`.",
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "event": {
                            "type": "string",
                            "enum": ["queued", "loading", "running", "writing", "step", _DONE],
                        },
                        "data": {"type": "string", "description": "JSON."},
                    },
                },
                "example": {
                    "id": "step-12",
                    "event": "step",
                    "data": '{"step": 12, "steps": 40}',
                },
            }
        },
    },
    204: {"description": "The client has `done` already; browsers come back no more."},
    **refusals(401, 403, 404, 422),
}


@router.get(
    "/api/v1/jobs/{job_id}/events",
    summary="A job's progress, as server-sent events",
    response_class=StreamingResponse,
    responses=_STREAM,
)
async def read_events(
    job_id: str,
    context: TheContext,
    caller: TheCaller,
    last_event_id: Annotated[
        str | None, Header(description="The id of the last event that came before the cut.")
    ] = None,
) -> Response:
    """Stream what happens to a job until it has ended; the first event says where it stands."""
    job = await context.own_job(caller, job_id)
    if last_event_id == _DONE and job.state.final:
        return Response(status_code=204)
    return event_stream(_events(context, job, last_event_id), {"X-Job-Id": job.id})


async def _events(context: ApiContext, job: Job, last: str | None) -> AsyncGenerator[str]:
    with context.followers.following(job.id, moves=True) as follower:
        now = await context.job(job.id)
        if now is None or now.state.final:
            yield await _done(context, job.id)
            return
        yield f"retry: {_RETRY_MS}\n\n"
        first, event_id = await _standing(context, now)
        yield STILL_THERE if event_id == last else first
        async with aclosing(context.followers.updates(follower, KEEP_ALIVE_S)) as updates:
            async for update in updates:
                if update is None:
                    yield STILL_THERE
                elif update.kind == "final":
                    yield await _done(context, job.id)
                    return
                elif said := await _said(context, update):
                    yield said


async def _standing(context: ApiContext, job: Job) -> tuple[str, str]:
    """Return the event of how an open job stands, and its id."""
    values = await view(context, job)
    if job.state is JobState.QUEUED:
        event_id = f"queued-{values.ahead}"
    else:
        event_id = f"step-{values.step}" if values.step else "running"
    return _event(job.state, values.model_dump(), event_id), event_id


async def _done(context: ApiContext, job_id: str) -> str:
    job = await context.job(job_id)
    if job is None:
        return _event(_DONE, {"id": job_id, "state": "deleted"}, _DONE)
    await context.fetched(job)
    return _event(_DONE, (await view(context, job)).model_dump(), _DONE)


async def _said(context: ApiContext, update: JobUpdate) -> str | None:
    match update.kind:
        case "loading":
            loaded = {"stage": update.stage, "fraction": update.fraction}
            percent = "" if update.fraction is None else f"-{update.fraction:.0%}"
            return _event("loading", loaded, f"loading{percent}")
        case "writing":
            return _event("writing", {"tokens": update.step}, f"writing-{update.step}")
        case "step":
            done = {"step": update.step, "steps": update.total}
            return _event("step", done, f"step-{update.step}")
        case "running":
            return _event("running", {}, "running")
        case "queued" | "moved":
            place = await context.queue.place(update.job_id)
            if place is None or (update.kind == "moved" and place.ahead == 0):
                return None
            values = {"ahead": place.ahead, "starts_at": place.starts_at}
            return _event("queued", values, f"queued-{place.ahead}")
        case _:
            return None


def _event(name: str, values: Mapping[str, Any], event_id: str) -> str:
    return f"id: {event_id}\nevent: {name}\ndata: {json.dumps(values)}\n\n"
