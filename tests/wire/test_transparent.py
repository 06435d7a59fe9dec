"""Pictures with a transparent background: asked for in Discord, drawn, delivered, drawn again."""

from __future__ import annotations

import io
import json

from PIL import Image

from bot.messages.upload import fit_png
from bot.pictures.texts import read_texts
from cogs.compose import EarlierForm
from tests.wire.kit import staged, text_of

QWEN_21 = "Qwen/Qwen-Image-2.1"
TURBO = "Qwen/Qwen-Image-2.1-Turbo"
WORDS = (
    "This is an RGBA image with transparency. a sticker of a cat. The image has alpha channel and "
    "the background is transparent."
)


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture


def clear_corner(picture: Image.Image) -> bool:
    """Say whether nothing is in the corner, and something in the middle."""
    alpha = picture.getchannel("A")
    middle = picture.width // 2, picture.height // 2
    return (alpha.getpixel((0, picture.height - 1)), alpha.getpixel(middle)) == (0, 255)


def options_of(sandbox, name: str) -> set[str]:
    (command,) = (one for one in sandbox.world.commands.list(None) if one["name"] == name)
    return {option["name"] for option in command["options"]}


async def test_it_stays_transparent_from_the_command_to_each_button(sandbox, tmp_path):
    settings = {"image_model_name": QWEN_21}
    async with staged(sandbox, tmp_path / "data", **settings) as stage:
        alice = sandbox.user("alice")
        assert {"transparent"} <= options_of(sandbox, "imagine") & options_of(sandbox, "compose")
        first = await stage.outcome(
            await stage.imagine("alice", "a sticker of a cat", transparent=True)
        )
        assert first.files[0].filename.endswith(".png")
        picture = opened(first.files[0].data)
        assert picture.mode == "RGBA"
        assert clear_corner(picture)
        texts = read_texts(first.files[0].data).found
        assert texts["parameters"].startswith(f"{WORDS}\n")
        assert ", Background: transparent" in texts["parameters"]
        assert json.loads(texts["request"])["transparent"] is True
        details = (await (await alice.press(first, "Details")).answer()).content
        assert "Transparent background, asked for by: This is an RGBA image" in details
        again = [await stage.outcome(await alice.press(first, b)) for b in ("Reroll", "Vary")]
        again.append(await stage.outcome(await alice.press(first, "Upscale")))
        for message in again:
            assert opened(message.files[0].data).mode == "RGBA"
        form = await alice.press(first, "Remix")
        await form.response()
        edited = await alice.submit_modal(form, {"prompt": "a dog"})
        assert opened((await stage.outcome(edited)).files[0].data).mode == "RGBA"
        assert all(request.transparent for request in stage.engine.requests)
        assert [request.prompt for request in stage.engine.requests[:4]] == [WORDS] * 4
        # What the picture is drawn anew from has its alpha channel.
        begun = [opened(data).mode for data in stage.engine.inputs.values()]
        assert begun == ["RGBA"] * 2
        plain = await stage.outcome(await stage.imagine("alice", "a sticker of a cat"))
        assert opened(plain.files[0].data).mode == "RGB"
        assert stage.engine.requests[-1].prompt == "a sticker of a cat"


async def test_a_model_that_cannot_takes_over_and_says_so(sandbox, tmp_path):
    bob, data = sandbox.user("bob"), tmp_path / "data"
    async with staged(sandbox, data, image_model_name=QWEN_21) as stage:
        first = await stage.outcome(await stage.imagine("bob", "a sticker", transparent=True))
    async with staged(sandbox, data, image_model_name="tiny") as stage:
        pressed = await bob.press(first, "Reroll")
        again = await stage.outcome(pressed)
        await sandbox.wait(lambda: pressed.followups)
        (told,) = pressed.followups
        assert told.content == (
            "Qwen/Qwen-Image-2.1 is no longer offered; this is drawn by tiny. "
            "tiny cannot draw a transparent background."
        )
        job = await stage.job_of(again)
        assert (job.request.width, job.request.height, job.request.steps) == (384, 256, 10)
        details = (await (await bob.press(again, "Details")).answer()).content
        assert "ransparen" not in details


async def test_four_are_transparent_and_a_small_limit_keeps_it(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data", image_model_name=TURBO) as stage:
        message = await stage.outcome(
            await stage.imagine("alice", "a sticker", count=4, transparent=True)
        )
        assert len(message.files) == 4
        assert all(clear_corner(opened(file.data)) for file in message.files)
        record = (await stage.queue.images((await stage.job_of(message)).id))[0]
        png = (stage.app.settings.images_dir / record.file).read_bytes()
    limit = len(png) - 1
    smaller = fit_png(png, "a", "a", limit)
    assert smaller.name == "a.webp"
    assert clear_corner(opened(smaller.data))
    assert clear_corner(opened(fit_png(png, "a", "a", 1).data))


async def test_the_form_keeps_it_and_older_forms_are_still_read(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data", image_model_name=QWEN_21) as stage:
        alice = sandbox.user("alice")
        form = await alice.slash("general", "compose", transparent=True, style="anime")
        await form.response()
        await stage.outcome(await alice.submit_modal(form, {"prompt": "a fox"}))
        (request,) = stage.engine.requests
        assert request.transparent
        assert request.prompt.startswith("This is an RGBA image with transparency. a fox, ")
    old = EarlierForm("1:1||2|||||||anime").asked("a fox", None)
    assert (old.aspect, old.count, old.style, old.transparent) == ("1:1", 2, "anime", None)


async def test_where_no_model_can_the_option_is_not_there(sandbox, tmp_path):
    settings = {"image_models": ["tiny", "tiny-ink"]}
    async with staged(sandbox, tmp_path / "data", **settings):
        for command in ("imagine", "compose"):
            assert "transparent" not in options_of(sandbox, command)
            assert "prompt" in options_of(sandbox, "imagine")


async def test_another_model_says_which_one_can(sandbox, tmp_path):
    settings = {"image_models": [TURBO, QWEN_21]}
    async with staged(sandbox, tmp_path / "data", **settings) as stage:
        for name, sentence in (
            ("bob", f"tiny cannot draw a transparent background; {TURBO}, {QWEN_21} can."),
            ("chen", f"tiny 画不出透明背景，{TURBO}, {QWEN_21} 可以。"),
        ):
            answer = await (await stage.imagine(name, "灯塔", transparent=True)).answer()
            assert answer.ephemeral
            assert sentence in answer.content
            composed = await sandbox.user(name).slash("general", "compose", transparent=True)
            assert sentence in (await composed.answer()).content
        assert await stage.jobs_made() == 0
        plain = await stage.outcome(await stage.imagine("bob", "a house", transparent=False))
        assert text_of(plain)
