"""A burst of requests: accepted work goes on, and nobody's answer waits for arithmetic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bot.errors import LimitReached, QueueClosed
from bot.jobs.standing import Standing
from bot.messages.status import waiting_status
from bot.rules.limits import Limits
from storage.database import Database, Transaction
from tests.jobs.kit import (
    finish,
    make_origin,
    make_request,
    one,
    open_queue,
    refused,
    submit,
)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)


@asynccontextmanager
async def busy(database: Database) -> AsyncIterator[None]:
    """Keep the writing connection for the length of the block, with another write behind it."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def hold(tx: Transaction) -> None:
        begun.set()
        await release.wait()

    holding = asyncio.create_task(database.write(hold))
    await begun.wait()
    behind = asyncio.create_task(database.write(lambda tx: tx.value("SELECT 1")))
    await until(lambda: database.crowded)
    try:
        yield
    finally:
        release.set()
        await asyncio.gather(holding, behind)


async def test_claims_and_outcomes_go_before_the_requests_that_came_earlier(queue, database):
    await submit(queue)
    drawn = await queue.get()
    await submit(queue)
    waiting_when: dict[str, int] = {}

    async def after(name: str, work) -> None:
        await work
        waiting_when[name] = len(accepted)

    accepted: list[str] = []
    requests = []
    async with asyncio.timeout(20):
        async with busy(database):
            for number in range(30):
                task = asyncio.create_task(
                    queue.submit(make_request(), make_origin(2, source_id=f"b{number}"))
                )
                task.add_done_callback(lambda _: accepted.append("one"))
                requests.append(task)
            # Each has been read through, and stands in the line by now.
            await until(lambda: len(database._writing._lines[1]) == 31)
            ends = asyncio.create_task(after("outcome", finish(queue, drawn)))
            claims = asyncio.create_task(after("claim", queue.get()))
            await until(lambda: len(database._writing._lines[0]) == 2)
        await asyncio.gather(ends, claims, *requests)
    assert waiting_when == {"outcome": 0, "claim": 0}
    assert len(accepted) == 30


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (Limits(open_jobs=1), LimitReached),
        (Limits(images_per_day=1), LimitReached),
        (Limits(cooldown_s=60), LimitReached),
        (Limits(queue_size=1), QueueClosed),
    ],
)
async def test_who_is_refused_does_not_stand_in_the_line(tmp_path, limits, error):
    async with open_queue(tmp_path, limits) as (queue, database):
        await submit(queue)
        async with asyncio.timeout(10), busy(database):
            with refused(error, "."):
                await submit(queue)
        assert await one(database, "SELECT count(*) FROM jobs") == 1


async def test_however_many_ask_the_places_are_worked_out_once(queue, database, monkeypatch):
    for number in range(20):
        await submit(queue, number)
    looks = 0
    look = queue.forecast.look

    async def counted(tx: Transaction):
        nonlocal looks
        looks += 1
        return await look(tx)

    monkeypatch.setattr(queue.forecast, "look", counted)
    async with asyncio.timeout(10):
        found = await asyncio.gather(*(queue.standing.now() for _ in range(200)))
    assert looks == 1
    assert all(standing.places == found[0].places for standing in found)
    assert [place.ahead for place in found[0].places.values()] == list(range(20))


async def test_who_asks_during_the_work_gets_the_next_one(queue, monkeypatch):
    await submit(queue)
    reading, go_on = asyncio.Event(), asyncio.Event()
    look = queue.forecast.look

    async def slow(tx: Transaction):
        found = await look(tx)
        reading.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(queue.forecast, "look", slow)
    async with asyncio.timeout(10):
        early = asyncio.create_task(queue.standing.now())
        await reading.wait()
        commits = queue._database.commits
        submitting = asyncio.create_task(submit(queue))
        await until(lambda: queue._database.commits > commits)
        late = asyncio.create_task(queue.standing.now())
        await asyncio.sleep(0)
        go_on.set()
        assert len((await early).order) == 1
        assert len((await late).order) == 2
        await submitting


async def test_the_wait_for_a_connection_is_no_work_to_rest_from(queue, database, monkeypatch):
    """In a burst all who read stand in a line; whoever asks next would wait four times as long."""
    await submit(queue)
    loop, never = asyncio.get_running_loop(), asyncio.Event()
    real, offset = loop.time, [0.0]

    async def held(tx: Transaction):
        await never.wait()

    async with asyncio.timeout(10):
        holding = [asyncio.create_task(database.read(held)) for _ in range(2)]
        await until(database._free.empty)
        asking = asyncio.create_task(queue.standing.now())
        await until(lambda: len(database._free._getters) == 1)
    monkeypatch.setattr(loop, "time", lambda: real() + offset[0])
    offset[0] = 100.0
    never.set()
    await asyncio.gather(asking, *holding)
    assert queue.standing._rests_until - loop.time() < 100


async def test_an_answer_does_not_wait_for_a_place(queue, monkeypatch):
    never = asyncio.Event()

    async def hang(tx: Transaction):
        await never.wait()

    monkeypatch.setattr(queue.forecast, "look", hang)
    async with asyncio.timeout(10):
        job = await submit(queue)
        assert await queue.standing.place(job.id, 0.01) is None
    assert waiting_status(None, None) == "⏳ In the queue"
    assert "the queue is paused: lunch" in waiting_status(None, "lunch")
    never.set()


async def test_long_queues_are_worked_out_beside_the_loop(queue, database, monkeypatch):
    """The same result by way of a thread, and the loop goes on meanwhile."""
    for number in range(5):
        await submit(queue, number)
    plain = await queue.standing.now()
    monkeypatch.setattr("bot.jobs.standing._LONG", 0)
    loops: list[object] = []
    monkeypatch.setattr("bot.jobs.forecast.places", lambda *_: loops.append(_loop()) or {})
    found = await Standing(database, queue.forecast).now()
    assert found.order == plain.order
    assert loops == [None]


def _loop() -> object:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
