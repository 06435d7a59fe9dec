"""The bot dies between Discord's act and its own record of it, on every way of the ladder."""

from __future__ import annotations

import sqlite3

import pytest

from bot.sandbox.permissions import Permission
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import is_answer, soon, staged

pytestmark = pytest.mark.usefixtures("sudden")

LONG = 25
TOKEN = ("PATCH", "/webhooks/*")
EDIT = ("PATCH", "/channels/*/messages/*")
POST = ("POST", "/channels/*/messages")
QUARTER_PAST = 16 * 60


def nothing(stage, message):
    pass


def expire(stage, message):
    stage.advance(QUARTER_PAST)


def linger(stage, message):
    stage.advance(LONG)


def delete(stage, message):
    stage.sandbox.world.delete_message(message)


def close_channel(stage, message):
    delete(stage, message)
    place = message.channel.id
    stage.sandbox.faults.respond("POST", f"/channels/{place}/messages", 403, code=50013)


async def cut_off(sandbox, data, prepare, method, route, notice="quiet", **options) -> str:
    """Let the bot die after Discord took the answer; return the job's id."""
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, data, engine) as stage:
        await stage.prefer(notice, "alice")
        message, job_id = await stage.asked(**options)
        prepare(stage, message)
        held = sandbox.faults.hold(method, route, after=True, when=is_answer)
        engine.release.set()
        await soon(held.acted.wait())
        await stage.cut()
        return job_id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "request_", "way", "notice"),
    [
        (nothing, TOKEN, "token", "quiet"),
        (expire, EDIT, "edit", "quiet"),
        (delete, POST, "channel", "quiet"),
        (close_channel, POST, "dm", "quiet"),
        (linger, POST, "reply", "reply"),
        (linger, POST, "direct", "direct"),
    ],
    ids=["token", "edit", "channel", "dm", "reply", "direct"],
)
async def test_one_answer_is_visible(sandbox, tmp_path, prepare, request_, way, notice):
    job_id = await cut_off(sandbox, tmp_path, prepare, *request_, notice=notice)
    async with staged(sandbox, tmp_path) as stage:
        if prepare is expire:
            stage.advance(QUARTER_PAST)
        if prepare is linger:
            stage.advance(LONG)
        delivery = await stage.delivered(job_id)
        assert (delivery.state, delivery.rung) == ("delivered", way)
        shown = stage.visible() + stage.visible(channel="dm")
        assert [message.id for message in shown] == [delivery.sent_message_id]
        assert shown[0].files
        # And none that waits.
        alice = sandbox.user("alice")
        if prepare is linger:
            await sandbox.wait(
                lambda: (
                    not [
                        m
                        for m in alice.messages("general")
                        if m.author.bot and m.id != delivery.sent_message_id
                    ]
                )
            )


async def test_a_message_whose_nonce_is_forgotten_is_found(sandbox, tmp_path):
    job_id = await cut_off(sandbox, tmp_path, delete, *POST)
    sandbox.clock.advance(600)
    async with staged(sandbox, tmp_path) as stage:
        delivery = await stage.delivered(job_id)
        assert delivery.rung == "channel"
        assert [m.id for m in stage.visible()] == [delivery.sent_message_id]
    # The one that was held when the bot died never became a finished exchange.
    assert not [e for e in sandbox.exchanges if e.method == "POST" and is_answer(e)]


async def test_a_closed_history_leads_to_no_second_message(sandbox, tmp_path):
    job_id = await cut_off(sandbox, tmp_path, delete, *POST)
    sandbox.world.overwrite("general", deny=Permission.READ_MESSAGE_HISTORY)
    sandbox.clock.advance(600)
    with sqlite3.connect(tmp_path / "bot.sqlite3") as database:
        database.execute("UPDATE deliveries SET intent_at = intent_at - 600")
    database.close()
    async with staged(sandbox, tmp_path) as stage:
        delivery = await stage.delivered(job_id)
        assert delivery.rung == "dm"
        assert "history is closed" in delivery.error
        assert len(stage.visible()) == 1


