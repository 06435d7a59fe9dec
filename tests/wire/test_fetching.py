"""How much is fetched at once, and for whom nothing is fetched at all."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bot.client.attachments import Fetcher
from bot.client.fetch_slots import AT_ONCE, MOST, MOST_OF_A_USER, FetchSlots
from bot.errors import InvalidRequest, LimitReached
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import soon, staged
from tests.wire.test_pictures_in import last_input, png

USE = "Use as input"
FORM = {"prompt": "in oil", "strength": "0.5"}


class Watched:
    """Stands before a fetcher's requests: counts them, and lets none through until it is opened."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetch_url = fetcher.fetch_url
        fetcher.fetch_url = self.fetch_url
        self.begun = self.running = self.most = 0
        self.open = asyncio.Event()

    async def fetch_url(self, url: str, filename: str) -> bytes:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
            return await self._fetch_url(url, filename)
        finally:
            self.running -= 1


@pytest.fixture
def watched(stage) -> Watched:
    return Watched(stage.app.client.services.fetcher)


async def test_sixty_clicks_at_once_fetch_one_picture_at_a_time(stage, watched):
    bob = stage.sandbox.user("bob")
    message = await stage.sandbox.user("alice").send("general", "", [("a.png", png())])
    clicks = [await bob.context_menu("general", USE, message) for _ in range(60)]
    responses = [await click.response() for click in clicks]
    refused = [r.message.content for r in responses if r.modal is None]
    assert len(refused) == 60 - MOST_OF_A_USER
    assert all("still being fetched for you" in sentence for sentence in refused)
    assert watched.begun == 1
    watched.open.set()
    await asyncio.gather(*stage.app.client.services.gallery._keeping.values())
    assert (watched.begun, watched.most) == (MOST_OF_A_USER, 1)
    opened = next(
        click for click, response in zip(clicks, responses, strict=True) if response.modal
    )
    await stage.outcome(await bob.submit_modal(opened, FORM))
    assert last_input(stage) == png()


async def test_nothing_is_fetched_for_who_is_refused_anyway(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    async with staged(sandbox, tmp_path, engine, limit_open_jobs=1) as stage:
        watched = Watched(stage.app.client.services.fetcher)
        watched.open.set()
        message = await alice.send("general", "", [("a.png", png())])
        image = ("a.png", png())

        async def told(words, *, menus=(USE,)) -> None:
            for menu in menus:
                answer = await (await bob.context_menu("general", menu, message)).answer()
                assert words in answer.content
            answer = await (await stage.imagine("bob", "in oil", image=image)).answer()
            assert words in answer.content
            assert watched.begun == 0

        rule = "admin rule add"
        await (await alice.slash("general", rule, rule="oil")).answer()
        answer = await (await stage.imagine("bob", "in oil", image=image)).answer()
        assert "do not allow" in answer.content
        assert watched.begun == 0
        await (await alice.slash("general", "admin rule remove", rule="oil")).answer()

        await stage.imagine("bob", "a house")
        await soon(engine.holding.wait())
        await told("already have")
        await bob.send("dm", "in oil", [image])
        await sandbox.wait(lambda: any("already have" in m.content for m in bob.messages("dm")))
        await (await alice.slash("general", "admin block add", user=bob.id)).answer()
        await told("cannot use the bot", menus=(USE, "Show parameters"))
        await (await alice.slash("general", "admin block remove", user=bob.id)).answer()
        here = alice.place("general").id
        await (await alice.slash("general", "admin channel deny", where=here)).answer()
        await told("not draw")
        await (await alice.slash("general", "admin channel allow", where=here)).answer()
        await (await alice.slash("general", "admin drain", reason="soon")).answer()
        await told("soon")
        assert not list(stage.app.settings.images_dir.glob("kept/*"))
        engine.release.set()


async def test_pictures_are_in_memory_in_bounded_number():
    slots, running, most = FetchSlots(), 0, 0
    full, inside = asyncio.Event(), asyncio.Event()

    async def fetched(slot) -> None:
        nonlocal running, most
        async with slot:
            running += 1
            most = max(most, running)
            if running == AT_ONCE:
                full.set()
            await inside.wait()
            running -= 1

    reserved = [slots.reserve(user) for user in range(MOST // MOST_OF_A_USER) for _ in range(5)]
    with pytest.raises(LimitReached, match="Many pictures"):
        slots.reserve(1000)
    tasks = [asyncio.create_task(fetched(slot)) for slot in reserved]
    await soon(full.wait())
    # One that is given up while it waits, and one that never began, leave nothing behind.
    tasks[-1].cancel()
    inside.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == AT_ONCE
    for _ in range(2 * MOST):
        slots.reserve(7).release()
    async with slots.reserve(7):
        assert len(slots._turns) == 1
    assert not slots._turns
    assert not slots._reserved


@asynccontextmanager
async def serving(**files: bytes):
    async def file(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        data = memoryview(files[request.match_info["name"]])
        for at in range(0, len(data), 2**16):
            await response.write(data[at : at + 2**16])
            sent[request.match_info["name"]] = at
        return response

    sent: dict[str, int] = {}
    app = web.Application()
    app.router.add_get("/{name}", file)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = site._server.sockets[0].getsockname()[:2]
    yield f"http://{host}:{port}", sent
    await runner.cleanup()


async def test_a_picture_is_in_memory_once_and_another_file_is_not_read_on():
    size = 20 * 2**20
    picture = png() + bytes(size)
    async with serving(picture=picture, other=b"x" * size) as (url, sent):
        fetcher = Fetcher(f"{url}/api")
        tracemalloc.start()
        try:
            data = await fetcher.fetch_url(f"{url}/picture", "a.png")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert data == picture
        assert peak < 1.5 * size
        with pytest.raises(InvalidRequest, match="not a picture"):
            await fetcher.fetch_url(f"{url}/other", "a.bin")
        assert sent.get("other", 0) < size / 2
