"""The ladder over the wire: each way closed in turn, each fault in its place, one answer always."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from bot.sandbox.people import NoResponse
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import controls, is_answer, is_outcome, job_id_of, soon, staged, text_of

EDIT_BY_TOKEN = ("PATCH", "/webhooks/*")
EDIT_BY_BOT = ("PATCH", "/channels/*/messages/*")
EDIT_ROUTE = ("PATCH", "/channels/{channel_id}/messages/{message_id}")
POST = ("POST", "/channels/*/messages")
CALLBACK = ("POST", "/interactions/*/callback")


@pytest.fixture
def engine():
    return ScriptedEngine(Script(hold_at=1))


@pytest.fixture
async def held(sandbox, tmp_path, engine):
    async with staged(sandbox, tmp_path / "data", engine) as stage:
        yield stage


def visible(stage, name="alice", channel="general"):
    """The finished answers that a user sees."""
    return [m for m in stage.sandbox.user(name).messages(channel) if is_outcome(m)]


async def asked(stage, engine, name="alice", **options):
    """Ask for a picture whose drawing waits; return the invocation, its message and job id."""
    invocation = await stage.imagine(name, "a house", **options)
    message = await invocation.answer()
    await soon(engine.holding.wait())
    return invocation, message, job_id_of(message)


async def test_a_dead_token_is_followed_by_the_bots_own_edit(held, engine):
    _, message, job_id = await asked(held, engine)
    held.sandbox.clock.advance(16 * 60)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert (delivery.state, delivery.rung, delivery.token) == ("delivered", "edit", None)
    assert visible(held) == [message]
    assert message.files
    tries = [e for e in held.sandbox.exchanges if e.status == 401]
    assert len(tries) <= 2


async def test_a_deleted_message_is_followed_by_a_new_one(held, engine):
    _, message, job_id = await asked(held, engine)
    held.sandbox.world.delete_message(message)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung == "channel"
    (new,) = visible(held)
    assert new.id == delivery.sent_message_id
    assert new.files
    assert [user.name for user in new.mentions] == ["alice"]


async def test_a_closed_channel_is_followed_by_a_direct_message(held, engine):
    _, message, job_id = await asked(held, engine)
    held.sandbox.world.delete_message(message)
    held.sandbox.faults.respond(*POST, 403, code=50013, when=is_answer)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung == "dm"
    assert not visible(held)
    (private,) = visible(held, channel="dm")
    assert private.files


async def test_closed_direct_messages_leave_the_picture_for_show(held, engine):
    _, message, job_id = await asked(held, engine)
    held.sandbox.world.delete_message(message)
    held.sandbox.faults.respond(*POST, 403, code=50007, times=None)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert (delivery.state, delivery.rung) == ("undeliverable", "kept")
    assert "50007" in delivery.error
    alice = held.sandbox.user("alice")
    assert job_id in (await (await alice.slash("art", "queue")).answer()).content
    done = asyncio.create_task(
        held.app.client.wait_for("app_command_completion", check=lambda _, c: c.name == "show")
    )
    shown = await (await alice.slash("art", "show", job=job_id)).answer()
    assert shown.files
    await soon(done)
    assert (await held.delivery(job_id)).state == "delivered"
    assert job_id not in (await (await alice.slash("art", "queue")).answer()).content


async def test_a_private_picture_never_takes_a_public_way(held, engine):
    _, _, job_id = await asked(held, engine, private=True)
    held.sandbox.clock.advance(16 * 60)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.rung == "dm"
    assert not visible(held, "bob")
    assert visible(held, channel="dm")
    assert not [e for e in held.sandbox.exchanges if (e.method, e.route) == EDIT_ROUTE]


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("status", [500, 502, 503, 504, 524])
async def test_a_server_error_is_retried(held, engine, status):
    _, message, job_id = await asked(held, engine)
    # discord.py itself repeats a webhook call five times with pauses; one answer is enough here.
    fault = held.sandbox.faults.respond(*EDIT_BY_TOKEN, status, when=is_answer)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert fault.hits == 1
    assert delivery.state == "delivered"
    assert visible(held) == [message]


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_cut_connection_at_the_edit(held, engine, after):
    _, message, job_id = await asked(held, engine)
    held.sandbox.faults.reset(*EDIT_BY_TOKEN, after=after, when=is_answer)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.attempts == 2
    assert visible(held) == [message]


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_cut_connection_at_a_new_message_makes_no_second_one(held, engine, after):
    _, message, job_id = await asked(held, engine)
    held.sandbox.world.delete_message(message)
    held.sandbox.faults.reset(*POST, after=after, when=is_answer)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert (delivery.rung, delivery.attempts) == ("channel", 4)
    (new,) = visible(held)
    assert new.id == delivery.sent_message_id


@pytest.mark.parametrize("via", [True, False], ids=["discord", "proxy"])
async def test_a_rate_limit_is_obeyed(held, engine, via):
    _, message, job_id = await asked(held, engine)
    held.sandbox.faults.rate_limit(*EDIT_BY_TOKEN, 0.2, via=via, when=is_answer)
    engine.release.set()
    assert (await held.delivered(job_id)).state == "delivered"
    assert visible(held) == [message]


async def test_too_large_an_upload_is_made_smaller(held, engine):
    _, message, job_id = await asked(held, engine)
    held.sandbox.faults.respond(*EDIT_BY_TOKEN, 413, code=40005, when=is_answer)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert delivery.state == "delivered"
    assert message.files


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_lost_first_response_loses_no_picture(sandbox, tmp_path, after):
    sandbox.faults.reset(*CALLBACK, after=after)
    async with staged(sandbox, tmp_path) as stage:
        invocation = await stage.imagine("alice", "a house")
        if not after:
            sandbox.clock.advance(31)
            with pytest.raises(NoResponse):
                await invocation.response()
        (message,) = await sandbox.wait(lambda: visible(stage))
        assert message.files
        assert (await stage.delivered(job_id_of(message))).state == "delivered"
        assert len(visible(stage)) == 1


async def test_a_slow_database_defers_and_then_answers(stage, impatient):
    async with held_write(stage) as release:
        invocation = await stage.imagine("bob", "patience")
        response = await invocation.response()
        assert response.deferred
        release.set()
        message = await stage.outcome(invocation)
    assert "patience" in text_of(message)
    assert (await stage.delivered(job_id_of(message))).message_id == message.id


@asynccontextmanager
async def held_write(stage):
    """Keep the writing connection busy until the event is set, or the test has failed."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def hold(tx):
        entered.set()
        await release.wait()

    held = asyncio.create_task(stage.database.write(hold))
    try:
        await soon(entered.wait())
        yield release
    finally:
        release.set()
        await held


