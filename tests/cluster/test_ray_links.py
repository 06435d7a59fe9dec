"""Both ends of the way to a node, without a cluster: floods, and surprises of Ray's."""

from __future__ import annotations

import asyncio

import pytest

from bot.engine.cluster.engine import RayEngine
from bot.engine.frames import Frame
from bot.engine.options import EngineOptions
from bot.engine.protocol import Loading
from bot.errors import GenerationCancelled
from tests.engine.kit import react, request


class Hub:
    """Answers everything, and lets the test speak for the child."""

    def __init__(self) -> None:
        self._numbers = 0
        self.listeners = {}
        self.posts: asyncio.Queue[dict] = asyncio.Queue()

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def listen(self, link: int, listener) -> None:
        self.listeners[link] = listener

    async def call(self, _what: str, _limit_s: float, **_fields) -> int:
        return 1

    async def post(self, _engine: int, _link: int, message: dict) -> None:
        self.posts.put_nowait(message)

    def say(self, message: dict) -> None:
        (listener,) = (listener for listener in self.listeners.values() if listener)
        listener(Frame({"type": "from", "message": message}))


async def test_a_download_goes_on_after_its_job_was_cancelled(tmp_path):
    hub = Hub()
    engine = RayEngine("m", options=EngineOptions(tmp_path), hub=hub, node="n")
    downloading = {"type": "loading", "stage": "downloading", "fraction": 0.1}

    async def cancel(event) -> None:
        assert event == Loading("downloading", 0.1)
        await engine.cancel("job1")

    drawing = asyncio.create_task(react(engine, request(tmp_path), cancel))
    async with asyncio.timeout(20):
        while (await hub.posts.get())["type"] != "load":
            pass
        hub.say(downloading)
        with pytest.raises(GenerationCancelled):
            await drawing
    for _ in range(5000):
        hub.say(downloading)
    assert not engine._link.ended
    assert engine._link._frames.qsize() < 100


async def test_whatever_ray_raises_is_told(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    from bot.engine.cluster.remote import Remote

    told = asyncio.Queue()

    async def stay() -> None:
        """There is no Ray here to end the actor."""

    class Broken:
        def __getattr__(self, name: str):
            raise TypeError(f"{name} could not be serialised")

    def send(kind: str, /, *_tail, **fields) -> None:
        told.put_nowait((kind, fields["link"], fields["kind"], fields["detail"]))

    remote = Remote(1, "node", send, silent_s=1)
    monkeypatch.setattr(remote, "_let_go", stay)
    try:
        for link in (5, 6):
            remote._actor, remote._link, remote._open = Broken(), link, True
            remote.post(link, {"type": "init"})
            async with asyncio.timeout(20):
                kind, number, error, detail = await told.get()
            assert (kind, number, error) == ("ended", link, "died")
            assert detail == "TypeError: send could not be serialised"
    finally:
        remote._courier.cancel()
