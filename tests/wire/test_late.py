"""Answers that come late, or to places that changed meanwhile."""

from __future__ import annotations

import discord
import pytest

from bot.domain.job import JobState
from bot.sandbox.permissions import Permission
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import controls, job_id_of, staged, text_of

pytestmark = pytest.mark.slow

HOUR = 3600


@pytest.fixture
def engine():
    return ScriptedEngine(Script(hold_at=1))


@pytest.fixture
async def held(sandbox, tmp_path, engine):
    async with staged(sandbox, tmp_path / "data", engine) as stage:
        # Others get a new message after a long wait (test_notice.py).
        await stage.prefer("quiet", "alice", "bob")
        yield stage


@pytest.mark.parametrize(
    ("seconds", "ways"),
    [
        (60, {"token"}),
        (14 * 60 + 50, {"token"}),
        (14 * 60 + 59, {"edit"}),
        (15 * 60 + 1, {"edit"}),
        (3 * HOUR, {"edit"}),
    ],
)
async def test_a_late_answer_edits_the_same_message(held, engine, seconds, ways):
    message, job_id = await held.asked()
    held.advance(seconds)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung in ways
    assert held.visible() == [message]
    assert message.files
    assert not message.mentions


async def test_a_late_answer_to_a_deleted_message_is_a_new_one(held, engine):
    message, job_id = await held.asked()
    held.advance(3 * HOUR)
    held.sandbox.world.delete_message(message)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung == "channel"
    assert "edit: 404 10008" in delivery.error
    (new,) = held.visible()
    assert [user.name for user in new.mentions] == ["alice"]


async def test_a_first_response_whose_reply_was_lost_is_edited_late(held, engine):
    held.sandbox.faults.reset("POST", "/interactions/*/callback", after=True)
    message, job_id = await held.asked()
    held.advance(HOUR)
    engine.release.set()
    assert (await held.delivered(job_id)).rung == "edit"
    assert [m for m in held.sandbox.user("alice").messages("general") if m.author.bot] == [message]
    assert message.files


async def test_a_deleted_channel_is_followed_by_a_direct_message(held, engine):
    _, job_id = await held.asked()
    held.sandbox.world.delete_channel("general")
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung == "dm"
    assert "channel: 404 10003" in delivery.error
    (private,) = held.visible(channel="dm")
    assert private.files


async def test_a_late_private_answer_mentions_nobody_in_public(held, engine):
    _, job_id = await held.asked(private=True)
    held.advance(14 * 60)
    engine.release.set()
    assert (await held.delivered(job_id)).rung == "token"
    (message,) = held.visible()
    assert not message.mentions
    assert not held.visible("bob")


async def test_an_archived_thread_is_opened_by_the_answer(held, engine):
    message, job_id = await held.asked(channel="sketches")
    held.sandbox.world.channel("sketches").archived = True
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung == "channel"
    (new,) = held.visible(channel="sketches")
    assert new.files
    assert new.id != message.id
    # The old message keeps no button that leads nowhere.
    await held.sandbox.wait(lambda: not controls(message))
    assert str(new.id) in text_of(message)


async def test_a_locked_thread_is_followed_by_a_direct_message(held, engine):
    _, job_id = await held.asked(channel="sketches")
    thread = held.sandbox.world.channel("sketches")
    thread.archived = thread.locked = True
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung == "dm"
    assert "channel: 403 160005" in delivery.error
    assert held.visible(channel="dm")[0].files
    assert not held.visible(channel="sketches")


async def test_without_the_right_to_attach_files_the_picture_goes_to_its_author(held, engine):
    message, job_id = await held.asked()
    held.sandbox.world.overwrite("general", deny=Permission.ATTACH_FILES)
    held.advance(HOUR)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung == "dm"
    assert "edit: 403 50013; channel: 403 50013" in delivery.error
    assert held.visible(channel="dm")[0].files
    assert not held.visible()
    await held.sandbox.wait(lambda: not controls(message))
    assert "direct message" in text_of(message)


