"""Cancel, Reroll, /queue, /show and /admin over the wire, also across a restart of the bot."""

from __future__ import annotations

import pytest

from bot.domain.job import JobState
from bot.engine.protocol import EngineState
from bot.sandbox.errors import Refusal
from bot.sandbox.server import Sandbox
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import controls, job_id_of, soon, staged, text_of


@pytest.fixture
def engine():
    return ScriptedEngine(Script(hold_at=2))


@pytest.fixture
async def held(sandbox, tmp_path, engine):
    """A bot whose first job stands at step 2 until `engine.release` is set."""
    async with staged(sandbox, tmp_path / "data", engine) as stage:
        yield stage


async def test_cancel_while_running(held, engine):
    invocation = await held.imagine("alice", "never mind")
    message = await invocation.answer()
    await soon(engine.holding.wait())
    press = await held.sandbox.user("alice").press(message, "Cancel")
    assert "stops at the next step" in (await press.answer()).content
    message = await held.outcome(invocation)
    assert "Cancelled" in text_of(message)
    assert not message.files
    assert (await held.job_of(message)).state is JobState.CANCELLED
    assert engine.cancels == [job_id_of(message)]
    await held.outcome(await held.imagine("alice", "the next one runs"))


async def test_cancel_while_waiting(held, engine):
    running = await held.imagine("alice", "running")
    await running.response()
    await soon(engine.holding.wait())
    invocation = await held.imagine("alice", "waiting")
    message = await invocation.answer()
    press = await held.sandbox.user("alice").press(message, "Cancel")
    assert (await press.answer()).content == "Cancelled."
    message = await held.outcome(invocation)
    assert "Cancelled" in text_of(message)
    engine.release.set()
    await held.outcome(running)
    assert len(engine.requests) == 1


async def test_nobody_cancels_another_ones_job_but_a_moderator(held, engine):
    invocation = await held.imagine("bob", "mine")
    message = await invocation.answer()
    await soon(engine.holding.wait())
    press = await held.sandbox.user("mallory").press(message, "Cancel")
    refusal = await press.answer()
    assert refusal.ephemeral
    assert "Only the person who asked" in refusal.content
    assert (await held.job_of(message)).cancel_requested_at is None
    await held.sandbox.user("alice").press(message, "Cancel")
    assert "Cancelled" in text_of(await held.outcome(invocation))


async def test_reroll_makes_another_picture_for_who_pressed(stage):
    first = await stage.outcome(await stage.imagine("alice", "a fish", seed=5))
    press = await stage.sandbox.user("bob").press(first, "Reroll")
    second = await stage.outcome(press)
    one, two = await stage.job_of(first), await stage.job_of(second)
    assert two.request.prompt == one.request.prompt
    assert two.request.seed != one.request.seed
    assert two.user_id == stage.sandbox.user("bob").id


async def test_the_queue_is_shown_with_places_and_buttons(held, engine):
    engine.scripts[0].busy = True
    asked = await held.in_turn("bob", "picture 0", "picture 1", "picture 2")
    await soon(engine.holding.wait())
    bob = held.sandbox.user("bob")
    listing = await (await bob.slash("general", "queue")).answer()
    assert listing.ephemeral
    lines = listing.content.splitlines()
    numbered = [f"**{n + 1}.** picture {n} · " in line for n, line in enumerate(lines[:3])]
    assert numbered == [True] * 3
    assert "drawing now" in lines[0]
    assert "3 jobs in the queue" in lines[-1]
    assert len(controls(listing)) == 4
    # The list itself says what became of it, and loses the line and the button.
    await (await bob.press(listing, "Cancel 3")).response()
    assert "Cancelled" in text_of(await held.outcome(asked[2]))
    assert listing.content.startswith("Cancelled.\n**1.**")
    assert "picture 2" not in listing.content
    assert "2 jobs in the queue" in listing.content
    assert len(controls(listing)) == 3
    await (await bob.press(listing, "Cancel 1")).response()
    assert listing.content.startswith("Cancelling")
    assert "picture 0 · stops at the next step" in listing.content
    assert listing.controls[0]["disabled"]
    await (await bob.press(listing, "Refresh")).response()
    assert "Cancelling" not in listing.content
    engine.release.set()
    await held.outcome(asked[1])


