"""The controls under an answer, over the wire, also after a restart of the bot."""

from __future__ import annotations

import io

import discord
import pytest
from PIL import Image

from bot.jobs.derive import UPSCALE_STRENGTH, VARY_STRENGTH
from bot.sandbox.layouts import ROW
from storage.input_pictures import GivenInputs
from tests.wire.kit import byline_of, controls, gallery_of, job_id_of, staged, text_of


def labels(message) -> list[str]:
    return [str(item.get("label") or item.get("placeholder")) for item in message.controls]


def pixels(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size


async def press_old(stage, name: str, custom_id: str):
    """Press a button that the bot has no longer under such a message."""
    view = discord.ui.View(timeout=None)
    view.add_item(discord.ui.Button(label="old", custom_id=custom_id))
    person = stage.sandbox.user(name)
    channel = stage.app.client.get_partial_messageable(person.place("general").id)
    posted = await channel.send("controls", view=view)
    view.stop()
    (message,) = [m for m in person.messages("general") if m.id == posted.id]
    return await person.press(message, custom_id)


async def test_an_answer_has_its_controls_and_says_for_whom_it_is(stage):
    message = await stage.outcome(await stage.imagine("bob", "a fish", seed=5))
    row = ["Edit", "Reroll", "Vary", "Remix", "Upscale", "Details", "Delete", "More"]
    assert labels(message) == row
    assert f"<@{stage.sandbox.user('bob').id}>" in text_of(message)
    assert message.files[0].description == "a fish"


async def test_vary_starts_from_the_picture(stage):
    first = await stage.outcome(await stage.imagine("alice", "a fish", aspect="3:4"))
    parent = await stage.job_of(first)
    press = await stage.sandbox.user("bob").press(first, "Vary")
    message = await stage.outcome(press)
    job = await stage.job_of(message)
    assert (job.parent_id, job.request.strength) == (parent.id, VARY_STRENGTH)
    assert job.request.seed != parent.request.seed
    assert (job.request.width, job.request.height) == (256, 336)
    (drawn,) = [request for request in stage.engine.requests if request.job_id == job.id]
    assert stage.engine.inputs[drawn.job_id] == first.files[0].data
    assert byline_of(message)[1] == "varied"


async def test_a_reroll_of_a_variation_starts_from_the_same_picture(stage):
    first = await stage.outcome(await stage.imagine("alice", "a fish"))
    varied = await stage.outcome(await stage.sandbox.user("alice").press(first, "Vary"))
    again = await stage.outcome(await stage.sandbox.user("alice").press(varied, "Reroll"))
    assert again.files
    assert stage.engine.inputs[stage.engine.requests[-1].job_id] == first.files[0].data


async def test_upscale_draws_it_twice_as_large_until_it_is_as_large_as_can_be(stage):
    alice = stage.sandbox.user("alice")
    first = await stage.outcome(await stage.imagine("alice", "a fish", seed=7))
    large = await stage.outcome(await alice.press(first, "Upscale"))
    assert pixels(large.files[0].data) == (512, 512)
    job = await stage.job_of(large)
    assert (job.request.seed, job.request.strength) == (7, UPSCALE_STRENGTH)
    # Messages of earlier versions offer it all the same.
    refusal = await (await press_old(stage, "alice", f"upscale:{job.id}")).answer()
    assert refusal.ephemeral
    assert "as large as the model can draw: 512x512" in refusal.content


async def test_edit_opens_the_prompt_in_a_form(sandbox, tmp_path):
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path) as stage:
        first = await stage.outcome(await stage.imagine("alice", "a fish", negative="fog"))
        opened = await bob.press(first, "Remix")
        modal = (await opened.response()).modal
        assert "a fish" in str(modal.components)
        assert "fog" in str(modal.components)
    async with staged(sandbox, tmp_path) as stage:
        sent = await bob.submit_modal(opened, {"prompt": "a cat\nwith a hat", "negative": ""})
        message = await stage.outcome(sent)
        job = await stage.job_of(message)
        assert job.request.prompt == "a cat\nwith a hat"
        assert not job.request.negative_prompt
        assert job.user_id == bob.id
        assert job.parent_id == job_id_of(first)


async def test_details_are_those_of_the_png(stage):
    prompt = "a fish ``` @everyone <@1>"
    first = await stage.outcome(await stage.imagine("alice", prompt, seed=5))
    answer = await (await stage.sandbox.user("bob").press(first, "Details")).answer()
    assert answer.ephemeral
    assert answer.content.count("```") == 2
    with Image.open(io.BytesIO(first.files[0].data)) as picture:
        parameters = picture.text["parameters"]
    settings = parameters.splitlines()[-1]
    assert "Seed: 5" in settings
    assert settings in answer.content
    assert job_id_of(first) in answer.content