def direct(stage, name="bob"):
    return [m for m in stage.sandbox.user(name).messages("dm") if m.author.bot]


async def test_a_slow_progress_edit_never_follows_the_answer(held, engine, monkeypatch):
    monkeypatch.setattr("bot.delivery.progress.RUNNING_PACE_S", 0.05)
    await held.sandbox.user("bob").send("dm", "a boat")
    (message,) = await held.sandbox.wait(lambda: direct(held))
    slow = held.sandbox.faults.hold(*EDIT_BY_BOT)
    await soon(slow.reached.wait())
    with held.queue.feed.subscribe() as updates:
        engine.release.set()
        async for update in updates:
            if update.kind == "final":
                break
    slow.release()
    assert (await held.delivered(job_id_of(message))).rung == "edit"
    edits = [e for e in held.sandbox.exchanges if (e.method, e.route) == EDIT_ROUTE]
    assert len(edits) == 2
    assert "reroll:" in str(edits[-1].request)
    assert is_outcome(message)
    assert message.files


@pytest.mark.usefixtures("hurry")
async def test_a_late_look_up_does_not_take_the_progress_message_for_the_answer(held, engine):
    held.sandbox.faults.reset(*POST, after=True)
    await held.sandbox.user("bob").send("dm", "a boat")
    (message,) = await held.sandbox.wait(lambda: direct(held))
    await soon(engine.holding.wait())
    down = held.sandbox.faults.respond(*POST, 503, times=None)
    engine.release.set()
    await soon(down.reached.wait())
    courier = held.app.client.services.courier
    courier._clock = courier._ladder._clock = lambda: time.time() + 90
    down.times = down.hits
    delivery = await held.delivered(job_id_of(message))
    assert delivery.rung == "channel"
    (answer,) = [m for m in direct(held) if is_outcome(m)]
    assert answer.files
    assert delivery.sent_message_id == answer.id


FILTERS = [(400, 20009), (403, 200000), (400, 240000)]
SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "late"),
    [
        (400, 20009, 0),
        (403, 200000, 16 * 60),
        (403, 50278, 0),
        pytest.param(400, 20009, 16 * 60, marks=SLOW),
        pytest.param(403, 200000, 0, marks=SLOW),
        pytest.param(400, 240000, 0, marks=SLOW),
        pytest.param(400, 240000, 16 * 60, marks=SLOW),
        pytest.param(403, 50278, 16 * 60, marks=SLOW),
    ],
)
async def test_what_is_refused_on_every_way_is_said_on_its_message(
    held, engine, status, code, late
):
    """The message loses its untrue words and its button; the picture stays for /show."""
    _, message, job_id = await asked(held, engine)
    held.sandbox.clock.advance(late)
    refused = held.sandbox.faults.respond("*", "*", status, code=code, when=is_answer, times=None)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert (delivery.state, delivery.rung, delivery.token) == ("undeliverable", "kept", None)
    assert str(code) in delivery.error
    assert refused.hits >= 3
    assert not controls(message)
    assert "</show:" in text_of(message)
    assert ("filters" in text_of(message)) == ((status, code) in FILTERS)
    assert "a house" not in text_of(message)
    alice = held.sandbox.user("alice")
    if (status, code) in FILTERS:
        told = (await (await alice.slash("art", "show", job=job_id)).answer()).content
        assert "filters" in told
    held.sandbox.faults.clear()
    assert (await (await alice.slash("art", "show", job=job_id)).answer()).files


