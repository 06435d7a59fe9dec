"""`POST /api/v1/images/generate`: the old server's example, defaults, waits, ends."""

from __future__ import annotations

import asyncio
import errno
import http.client
import json
from contextlib import closing

import pytest

from bot.config.api_keys import user_id_of
from bot.errors import EngineError, EngineErrorKind, StartupError
from bot.http.following import JobFollower
from tests.engines import Script, ScriptedEngine
from tests.http.kit import (
    ALICE,
    BOB,
    GENERATE,
    OPENAI,
    SEED_EXAMPLE,
    TWO_KEYS,
    opened,
    png_of,
    raw_post,
)
from tests.wire.kit import soon, staged

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_the_old_servers_example_works_as_it_stands(sandbox, tmp_path):
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        answer = await client.post(GENERATE, content=SEED_EXAMPLE, headers=JSON)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        picture = png_of(body.pop("image_url"))
        assert body == {
            "model": "tiny", "width": 1344, "height": 768, "seed": 12345,
            "num_inference_steps": 40, "format": "png", "usage": {"gpu_seconds": 3.0},
        }  # fmt: skip
        assert picture.size == (1344, 768)
        assert "A beautiful sunset over mountains" in picture.text["parameters"]
        job = await api.stage.queue.job(answer.headers["X-Job-Id"])
        assert (job.target, job.guild_id, job.request.private) == ("http", None, True)
        delivery = await api.stage.delivery(job.id)
        assert (delivery.state, delivery.rung) == ("delivered", "kept")


@pytest.mark.slow
async def test_what_is_left_out_is_the_models_default(sandbox, tmp_path):
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        first = (await client.post(GENERATE, json={"prompt": "a house"})).json()
        second = (await client.post(GENERATE, json={"prompt": "a house", "count": 2})).json()
        model = api.stage.app.settings.model
        width, height = model.sizes[model.default_aspect]
        steps = model.qualities[model.default_quality].steps
        assert (first["width"], first["height"]) == (width, height)
        assert first["num_inference_steps"] == steps
        assert first["seed"] != second["seed"]
        assert second["image_urls"][0] == second["image_url"] != second["image_urls"][1]
        assert "image_urls" not in first
        one_side = (await client.post(GENERATE, json={"prompt": "a", "width": 320})).json()
        assert (one_side["width"], one_side["height"]) == (320, height)


WRONG = [
    ({}, "prompt"),
    ({"prompt": " "}, "prompt is empty"),
    ({"prompt": "a", "width": 300, "height": 768}, "width"),
    ({"prompt": "a", "seed": "7"}, "seed"),
    ({"prompt": "a", "steps": 7}, 'no field "steps"; did you mean "num_inference_steps"?'),
    ({"prompt": "a", "widht": 512}, 'no field "widht"; did you mean "width"?'),
    ({"prompt": "a", "zzz": 7}, 'There is no field "zzz"'),
    ([], "The body must be a JSON object"),
    ("a house", "The body must be a JSON object"),
    (None, "The body must be a JSON object"),
    ({"prompt": "a", "num_inference_steps": 101}, "num_inference_steps"),
    ({"prompt": "a\ud83d"}, "prompt"),
    ({"prompt": "a", "x\ud83d": 1}, "unicode"),
]


async def test_a_wrong_request_is_one_sentence(api):
    async with api.client() as client:
        for body, words in WRONG:
            # Half of a surrogate pair goes as an escape only.
            answer = await client.post(GENERATE, content=json.dumps(body), headers=JSON)
            assert answer.status_code == 422, body
            assert words in answer.json()["detail"]
    assert await api.stage.jobs_made() == 0


@pytest.fixture
async def api(sandbox, tmp_path):
    async with opened(sandbox, tmp_path) as running:
        yield running


@pytest.mark.slow
async def test_bodies_that_are_no_json(api):
    async with api.client() as client:
        wrong = [
            (await client.post(GENERATE, content=text, headers=JSON)).status_code
            for text in (b"", b"{", b"[" * 100_000, b"\xff", b'{"prompt": 1e999}')
        ]
        form = await client.post(GENERATE, content=b"prompt=a", headers=FORM)
    assert set(wrong) <= {400, 422}
    assert form.status_code == 415


@pytest.mark.slow
async def test_oversize_bodies_are_refused(api):
    def send_all_first() -> int:
        # As most clients do, and unlike httpx: the answer is read once all is sent.
        plain = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
        with closing(plain):
            plain.request("POST", GENERATE, bytes(30_000_000), JSON)
            with plain.getresponse() as answer:
                return answer.status

    async with api.client() as client:
        announced = await asyncio.to_thread(send_all_first)

        async def chunks():
            for _ in range(300):
                yield b" " * 2**17

        streamed = await client.post(GENERATE, content=chunks(), headers=JSON)
    assert (announced, streamed.status_code) == (413, 413)
    assert "25856 KiB" in streamed.json()["detail"]


