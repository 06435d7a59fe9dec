"""What OpenAI's clients send, of both generations, and what they read of the answer."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from bot.pictures.parameters_read import read_parameters
from bot.pictures.reencoded import reencoded
from tests.http.kit import GENERATE, OPENAI, opened, png_of

SMALL = {"prompt": "a house", "size": "256x272"}


@pytest.fixture
async def api(sandbox, tmp_path):
    async with opened(sandbox, tmp_path) as running:
        yield running


# What a client sends besides, and which of a picture's two fields it gets.
EXPECTED = [
    ({"model": "gpt-image-1"}, {"b64_json"}),
    ({"model": "openai/gpt-image-1.5"}, {"b64_json"}),
    ({"model": "chatgpt-image-latest"}, {"b64_json"}),
    # LibreChat's tool, whatever its model is called.
    ({"model": "tiny", "background": "auto", "quality": "auto", "n": 1}, {"b64_json"}),
    ({"model": "tiny", "output_format": "png"}, {"b64_json"}),
    ({"model": "tiny", "moderation": "low"}, {"b64_json"}),
    ({"model": "dall-e-3", "style": "vivid", "quality": "hd"}, {"url"}),
    ({"model": "dall-e-2", "user": "someone"}, {"url"}),
    ({"model": "Qwen/Qwen-Image"}, {"url", "b64_json"}),
    ({}, {"url", "b64_json"}),
    ({"response_format": None, "background": None}, {"url", "b64_json"}),
    ({"model": "gpt-image-1", "response_format": "url"}, {"url"}),
    ({"model": "tiny", "background": "auto", "response_format": "url"}, {"url"}),
    ({"model": "dall-e-3", "response_format": "b64_json"}, {"b64_json"}),
    ({"response_format": "url"}, {"url"}),
]


async def test_each_generation_of_clients_gets_what_it_reads(api):
    async with api.client() as client:
        for sent, fields in EXPECTED:
            answer = await client.post(OPENAI, json=SMALL | sent)
            assert answer.status_code == 200, (sent, answer.text)
            (picture,) = answer.json()["data"]
            assert {name for name, value in picture.items() if value} == fields, sent
            assert set(picture) == {"url", "b64_json"}
            if url := picture["url"]:
                link = await client.get(url)
                assert link.headers["Content-Type"] == "image/png"
            if text := picture["b64_json"]:
                assert png_of(f"data:image/png;base64,{text}").size == (256, 272)
            if fields == {"url", "b64_json"}:
                assert link.content == base64.b64decode(text)


@pytest.mark.slow
async def test_openais_shapes(api):
    async with api.client() as client:
        body = {**SMALL, "n": 2, "response_format": "b64_json"}
        answer = await client.post(OPENAI, json=body | {"user": "someone", "model": "dall-e-3"})
        assert answer.status_code == 200
        got = answer.json()
        assert isinstance(got["created"], int)
        assert (got["size"], got["output_format"], got["background"], got["quality"]) == (
            *("256x272", "png", "opaque", "medium"),
        )
        # The scripted engine says that it took three seconds.
        assert (got["usage"]["gpu_seconds"], got["usage"]["total_tokens"]) == (3.0, 0)
        urls = [f"data:image/png;base64,{one['b64_json']}" for one in got["data"]]
        assert [png_of(url).size for url in urls] == [(256, 272)] * 2
        models = (await client.get("/v1/models")).json()
        assert [model["id"] for model in models["data"]] == ["tiny"]
        assert (await client.get("/v1/nothing")).json()["error"]["code"] == "not_found"


@pytest.mark.slow
async def test_the_model_is_found_by_its_name(sandbox, tmp_path):
    name = "Qwen/Qwen-Image"
    async with opened(sandbox, tmp_path, image_model_name=name) as api, api.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]
        # OpenAI's clients escape the slash; others send it as it is.
        for path in (name, "Qwen%2FQwen-Image"):
            assert [(await client.get(f"/v1/models/{path}")).json()] == listed
        absent = await client.get("/v1/models/gpt-image-1")
        assert absent.status_code == 404
        error = absent.json()["error"]
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert name in error["message"]


ELSEWHERE = [
    ("POST", "/v1/chat/completions", "POST /v1/images/generations"),
    ("POST", "/v1/responses", "POST /v1/images/generations"),
    ("POST", "/v1/images/variations", "POST /v1/images/edits, with strength"),
    ("GET", "/v1/files", "GET /v1/models"),
    ("POST", "/v1/v1/images/generations", "POST /v1/images/generations"),
    ("POST", "/images/generations", "ends in /v1"),
]


@pytest.mark.slow
async def test_what_there_is_instead_is_said(api):
    async with api.client() as client:
        for method, path, words in ELSEWHERE:
            answer = await client.request(method, path)
            assert answer.status_code == 404, path
            body = answer.json()
            sentence = body["error"]["message"] if path.startswith("/v1/") else body["detail"]
            assert f"There is no {method} {path}" in sentence
            assert words in sentence.removeprefix(f"There is no {method} {path}"), path
        for path in ("/v1/images/generations", "/v1/images/edits"):
            wrong = await client.get(path)
            assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")


WRONG = [
    ({"prompt": ""}, "prompt", "prompt", "invalid_value"),
    ({"prompt": None}, "prompt", "prompt", "invalid_type"),
    ({"size": "big"}, "WIDTHxHEIGHT", "size", "invalid_value"),
    ({"size": "17x17"}, "width", None, "invalid_value"),
    ({"n": 5}, "n", "n", "invalid_value"),
    ({"n": "many"}, "n", "n", "invalid_value"),
    ({"stream": True, "response_format": "url"}, "base64", "response_format", "invalid_value"),
    ({"seed": -1}, "seed", "seed", "invalid_value"),
    ({"lora": "nobody's"}, "LoRA", None, "invalid_value"),
    ({"guidance_scale": 0.5}, "guidance_scale", "guidance_scale", "invalid_value"),
    ({"num_inference_steps": 101}, "steps", "num_inference_steps", "invalid_value"),
    ({"negative_prompt": "a" * 4001}, "4000", "negative_prompt", "invalid_value"),
    ({"background": "transparent"}, "opaque", "background", "invalid_value"),
    ({"output_format": "avif"}, "'webp'", "output_format", "invalid_value"),
    ({"output_compression": 50}, "PNG", "output_compression", "invalid_value"),
    ({"output_format": "webp", "response_format": "url"}, "b64_json", "output_format",
     "invalid_value"),
    ({"negativ_prompt": "x"}, 'did you mean "negative_prompt"?', "negativ_prompt",
     "unknown_parameter"),
    ({"steps": 7}, 'did you mean "num_inference_steps"?', "steps", "unknown_parameter"),
    ({"width": 512}, 'did you mean "size"?', "width", "unknown_parameter"),
    ({"count": 2}, 'did you mean "n"?', "count", "unknown_parameter"),
    ({"zzz": 1}, 'There is no field "zzz"', "zzz", "unknown_parameter"),
]  # fmt: skip


async def test_what_cannot_be_done_is_refused_by_its_field(api):
    async with api.client() as client:
        for sent, words, param, code in WRONG:
            refused = await client.post(OPENAI, json={"prompt": "a", **sent})
            assert refused.status_code == 400, sent
            error = refused.json()["error"]
            assert words in error["message"], sent
            assert (error["param"], error["code"]) == (param, code), sent
            assert error["type"] == "invalid_request_error"
        missing = (await client.post(OPENAI, json={})).json()["error"]
        assert (missing["param"], missing["code"]) == ("prompt", "missing_required_parameter")
    assert await api.stage.jobs_made() == 0


async def test_what_other_local_servers_take_is_drawn(api):
    sent = {"negative_prompt": "blur", "num_inference_steps": 3, "guidance_scale": 2.5, "seed": 77}
    async with api.client() as client:
        answer = await client.post(OPENAI, json={**SMALL, "quality": "high", **sent})
        assert answer.status_code == 200, answer.text
    (drawn,) = api.stage.engine.requests
    assert (drawn.negative_prompt, drawn.steps, drawn.guidance) == ("blur", 3, 2.5)
    assert drawn.seeds == (77,)
    assert (drawn.width, drawn.height) == (256, 272)


@pytest.mark.slow
async def test_a_transparent_background_comes_as_png_or_webp(sandbox, tmp_path):
    settings = {"image_model_name": "Qwen/Qwen-Image-2.1"}
    clear = {**SMALL, "background": "transparent"}
    async with opened(sandbox, tmp_path, **settings) as api, api.client() as client:
        for kind in ("png", "webp"):
            answer = await client.post(OPENAI, json=clear | {"output_format": kind})
            got = answer.json()
            assert (got["background"], got["output_format"]) == ("transparent", kind)
            data = base64.b64decode(got["data"][0]["b64_json"])
            with Image.open(io.BytesIO(data)) as picture:
                assert (picture.format, picture.mode) == (kind.upper(), "RGBA")
                alpha = picture.getchannel("A")
                assert (alpha.getpixel((0, 0)), alpha.getpixel((128, 128))) == (0, 255)
        refused = await client.post(OPENAI, json=clear | {"output_format": "jpeg"})
        error = refused.json()["error"]
        assert (refused.status_code, error["param"]) == (400, "background")
        assert "output_format png or webp" in error["message"]
        own = await client.post(GENERATE, json={"prompt": "a house", "transparent": True})
        assert png_of(own.json()["image_url"]).mode == "RGBA"
        opaque = await client.post(OPENAI, json=SMALL | {"background": "opaque"})
        assert opaque.json()["background"] == "opaque"
        assert [one.transparent for one in api.stage.engine.requests] == [True] * 3 + [False]
        # A JPEG of such a picture, which a client may make of its own, has white behind it.
        with Image.open(io.BytesIO(reencoded(data_of(own.json()["image_url"]), "jpeg", 95))) as one:
            assert min(one.getpixel((0, 0))) > 250


def data_of(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


async def test_another_model_names_the_one_that_draws_transparent_pictures(sandbox, tmp_path):
    settings = {"image_models": ["Qwen/Qwen-Image-2.1"]}
    async with opened(sandbox, tmp_path, **settings) as api, api.client() as client:
        refused = await client.post(OPENAI, json=SMALL | {"background": "transparent"})
        error = refused.json()["error"]
        assert (refused.status_code, error["param"]) == (400, "background")
        assert (
            "tiny cannot draw a transparent background; Qwen/Qwen-Image-2.1 can."
            in (error["message"])
        )
        own = await client.post(GENERATE, json={"prompt": "a house", "transparent": True})
        assert own.status_code == 422
        assert "Qwen/Qwen-Image-2.1 can." in own.json()["detail"]
        assert await api.stage.jobs_made() == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jpeg", "webp"])
async def test_files_come_in_the_format_that_was_asked_for(api, kind):
    async with api.client() as client:
        for sent, quality in (({}, 100), ({"output_compression": 5}, 5)):
            answer = await client.post(OPENAI, json={**SMALL, "output_format": kind, **sent})
            got = answer.json()
            assert got["output_format"] == kind
            data = base64.b64decode(got["data"][0]["b64_json"])
            with Image.open(io.BytesIO(data)) as picture:
                assert (picture.format, picture.size) == (kind.upper(), (256, 272))
            assert "a house" in read_parameters(data).text
            png = await client.get(f"/api/v1/images/{answer.headers['X-Job-Id']}.png")
            assert data == reencoded(png.content, kind, quality)
