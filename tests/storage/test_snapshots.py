"""Databases as earlier versions left them, brought up to date."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bot.domain.job import JobState
from storage import deliveries, jobs
from storage.migrate import prepare, read_migrations

# A new migration comes with the dump of a database of the version before it.
SNAPSHOTS = {
    int(path.stem.removeprefix("v")): path
    for path in (Path(__file__).parent / "snapshots").glob("v*.sql")
}


def schema(path: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2"
        ).fetchall()


def test_every_version_before_the_newest_has_a_snapshot():
    assert set(range(1, len(read_migrations()))) <= set(SNAPSHOTS)


@pytest.mark.parametrize("version", sorted(SNAPSHOTS))
async def test_a_database_of_an_earlier_version_becomes_as_good_as_new(tmp_path, opened, version):
    old, new = tmp_path / "old.sqlite3", tmp_path / "new.sqlite3"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(SNAPSHOTS[version].read_text("utf-8"))
        connection.execute(f"PRAGMA user_version = {version}")
        counts = {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    assert all(counts.values())
    database = await opened(old)
    prepare(new, read_migrations())
    assert schema(old) == schema(new)
    for name, count in counts.items():
        sql = f"SELECT count(*) FROM {name}"
        assert await database.read(lambda tx, sql=sql: tx.value(sql)) == count
    waiting = await database.read(jobs.find_open)
    assert [job.state for job in waiting] == [JobState.RUNNING, JobState.QUEUED]
    assert waiting[0].request.prompt == "a lighthouse; it's night"
    outlook = await database.read(lambda tx: deliveries.outlook(tx, 4e9, 10))
    assert len(outlook.due) == 1


async def test_an_answer_that_was_kept_by_an_earlier_version_is_told(tmp_path, opened):
    old = tmp_path / "old.sqlite3"
    columns = "id, source_id, user_id, target, request, seed, images, work, created_at"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(SNAPSHOTS[6].read_text("utf-8"))
        connection.execute("PRAGMA user_version = 6")
        for number, target in enumerate(("interaction", "http", "message")):
            job = f"({number}, {number}, 5, '{target}', '', 0, 1, 1, {number})"
            connection.execute(f"INSERT INTO jobs ({columns}) VALUES {job}")
            kept = f"({number}, 'undeliverable')"
            connection.execute(f"INSERT INTO deliveries (job_id, state) VALUES {kept}")
        connection.commit()
    database = await opened(old)
    assert await database.read(lambda tx: deliveries.kept_for(tx, 5)) == ["2", "0"]
    assert await database.read(lambda tx: deliveries.kept_for(tx, 1)) == []


async def test_messages_of_an_earlier_version_are_embeds(tmp_path, opened):
    old = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(SNAPSHOTS[8].read_text("utf-8"))
        connection.execute("PRAGMA user_version = 8")
    database = await opened(old)
    (due,) = (await database.read(lambda tx: deliveries.outlook(tx, 4e9, 10))).due
    assert not due.layout


async def test_what_waited_in_an_earlier_version_has_the_configured_model(tmp_path, opened):
    old = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(SNAPSHOTS[7].read_text("utf-8"))
        connection.execute("PRAGMA user_version = 7")
    database = await opened(old)
    found = await database.read(lambda tx: jobs.unfinished(tx, "tiny"))
    assert [(job.model, job.passed_s) for job in found] == [("tiny", 0.0)] * 2
    await database.write(lambda tx: jobs.pass_over(tx, [found[1].id], 9.5))
    await database.write(lambda tx: jobs.pass_over(tx, [found[1].id], 2.0))
    found = await database.read(lambda tx: jobs.unfinished(tx, "tiny"))
    assert [job.passed_s for job in found] == [0.0, 11.5]