async def test_admin_is_for_admins_also_when_discord_lets_it_through(held):
    mallory = held.sandbox.user("mallory")
    for command, options in (
        ("admin queue", {}),
        ("admin pause", {"reason": "x"}),
        ("admin resume", {}),
        ("admin unload", {}),
        ("admin cancel", {"job": "0" * 18}),
    ):
        with pytest.raises(Refusal):
            await mallory.slash("general", command, **options)
        forced = await mallory.slash("general", command, force=True, **options)
        answer = await forced.answer()
        assert answer.ephemeral
        assert "Manage Server" in answer.content
    assert held.queue.control.paused is None


async def test_an_admin_pauses_resumes_and_cancels(stage):
    alice = stage.sandbox.user("alice")
    await (await alice.slash("general", "admin pause", reason="new @everyone driver")).answer()
    invocation = await stage.imagine("bob", "later")
    message = await invocation.answer()
    assert "paused: new" in text_of(message)
    assert "@everyone" not in text_of(message)
    listing = await (await alice.slash("general", "admin queue")).answer()
    assert job_id_of(message) in listing.content
    other = await stage.imagine("bob", "cancelled")
    other_id = job_id_of(await other.answer())
    answer = await (await alice.slash("general", "admin cancel", job=other_id)).answer()
    assert answer.content == "Cancelled."
    assert "Cancelled" in text_of(await stage.outcome(other))
    await (await alice.slash("general", "admin resume")).answer()
    assert (await stage.outcome(invocation)).files
    actions = await stage.database.read(lambda tx: tx.all("SELECT action FROM audit ORDER BY id"))
    assert {"pause", "resume"} <= {row["action"] for row in actions}


async def test_a_private_prompt_is_not_shown_to_admins(held, engine):
    invocation = await held.imagine("bob", "my secret wish", private=True)
    await invocation.response()
    await soon(engine.holding.wait())
    listing = await (await held.sandbox.user("alice").slash("general", "admin queue")).answer()
    assert "(private)" in listing.content
    assert "secret" not in listing.content
    mine = await (await held.sandbox.user("bob").slash("general", "queue")).answer()
    assert "my secret wish" in mine.content


async def test_an_admin_unloads_the_model(held, engine):
    alice = held.sandbox.user("alice")
    invocation = await held.imagine("bob", "busy")
    await soon(engine.holding.wait())
    answer = await (await alice.slash("general", "admin unload")).answer()
    assert "being drawn" in answer.content
    engine.release.set()
    await held.outcome(invocation)
    answer = await (await alice.slash("general", "admin unload")).answer()
    assert "unloaded" in answer.content
    assert engine.state is EngineState.STOPPED
    assert (await held.outcome(await held.imagine("bob", "again"))).files


async def test_show_brings_a_picture_again_to_its_owner_alone(stage):
    first = await stage.outcome(await stage.imagine("alice", "a moon"))
    job_id = job_id_of(first)
    shown = await (await stage.sandbox.user("alice").slash("art", "show", job=job_id)).answer()
    assert shown.ephemeral
    assert shown.files[0].data == first.files[0].data
    refused = await (await stage.sandbox.user("bob").slash("art", "show", job=job_id)).answer()
    assert "no job of yours" in refused.content
    unknown = await (await stage.sandbox.user("bob").slash("art", "show", job="' OR 1")).answer()
    assert "no job of yours" in unknown.content


async def test_the_bot_restarts_between_click_and_answer(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        running = await stage.imagine("alice", "running at the stop")
        waiting = await stage.imagine("bob", "waiting at the stop")
        await running.response()
        await waiting.response()
        await soon(engine.holding.wait())
    async with staged(sandbox, tmp_path) as stage:
        for invocation in (running, waiting):
            message = await stage.outcome(invocation)
            assert message.files
            job = await stage.job_of(message)
            assert (job.engine_faults, job.interruptions, job.attempts) == (0, 0, 1)
        again = await sandbox.user("alice").press(message, "Reroll")
        assert (await stage.outcome(again)).files
        visible = [m for m in sandbox.user("alice").messages("general") if m.author.bot]
        assert len(visible) == 3


async def test_commands_are_synced_only_when_they_changed(sandbox, tmp_path):
    def syncs():
        return [e for e in sandbox.exchanges if e.method == "PUT" and e.route.endswith("/commands")]

    async with staged(sandbox, tmp_path):
        assert len(syncs()) == 1
    async with staged(sandbox, tmp_path):
        assert len(syncs()) == 1
    # The same data at another Discord, which knows no commands yet.
    async with Sandbox() as fresh, staged(fresh, tmp_path) as stage:
        assert (await stage.outcome(await stage.imagine("bob", "again"))).files
