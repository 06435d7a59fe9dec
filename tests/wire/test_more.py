"""The menu More over the wire: what lies around a picture, and the step before."""

from __future__ import annotations

import pytest

from bot.sandbox.scene import GUILD_ID
from tests.wire.kit import controls, is_outcome, job_id_of, staged, text_of

BOTH = {"image_models": "tiny-edit"}


@pytest.fixture
async def stage(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data", **BOTH) as running:
        yield running


async def drawn(stage, name="alice", **options):
    return await stage.outcome(await stage.imagine(name, "a house", **options))


async def chosen(stage, name, message, value):
    """Choose in the menu More of a message."""
    (menu,) = [one for one in controls(message) if one.startswith("more:")]
    return await stage.sandbox.user(name).select(message, menu, value)


async def result(stage, used):
    message = await stage.outcome(used)
    job = await stage.job_of(message)
    (asked,) = [one for one in stage.engine.requests if one.job_id == job.id]
    return message, job, asked


@pytest.mark.slow
async def test_zoom_out_draws_around_the_picture_and_again_with_reroll(stage):
    first = await drawn(stage, aspect="1:1", quality="standard")
    message, job, asked = await result(stage, await chosen(stage, "bob", first, "zoom20"))
    assert (asked.place, asked.width, asked.height) == ((64, 64, 128, 128), 256, 256)
    assert (asked.prompt, asked.strength, asked.references) == ("a house", None, ())
    assert stage.engine.inputs[job.id] == first.files[0].data
    assert (job.parent_id, job.user_id) == (job_id_of(first), stage.sandbox.user("bob").id)
    again = await stage.sandbox.user("alice").press(message, "Reroll")
    _, other, repeated = await result(stage, again)
    assert repeated.place == asked.place
    assert stage.engine.inputs[other.id] == first.files[0].data
    details = await stage.sandbox.user("bob").press(message, "Details")
    assert "which is 128x128 in it" in text_of(await details.answer())


async def test_other_shapes(stage):
    first = await drawn(stage, aspect="1:1")
    refused = await chosen(stage, "bob", first, "square")
    assert "that shape already" in text_of(await refused.answer())
    _, _, asked = await result(stage, await chosen(stage, "bob", first, "wide"))
    assert (asked.place, asked.width, asked.height) == ((64, 0, 256, 256), 384, 256)
    _, _, asked = await result(stage, await chosen(stage, "bob", first, "tall"))
    assert (asked.place, asked.width, asked.height) == ((0, 64, 256, 256), 256, 384)


async def test_panning_goes_on_at_one_side(stage):
    first = await drawn(stage, aspect="1:1")
    message, _, asked = await result(stage, await chosen(stage, "bob", first, "panleft"))
    assert (asked.place, asked.width, asked.height) == ((128, 0, 256, 256), 384, 256)
    _, _, asked = await result(stage, await chosen(stage, "alice", message, "pandown"))
    assert asked.place[:2] == (0, 0)
    assert (asked.width, asked.height > asked.place[3]) == (asked.place[2], True)


async def test_of_an_edit_it_is_an_edit(stage):
    await drawn(stage, aspect="1:1")
    used = await stage.sandbox.user("alice").slash("general", "edit", instruction="make it night")
    first = await stage.outcome(used)
    _, job, asked = await result(stage, await chosen(stage, "alice", first, "zoom15"))
    assert asked.prompt.startswith("Continue the picture")
    assert (job.model, asked.place is not None) == ("tiny-edit", True)
    data = first.files[0].data
    assert (stage.engine.references[job.id], stage.engine.inputs[job.id]) == ([data], data)


async def test_undo_brings_the_step_before_into_view_for_who_asks(stage):
    first = await drawn(stage)
    assert "undo" not in str(first.components)
    used = await stage.sandbox.user("alice").press(first, "Vary")
    second = await stage.outcome(used)
    undone = await chosen(stage, "bob", second, "undo")
    shown = await undone.until(is_outcome)
    assert (shown.ephemeral, job_id_of(shown)) == (True, job_id_of(first))
    assert shown.files[0].data == first.files[0].data
    # It goes on from there, and there is nothing to undo any more.
    assert "undo" not in str(shown.components)
    await stage.outcome(await stage.sandbox.user("bob").press(shown, "Vary"))


async def test_undo_tells_where_the_step_before_is_gone_or_not_for_them(stage):
    alice = stage.sandbox.user("alice")
    hidden = await stage.outcome(await stage.imagine("alice", "a secret", private=True))
    varied = await stage.outcome(await alice.press(hidden, "Vary"))
    shown = await drawn(stage)
    second = await stage.outcome(await alice.press(shown, "Vary"))
    (menu,) = [item for item in second.controls if str(item["custom_id"]).startswith("more:")]
    menu["custom_id"] = f"more:{job_id_of(varied)}"
    refused = await stage.sandbox.user("bob").select(second, menu["custom_id"], "undo")
    assert "private" in text_of(await refused.answer())
    menu["custom_id"] = f"more:{job_id_of(second)}"
    await (await alice.press(shown, "Delete")).response()
    told = await chosen(stage, "bob", second, "undo")
    assert "was deleted" in text_of(await told.answer())


async def test_a_step_in_another_server_stays_there_but_for_its_user(stage):
    first = await drawn(stage)
    second = await stage.outcome(await stage.sandbox.user("alice").press(first, "Vary"))
    elsewhere = "UPDATE jobs SET guild_id = 5 WHERE id = ?"
    await stage.database.write(lambda tx: tx.execute(elsewhere, (job_id_of(first),)))
    undone = await chosen(stage, "bob", second, "undo")
    assert "made elsewhere" in text_of(await undone.answer())
    for name, told in (("alice", True), ("bob", False)):
        pressed = await stage.sandbox.user(name).press(second, "Details")
        assert ("discord.com/channels/5/" in (await pressed.answer()).content) is told, name
    shown = await (await chosen(stage, "alice", second, "undo")).until(is_outcome)
    assert job_id_of(shown) == job_id_of(first)


async def test_a_servers_rule_holds_for_what_is_around_a_picture_too(stage):
    first = await drawn(stage)
    alice = stage.sandbox.user("alice")
    await (await alice.slash("general", "admin edit allow", role=GUILD_ID, pictures="own")).answer()
    refused = await chosen(stage, "bob", first, "zoom20")
    assert "only your own" in text_of(await refused.answer())
    await result(stage, await chosen(stage, "alice", first, "zoom20"))


async def test_details_show_the_steps_with_links(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    first = await drawn(stage)
    used = await alice.slash("general", "edit", instruction="make it night")
    second = await stage.outcome(used)
    third = await stage.outcome(await chosen(stage, "bob", second, "zoom15"))
    told = text_of(await (await bob.press(third, "Details")).answer())
    place = f"https://discord.com/channels/{GUILD_ID}/{first.channel.id}"
    assert f"1. a house · [the message]({place}/{first.id})\n2. make it night" in told
    assert f"({place}/{second.id})" in told
    await (await alice.press(first, "Delete")).response()
    told = text_of(await (await bob.press(third, "Details")).answer())
    assert "1. a deleted picture\n2. make it night" in told


async def test_details_tell_nothing_of_anothers_private_step(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    hidden = await stage.outcome(await stage.imagine("alice", "a secret", private=True))
    shown = await stage.outcome(await stage.imagine("alice", "a boat"))
    # As a job of an earlier version may have it.
    link = "UPDATE jobs SET parent_id = ? WHERE id = ?"
    ids = (job_id_of(hidden), job_id_of(shown))
    await stage.database.write(lambda tx: tx.execute(link, ids))
    told = text_of(await (await bob.press(shown, "Details")).answer())
    assert "1. a private picture" in told
    assert "secret" not in told
    told = text_of(await (await alice.press(shown, "Details")).answer())
    assert f"1. a secret · `{ids[0]}`" in told


async def test_history_shows_a_picture_with_what_was_made_of_it(stage):
    alice = stage.sandbox.user("alice")
    await drawn(stage)
    first = await stage.outcome(await stage.imagine("alice", "a boat"))
    await stage.outcome(await alice.press(first, "Vary"))
    await stage.outcome(await chosen(stage, "alice", first, "wide"))
    page = await (await alice.slash("general", "history")).until(lambda m: bool(m.files))
    lines = page.content.splitlines()[1:]
    assert ["(from 3)" in line for line in lines] == [True, True, False, False]
    (menu,) = [one for one in page.controls if one["custom_id"] == "family:history"]
    assert [one["label"] for one in menu["options"]] == ["a boat"]
    turned = await alice.select(page, "family:history", menu["options"][0]["value"])
    await turned.until(lambda m: "Made from one picture" in m.content)
    lines = page.content.splitlines()[1:]
    assert ["(from 1)" in line for line in lines] == [False, True, True]
    assert "family:history" not in controls(page)
