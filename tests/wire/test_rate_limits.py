"""Discord's limits: long ones hold nothing else up, and what it refuses is not asked on and on."""

from __future__ import annotations

import asyncio
import time
from math import inf

import discord
import pytest

from bot.delivery import breaker, courier, progress
from bot.jobs.feed import JobUpdate
from bot.sandbox.server import Sandbox
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import is_answer, is_outcome, job_id_of, soon, staged, text_of

EDIT_BY_TOKEN = ("PATCH", "/webhooks/*")
EDIT_BY_BOT = ("PATCH", "/channels/*/messages/*")
HALF_AN_HOUR = 1800
UNLIMITED = {
    "limit_open_jobs": 1000,
    "limit_queue_size": 1000,
    "limit_server_queue_size": 0,
    "limit_cooldown_seconds": 0,
    "limit_images_per_day": 1000,
    "limit_gpu_seconds_per_day": 0,
    "limit_server_images_per_day": 0,
    "limit_server_gpu_seconds_per_day": 0,
}
JOBS = 480
BAN_S = 300
SCALE = 30
"""How much faster than in earnest the clocks of the ban run: its length, paces and pauses."""


@pytest.fixture
def engine():
    return ScriptedEngine(Script(hold_at=1))


@pytest.fixture
async def held(sandbox, tmp_path, engine):
    async with staged(sandbox, tmp_path / "data", engine, **UNLIMITED) as stage:
        # Others get a new message after a long wait (test_notice.py).
        await stage.prefer("quiet", "alice")
        yield stage


def pictures(stage, channel: str = "general"):
    return [m for m in stage.sandbox.user("alice").messages(channel) if is_outcome(m)]


@pytest.mark.parametrize(("way", "late"), [(EDIT_BY_TOKEN, 0), (EDIT_BY_BOT, 16 * 60)])
async def test_a_long_limit_puts_answers_off_and_holds_up_no_others(held, engine, way, late):
    """As many answers as the courier has places are limited for half an hour in one channel."""
    asked = [await held.imagine("alice", f"house {n}") for n in range(courier._AT_ONCE)]
    ids = [job_id_of(await invocation.answer()) for invocation in asked]
    held.advance(late)
    limited = held.sandbox.faults.rate_limit(*way, HALF_AN_HOUR, when=is_answer, times=len(ids))
    engine.release.set()
    for job_id in ids:
        delivery = await held.postponed(job_id)
        left = delivery.next_attempt_at - time.time() - held._offset
        assert HALF_AN_HOUR - 60 < left <= HALF_AN_HOUR
    assert limited.hits == len(ids)
    other = await held.outcome(await held.imagine("bob", "a boat", "art"))
    assert other.files
    assert not pictures(held)
    held.advance(HALF_AN_HOUR)
    for job_id in ids:
        assert (await held.delivered(job_id)).rung == "edit"
    assert len(pictures(held)) == len(ids)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    ("way", "late", "body"),
    [
        (EDIT_BY_TOKEN, 0, {"message": "no wait"}),
        (EDIT_BY_TOKEN, 0, {}),
        (EDIT_BY_BOT, 16 * 60, {"retry_after": "soon"}),
        pytest.param(EDIT_BY_TOKEN, 0, ["?"], marks=pytest.mark.slow),
        pytest.param(EDIT_BY_BOT, 16 * 60, {"message": "no wait"}, marks=pytest.mark.slow),
        pytest.param(EDIT_BY_BOT, 16 * 60, {}, marks=pytest.mark.slow),
        pytest.param(EDIT_BY_BOT, 16 * 60, ["?"], marks=pytest.mark.slow),
    ],
)
async def test_a_limit_that_does_not_say_how_long_is_foreseen(held, engine, way, late, body):
    _, job_id = await held.asked()
    held.sandbox.clock.advance(late)
    limited = held.sandbox.faults.rate_limit(*way, 0.01, when=is_answer)
    limited.body = body
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert limited.hits == 1
    assert "429" in delivery.error
    assert "unexpected" not in delivery.error
    assert len(pictures(held)) == 1
    leave_out(held.sandbox, 429)


def leave_out(sandbox: Sandbox, status: int) -> None:
    """Take an answer's reply that is not Discord's out of what is judged by Discord's description."""
    (odd,) = [one for one in sandbox.exchanges if one.status == status and is_answer(one)][:1]
    sandbox.exchanges.remove(odd)