async def test_long_details_come_as_a_file(stage):
    first = await stage.outcome(await stage.imagine("alice", "ab " * 1300))
    answer = await (await stage.sandbox.user("alice").press(first, "Details")).answer()
    assert answer.files[0].filename.endswith(".txt")
    assert ("ab " * 1300).strip() in answer.files[0].data.decode()


async def test_a_batch_is_a_gallery_and_pictures_are_taken_out(sandbox, tmp_path):
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path) as stage:
        message = await stage.outcome(await stage.imagine("alice", "a fish", count=3, seed=5))
        (box,) = message.components
        rows = [
            [item["label"] for item in part["components"]]
            for part in box["components"]
            if part["type"] == ROW
        ]
        assert rows == [
            *(["U1", "U2", "U3"], ["V1", "V2", "V3"], ["1", "2", "3"]),
            ["Reroll", "Remix", "Details", "Delete"],
        ]
        assert [pixels(file.data) for file in message.files] == [(256, 256)] * 3
        assert len(gallery_of(message)) == 3
    async with staged(sandbox, tmp_path) as stage:
        taken = await bob.press(message, f"pick:{job_id_of(message)}.2")
        single = await taken.until(lambda m: bool(m.files))
        assert single.files[0].filename == f"{job_id_of(message)}_2.png"
        job = await stage.job_of(message)
        assert byline_of(single)[1] == "3 of 3"
        assert byline_of(single)[-1] == f"{job.timings['total'] / 3:.1f} s"
        target = f"{job_id_of(message)}.2"
        actions = ("instruct", "reroll", "vary", "edit", "upscale", "details", "delete", "more")
        assert controls(single) == [f"{action}:{target}" for action in actions]
        large = await stage.outcome(await bob.press(single, "Upscale"))
        assert (await stage.job_of(large)).request.seed == 7
        varied = await stage.outcome(await bob.press(single, "Vary"))
        assert (await stage.job_of(varied)).request.count == 1
        details = await (await bob.press(single, "Details")).answer()
        assert "Seed: 7" in details.content
        again = await stage.outcome(await bob.press(single, "Reroll"))
        assert (await stage.job_of(again)).request.count == 1
        opened = await bob.press(single, "Remix")
        assert "'7'" in str((await opened.response()).modal.components)
        remixed = await stage.outcome(await bob.submit_modal(opened, {"prompt": "a cat"}))
        assert (await stage.job_of(remixed)).request.count == 1


async def test_one_press_under_a_grid_enlarges_or_varies_a_picture(stage):
    bob = stage.sandbox.user("bob")
    message = await stage.outcome(await stage.imagine("alice", "a fish", count=4, seed=5))
    large = await stage.outcome(await bob.press(message, "U2"))
    job = await stage.job_of(large)
    assert (job.request.seed, job.request.count, job.parent_id) == (6, 1, job_id_of(message))
    assert pixels(large.files[0].data) == (512, 512)
    # It is as large as can be, so nothing offers more.
    assert "Upscale" not in labels(large)
    varied = await stage.outcome(await bob.press(message, "V4"))
    assert (await stage.job_of(varied)).request.count == 1
    # The whole batch is what its message is about, whatever stands above.
    details = await (await bob.press(message, "Details")).answer()
    assert "Seed: 5" in details.content


async def test_a_draft_is_four_quick_pictures_and_one_is_finished(stage):
    bob, spec = stage.sandbox.user("bob"), stage.app.settings.model
    full, few = (spec.qualities[name].steps for name in ("standard", "fast"))
    message = await stage.outcome(await stage.imagine("alice", "a fish", draft=True, seed=5))
    request = (await stage.job_of(message)).request
    assert (request.count, request.steps, request.quality) == (4, few, "fast")
    done = await stage.outcome(await bob.press(message, f"finish:{job_id_of(message)}.3"))
    request = (await stage.job_of(done)).request
    assert (request.count, request.steps, request.seed) == (1, full, 8)
    assert request.prompt == "a fish"
    assert request.input_image is None
    assert "Finish" not in labels(done)
    alone = await stage.outcome(await stage.imagine("alice", "a fish", quality="fast"))
    assert "Finish" in labels(alone)


