"""Texts that are asked for, and a worker on an engine that writes them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from bot.domain.request import ImageRequest
from bot.errors import EngineError, EngineErrorKind
from bot.fleet.worker import GpuWorker
from bot.jobs.with_picture import holding, submit_with_picture
from storage.input_pictures import GivenInputs
from tests.engines import Script, ScriptedEngine
from tests.jobs.kit import make_origin, make_request

MODEL = "tiny-edit"


@asynccontextmanager
async def at_work_on(queue, store, clock, engine: ScriptedEngine, **options):
    """Run a worker on an engine for as long as a block lasts."""
    worker = GpuWorker(queue, engine, store, timer=clock, retry_s=0.001, **options)
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(20):
            yield worker
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def ask(queue, user_id=1, prompt="a cat", *, guild_id=77, **changes):
    request = make_request(prompt, writes=changes.pop("writes", "enhance"), **changes)
    return (await queue.submit(request, make_origin(user_id, guild_id=guild_id))).job


async def enhanced(queue, user_id=1, prompt="a cat", **changes):
    request = make_request(prompt, enhance=True, **changes)
    return (await queue.submit(request, make_origin(user_id))).job


async def about_a_picture(queue, store, request, model=None):
    job_id = queue.new_job_id()

    async def prepare() -> ImageRequest:
        given = GivenInputs(references=(b"the picture",))
        return holding(request, await store.inputs.keep(job_id, given))

    submitted = submit_with_picture(
        queue, store.inputs, request, make_origin(), prepare, job_id=job_id, model=model
    )
    return (await submitted).job


def broken(kind: EngineErrorKind) -> Script:
    return Script(error=EngineError(kind, "the detail"))
