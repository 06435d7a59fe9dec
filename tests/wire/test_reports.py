"""Reports over the wire: filed with what moderators need, once, and acted on by moderators alone."""

from __future__ import annotations

import pytest

from bot.sandbox.errors import Refusal
from tests.wire.kit import controls, job_id_of, soon, text_of

pytestmark = pytest.mark.slow


async def choose(stage, **options):
    alice = stage.sandbox.user("alice")
    return await (await alice.slash("general", "admin moderation reports", **options)).answer()


@pytest.fixture
async def moderated(stage):
    """A server whose reports go to #art."""
    art = stage.sandbox.user("alice").place("art").id
    assert f"<#{art}>" in (await choose(stage, where=art)).content
    return stage


async def report(stage, name, message, reason="", channel="general"):
    """Report a message; return what the reporter is told."""
    person = stage.sandbox.user(name)
    menu = await person.context_menu(channel, "Report", message)
    response = await menu.response()
    if response.modal is None:
        return response.message.content
    sent = await person.submit_modal(menu, {"reason": reason})
    return (await sent.answer()).content


def filed(stage):
    return [m for m in stage.sandbox.user("alice").messages("art") if "rdelete" in str(controls(m))]


async def test_a_report_tells_moderators_what_they_need_and_pings_nobody(moderated):
    stage = moderated
    bob = stage.sandbox.user("bob")
    message = await stage.outcome(await stage.imagine("bob", "@everyone a *fish*", seed=7))
    told = await report(stage, "mallory", message, "it bites <@&1> @everyone")
    assert "Reported to the moderators" in told
    (told,) = filed(stage)
    text = str(told.embeds)
    for part in (f"<@{bob.id}>", f"/{message.id})", "Seed: 7", "it bites", job_id_of(message)):
        assert part in text
    assert not told.mentions
    assert not told.mention_everyone
    assert "already" in await report(stage, "mallory", message)
    # A second reporter is added to the same message.
    assert "Reported" in await report(stage, "alice", message, "too sharp")
    (told,) = filed(stage)
    assert "too sharp" in str(told.embeds[0]["fields"])
    assert "it bites" in str(told.embeds[0]["fields"])


async def test_moderators_delete_and_block_from_the_report_and_nobody_else(moderated):
    stage = moderated
    alice, bob, mallory = (stage.sandbox.user(name) for name in ("alice", "bob", "mallory"))
    batch = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
    job_id = job_id_of(batch)
    taken = await (await bob.press(batch, f"pick:{job_id}.1")).answer()
    await report(stage, "mallory", taken)
    (told,) = filed(stage)
    for label in ("Delete the picture", "Block the user"):
        refused = await (await mallory.press(told, label)).answer()
        assert "Only people with" in refused.content
        assert refused.ephemeral
    assert not batch.deleted
    await (await alice.press(told, "Delete the picture")).until(
        lambda m: "Deleted by" in text_of(m)
    )
    await stage.sandbox.world.events.wait(lambda: batch.deleted and taken.deleted)
    assert not list(stage.app.settings.images_dir.glob("2*/*/*/*.png"))
    assert told.control("Delete the picture")["disabled"]
    await (await alice.press(told, "Block the user")).until(lambda m: "Blocked by" in text_of(m))
    assert "Deleted by" in text_of(told)
    refused = await (await stage.imagine("bob", "again")).answer()
    assert "cannot use the bot" in refused.content
    audited = await stage.database.read(lambda tx: tx.all("SELECT action FROM audit ORDER BY id"))
    assert [row[0] for row in audited][-2:] == ["delete", "block"]
    gone = await (await bob.slash("dm", "show", job=job_id)).answer()
    assert "deleted" in gone.content