@pytest.mark.parametrize(("name", "may"), [("bob", True), ("alice", True), ("mallory", False)])
async def test_a_picture_that_was_taken_out_is_taken_away_alone(stage, name, may):
    bob = stage.sandbox.user("bob")
    batch = await stage.outcome(await stage.imagine("chen", "a fish", count=2))
    taken = await bob.press(batch, f"pick:{job_id_of(batch)}.1")
    single = await taken.until(lambda m: bool(m.files))
    pressed = await stage.sandbox.user(name).press(single, "Remove")
    if may:
        await stage.sandbox.wait(lambda: single.deleted)
    else:
        assert "can remove it" in (await pressed.answer()).content
    assert single.deleted is may
    assert not batch.deleted
    assert len(await stage.queue.images(job_id_of(batch))) == 2


@pytest.mark.parametrize("who", ["bob", "alice"])
async def test_delete_by_its_owner_or_a_moderator(stage, who):
    first = await stage.outcome(await stage.imagine("bob", "a fish"))
    varied = await stage.outcome(await stage.sandbox.user("bob").press(first, "Vary"))
    job = await stage.job_of(varied)
    store = stage.app.client.services.cards._store
    (image,) = await stage.queue.images(job.id)
    refusal = await (await stage.sandbox.user("mallory").press(varied, "Delete")).answer()
    assert "Only the person who asked" in refusal.content
    assert store.path(image).exists()
    await stage.sandbox.user(who).press(varied, "Delete")
    await stage.sandbox.wait(lambda: varied.deleted)
    assert not store.path(image).exists()
    assert job.id not in store.inputs.job_ids()
    assert not await stage.queue.images(job.id)
    audited = await stage.database.read(
        lambda tx: tx.value("SELECT count(*) FROM audit WHERE action = 'delete'")
    )
    assert audited == (who == "alice")
    charged = await stage.database.read(lambda tx: tx.value("SELECT sum(images) FROM usage"))
    assert charged == 2
    shown = await (await stage.sandbox.user("bob").slash("general", "show", job=job.id)).answer()
    assert "deleted" in text_of(shown)


async def test_other_messages_of_a_deleted_job_answer_with_a_sentence(stage):
    bob = stage.sandbox.user("bob")
    first = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
    taken = await bob.press(first, f"pick:{job_id_of(first)}.1")
    single = await taken.until(lambda m: bool(m.files))
    await bob.press(first, "Delete")
    await stage.sandbox.wait(lambda: first.deleted and single.deleted)
    first = await stage.outcome(await stage.imagine("bob", "a fish"))
    # Nobody but Discord can delete what only its user sees.
    again = await bob.slash("general", "show", job=job_id_of(first))
    shown = await again.until(lambda m: bool(m.files))
    await bob.press(first, "Delete")
    await stage.sandbox.wait(lambda: first.deleted)
    for button in ("Vary", "Upscale", "Details"):
        answer = await (await bob.press(shown, button)).answer()
        assert answer.ephemeral
        assert answer.content == "This picture was deleted."


async def test_a_deletion_that_a_crash_cut_short_is_finished(sandbox, tmp_path):
    async with staged(sandbox, tmp_path) as stage:
        message = await stage.outcome(await stage.imagine("bob", "a fish"))
        job_id = job_id_of(message)
        store = stage.app.client.services.cards._store
        (image,) = await stage.queue.images(job_id)
        await stage.database.write(lambda tx: tx.execute("UPDATE jobs SET deleted_at = 1"))
        orphan = await store.inputs.keep("0" * 18, GivenInputs(b"never accepted"))
    async with staged(sandbox, tmp_path) as stage:
        assert not store.path(image).exists()
        assert not await stage.queue.images(job_id)
        assert orphan.input_image not in {file.name for file in store.inputs.files()}


async def test_a_private_picture_is_used_by_its_owner_alone(stage):
    message = await stage.outcome(await stage.imagine("bob", "a fish"))
    await stage.database.write(
        lambda tx: tx.execute(
            "UPDATE jobs SET request = json_set(request, '$.private', json('true'))"
        )
    )
    for button in ("Reroll", "Vary", "Remix", "Upscale", "Details"):
        answer = await (await stage.sandbox.user("mallory").press(message, button)).answer()
        assert answer.ephemeral
        assert "private" in answer.content


async def test_delete_under_show_takes_the_answer_in_the_channel_too(stage):
    bob = stage.sandbox.user("bob")
    answer = await stage.outcome(await stage.imagine("bob", "a fish"))
    await stage.delivered(job_id_of(answer))
    shown = await bob.slash("art", "show", job=job_id_of(answer))
    copy = await shown.until(lambda m: bool(m.files))
    await bob.press(copy, "Delete")
    await stage.sandbox.wait(lambda: copy.deleted and answer.deleted)