async def test_a_fresh_nonce_needs_no_history(sandbox, tmp_path):
    sandbox.world.overwrite("general", deny=Permission.READ_MESSAGE_HISTORY)
    job_id = await cut_off(sandbox, tmp_path, delete, *POST)
    async with staged(sandbox, tmp_path) as stage:
        delivery = await stage.delivered(job_id)
        assert delivery.rung == "channel"
        assert [m.id for m in stage.visible()] == [delivery.sent_message_id]


async def test_an_edit_that_nobody_recorded_is_found_where_no_other_is_possible(sandbox, tmp_path):
    job_id = await cut_off(sandbox, tmp_path, nothing, *TOKEN)
    sandbox.faults.respond(*EDIT, 403, code=50001, times=None)
    with sqlite3.connect(tmp_path / "bot.sqlite3") as database:
        database.execute("UPDATE deliveries SET token_expires_at = 0, next_attempt_at = 9e9")
    database.close()
    async with staged(sandbox, tmp_path) as stage:
        stage.advance(QUARTER_PAST)
        await stage.database.write(lambda tx: due(tx, job_id))
        stage.app.client.services.courier._wake.set()
        delivery = await stage.delivered(job_id)
        assert delivery.rung == "channel"
        assert [m.id for m in stage.visible()] == [delivery.sent_message_id]


async def due(tx, job_id):
    await tx.execute("UPDATE deliveries SET next_attempt_at = 0 WHERE job_id = ?", (job_id,))


async def test_an_edit_under_an_unknown_message_is_found(sandbox, tmp_path):
    """The first response's id was never learnt, the edit by its token never confirmed."""
    lost = sandbox.faults.reset("POST", "/interactions/*/callback", after=True)
    asked_again = sandbox.faults.reset("GET", "/webhooks/*")
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        _, job_id = await stage.asked()
        held = sandbox.faults.hold(*TOKEN, after=True, when=is_answer)
        engine.release.set()
        await soon(held.acted.wait())
        await stage.cut()
    assert lost.hits == asked_again.hits == 1
    async with staged(sandbox, tmp_path) as stage:
        stage.advance(QUARTER_PAST)
        delivery = await stage.delivered(job_id)
        assert delivery.state == "delivered"
        assert [m.id for m in stage.visible()] == [delivery.sent_message_id]
        assert not stage.visible(channel="dm")


async def test_a_private_answer_stays_one_and_private(sandbox, tmp_path):
    job_id = await cut_off(sandbox, tmp_path, nothing, *TOKEN, private=True)
    async with staged(sandbox, tmp_path) as stage:
        assert (await stage.delivered(job_id)).rung == "token"
        assert len(stage.visible()) == 1
        assert not stage.visible("bob")
        assert not stage.visible(channel="dm")


async def test_a_kept_picture_stays_kept_until_it_was_shown(sandbox, tmp_path):
    alice = sandbox.user("alice")
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        message, job_id = await stage.asked()
        delete(stage, message)
        sandbox.faults.respond(*POST, 403, code=50007, times=None)
        engine.release.set()
        assert (await stage.delivered(job_id)).state == "undeliverable"
        held = sandbox.faults.hold(*TOKEN, after=True, when=is_answer)
        await alice.slash("art", "show", job=job_id)
        await soon(held.acted.wait())
        await stage.cut()
    async with staged(sandbox, tmp_path) as stage:
        assert job_id in (await (await alice.slash("art", "queue")).answer()).content
        assert (await (await alice.slash("art", "show", job=job_id)).answer()).files
        assert not stage.visible("bob", "art")


async def test_a_pause_outlives_the_bot(sandbox, tmp_path):
    """What Discord's proxy refused is not asked again by each new start."""
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        message, job_id = await stage.asked()
        delete(stage, message)
        refused = sandbox.faults.respond(*POST, 403)
        engine.release.set()
        before = await stage.postponed(job_id)
        await stage.cut()
    async with staged(sandbox, tmp_path) as stage:
        await stage.outcome(await stage.imagine("bob", "wakes the courier"))
        assert await stage.delivery(job_id) == before
        assert refused.hits == 1
        stage.advance(700)
        assert (await stage.delivered(job_id)).rung == "channel"
        assert len(stage.visible()) == 2
