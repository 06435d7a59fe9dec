"""What was allowed when it was asked for is asked again when it begins, and when it is pressed."""

from __future__ import annotations

import pytest

from bot.domain.job import JobState
from bot.errors import EngineError, EngineErrorKind
from storage import deliveries
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import job_id_of, soon, staged, text_of


@pytest.mark.parametrize("everywhere", [False, True])
async def test_a_job_that_goes_back_is_not_drawn_again_for_a_blocked_user(
    sandbox, tmp_path, everywhere
):
    error = EngineError(EngineErrorKind.RAISED, "once")
    engine = ScriptedEngine(Script(hold_at=2, error=error, error_at=3))
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    async with staged(sandbox, tmp_path, engine, owner_ids=str(alice.id)) as stage:
        invocation = await stage.imagine("bob", "a house")
        await soon(engine.holding.wait())
        block = await alice.slash("general", "admin block add", user=bob.id, everywhere=everywhere)
        await block.answer()
        engine.release.set()
        message = await stage.outcome(invocation)
        assert "you were blocked" in text_of(message)
        assert (await stage.job_of(message)).state is JobState.CANCELLED
        assert len(engine.requests) == 1
        refunded = "SELECT refunded_at IS NOT NULL FROM usage"
        assert await stage.database.read(lambda tx: tx.value(refunded))


@pytest.mark.parametrize("asked_in", ["art", "sketches"])
async def test_a_channel_closed_meanwhile_draws_nothing_more(sandbox, tmp_path, asked_in):
    engine = ScriptedEngine(Script(hold_at=2))
    alice = sandbox.user("alice")
    async with staged(sandbox, tmp_path, engine) as stage:
        running = await stage.imagine("chen", "running")
        await soon(engine.holding.wait())
        waiting = await stage.imagine("bob", "waiting", asked_in)
        other = await stage.imagine("bob", "elsewhere")
        await waiting.response()
        await other.response()
        art = alice.place("art").id
        await (await alice.slash("general", "admin channel deny", where=art)).answer()
        engine.release.set()
        assert "no longer draws in this channel" in text_of(await stage.outcome(waiting))
        assert (await stage.outcome(other)).files
        assert (await stage.outcome(running)).files


async def test_taking_one_out_is_asking_for_it(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    batch = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
    pick = f"pick:{job_id_of(batch)}.0"
    here = alice.place("general").id
    await (await alice.slash("general", "admin channel deny", where=here)).answer()
    refused = await (await bob.press(batch, pick)).answer()
    assert "does not draw in this channel" in refused.content
    assert refused.ephemeral
    await (await alice.slash("general", "admin channel allow", where=here)).answer()
    await (await alice.slash("general", "admin block add", user=bob.id)).answer()
    assert "cannot use the bot" in (await (await bob.press(batch, pick)).answer()).content
    taken = await (await alice.press(batch, pick)).answer()
    assert taken.files


async def test_what_was_asked_in_direct_messages_is_its_users_alone(stage):
    """Nobody else sees the message; should a control of it be used elsewhere, it is refused."""
    bob, mallory = stage.sandbox.user("bob"), stage.sandbox.user("mallory")
    direct = await stage.outcome(await stage.imagine("bob", "a secret fish", "dm"))
    job_id = job_id_of(direct)
    bait = await stage.outcome(await stage.imagine("mallory", "bait"))
    forged = f"details:{job_id}"
    bait.control("Details")["custom_id"] = forged
    refused = await (await mallory.press(bait, forged)).answer()
    assert "is private" in refused.content
    assert "secret" not in refused.content
    shown = await (await mallory.slash("general", "show", job=job_id)).answer()
    assert "no job of yours" in shown.content
    assert "secret fish" in (await (await bob.press(direct, "Details")).answer()).content


async def test_a_group_shares_what_was_asked_in_it(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    message = await stage.outcome(await stage.imagine("bob", "a shared fish", "friends"))
    assert not message.ephemeral
    assert "shared fish" in (await (await alice.press(message, "Details")).answer()).content
    assert bob


async def test_deleting_ones_data_takes_every_message_that_shows_it(stage):
    bob = stage.sandbox.user("bob")
    batch = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
    job_id = job_id_of(batch)
    await stage.delivered(job_id)
    taken = await (await bob.press(batch, f"pick:{job_id}.1")).answer()
    # An answer that came by another message than the first.
    first = await bob.send("general", "stands for the first message")
    moved = await stage.outcome(await stage.imagine("bob", "a boat", "dm"))
    await stage.delivered(job_id_of(moved))
    own = stage.sandbox.world.bot
    first.author = own
    await stage.database.write(
        lambda tx: deliveries.set_message(tx, job_id_of(moved), first.channel.id, first.id)
    )
    asked = await (await bob.slash("general", "privacy delete")).answer()
    pressed = await bob.press(asked, "Delete everything")
    told = await pressed.until(lambda m: "Deleted" in m.content)
    assert "could not" not in told.content
    assert batch.deleted
    assert taken.deleted
    assert moved.deleted
    assert first.deleted
    for table in ("postings", "images", "deliveries"):
        sql = f"SELECT count(*) FROM {table}"
        assert await stage.database.read(lambda tx, sql=sql: tx.value(sql)) == 0, table


async def test_what_its_owner_deletes_while_another_takes_it_out_is_not_shown(stage):
    bob, alice = stage.sandbox.user("bob"), stage.sandbox.user("alice")
    batch = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
    job_id = job_id_of(batch)
    await stage.delivered(job_id)
    asked = await (await bob.slash("dm", "privacy delete")).answer()
    held = stage.sandbox.faults.hold("POST", "/interactions/*/callback", after=True)
    taking = await alice.press(batch, f"pick:{job_id}.1")
    await soon(held.reached.wait())
    pressed = await bob.press(asked, "Delete everything")
    await pressed.until(lambda m: "Deleted" in m.content)
    held.release()
    told = await taking.until(lambda m: bool(m.content))
    assert "deleted" in told.content
    assert not told.files
