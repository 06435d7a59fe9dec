"""Pictures that come in: by option, by direct message, by a message's menu."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bot.jobs.compose import DEFAULT_STRENGTH
from tests.wire.kit import job_id_of, staged, text_of


def png(size=(90, 120), colour="teal", texts=None) -> bytes:
    info = PngInfo()
    for name, text in (texts or {}).items():
        info.add_text(name, text)
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def last_input(stage) -> bytes:
    return stage.engine.requests[-1].input_image.read_bytes()


async def test_an_attached_picture_is_the_start_and_gives_the_shape(stage):
    data = png()
    message = await stage.outcome(await stage.imagine("bob", "in oil", image=("a.png", data)))
    job = await stage.job_of(message)
    assert last_input(stage) == data
    assert (job.request.aspect, job.request.strength) == ("3:4", DEFAULT_STRENGTH)
    assert stage.engine.requests[-1].strength == DEFAULT_STRENGTH
    options = {"image": ("a.png", data), "strength": 0.3, "aspect": "1:1"}
    job = await stage.job_of(await stage.outcome(await stage.imagine("bob", "in oil", **options)))
    assert (job.request.aspect, job.request.strength) == ("1:1", 0.3)


async def test_files_that_are_no_pictures_are_refused_by_name(stage):
    for name, data, words in (
        ("a.txt", b"hello", "cannot use the file a.txt"),
        ("a.png", b"hello, this is no picture", "not a picture that I know"),
    ):
        answer = await (await stage.imagine("bob", "x", image=(name, data))).answer()
        assert answer.ephemeral
        assert words in answer.content.replace("\\", "")
    assert await stage.jobs_made() == 0
    assert not list((stage.app.settings.images_dir / "inputs").glob("*"))


async def test_a_picture_without_a_prompt_asks_for_words(stage):
    bob = stage.sandbox.user("bob")
    answer = await (await bob.slash("general", "imagine", image=("a.png", png()))).answer()
    assert "what to make of the image" in answer.content


async def test_only_discords_own_hosts_are_asked(sandbox, tmp_path, monkeypatch):
    async with staged(sandbox, tmp_path) as stage:
        # As against the real Discord: the sandbox is then any other server.
        stage.app.client.services.fetcher._sandbox = None
        answer = await (await stage.imagine("bob", "x", image=("a.png", png()))).answer()
        assert "could not be fetched" in answer.content
        assert await stage.jobs_made() == 0


async def test_a_picture_in_a_direct_message(stage):
    bob, data = stage.sandbox.user("bob"), png()
    await bob.send("dm", "in oil", [("a.png", data)])
    await stage.sandbox.wait(lambda: stage.visible("bob", "dm"))
    assert last_input(stage) == data
    await bob.send("dm", "", [("a.png", data)])
    await bob.send("dm", "two", [("a.png", data), ("b.png", data)])
    await stage.sandbox.wait(
        lambda: (
            {
                "Say in the same message what to make of the picture.",
                "Please send one picture at a time.",
            }
            <= {m.content for m in bob.messages("dm")}
        )
    )
    assert await stage.jobs_made() == 1


async def test_a_reply_in_a_direct_message_edits_that_picture(stage):
    bob = stage.sandbox.user("bob")
    await bob.send("dm", "a fish")
    await stage.sandbox.wait(lambda: stage.visible("bob", "dm"))
    (first,) = stage.visible("bob", "dm")
    await bob.send("dm", "with a hat", reply_to=first)
    await stage.sandbox.wait(lambda: len(stage.visible("bob", "dm")) == 2)
    second = stage.visible("bob", "dm")[1]
    job = await stage.job_of(second)
    assert (job.request.prompt, job.parent_id) == ("with a hat", job_id_of(first))
    assert last_input(stage) == first.files[0].data


async def test_use_as_input_takes_any_messages_picture(sandbox, tmp_path):
    bob, data = sandbox.user("bob"), png((160, 90))
    async with staged(sandbox, tmp_path) as stage:
        message = await sandbox.user("alice").send("general", "look", [("a.png", data)])
        opened = await bob.context_menu("general", "Use as input", message)
        assert (await opened.response()).modal
        wrong = await bob.submit_modal(opened, {"prompt": "in oil", "strength": "much"})
        assert "a number from 0.05 to 1" in (await wrong.answer()).content
        inputs = stage.app.settings.images_dir / "inputs"
        await asyncio.gather(*stage.app.client.services.gallery._keeping.values())
    async with staged(sandbox, tmp_path) as stage:
        sent = await bob.submit_modal(opened, {"prompt": "in oil", "strength": "0,4"})
        job = await stage.job_of(await stage.outcome(sent))
        assert (job.request.strength, job.request.aspect) == (0.4, "7:4")
        assert last_input(stage) == data
        assert len(list(inputs.glob("*"))) == 1
        again = await (await bob.submit_modal(opened, {"prompt": "x", "strength": "1"})).answer()
        assert "no longer there" in again.content
        bare = await sandbox.user("alice").send("general", "no picture")
        answer = await (await bob.context_menu("general", "Use as input", bare)).answer()
        assert "no picture attached" in answer.content


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"parameters": "a cat\nSteps: 20, Seed: 7"}, "Made with AUTOMATIC1111"),
        ({"prompt": '{"3": {"inputs": {"seed": 9, "text": "a ```dog```"}}}'}, "seed: 9"),
        ({"Title": "x"}, "says nothing about how it was made"),
    ],
)
async def test_show_parameters_reads_the_file(stage, texts, words):
    message = await stage.sandbox.user("alice").send("general", "", [("a.png", png(texts=texts))])
    menu = await stage.sandbox.user("bob").context_menu("general", "Show parameters", message)
    answer = await menu.until(lambda m: bool(m.content))
    assert words in answer.content
    assert answer.content.count("```") in {0, 2}


async def test_the_menus_on_the_bots_own_answer(stage):
    bob = stage.sandbox.user("bob")
    first = await stage.outcome(await stage.imagine("alice", "a fish", seed=5))
    shown = await (await bob.context_menu("general", "Show parameters", first)).answer()
    assert "Seed: 5" in shown.content
    again = await stage.outcome(await bob.context_menu("general", "Reroll", first))
    job = await stage.job_of(again)
    assert (job.request.prompt, job.user_id) == ("a fish", bob.id)
    opened = await bob.context_menu("general", "Use as input", first)
    await opened.response()
    sent = await bob.submit_modal(opened, {"prompt": "in oil", "strength": "0.5"})
    await stage.outcome(sent)
    assert last_input(stage) == first.files[0].data
    other = await stage.sandbox.user("alice").send("general", "not the bot's")
    refused = await (await bob.context_menu("general", "Reroll", other)).answer()
    assert "bot's own pictures" in text_of(refused)
