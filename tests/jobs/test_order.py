"""Who is next: fair between users, as predicted, by index."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.jobs.feed import JobUpdate
from bot.jobs.forecast import FAIR_WINDOW_S
from bot.jobs.outlook import EngineOutlook
from bot.jobs.queue import JobQueue
from bot.jobs.schedule import gpu_seconds
from storage import jobs, usage
from storage.usage import QuotaScope
from tests.jobs.kit import MODEL, Clock, finish, make_origin, make_request, one, open_queue, submit


async def test_one_user_does_not_wait_behind_anothers_pile(queue):
    pile = [await submit(queue, 1) for _ in range(5)]
    single = await submit(queue, 2)
    expected = [pile[0].id, single.id, *(job.id for job in pile[1:])]
    assert [job.id for job in await queue.open_jobs()] == expected
    claimed = []
    for _ in range(6):
        job = await queue.get()
        claimed.append(job.id)
        await finish(queue, job)
    assert claimed == expected


async def test_turns_are_measured_in_gpu_seconds_not_in_jobs(queue):
    big = [await submit(queue, 1, count=4) for _ in range(2)]
    small = [await submit(queue, 2) for _ in range(5)]
    claimed = []
    for _ in range(7):
        job = await queue.get()
        claimed.append(job.id)
        await finish(queue, job, seconds=4.0 if job.user_id == 1 else 1.0)
    expected = [big[0], *small[:4], big[1], small[4]]
    assert claimed == [job.id for job in expected]


async def test_what_was_served_before_the_last_hour_is_forgotten(queue, clock):
    await submit(queue, 1)
    await finish(queue, await queue.get(), seconds=1000)
    clock.now += FAIR_WINDOW_S + 1
    old = await submit(queue, 1)
    await submit(queue, 2)
    assert (await queue.get()).id == old.id


async def test_a_running_job_counts_at_its_expected_cost(queue):
    first = await submit(queue, 1)
    second = await submit(queue, 1)
    other = await submit(queue, 2)
    await queue.get()
    assert [job.id for job in await queue.open_jobs()] == [first.id, other.id, second.id]
    assert [job.id for job in await queue.open_jobs(1)] == [first.id, second.id]
    assert [(await queue.get()).id for _ in range(2)] == [other.id, second.id]


# A job: whose it is, its steps and pictures; after so many submissions some are claimed.
piles = st.lists(
    st.tuples(
        st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.sampled_from([0, 0, 0, 1])
    ),
    min_size=3,
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(piles, st.sampled_from([0.5, 3.0, 40.0]))
def test_the_predicted_order_and_times_come_true(pile, rate):
    async def run(folder: Path) -> None:
        clock = Clock()
        async with open_queue(folder, clock=clock) as (queue, _):
            # A measured history, so that the expected costs are the true ones.
            await submit(queue, 99)
            await work(queue, clock, rate)
            for user, steps, count, claims in pile:
                await submit(queue, user, steps=steps, count=count)
                for _ in range(claims):
                    if await queue.open_jobs():
                        await work(queue, clock, rate)
            predicted = await queue.open_jobs()
            places = [await queue.place(job.id) for job in predicted]
            assert [place.ahead for place in places] == list(range(len(predicted)))
            for job, place in zip(predicted, places, strict=True):
                assert place.starts_at == pytest.approx(clock.now, abs=1e-3)
                assert (await work(queue, clock, rate)).id == job.id
                assert place.ends_at == pytest.approx(clock.now, abs=1e-3)
            assert not await queue.open_jobs()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


async def work(queue: JobQueue, clock: Clock, rate: float):
    job = await queue.get()
    seconds = job.request.megapixel_steps * rate
    clock.now += seconds
    await finish(queue, job, seconds)
    return job


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=20))
def test_nobody_gets_far_ahead(pile):
    """While two users both wait, their served times differ by at most one job's cost."""

    async def run(folder: Path) -> None:
        clock = Clock()
        async with open_queue(folder, clock=clock) as (queue, _):
            for user, count in pile:
                await submit(queue, user, count=count)
            served = dict.fromkeys(range(1, 5), 0.0)
            while waiting := {job.user_id for job in await queue.open_jobs()}:
                lead = max(served[user] for user in waiting) - min(served[u] for u in waiting)
                assert lead <= make_request(count=4).megapixel_steps + 1e-6
                job = await work(queue, clock, 1.0)
                served[job.user_id] += job.request.megapixel_steps

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


