"""Whatever the engine's process does: its job fails with a reason, and the next one is drawn."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from bot.domain.job import JobState
from bot.engine.options import Backoff, SilenceLimits
from bot.errors import EngineErrorKind
from bot.sandbox.people import Invocation
from tests.engine.kit import draw as draw_alone
from tests.engine.kit import draw_well, misbehaving, request
from tests.hostile.kit import QUICK, detail_of, draw, fail, unruly, until_step
from tests.wire.kit import PATIENCE_S, controls, job_id_of, soon, text_of

Kind = EngineErrorKind
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# The prompt, the recorded reason, a part of its detail, and whether the child lives on.
FAULTS = [
    ("oom", Kind.OUT_OF_MEMORY, "OutOfMemoryError", True),
    ("oom-text", Kind.OUT_OF_MEMORY, "out of memory", True),
    ("cublas", Kind.OUT_OF_MEMORY, "CUBLAS_STATUS_ALLOC_FAILED", True),
    ("memory-error", Kind.OUT_OF_MEMORY, "MemoryError", True),
    ("long-sentence", Kind.RAISED, "ddd", True),
    ("raise", Kind.RAISED, "ValueError", True),
    ("cudnn", Kind.RAISED, "CUDNN_STATUS_EXECUTION_FAILED", False),
    ("cuda-fault", Kind.RAISED, "device-side assert", False),
    ("segv", Kind.DIED, "SIGSEGV", False),
    ("sigkill", Kind.DIED, "SIGKILL", False),
    ("half-a-frame", Kind.DIED, "status 0", False),
    ("close-pipe", Kind.DIED, "closed its pipe", False),
    ("grandchild", Kind.DIED, "status 5", False),
    ("hang", Kind.SILENT, "of denoise", False),
    ("raw-junk", Kind.GARBLED, "over the limit", False),
    ("garbage", Kind.GARBLED, "not JSON", False),
    ("64-mb", Kind.GARBLED, "67108864 bytes, over the limit", False),
    ("wrong-job", Kind.GARBLED, "another job", False),
    ("many-steps", Kind.GARBLED, "counts its steps wrongly", False),
    ("infinite-step", Kind.GARBLED, "lacks a field", False),
    ("twice", Kind.GARBLED, "twice or unasked", False),
    ("one-more", Kind.GARBLED, "twice or unasked", False),
    ("too-few", Kind.GARBLED, "0 of 1 pictures", False),
    ("other-seed", Kind.GARBLED, "another seed", False),
    ("other-size", Kind.GARBLED, "16x256", False),
    ("outside", Kind.GARBLED, "another place", False),
    ("symlink", Kind.GARBLED, "is a link", False),
    ("hard-link", Kind.GARBLED, "has a second name", False),
    ("linked-folder", Kind.GARBLED, "is a link", False),
    ("fifo", Kind.GARBLED, "no regular one", False),
    ("sparse", Kind.GARBLED, "is too large", False),
    ("goes-on", Kind.GARBLED, "goes on after its end", False),
    ("many-chunks", Kind.GARBLED, "too many parts", False),
    ("junk-preview", Kind.GARBLED, "preview is no JPEG", False),
    ("wide-preview", Kind.GARBLED, "preview of 1024x8", False),
    ("json-bomb", Kind.GARBLED, "header is over the limit", False),
    ("same-step", Kind.SILENT, "of denoise", False),
    ("same-stages", Kind.SILENT, "no progress", False),
    ("step-flood", Kind.SILENT, "no progress", False),
    ("no-file", Kind.GARBLED, "cannot be read", False),
    ("no-png", Kind.GARBLED, "is no PNG", False),
    ("empty-file", Kind.GARBLED, "is cut off", False),
    ("truncated", Kind.GARBLED, "is cut off", False),
    ("damaged", Kind.GARBLED, "is damaged", False),
    ("small", Kind.GARBLED, "16x16 inside", False),
    ("nan", Kind.GARBLED, "lacks a field", False),
    ("peak", Kind.GARBLED, "lacks a field", False),
]
QUICK_ONES = {"oom-text", "cuda-fault", "segv", "wrong-job", "outside"}


@pytest.fixture
def _no_strays():
    """End what the `grandchild` act leaves behind."""
    pids: list[Path] = []
    yield pids
    for path in pids:
        if path.exists():
            os.kill(int(path.read_text()), 9)


async def judge_faults(stage, faults, folder) -> None:
    await draw(stage, "fine")
    for prompt, kind, detail, lives in faults:
        before = stage.engine.pid
        job = await fail(stage, prompt)
        assert (job.error_kind, job.engine_faults, job.attempts) == (kind, 2, 2), prompt
        recorded = await detail_of(stage, job)
        assert detail in recorded
        assert len(recorded) <= 600
        assert (await draw(stage, "fine", "bob")).attempts == 1
        assert (stage.engine.pid == before) is lives, prompt
    kept = [path for path in folder.glob("images/2*/*/*/*") if path.is_file()]
    assert len(kept) == len(faults) + 1, "only the good pictures are kept"


@pytest.mark.slow
async def test_a_job_is_retried_once_then_failed_with_its_reason(
    sandbox, tmp_path, monkeypatch
) -> None:
    chosen = [fault for fault in FAULTS if fault[0] in QUICK_ONES]
    async with unruly(sandbox, tmp_path, monkeypatch) as stage:
        await judge_faults(stage, chosen, tmp_path / "data")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_fault_there_is(sandbox, tmp_path, monkeypatch, _no_strays) -> None:
    chosen = [fault for fault in FAULTS if fault[0] not in QUICK_ONES]
    _no_strays.append(tmp_path / "data/images/.work/grandchild")
    # A closed pipe is known for the end after a second, so that an exit status can come after it.
    limits = replace(QUICK, denoise=2.5)
    async with unruly(sandbox, tmp_path, monkeypatch, limits=limits) as stage:
        await judge_faults(stage, chosen, tmp_path / "data")


@pytest.mark.slow
@pytest.mark.engine
async def test_torchs_own_lack_of_memory(sandbox, tmp_path, monkeypatch) -> None:
    async with unruly(sandbox, tmp_path, monkeypatch, limits=SilenceLimits()) as stage:
        await draw(stage, "fine")
        pid = stage.engine.pid
        for prompt, detail in (
            ("torch-oom", "OutOfMemoryError"),
            ("torch-cpu-oom", "can't allocate memory"),
        ):
            job = await fail(stage, prompt)
            assert job.error_kind == Kind.OUT_OF_MEMORY
            assert "smaller size" in job.error
            assert detail in await detail_of(stage, job)
        await draw(stage, "fine", "bob")
        assert stage.engine.pid == pid


@pytest.mark.slow
async def test_a_poison_job_among_twenty_good_ones(sandbox, tmp_path, monkeypatch) -> None:
    async with unruly(sandbox, tmp_path, monkeypatch) as stage:
        asked: dict[str, Invocation] = {}
        for number in range(21):
            prompt = "sigkill poison" if number == 6 else f"good {number}"
            name = ("alice", "bob", "chen")[number % 3]
            asked[prompt] = await stage.imagine(name, prompt)
        for prompt, invocation in asked.items():
            message = await stage.outcome(invocation)
            job = await stage.job_of(message)
            await stage.delivered(job.id)
            if prompt == "sigkill poison":
                assert (job.state, job.error_kind) == (JobState.FAILED, Kind.DIED)
                assert (job.engine_faults, job.attempts) == (2, 2)
                assert "crashed" in text_of(message)
            else:
                assert (job.state, job.attempts) == (JobState.GENERATED, 1), prompt
        general = sandbox.user("alice").place("general")
        answers = [m for m in general.messages.values() if m.author.bot and not m.deleted]
        assert len(answers) == 21
        assert sum(len(message.files) for message in answers) == 20


@linux_only
@pytest.mark.slow
async def test_twenty_deaths_leave_nothing_behind(sandbox, tmp_path, monkeypatch) -> None:
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())

    async with unruly(sandbox, tmp_path, monkeypatch) as stage:
        await fail(stage, "segv")
        await draw(stage, "fine")
        before = held()
        tracemalloc.start()
        try:
            first = tracemalloc.get_traced_memory()[0]
            for _ in range(10):
                await fail(stage, "segv")
            await draw(stage, "fine")
            grown = tracemalloc.get_traced_memory()[0] - first
        finally:
            tracemalloc.stop()
        files, tasks = held()
        # The sandbox keeps a few connections of the client's pool open, at its own pace.
        assert abs(files - before[0]) <= 4
        assert abs(tasks - before[1]) <= 4
        assert grown < 4 * 2**20


async def test_a_64_mb_frame_fills_no_memory(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await draw_well(engine, request(tmp_path))
        tracemalloc.start()
        try:
            with pytest.raises(Exception, match="over the limit"):
                await draw_alone(engine, request(tmp_path, "64-mb"))
            assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
        finally:
            tracemalloc.stop()
        await draw_well(engine, request(tmp_path))


async def test_events_after_the_end_cost_no_job(sandbox, tmp_path, monkeypatch) -> None:
    async with unruly(sandbox, tmp_path, monkeypatch, limits=SilenceLimits()) as stage:
        await draw(stage, "after-the-end")
        assert (await draw(stage, "fine", "bob")).attempts == 1
        assert await stage.jobs_made() == 2


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["stubborn", "deaf"])
async def test_a_child_that_ignores_a_cancel_is_replaced(
    sandbox, tmp_path, monkeypatch, prompt
) -> None:
    async with unruly(sandbox, tmp_path, monkeypatch) as stage:
        await draw(stage, "fine")
        pid = stage.engine.pid
        drawing = asyncio.create_task(until_step(stage))
        invocation = await stage.imagine("alice", prompt)
        await drawing
        message = await invocation.answer()
        await sandbox.user("alice").press(message, "Cancel")
        message = await stage.outcome(invocation)
        job = await stage.job_of(message)
        assert job.state is JobState.CANCELLED
        assert "Cancelled" in text_of(message)
        await draw(stage, "fine", "bob")
        assert stage.engine.pid != pid


@pytest.mark.slow
async def test_a_restart_is_backed_off_and_the_user_is_told(sandbox, tmp_path, monkeypatch) -> None:
    backoff = Backoff(base=1000, cap=1000)
    async with unruly(sandbox, tmp_path, monkeypatch, backoff=backoff) as stage:
        await fail(stage, "sigkill")
        waiting = await stage.imagine("bob", "fine")
        message = await waiting.until(lambda m: "restarting" in text_of(m), PATIENCE_S)
        assert controls(message) == [f"cancel:{job_id_of(message)}"]
        await sandbox.user("bob").press(message, "Cancel")
        assert (await stage.job_of(await stage.outcome(waiting))).state is JobState.CANCELLED


@linux_only
@pytest.mark.slow
async def test_a_killed_child_takes_its_own_children_along(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch, limits=QUICK) as engine:
        with pytest.raises(Exception, match="of denoise"):
            await draw_alone(engine, request(tmp_path, "family"))
        grandchild = int((tmp_path / "grandchild").read_text())
        try:
            watched = os.pidfd_open(grandchild)
        except ProcessLookupError:
            return  # It is gone, and its new parent has taken note.
        try:
            # Killed it is by now; on a busy machine it takes its time to end.
            assert select.select([watched], [], [], 10)[0], "the grandchild lives"
        finally:
            os.close(watched)


@pytest.mark.slow
async def test_a_stop_does_not_wait_for_a_hanging_child(sandbox, tmp_path, monkeypatch) -> None:
    async with unruly(sandbox, tmp_path, monkeypatch) as stage:
        drawing = asyncio.create_task(until_step(stage))
        await stage.imagine("alice", "deaf")
        await drawing
        await soon(stage.stop())


@pytest.mark.slow
async def test_a_child_that_dies_while_it_loads_costs_no_job(
    sandbox, tmp_path, monkeypatch
) -> None:
    # The pauses between tries, half a minute in all, are the worker's own tests' matter.
    monkeypatch.setattr("bot.fleet.obstacles.LOAD_FACTOR", 0.01)
    async with unruly(sandbox, tmp_path, monkeypatch, "load-dies-twice") as stage:
        job = await draw(stage, "fine")
        assert (job.engine_faults, job.attempts) == (0, 1)