async def test_an_author_who_is_gone_leaves_a_picture(held, engine):
    message, job_id = await held.asked("bob")
    held.sandbox.user("bob").user.accepts_dms = False
    del held.sandbox.world.guild.members[held.sandbox.user("bob").id]
    held.advance(HOUR)
    engine.release.set()
    assert (await held.delivered(job_id)).rung == "edit"
    assert held.visible() == [message]


async def test_a_server_that_the_bot_was_removed_from(held, engine):
    """What waits for it is cancelled, what is being drawn goes to its author."""
    _, job_id = await held.asked()
    waiting = await held.imagine("bob", "never drawn")
    waiting_id = job_id_of(await waiting.answer())
    held.sandbox.world.remove_bot()
    message = await held.outcome(waiting)
    assert "removed from the server" in text_of(message)
    assert (await held.queue.job(waiting_id)).state is JobState.CANCELLED
    held.advance(HOUR)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung == "dm"
    assert len(engine.requests) == 1
    assert held.visible(channel="dm")[0].files


async def test_a_server_that_removed_the_bot_and_whose_author_takes_no_messages(held, engine):
    _, job_id = await held.asked("bob")
    held.sandbox.world.remove_bot()
    held.sandbox.user("bob").user.accepts_dms = False
    held.advance(HOUR)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert (delivery.state, delivery.token) == ("undeliverable", None)
    assert "dm: 403 50007" in delivery.error
    (record,) = await held.queue.images(job_id)
    assert (held.app.settings.images_dir / record.file).exists()


async def test_a_server_that_removed_the_bot_while_it_was_off(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        _, job_id = await stage.asked()
        await stage.queue.control.pause("so that it waits after the start too", by=1)
    sandbox.world.remove_bot()
    async with staged(sandbox, tmp_path) as stage:
        await stage.delivered(job_id)
        job = await stage.queue.job(job_id)
        assert (job.state, job.error_kind) == (JobState.CANCELLED, "left_guild")


async def test_where_the_bot_is_not_a_member_it_uses_the_token_alone(held, engine):
    """The app is installed by the user: no right to the channel, few follow-ups."""
    held.sandbox.world.remove_bot()
    held.sandbox.user("bob").user.installed = True
    message, job_id = await held.asked("bob")
    engine.release.set()
    assert (await held.delivered(job_id)).rung == "token"
    assert held.visible("bob") == [message]
    place = f"/channels/{message.channel.id}/"
    assert not [e for e in held.sandbox.exchanges if e.path.startswith(place)]
    assert not [e for e in held.sandbox.exchanges if e.route == "/webhooks/{webhook_id}/{token}"]


async def test_where_the_bot_is_not_a_member_a_late_answer_is_a_direct_message(held, engine):
    held.sandbox.world.remove_bot()
    held.sandbox.user("bob").user.installed = True
    message, job_id = await held.asked("bob")
    held.advance(HOUR)
    engine.release.set()
    assert (await held.delivered(job_id)).rung == "dm"
    assert held.visible("bob", "dm")[0].files
    place = f"/channels/{message.channel.id}/"
    assert not [e for e in held.sandbox.exchanges if e.path.startswith(place)]


async def test_pictures_are_shown_ever_again_where_follow_ups_are_few(held, engine):
    held.sandbox.world.remove_bot()
    bob = held.sandbox.user("bob")
    bob.user.installed = True
    _, job_id = await held.asked("bob")
    engine.release.set()
    await held.delivered(job_id)
    for _ in range(7):
        assert (await (await bob.slash("general", "show", job=job_id)).answer()).files


async def test_the_sandbox_counts_follow_ups_where_the_bot_is_not_a_member(held):
    held.sandbox.world.remove_bot()
    bob = held.sandbox.user("bob")
    bob.user.installed = True
    invocation = await bob.slash("general", "queue")
    await invocation.response()
    app_id, token = held.sandbox.world.application_id, invocation.interaction.token
    webhook = discord.Webhook.partial(app_id, token, client=held.app.client)
    for number in range(5):
        await webhook.send(str(number))
    with pytest.raises(discord.HTTPException) as caught:
        await webhook.send("one too many")
    assert caught.value.code == 40094
