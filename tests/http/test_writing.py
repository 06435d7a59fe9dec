"""Texts over HTTP: prompts rewritten, pictures described, and drawn from a rewritten prompt."""

from __future__ import annotations

import base64

import pytest

from tests.engines import Script
from tests.http.kit import ALICE, GENERATE, TWO_KEYS, events_of, opened
from tests.wire.kit import soon
from tests.wire.test_edits import picture
from tests.wire.test_pictures_in import png

ENHANCE = "/api/v1/prompts/enhance"
DESCRIBE = "/api/v1/images/describe"


@pytest.fixture
async def api(sandbox, tmp_path):
    async with opened(sandbox, tmp_path, TWO_KEYS, image_models="tiny-edit") as running:
        yield running


async def test_a_prompt_is_rewritten_and_nothing_is_drawn(api):
    async with api.client(ALICE) as client:
        answer = (await client.post(ENHANCE, json={"prompt": "a cat"})).json()
    assert answer == {
        "prompt": "a cat, in soft light",
        "rewritten": True,
        "reason": None,
        "model": "tiny-edit",
        "usage": {"gpu_seconds": 2.0},
    }
    assert api.stage.engine.requests == []
    assert await api.one("SELECT state FROM deliveries") == "delivered"


async def test_a_model_that_sees_pictures_but_edits_none_rewrites_beside_them(sandbox, tmp_path):
    """`references` of a rewritten prompt are looked at, and nothing is edited."""
    one = base64.b64encode(picture((64, 64))).decode()
    body = {"prompt": "make it night", "references": [one], "model": "Qwen/Qwen-Image"}
    named = {"image_model_name": "Qwen/Qwen-Image", "image_models": "Qwen/Qwen-Image-Edit-2511"}
    async with opened(sandbox, tmp_path, TWO_KEYS, **named) as api, api.client(ALICE) as client:
        answer = await client.post(ENHANCE, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "Qwen/Qwen-Image"


async def test_what_is_no_rewrite_comes_back_as_it_was_sent(api):
    api.stage.engine.answers.append("a dog")
    async with api.client(ALICE) as client:
        answer = (await client.post(ENHANCE, json={"prompt": "3 cats"})).json()
    assert (answer["prompt"], answer["rewritten"], answer["reason"]) == ("3 cats", False, "numbers")


async def test_a_picture_is_described_from_json_and_from_a_form(api):
    one = png(texts={"parameters": "a fish\nSteps: 4"})
    data = base64.b64encode(one).decode()
    async with api.client(ALICE) as client:
        by_json = await client.post(DESCRIBE, json={"image": data, "language": "zh"})
        by_form = await client.post(DESCRIBE, files={"image": ("a.png", one)})
        plain = await client.post(DESCRIBE, files={"image": ("b.png", picture((64, 64)))})
    for answer in (by_json.json(), by_form.json()):
        assert answer["content"] == "a grey square"
        assert (answer["prompt"], answer["prompt_zh"]) == (
            "a grey square, flat light",
            "一个灰色方块",
        )
        assert answer["parameters"].startswith("a fish")
        assert answer["model"] == "tiny-edit"
    assert plain.json()["parameters"] is None
    first, second, _ = api.stage.engine.asked
    assert "in Chinese what" in first.system
    assert "in English what" in second.system
    assert api.stage.engine.seen_by_writer[first.job_id] == [one]


async def test_who_does_not_wait_gets_the_job_and_its_text_later(api):
    engine = api.stage.engine
    engine.writing.append(Script(hold_at=0))
    async with api.client(ALICE) as client:
        sent = await client.post(ENHANCE, params={"async": "true"}, json={"prompt": "a cat"})
        assert sent.status_code == 202
        job = sent.json()
        assert (job["kind"], job["text"], job["count"]) == ("text", None, 0)
        await soon(engine.holding.wait())
        async with client.stream("GET", job["events_url"]) as stream:
            events = events_of(stream)
            await anext(events)
            engine.release.set()
            (values,) = [values async for name, values in events if name == "done"]
        assert values["text"] == "a cat, in soft light"
        listed = (await client.get("/api/v1/jobs")).json()["jobs"]
        assert [(one["kind"], one["images"]) for one in listed] == [("text", [])]
        image = await client.get(f"/api/v1/images/{job['id']}.png")
        assert image.status_code == 404


async def test_generations_are_drawn_from_a_rewritten_prompt_where_that_is_asked(api):
    async with api.client(ALICE) as client:
        answer = (await client.post(GENERATE, json={"prompt": "a cat", "enhance": True})).json()
        plain = (await client.post(GENERATE, json={"prompt": "a cat"})).json()
        (latest, _) = (await client.get("/api/v1/jobs")).json()["jobs"]
    assert answer["revised_prompt"] == "a cat, in soft light"
    assert "revised_prompt" not in plain
    assert latest["revised_prompt"] is None
    assert [one.prompt for one in api.stage.engine.requests] == ["a cat, in soft light", "a cat"]


async def test_a_key_finds_the_first_text_and_another_question_is_another(api):
    headers = {"Idempotency-Key": "one"}
    async with api.client(ALICE) as client:
        first = await client.post(ENHANCE, json={"prompt": "a cat"}, headers=headers)
        again = await client.post(ENHANCE, json={"prompt": "a cat"}, headers=headers)
        other = await client.post(GENERATE, json={"prompt": "a cat"}, headers=headers)
    assert first.json() == again.json()
    assert other.status_code == 409
    assert len(api.stage.engine.asked) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (ENHANCE, {}, "prompt"),
        (ENHANCE, {"prompt": "a", "model": "nothing"}, "no model"),
        (DESCRIBE, {}, "image"),
        (DESCRIBE, {"image": "!"}, "base64"),
        (DESCRIBE, {"image": base64.b64encode(b"no picture").decode()}, "PNG, JPEG"),
        (DESCRIBE, {"image": "", "language": "de"}, "language"),
    ],
)
async def test_wrong_requests_are_named(api, path, body, words):
    async with api.client(ALICE) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


async def test_a_bot_whose_models_do_not_write_refuses(sandbox, tmp_path):
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client(ALICE) as client:
        for path, body in (
            (ENHANCE, {"prompt": "a"}),
            (DESCRIBE, {"image": base64.b64encode(picture((64, 64))).decode()}),
            (GENERATE, {"prompt": "a", "enhance": True}),
        ):
            answer = await client.post(path, json=body)
            assert answer.status_code == 422
            assert "None of this bot's models writes" in answer.json()["detail"]
