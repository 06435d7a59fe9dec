"""In a group, where no bot can be: the interaction's token alone, then a direct message."""

from __future__ import annotations

from tests.engines import Script, ScriptedEngine
from tests.wire.kit import job_id_of, soon, staged

HOUR = 3600


async def test_the_answer_comes_by_token_and_no_channel_is_called(stage):
    answer = await stage.outcome(await stage.imagine("bob", "a fish", "friends"))
    assert answer.files
    delivery = await stage.delivered(job_id_of(answer))
    assert (delivery.rung, delivery.bot_in_channel) == ("token", False)
    channel = str(stage.sandbox.user("bob").place("friends").id)
    assert not [e for e in stage.sandbox.exchanges if f"/channels/{channel}" in e.path]


async def test_buttons_lists_and_menus_work_there(stage):
    bob, alice = stage.sandbox.user("bob"), stage.sandbox.user("alice")
    answer = await stage.outcome(await stage.imagine("bob", "a fish", "friends"))
    varied = await stage.outcome(await alice.press(answer, "Vary"))
    assert (await stage.job_of(varied)).user_id == alice.id
    page = await (await bob.slash("friends", "history")).until(lambda m: bool(m.files))
    assert "a fish" in page.content
    shown = await bob.slash("friends", "show", job=job_id_of(answer))
    assert (await shown.until(lambda m: bool(m.files))).ephemeral
    details = await (await bob.context_menu("friends", "Show parameters", answer)).answer()
    assert "Seed" in details.content
    await bob.press(answer, "Delete")
    await stage.sandbox.wait(lambda: answer.deleted)


async def test_past_the_token_it_comes_by_direct_message(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=2))
    async with staged(sandbox, tmp_path, engine) as stage:
        invocation = await stage.imagine("bob", "a fish", "friends")
        job_id = job_id_of(await invocation.answer())
        await soon(engine.holding.wait())
        stage.advance(HOUR)
        engine.release.set()
        delivery = await stage.delivered(job_id)
        assert delivery.rung == "dm"
        (private,) = stage.visible("bob", "dm")
        assert private.files
        assert not stage.visible("bob", "friends")


async def test_with_closed_direct_messages_it_is_kept_and_spoken_of(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=2))
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path, engine) as stage:
        invocation = await stage.imagine("bob", "a fish", "friends")
        job_id = job_id_of(await invocation.answer())
        await soon(engine.holding.wait())
        bob.user.accepts_dms = False
        stage.advance(HOUR)
        engine.release.set()
        delivery = await stage.delivered(job_id)
        assert (delivery.state, delivery.rung) == ("undeliverable", "kept")
        listing = await (await bob.slash("friends", "queue")).answer()
        assert "Could not be sent to you" in listing.content
        assert job_id in listing.content
        shown = await bob.slash("friends", "show", job=job_id)
        assert (await shown.until(lambda m: bool(m.files))).ephemeral
        await stage.fetched(job_id)
        listing = await (await bob.slash("friends", "queue")).answer()
        assert job_id not in listing.content