@pytest.mark.usefixtures("hurry")
async def test_a_garbled_reply_is_foreseen(held, engine):
    """The edit is made, its reply says that it is JSON and is none."""
    _, job_id = await held.asked()
    fault = held.sandbox.faults.respond(*EDIT_BY_TOKEN, 200, when=is_answer, after=True)
    fault.raw = b"<html>"
    engine.release.set()
    delivery = await held.delivered(job_id)
    assert "garbled" in delivery.error
    assert len(pictures(held)) == 1
    leave_out(held.sandbox, 200)


async def test_an_edit_given_up_in_a_limit_for_everything_closes_nothing_for_ever(
    held, engine, monkeypatch
):
    """discord.py opens its gate for all requests only when the limited one has slept."""
    monkeypatch.setattr(progress, "RUNNING_PACE_S", 0.05)
    monkeypatch.setattr(progress, "_PATIENCE_S", 0.05)
    limited = held.sandbox.faults.rate_limit(*EDIT_BY_BOT, 0.5, everywhere=True)
    await held.sandbox.user("alice").send("dm", "a boat")
    await soon(limited.reached.wait())
    engine.release.set()
    (message,) = await held.sandbox.wait(lambda: pictures(held, "dm"), 20)
    assert (await held.delivered(job_id_of(message))).rung == "edit"


async def test_progress_goes_on_when_a_limit_that_it_met_is_over(held, engine, monkeypatch):
    monkeypatch.setattr(progress, "RUNNING_PACE_S", 0.05)
    monkeypatch.setattr(breaker, "LONGEST_WAIT_S", 0.0)
    limited = held.sandbox.faults.rate_limit(*EDIT_BY_TOKEN, 0.2)
    message, job_id = await held.asked()
    await soon(limited.reached.wait())
    for editing in tuple(held.app.client.services.courier._progress._edits):
        await soon(editing)
    held.queue.feed.publish(JobUpdate(job_id, "step", 7, 10))
    await held.sandbox.wait(lambda: "Step 7 of 10" in text_of(message))
    engine.release.set()
    await held.delivered(job_id)


async def asks(stage, times: int) -> list[Exception]:
    """Let the client ask for a user `times` times; return what it raised."""
    errors: list[Exception] = []
    for _ in range(times):
        try:
            await stage.app.client.fetch_user(stage.sandbox.user("bob").id)
        except discord.DiscordException as error:
            errors.append(error)
    return errors


@pytest.mark.parametrize("status", [401, 403, 429])
async def test_refusals_of_the_whole_bot_open_the_breaker_and_one_success_closes_it(stage, status):
    guard, faults = stage.app.breaker, stage.sandbox.faults
    if status == 429:
        faults.rate_limit("GET", "/users/*", 1, via=False, times=breaker.OPENS_AT)
    else:
        faults.respond("GET", "/users/*", status, times=breaker.OPENS_AT)
    await asks(stage, breaker.OPENS_AT - 1)
    assert not guard.open
    await asks(stage, 1)
    assert guard.open
    assert 0 < guard.probe_in_s <= breaker.FIRST_PAUSE_S
    assert not await asks(stage, 1)
    assert not guard.open
    assert guard.probe_in_s == 0


async def test_pauses_between_probes_grow_and_keep_what_discord_asks_for(stage):
    guard, faults = stage.app.breaker, stage.sandbox.faults
    faults.rate_limit("GET", "/users/*", 1, via=False, times=None)
    await asks(stage, breaker.OPENS_AT)
    pauses = []
    for _ in range(6):
        pauses.append(guard.probe_in_s)
        stage.advance(guard.probe_in_s)
        await asks(stage, 1)
    # Jitter takes a quarter off at most.
    assert pauses[:4] == sorted(pauses[:4])
    assert all(40 <= pause <= breaker.LONGEST_PAUSE_S for pause in pauses[4:])
    faults.clear()
    faults.rate_limit("GET", "/users/*", 300, via=False)
    stage.advance(guard.probe_in_s)
    await asks(stage, 1)
    assert 290 < guard.probe_in_s <= 300


async def test_refusals_of_single_requests_are_bounded_too(stage, monkeypatch):
    """Discord counts each 403, also one that speaks of one channel alone."""
    monkeypatch.setattr(breaker, "CAREFUL_AT", 30)
    monkeypatch.setattr(breaker, "MOST", 40)
    guard = stage.app.breaker
    refused = stage.sandbox.faults.respond("GET", "/users/*", 403, code=50001, times=None)
    await asks(stage, 29)
    assert not guard.open
    await asks(stage, 1)
    assert guard.open
    assert guard.probe_in_s == 0
    errors = await asks(stage, 20)
    assert refused.hits == 40
    assert isinstance(errors[-1], discord.RateLimited)
    assert 0 < errors[-1].retry_after <= breaker.WINDOW_S
    stage.advance(breaker.WINDOW_S)
    assert not guard.open
    await asks(stage, 1)
    assert refused.hits == 41


