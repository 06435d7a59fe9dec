"""Each fault of Discord, its proxy or the network, at each place where the bot speaks to it.

Whatever happens: the job ends, at most one answer is visible, its row says why it took another way
or another time, and Discord is asked a bounded number of times.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.engines import Script, ScriptedEngine
from tests.wire.kit import is_answer, soon, staged

pytestmark = pytest.mark.usefixtures("hurry")

# discord.py itself asks five times; once more for the courier's own next attempt.
MOST_CALLS = 7
PLACES = ("first response", "reply", "direct", "token", "edit", "channel", "dm")
ROUTES = {
    "first response": ("POST", "/interactions/*/callback"),
    "reply": ("POST", "/channels/*/messages"),
    "direct": ("POST", "/channels/*/messages"),
    "token": ("PATCH", "/webhooks/*"),
    "edit": ("PATCH", "/channels/*/messages/*"),
    "channel": ("POST", "/channels/*/messages"),
    "dm": ("POST", "/channels/*/messages"),
}


@dataclass(frozen=True)
class Trouble:
    """A fault and what becomes of the way it meets.

    `outcome`: "again" (tried again, the same way works), "closed" (the next way), or "waits" (a
    refusal of the bot as a whole: the bot's own ways stay open, and are left alone for minutes).
    """

    name: str
    cause: Callable[..., Any]
    outcome: str = "again"
    why: str = ""


def status(code: int, detail: int = 0, times: int = 1):
    def cause(faults, method, route, when):
        return faults.respond(method, route, code, code=detail, times=times, when=when)

    return cause


def limit(**options: bool):
    def cause(faults, method, route, when):
        return faults.rate_limit(method, route, when=when, **options)

    return cause


def reset(*, after: bool):
    def cause(faults, method, route, when):
        return faults.reset(method, route, after=after, when=when)

    return cause


def slow(faults, method, route, when):
    return faults.hold(method, route, when=when, times=1)


TROUBLES = [
    Trouble("401", status(401), "waits", "401"),
    Trouble("403", status(403), "waits", "403"),
    Trouble("403 missing permissions", status(403, 50013), "closed", "403 50013"),
    Trouble("404 unknown interaction", status(404, 10062), "closed", "404 10062"),
    Trouble("413 of a picture that gets no smaller", status(413, 40005), "closed", "413 40005"),
    Trouble("429 of Discord", limit()),
    Trouble("429 for everything", limit(everywhere=True)),
    Trouble("429 of the proxy", limit(via=False), why="429"),
    Trouble("500", status(500, times=6), why="500"),
    Trouble("502", status(502, times=6), why="502"),
    Trouble("503", status(503, times=6), why="503"),
    Trouble("504", status(504, times=6), why="504"),
    Trouble("524", status(524, times=6), why="524"),
    Trouble("reset before", reset(after=False), why="Disconnected|Reset|ClientOSError"),
    Trouble("reset after", reset(after=True), why="Disconnected|Reset|ClientOSError"),
    Trouble("slow", slow),
]
# Each trouble in one place, and each place with two troubles; the others take their time.
EVERYWHERE = {"503", "reset after"}
WITH_OTHERS_OF_ITS_KIND = {"502", "504", "524"}
MEETINGS = [
    pytest.param(
        trouble,
        place,
        id=f"{trouble.name}-{place}",
        marks=[]
        if trouble.name in EVERYWHERE
        or (place == "edit" and trouble.name not in WITH_OTHERS_OF_ITS_KIND)
        else [pytest.mark.slow],
    )
    for trouble in TROUBLES
    for place in PLACES
]
NEXT_WAY = {
    "reply": "token",
    "direct": "token",
    "token": "edit",
    "edit": "channel",
    "channel": "dm",
    "dm": "kept",
}


async def meet(stage, place: str, trouble: Trouble):
    """Ask for a picture, let its answer come to `place`, and let it meet `trouble` there."""
    sandbox, engine = stage.sandbox, stage.engine
    if place == "first response":
        fault = trouble.cause(sandbox.faults, *ROUTES[place], None)
        await stage.imagine("alice", "a house", "art")
        await soon(engine.holding.wait())
    else:
        message, _ = await stage.asked(channel="art", private=place == "dm")
        if place in {"edit", "dm"}:
            sandbox.clock.advance(16 * 60)
        elif place == "channel":
            sandbox.world.delete_message(message)
        elif place in {"reply", "direct"}:
            await stage.prefer(place, "alice")
            stage.advance(25)
        fault = trouble.cause(sandbox.faults, *ROUTES[place], is_answer)
    engine.release.set()
    await soon(fault.reached.wait())
    if trouble.cause is slow:
        sandbox.clock.advance(40)
        fault.release()
    return fault, engine.requests[-1].job_id


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "place"), MEETINGS)
async def test_no_trouble_loses_or_repeats_an_answer(sandbox, tmp_path, place, trouble):
    async with staged(sandbox, tmp_path, ScriptedEngine(Script(hold_at=1))) as stage:
        fault, job_id = await meet(stage, place, trouble)
        if trouble.outcome == "waits" and place not in {"first response", "token"}:
            delivery = await stage.postponed(job_id)
            assert trouble.why in delivery.error
            assert delivery.next_attempt_at - time.time() > 500
            assert fault.hits == 1
            stage.advance(700)
        delivery = await stage.delivered(job_id)
        assert fault.hits <= MOST_CALLS
        if trouble.outcome != "again" and "429" not in trouble.name:
            assert fault.hits == 1
        seen = [*stage.visible(channel="art"), *stage.visible(channel="dm")]
        assert len(seen) == (delivery.state == "delivered")
        records = await stage.queue.images(job_id)
        for message in seen:
            sums = [hashlib.sha256(file.data).hexdigest() for file in message.files]
            assert sums == [record.sha256 for record in records]
        if place == "first response":
            assert delivery.state == "delivered"
            # No word about an error beside the answer.
            assert [m for m in sandbox.user("alice").messages("art") if m.author.bot] == seen
            return
        closed = trouble.outcome == "closed" or (trouble.outcome == "waits" and place == "token")
        way = NEXT_WAY[place] if closed else place
        assert delivery.rung == way
        assert delivery.state == ("undeliverable" if way == "kept" else "delivered")
        if trouble.why:
            assert any(word in delivery.error for word in trouble.why.split("|"))