async def test_what_two_moderators_do_at_the_same_time_is_both_noted(moderated):
    """Each has pressed on the message as it was before the other."""
    stage = moderated
    alice = stage.sandbox.user("alice")
    message = await stage.outcome(await stage.imagine("bob", "a fish"))
    await report(stage, "mallory", message)
    (told,) = filed(stage)
    held = stage.sandbox.faults.hold("POST", "/interactions/*/callback")
    await alice.press(told, "Delete the picture")
    await soon(held.reached.wait())
    await (await alice.press(told, "Block the user")).until(lambda m: "Blocked by" in text_of(m))
    held.release()
    await stage.sandbox.wait(lambda: "Deleted by" in text_of(told))
    assert text_of(told).count("Blocked by") == 1
    assert told.control("Delete the picture")["disabled"]
    assert told.control("Block the user")["disabled"]


async def test_what_was_done_outlives_the_next_report(moderated):
    stage = moderated
    alice = stage.sandbox.user("alice")
    message = await stage.outcome(await stage.imagine("bob", "a fish with ``` in it"))
    await report(stage, "mallory", message)
    (told,) = filed(stage)
    await (await alice.press(told, "Block the user")).until(lambda m: "Blocked by" in text_of(m))
    assert "Reported" in await report(stage, "alice", message, "too sharp")
    (told,) = filed(stage)
    assert "too sharp" in str(told.embeds[0]["fields"])
    assert str(told.embeds[0]["description"]).count("Blocked by") == 1


async def test_a_report_whose_embed_a_moderator_hid_still_works(moderated):
    stage = moderated
    message = await stage.outcome(await stage.imagine("bob", "a fish"))
    await report(stage, "mallory", message)
    (told,) = filed(stage)
    told.embeds = []
    alice = stage.sandbox.user("alice")
    await (await alice.press(told, "Block the user")).until(lambda m: "Blocked by" in text_of(m))


async def test_reports_are_limited_and_need_a_channel(stage):
    message = await stage.outcome(await stage.imagine("bob", "a fish"))
    assert "no channel for reports" in await report(stage, "mallory", message)
    art = stage.sandbox.user("alice").place("art").id
    await choose(stage, where=art)
    more = [await stage.outcome(await stage.imagine("bob", f"fish {n}")) for n in range(5)]
    others = [message, *more]
    told = [await report(stage, "mallory", other) for other in others]
    assert ["Reported" in text for text in told] == [True] * 5 + [False]
    assert "reached the limit for reports" in told[-1]
    bob = stage.sandbox.user("bob")
    await (
        await stage.sandbox.user("alice").slash("general", "admin block add", user=bob.id)
    ).answer()
    assert "cannot use the bot" in await report(stage, "bob", message)
    await choose(stage)
    assert "no channel" in await report(stage, "mallory", others[-1])


async def test_what_cannot_be_filed_is_said_and_may_be_tried_again(moderated):
    stage = moderated
    message = await stage.outcome(await stage.imagine("bob", "a fish"))
    stage.sandbox.faults.respond("POST", "/channels/*/messages", 403)
    assert "could not be filed" in await report(stage, "mallory", message)
    assert not filed(stage)
    assert "Reported" in await report(stage, "mallory", message)
    # A moderator deleted the message: the next report makes another.
    stage.sandbox.world.delete_message(filed(stage)[0])
    assert "Reported" in await report(stage, "alice", message)
    assert len(filed(stage)) == 1


async def test_only_the_bots_own_pictures_where_it_may_write(stage):
    alice = stage.sandbox.user("alice")
    refused = await choose(stage, where=alice.place("staff").id)
    assert "Reports go to" not in refused.content
    words = await alice.send("general", "just words")
    menu = await stage.sandbox.user("bob").context_menu("general", "Report", words)
    assert "own pictures alone" in (await menu.answer()).content
    direct = await stage.outcome(await stage.imagine("bob", "a fish", "dm"))
    with pytest.raises(Refusal):
        await stage.sandbox.user("bob").context_menu("dm", "Report", direct)
    private = await stage.outcome(await stage.imagine("bob", "a fish", private=True))
    assert private.ephemeral