async def test_each_job_is_claimed_once_by_many_workers(queue, database):
    for number in range(50):
        await submit(queue, number % 7)
    claimed: list[str] = []
    enough = asyncio.Event()

    async def claimer() -> None:
        while True:
            claimed.append((await queue.get()).id)
            if len(claimed) == 50:
                enough.set()

    claimers = [asyncio.create_task(claimer()) for _ in range(8)]
    async with asyncio.timeout(30):
        await enough.wait()
    for task in claimers:
        task.cancel()
    await asyncio.gather(*claimers, return_exceptions=True)
    assert len(set(claimed)) == len(claimed) == 50
    assert await one(database, "SELECT max(attempts) FROM jobs") == 1


async def test_waiting_workers_wake_for_every_job(queue):
    claimers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.gather(*(queue.submit(make_request(), make_origin(n)) for n in range(3)))
    async with asyncio.timeout(10):
        claimed = await asyncio.gather(*claimers)
    assert len({job.id for job in claimed}) == 3


async def test_cancelling_get_never_loses_a_job(queue, database):
    for turns in range(60):
        job = await submit(queue)
        getting = asyncio.create_task(queue.get())
        for _ in range(turns):
            await asyncio.sleep(0)
        getting.cancel()
        outcome = (await asyncio.gather(getting, return_exceptions=True))[0]
        if isinstance(outcome, asyncio.CancelledError):
            state = await one(database, "SELECT state FROM jobs WHERE id = ?", job.id)
            assert state == "queued"
            assert await one(database, "SELECT attempts FROM jobs WHERE id = ?", job.id) == 0
            await queue.cancel(job.id, by=1)
        else:
            await finish(queue, outcome)


async def test_a_pause_holds_jobs_back_and_survives_a_restart(queue, database, clock):
    await queue.control.pause("maintenance", by=42, guild_id=7)
    job = await submit(queue)
    getting = asyncio.create_task(queue.get())
    restarted = JobQueue(database, queue._limits, model=MODEL, clock=clock)
    await restarted.start()
    assert restarted.control.paused == "maintenance"
    assert (await queue.place(job.id)).starts_at is None
    assert not getting.done()
    await queue.control.resume(by=42)
    async with asyncio.timeout(10):
        assert (await getting).id == job.id
    assert queue.control.paused is None
    rows = await database.read(lambda tx: tx.all("SELECT * FROM audit ORDER BY id"))
    assert [(row["action"], row["actor_id"], row["guild_id"]) for row in rows] == [
        ("pause", 42, 7),
        ("resume", 42, None),
    ]
    assert rows[0]["detail"] == "maintenance"


async def test_a_pause_stops_a_claim_that_waits_for_the_writer(queue, database):
    await submit(queue)
    pausing = asyncio.create_task(queue.control.pause("now", by=1))
    getting = asyncio.create_task(queue.get())
    await pausing
    await database.write(lambda tx: tx.value("SELECT 1"))  # Behind the claim.
    assert await one(database, "SELECT state FROM jobs") == "queued"
    getting.cancel()
    await asyncio.wait([getting])


async def test_a_job_that_comes_right_after_an_empty_claim_is_seen(queue):
    claim, job_ids = queue.claims.claim, []

    async def claim_then_submit():
        claimed = await claim()
        if not job_ids:
            job_ids.append((await submit(queue)).id)
        return claimed

    queue.claims.claim = claim_then_submit
    async with asyncio.timeout(10):
        assert (await queue.get()).id == job_ids[0]


