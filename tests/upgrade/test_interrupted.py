"""What the old bot's end interrupted is brought to its end, each answer once."""

from __future__ import annotations

import hashlib

import pytest

from bot.sandbox.model import Flag
from storage.migrate import read_migrations
from tests.engines import Script, ScriptedEngine
from tests.http.kit import ALICE, BOB
from tests.upgrade.kit import upgraded
from tests.upgrade.scene import digests, ids, said
from tests.wire.kit import PATIENCE_S, gallery_of, is_outcome, soon


async def test_the_database_is_opened_and_a_migration_keeps_a_copy(sandbox, old):
    ((before,),) = old.rows("PRAGMA user_version")
    jobs = old.rows("SELECT count(*) FROM jobs")
    newest = read_migrations()[-1].version
    async with upgraded(sandbox, old) as drill:
        for job in ("undelivered", "interrupted", "waiting"):
            await drill.settled(job)
    assert old.rows("PRAGMA user_version") == [(newest,)]
    assert old.rows("PRAGMA integrity_check") == [("ok",)]
    assert old.rows("SELECT count(*) FROM jobs") == jobs == [(len(old.jobs),)]
    copies = list((old.root / "data").glob("bot.sqlite3.before-v*.bak"))
    assert len(copies) == (newest > before)


async def test_each_open_answer_comes_once_with_the_recorded_picture(drill):
    old = drill.old
    for job in ("undelivered", "interrupted", "waiting"):
        was = old.scene["named"][job]
        message = await drill.settled(job)
        # It took long: a new message mentions its author, and the one that said "waiting" is gone.
        # What the old bot had begun to edit is that message still.
        assert (message.id == was) == (job == "undelivered")
        assert digests(message) == old.pictures(job)
        assert f"cancel:{old.jobs[job]}" not in ids(message)
    # Drawn before the end, it is not drawn again; the others are, as they were asked for.
    drawn = {request.job_id: request for request in drill.engine.requests}
    assert old.jobs["undelivered"] not in drawn
    interrupted, waiting = (drawn[old.jobs[job]] for job in ("interrupted", "waiting"))
    assert interrupted.seeds == (42,)
    assert interrupted.prompt.startswith("slow river, anime illustration")
    assert interrupted.negative_prompt.startswith("blurry hands")
    assert (interrupted.steps, interrupted.guidance) == (4, 3.5)
    assert waiting.seeds == (43,)
    assert (waiting.steps, waiting.guidance) == (3, 1.0)


async def test_what_waited_as_an_embed_is_answered_as_one(drill):
    for job in ("undelivered", "waiting", "interrupted"):
        message = await drill.settled(job)
        assert not message.flags & Flag.COMPONENTS_V2
        (embed,) = message.embeds
        assert embed["image"]["url"] == message.files[0].url
        assert not message.attachments
    # What is asked for by its buttons comes as a card, and so does `/show`.
    pressed = await drill.sandbox.user("bob").press(message, "Reroll")
    rerolled = await pressed.until(is_outcome, PATIENCE_S)
    asked = await drill.sandbox.user("chen").slash("general", "show", job=drill.old.jobs["waiting"])
    for message in (rerolled, await asked.until(is_outcome, PATIENCE_S)):
        assert message.flags & Flag.COMPONENTS_V2
        assert len(gallery_of(message)) == 1


async def test_a_second_start_sends_nothing_again(sandbox, old):
    async with upgraded(sandbox, old) as drill:
        for job in ("undelivered", "interrupted", "waiting"):
            await drill.settled(job)
        await drill.stage.delivered(old.jobs["http waiting"])
    deliveries = old.rows("SELECT job_id, state, sent_message_id FROM deliveries ORDER BY 1")
    sandbox.exchanges.clear()
    async with upgraded(sandbox, old) as drill:
        assert not drill.engine.requests
    assert not [one for one in sandbox.exchanges if "reroll:" in str(one.request)]
    assert (
        old.rows("SELECT job_id, state, sent_message_id FROM deliveries ORDER BY 1") == deliveries
    )


@pytest.mark.slow
async def test_the_queue_of_then_can_be_looked_at_and_cancelled(sandbox, old):
    engine = ScriptedEngine(Script(hold_at=1))
    async with upgraded(sandbox, old, engine) as drill:
        await soon(engine.holding.wait())
        listed = await drill.press("chen", "chen's queue", "refresh")
        assert (await listed.answer()).id == drill.message("chen's queue").id
        assert "patience" in drill.message("chen's queue").content
        everyone = await drill.press("alice", "admin queue", "everyone:stay")
        await everyone.response()
        assert "slow river" in said(drill.message("admin queue"))
        cancelled = await drill.press("chen", "waiting", "cancel")
        assert "Cancelled" in said(await cancelled.answer())
        assert "Cancelled" in said(await drill.settled("waiting"))
        engine.release.set()
        await drill.settled("interrupted")
        await drill.stage.delivered(old.jobs["http waiting"])
        assert old.jobs["waiting"] not in {request.job_id for request in engine.requests}
        assert not drill.resting.requests


async def test_jobs_over_http_are_fetched_with_their_keys(drill):
    old = drill.old
    await drill.stage.delivered(old.jobs["http waiting"])
    for name, key, other in (
        ("http", ALICE, BOB),
        ("http unfetched", ALICE, BOB),
        ("http waiting", BOB, ALICE),
    ):
        async with drill.api.client(key) as client, drill.api.client(other) as stranger:
            path = f"/api/v1/jobs/{old.jobs[name]}"
            job = (await client.get(path)).json()
            assert job["state"] == "generated"
            for position, wanted in enumerate(old.pictures(name)):
                picture = await client.get(f"/api/v1/images/{old.jobs[name]}/{position}.png")
                assert hashlib.sha256(picture.content).hexdigest() == wanted
            assert (await stranger.get(path)).status_code == 404
        assert (await drill.stage.delivery(old.jobs[name])).state == "delivered"