async def test_what_is_refused_by_direct_message_is_said_there(held, engine):
    await held.sandbox.user("bob").send("dm", "a boat")
    (message,) = await held.sandbox.wait(lambda: direct(held))
    await soon(engine.holding.wait())
    held.sandbox.faults.respond("*", "*", 400, code=20009, when=is_answer, times=None)
    engine.release.set()
    assert (await held.delivered(job_id_of(message))).state == "undeliverable"
    assert not controls(message)
    assert "filters" in text_of(message)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("private", [False, pytest.param(True, marks=SLOW)])
async def test_that_an_answer_is_kept_is_said_though_discord_is_down_at_first(
    held, engine, private
):
    _, message, job_id = await asked(held, engine, private=private)
    held.sandbox.faults.respond("*", "*", 400, code=20009, when=is_answer, times=None)
    down = held.sandbox.faults.respond(*EDIT_BY_TOKEN, 503, times=7, when=says_kept)
    engine.release.set()
    assert (await held.delivered(job_id)).state == "undeliverable"
    assert down.hits == 7
    assert not controls(message)
    assert "</show:" in text_of(message)


async def test_that_an_answer_is_kept_is_not_tried_to_be_said_for_ever(held, engine):
    _, _message, job_id = await asked(held, engine)
    held.sandbox.faults.respond("*", "*", 400, code=20009, when=is_answer, times=None)
    down = held.sandbox.faults.rate_limit(*EDIT_BY_TOKEN, 1000, times=None, when=says_kept)
    still = held.sandbox.faults.rate_limit(*EDIT_BY_BOT, 1000, times=None, when=says_kept)
    engine.release.set()
    assert (await held.postponed(job_id)).rung == "kept"
    held.advance(1001)
    assert (await held.delivered(job_id)).state == "undeliverable"
    assert (down.hits, still.hits) == (1, 1)


def says_kept(exchange) -> bool:
    return "</show:" in str(exchange.request)


async def test_an_answer_sent_privately_instead_is_said_where_only_the_token_reaches(held, engine):
    """The bot may not edit in the channel itself; its message is the interaction's alone."""
    _, message, job_id = await asked(held, engine, private=True)
    held.sandbox.faults.respond(*EDIT_BY_TOKEN, 403, code=200000, when=is_answer)
    engine.release.set()
    assert (await held.delivered(job_id)).rung == "dm"
    await held.sandbox.wait(lambda: not controls(message))
    assert "direct message" in text_of(message)


@pytest.mark.usefixtures("hurry")
async def test_a_message_left_in_an_earlier_pass_is_mended_too(held, engine):
    """Its own ways close; the new message is sent at the second attempt only."""
    _, message, job_id = await asked(held, engine)
    faults = held.sandbox.faults
    faults.respond(*EDIT_BY_TOKEN, 403, code=200000, when=is_answer)
    faults.respond(*EDIT_BY_BOT, 403, code=200000, when=is_answer)
    faults.respond(*POST, 503, times=6, when=is_answer)
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert (delivery.rung, delivery.sent_message_id == message.id) == ("channel", False)
    await held.sandbox.wait(lambda: not controls(message))
    assert str(delivery.sent_message_id) in text_of(message)


@pytest.mark.parametrize(("way", "place"), [(EDIT_BY_TOKEN, "lounge"), (POST, "general")])
@pytest.mark.parametrize("whole", [False, True], ids=["the picture", "all of a user's data"])
async def test_what_is_deleted_while_its_answer_is_sent_does_not_stay(
    held, engine, way, place, whole
):
    """Whoever deletes cannot know of the message yet, or cannot reach it."""
    bob, sandbox = held.sandbox.user("bob"), held.sandbox
    message, job_id = await held.asked("bob", place)
    question = await (await bob.slash("dm", "privacy delete")).answer()
    if way is POST:
        sandbox.world.delete_message(message)
    sending = sandbox.faults.hold(*way, when=is_answer, after=True)
    engine.release.set()
    await soon(sending.reached.wait())
    if whole:
        pressed = await bob.press(question, "Delete everything")
        await pressed.until(lambda m: "Deleted: 1" in m.content)
    else:
        shown = await (await bob.slash("dm", "show", job=job_id)).answer()
        pressed = await bob.press(shown, f"delete:{job_id}")
        await sandbox.wait(lambda: shown.deleted or pressed.followups)
    sending.release()
    await sandbox.wait(lambda: not visible(held, "bob", place))
