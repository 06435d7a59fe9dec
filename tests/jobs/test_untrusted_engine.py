"""An engine that exchanges its files, or takes for ever: its job fails, and nothing half is kept."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bot.domain.job import JobState
from bot.engine.protocol import EngineRequest, Event, Finished
from bot.errors import EngineErrorKind
from bot.fleet.worker import GpuWorker
from bot.jobs.schedule import time_limit
from storage import durable_files
from tests.engines import ScriptedEngine
from tests.jobs.kit import one, submit

SECRET = b"DISCORD_TOKEN=canary"


@pytest.fixture
def at_work(queue, store, clock):
    @asynccontextmanager
    async def at_work(engine: ScriptedEngine, **options):
        worker = GpuWorker(queue, engine, store, timer=clock, retry_s=0.001, **options)
        running = asyncio.create_task(worker.run())
        try:
            async with asyncio.timeout(20):
                yield worker
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return at_work


async def ended(queue, job):
    """Wait until a job is final, and return it."""
    with queue.feed.subscribe() as updates:
        while not (row := await queue.job(job.id)).state.final:
            async for update in updates:
                if update.kind == "final":
                    break
    return row


class Exchanging(ScriptedEngine):
    """Exchanges its last picture after the check of the first attempts, then is honest."""

    def __init__(self, exchange, times: int) -> None:
        super().__init__()
        self._exchange = exchange
        self._times = times

    async def generate(self, request: EngineRequest) -> AsyncIterator[Event]:
        async for event in super().generate(request):
            if isinstance(event, Finished) and self._times:
                self._times -= 1
                path = request.output_dir / f"{len(request.seeds) - 1}.png"
                path.unlink()
                self._exchange(path)
            yield event


def link(path) -> None:
    secret = path.parents[3] / "secret"
    secret.write_bytes(SECRET)
    path.symlink_to(secret)


EXCHANGES = [
    pytest.param(
        link, marks=pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
    ),
    lambda path: path.write_bytes(SECRET),
    lambda path: path.mkdir(),
]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=["link", "file", "folder"])
@pytest.mark.parametrize("times", [1, 2])
async def test_an_exchanged_picture_is_a_fault_of_the_engine(
    queue, store, database, at_work, exchange, times
):
    job = await submit(queue, count=2)
    engine = Exchanging(exchange, times)
    async with at_work(engine):
        row = await ended(queue, job)
    assert engine.unloaded.is_set()
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert SECRET not in [path.read_bytes() for path in files]
    if times == 1:
        assert (row.state, row.engine_faults) == (JobState.GENERATED, 1)
        assert len(files) == 2
    else:
        assert (row.state, row.error_kind) == (JobState.FAILED, EngineErrorKind.GARBLED)
        assert files == []
        assert await one(database, "SELECT count(*) FROM images") == 0


async def test_a_batch_is_kept_whole_or_not_at_all(queue, store, at_work, monkeypatch):
    """The disk is full at the second of three pictures; later there is room."""
    calls, write = [], durable_files._write

    def full(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        if len(calls) == 3:  # what finds out whether there is room again
            assert not [path for path in store.root.rglob("*_?.png") if path.is_file()]
        return write(*arguments)

    monkeypatch.setattr(durable_files, "_write", full)
    job = await submit(queue, count=3)
    async with at_work(ScriptedEngine()):
        assert (await ended(queue, job)).state is JobState.GENERATED
    assert len([path for path in store.root.rglob("*_?.png") if path.is_file()]) == 3


async def test_a_jobs_limit_of_time_comes_from_what_was_measured(queue, at_work):
    engine = ScriptedEngine()
    async with at_work(engine, time_factor=10.0):
        for changes in ({}, {}, {"steps": 50, "count": 4, "width": 2048, "height": 2048}):
            await ended(queue, await submit(queue, **changes))
    unmeasured, small, large = (request.time_limit_s for request in engine.requests)
    assert unmeasured == 3600
    assert small == 600
    # The scripted engine says that 3 steps of 256 x 256 took 3 s: 15 s a megapixel step.
    assert large == pytest.approx(10 * 3.0 * (50 * 4 * 64) / 3)
    engine.requests.clear()
    async with at_work(engine, time_factor=0.0):
        await ended(queue, await submit(queue))
    assert [request.time_limit_s for request in engine.requests] == [None]


@pytest.mark.parametrize(
    ("work", "rates", "limit"),
    [
        (1, [], 3600),
        (200, [None, None], 12_000),
        (1, [0.5], 600),
        (200, [0.5, None], 1000),
        (200, [0.5, 2.0], 4000),
        (200, [0.0], 12_000),
    ],
)
def test_the_limit_of_time(work, rates, limit):
    assert time_limit(work, rates, 10) == limit
