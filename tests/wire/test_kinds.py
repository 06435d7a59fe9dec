"""Two kinds of messages: cards of layout components, and the embeds of earlier versions."""

from __future__ import annotations

import copy

import pytest

from bot.sandbox.model import Flag
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import (
    byline_of,
    controls,
    gallery_of,
    is_outcome,
    job_id_of,
    soon,
    staged,
    text_of,
)
from tests.wire.test_previews import jpeg


def make_old(message) -> None:
    """Make a waiting message what an earlier version posted: an embed with a row of buttons."""
    (box,) = message.components
    message.flags &= ~Flag.COMPONENTS_V2
    message.embeds = [{"type": "rich", "description": message.text, "color": 5}]
    message.components = [copy.deepcopy(box["components"][-1])]


@pytest.fixture
async def old(sandbox, tmp_path):
    """A batch that was asked for, with a message of an earlier version, and what asked for it."""
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        invocation = await stage.imagine("alice", "a fish", count=3, seed=5)
        message = await invocation.answer()
        await soon(engine.holding.wait())
        # What an earlier version wrote knows nothing of kinds.
        await stage.database.write(lambda tx: tx.execute("UPDATE deliveries SET layout = 0"))
        await stage.cut()
    make_old(message)
    return invocation, message


async def test_what_waited_as_an_embed_goes_on_as_one(sandbox, tmp_path, old, monkeypatch):
    monkeypatch.setattr("bot.delivery.progress.RUNNING_PACE_S", 0.05)
    invocation, message = old
    engine = ScriptedEngine(Script(hold_at=4, preview=jpeg()))
    async with staged(sandbox, tmp_path, engine) as stage:
        await soon(engine.holding.wait())
        await sandbox.wait(
            lambda: (
                [file.filename for file in message.files] == ["preview.jpg"]
                and "Step 4 of 10" in text_of(message)
            )
        )
        (embed,) = message.embeds
        assert embed["image"]["url"] == message.files[0].url
        engine.release.set()
        answer = await stage.outcome(invocation)
        assert answer is message
        await stage.delivered(job_id_of(answer))
        assert not answer.flags & Flag.COMPONENTS_V2
        assert len(answer.embeds) == 1
        assert len(answer.attachments) == 3
        assert stage.visible() == [answer]
        # From its buttons on, all is of the new kind.
        bob = sandbox.user("bob")
        taken = await bob.press(answer, f"pick:{job_id_of(answer)}.2")
        single = await taken.until(lambda m: bool(m.files))
        assert len(gallery_of(single)) == 1
        assert "3 of 3" in byline_of(single)
        assert len(gallery_of(await stage.outcome(await bob.press(answer, "U1")))) == 1
        shown = await sandbox.user("alice").slash("art", "show", job=job_id_of(answer))
        assert len(gallery_of(await shown.until(is_outcome))) == 3
        used = await bob.context_menu("general", "Show parameters", answer)
        assert "a fish" in text_of(await used.answer())
        await sandbox.user("alice").press(answer, "Delete")
        await sandbox.wait(lambda: answer.deleted and single.deleted)


async def test_how_a_card_ends_is_a_card_too(sandbox, tmp_path):
    boom = Script(error=RuntimeError("boom"))
    engine = ScriptedEngine(boom, boom, Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        failed = await stage.outcome(await stage.imagine("alice", "a fish"))
        assert "⚠️" in text_of(failed)
        assert not gallery_of(failed)
        invocation = await stage.imagine("alice", "a boat")
        waiting = await invocation.answer()
        await soon(engine.holding.wait())
        await sandbox.user("alice").press(waiting, "Cancel")
        cancelled = await stage.outcome(invocation)
        assert cancelled is waiting
        assert "✖️ Cancelled" in text_of(cancelled)
        for message in (failed, cancelled):
            assert message.flags & Flag.COMPONENTS_V2
            assert not message.content
            assert [one.partition(":")[0] for one in controls(message)] == ["reroll", "edit"]


async def test_an_answer_in_a_direct_message_pings_nobody_by_its_line(stage):
    bob = stage.sandbox.user("bob")
    await bob.send("dm", "a fish")
    (message,) = await stage.sandbox.wait(lambda: stage.visible("bob", "dm"))
    assert byline_of(message)[0] == f"<@{bob.id}>"
    # Neither as it was posted nor as it was edited.
    assert not message.mentions
    bodies = [e.request for e in stage.sandbox.exchanges if "components" in str(e.request)]
    assert bodies
    assert not any(body["allowed_mentions"].get("users") for body in bodies)
