"""The bot's end of the way to a node, without a cluster: floods, and what a link's end says."""

from __future__ import annotations

import asyncio

import pytest

from bot.engine.cluster.engine import RayEngine
from bot.engine.cluster.link import RayLink
from bot.engine.frames import Frame
from bot.engine.options import EngineOptions
from bot.engine.protocol import Loading
from bot.errors import EngineError, GenerationCancelled
from tests.engine.kit import draw, react, request


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
        self.tell({"type": "from", "message": message})

    def tell(self, header: dict) -> None:
        """Speak for the driver."""
        (listener,) = (listener for listener in self.listeners.values() if listener)
        listener(Frame(header))


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
    assert not engine._process._supervisor.link.inbox.ended
    assert engine._process._supervisor.link.inbox._items.qsize() < 100


async def test_what_ends_a_child_does_not_repeat_what_was_typed(tmp_path):
    hub = Hub()
    engine = RayEngine("m", options=EngineOptions(tmp_path), hub=hub, node="n")
    loaded = {"model": "m", "device": "none", "seconds": 1.0, "imports_s": 0.0}
    drawing = asyncio.create_task(draw(engine, request(tmp_path, "an owl that nobody may see")))
    async with asyncio.timeout(20):
        while (await hub.posts.get())["type"] != "load":
            pass
        hub.say({"type": "loaded", **loaded})
        while (await hub.posts.get())["type"] != "generate":
            pass
        hub.say({"type": "step", "job": "job1", "index": 1, "total": 4})
        detail = "TypeError: no 'an owl that nobody may see' here"
        hub.tell({"type": "ended", "kind": "died", "detail": detail})
        with pytest.raises(EngineError) as caught:
            await drawing
    assert caught.value.detail == "TypeError: no '…' here"


async def test_large_messages_that_nobody_reads_end_the_link():
    """A node cannot be made to wait, so what it may leave unread is bounded by its bytes."""
    hub = Hub()
    link = await RayLink.start(hub, 1)
    (listener,) = hub.listeners.values()
    step = {"type": "from", "message": {"type": "step", "job": "job1", "index": 1, "total": 4}}
    for _ in range(40):
        listener(Frame(step, bytes(2**20)))
    assert link.inbox.ended
    assert link.inbox._items.qsize() <= 33
