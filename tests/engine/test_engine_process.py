from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import sys
from contextlib import aclosing, nullcontext
from dataclasses import replace

import pytest

from bot.engine.options import Backoff, SilenceLimits
from bot.engine.protocol import Compiling, EngineState, Loaded, Loading, Picture, Preview, Step
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from tests.engine.kit import draw, draw_well, misbehaving, react, request
from tests.engine.misbehaving import CARD_USE, PREVIEW, wait_for_file

Kind = EngineErrorKind
QUICK = SilenceLimits(start=30, load=30, denoise=1.0, save=1.0, obey=1.0)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="uses pidfds")


async def test_a_job_from_load_to_picture(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch, "m") as engine:
        assert engine.state is EngineState.STOPPED
        events = await draw_well(engine, request(tmp_path, seeds=(3, 4)))
        kinds = [type(event).__name__ for event in events]
        assert kinds == ["Loading", "Loaded", "Step", "Picture", "Picture", "Finished"]
        loaded = next(e for e in events if isinstance(e, Loaded))
        assert (loaded.model, loaded.device) == ("m", "none")
        assert loaded.card_use == CARD_USE
        assert events[-1].card_use == replace(CARD_USE, resident=20)
        pictures = [e for e in events if isinstance(e, Picture)]
        assert [(p.index, p.seed, p.path.name) for p in pictures] == [
            (0, 3, "0.png"),
            (1, 4, "1.png"),
        ]
        assert events[-1].timings["denoise"] == 1.0
        assert events[-1].timings["total"] >= events[-1].timings["save"] > 0
        assert engine.state is EngineState.IDLE
        again = await draw_well(engine, request(tmp_path, job="job2"))
        assert not any(isinstance(e, Loading | Loaded) for e in again)
    assert engine.state is EngineState.STOPPED
    await engine.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "kind", "lives", "detail"),
    [
        ("raise", Kind.RAISED, True, "ValueError"),
        ("oom", Kind.OUT_OF_MEMORY, True, "OutOfMemoryError"),
        ("oom-text", Kind.OUT_OF_MEMORY, True, "out of memory"),
        ("memory-error", Kind.OUT_OF_MEMORY, True, "MemoryError"),
        ("huge-preview", Kind.RAISED, True, "over the limit"),
        ("cuda-fault", Kind.RAISED, False, "device-side assert"),
        ("exit", Kind.DIED, False, "exited with status 0"),
        ("segv", Kind.DIED, False, "SIGSEGV"),
        ("half-a-frame", Kind.DIED, False, "exited with status 0"),
        pytest.param("hang", Kind.SILENT, False, "of denoise", marks=pytest.mark.slow),
        pytest.param("hang-saving", Kind.SILENT, False, "of save", marks=pytest.mark.slow),
        ("oversized", Kind.GARBLED, False, "over the limit"),
        ("garbage", Kind.GARBLED, False, "not JSON"),
        ("no-such-activity", Kind.GARBLED, False, "daydream"),
        ("wrong-job", Kind.GARBLED, False, "another job"),
    ],
)
async def test_a_fault_is_named_and_the_next_job_runs(
    tmp_path, monkeypatch, prompt, kind, lives, detail
) -> None:
    async with misbehaving(tmp_path, monkeypatch, limits=QUICK) as engine:
        await engine.load()
        before = engine.pid
        with pytest.raises(EngineError, match=detail) as caught:
            await draw(engine, request(tmp_path, prompt))
        assert caught.value.kind is kind
        assert engine.state is (EngineState.IDLE if lives else EngineState.STOPPED)
        if not lives:
            with pytest.raises(ProcessLookupError):
                os.kill(before, 0)
        await draw_well(engine, request(tmp_path, job="job2"))
        assert (engine.pid == before) is lives


@pytest.mark.slow
async def test_heartbeats_are_no_progress(tmp_path, monkeypatch) -> None:
    # Long enough for a heartbeat after the start's.
    limits = SilenceLimits(denoise=2.6)
    async with misbehaving(tmp_path, monkeypatch, limits=limits) as engine:
        with pytest.raises(EngineError, match=r"last sign of life [012] s ago"):
            await draw(engine, request(tmp_path, "hang"))


async def test_compiling_is_told_and_is_not_the_jobs_time(tmp_path, monkeypatch) -> None:
    limits = SilenceLimits(denoise=3.0, encode=3.0)
    async with misbehaving(tmp_path, monkeypatch, limits=limits) as engine:
        await engine.load()

        async def on_event(event) -> None:
            if isinstance(event, Compiling):
                told.append(event)
                # Longer than the job's own limit, and than that of the activities around it.
                asyncio.get_running_loop().call_later(3.3, (tmp_path / "go").touch)

        told: list[object] = []
        await react(engine, request(tmp_path, "compile", time_limit_s=3.0), on_event)
        assert len(told) == 1


