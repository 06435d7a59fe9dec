"""The model that a request names, where several are offered."""

from __future__ import annotations

import asyncio

import pytest

from bot.http.metrics import Metrics
from tests.http.kit import GENERATE, OPENAI, opened
from tests.http.test_edits import EDITS, TALL, image
from tests.wire.kit import soon

TURBO = "Qwen/Qwen-Image-2.1-Turbo"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"


@pytest.fixture
async def api(sandbox, tmp_path):
    models = f"tiny-ink, {TURBO}, {SDXL}"
    async with opened(sandbox, tmp_path, image_models=models) as running:
        yield running


NAMED = [
    ({}, "tiny"),
    ({"model": None}, "tiny"),
    ({"model": "tiny"}, "tiny"),
    ({"model": "Tiny-INK"}, "tiny-ink"),
    ({"model": TURBO}, TURBO),
    ({"model": "qwen-image-2.1-turbo"}, TURBO),
]


async def test_each_offered_model_is_drawn_with_by_its_name(api):
    spec = {one.name: one for one in api.stage.app.settings.models}
    async with api.client() as client:
        for sent, name in NAMED:
            answer = await client.post(GENERATE, json={"prompt": "a house", **sent})
            assert answer.status_code == 200, answer.text
            drawn = api.stage.engine.requests[-1]
            assert drawn.model == answer.json()["model"] == name
            # Left out: sizes, steps and guidance are this model's own.
            size = spec[name].sizes[spec[name].default_aspect]
            quality = spec[name].qualities[spec[name].default_quality]
            assert (drawn.width, drawn.height) == size
            assert (drawn.steps, drawn.guidance) == (quality.steps, quality.guidance)
            job = await client.get(f"/api/v1/jobs/{answer.headers['X-Job-Id']}")
            assert job.json()["model"] == name


OPENAI_NAMED = [
    ({"model": "tiny-ink"}, "tiny-ink"),
    ({"model": "qwen-image-2.1-turbo"}, TURBO),
    # Clients name these without having been told to.
    ({"model": "dall-e-3"}, "tiny"),
    ({"model": "openai/gpt-image-1"}, "tiny"),
    ({"model": ""}, "tiny"),
    ({}, "tiny"),
]


async def test_openais_clients_choose_a_model_too(api):
    async with api.client() as client:
        for sent, name in OPENAI_NAMED:
            answer = await client.post(OPENAI, json={"prompt": "a house", **sent})
            assert answer.status_code == 200, answer.text
            assert api.stage.engine.requests[-1].model == name
        form = {"prompt": "a house", "model": "tiny-ink", "strength": "0.6"}
        edited = await client.post(EDITS, files=[image(TALL)], data=form)
        assert edited.status_code == 200, edited.text
        drawn = api.stage.engine.requests[-1]
        assert (drawn.model, drawn.strength) == ("tiny-ink", 0.6)
        # This one has no quality but its own; the shape of the form's picture is from its sizes.
        form = {"prompt": "a house", "model": TURBO, "quality": "low", "strength": "0.5"}
        assert (await client.post(EDITS, files=[image(TALL)], data=form)).status_code == 200
        drawn = api.stage.engine.requests[-1]
        assert (drawn.width, drawn.height, drawn.steps) == (768, 1376, 8)


async def test_a_model_that_is_not_offered_is_refused_with_those_that_are(api):
    there = f"tiny, tiny-ink, {TURBO}, {SDXL}"
    async with api.client() as client:
        for name in ("Qwen/Qwen-Image", "ink", "x" * 90):
            refused = await client.post(GENERATE, json={"prompt": "a", "model": name})
            assert refused.status_code == 422
            assert refused.json() == {"detail": f"There is no model {name!r}; there are: {there}."}
            sent = {"prompt": "a", "model": name}
            for answer in (
                await client.post(OPENAI, json=sent),
                await client.post(EDITS, files=[image(TALL)], data=sent),
                await client.get(f"/v1/models/{name}"),
            ):
                assert answer.status_code == 404
                error = answer.json()["error"]
                assert (error["code"], error["param"]) == ("model_not_found", "model")
                assert error["type"] == "invalid_request_error"
                assert there in error["message"]
        for wrong in ("", "x" * 101, 7):
            refused = await client.post(GENERATE, json={"prompt": "a", "model": wrong})
            assert refused.status_code == 422
            assert refused.json()["detail"].startswith("model: ")
        # What one model draws, another refuses by its name.
        large = {"prompt": "a", "width": 2048, "height": 2048, "model": SDXL}
        refused = await client.post(GENERATE, json=large)
        assert f"{SDXL} draws at most 1536 pixels" in refused.json()["detail"]
        steps = {"prompt": "a", "num_inference_steps": 9, "model": TURBO}
        assert "8 steps" in (await client.post(GENERATE, json=steps)).json()["detail"]
    assert await api.stage.jobs_made() == 0


async def test_the_offered_models_are_listed(api):
    async with api.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [one["id"] for one in listed] == ["tiny", "tiny-ink", TURBO, SDXL]
        for path, entry in (
            ("tiny-ink", listed[1]),
            (TURBO, listed[2]),
            (TURBO.replace("/", "%2F"), listed[2]),
            ("qwen-image-2.1-turbo", listed[2]),
        ):
            assert (await client.get(f"/v1/models/{path}")).json() == entry


async def test_an_idempotency_key_belongs_to_its_model(sandbox, tmp_path):
    once = {"headers": {"Idempotency-Key": "order 7"}}
    async with opened(sandbox, tmp_path, image_models="tiny-ink") as api, api.client() as client:
        first = await client.post(GENERATE, json={"prompt": "a", "model": "tiny-ink"}, **once)
        again = await client.post(GENERATE, json={"prompt": "a", "model": "TINY-ink"}, **once)
        assert first.json() == again.json()
        for other in ({"model": "tiny"}, {}):
            refused = await client.post(GENERATE, json={"prompt": "a", **other}, **once)
            assert refused.status_code == 409, other
    # Whether it is offered by now is not asked of what was drawn already.
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        kept = await client.post(GENERATE, json={"prompt": "a", "model": "tiny-ink"}, **once)
        assert kept.json() == first.json()
        assert await api.stage.jobs_made() == 1


async def test_figures_are_told_by_model(sandbox, tmp_path, monkeypatch):
    counted, ended = asyncio.Event(), Metrics._ended

    async def noted(*args):
        await ended(*args)
        counted.set()

    monkeypatch.setattr(Metrics, "_ended", noted)
    async with opened(sandbox, tmp_path, image_models="tiny-ink") as api, api.client() as client:
        await client.post(GENERATE, json={"prompt": "a", "model": "tiny-ink", "count": 2})
        await soon(counted.wait())
        page = (await client.get("/metrics")).text
    for line in (
        'imagebot_job_seconds_count{model="tiny-ink",size="256x256"} 1.0',
        'imagebot_pictures_total{model="tiny-ink"} 2.0',
        'imagebot_engine_model{card="",engine="local-0",model="tiny-ink",node="local"} 1.0',
    ):
        assert line in page, line
