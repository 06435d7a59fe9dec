"""Acknowledgements in Discord go before requests, of which only so many are worked on at once."""

from __future__ import annotations

import asyncio

import httpx

from bot.machine import precedence
from bot.machine.precedence import Precedence
from tests.engines import Script, ScriptedEngine
from tests.http.kit import ALICE, GENERATE, OPENAI, TWO_KEYS, opened, raw_post
from tests.wire.kit import soon, staged

JOBS = "/api/v1/jobs"


async def test_what_goes_first_is_waited_for_and_not_for_ever(monkeypatch):
    monkeypatch.setattr(precedence, "PATIENCE_S", 600)
    first = Precedence()
    await first.give_way()
    for key in (1, 2, 2):
        first.begin(key)
    waiting = asyncio.create_task(first.give_way())
    first.end(1)
    first.end(1)
    await asyncio.sleep(0)
    assert not waiting.done()
    first.end(2)
    await soon(waiting)
    # What never ends is forgotten; and who waits for too much of it goes on.
    monkeypatch.setattr(precedence, "_LONGEST_S", 0.01)
    first.begin(3)
    await soon(first.give_way())
    monkeypatch.setattr(precedence, "_LONGEST_S", 600)
    monkeypatch.setattr(precedence, "PATIENCE_S", 0.5)
    first.begin(4)
    await soon(first.give_way())
    # Half of the time is theirs: the next one does not wait at all.
    monkeypatch.setattr(precedence, "PATIENCE_S", 600)
    await soon(first.give_way())
    first.end(4)


async def test_every_interaction_goes_first_until_discord_has_its_response(
    sandbox, tmp_path, monkeypatch
):
    noted: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    begin, end = Precedence.begin, Precedence.end

    def began(self, key):
        noted.put_nowait(("begin", key))
        begin(self, key)

    def ended(self, key):
        noted.put_nowait(("end", key))
        end(self, key)

    monkeypatch.setattr(Precedence, "begin", began)
    monkeypatch.setattr(Precedence, "end", ended)
    async with staged(sandbox, tmp_path) as stage:
        message = await stage.outcome(await stage.imagine("alice", "a house"))
        pressed = await sandbox.user("alice").press(message, "Details")
        expected = []
        for _ in range(2):
            what, key = await soon(noted.get())
            assert what == "begin"
            expected.append(key)
            assert await soon(noted.get()) == ("end", key)
        assert expected[-1] == pressed.interaction.id


async def test_requests_give_way_to_people_in_discord(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(precedence, "PATIENCE_S", 600)
    monkeypatch.setattr(precedence, "_LONGEST_S", 600)
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client(ALICE) as client:
        await client.get(JOBS)
        first = api.stage.app.client.first
        first.begin("a press")
        asked = [
            asyncio.create_task(client.get(JOBS)),
            asyncio.create_task(client.post(f"{GENERATE}?async=true", json={"prompt": "a house"})),
        ]
        await api.stage.outcome(await api.stage.imagine("alice", "a boat"))
        assert not any(one.done() for one in asked)
        assert await api.stage.jobs_made() == 1
        first.end("a press")
        assert [(await soon(one)).status_code for one in asked] == [200, 202]


async def test_who_waits_takes_no_turn_from_others(sandbox, tmp_path, monkeypatch):
    """With a single turn: beside a picture, a stream, events, a body that does not come."""
    monkeypatch.setattr("bot.http.turns.AT_ONCE", 1)
    engine = ScriptedEngine(Script(hold_at=1))
    limits = {"limit_key_open_jobs": 2}
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine, **limits) as api,
        api.client(ALICE) as client,
    ):
        picture = asyncio.create_task(client.post(GENERATE, json={"prompt": "a house"}))
        await soon(engine.holding.wait())
        streamed = client.stream("POST", OPENAI, json={"prompt": "a boat", "stream": True})
        async with streamed as stream:
            assert stream.status_code == 200
            # The key has as many jobs as it may: this one waits for room.
            in_line = asyncio.create_task(client.post(GENERATE, json={"prompt": "a dog"}))
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
            whole = raw_post(api, GENERATE, {"prompt": "a cat"}).replace(
                b"\r\n", f"\r\nAuthorization: Bearer {ALICE}\r\n".encode(), 1
            )
            writer.write(whole[:-5])
            await writer.drain()
            job_id = stream.headers["X-Job-Id"]
            async with client.stream("GET", f"{JOBS}/{job_id}/events") as events:
                assert events.status_code == 200
                listed: httpx.Response = await client.get(JOBS)
                assert len(listed.json()["jobs"]) == 2
            writer.close()
            engine.release.set()
            assert b"completed" in await stream.aread()
        assert [(await soon(one)).status_code for one in (picture, in_line)] == [200, 200]
        del reader
