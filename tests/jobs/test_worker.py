"""The worker on a scripted engine: pictures, faults, cancels, shutdown, a refusing database."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from contextlib import asynccontextmanager

import pytest
from PIL import Image

from bot.domain.job import JobState
from bot.engine.protocol import EngineState
from bot.errors import EngineError, EngineErrorKind
from bot.fleet.worker import GpuWorker
from bot.jobs.feed import JobUpdate
from bot.jobs.outlook import EngineOutlook
from bot.jobs.queue import CancelOutcome, JobQueue
from storage.images import ImageStore
from tests.engines import PREVIEW, Script, ScriptedEngine
from tests.jobs.kit import MODEL, PLENTY, delivery_state, one, submit


@pytest.fixture
def store(tmp_path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def at_work(queue, store, clock):
    """Run a worker on an engine for as long as a block lasts."""

    @asynccontextmanager
    async def at_work(engine: ScriptedEngine):
        worker = GpuWorker(queue, engine, store, timer=clock, retry_s=0.001)
        running = asyncio.create_task(worker.run())
        try:
            async with asyncio.timeout(20):
                yield worker
        finally:
            running.cancel()
            outcome = await asyncio.gather(running, return_exceptions=True)
            assert isinstance(outcome[0], asyncio.CancelledError)

    return at_work


@pytest.mark.parametrize("state", [EngineState.IDLE, EngineState.LOADING])
async def test_an_idle_model_is_unloaded_and_comes_back(queue, store, clock, state):
    engine = ScriptedEngine()
    engine.state = state  # An engine whose load was cancelled goes on with it.
    worker = GpuWorker(queue, engine, store, timer=clock, idle_unload_s=0.001)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):
        await engine.unloaded.wait()
        assert await final(queue, await submit(queue)) == [JobState.GENERATED]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def final(queue: JobQueue, *jobs) -> list[JobState]:
    """Wait until these jobs are final."""
    with queue.feed.subscribe() as updates:
        while True:
            rows = [await queue.job(job.id) for job in jobs]
            if all(row.state.final for row in rows):
                return [row.state for row in rows]
            async for update in updates:
                if update.kind == "final":
                    break


def fault(kind: EngineErrorKind, at: int = 0, sentence: str | None = None) -> Script:
    return Script(error=EngineError(kind, "the detail", sentence=sentence), error_at=at)


async def test_pictures_reach_the_disk_and_the_database(queue, store, database, at_work):
    job = await submit(queue, seed=41, count=2)
    engine = ScriptedEngine()
    async with at_work(engine) as worker:
        assert await final(queue, job) == [JobState.GENERATED]
    assert worker.current is None
    records = await queue.images(job.id)
    assert [(record.position, record.seed) for record in records] == [(0, 41), (1, 42)]
    for record in records:
        content = store.path(record).read_bytes()
        assert hashlib.sha256(content).hexdigest() == record.sha256
        assert len(content) == record.size_bytes
        with Image.open(store.path(record)) as image:
            assert image.size == (record.width, record.height) == (256, 256)
            assert image.text["parameters"].startswith("a lighthouse at night\nSteps: 3")
            assert json.loads(image.text["request"])["seed"] == record.seed
    row = await queue.job(job.id)
    assert row.timings == {"load": 0.0, "encode": 0.5, "denoise": 2.0, "decode": 0.5, "total": 3.0}
    assert (row.model, row.attempts) == (MODEL, 1)
    assert await one(database, "SELECT gpu_seconds FROM usage") == 3.0
    assert await delivery_state(database, job) == "pending"
    assert not list((store.root / ".work").iterdir())


async def test_progress_is_told_and_loading_is_measured(queue, at_work):
    seen = []
    with queue.feed.subscribe() as updates:
        publish, engine = queue.feed.publish, ScriptedEngine(loaded=False, load_s=7.5)
        queue.feed.publish = lambda update: (seen.append(update), publish(update))[1]
        async with at_work(engine):
            job = await submit(queue)
            await final(queue, job)
        assert updates
    assert [update for update in seen if update.kind != "moved"] == [
        JobUpdate(job.id, "queued"),
        JobUpdate(job.id, "running"),
        JobUpdate(job.id, "loading", stage="reading the weights", fraction=0.5),
        JobUpdate(job.id, "running"),
        *(JobUpdate(job.id, "step", step, 3) for step in (1, 2, 3)),
        JobUpdate(job.id, "preview", 3, 3, preview=PREVIEW),
        JobUpdate(job.id, "final"),
    ]
    assert (await queue.job(job.id)).timings["load"] == 7.5
    queue.forecast.engines = lambda: [EngineOutlook(ready=False)]
    waiting = await submit(queue)
    place = await queue.place(waiting.id)
    assert place.starts_at - place.ends_at == pytest.approx(-3.0, abs=1e-3)


ONCE_MORE = set(EngineErrorKind) - {
    EngineErrorKind.LOAD_FAILED,
    EngineErrorKind.REFUSED,
    EngineErrorKind.SWITCH_FAILED,
    EngineErrorKind.DISK_REFUSED,
}


@pytest.mark.parametrize("kind", sorted(ONCE_MORE))
async def test_each_fault_is_retried_once_and_then_told(queue, database, at_work, kind):
    bad = await submit(queue, 1)
    good = await submit(queue, 2)
    engine = ScriptedEngine(fault(kind), fault(kind))
    async with at_work(engine):
        states = await final(queue, bad, good)
    assert states == [JobState.FAILED, JobState.GENERATED]
    row = await queue.job(bad.id)
    assert (row.attempts, row.engine_faults, row.error_kind) == (2, 2, kind)
    assert row.error.endswith(f". ({bad.id})")
    assert "detail" not in row.error
    assert await delivery_state(database, bad) == "pending"
    assert len(engine.requests) == engine.closed == 3


DIED_LOADING = EngineError(EngineErrorKind.DIED, "killed")
DIED_LOADING.loading = True


@pytest.mark.parametrize(
    ("failures", "pauses"),
    [
        ([EngineError(EngineErrorKind.LOAD_FAILED, "missing")], [0.01]),
        ([DIED_LOADING], []),
        ([DIED_LOADING, DIED_LOADING], [0.02]),
    ],
)
async def test_how_long_a_model_that_did_not_load_is_waited_for(
    queue, at_work, monkeypatch, failures, pauses
):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    scripts = [*(Script(error=failure) for failure in failures), fault(EngineErrorKind.RAISED)]
    job = await submit(queue)
    with monkeypatch.context() as patched:
        patched.setattr("bot.fleet.worker.asyncio.sleep", sleep)
        async with at_work(ScriptedEngine(*scripts)):
            assert await final(queue, job) == [JobState.GENERATED]
    # None after the fault that followed, once the model was there.
    assert slept == pauses
    row = await queue.job(job.id)
    assert (row.attempts, row.engine_faults) == (2, 1)


async def test_a_second_try_that_works(queue, at_work):
    job = await submit(queue)
    async with at_work(ScriptedEngine(fault(EngineErrorKind.DIED, at=2))):
        assert await final(queue, job) == [JobState.GENERATED]
    row = await queue.job(job.id)
    assert (row.attempts, row.engine_faults, row.error) == (2, 1, None)


async def test_the_engines_own_sentence_goes_to_the_user(queue, at_work):
    job = await submit(queue)
    failed = fault(EngineErrorKind.RAISED, sentence="The picture is too large.")
    async with at_work(ScriptedEngine(failed, failed)):
        await final(queue, job)
    assert (await queue.job(job.id)).error == f"The picture is too large. ({job.id})"


async def test_a_request_that_cannot_be_drawn_fails_at_once(queue, at_work):
    job = await submit(queue, loras=("gone:0.5",))
    engine = ScriptedEngine(fault(EngineErrorKind.REFUSED, sentence="There is no LoRA gone."))
    async with at_work(engine):
        assert await final(queue, job) == [JobState.FAILED]
    row = await queue.job(job.id)
    assert (row.attempts, row.error) == (1, f"There is no LoRA gone. ({job.id})")
    assert [request.loras for request in engine.requests] == [(("gone", 0.5),)]
    assert "<lora:gone:0.5>" in engine.requests[0].texts[0]["parameters"]


async def test_a_model_that_does_not_load_costs_no_job_anything(queue, at_work):
    missing = fault(EngineErrorKind.LOAD_FAILED, sentence="The file vae.safetensors is missing.")
    job = await submit(queue)
    with queue.feed.subscribe() as updates:
        async with at_work(ScriptedEngine(missing, missing, missing)):
            async for update in updates:
                if "vae.safetensors is missing. Next try in" in update.stage:
                    break
            assert await final(queue, job) == [JobState.GENERATED]
    row = await queue.job(job.id)
    assert (row.attempts, row.engine_faults, row.interruptions) == (1, 0, 0)


async def test_what_nobody_foresaw_is_a_fault_too(queue, at_work, caplog):
    jobs = [await submit(queue, user, prompt="a secret") for user in (1, 2, 3, 4)]
    surprises = [
        Script(error=ZeroDivisionError("surprise")),
        Script(finish=False),
        Script(pictures=0),
        Script(silent_loss=True),
    ]
    async with at_work(ScriptedEngine(*(script for script in surprises for _ in range(2)))):
        assert await final(queue, *jobs) == [JobState.FAILED] * 4
    kinds = [(await queue.job(job.id)).error_kind for job in jobs]
    assert kinds == ["internal", "garbled", "garbled", "internal"]
    messages = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert all(any(job.id in message for message in messages) for job in jobs)
    assert "a secret" not in caplog.text


async def test_a_poison_job_among_good_ones(queue, at_work):
    poison = await submit(queue, 1)
    good = [await submit(queue, user) for user in range(2, 12)]
    died = fault(EngineErrorKind.DIED, at=1)

    class Poisoned(ScriptedEngine):
        def generate(self, request):
            self.scripts.append(died if request.job_id == poison.id else Script())
            return super().generate(request)

    async with at_work(Poisoned()):
        states = await final(queue, poison, *good)
    assert states == [JobState.FAILED] + [JobState.GENERATED] * 10


async def test_cancel_while_it_draws(queue, database, store, clock, at_work):
    job, after = await submit(queue, 1), await submit(queue, 2)
    engine = ScriptedEngine(Script(hold_at=2))
    async with at_work(engine):
        await engine.holding.wait()
        clock.now += 4
        assert await queue.cancel(job.id, by=1) is CancelOutcome.CANCELLING
        assert await final(queue, job, after) == [JobState.CANCELLED, JobState.GENERATED]
    assert set(engine.cancels) == {job.id}
    assert await one(database, "SELECT gpu_seconds FROM usage WHERE job_id = ?", job.id) == 4.0
    share = await one(database, "SELECT refunded FROM usage WHERE job_id = ?", job.id)
    assert share == pytest.approx(1 - 2 / job.request.steps)
    assert not await queue.images(job.id)
    assert not (store.root / ".work" / job.id).exists()


async def test_cancel_right_after_the_claim_is_not_lost(queue, store, clock):
    job = await submit(queue)
    engine = ScriptedEngine()

    async def get_and_cancel():
        claimed = await queue.get()
        assert await queue.cancel(claimed.id, by=1) is CancelOutcome.CANCELLING
        return claimed

    worker = GpuWorker(queue, engine, store, timer=clock, source=get_and_cancel)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(10):
        assert await final(queue, job) == [JobState.CANCELLED]
    running.cancel()
    await asyncio.wait([running])
    assert not engine.requests


async def test_a_cancel_before_any_step_is_refunded(queue, database, at_work):
    job = await submit(queue)
    engine = ScriptedEngine(Script(hold_at=0))
    async with at_work(engine):
        await engine.holding.wait()
        await queue.cancel(job.id, by=1)
        await final(queue, job)
    assert await one(database, "SELECT refunded_at IS NOT NULL FROM usage")


@pytest.mark.parametrize("hold_at", [0, 2])
async def test_a_clean_shutdown_gives_the_job_back(queue, database, store, at_work, hold_at):
    job = await submit(queue)
    engine = ScriptedEngine(Script(hold_at=hold_at))
    async with at_work(engine) as worker:
        await engine.holding.wait()
        assert worker.current.id == job.id
    row = await queue.job(job.id)
    assert (row.state, row.attempts, row.interruptions) == (JobState.QUEUED, 0, 0)
    assert engine.closed == 1
    assert not (store.root / ".work" / job.id).exists()
    async with at_work(ScriptedEngine()):
        assert await final(queue, job) == [JobState.GENERATED]
    assert (await queue.job(job.id)).attempts == 1


async def test_a_shutdown_while_idle_takes_nothing(queue, at_work):
    async with at_work(ScriptedEngine()) as worker:
        await queue.place("nothing")
        assert worker.current is None
    job = await submit(queue)
    assert (await queue.job(job.id)).state is JobState.QUEUED


@pytest.mark.parametrize("when", ["claim", "outcome"])
async def test_a_full_disk_is_waited_for(queue, database, at_work, caplog, when):
    job = await submit(queue, count=4)
    engine = ScriptedEngine(Script(hold_at=3))
    refused = asyncio.Event()
    handler = logging.Handler()
    handler.emit = lambda record: refused.set() if "refuses" in record.getMessage() else None
    logging.getLogger("bot.jobs.tasks").addHandler(handler)
    try:
        if when == "claim":
            await fill(database)
        async with at_work(engine):
            if when == "outcome":
                await engine.holding.wait()
                await fill(database)
                engine.release.set()
            await refused.wait()
            assert not (await queue.job(job.id)).state.final
            await database._writer.execute_fetchall("PRAGMA max_page_count = 1073741823")
            engine.release.set()
            assert await final(queue, job) == [JobState.GENERATED]
    finally:
        logging.getLogger("bot.jobs.tasks").removeHandler(handler)
    row = await queue.job(job.id)
    assert (row.attempts, row.engine_faults) == (1, 0)
    assert len(await queue.images(job.id)) == 4
    assert len(engine.requests) == 1


async def fill(database) -> None:
    """Make every further write fail as on a full disk.

    Updates in place need no new page, so a trigger asks for some; it is dropped with the space.
    """
    await database.write(lambda tx: tx.execute("CREATE TABLE ballast (x BLOB) STRICT"))
    await database.write(
        lambda tx: tx.execute(
            "CREATE TRIGGER heavy AFTER UPDATE OF state ON jobs"
            " BEGIN INSERT INTO ballast VALUES (zeroblob(100000)); END"
        )
    )
    pages = await one(database, "PRAGMA page_count")
    await database._writer.execute_fetchall(f"PRAGMA max_page_count = {pages}")


async def test_an_attempt_that_is_over_changes_nothing(queue, database, clock, at_work):
    job = await submit(queue)
    engine = ScriptedEngine(Script(hold_at=2))
    async with at_work(engine):
        await engine.holding.wait()
        other = JobQueue(database, PLENTY, model=MODEL, clock=clock)
        await other.start()
        again = await other.get()
        assert (again.id, again.attempts) == (job.id, 2)
        engine.release.set()
        after = await submit(queue)
        await final(queue, after)
    assert (await queue.job(job.id)).state is JobState.RUNNING
    assert not await queue.images(job.id)
