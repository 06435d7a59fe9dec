"""Jobs that a client does not wait for: their state, their news, their end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response, StreamingResponse

from bot.domain.job import Job
from bot.http.context import ApiContext, TheCaller, TheContext
from bot.http.errors import Problem
from bot.http.schemas import JobView, refusals
from bot.http.submitting import view
from bot.jobs.feed import JobUpdate
from bot.jobs.queue import CancelOutcome

router = APIRouter(tags=["jobs"])

# Proxies commonly cut a connection that says nothing for a minute.
_KEEP_ALIVE_S: Final = 15.0
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events `queued`, `loading`, `running`, `step`, and last `done`.",
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "event": {
                            "type": "string",
                            "enum": ["queued", "loading", "running", "step", "done"],
                        },
                        "data": {"type": "string", "description": "JSON."},
                    },
                },
                "example": {"event": "step", "data": '{"step": 12, "steps": 40}'},
            }
        },
    },
    **refusals(401, 403, 404, 422),
}


@router.get(
    "/api/v1/jobs/{job_id}",
    summary="A job as it stands",
    responses=refusals(401, 403, 404, 422),
)
async def read_job(job_id: str, context: TheContext, caller: TheCaller) -> JobView:
    """Return the job; a drawn one names its pictures."""
    job = await context.own_job(caller, job_id)
    if job.state.final:
        await context.fetched(job)
    return await view(context, job)


@router.delete(
    "/api/v1/jobs/{job_id}",
    summary="Cancel a job",
    response_model=JobView,
    responses={
        202: {"model": JobView, "description": "It runs, and stops at its next step."},
        **refusals(401, 403, 404, 409, 422),
    },
)
async def cancel_job(job_id: str, context: TheContext, caller: TheCaller) -> Response:
    """Cancel a job that waits, or have a running one stop at its next step."""
    await context.own_job(caller, job_id)
    outcome = await context.queue.cancel(job_id, by=caller.user_id)
    if outcome is CancelOutcome.ALREADY_DONE:
        raise Problem(409, "This job is already done.", job_id=job_id)
    job = await context.own_job(caller, job_id)
    status = 202 if outcome is CancelOutcome.CANCELLING else 200
    return JSONResponse((await view(context, job)).model_dump(), status)


@router.get(
    "/api/v1/jobs/{job_id}/events",
    summary="A job's progress, as server-sent events",
    response_class=StreamingResponse,
    responses=_STREAM,
)
async def read_events(job_id: str, context: TheContext, caller: TheCaller) -> StreamingResponse:
    """Stream what happens to a job until it has ended; the first event says where it stands."""
    job = await context.own_job(caller, job_id)
    return StreamingResponse(
        _events(context, job),
        media_type="text/event-stream",
        # nginx would collect what is meant to arrive at once.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(context: ApiContext, job: Job) -> AsyncGenerator[str]:
    with context.followers.following(job.id) as follower:
        now = await context.queue.job(job.id)
        if now is None or now.state.final:
            yield await _done(context, job.id)
            return
        yield _event(now.state, (await view(context, now)).model_dump())
        async with aclosing(context.followers.updates(follower, _KEEP_ALIVE_S)) as updates:
            async for update in updates:
                if update is None:
                    yield ": still there\n\n"
                elif update.kind == "final":
                    yield await _done(context, job.id)
                    return
                elif said := await _said(context, update):
                    yield said


async def _done(context: ApiContext, job_id: str) -> str:
    job = await context.queue.job(job_id)
    if job is None:
        return _event("done", {"id": job_id, "state": "deleted"})
    await context.fetched(job)
    return _event("done", (await view(context, job)).model_dump())


async def _said(context: ApiContext, update: JobUpdate) -> str | None:
    match update.kind:
        case "loading":
            return _event("loading", {"stage": update.stage, "fraction": update.fraction})
        case "step":
            return _event("step", {"step": update.step, "steps": update.total})
        case "running":
            return _event("running", {})
        case "queued" | "moved":
            place = await context.queue.place(update.job_id)
            if place is None or (update.kind == "moved" and place.ahead == 0):
                return None
            return _event("queued", {"ahead": place.ahead, "starts_at": place.starts_at})
        case _:
            return None


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