async def test_estimates_come_from_history_alone(queue, clock):
    first = await submit(queue)
    place = await queue.place(first.id)
    assert (place.ahead, place.starts_at, place.ends_at) == (0, clock.now, None)
    await finish(queue, await queue.get(), seconds=6.0)
    assert await queue.place(first.id) is None

    job = await submit(queue, count=2)
    after = await submit(queue)
    place = await queue.place(job.id)
    assert place.ends_at == pytest.approx(clock.now + 12, abs=1e-3)
    assert (await queue.place(after.id)).starts_at == pytest.approx(clock.now + 12, abs=1e-3)

    running = await queue.get()
    queue.feed.publish(JobUpdate(running.id, "step", 1, 4))
    place = await queue.place(running.id)
    assert (place.ahead, place.starts_at) == (0, clock.now)
    assert place.ends_at == pytest.approx(clock.now + 9, abs=1e-3)


async def test_a_model_that_must_load_first(queue, clock):
    await submit(queue)
    await finish(queue, await queue.get(), seconds=6.0)
    job = await submit(queue)
    queue.forecast.engines = lambda: [EngineOutlook(ready=False)]
    assert (await queue.place(job.id)).starts_at is None
    await queue.forecast.note_load_time(60.0)
    assert (await queue.place(job.id)).starts_at == clock.now + 60
    await queue.get()
    clock.now += 20
    assert (await queue.place(job.id)).ends_at == pytest.approx(clock.now + 40 + 6, abs=1e-3)
    clock.now += 100
    assert (await queue.place(job.id)).ends_at == pytest.approx(clock.now + 6, abs=1e-3)


def test_a_step_without_guidance_is_half_the_work():
    guided, alone = make_request(guidance=4.0), make_request(guidance=1.0)
    assert alone.megapixel_steps == guided.megapixel_steps / 2 > 0


def test_loading_costs_nobody():
    assert gpu_seconds({"load": 60.0, "encode": 1.0, "denoise": 5.0, "total": 66.0}) == 6.0
    assert gpu_seconds({"load": 60.0, "total": 66.0}) == 6.0
    assert gpu_seconds({"total": 6.0}) == 6.0
    assert gpu_seconds({}) == 0.0


WHOSE = {"user_id": 1, "guild_id": 77, "since": 0.0, "until": 1.0}
OF_USER = "usage_user (user_id=? AND charged_at>? AND charged_at<?)"


@pytest.mark.parametrize(
    ("sql", "params", "indices"),
    [
        (jobs.UNFINISHED, (), ["INDEX jobs_open"]),
        (
            usage.SERVED,
            {"since": 0.0, "until": 1.0},
            ["usage_served (served_at>? AND served_at<?)", "INDEX jobs_open"],
        ),
        (usage.totals_sql(QuotaScope.USER), WHOSE, [OF_USER]),
        (usage.totals_sql(QuotaScope.MEMBER), WHOSE, [OF_USER]),
        (usage.totals_sql(QuotaScope.DIRECT), WHOSE, [OF_USER]),
        (
            usage.totals_sql(QuotaScope.SERVER),
            WHOSE,
            ["usage_guild (guild_id=? AND charged_at>? AND charged_at<?)"],
        ),
    ],
)
async def test_the_order_and_the_limits_are_found_by_index(database, sql, params, indices):
    rows = await database.read(lambda tx: tx.all(f"EXPLAIN QUERY PLAN {sql}", params))
    plan = [row["detail"] for row in rows]
    for index in indices:
        assert any(index in line for line in plan), plan
    for line in plan:
        assert not line.startswith(("SCAN jobs", "SCAN usage", "SCAN j", "SCAN u ")), plan