@pytest.mark.slow
async def test_past_the_wait_the_job_is_named_and_goes_on(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with (
        opened(sandbox, tmp_path, engine=engine, http_wait_seconds=0.05) as api,
        api.client() as client,
    ):
        answer = await client.post(GENERATE, json={"prompt": "a house"})
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["Location"] == job["status_url"]
        assert job["state"] in {"queued", "running"}
        engine.release.set()
        await api.stage.delivered(job["id"])
        done = (await client.get(job["status_url"])).json()
        assert done["state"] == "generated"
        assert (await client.get(done["images"][0]["url"])).status_code == 200


async def test_a_client_that_hangs_up_cancels_nothing(sandbox, tmp_path, monkeypatch):
    engine = ScriptedEngine(Script(hold_at=1))
    noticed = asyncio.Event()
    ended = JobFollower.ended

    async def watched(*args):
        await ended(*args)
        noticed.set()

    monkeypatch.setattr(JobFollower, "ended", watched)
    async with opened(sandbox, tmp_path, engine=engine) as api, api.client() as client:
        _reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(raw_post(api, GENERATE, {"prompt": "a house"}))
        await soon(engine.holding.wait())
        writer.transport.abort()
        await soon(noticed.wait())
        job_id = await api.one("SELECT id FROM jobs")
        engine.release.set()
        await api.stage.delivered(job_id)
        assert (await client.get(f"/api/v1/images/{job_id}.png")).status_code == 200
        assert (await api.stage.delivery(job_id)).state == "delivered"


async def test_a_restart_while_a_job_waits(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with opened(sandbox, tmp_path, TWO_KEYS, engine) as api, api.client(ALICE) as client:
        waiting = asyncio.create_task(client.post(GENERATE, json={"prompt": "a house"}))
        await soon(engine.holding.wait())
        await api.stage.stop()
        answer = await waiting
    assert answer.status_code == 202
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client(ALICE) as client:
        status = answer.json()["status_url"]
        await api.stage.delivered(answer.json()["id"])
        assert (await client.get(status)).json()["state"] == "generated"
        async with api.client(BOB) as other:
            assert (await other.get(status)).status_code == 404


@pytest.mark.slow
async def test_a_hundred_at_once(sandbox, tmp_path):
    many = {"limit_key_open_jobs": 100, "limit_key_images_per_day": 100}
    async with opened(sandbox, tmp_path, **many) as api, api.client() as client:
        asked = [
            client.post(
                GENERATE, json={"prompt": f"house {n}", "seed": n, "num_inference_steps": 1}
            )
            for n in range(100)
        ]
        answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["seed"] for answer in answers] == list(range(100))
    assert len({answer.headers["X-Job-Id"] for answer in answers}) == 100


async def test_a_key_has_limits_of_its_own_and_each_refusal_says_when(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    users = {"limit_open_jobs": 1, "limit_images_per_day": 1, "limit_cooldown_seconds": 1000}
    keys = {"limit_key_open_jobs": 3, "limit_key_images_per_day": 4, "http_wait_seconds": 0.2}
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine, **users, **keys) as api,
        api.client(ALICE) as alice,
        api.client(BOB) as bob,
    ):
        asked = [alice.post(f"{GENERATE}?async=true", json={"prompt": "a"}) for _ in range(10)]
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 7
        late = [answer for answer in answers if answer.status_code == 429]
        assert {answer.headers["Retry-After"] for answer in late} == {"10"}
        full = await alice.post(OPENAI, json={"prompt": "a"})
        assert "Cancel one with DELETE /api/v1/jobs/{id}, or wait" in full.text
        assert (full.headers["Retry-After"], full.headers.get("x-should-retry")) == ("10", None)
        two = await bob.post(f"{GENERATE}?async=true", json={"prompt": "a", "count": 4})
        assert two.status_code == 202
        more = await bob.post(GENERATE, json={"prompt": "a"})
        assert more.status_code == 429
        assert 0 < int(more.headers["Retry-After"]) <= 24 * 3600 + 1
        assert "<t:" not in more.json()["detail"]
        theirs = await bob.post(OPENAI, json={"prompt": "a"})
        assert (theirs.status_code, theirs.headers["x-should-retry"]) == (429, "false")
        engine.release.set()


async def test_more_than_a_limit_ever_allows_is_no_matter_of_time(sandbox, tmp_path):
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, limit_key_images_per_day=2) as api,
        api.client(ALICE) as client,
    ):
        asked = {"prompt": "a", "count": 3}
        never = await client.post(GENERATE, json=asked)
        assert (never.status_code, never.headers.get("Retry-After")) == (422, None)
        assert "2" in never.json()["detail"]


