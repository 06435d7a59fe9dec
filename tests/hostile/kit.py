"""The whole bot around the real engine process, whose pipeline misbehaves by prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bot.domain.job import Job, JobState
from bot.engine.options import Backoff, SilenceLimits
from tests.engine.kit import misbehaving
from tests.wire.kit import PATIENCE_S, Stage, staged, text_of

QUICK = SilenceLimits(start=30, load=30, denoise=1.0, save=1.0, obey=1.0, cancel=0.3)
SHORT = Backoff(base=0.01, cap=0.02)


@asynccontextmanager
async def unruly(
    sandbox: Any,
    folder: Any,
    monkeypatch: Any,
    model: str = "any",
    *,
    limits: SilenceLimits = QUICK,
    backoff: Backoff = SHORT,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """Run the bot with an engine whose child runs tests/engine/misbehaving.py.

    It is not confined: what it does to the bot has to do no harm where the system has no such thing.
    """
    values = {"limit_open_jobs": 100, "limit_images_per_day": 1000, **settings}
    async with (
        misbehaving(
            folder, monkeypatch, model, limits=limits, backoff=backoff, confinement="off"
        ) as engine,
        staged(sandbox, folder / "data", engine, **values) as stage,
    ):
        yield stage


async def draw(stage: Stage, prompt: str, name: str = "alice") -> Job:
    """Ask for a picture that must come."""
    message = await stage.outcome(await stage.imagine(name, prompt))
    job = await stage.job_of(message)
    assert job.state is JobState.GENERATED, job
    assert [file.filename for file in message.files] == [f"{job.id}_0.png"]
    await stage.delivered(job.id)
    return job


async def fail(stage: Stage, prompt: str, name: str = "alice") -> Job:
    """Ask for a picture that never comes, and see that its user is told so."""
    message = await stage.outcome(await stage.imagine(name, prompt))
    job = await stage.job_of(message)
    assert job.state is JobState.FAILED, job
    assert not message.files
    assert job.error in text_of(message)
    assert job.id in job.error
    assert len(text_of(message)) < 4000
    await stage.delivered(job.id)
    return job


async def detail_of(stage: Stage, job: Job) -> str:
    """What the database says of a job's last fault."""
    query = "SELECT error_detail FROM jobs WHERE id = ?"
    return await stage.database.read(lambda tx: tx.value(query, (job.id,)))


async def until_step(stage: Stage) -> None:
    """Wait until the engine has told of a step; call it before the request is made."""
    with stage.queue.feed.subscribe() as updates:
        async with asyncio.timeout(PATIENCE_S):
            async for update in updates:
                if update.kind == "step":
                    return
