"""The requests of programs that people have, field by field.

Open WebUI's `routers/images.py`, LibreChat's `OpenAIImageTools.js` and n8n's OpenAI node were read;
SillyTavern's are what is known of its image extension.
"""

from __future__ import annotations

import base64

import pytest

from tests.http.kit import ALICE, OPENAI, TWO_KEYS, opened, png_of
from tests.http.test_edits import EDITS, OTHER, TALL, image

PROMPT = {"prompt": "a house"}
# What each sends, and what it reads of every picture; where both are sent the link is read first.
GENERATIONS = {
    "Open WebUI": (
        {"model": "tiny", "n": 1, "size": "512x512", "response_format": "b64_json"},
        "b64_json",
    ),
    "Open WebUI, gpt-image": ({"model": "gpt-image-1", "n": 2, "size": "256x256"}, "b64_json"),
    "Open WebUI, size auto": ({"model": "gpt-image-1", "n": 1, "size": "auto"}, "b64_json"),
    "LibreChat": (
        {"model": "gpt-image-1", "n": 1, "background": "auto", "output_format": "png",
         "quality": "auto", "size": "auto"},
        "b64_json",
    ),
    "LibreChat, webp": (
        {"model": "gpt-image-1", "n": 1, "background": "opaque", "output_format": "webp",
         "output_compression": 100, "quality": "low", "size": "256x256"},
        "b64_json",
    ),
    "SillyTavern, DALL-E 3": (
        {"model": "dall-e-3", "n": 1, "size": "1024x1024", "quality": "standard",
         "style": "vivid", "response_format": "b64_json"},
        "b64_json",
    ),
    "SillyTavern, gpt-image": (
        {"model": "gpt-image-1", "n": 1, "size": "256x256", "quality": "auto",
         "moderation": "low"},
        "b64_json",
    ),
    "n8n": (
        {"model": "dall-e-3", "quality": "hd", "size": "256x256", "style": "natural",
         "response_format": "b64_json"},
        "b64_json",
    ),
    "n8n, links": ({"model": "dall-e-2", "n": 2, "response_format": "url"}, "url"),
}  # fmt: skip
EDITED = {
    "Open WebUI": ({"model": "gpt-image-1", "n": "1", "size": "256x256"}, ["image"]),
    "Open WebUI, several": (
        {"model": "tiny-edit", "background": "auto", "response_format": "b64_json"},
        ["image[]", "image[]"],
    ),
    "LibreChat": ({"model": "gpt-image-1", "quality": "auto", "size": "auto"}, ["image[]"] * 2),
    "n8n": (
        {"model": "gpt-image-1", "n": "1", "size": "256x256", "quality": "high",
         "background": "auto", "output_format": "png", "input_fidelity": "high"},
        ["image[]"],
    ),
}  # fmt: skip


@pytest.fixture
async def api(sandbox, tmp_path):
    async with opened(sandbox, tmp_path, TWO_KEYS, image_models="tiny-edit") as running:
        yield running


async def test_programs_get_what_they_read(api):
    async with api.client(ALICE) as client:
        for name, (body, field) in GENERATIONS.items():
            answer = await client.post(OPENAI, json=PROMPT | body)
            assert answer.status_code == 200, (name, answer.text)
            pictures = answer.json()["data"]
            assert len(pictures) == body.get("n", 1), name
            for picture in pictures:
                assert picture[field], name
                other = {"url": "b64_json", "b64_json": "url"}[field]
                assert not picture[other], name
                if field == "url":
                    # With the key or without.
                    assert (await client.get(picture["url"])).status_code == 200
        for name, (data, names) in EDITED.items():
            files = [image(one, field) for one, field in zip((TALL, OTHER), names, strict=False)]
            answer = await client.post(EDITS, data=PROMPT | data, files=files)
            assert answer.status_code == 200, (name, answer.text)
            drawn = api.stage.engine.requests[-1]
            assert drawn.model == "tiny-edit"
            assert len(api.stage.engine.references[drawn.job_id]) == len(names), name
            (picture,) = answer.json()["data"]
            assert base64.b64decode(picture["b64_json"]), name
            assert png_of(f"data:image/png;base64,{picture['b64_json']}").format == "PNG"


async def test_queries_and_headers_of_theirs_do_no_harm(api):
    headers = {"X-OpenWebUI-User-Name": "someone", "OpenAI-Beta": "assistants=v2"}
    async with api.client(ALICE) as client:
        path = f"{OPENAI}?api-version=2025-04-01"
        answer = await client.post(path, json=PROMPT, headers=headers)
        assert answer.status_code == 200
