"""Requests, origins and a clock for the tests of jobs and storage."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bot.domain.job import Job, Origin, Target
from bot.domain.request import ImageRequest
from bot.errors import UserError
from bot.jobs.queue import JobQueue
from bot.messages.refusals import spoken
from bot.rules.limits import Limits
from storage.database import Database

MODEL = "tiny"
PLENTY = Limits(open_jobs=10_000, images_per_day=100_000, queue_size=10_000)
_numbers = itertools.count(1)


class Clock:
    """Stands still unless told."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def refused(kind: type[UserError], match: str) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expect a refusal, and the sentence that Discord's users read of it."""
    with pytest.raises(kind) as caught:
        yield caught
    assert re.search(match, spoken(caught.value)), spoken(caught.value)


def make_request(prompt: str = "a lighthouse at night", **changes: Any) -> ImageRequest:
    return ImageRequest(prompt, **{"width": 256, "height": 256, "steps": 3, **changes})


def make_origin(user_id: int = 1, **changes: Any) -> Origin:
    values: dict[str, Any] = {
        "source_id": f"i{next(_numbers)}",
        "target": Target.INTERACTION,
        "user_id": user_id,
        "user_name": f"user {user_id}",
        "guild_id": 77,
        "channel_id": 88,
        "application_id": 99,
        "token": "a-secret-token",
        "token_expires_at": 1_800_000_900.0,
    }
    return Origin(**{**values, **changes})


@asynccontextmanager
async def open_queue(
    folder: Path, limits: Limits = PLENTY, clock: Clock | None = None
) -> AsyncIterator[tuple[JobQueue, Database]]:
    database = await Database.open(folder / "bot.sqlite3")
    try:
        queue = JobQueue(database, limits, model=MODEL, clock=clock or Clock())
        await queue.start()
        yield queue, database
    finally:
        await database.close()


async def submit(queue: JobQueue, user_id: int = 1, **changes: Any) -> Job:
    return (await queue.submit(make_request(**changes), make_origin(user_id))).job


async def finish(queue: JobQueue, job: Job, seconds: float = 3.0) -> bool:
    return await queue.commits.record_generated(job, [], {"denoise": seconds}, None, MODEL)


async def one(database: Database, sql: str, *params: Any) -> Any:
    """Return the first column of the first row."""
    return await database.read(lambda tx: tx.value(sql, params))


async def delivery_state(database: Database, job: Job) -> str:
    return await one(database, "SELECT state FROM deliveries WHERE job_id = ?", job.id)
