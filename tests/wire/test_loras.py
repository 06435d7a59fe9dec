"""LoRAs over the wire: asked for, completed, refused, carried on, and Lightning as `fast`."""

from __future__ import annotations

import io
import json
import os

import pytest
from PIL import Image

from tests.wire.kit import job_id_of, staged, text_of

RULES = "Pixel art=pixel_v2:0.8 (pixel art, 16-bit), *"
EIGHT = "Qwen-Image-Lightning-8steps-V2.0-bf16"
FOUR = "Qwen-Image-2.1-Lightning-4steps-V1.0-bf16"


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "loras"
    folder.mkdir()
    for name in ("pixel_v2", "ink", EIGHT, FOUR):
        (folder / f"{name}.safetensors").touch()
    return folder


@pytest.fixture
async def stage(sandbox, tmp_path, shelf):
    async with staged(
        sandbox, tmp_path / "data", image_lora_path=shelf, image_loras=RULES
    ) as running:
        yield running


def texts_of(message) -> dict[str, str]:
    with Image.open(io.BytesIO(message.files[0].data)) as picture:
        return dict(picture.text)


async def test_a_lora_is_drawn_shown_and_carried_on(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    first = await stage.outcome(
        await stage.imagine("alice", "a boat", lora="PIXEL art", lora_strength=0.5)
    )
    assert "LoRA pixel\\_v2" in text_of(first)
    texts = texts_of(first)
    assert texts["parameters"].startswith("a boat, pixel art, 16-bit <lora:pixel_v2:0.5>\n")
    assert json.loads(texts["request"])["loras"] == ["pixel_v2:0.5"]
    details = (await (await bob.press(first, "Details")).answer()).content
    assert "<lora:pixel_v2:0.5>" in details
    assert "LoRA: `pixel_v2` (0.5)" in details
    rerolled = await stage.outcome(await bob.press(first, "Reroll"))
    varied = await stage.outcome(await bob.press(rerolled, "Vary"))
    opened = await alice.press(varied, "Remix")
    await opened.response()
    edited = await stage.outcome(await alice.submit_modal(opened, {"prompt": "a ship"}))
    assert "LoRA pixel\\_v2" in text_of(edited)
    assert [r.loras for r in stage.engine.requests] == [(("pixel_v2", 0.5),)] * 4
    assert {r.shift for r in stage.engine.requests} == {None}
    assert stage.engine.requests[-1].prompt == "a ship, pixel art, 16-bit"


@pytest.mark.slow
async def test_names_are_completed_and_unknown_ones_are_told(stage, shelf):
    bob = stage.sandbox.user("bob")

    async def offered(text: str) -> list[str]:
        found = await bob.autocomplete("general", "imagine", "lora", prompt="x", lora=text)
        assert all(choice["name"] == choice["value"] for choice in found)
        return [choice["value"] for choice in found]

    assert await offered("") == ["Pixel art", "ink"]
    assert await offered("16-BIT") == ["Pixel art"]
    assert await offered("zebra") == []
    for options, words in (
        ({"lora": "zebra"}, "There is no LoRA of that name; there are: `Pixel art`, `ink`."),
        ({"lora_strength": 0.5}, "Choose a LoRA"),
    ):
        for command, prompt in (("imagine", {"prompt": "x"}), ("compose", {})):
            answer = await (await bob.slash("general", command, **prompt, **options)).answer()
            assert answer.ephemeral
            assert words in answer.content
    assert await stage.jobs_made() == 0
    for number in range(40):
        (shelf / f"style {number:02}.safetensors").touch()
    os.utime(shelf)
    stage.app.client.services.loras.clock = lambda: 1e12
    assert len(await offered("style")) == 25


@pytest.mark.slow
async def test_the_form_remembers_the_lora(stage):
    alice = stage.sandbox.user("alice")
    options = {"lora": "Pixel art", "lora_strength": -1.5, "style": "anime", "steps": 3}
    opened = await alice.slash("general", "compose", **options)
    await opened.response()
    message = await stage.outcome(await alice.submit_modal(opened, {"prompt": "a boat"}))
    job = await stage.job_of(message)
    assert job.request.loras == ("pixel_v2:-1.5",)
    assert (job.request.style, job.request.steps) == ("anime", 3)


@pytest.mark.slow
async def test_without_any_the_option_says_why(sandbox, tmp_path):
    for settings, words in (
        ({"image_lora_path": tmp_path / "nowhere"}, "there are none"),
        ({"image_offload": "stock"}, "IMAGE_OFFLOAD=stream only"),
    ):
        async with staged(sandbox, tmp_path / "data", **settings) as stage:
            answer = await (await stage.imagine("bob", "x", lora="ink")).answer()
            assert answer.ephemeral
            assert words in answer.content
            await stage.outcome(await stage.imagine("bob", "x", lora="none"))


@pytest.mark.slow
async def test_a_lightning_file_draws_what_is_fast(sandbox, tmp_path, shelf):
    settings = {"image_model_name": "Qwen/Qwen-Image", "image_lora_path": shelf}
    async with staged(sandbox, tmp_path / "data", **settings) as stage:
        alice = stage.sandbox.user("alice")
        first = await stage.outcome(
            await stage.imagine("alice", "a boat", quality="fast", lora="ink", negative="fog")
        )
        again = await stage.outcome(await alice.press(first, "Reroll"))
        for message, drawn in zip((first, again), stage.engine.requests, strict=True):
            assert drawn.loras == ((EIGHT, 1.0), ("ink", 1.0))
            assert (drawn.steps, drawn.guidance, drawn.shift) == (8, 1.0, 3.0)
            assert "Shift: 3" in texts_of(message)["parameters"]
            assert "LoRA ink" in text_of(message)
            assert EIGHT not in text_of(message)
        details = (await (await alice.press(again, "Details")).answer()).content
        assert f"Drawn fast, with `{EIGHT}`" in details
        assert "LoRA: `ink` (1)" in details
        assert "the negative prompt has no effect" in details
        standard = await stage.outcome(await stage.imagine("alice", "a boat"))
        assert (await stage.job_of(standard)).request.shift is None
    async with staged(sandbox, tmp_path / "data", **settings, image_quality_fast="12:3") as stage:
        message = await stage.outcome(await stage.imagine("alice", "a boat", quality="fast"))
        request = (await stage.queue.job(job_id_of(message))).request
        assert (request.steps, request.guidance, request.loras) == (12, 3.0, ())


@pytest.mark.slow
async def test_of_several_models_each_is_fast_with_its_own_lightning_file(sandbox, tmp_path, shelf):
    newest = "Qwen/Qwen-Image-2.1"
    settings = {"image_model_name": "Qwen/Qwen-Image", "image_models": newest}
    async with staged(sandbox, tmp_path / "data", image_lora_path=shelf, **settings) as stage:
        for model, file, steps, shift in ((newest, FOUR, 4, 1.0), (None, EIGHT, 8, 3.0)):
            asked = {} if model is None else {"model": model}
            message = await stage.outcome(
                await stage.imagine("alice", "a boat", quality="fast", **asked)
            )
            drawn = stage.engine.requests[-1]
            assert drawn.loras == ((file, 1.0),)
            assert (drawn.steps, drawn.guidance, drawn.shift) == (steps, 1.0, shift)
            assert f"Shift: {shift:g}" in texts_of(message)["parameters"]
            details = await (await stage.sandbox.user("alice").press(message, "Details")).answer()
            assert f"Drawn fast, with `{file}`" in details.content


@pytest.mark.slow
async def test_buttons_of_a_picture_whose_lora_is_gone_say_so_at_once(stage, shelf):
    alice = stage.sandbox.user("alice")
    first = await stage.outcome(await stage.imagine("alice", "a boat", lora="ink"))
    opened = await alice.press(first, "Remix")
    await opened.response()
    (shelf / "ink.safetensors").unlink()
    stage.app.client.services.loras.clock = lambda: 1e12
    for asked in (
        *[await alice.press(first, button) for button in ("Reroll", "Vary")],
        await alice.submit_modal(opened, {"prompt": "a ship"}),
    ):
        answer = await asked.answer()
        assert answer.ephemeral
        assert "made with the LoRA `ink`, which is not there now" in answer.content
    assert await stage.jobs_made() == 1
    plain = await stage.outcome(await stage.imagine("alice", "a boat"))
    await stage.outcome(await alice.press(plain, "Reroll"))
