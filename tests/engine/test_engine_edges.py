"""The engine's process at bad moments: frozen, half started, asked twice at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from bot.engine.frames import Frame
from bot.engine.options import Backoff, EngineOptions, SilenceLimits
from bot.engine.parent.pipe import PipeLink
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import EngineState, Loading, Step
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from tests.engine.kit import draw, draw_well, misbehaving, react, request

Kind = EngineErrorKind
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops processes with signals")
# More than fits into a pipe and the buffer before it.
LONG = "燈" * 4000
IMPATIENT = SilenceLimits(encode=0.3, obey=0.3)


def runs(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def long_request(folder: Path):
    texts = tuple({"parameters": 2 * LONG, "request": 2 * LONG} for _ in range(4))
    return request(folder, LONG, negative_prompt=LONG, seeds=(1, 2, 3, 4), texts=texts)


async def frozen(engine: EngineProcess) -> int:
    await engine.load()
    assert engine.pid
    os.kill(engine.pid, signal.SIGSTOP)
    return engine.pid


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [long_request, request])
async def test_a_frozen_idle_child_is_silent(tmp_path, monkeypatch, wanted) -> None:
    async with misbehaving(tmp_path, monkeypatch, limits=IMPATIENT) as engine:
        pid = await frozen(engine)
        with pytest.raises(EngineError) as caught:
            await draw(engine, wanted(tmp_path))
        # Its only sign was silence, so nobody knows that it was not at work: no second try here.
        assert caught.value.kind is Kind.SILENT
        assert not runs(pid)
        await draw_well(engine, request(tmp_path))


async def test_a_cancel_of_a_job_that_a_frozen_child_does_not_read(tmp_path, monkeypatch) -> None:
    sends = asyncio.Event()

    async def tell() -> None:
        sends.set()

    Sends(monkeypatch, "generate", tell)
    limits = SilenceLimits(encode=1000, cancel=0.2)
    async with misbehaving(tmp_path, monkeypatch, limits=limits) as engine:
        pid = await frozen(engine)
        drawing = asyncio.create_task(draw(engine, long_request(tmp_path)))
        async with asyncio.timeout(30):
            await sends.wait()
            await engine.cancel("job1")
            with pytest.raises(EngineError) as caught:
                await drawing
        assert caught.value.kind is Kind.SILENT
        assert not runs(pid)


async def test_close_waits_for_an_unload(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("bot.engine.parent.supervisor._CLOSE_PATIENCE_S", 0.2)
    async with misbehaving(tmp_path, monkeypatch) as engine:
        pid = await frozen(engine)
        unloading = asyncio.create_task(engine.unload())
        await asyncio.sleep(0)
        await engine.close()
        assert not runs(pid)
        assert await unloading


async def test_an_unload_that_is_cancelled_ends_the_child_all_the_same(
    tmp_path, monkeypatch
) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        pid = await frozen(engine)
        unloading = asyncio.create_task(engine.unload())
        await asyncio.sleep(0)
        unloading.cancel()
        await asyncio.wait({unloading})
        assert not runs(pid)
        assert engine.pid is None


class Sends:
    """Lets the test act where the engine sends something to its child."""

    def __init__(self, monkeypatch, kind: str, act) -> None:
        self._send, self._kind, self._act = PipeLink.send, kind, act
        monkeypatch.setattr(PipeLink, "send", self._sender())

    def _sender(self):
        async def send(link: PipeLink, kind: str, /, **fields) -> None:
            if kind == self._kind and self._act is not None:
                act, self._act = self._act, None
                await act()
            await self._send(link, kind, **fields)

        return send


async def test_a_load_that_is_cancelled_before_the_child_knows_the_model(
    tmp_path, monkeypatch
) -> None:
    sends = asyncio.Event()

    async def hang() -> None:
        sends.set()
        await asyncio.Event().wait()

    Sends(monkeypatch, "load", hang)
    async with misbehaving(tmp_path, monkeypatch, limits=SilenceLimits(load=5)) as engine:
        loading = asyncio.create_task(engine.load())
        await sends.wait()
        loading.cancel()
        await asyncio.wait({loading})
        assert engine.state is EngineState.STOPPED
        await draw_well(engine, request(tmp_path))


async def test_a_new_child_that_breaks_before_its_job_is_not_replaced_for_ever(
    tmp_path, monkeypatch
) -> None:
    started: list[int] = []
    async with misbehaving(tmp_path, monkeypatch) as engine:

        async def kill() -> None:
            started.append(engine.pid)
            os.kill(engine.pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                await engine._supervisor.link._process.exited.wait()

        Sends(monkeypatch, "generate", kill)
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(tmp_path))
        assert caught.value.kind is Kind.DIED
        assert len(started) == 1
        await draw_well(engine, request(tmp_path))


def connecting(folder: Path, connect, model: str = "any", **options) -> EngineProcess:
    return EngineProcess(
        model,
        options=EngineOptions(folder, pipeline="misbehaving:build"),
        connect=connect,
        **options,
    )


async def test_close_while_the_child_is_being_started(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as other:
        begun, go = asyncio.Event(), asyncio.Event()
        links: list[PipeLink] = []

        async def connect() -> PipeLink:
            begun.set()
            await go.wait()
            links.append(await other._spawn())
            return links[0]

        engine = connecting(tmp_path, connect)
        loading = asyncio.create_task(engine.load())
        await begun.wait()
        await engine.close()
        go.set()
        with pytest.raises(EngineError, match="closed"):
            await loading
        assert links[0].inbox.ended
        assert not runs(links[0].pid)
        assert engine.state is EngineState.STOPPED


async def test_a_cancel_while_the_child_is_being_started(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as other:
        begun, go = asyncio.Event(), asyncio.Event()

        async def connect() -> PipeLink:
            begun.set()
            await go.wait()
            return await other._spawn()

        engine = connecting(tmp_path, connect, "load-hangs")
        try:
            drawing = asyncio.create_task(draw(engine, request(tmp_path)))
            async with asyncio.timeout(30):
                await begun.wait()
                await engine.cancel("job1")
                go.set()
                with pytest.raises(GenerationCancelled):
                    await drawing
        finally:
            await engine.close()


@pytest.mark.parametrize(
    "error", [OSError("no such host"), EngineError(Kind.LOAD_FAILED, "the node is gone")]
)
async def test_what_cannot_be_started_is_tried_ever_more_slowly(tmp_path, error) -> None:
    async def connect() -> PipeLink:
        raise error

    engine = connecting(tmp_path, connect, backoff=Backoff(base=0.01))
    waited: list[bool] = []

    async def on_event(event) -> None:
        assert event == Loading("restarting")
        waited[-1] = True

    for _ in range(3):
        waited.append(False)
        with pytest.raises(EngineError) as caught:
            await react(engine, request(tmp_path), on_event)
        assert caught.value.loading
    assert waited == [False, False, True]


async def test_an_idle_engine_whose_child_died_says_so(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await engine.load()
        assert engine.state is EngineState.IDLE
        os.kill(engine.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            await engine._supervisor.link._watch
        assert engine.state is EngineState.STOPPED


async def test_a_disk_that_refuses_leaves_the_child_alive(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        await engine.load()
        pid = engine.pid
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(tmp_path, "full-disk"))
        assert caught.value.kind is Kind.DISK_REFUSED
        assert (engine.pid, engine.state) == (pid, EngineState.IDLE)
        await draw_well(engine, request(tmp_path))


@pytest.mark.parametrize("ends", ["consumer", "fatal"])
async def test_a_child_that_does_not_stop_well_is_replaced(tmp_path, monkeypatch, ends) -> None:
    """Leaving the iterator early: the wait for the child's obedience is cancelled, or it breaks."""
    limits = SilenceLimits(obey=1000)
    async with misbehaving(tmp_path, monkeypatch, limits=limits) as engine:
        await engine.load()
        pid, asked = engine.pid, asyncio.Event()

        async def act() -> None:
            asked.set()
            if ends == "fatal":
                fatal = Frame({"type": "failed", "job": "job1", "fatal": True})
                engine._supervisor.link.inbox.put(fatal)
            else:
                await asyncio.Event().wait()

        Sends(monkeypatch, "cancel", act)

        async def consume() -> None:
            async with aclosing(engine.generate(request(tmp_path, "steps"))) as events:
                async for event in events:
                    if event == Step(3, 1_000_000):
                        return

        consuming = asyncio.create_task(consume())
        async with asyncio.timeout(30):
            await asked.wait()
            if ends == "consumer":
                consuming.cancel()
            await asyncio.wait({consuming})
        assert not runs(pid)
