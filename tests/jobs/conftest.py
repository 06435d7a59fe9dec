from __future__ import annotations

from pathlib import Path

import pytest

from bot.fleet.fleet import Fleet
from bot.jobs.queue import JobQueue
from storage.database import Database
from storage.images import ImageStore
from tests.jobs.kit import MODEL, PLENTY, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path):
    database = await Database.open(tmp_path / "bot.sqlite3")
    yield database
    await database.close()


@pytest.fixture
async def queue(database: Database, clock: Clock) -> JobQueue:
    queue = JobQueue(database, PLENTY, model=MODEL, clock=clock)
    await queue.start()
    return queue


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def fleet(queue: JobQueue, store: ImageStore, database: Database, clock: Clock) -> Fleet:
    return Fleet(queue, store, database, clock=clock, timer=clock, retry_s=0.001)
