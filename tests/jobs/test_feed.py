"""The feed: nobody is waited for, the last word is never lost."""

from __future__ import annotations

import asyncio
import json

from bot.domain.request import ImageRequest
from bot.jobs.feed import UNREAD_LIMIT, Feed, JobUpdate
from bot.pictures.parameters_written import png_texts
from tests.jobs.kit import finish, make_request, submit


async def read(subscription, count: int) -> list[JobUpdate]:
    async with asyncio.timeout(10):
        return [await anext(subscription) for _ in range(count)]


async def test_a_slow_reader_gets_the_newest_of_each_job():
    feed = Feed()
    with feed.subscribe() as reader:
        for step in range(1, 50):
            feed.publish(JobUpdate("a", "step", step, 50))
        feed.publish(JobUpdate("b", "queued"))
        feed.publish(JobUpdate("a", "preview", 50, 50, preview=b"picture"))
        feed.publish(JobUpdate("a", "step", 50, 50))
        assert await read(reader, 2) == [
            JobUpdate("a", "step", 50, 50, preview=b"picture"),
            JobUpdate("b", "queued"),
        ]
        feed.publish(JobUpdate("a", "final"))
        feed.publish(JobUpdate("a", "step", 50, 50))
        assert await read(reader, 1) == [JobUpdate("a", "final")]


async def test_unread_news_is_bounded_but_no_final_is_lost():
    feed = Feed()
    with feed.subscribe() as reader:
        for number in range(UNREAD_LIMIT):
            feed.publish(JobUpdate(f"f{number}", "final"))
        for number in range(UNREAD_LIMIT * 2):
            feed.publish(JobUpdate(f"s{number}", "step", 1, 2))
        assert len(reader._unread) == UNREAD_LIMIT
        updates = await read(reader, UNREAD_LIMIT)
    assert {update.kind for update in updates} == {"final"}


async def test_a_waiting_reader_is_woken_and_a_left_one_forgotten():
    feed = Feed()
    with feed.subscribe() as reader, feed.subscribe() as other:
        reading = asyncio.create_task(anext(reader))
        await asyncio.sleep(0)
        feed.publish(JobUpdate("a", "running"))
        async with asyncio.timeout(10):
            assert await reading == await anext(other) == JobUpdate("a", "running")
    feed.publish(JobUpdate("a", "final"))
    assert not reader._unread
    assert not feed._subscriptions


async def test_what_is_known_of_open_jobs_is_kept_and_then_forgotten():
    feed = Feed()
    feed.publish(JobUpdate("a", "step", 3, 9))
    feed.publish(JobUpdate("a", "moved"))
    assert feed.latest("a") == JobUpdate("a", "step", 3, 9)
    feed.publish(JobUpdate("a", "final"))
    assert feed.latest("a") is None


async def test_the_queue_tells_a_whole_life(queue):
    with queue.feed.subscribe() as reader:
        first = await submit(queue, 1)
        other = await submit(queue, 2)
        assert [(u.job_id, u.kind) for u in await read(reader, 3)] == [
            (first.id, "queued"),
            ("", "moved"),
            (other.id, "queued"),
        ]
        job = await queue.get()
        assert {(u.job_id, u.kind) for u in await read(reader, 2)} == {
            (first.id, "running"),
            ("", "moved"),
        }
        await finish(queue, job)
        await queue.cancel(other.id, by=2)
        assert {(u.job_id, u.kind) for u in await read(reader, 3)} == {
            (first.id, "final"),
            ("", "moved"),
            (other.id, "final"),
        }


async def test_that_places_moved_is_told_once_however_many_wait(queue):
    for number in range(5):
        await submit(queue, number)
    with queue.feed.subscribe() as reader:
        await queue.cancel((await queue.get()).id, by=0)
        await submit(queue, 9)
        kinds = [update.kind for update in reader._unread.values()]
    assert kinds.count("moved") == 1


def test_the_text_in_each_png_draws_it_again():
    request = make_request("a cat\nin a hat", negative_prompt="dog", seed=2**53 - 1, count=2)
    first, second = png_texts("01abc", request, "Qwen/Qwen-Image")
    assert first["parameters"] == (
        "a cat\nin a hat\nNegative prompt: dog\n"
        "Steps: 3, Sampler: Euler, CFG scale: 4, Seed: 9007199254740991, Size: 256x256, "
        "Model: Qwen/Qwen-Image"
    )
    assert "Seed: 0," in second["parameters"]
    values = json.loads(second["request"])
    assert (values["job_id"], values["position"], values["seed"]) == ("01abc", 1, 0)
    again = ImageRequest.from_json(second["request"])
    assert again.with_changes(extra={}) == request.with_changes(seed=0, count=1)
