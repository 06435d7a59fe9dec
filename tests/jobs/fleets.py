"""A fleet at work, and what became of its jobs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from bot.domain.job import JobState
from bot.fleet.fleet import Fleet
from tests.engines import ScriptedEngine


@asynccontextmanager
async def at_work(fleet: Fleet):
    running = asyncio.create_task(fleet.run())
    try:
        async with asyncio.timeout(20):
            yield running
    finally:
        running.cancel()
        outcome = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(outcome[0], asyncio.CancelledError), outcome


async def ended(queue, *jobs) -> list[JobState]:
    with queue.feed.subscribe() as updates:
        while True:
            rows = [await queue.job(job.id) for job in jobs]
            if all(row.state.final for row in rows):
                return [row.state for row in rows]
            async for update in updates:
                if update.kind == "final":
                    break


async def told(queue, job, *kinds: str) -> None:
    """Wait until one of these is told of a job."""
    with queue.feed.subscribe() as updates:
        async for update in updates:
            if update.job_id == job.id and update.kind in kinds:
                return


def drawn_by(engine: ScriptedEngine) -> list[str]:
    return [request.job_id for request in engine.requests]