async def test_a_limit_that_others_used_up_is_not_counted(stage, monkeypatch):
    monkeypatch.setattr(breaker, "CAREFUL_AT", 1)
    fault = stage.sandbox.faults.rate_limit("GET", "/users/*", HALF_AN_HOUR)
    fault.headers["X-RateLimit-Scope"] = "shared"
    (error,) = await asks(stage, 1)
    assert isinstance(error, discord.RateLimited)
    assert not stage.app.breaker.open


async def test_a_command_that_meets_a_refusal_asks_no_second_time(stage, caplog):
    """A sentence about the refusal would only be refused too."""
    refused = stage.sandbox.faults.rate_limit(
        "POST", "/interactions/*/callback", 1, via=False, times=None
    )
    await stage.sandbox.user("alice").slash("art", "queue")
    await soon(refused.reached.wait())
    stage.sandbox.faults.clear()
    await (await stage.sandbox.user("bob").slash("art", "queue")).answer()
    assert refused.hits == 1
    assert "unexpected" not in caplog.text
    assert "429" in caplog.text


@pytest.mark.slow
async def test_no_progress_is_shown_while_the_breaker_is_open(held, engine):
    editor = held.app.client.services.courier._progress
    message, job_id = await held.asked()
    held.sandbox.faults.respond("GET", "/users/*", 403, times=breaker.OPENS_AT)
    await asks(held, breaker.OPENS_AT)
    held.advance(progress.WAITING_PACE_S)
    editor._shown[job_id].text = "something else"
    editor._mark(job_id)
    await editor._edit_due()
    assert not editor._edits
    assert job_id in editor._dirty
    await asks(held, 1)
    held.advance(progress.WAITING_PACE_S)
    edited = held.sandbox.faults.hold(*EDIT_BY_TOKEN)
    await editor._edit_due()
    await soon(edited.reached.wait())
    edited.release()
    engine.release.set()
    await held.delivered(job_id)
    assert pictures(held) == [message]


@pytest.mark.slow
async def test_progress_is_edited_a_few_messages_at_a_time(held, engine):
    editor = held.app.client.services.courier._progress
    asked = [await held.imagine("alice", f"house {n}") for n in range(progress._AT_ONCE + 4)]
    ids = [job_id_of(await invocation.answer()) for invocation in asked]
    slow = held.sandbox.faults.hold(*EDIT_BY_TOKEN, times=None)
    for job_id in ids:
        await editor._follow(job_id)
        editor._shown[job_id].text = "something else"
        editor._shown[job_id].edited_at = -inf
        editor._mark(job_id)
    await editor._edit_due()
    assert len(editor._edits) == progress._AT_ONCE
    assert editor._dirty
    slow.release()
    engine.release.set()
    for job_id in ids:
        await held.delivered(job_id)
    assert len(pictures(held)) == len(ids)


def scaled(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Let every pace and pause of this be `scale` times shorter."""
    for module, names in (
        (progress, ("RUNNING_PACE_S", "WAITING_PACE_S", "SLOW_PACE_S")),
        (breaker, ("WINDOW_S", "FIRST_PAUSE_S", "LONGEST_PAUSE_S", "LONGEST_ASKED_S")),
        (courier, ("_FIRST_RETRY_S", "_LONGEST_RETRY_S")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name) / scale)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(BAN_S + 300)
async def test_a_ban_of_five_minutes_over_480_jobs(sandbox, tmp_path, monkeypatch):
    """Every request meets the proxy's 429: few are made, and afterwards each job has its answer."""
    scaled(monkeypatch, SCALE)
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine, **UNLIMITED) as stage:
        ids = []
        for number in range(JOBS):
            invocation = await stage.imagine("alice", f"house {number}")
            ids.append(job_id_of(await invocation.answer()))
        ban = sandbox.faults.rate_limit("*", "*", 1 / SCALE, via=False, times=None)
        over = asyncio.Event()
        sandbox.clock.call_later(BAN_S / SCALE, over.set)
        engine.release.set()
        await over.wait()
        hits = ban.hits
        sandbox.faults.clear()
        for job_id in ids:
            async with asyncio.timeout(60 + courier._LONGEST_RETRY_S):
                delivery = await stage.app.client.services.courier.settled(job_id)
            assert delivery.state == "delivered"
        print(f"{hits} invalid requests")  # noqa: T201
        assert hits < breaker.MOST
        shown = [job_id_of(message) for message in pictures(stage)]
        assert sorted(shown) == sorted(ids)
        assert len([m for m in sandbox.user("alice").messages("dm") if is_outcome(m)]) == 0