@pytest.mark.slow
async def test_a_block_holds_here_too(sandbox, tmp_path):
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client(ALICE) as client:
        blocks = api.stage.app.client.services.blocks
        await blocks.block(user_id_of("alice"), 0, by=1, seconds=None, reason="spam")
        answer = await client.post(GENERATE, json={"prompt": "a house"})
    assert answer.status_code == 403
    assert "spam" in answer.json()["detail"]


async def test_an_idempotency_key_makes_one_job(sandbox, tmp_path):
    async with (
        opened(sandbox, tmp_path, TWO_KEYS) as api,
        api.client(ALICE) as client,
        api.client(BOB) as other,
    ):
        once = {"headers": {"Idempotency-Key": "order 7"}}
        asked = [client.post(GENERATE, json={"prompt": "a house"}, **once) for _ in range(5)]
        answers = await asyncio.gather(*asked)
        assert len({answer.headers["X-Job-Id"] for answer in answers}) == 1
        assert len({answer.json()["image_url"] for answer in answers}) == 1
        changed = await client.post(GENERATE, json={"prompt": "a ship"}, **once)
        assert changed.status_code == 409
        theirs = await other.post(GENERATE, json={"prompt": "a ship"}, **once)
        assert theirs.status_code == 200
        assert await api.stage.jobs_made() == 2


async def test_a_size_that_the_model_does_not_draw_is_refused(sandbox, tmp_path):
    sdxl = "stabilityai/stable-diffusion-xl-base-1.0"
    async with opened(sandbox, tmp_path, image_model_name=sdxl) as api, api.client() as client:
        for side in ("width", "height"):
            answer = await client.post(GENERATE, json={"prompt": "a house", side: 1552})
            assert answer.status_code == 422
            assert answer.json()["detail"] == f"{sdxl} draws at most 1536 pixels on a side: {side}."
        theirs = await client.post(OPENAI, json={"prompt": "a house", "size": "2048x1024"})
        assert (theirs.status_code, "1536" in theirs.text) == (400, True)
        assert await api.stage.jobs_made() == 0
        largest = {"prompt": "a house", "width": 1536, "height": 1536}
        answer = await client.post(f"{GENERATE}?async=true", json=largest)
        assert answer.status_code == 202


async def test_a_retry_finds_its_job_though_defaults_changed(sandbox, tmp_path):
    once = {"headers": {"Idempotency-Key": "order 17"}}
    body = {"prompt": "a cat"}
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client(ALICE) as client:
        first = await client.post(GENERATE, json=body, **once)
        assert first.status_code == 200
        request = (await api.stage.queue.job(first.headers["X-Job-Id"])).request
        await api.stage.stop()
    changed = {"image_quality_standard": "3:2"}
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, **changed) as api,
        api.client(ALICE) as client,
    ):
        again = await client.post(GENERATE, json=body, **once)
        assert (again.status_code, again.json()) == (200, first.json())
        named = await client.post(GENERATE, json={**body, "num_inference_steps": 3}, **once)
        assert named.status_code == 409
        # A job of a version that kept no hash is compared as it was drawn.
        old = request.with_changes(extra={}).to_json()
        await api.stage.database.write(lambda tx: tx.execute("UPDATE jobs SET request = ?", (old,)))
        assert (await client.post(GENERATE, json=body, **once)).status_code == 409
        same = {**body, "num_inference_steps": request.steps, "guidance_scale": request.guidance}
        assert (await client.post(GENERATE, json=same, **once)).status_code == 200


@pytest.mark.slow
async def test_a_failed_job_is_a_sentence(sandbox, tmp_path):
    script = Script(error=EngineError(EngineErrorKind.OUT_OF_MEMORY, "cuda"), error_at=1)
    engine = ScriptedEngine(*[script] * 4)
    async with opened(sandbox, tmp_path, engine=engine) as api, api.client() as client:
        answer = await client.post(GENERATE, json={"prompt": "a house"})
        theirs = await client.post(OPENAI, json={"prompt": "a house"})
    assert (answer.status_code, theirs.status_code) == (502, 502)
    assert "ran out of memory" in answer.json()["detail"]
    assert answer.json()["job_id"] == answer.headers["X-Job-Id"]
    assert theirs.json()["error"]["code"] == "engine_failed"
    assert theirs.headers["x-should-retry"] == "false"


@pytest.mark.slow
async def test_a_port_in_use_is_one_sentence(sandbox, tmp_path):
    async with opened(sandbox, tmp_path / "one") as api:
        with pytest.raises(StartupError, match=f"127.0.0.1:{api.port}") as caught:
            async with staged(sandbox, tmp_path / "two", api_keys="none", http_port=api.port):
                pass
    assert "HTTP_PORT" in str(caught.value)
    assert errno.errorcode[errno.EADDRINUSE] not in str(caught.value)


@pytest.mark.slow
async def test_without_keys_there_is_no_door(sandbox, tmp_path):
    async with staged(sandbox, tmp_path) as stage:
        assert stage.app.door is None
