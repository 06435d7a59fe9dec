"""LoRAs for programs: the list, and the fields of a request."""

from __future__ import annotations

import pytest

from tests.http.kit import GENERATE, opened

pytestmark = pytest.mark.slow


async def test_each_model_has_the_loras_that_it_draws_with(sandbox, tmp_path):
    (tmp_path / "pixel.safetensors").touch()
    sdxl = "stabilityai/stable-diffusion-xl-base-1.0"
    settings = {"image_lora_path": tmp_path, "image_models": f"tiny, {sdxl}"}
    async with opened(sandbox, tmp_path / "data", **settings) as api, api.client() as client:
        names = [
            [one["name"] for one in (await client.get(f"/api/v1/loras{query}")).json()]
            for query in ("", "?model=tiny", f"?model={sdxl}")
        ]
        assert names == [["pixel"], ["pixel"], []]
        assert (await client.get("/api/v1/loras?model=nothing")).status_code == 422
        body = {"prompt": "a boat", "lora": "pixel", "model": "tiny"}
        assert (await client.post(GENERATE, json=body)).status_code == 200
        refused = await client.post(GENERATE, json=body | {"model": sdxl})
        assert refused.status_code == 422
        assert "draws without LoRAs" in refused.json()["detail"]


async def test_a_lora_is_listed_and_asked_for(sandbox, tmp_path):
    for name in ("pixel", "ink"):
        (tmp_path / f"{name}.safetensors").touch()
    rules = "Pixel art=pixel:0.8 (pixel art), ink"
    settings = {"image_lora_path": tmp_path, "image_loras": rules}
    async with opened(sandbox, tmp_path / "data", **settings) as api, api.client() as client:
        assert (await client.get("/api/v1/loras")).json() == [
            {"name": "Pixel art", "strength": 0.8, "trigger_words": "pixel art"},
            {"name": "ink", "strength": 1.0, "trigger_words": ""},
        ]
        body = {"prompt": "a boat", "lora": "pixel ART"}
        assert (await client.post(GENERATE, json=body)).status_code == 200
        assert (
            await client.post(GENERATE, json={**body, "lora_strength": -1.5})
        ).status_code == 200
        assert [r.loras for r in api.stage.engine.requests] == [
            (("pixel", 0.8),), (("pixel", -1.5),),
        ]  # fmt: skip
        for wrong, said in (
            ({"lora": "zebra"}, "there are: `Pixel art`, `ink`."),
            ({"lora_strength": 0.5}, "Choose a LoRA"),
            ({"lora": "ink", "lora_strength": 3}, "lora_strength"),
            ({"lora": ""}, "lora"),
        ):
            answer = await client.post(GENERATE, json={"prompt": "a boat", **wrong})
            assert answer.status_code == 422
            assert said in answer.text
        schema = (await client.get("/openapi.json")).json()
        assert "/api/v1/loras" in schema["paths"]
