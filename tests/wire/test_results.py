"""The controls under an answer, over the wire, also after a restart of the bot."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from bot.jobs.derive import UPSCALE_STRENGTH, VARY_STRENGTH
from tests.wire.kit import controls, job_id_of, staged, text_of


def labels(message) -> list[str]:
    return [str(item.get("label") or item.get("placeholder")) for item in message.controls]


def pixels(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size


async def test_an_answer_has_its_controls_and_says_for_whom_it_is(stage):
    message = await stage.outcome(await stage.imagine("bob", "a fish", seed=5))
    assert labels(message) == ["Reroll", "Vary", "Edit", "Upscale", "Details", "Delete"]
    assert f"<@{stage.sandbox.user('bob').id}>" in text_of(message)
    assert "seed 5" in message.embeds[0]["footer"]["text"]
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
    assert f"made from `{parent.id}`" in text_of(message)


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
    refusal = await (await alice.press(large, "Upscale")).answer()
    assert refusal.ephemeral
    assert "as large as the model can draw: 512x512" in refusal.content


async def test_edit_opens_the_prompt_in_a_form(sandbox, tmp_path):
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path) as stage:
        first = await stage.outcome(await stage.imagine("alice", "a fish", negative="fog"))
        opened = await bob.press(first, "Edit")
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


async def test_a_batch_is_one_grid_and_pictures_are_taken_out(sandbox, tmp_path):
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path) as stage:
        message = await stage.outcome(await stage.imagine("alice", "a fish", count=3, seed=5))
        assert labels(message) == ["Take one out", "Reroll", "Edit", "Details", "Delete"]
        assert pixels(message.files[0].data) == (520, 520)
    async with staged(sandbox, tmp_path) as stage:
        taken = await bob.select(message, f"pick:{job_id_of(message)}", "2")
        single = await taken.until(lambda m: bool(m.files))
        assert single.files[0].filename == f"{job_id_of(message)}_2.png"
        assert "seed 7" in single.embeds[0]["footer"]["text"]
        target = f"{job_id_of(message)}.2"
        assert controls(single) == [f"{a}:{target}" for a in ("vary", "upscale", "details")]
        large = await stage.outcome(await bob.press(single, "Upscale"))
        assert (await stage.job_of(large)).request.seed == 7
        varied = await stage.outcome(await bob.press(single, "Vary"))
        assert (await stage.job_of(varied)).request.count == 1
        details = await (await bob.press(single, "Details")).answer()
        assert "Seed: 7" in details.content


@pytest.mark.parametrize("who", ["bob", "alice"])
async def test_delete_by_its_owner_or_a_moderator(stage, who):
    first = await stage.outcome(await stage.imagine("bob", "a fish"))
    varied = await stage.outcome(await stage.sandbox.user("bob").press(first, "Vary"))
    job = await stage.job_of(varied)
    store = stage.app.client.services.cards._store
    (image,) = await stage.queue.images(job.id)
    refusal = await (await stage.sandbox.user("mallory").press(varied, "Delete")).answer()
    assert "Only the one who asked" in refusal.content
    assert store.path(image).exists()
    await stage.sandbox.user(who).press(varied, "Delete")
    await stage.sandbox.wait(lambda: varied.deleted)
    assert not store.path(image).exists()
    assert not store.inputs.path(job.id).exists()
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
    taken = await bob.select(first, f"pick:{job_id_of(first)}", "1")
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
        orphan = await store.inputs.keep("0" * 18, b"never accepted")
    async with staged(sandbox, tmp_path) as stage:
        assert not store.path(image).exists()
        assert not await stage.queue.images(job_id)
        assert not (store.root / "inputs" / orphan).exists()


async def test_a_private_picture_is_used_by_its_owner_alone(stage):
    message = await stage.outcome(await stage.imagine("bob", "a fish"))
    await stage.database.write(
        lambda tx: tx.execute(
            "UPDATE jobs SET request = json_set(request, '$.private', json('true'))"
        )
    )
    for button in ("Reroll", "Vary", "Edit", "Upscale", "Details"):
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