@pytest.mark.slow
async def test_compiling_after_the_first_step_gains_no_time(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await engine.load()
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(tmp_path, "compile-late", time_limit_s=1.0))
        assert caught.value.kind is Kind.OVERTIME


async def test_a_job_that_is_cancelled_while_compiling_ends(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:

        async def on_event(event) -> None:
            if isinstance(event, Compiling):
                await engine.cancel("job1")

        with pytest.raises(GenerationCancelled):
            await react(engine, request(tmp_path, "compile-until-cancel"), on_event)
        pid = engine.pid
        await draw_well(engine, request(tmp_path, job="job2"))
        assert engine.pid == pid


async def test_junk_on_stdout_goes_to_the_log(tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.DEBUG, "bot.engine.child")
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await draw_well(engine, request(tmp_path, "junk"))
    lines = [r.getMessage() for r in caplog.records if r.name == "bot.engine.child"]
    assert "junk by print" in lines
    assert any("junk by write" in line for line in lines)
    assert max(map(len, lines)) <= 2000


async def test_the_prompt_is_in_no_error_and_no_log_line(tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    async with misbehaving(tmp_path, monkeypatch) as engine:
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(tmp_path, "raise a purple cow", negative_prompt="green cow"))
        assert "purple" not in str(caught.value) + caught.value.detail
    records = [r.getMessage() for r in caplog.records if r.name == "bot.engine.child"]
    assert any("Traceback" in line for line in records)
    assert "purple" not in caplog.text
    assert any(r.levelno == logging.ERROR for r in caplog.records if "ValueError" in r.getMessage())


async def test_a_preview_arrives_byte_for_byte(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        events = await draw(engine, request(tmp_path, "preview"))
        assert Preview(1, PREVIEW) in events


async def test_cancel_does_not_wait_for_the_model(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch, "load-waits") as engine:

        async def on_event(event) -> None:
            if event == Loading("waiting", 0.5):
                await engine.cancel("job1")

        with pytest.raises(GenerationCancelled):
            await react(engine, request(tmp_path), on_event)
        pid = engine.pid
        (tmp_path / "go").touch()
        events = await draw_well(engine, request(tmp_path, job="job2"))
        assert engine.pid == pid
        assert any(isinstance(event, Loaded) for event in events)


async def test_a_model_that_loads_for_nobody_can_be_unloaded(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch, "load-waits") as engine:

        async def on_event(event) -> None:
            if event == Loading("waiting", 0.5):
                await engine.cancel("job1")

        with pytest.raises(GenerationCancelled):
            await react(engine, request(tmp_path), on_event)
        pid = engine.pid
        assert engine.state is EngineState.LOADING
        assert await engine.unload()
        assert (engine.pid, engine.state) == (None, EngineState.STOPPED)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("prompt", "obeys"), [("steps", True), pytest.param("deaf", False, marks=pytest.mark.slow)]
)
async def test_leaving_early_stops_the_work(tmp_path, monkeypatch, prompt, obeys) -> None:
    # Whoever obeys has all the time that it needs.
    limits = SilenceLimits() if obeys else QUICK
    async with misbehaving(tmp_path, monkeypatch, limits=limits) as engine:
        await engine.load()
        pid = engine.pid
        async with (
            asyncio.timeout(60),
            aclosing(engine.generate(request(tmp_path, prompt))) as events,
        ):
            async for event in events:
                if event == Step(3, 1_000_000):
                    break
        assert engine.state is (EngineState.IDLE if obeys else EngineState.STOPPED)
        await draw_well(engine, request(tmp_path, job="job2"))
        assert (engine.pid == pid) is obeys


async def test_a_cancelled_task_stops_the_work(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await engine.load()
        pid, begun = engine.pid, asyncio.Event()

        async def consume() -> None:
            async for event in engine.generate(request(tmp_path, "steps")):
                if event == Step(3, 1_000_000):
                    begun.set()

        task = asyncio.create_task(consume())
        async with asyncio.timeout(30):
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await draw_well(engine, request(tmp_path, job="job2"))
        assert engine.pid == pid


async def test_a_failed_load_says_why_and_is_tried_again(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch, "load-needs-file") as engine:
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(tmp_path))
        assert caught.value.kind is Kind.LOAD_FAILED
        assert caught.value.sentence == "The file weights is missing."
        assert engine.state is EngineState.STOPPED
        (tmp_path / "weights").touch()
        await draw_well(engine, request(tmp_path))


@pytest.mark.parametrize(
    ("model", "kind", "detail", "most"),
    [("load-dies", Kind.DIED, "status 3", 30), ("load-hangs", Kind.SILENT, "of load", 0.4)],
)
async def test_a_child_that_never_loads(tmp_path, monkeypatch, model, kind, detail, most) -> None:
    limits = SilenceLimits(load=most)
    async with misbehaving(tmp_path, monkeypatch, model, limits=limits) as engine:
        with pytest.raises(EngineError, match=detail) as caught:
            await engine.load()
        assert caught.value.kind is kind


async def test_a_child_that_never_says_hello(tmp_path, monkeypatch) -> None:
    command = (sys.executable, "-c", "import threading; threading.Event().wait()")
    limits = SilenceLimits(start=0.4)
    async with misbehaving(tmp_path, monkeypatch, command=command, limits=limits) as engine:
        with pytest.raises(EngineError, match="of start"):
            await engine.load()


async def test_a_command_that_does_not_exist(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch, command=("/no/such/program",)) as engine:
        with pytest.raises(EngineError, match="cannot start"):
            await engine.load()


@pytest.mark.slow
async def test_restarts_back_off_and_a_success_forgives(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch, backoff=Backoff(base=0.01)) as engine:
        waited = []

        async def on_event(event) -> None:
            if event == Loading("restarting"):
                assert engine.state is EngineState.BACKOFF
                waited[-1] = True

        for prompt in ("exit", "exit", "exit", "fine", "exit", "fine"):
            waited.append(False)
            with nullcontext() if prompt == "fine" else pytest.raises(EngineError, match="died"):
                await react(engine, request(tmp_path, prompt), on_event)
        assert waited == [False, False, True, True, False, False]


async def test_cancel_ends_the_wait_for_a_restart(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch, backoff=Backoff(base=1000, cap=1000)) as engine:

        async def on_event(event) -> None:
            assert event == Loading("restarting")
            await engine.cancel("job1")

        for _ in range(2):
            with pytest.raises(EngineError, match="died"):
                await draw(engine, request(tmp_path, "exit"))
        with pytest.raises(GenerationCancelled):
            await react(engine, request(tmp_path), on_event)


async def test_close_ends_the_wait_for_a_restart(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch, backoff=Backoff(base=1000, cap=1000)) as engine:

        async def on_event(event) -> None:
            assert event == Loading("restarting")
            await engine.close()

        for _ in range(2):
            with pytest.raises(EngineError, match="died"):
                await draw(engine, request(tmp_path, "exit"))
        for consumer in (on_event, None):
            with pytest.raises(EngineError, match="closed") as caught:
                await react(engine, request(tmp_path), consumer)
            assert (caught.value.kind, caught.value.loading) == (Kind.DIED, True)
            assert engine.state is EngineState.STOPPED


@linux_only
async def test_a_death_while_idle_costs_no_job(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        for _ in range(3):
            await draw_well(engine, request(tmp_path))
            killed = engine.pid
            pidfd = os.pidfd_open(killed)
            os.kill(killed, signal.SIGKILL)
            assert select.select([pidfd], [], [], 30)[0]
            os.close(pidfd)
            # The loop has not run since: the engine learns of the death from the job's first read.
            await draw_well(engine, request(tmp_path))
            assert engine.pid != killed


async def test_a_message_out_of_turn_costs_no_job(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await draw_well(engine, request(tmp_path, "speak-later"))
        pid = engine.pid
        (tmp_path / "speak").touch()
        async with asyncio.timeout(30):
            await asyncio.to_thread(wait_for_file, tmp_path / "spoken")
        await draw_well(engine, request(tmp_path, job="job2"))
        assert engine.pid != pid


async def test_close_ends_a_running_job(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await engine.load()
        pid = engine.pid

        async def on_event(event) -> None:
            if event == Step(3, 1_000_000):
                await engine.close()

        with pytest.raises(EngineError, match="died"):
            await react(engine, request(tmp_path, "steps"), on_event)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(EngineError, match="closed"):
            await draw(engine, request(tmp_path))


async def test_unload_ends_the_idle_child_and_the_next_job_starts_one(
    tmp_path, monkeypatch
) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await draw_well(engine, request(tmp_path))
        pid = engine.pid
        assert await engine.unload()
        assert (engine.pid, engine.state) == (None, EngineState.STOPPED)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert await engine.unload()
        await draw_well(engine, request(tmp_path))

        async def on_event(event) -> None:
            if event == Step(3, 1_000_000):
                assert not await engine.unload()
                await engine.cancel("job1")

        with pytest.raises(GenerationCancelled):
            await react(engine, request(tmp_path, "steps"), on_event)
