"""Jobs that nobody waits for: states, events, cancels, pictures, other people's; and health."""

from __future__ import annotations

import asyncio
import os
import re
import time
from functools import partial

import pytest

from bot.archive.backup import back_up
from bot.delivery.card_maker import CardMaker
from bot.errors import EngineError, EngineErrorKind
from bot.http.metrics import Metrics
from bot.jobs.feed import JobUpdate
from bot.sandbox import gateway
from storage import deliveries
from tests.engines import Script, ScriptedEngine
from tests.http.kit import ALICE, BOB, GENERATE, OPENAI, TWO_KEYS, events_of, opened
from tests.wire.kit import PATIENCE_S, soon

LATER = f"{GENERATE}?async=true"


@pytest.mark.slow
async def test_a_job_from_afar(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1), loaded=False)
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine) as api,
        api.client(ALICE) as client,
        api.client(BOB) as other,
    ):
        body = {"prompt": "a house", "count": 2, "seed": 5, "num_inference_steps": 3}
        accepted = await client.post(LATER, json=body)
        assert (accepted.status_code, accepted.headers["Retry-After"]) == (202, "5")
        second = (await client.post(LATER, json={"prompt": "a ship"})).json()
        job = accepted.json()
        await soon(engine.holding.wait())
        running = (await client.get(job["status_url"])).json()
        assert (running["state"], running["step"], running["ahead"]) == ("running", 1, 0)
        assert (await client.get(second["status_url"])).json()["ahead"] == 1

        async with client.stream("GET", second["events_url"]) as stream:
            events = events_of(stream)
            assert (await anext(events))[0] == "queued"
            for method, path in (
                ("GET", job["status_url"]),
                ("GET", job["events_url"]),
                ("DELETE", job["status_url"]),
                ("GET", f"/api/v1/images/{job['id']}.png"),
                ("DELETE", f"/api/v1/images/{job['id']}.png"),
            ):
                assert (await other.request(method, path)).status_code == 404
            dropped = await client.delete(second["status_url"])
            assert (dropped.status_code, dropped.json()["state"]) == (200, "cancelled")
            assert (await client.delete(second["status_url"])).status_code == 409
            *_, (name, last) = [event async for event in events]
            assert (name, last["state"]) == ("done", "cancelled")

        async with client.stream("GET", job["events_url"]) as stream:
            stream_events = events_of(stream)
            assert (await anext(stream_events))[0] == "running"
            early = await client.delete(f"/api/v1/images/{job['id']}.png")
            assert early.status_code == 409
            api.stage.queue.feed.publish(JobUpdate(job["id"], "step", 2, 3))
            assert await anext(stream_events) == ("step", {"step": 2, "steps": 3})
            api.stage.queue.feed.publish(JobUpdate(job["id"], "loading", stage="x", fraction=0.5))
            assert await anext(stream_events) == ("loading", {"stage": "x", "fraction": 0.5})
            engine.release.set()
            events = [event async for event in stream_events]
        done = events[-1][1]
        assert (events[-1][0], done["state"], done["step"]) == ("done", "generated", 3)
        assert [image["seed"] for image in done["images"]] == [5, 6]
        assert (await api.stage.delivery(job["id"])).state == "delivered"

        async with client.stream("GET", job["events_url"]) as stream:
            assert [name async for name, _ in events_of(stream)] == ["done"]
        url = done["images"][1]["url"]
        picture = await client.get(url)
        assert len(picture.content) == done["images"][1]["size_bytes"]
        again = await client.get(url, headers={"If-None-Match": picture.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.get(f"/api/v1/images/{job['id']}/2.png")).status_code == 404
        deleted = await client.delete(f"/api/v1/images/{job['id']}.png")
        assert deleted.status_code == 204
        assert (await client.get(job["status_url"])).json()["images"] == []
        for gone in (url, "/api/v1/images/x.png"):
            assert (await client.get(gone)).status_code == 404


@pytest.mark.slow
async def test_a_cancel_while_it_is_drawn(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with opened(sandbox, tmp_path, engine=engine) as api, api.client() as client:
        waiting = asyncio.create_task(client.post(GENERATE, json={"prompt": "a house"}))
        await soon(engine.holding.wait())
        job_id = await api.one("SELECT id FROM jobs")
        assert (await client.delete(f"/api/v1/jobs/{job_id}")).status_code == 202
        answer = await waiting
    assert (answer.status_code, answer.json()["job_id"]) == (409, job_id)


@pytest.mark.slow
async def test_streams_end_with_the_bot(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with opened(sandbox, tmp_path, engine=engine) as api, api.client() as client:
        job = (await client.post(LATER, json={"prompt": "a house"})).json()
        await soon(engine.holding.wait())
        async with client.stream("GET", job["events_url"]) as stream:
            events = events_of(stream)
            assert (await anext(events))[0] == "running"
            stopping = asyncio.create_task(api.stage.stop())
            assert "done" not in [name async for name, _ in events]
            await soon(stopping)


async def test_a_job_says_why_its_model_does_not_load(sandbox, tmp_path):
    broken = Script(error=EngineError(EngineErrorKind.LOAD_FAILED, "no files"))
    engine = ScriptedEngine(broken, loaded=False)
    async with opened(sandbox, tmp_path, engine=engine) as api, api.client() as client:
        with api.stage.queue.feed.subscribe() as updates:
            job = (await client.post(LATER, json={"prompt": "a house"})).json()
            async with asyncio.timeout(PATIENCE_S):
                async for update in updates:
                    if "Next try" in update.stage:
                        break
        seen = (await client.get(job["status_url"])).json()
        assert (seen["state"], seen["error"]) == ("queued", None)
        assert seen["stage"] == update.stage
        ended = (await client.delete(job["status_url"])).json()
        assert (ended["state"], ended["stage"]) == ("cancelled", None)


async def test_head_is_answered_as_get_without_the_body(sandbox, tmp_path):
    async with (
        opened(sandbox, tmp_path, TWO_KEYS) as api,
        api.client(ALICE) as client,
        api.client() as anyone,
    ):
        job = (await client.post(LATER, json={"prompt": "a house"})).json()
        await api.stage.delivered(job["id"])
        signed = (await client.post(OPENAI, json={"prompt": "a"})).json()["data"][0]["url"]
        for path in ("/healthz", "/readyz", signed):
            head, whole = await anyone.head(path), await anyone.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["Content-Length"] == whole.headers["Content-Length"]
        for path in (f"/api/v1/images/{job['id']}.png", f"/api/v1/images/{job['id']}/0.png"):
            assert (await client.head(path)).status_code == 200
        assert (await api.stage.delivery(job["id"])).state != "delivered"
        refused = await client.post("/healthz")
        assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")


async def test_an_answer_that_is_fetched_as_its_delivery_begins(
    sandbox, tmp_path, monkeypatch, caplog
):
    exposure = CardMaker.exposure
    met = 0

    async def fetched_first(self, job, *args):
        nonlocal met
        met += 1
        await api.stage.database.write(partial(deliveries.taken, job_id=job.id, now=1.0))
        return await exposure(self, job, *args)

    monkeypatch.setattr(CardMaker, "exposure", fetched_first)
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        job = (await client.post(LATER, json={"prompt": "a house"})).json()
        delivery = await api.stage.delivered(job["id"])
    assert met == 1
    assert (delivery.state, delivery.rung, delivery.attempts) == ("delivered", "kept", 0)
    assert "unexpected error" not in caplog.text


async def test_health_and_figures(sandbox, tmp_path, monkeypatch):
    counted = asyncio.Event()
    ended = Metrics._ended

    async def noted(*args):
        await ended(*args)
        counted.set()

    monkeypatch.setattr(Metrics, "_ended", noted)
    # The first heartbeat's answer is there before the page is read.
    monkeypatch.setattr(gateway, "ACK_S", 0)
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)
        await client.post(GENERATE, json={"prompt": "a house"})
        await soon(counted.wait())
        page = (await client.get("/metrics")).text
        for line in (
            'imagebot_jobs_open{state="queued"} 0.0',
            'imagebot_jobs_total{state="generated",target="http"} 1.0',
            'imagebot_job_seconds_count{model="tiny",size="256x256"} 1.0',
            "imagebot_job_wait_seconds_count 1.0",
            'imagebot_pictures_total{model="tiny"} 1.0',
            "imagebot_gpu_peak_bytes 1234.0",
            'method="POST",route="/api/v1/images/generate",status="200"} 1.0',
            "imagebot_gateway_latency_seconds 0.",
            'imagebot_engine_state{card="",engine="local-0",node="local",state="idle"} 1.0',
            'imagebot_engine_model{card="",engine="local-0",model="tiny",node="local"} 1.0',
            'imagebot_engine_resting{card="",engine="local-0",node="local"} 0.0',
            'imagebot_engine_speed{card="",engine="local-0",node="local"} ',
        ):
            assert line in page, line
        settings = api.stage.app.client.services.settings
        copy = settings.backups_dir / "by-hand"
        back_up(settings, copy, images=False)
        then = time.time() - 7200
        os.utime(copy / "bot.sqlite3", (then, then))
        age = re.search(r"^imagebot_backup_age_seconds (\S+)$", page, re.MULTILINE)
        page = (await client.get("/metrics")).text
        aged = re.search(r"^imagebot_backup_age_seconds (\S+)$", page, re.MULTILINE)
        assert (age[1], 7200 <= float(aged[1]) < 7300) == ("NaN", True), aged[1]
        api.stage.app.door._context.followers.closing.set()
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["stopping"]) == (503, True)
