"""Jobs that a client does not wait for: which there are, their state, their end."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import JSONResponse, Response

from bot.domain.job import JobState
from bot.http.context import TheCaller, TheContext
from bot.http.errors import Problem
from bot.http.job_views import view, views
from bot.http.schemas import JobsPage, JobView, refusals
from bot.jobs.queue import CancelOutcome
from storage import listing
from storage.listing import JobFilter

router = APIRouter(tags=["jobs"])

_MOST: Final = 100
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Unix seconds."""


@router.get(
    "/api/v1/jobs",
    summary="The jobs of this key",
    responses=refusals(401, 403, 404, 422),
)
async def list_jobs(
    context: TheContext,
    caller: TheCaller,
    state: Annotated[
        list[JobState] | None, Query(description="One state or several: `state=` again for each.")
    ] = None,
    model: Annotated[str | None, Query(description="A name of `GET /v1/models`.")] = None,
    since: Annotated[Time | None, Query(description="Made at this time or later.")] = None,
    until: Annotated[Time | None, Query(description="Made before this time.")] = None,
    before: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 20,
) -> JobsPage:
    """Return jobs, newest first. A job does not count as delivered by being listed."""
    spec = None if model is None else context.offered(model)
    if before is not None:
        await context.own_job(caller, before)
    wanted = JobFilter(state or (), spec.name if spec else None, since, until)
    found = await context.read(
        partial(
            listing.page,
            user_id=caller.user_id,
            wanted=wanted,
            limit=limit,
            edge=before,
            configured=context.default.name,
        )
    )
    return JobsPage(jobs=await views(context, found.jobs), next=found.edge)


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
