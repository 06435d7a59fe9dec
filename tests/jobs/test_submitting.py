"""Accepted means committed: rows, replay, limits, hostile text."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.job import JobState, Target
from bot.domain.request import ImageRequest
from bot.errors import InvalidRequest, LimitReached, QueueClosed, StorageRefused
from bot.jobs.queue import JobQueue
from bot.messages.refusals import spoken
from bot.rules.limits import DAY_S, Limits
from tests.jobs.kit import (
    MODEL,
    PLENTY,
    finish,
    make_origin,
    make_request,
    one,
    open_queue,
    refused,
    submit,
)


async def test_a_request_becomes_one_row_in_every_table(queue, database, clock):
    request = make_request(negative_prompt="fog", seed=2**53 - 1, count=3, private=True)
    origin = make_origin(5, user_name="Ada", locale="de", message_id=123, bot_in_channel=False)
    submission = await queue.submit(request, origin)
    job = submission.job
    assert not submission.repeated
    assert (job.request, job.state, job.attempts) == (request, JobState.QUEUED, 0)
    assert (job.user_id, job.guild_id, job.channel_id) == (5, 77, 88)
    assert (job.target, job.created_at) == (Target.INTERACTION, clock.now)
    assert await queue.job(job.id) == job

    rows = {}
    for table, key in {"jobs": "id", "deliveries": "job_id", "usage": "job_id"}.items():
        sql = f"SELECT * FROM {table} WHERE {key} = ?"
        rows[table] = dict(await database.read(lambda tx, sql=sql: tx.one(sql, (job.id,))))
    assert rows["jobs"]["source_id"] == origin.source_id
    assert rows["jobs"]["private"] == 1
    assert rows["jobs"]["locale"] == "de"
    assert rows["jobs"]["seed"] == 2**53 - 1
    assert rows["jobs"]["work"] == pytest.approx(256 * 256 / 1e6 * 3 * 3)
    delivery = rows["deliveries"]
    assert (delivery["state"], delivery["token"]) == ("waiting", "a-secret-token")
    assert (delivery["application_id"], delivery["message_id"]) == (99, 123)
    assert (delivery["token_expires_at"], delivery["bot_in_channel"]) == (1_800_000_900.0, 0)
    assert (rows["usage"]["images"], rows["usage"]["charged_at"]) == (3, clock.now)
    assert await one(database, "SELECT name FROM users WHERE id = 5") == "Ada"
    assert await one(database, "SELECT count(*) FROM guilds WHERE id = 77") == 1


async def test_the_token_and_the_prompt_stand_in_no_other_place(queue, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    origin = make_origin(token="canary-token")
    submission = await queue.submit(make_request("canary prompt"), origin)
    await queue.cancel(submission.job.id, by=1)
    assert "canary-token" not in repr(origin) + repr(submission)
    # aiosqlite logs every statement with its values at DEBUG; the bot keeps it at INFO.
    lines = [record.getMessage() for record in caplog.records if record.name != "aiosqlite"]
    assert len(lines) == 2
    assert not [line for line in lines if "canary" in line]


async def test_a_repeated_source_finds_the_first_job(queue, database):
    first = await queue.submit(make_request(count=2), make_origin(source_id="i1"))
    again = await queue.submit(make_request("something else"), make_origin(source_id="i1"))
    assert again.repeated
    assert again.job == first.job
    assert await one(database, "SELECT sum(images) FROM usage") == 2
    await finish(queue, await queue.get())
    queue.close()
    after = await queue.submit(make_request(), make_origin(source_id="i1"))
    assert after.job.state is JobState.GENERATED
    assert await queue.place(after.job.id) is None


async def test_simultaneous_repeats_make_one_job(queue, database):
    twenty = [queue.submit(make_request(), make_origin(source_id="m7")) for _ in range(20)]
    submissions = await asyncio.gather(*twenty)
    assert len({submission.job.id for submission in submissions}) == 1
    assert sum(not submission.repeated for submission in submissions) == 1
    assert await one(database, "SELECT count(*) FROM jobs") == 1


async def test_a_storm_of_one_user_accepts_exactly_the_limit(database, clock):
    queue = JobQueue(database, Limits(open_jobs=3), model=MODEL, clock=clock)
    storm = [queue.submit(make_request(), make_origin(1)) for _ in range(100)]
    results = await asyncio.gather(*storm, return_exceptions=True)
    assert sum(isinstance(result, LimitReached) for result in results) == 97
    assert await one(database, "SELECT count(*) FROM jobs") == 3
    assert await one(database, "SELECT count(*) FROM usage") == 3
    await queue.submit(make_request(), make_origin(2))
    refusal = next(result for result in results if isinstance(result, LimitReached))
    assert spoken(refusal) == (
        "You already have 3 jobs waiting or running; that is the limit. Cancel one with /queue, "
        "or wait until one is done."
    )
    assert refusal.retry_at is None


async def test_a_job_that_ends_makes_room(database, clock):
    queue = JobQueue(database, Limits(open_jobs=1), model=MODEL, clock=clock)
    await submit(queue)
    job = await queue.get()
    with pytest.raises(LimitReached):
        await submit(queue)
    await finish(queue, job)
    await submit(queue)


async def test_the_day_rolls(database, clock):
    limits = Limits(open_jobs=99, images_per_day=10)
    queue = JobQueue(database, limits, model=MODEL, clock=clock)
    start = clock.now
    for hour in range(5):
        clock.now = start + hour * 3600 + 0.25
        await submit(queue, count=2)
    with pytest.raises(LimitReached) as caught:
        await submit(queue)
    retry_at = caught.value.retry_at
    assert retry_at == start + DAY_S + 1
    assert spoken(caught.value) == (
        "You have used 10 of 10 pictures of the last 24 hours; "
        f"the next one is possible <t:{retry_at:.0f}:R>."
    )
    with refused(LimitReached, match="4 more are possible") as caught:
        await submit(queue, count=4)
    assert caught.value.retry_at == start + 3600 + DAY_S + 1
    await submit(queue, user_id=2)

    clock.now = retry_at
    with refused(LimitReached, match=r"You have 2 of 10 pictures left .*; 3 are"):
        await submit(queue, count=3)
    await submit(queue, count=2)
    clock.now = caught.value.retry_at
    await submit(queue, count=2)


async def test_refunded_pictures_do_not_count(database, clock):
    queue = JobQueue(database, Limits(images_per_day=4), model=MODEL, clock=clock)
    await submit(queue)
    job = await submit(queue, count=3)
    with pytest.raises(LimitReached):
        await submit(queue)
    await queue.cancel(job.id, by=1)
    await submit(queue, count=3)
    with pytest.raises(LimitReached):
        await submit(queue)


async def test_more_than_a_whole_day(database, clock):
    queue = JobQueue(database, Limits(images_per_day=3), model=MODEL, clock=clock)
    with refused(LimitReached, match="4 pictures at once are more than the 3") as caught:
        await submit(queue, count=4)
    assert caught.value.retry_at is None


async def test_the_cooldown(database, clock):
    queue = JobQueue(database, Limits(cooldown_s=30), model=MODEL, clock=clock)
    await submit(queue)
    clock.now += 29
    with refused(LimitReached, match="<t:1800000030:R>") as caught:
        await submit(queue)
    await submit(queue, user_id=2)
    clock.now = caught.value.retry_at
    await submit(queue)


async def test_a_full_queue_and_a_closed_one(database, clock):
    limits = Limits(queue_size=2)
    queue = JobQueue(database, limits, model=MODEL, clock=clock)
    await submit(queue, 1)
    await submit(queue, 2)
    with refused(QueueClosed, match="queue is full"):
        await submit(queue, 3)
    await queue.get()
    await submit(queue, 3)
    queue.close()
    with refused(QueueClosed, match="shutting down"):
        await submit(queue, 4)
    assert await one(database, "SELECT count(*) FROM usage") == 3


async def test_a_refused_request_leaves_nothing(database, clock):
    queue = JobQueue(database, Limits(open_jobs=1), model=MODEL, clock=clock)
    await submit(queue)
    with pytest.raises(LimitReached):
        await submit(queue)
    with pytest.raises(UnicodeEncodeError):
        await queue.submit(make_request(), make_origin(9, source_id="half \ud83d"))
    for table in ("jobs", "deliveries", "usage", "users"):
        assert await one(database, f"SELECT count(*) FROM {table}") == 1


async def test_a_full_disk_refuses_and_the_queue_lives_on(queue, database):
    pages = await one(database, "PRAGMA page_count")
    await database._writer.execute_fetchall(f"PRAGMA max_page_count = {pages}")
    accepted = 0

    async def fill() -> None:
        nonlocal accepted
        for _ in range(100):
            await submit(queue, prompt="x" * 4000)
            accepted += 1

    with pytest.raises(StorageRefused, match=r"Not accepted: the bot's disk is full\."):
        await fill()
    await database._writer.execute_fetchall("PRAGMA max_page_count = 1073741823")
    assert await one(database, "SELECT count(*) FROM jobs") == accepted
    assert await one(database, "SELECT count(*) FROM deliveries") == accepted
    await submit(queue)
    assert len(await queue.open_jobs()) == accepted + 1


async def test_a_caller_who_leaves_does_not_stop_the_job(queue):
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    origin = make_origin(source_id="i5")
    submitting = asyncio.create_task(queue.submit(make_request(), origin))
    await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    async with asyncio.timeout(10):
        job = await getting
    assert (await queue.submit(make_request(), origin)).job.id == job.id


def test_a_request_survives_json_with_unknown_fields():
    request = make_request(
        "灯塔", negative_prompt="雾", aspect="1:1", loras=("a", "b"), strength=0.5, private=True
    )
    assert ImageRequest.from_json(request.to_json()) == request
    newer = json.dumps({**json.loads(request.to_json()), "v": 9, "camera": {"lens": [35, 50]}})
    read = ImageRequest.from_json(newer)
    assert read.extra == {"camera": {"lens": [35, 50]}}
    assert json.loads(read.to_json())["camera"] == {"lens": [35, 50]}
    assert ImageRequest.from_json(read.to_json()) == read


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=300), min_size=1, max_size=8))
def test_any_text_is_refused_or_comes_back(texts):
    async def run(folder: Path) -> None:
        async with open_queue(folder, PLENTY) as (queue, _):
            for text in texts:
                try:
                    request = make_request(text, negative_prompt=text)
                except InvalidRequest:
                    continue
                # Clients see only what JSON can carry; a name may still hold half a pair.
                name = text.encode("utf-8", "replace").decode()
                job = (await queue.submit(request, make_origin(user_name=name))).job
                stored = await queue.job(job.id)
                assert stored
                assert stored.request == request
                assert stored.request.prompt == request.prompt

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))
