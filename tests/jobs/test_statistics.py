"""The figures, from jobs that went through the queue."""

from __future__ import annotations

import pytest

from bot.archive.statistics import HOURS, MOST_USERS, Statistics, by_hour, percentiles
from bot.domain.job import JobState
from tests.jobs.kit import MODEL, finish, make_origin, make_request, submit

HOUR = 3600.0


async def drawn(queue, clock, user_id, seconds, *, waits=0.0, guild_id=77):
    await queue.submit(make_request(), make_origin(user_id, guild_id=guild_id))
    clock.now += waits
    job = await queue.get()
    clock.now += seconds
    await finish(queue, job, seconds)


async def test_figures_of_one_server_and_of_all(queue, database, clock):
    statistics = Statistics(database, clock=clock)
    await drawn(queue, clock, 1, 30, waits=10)
    clock.now += 2 * 24 * HOUR
    await drawn(queue, clock, 2, 60, waits=40)
    await drawn(queue, clock, 3, 90, waits=500, guild_id=78)
    job = (await queue.submit(make_request(), make_origin(1))).job
    await queue.cancel(job.id, by=1)
    figures = await statistics.figures(77, 7)
    assert figures.total == 3
    assert len(figures.days) == 7
    assert [(day.generated, day.cancelled) for day in figures.days[-3:]] == [(1, 0), (0, 0), (1, 1)]
    assert figures.waits == {50: 10, 75: 40, 90: 40, 95: 40, 99: 40}
    assert figures.shares == [(2, pytest.approx(2 / 3)), (1, pytest.approx(1 / 3))]
    assert sum(figures.hours) * HOUR == pytest.approx(60)
    whole = await statistics.figures(None, 1)
    assert whole.total == 3
    assert dict(whole.shares) == {3: pytest.approx(0.6), 2: pytest.approx(0.4)}
    assert sum(whole.hours) * HOUR == pytest.approx(150)
    nothing = await statistics.figures(79, 3)
    assert (nothing.total, nothing.waits, nothing.shares) == (0, {}, [])


async def test_use_of_the_card_stands_in_its_hour_though_the_job_is_deleted(queue, database, clock):
    clock.now = clock.now // HOUR * HOUR
    await drawn(queue, clock, 1, 60, waits=3 * HOUR)
    statistics = Statistics(database, clock=clock)
    before = (await statistics.figures(None, 1)).hours
    assert before[-1] * HOUR == pytest.approx(60)
    await database.write(lambda tx: tx.execute("DELETE FROM jobs"))
    assert (await statistics.figures(None, 1)).hours == before


async def test_use_of_the_card_counts_though_the_job_waits_again(queue, database, clock):
    clock.now = clock.now // HOUR * HOUR
    await queue.submit(make_request(), make_origin())
    clock.now += 3 * HOUR
    job = await queue.get()
    clock.now += 60
    await queue.commits.record_fault(job, "died", "It died.", "signal 9", spent_s=60)
    hours = (await Statistics(database, clock=clock).figures(None, 1)).hours
    assert hours[-1] * HOUR == pytest.approx(60)


async def test_many_users_are_told_together_as_others(queue, database, clock):
    for user_id in range(MOST_USERS + 3):
        await drawn(queue, clock, user_id, 10)
    shares = (await Statistics(database, clock=clock).figures(None, 2)).shares
    assert len(shares) == MOST_USERS + 1
    assert shares[-1] == (None, pytest.approx(3 / (MOST_USERS + 3)))
    assert sum(share for _user, share in shares) == pytest.approx(1)


async def test_texts_are_no_pictures(queue, database, clock):
    """Neither among the day's jobs and their waits, nor as the last picture."""
    record = queue.commits.record_generated
    await drawn(queue, clock, 1, 30, waits=10)
    await submit(queue)
    await record(await queue.get(), [], {"denoise": 1.0}, 7_000, MODEL)
    clock.now += 60
    waiting = await submit(queue, writes="enhance")
    clock.now += 3600
    await record(await queue.get(), [], {"write": 1.0}, 9_000, MODEL, text="x")
    assert (await queue.job(waiting.id)).state is JobState.GENERATED
    statistics = Statistics(database, clock=clock)
    figures = await statistics.figures(None, 2)
    assert figures.total == 2
    assert max(figures.waits.values()) == 10
    assert (await statistics.condition()).peak_gpu_bytes == 7_000


def test_percentiles_are_values_that_occurred():
    assert percentiles([]) == {}
    assert set(percentiles([7.0]).values()) == {7.0}
    assert percentiles([float(n) for n in range(1, 101)]) == {
        50: 50,
        75: 75,
        90: 90,
        95: 95,
        99: 99,
    }


def test_a_long_drawing_is_spread_over_its_hours():
    hours = by_hour([(2.5 * HOUR, HOUR), (-5.0, 20.0)], 0.0)
    assert len(hours) == HOURS
    assert hours[1:3] == [0.5, 0.5]
    assert sum(hours) == 1


async def test_the_last_fault_is_known(queue, database, clock):
    statistics = Statistics(database, clock=clock)
    assert (await statistics.condition()).fault is None
    await queue.submit(make_request(), make_origin())
    await queue.commits.record_fault(await queue.get(), "died", "It died.", "signal 9")
    fault = (await statistics.condition()).fault
    assert fault is not None
    assert fault.detail == "signal 9"
