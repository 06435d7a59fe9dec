"""The worker on a disk that takes no pictures: the job goes back, nothing starts, then it goes on."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3

import pytest

from bot.domain.job import JobState
from bot.errors import EngineError, EngineErrorKind
from bot.errors.disk import refusal
from bot.fleet.worker import GpuWorker
from storage.images import ImageStore
from tests.engines import Script, ScriptedEngine
from tests.jobs.kit import submit


class WatchedStore(ImageStore):
    """Tells when the worker tries the disk."""

    tried: asyncio.Event

    async def try_writing(self) -> None:
        self.tried.set()
        await super().try_writing()


@pytest.mark.parametrize("where", ["engine", "kept"])
async def test_a_refused_picture_costs_its_job_nothing(
    queue, database, clock, tmp_path, monkeypatch, where
):
    refusing, refused = True, OSError(errno.ENOSPC, "No space left on device")
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if refusing and where == "kept":
            raise refused
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    error = EngineError(EngineErrorKind.DISK_REFUSED, "detail", sentence=refusal(refused))
    engine = ScriptedEngine(Script(error=error) if where == "engine" else Script())
    store = WatchedStore(tmp_path / "images", clock=clock)
    store.tried = asyncio.Event()
    job, other = await submit(queue, 1), await submit(queue, 2)
    worker = GpuWorker(queue, engine, store, timer=clock, retry_s=0.001)
    running = asyncio.create_task(worker.run())
    try:
        with queue.feed.subscribe() as updates:
            async with asyncio.timeout(20):
                await store.tried.wait()
                if where == "kept":
                    assert "the bot's disk is full" in queue.control.paused
                    row = await queue.job(job.id)
                    assert (row.state, row.attempts, row.engine_faults) == (JobState.QUEUED, 0, 0)
                refusing = False
                ended = 0
                async for update in updates:
                    ended += update.kind == "final"
                    if ended == 2:
                        break
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    for one in (job, other):
        row = await queue.job(one.id)
        assert (row.state, row.attempts, row.engine_faults) == (JobState.GENERATED, 1, 0)
    assert queue.control.paused is None
    assert not list(store.root.rglob("*.partial"))


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO]
)
def test_what_the_disk_says_is_known(number):
    assert refusal(OSError(number, os.strerror(number)))


def test_other_errors_are_no_refusal(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "nothing").read_bytes()
    for error in (caught.value, TimeoutError(), ValueError(), sqlite3.ProgrammingError("misuse")):
        assert refusal(error) is None


def test_a_read_only_file_is_said(tmp_path):
    path = tmp_path / "x.sqlite3"
    sqlite3.connect(path).close()
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert refusal(caught.value) == "the bot's data folder cannot be written"
