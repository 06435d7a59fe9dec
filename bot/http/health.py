"""The health of the process: whether it lives, whether it is ready, and its figures."""

from __future__ import annotations

import time
from typing import Any, cast

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from bot.http.context import BEARER, TheCaller, TheContext
from bot.http.readiness import DatabaseCheck
from bot.http.schemas import refusals

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="The process lives")
async def healthz() -> dict[str, str]:
    """Answer: what comes is `ok`, or nothing."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Requests are taken",
    response_model=dict[str, Any],
    responses={503: {"description": "Not ready; the body says what is missing."}},
)
async def readyz(request: Request, context: TheContext) -> Response:
    """Say whether the database answers, Discord is connected and the queue is open."""
    database = await cast("DatabaseCheck", request.app.state.database_check).answers()
    discord, stopping = context.health.online(), context.followers.closing.is_set()
    ready = database and discord and not stopping
    return JSONResponse(
        {
            "ready": ready,
            "database": database,
            "discord": discord,
            "stopping": stopping,
            "paused": context.queue.control.paused is not None,
            "engine": context.fleet.state,
        },
        200 if ready else 503,
    )


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    dependencies=[BEARER],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **refusals(401, 403),
    },
)
async def read_metrics(context: TheContext, _caller: TheCaller) -> Response:
    """Return the figures in Prometheus' text format; a key is needed here too."""
    page = await context.metrics.page(
        context.queue,
        context.database,
        context.fleet,
        now=time.time(),
        latency_s=context.health.latency_s(),
    )
    return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST})
