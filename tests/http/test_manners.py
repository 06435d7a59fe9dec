"""How the API answers what is nearly right: retries, large sizes, misspelt fields, HEAD."""

from __future__ import annotations

import asyncio

import pytest

from bot.errors import EngineError, EngineErrorKind
from tests.engines import ScriptedEngine
from tests.http.kit import GENERATE, opened
from tests.wire.kit import PATIENCE_S

ONCE = {"Idempotency-Key": "order 17"}


async def test_a_retry_is_the_same_request_after_the_defaults_have_changed(sandbox, tmp_path):
    asked = {"prompt": "a house", "width": 512, "height": 512}
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        first = await client.post(GENERATE, json=asked, headers=ONCE)
        assert first.status_code == 200
    other = {"image_quality_standard": "4:2.5", "image_suffix": True}
    async with opened(sandbox, tmp_path, **other) as api, api.client() as client:
        again = await client.post(GENERATE, json=asked, headers=ONCE)
        assert (again.status_code, again.headers["X-Job-Id"]) == (200, first.headers["X-Job-Id"])
        for change in ({"num_inference_steps": 9}, {"width": 256}, {"prompt": "a ship"}):
            answer = await client.post(GENERATE, json={**asked, **change}, headers=ONCE)
            assert answer.status_code == 409, change
        fresh = await client.post(GENERATE, json=asked)
        assert fresh.json()["num_inference_steps"] == 4


async def test_a_side_that_is_too_large_is_refused(sandbox, tmp_path):
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        for size in ({"width": 1360}, {"width": 256, "height": 2048}):
            answer = await client.post(GENERATE, json={"prompt": "a house", **size})
            assert answer.status_code == 422
            assert answer.json()["detail"] == "tiny draws at most 1344 pixels on a side."
        assert await api.stage.jobs_made() == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": "x", "steps": 4}, 'no field "steps"; did you mean "num_inference_steps"?'),
        ({"promt": "x", "prompt": "y"}, 'no field "promt"; did you mean "prompt"?'),
        ({"prompt": "x", "xyzzy": 4}, 'There is no field "xyzzy".'),
        ("a house", "The body must be a JSON object."),
        (["a house"], "The body must be a JSON object."),
    ],
)
async def test_what_is_wrong_with_a_body_is_said_in_words(sandbox, tmp_path, body, said):
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        answer = await client.post(GENERATE, json=body)
        assert answer.status_code == 422
        assert said in answer.json()["detail"]


async def test_monitors_may_ask_for_the_status_alone(sandbox, tmp_path):
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        done = await client.post(GENERATE, json={"prompt": "a house"})
        picture = f"/api/v1/images/{done.headers['X-Job-Id']}.png"
        for path in ("/healthz", "/readyz", picture, picture.replace(".png", "/0.png")):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b""), path


async def test_a_limit_names_the_call_that_cancels(sandbox, tmp_path):
    engine = ScriptedEngine()
    engine.load_error = EngineError(EngineErrorKind.LOAD_FAILED, "vae is missing")
    engine.state = engine.state.STOPPED
    async with (
        opened(sandbox, tmp_path, engine=engine, limit_open_jobs=1) as api,
        api.client() as client,
    ):
        with api.stage.queue.feed.subscribe() as updates:
            taken = await client.post(f"{GENERATE}?async=true", json={"prompt": "a house"})
            refused = await client.post(GENERATE, json={"prompt": "a house"})
            assert refused.status_code == 429
            assert "with DELETE /api/v1/jobs/{id}" in refused.json()["detail"]
            async with asyncio.timeout(PATIENCE_S):
                async for update in updates:
                    if "Next try in" in update.stage:
                        break
        # Meanwhile whoever looks learns why nothing comes.
        job = (await client.get(taken.json()["status_url"])).json()
        assert "Next try in" in job["stage"]
        assert job["error"] is None
