"""Lists of jobs, and events that a client takes up again."""

from __future__ import annotations

import asyncio

import pytest

from bot.jobs.feed import JobUpdate
from storage import listing
from tests.engines import Script, ScriptedEngine
from tests.http.kit import ALICE, BOB, GENERATE, TWO_KEYS, events_of, opened
from tests.wire.kit import soon

JOBS, LATER = "/api/v1/jobs", f"{GENERATE}?async=true"


async def ids(client, **query) -> list[str]:
    answer = await client.get(JOBS, params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["jobs"]]


async def test_a_key_lists_its_jobs_by_pages_and_filters(sandbox, tmp_path, monkeypatch):
    engine = ScriptedEngine(Script(), Script(hold_at=1))
    two = {"image_models": "tiny-edit"}
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine, **two) as api,
        api.client(ALICE) as client,
        api.client(BOB) as other,
    ):
        drawn = (await client.post(GENERATE, json={"prompt": "a"})).headers["X-Job-Id"]
        # The first one runs and waits there; the others wait for it.
        rest = [
            (await client.post(LATER, json={"prompt": "a", **body})).json()["id"]
            for body in ({}, {"model": "tiny-edit"}, {}, {})
        ]
        await soon(engine.holding.wait())
        await client.delete(f"{JOBS}/{rest[3]}")
        await other.post(LATER, json={"prompt": "b"})
        newest_first = [*rest[::-1], drawn]
        assert await ids(client) == newest_first
        first = (await client.get(JOBS, params={"limit": 2})).json()
        assert [job["id"] for job in first["jobs"]] == newest_first[:2]
        second = (await client.get(JOBS, params={"limit": 3, "before": first["next"]})).json()
        assert [job["id"] for job in second["jobs"]] == newest_first[2:]
        assert second["next"] is None
        done = second["jobs"][-1]
        assert (done["state"], done["usage"]["gpu_seconds"]) == ("generated", 3.0)
        assert (await client.get(done["images"][0]["url"])).status_code == 200
        assert second["jobs"][1]["ahead"] == 0
        assert await ids(client, state=["generated", "cancelled"]) == [rest[3], drawn]
        assert await ids(client, model="tiny-edit") == [rest[1]]
        assert await ids(client, model="tiny", state="queued") == [rest[2]]
        made = second["jobs"][0]["created_at"]
        assert await ids(client, since=made) == newest_first[:3]
        assert await ids(client, until=made) == newest_first[3:]
        # A filter that lets little through goes on from where it looked.
        monkeypatch.setattr(listing, "SCANNED", 2)
        page, found, pages = {"next": None}, [], 0
        while pages == 0 or page["next"]:
            query = {"state": "generated"} | ({"before": page["next"]} if page["next"] else {})
            page = (await client.get(JOBS, params=query)).json()
            found += [job["id"] for job in page["jobs"]]
            pages += 1
        assert (found, pages) == ([drawn], 3)
        theirs = await other.get(JOBS)
        assert len(theirs.json()["jobs"]) == 1
        for query, status in (
            ({"before": rest[0]}, 404),
            ({"state": "lost"}, 422),
            ({"limit": 101}, 422),
            ({"since": "nan"}, 422),
            ({"model": "nothing"}, 422),
        ):
            assert (await other.get(JOBS, params=query)).status_code == status, query
        engine.release.set()


@pytest.mark.slow
async def test_events_go_on_after_the_last_one_that_came(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with opened(sandbox, tmp_path, TWO_KEYS, engine) as api, api.client(ALICE) as client:
        body = {"prompt": "a house", "num_inference_steps": 4}
        job = (await client.post(LATER, json=body)).json()
        await soon(engine.holding.wait())
        url = job["events_url"]

        def step(number: int) -> None:
            api.stage.queue.feed.publish(JobUpdate(job["id"], "step", number, 4))

        async def first_of(last: str | None) -> list[str]:
            """Return the first event to a client that comes back; it steps on where there is none."""
            headers = {} if last is None else {"Last-Event-ID": last}
            found: list[str] = []
            async with client.stream("GET", url, headers=headers) as stream:
                async for line in stream.aiter_lines():
                    if line.startswith(": still there"):
                        step(3)
                    elif line.startswith(("id: ", "event: ")):
                        found.append(line)
                    elif found and not line:
                        break
            return found

        assert await first_of(None) == ["id: step-1", "event: running"]
        step(2)
        assert await first_of("step-1") == ["id: step-2", "event: running"]
        assert await first_of("step-2") == ["id: step-3", "event: step"]
        engine.release.set()
        await api.stage.delivered(job["id"])
        for last in (None, "step-2"):
            headers = {} if last is None else {"Last-Event-ID": last}
            async with client.stream("GET", url, headers=headers) as stream:
                assert [name async for name, _ in events_of(stream)] == ["done"]
        assert (await client.get(url, headers={"Last-Event-ID": "done"})).status_code == 204


async def test_discord_keeps_a_connection_however_many_programs_read(
    sandbox, tmp_path, monkeypatch
):
    page, entered, go_on = listing.page, asyncio.Event(), asyncio.Event()

    async def held(tx, **values):
        entered.set()
        await go_on.wait()
        return await page(tx, **values)

    monkeypatch.setattr(listing, "page", held)
    monkeypatch.setattr("bot.http.turns.AT_ONCE", 16)
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client(ALICE) as client:
        asked = [asyncio.create_task(client.get(JOBS)) for _ in range(9)]
        await soon(entered.wait())
        # A second one would come to its read before this refusal, which is asked for later.
        assert (await client.get("/nowhere")).status_code == 404
        assert await soon(api.stage.jobs_made()) == 0
        go_on.set()
        assert {(await soon(one)).status_code for one in asked} == {200}
