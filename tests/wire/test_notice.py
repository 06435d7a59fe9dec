"""Answers that took long come to their author's notice, and there is still one of each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from bot.domain.job import Job, JobState, Target
from bot.domain.request import ImageRequest
from bot.errors import EngineError, EngineErrorKind
from bot.messages.notice import notice
from bot.rules.preferences import notice_for
from bot.sandbox.permissions import Permission
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import controls, is_answer, is_outcome, soon, staged, text_of

LONG = 25
POST = ("POST", "/channels/*/messages")
REMOVE = ("DELETE", "/channels/*/messages/*")
FOLLOW_UP = ("POST", "/webhooks/*")


@pytest.fixture
def engine():
    return ScriptedEngine(Script(hold_at=1))


@pytest.fixture
async def held(sandbox, tmp_path, engine):
    async with staged(sandbox, tmp_path / "data", engine) as stage:
        yield stage


def of_bot(stage, name="alice", channel="general"):
    return [m for m in stage.sandbox.user(name).messages(channel) if m.author.bot]


def notices(stage, name="alice", channel="general"):
    """The short messages that mention an author and are no answer."""
    return [m for m in of_bot(stage, name, channel) if m.mentions and not is_outcome(m)]


async def late(stage, *asked, seconds=LONG, **options):
    """Ask for a picture that takes long; return the message that waited and the delivery."""
    message, job_id = await stage.asked(*asked, **options)
    stage.advance(seconds)
    stage.engine.release.set()
    return message, await stage.delivered(job_id)


def test_a_notice_of_a_text_promises_no_picture():
    request = ImageRequest("a cat", seed=1, writes="enhance")
    job = Job("0" * 18, 1, 5, 6, Target.INTERACTION, request, JobState.GENERATED, 0.0)
    assert "Your request has an answer" in notice(job, 5, 6)
    drawn = replace(job, request=request.with_changes(writes=""))
    assert "Your picture is ready" in notice(drawn, 5, 6)


async def test_a_new_message_mentions_its_author_and_the_waiting_one_goes(held):
    message, delivery = await late(held)
    assert delivery.rung == "reply"
    await held.sandbox.wait(lambda: message.deleted)
    (answer,) = of_bot(held)
    assert answer.id == delivery.sent_message_id != message.id
    assert answer.files
    assert is_outcome(answer)
    assert [user.name for user in answer.mentions] == ["alice"]
    assert not answer.mention_everyone
    sent = next(e for e in held.sandbox.exchanges if e.method == "POST" and is_answer(e))
    allowed = sent.request["allowed_mentions"]
    assert allowed == {"parse": [], "users": [held.sandbox.user("alice").id]}
    assert sent.request["enforce_nonce"] is True


async def test_the_waiting_message_stays_until_the_answer_is_recorded(held, engine):
    message, job_id = await held.asked()
    held.advance(LONG)
    removing = held.sandbox.faults.hold(*REMOVE)
    engine.release.set()
    await soon(removing.reached.wait())
    assert (await held.delivery(job_id)).state == "delivered"
    assert not message.deleted
    removing.release()
    await held.sandbox.wait(lambda: message.deleted)


async def test_what_came_soon_takes_the_place_of_the_waiting_message(held):
    message, delivery = await late(held, seconds=10)
    assert delivery.rung == "token"
    assert of_bot(held) == [message]
    assert not message.mentions


async def test_a_direct_message_is_the_answer_where_its_author_wants_that(held):
    await held.prefer("direct", "alice")
    message, delivery = await late(held)
    assert delivery.rung == "direct"
    await held.sandbox.wait(lambda: message.deleted)
    (answer,) = held.visible(channel="dm")
    assert answer.files
    assert not of_bot(held)
    assert not of_bot(held, "bob")


async def test_whom_no_direct_message_reaches_finds_it_in_the_channel(held):
    await held.prefer("direct", "bob")
    held.sandbox.user("bob").user.accepts_dms = False
    message, delivery = await late(held, "bob")
    assert delivery.rung == "token"
    assert held.visible("bob") == [message]
    (notice,) = notices(held, "bob")
    assert str(message.id) in notice.content


async def test_a_quiet_edit_notifies_nobody(held):
    await held.prefer("quiet", "alice")
    message, delivery = await late(held, seconds=3600)
    assert delivery.rung == "edit"
    assert of_bot(held) == [message]
    assert not message.mentions


async def test_without_the_history_it_is_an_edit_and_one_short_message(held):
    held.sandbox.world.overwrite("general", deny=Permission.READ_MESSAGE_HISTORY)
    message, delivery = await late(held)
    assert delivery.rung == "token"
    assert "reply: the history is closed" in delivery.error
    assert held.visible() == [message]
    (notice,) = notices(held)
    assert [user.name for user in notice.mentions] == ["alice"]
    assert notice.content.endswith(f"/{message.channel.id}/{message.id}")
    assert "ready" in notice.content
    assert not notice.files


@pytest.mark.parametrize("lost", [False, True])
async def test_where_the_app_is_its_users_alone_one_follow_up_is_sent_once(held, lost):
    """Also where Discord answers with 503 after the act, which discord.py would repeat."""
    if lost:
        held.sandbox.faults.respond(*FOLLOW_UP, 503, after=True)
    message, delivery = await late(held, "bob", "lounge")
    assert delivery.rung == "token"
    assert held.visible("bob", "lounge") == [message]
    (notice,) = notices(held, "bob", "lounge")
    assert [user.name for user in notice.mentions] == ["bob"]


async def test_there_a_direct_message_calls_whoever_wants_that(held):
    await held.prefer("direct", "bob")
    message, delivery = await late(held, "bob", "lounge")
    assert delivery.rung == "token"
    assert held.visible("bob", "lounge") == [message]
    assert not notices(held, "bob", "lounge")
    (notice,) = notices(held, "bob", "dm")
    assert str(message.id) in notice.content


async def test_a_private_answer_is_an_edit_alone(held):
    message, delivery = await late(held, private=True)
    assert delivery.rung == "token"
    assert of_bot(held) == [message]
    assert not message.mentions
    assert not of_bot(held, channel="dm")


async def test_whoever_cancels_is_not_called(held):
    message, job_id = await held.asked()
    held.advance(LONG)
    await held.sandbox.user("alice").press(message, "Cancel")
    assert (await held.delivered(job_id)).rung == "token"
    assert held.visible() == [message]
    assert not notices(held)
    assert "Cancelled" in text_of(message)


async def test_a_prompt_by_message_is_replied_to(held, engine):
    asked = await held.sandbox.user("bob").send("dm", "a boat")
    (message,) = await held.sandbox.wait(lambda: of_bot(held, "bob", "dm"))
    await soon(engine.holding.wait())
    held.advance(LONG)
    engine.release.set()
    await held.sandbox.wait(lambda: message.deleted)
    (answer,) = of_bot(held, "bob", "dm")
    assert answer.reference is asked
    assert answer.files


async def test_a_failure_is_noticed_too(sandbox, tmp_path):
    broken = EngineError(EngineErrorKind.RAISED, "it broke")
    engine = ScriptedEngine(Script(error=broken), Script(hold_at=1, error=broken, error_at=2))
    async with staged(sandbox, tmp_path, engine) as stage:
        sandbox.world.overwrite("general", deny=Permission.READ_MESSAGE_HISTORY)
        message, _ = await late(stage)
        assert is_outcome(message)
        (notice,) = notices(stage)
        assert "answer" in notice.content


async def test_a_name_says_nothing_in_a_notice(held):
    """People may be called as they like."""
    held.sandbox.world.overwrite("general", deny=Permission.READ_MESSAGE_HISTORY)
    held.sandbox.user("alice").user.display_name = "@everyone [x](https://evil.example) <@1>"
    await late(held)
    (notice,) = notices(held)
    assert "evil" not in notice.content
    assert [user.name for user in notice.mentions] == ["alice"]
    assert not notice.mention_everyone


@pytest.mark.usefixtures("hurry")
async def test_a_removal_that_fails_is_tried_again(held, engine):
    down = held.sandbox.faults.respond(*REMOVE, 503, times=3)
    message, _ = await late(held)
    await held.sandbox.wait(lambda: message.deleted)
    assert down.hits == 3


@pytest.mark.usefixtures("sudden")
async def test_a_removal_outlives_the_bot(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, ScriptedEngine(Script(hold_at=1))) as stage:
        message, job_id = await stage.asked()
        stage.advance(LONG)
        removing = sandbox.faults.hold(*REMOVE)
        stage.engine.release.set()
        await soon(removing.reached.wait())
        await stage.cut()
    assert not message.deleted
    async with staged(sandbox, tmp_path) as stage:
        await sandbox.wait(lambda: message.deleted)
        assert len(stage.visible()) == 1
        assert (await stage.delivery(job_id)).state == "delivered"


@pytest.mark.usefixtures("sudden")
async def test_what_nobody_can_look_for_is_not_edited_beside_it(sandbox, tmp_path):
    """The history is closed between an attempt whose end is unknown and the next start."""
    async with staged(sandbox, tmp_path, ScriptedEngine(Script(hold_at=1))) as stage:
        message, job_id = await stage.asked()
        stage.advance(LONG)
        sent = sandbox.faults.hold(*POST, after=True, when=is_answer)
        stage.engine.release.set()
        await soon(sent.acted.wait())
        await stage.cut()
    sandbox.world.overwrite("general", deny=Permission.READ_MESSAGE_HISTORY)
    async with staged(sandbox, tmp_path) as stage:
        stage.advance(LONG)
        delivery = await stage.delivered(job_id)
        assert delivery.rung == "dm"
        assert "reply: the history is closed" in delivery.error
        assert len(stage.visible()) == 1
        await sandbox.wait(lambda: not controls(message))


async def test_a_notice_is_not_repeated_by_a_new_start(sandbox, tmp_path):
    sandbox.world.overwrite("general", deny=Permission.READ_MESSAGE_HISTORY)
    async with staged(sandbox, tmp_path, ScriptedEngine(Script(hold_at=1))) as stage:
        _, delivery = await late(stage)
    async with staged(sandbox, tmp_path) as stage:
        await stage.outcome(await stage.imagine("bob", "wakes the courier"))
        assert len(notices(stage)) == 1
        assert await stage.delivery(delivery.job_id) == delivery


async def test_how_one_is_called_is_a_setting_of_server_and_user(held):
    alice, bob = held.sandbox.user("alice"), held.sandbox.user("bob")
    notice = partial(notice_for, held.app.client.services.preferences)

    def said(panel) -> str:
        fields = {field["name"]: field["value"] for field in panel.embeds[0]["fields"]}
        return fields["After a long wait"]

    own = await (await bob.slash("general", "settings")).answer()
    assert said(own) == "New message that mentions you (the bot's)"
    shared = await (await alice.slash("general", "admin defaults")).answer()
    await (await alice.press(shared, "pref:guild:more")).response()
    await (await alice.select(shared, "prefs:guild:notice", "quiet")).response()
    assert said(shared) == "Quiet edit"
    guild_id = bob.place("general").guild.id
    assert await notice(bob.id, guild_id) == "quiet"
    assert await notice(bob.id, None) == "reply"
    own = await (await bob.slash("general", "settings")).answer()
    assert said(own) == "Quiet edit (the server's)"
    await (await bob.press(own, "pref:user:more")).response()
    await (await bob.select(own, "prefs:user:notice", "direct")).response()
    assert said(own) == "Direct message"
    assert await notice(bob.id, guild_id) == "direct"


async def test_a_setting_that_nobody_knows_counts_as_not_set(held):
    bob = held.sandbox.user("bob")
    for value in ("shout", ["reply"], 3, True):
        preferences = held.app.client.services.preferences
        await preferences.set_user(bob.id, {"notice": value})
        assert await notice_for(preferences, bob.id, None) == "reply"
