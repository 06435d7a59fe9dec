"""A wrong clock: what it showed is kept, a leap has to hold, and stamps ahead are put right."""

from __future__ import annotations

import pytest

from storage import facts
from storage.clock import DAY_S, LONGEST_PAUSE_S, TOKEN_S, held_time, put_stamps_right
from storage.database import Database

NOW = 1_800_000_000.0
HOUR = 3600.0
YEARS = 10 * 365 * DAY_S


@pytest.fixture
async def empty(opened, tmp_path) -> Database:
    return await opened(tmp_path / "bot.sqlite3")


async def watched(database: Database, *times: float) -> list[float | None]:
    return [await database.write(lambda tx, at=at: held_time(tx, at)) for at in times]


def hours(start: float, count: int) -> list[float]:
    return [start + hour * HOUR for hour in range(count)]


async def test_ages_are_taken_at_a_time_of_about_a_day_ago(empty):
    *first, last = await watched(empty, *hours(NOW, 25))
    assert set(first) == {None}
    assert last == NOW
    for number, held in enumerate(await watched(empty, *hours(NOW + 25 * HOUR, 50))):
        assert held == NOW + (number + 1) * HOUR
    stored = await empty.read(lambda tx: facts.get_fact(tx, "clock_seen"))
    assert stored.count(",") <= 26, "a day of it is kept, not a year"


@pytest.mark.parametrize("leap", [DAY_S, 40 * DAY_S, YEARS])
async def test_a_leap_ahead_is_believed_once_it_has_held_for_a_day(empty, leap):
    await watched(empty, *hours(NOW, 48))
    there = NOW + 47 * HOUR + leap
    during = await watched(empty, *hours(there, 24))
    # Time stands still for what is deleted, at the last time before the leap.
    assert max(during) <= NOW + 47 * HOUR
    assert await watched(empty, there + DAY_S) == [there]


async def test_a_leap_ahead_that_was_corrected_leaves_nothing_behind(empty):
    await watched(empty, *hours(NOW, 48))
    await watched(empty, *hours(NOW + YEARS, 5))
    after = await watched(empty, *hours(NOW + 49 * HOUR, 60))
    assert all(held is None or held <= NOW + 109 * HOUR - DAY_S for held in after)
    assert after[-1] == NOW + (108 - 24) * HOUR


@pytest.mark.parametrize("leap", [DAY_S, YEARS])
async def test_a_leap_back_makes_nothing_older(empty, leap):
    await watched(empty, *hours(NOW, 48))
    back = await watched(empty, *hours(NOW - leap, 30))
    assert all(held is None or held <= NOW for held in back)
    again = await watched(empty, *hours(NOW + 60 * HOUR, 3))
    assert all(held is None or held <= NOW + 36 * HOUR for held in again)


async def test_a_damaged_memory_is_begun_anew(empty):
    for text in ("{", "3", '["x", null]'):
        await empty.write(lambda tx, text=text: facts.set_fact(tx, "clock_seen", text))
        assert await watched(empty, NOW, NOW + DAY_S) == [None, NOW]


async def test_no_stamp_lies_ahead_after_it_was_put_right(empty):
    ahead = NOW + YEARS
    rows = {
        "jobs": "(id, source_id, user_id, target, request, seed, images, work, state, created_at,"
        " finished_at) VALUES ('a', 'a', 1, 'cli', '', 0, 1, 1, 'generated', :ahead, :ahead)",
        "deliveries": "(job_id, state, next_attempt_at, token, token_expires_at)"
        " VALUES ('a', 'pending', :ahead, 'secret', :ahead + 900)",
        "usage": "(job_id, user_id, charged_at, images, served_at)"
        " VALUES ('a', 1, :ahead, 1, :ahead)",
        "blocks": "VALUES (1, 0, :ahead, :ahead + 600, '', 2), (2, 0, :ahead, NULL, '', 2)",
        "reports": "(job_id, reporter_id, guild_id, channel_id, message_id, at)"
        " VALUES ('a', 1, 1, 1, 1, :ahead)",
    }
    for table, values in rows.items():
        sql = f"INSERT INTO {table} {values}"
        await empty.write(lambda tx, sql=sql: tx.execute(sql, {"ahead": ahead}))
    assert await empty.write(lambda tx: put_stamps_right(tx, NOW)) == 9
    latest = {
        "SELECT max(max(created_at), max(finished_at)) FROM jobs": NOW,
        "SELECT next_attempt_at FROM deliveries": NOW,
        "SELECT token_expires_at FROM deliveries": NOW + TOKEN_S,
        "SELECT max(charged_at, served_at) FROM usage": NOW,
        "SELECT max(at) FROM blocks": NOW,
        "SELECT until FROM blocks WHERE user_id = 1": NOW + 600,
        "SELECT until FROM blocks WHERE user_id = 2": None,
        "SELECT at FROM reports": NOW,
    }
    for sql, expected in latest.items():
        assert await empty.read(lambda tx, sql=sql: tx.value(sql)) == expected, sql
    assert await empty.write(lambda tx: put_stamps_right(tx, NOW)) == 0
    assert await empty.write(lambda tx: put_stamps_right(tx, NOW + LONGEST_PAUSE_S)) == 0
