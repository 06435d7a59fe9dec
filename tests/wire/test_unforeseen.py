"""Faults that nobody foresaw: the user reads an id, the log has it too, the queue goes on."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bot.delivery import card_maker, courier
from bot.domain.job import JobState
from storage.images import ImageStore
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import is_outcome, job_id_of, soon, staged, text_of

DAMAGED = "0123456789abcdef00"


class Unforeseen(Exception):
    pass


def breaks(*_, **__):
    raise Unforeseen


def short_id(text: str) -> str:
    return re.search(r"`([0-9a-f]{6})`", text)[1]


@contextmanager
def logged(words: str) -> Iterator[asyncio.Event]:
    """Yield what is set once the bot logs these words, or a fault that nobody foresaw."""
    found = asyncio.Event()

    class Ears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if words in text or "unexpected" in text:
                found.set()

    ears = Ears()
    logging.getLogger("bot").addHandler(ears)
    try:
        yield found
    finally:
        logging.getLogger("bot").removeHandler(ears)


async def test_in_a_command(stage, monkeypatch, caplog):
    monkeypatch.setattr(stage.app.client.services.courier, "kept_for", breaks)
    said = (await (await stage.sandbox.user("alice").slash("art", "queue")).answer()).content
    assert short_id(said) in caplog.text
    assert (await stage.outcome(await stage.imagine("alice", "goes on"))).files


async def test_in_a_command_while_the_bot_stops(stage, monkeypatch, caplog):
    """What a stop closes under a command is no fault: no id, no traceback."""

    def closing(*_, **__):
        stage.queue.close()
        raise Unforeseen

    monkeypatch.setattr(stage.app.client.services.courier, "kept_for", closing)
    with logged("the bot stops (Unforeseen)") as told:
        await stage.sandbox.user("alice").slash("art", "queue")
        await soon(told.wait())
    assert "left without an answer: the bot stops (Unforeseen)" in caplog.text
    assert not any(record.exc_info for record in caplog.records)


async def test_in_the_arithmetic_of_places(stage, monkeypatch, caplog):
    monkeypatch.setattr(stage.queue.forecast, "look", breaks)
    asked = await stage.imagine("alice", "goes on")
    assert "In the queue" in text_of(await asked.answer())
    assert "its place could not be worked out" in caplog.text
    assert (await stage.outcome(asked)).files


async def test_in_a_direct_message(stage, monkeypatch, caplog):
    # discord.py loads each cog into a module of its own making.
    monkeypatch.setattr(sys.modules["cogs.messages"], "compose_directly", breaks)
    await stage.sandbox.user("bob").send("dm", "a boat")
    (said,) = await stage.sandbox.wait(
        lambda: [m for m in stage.sandbox.user("bob").messages("dm") if m.author.bot]
    )
    assert short_id(said.content) in caplog.text


async def test_in_the_worker(stage, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(ImageStore, "keep", breaks)
        message = await stage.outcome(await stage.imagine("alice", "a house"))
    job_id = job_id_of(message)
    assert (await stage.queue.job(job_id)).state is JobState.FAILED
    assert job_id in text_of(message)
    assert f"job {job_id}: unexpected error" in caplog.text
    assert (await stage.outcome(await stage.imagine("alice", "goes on"))).files


@pytest.mark.usefixtures("hurry")
async def test_in_the_courier(stage, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(card_maker, "outcome", breaks)
        message = await stage.outcome(await stage.imagine("alice", "a house"))
    delivery = await stage.delivered(job_id_of(message))
    assert delivery.state == "delivered"
    assert stage.visible() == [message]
    error_id = short_id(text_of(message))
    assert f"unexpected error {error_id}" in caplog.text
    assert error_id in delivery.error
    alice = stage.sandbox.user("alice")
    assert (await (await alice.slash("art", "show", job=delivery.job_id)).answer()).files
    assert (await stage.outcome(await stage.imagine("alice", "goes on"))).files


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(("module", "place"), [(card_maker, "outcome"), (courier, "rungs")])
async def test_in_the_courier_once(stage, monkeypatch, module, place):
    works, faults = getattr(module, place), [Unforeseen()]

    def first_breaks(*arguments, **options):
        if faults:
            raise faults.pop()
        return works(*arguments, **options)

    monkeypatch.setattr(module, place, first_breaks)
    message = await stage.outcome(await stage.imagine("alice", "a house"))
    assert message.files
    delivery = await stage.delivered(job_id_of(message))
    assert "unexpected" in delivery.error
    assert delivery.attempts >= 2


@pytest.mark.usefixtures("hurry")
async def test_in_the_courier_before_and_after_it_looks(stage, monkeypatch):
    """What fails wherever it is touched is given up, without spinning."""
    monkeypatch.setattr(card_maker, "outcome", breaks)
    monkeypatch.setattr(courier, "broken", breaks)
    before = stage.database.commits
    response = await (await stage.imagine("alice", "a house")).response()
    delivery = await stage.delivered(job_id_of(response.message))
    assert delivery.state == "undeliverable"
    assert "given up" in delivery.error
    assert stage.database.commits - before < 40


async def test_an_unreadable_answer_is_sent_all_the_same(stage):
    message = await stage.outcome(await stage.imagine("alice", "a house"))
    await stage.delivered(job_id_of(message))
    await stage.database.write(lambda tx: damage(tx, "generated", "pending"))
    before = stage.database.commits
    await stage.outcome(await stage.imagine("alice", "wakes the courier"))
    assert (await stage.delivered(DAMAGED)).rung == "dm"
    assert stage.database.commits - before < 20
    (private,) = stage.visible(channel="dm")
    press = await stage.sandbox.user("alice").press(private, "Try again")
    assert "no longer be read" in (await press.answer()).content


async def test_an_unreadable_request_keeps_nothing_from_starting(sandbox, tmp_path, caplog):
    engine = ScriptedEngine(Script(hold_at=1))
    async with staged(sandbox, tmp_path, engine) as stage:
        _, job_id = await stage.asked()
        await stage.database.write(lambda tx: damage(tx, "queued", "waiting"))
    idle = ScriptedEngine()
    async with staged(sandbox, tmp_path, idle) as stage:
        assert (await stage.delivered(job_id)).state == "delivered"
        await stage.delivered(DAMAGED)
        assert (await stage.queue.job(DAMAGED)).state is JobState.FAILED
        (private,) = [m for m in stage.sandbox.user("alice").messages("dm") if is_outcome(m)]
        assert f"({DAMAGED})" in text_of(private)
        assert f"job {DAMAGED}: its stored request cannot be read" in caplog.text
        assert len(idle.requests) == 1


async def damage(tx, state: str, delivery: str) -> None:
    """Add a job like the first, with a request that no longer passes the checks."""
    columns = "user_id, target, seed, images, work, created_at"
    await tx.execute(
        f"INSERT INTO jobs (id, source_id, state, request, {columns}) SELECT '{DAMAGED}', 'x',"
        f' \'{state}\', \'{{"prompt": "x", "count": 9}}\', {columns} FROM jobs LIMIT 1'
    )
    await tx.execute(f"INSERT INTO deliveries (job_id, state) VALUES ('{DAMAGED}', '{delivery}')")


async def test_an_answer_that_is_gone_by_then_is_no_fault(stage, caplog):
    """A picture is deleted while it is taken out of its batch."""
    bob = stage.sandbox.user("bob")
    batch = await stage.outcome(await stage.imagine("bob", "a fish", count=2))
    job_id = job_id_of(batch)
    await stage.delivered(job_id)
    held = stage.sandbox.faults.hold("PATCH", "/webhooks/*")
    picked = await bob.press(batch, f"pick:{job_id}.0")
    await soon(held.reached.wait())
    await bob.press(batch, f"delete:{job_id}")
    await stage.sandbox.wait(lambda: picked.message is None)
    with logged("404 10008") as told:
        held.release()
        await soon(told.wait())
    assert not picked.followups
    assert "unexpected" not in caplog.text


async def test_an_answer_that_comes_too_late_is_no_fault(stage, caplog):
    held = stage.sandbox.faults.hold("POST", "/interactions/*/callback")
    await stage.sandbox.user("bob").slash("general", "queue")
    await soon(held.reached.wait())
    stage.sandbox.clock.advance(31)
    with logged("404 10062") as told:
        held.release()
        await soon(told.wait())
    assert "unexpected" not in caplog.text
