"""Numbered migrations: one transaction each, a backup before, nothing half done."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bot.errors import DatabaseError
from storage.migrate import MIGRATIONS, read_migrations, statements


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    return folder


@pytest.fixture
def version(folder: Path) -> int:
    """The number of the next migration."""
    return len(read_migrations(folder)) + 1


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [*connection.iterdump(), str(connection.execute("PRAGMA user_version").fetchone())]


async def make_database(opened, path: Path) -> None:
    database = await opened(path)
    await database.write(lambda tx: tx.execute("INSERT INTO facts VALUES ('colour', 'blue')"))
    await database.close()


async def test_a_new_migration_runs_once_after_a_backup(tmp_path, folder, version, opened):
    path = tmp_path / "bot.sqlite3"
    await make_database(opened, path)
    before = dump(path)
    (folder / f"{version:04}_moods.sql").write_text(
        "CREATE TABLE moods (name TEXT); INSERT INTO moods VALUES ('calm; so calm');"
    )
    for _ in range(2):
        database = await opened(path, migrations=folder)
        assert await database.read(lambda tx: tx.value("SELECT name FROM moods")) == "calm; so calm"
        assert await database.read(lambda tx: tx.value("SELECT count(*) FROM moods")) == 1
        await database.close()
    backup = tmp_path / f"bot.sqlite3.before-v{version}.bak"
    assert dump(backup) == before


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE moods (name TEXT); INSERT INTO nowhere VALUES (1);",
        "CREATE TABLE moods (name TEXT); SELECT 'no end",
        "DELETE FROM facts; INSERT INTO images VALUES ('ghost', 0, 'f', 's', 1, 1, 1, 1);",
    ],
)
async def test_a_migration_that_fails_is_undone(tmp_path, folder, version, sql, opened):
    path = tmp_path / "bot.sqlite3"
    await make_database(opened, path)
    before = dump(path)
    (folder / f"{version:04}_bad.sql").write_text(sql)
    with pytest.raises(DatabaseError, match=r"_bad\.sql.*before-v") as caught:
        await opened(path, migrations=folder)
    assert "\n" not in str(caught.value)
    assert dump(path) == before
    assert dump(tmp_path / f"bot.sqlite3.before-v{version}.bak") == before
    await (await opened(path)).close()


async def test_the_first_good_one_of_two_stays(tmp_path, folder, version, opened):
    path = tmp_path / "bot.sqlite3"
    await make_database(opened, path)
    (folder / f"{version:04}_good.sql").write_text("CREATE TABLE moods (name TEXT);")
    bad = folder / f"{version + 1:04}_bad.sql"
    bad.write_text("INSERT INTO moods VALUES (1, 2);")
    with pytest.raises(DatabaseError):
        await opened(path, migrations=folder)
    bad.write_text("INSERT INTO moods VALUES ('mended');")
    database = await opened(path, migrations=folder)
    assert await database.read(lambda tx: tx.value("SELECT name FROM moods")) == "mended"
    await database.close()


def test_statements_are_split_as_sqlite_does():
    script = """
    -- a comment; with a semicolon
    CREATE TABLE a (x TEXT DEFAULT ';');
    CREATE TRIGGER t BEFORE UPDATE ON a BEGIN
        SELECT 1; SELECT CASE WHEN 1 THEN ';' END;
    END;
    /* another; */ INSERT INTO a VALUES ('it''s; fine');
    -- the end
    """
    found = list(statements(script))
    assert [" ".join(text.split())[:14] for text in found[1:3]] == [
        "CREATE TRIGGER",
        "/* another; */",
    ]
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in found:
            connection.execute(statement)
        assert connection.execute("SELECT x FROM a").fetchone() == ("it's; fine",)
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (2,)


def test_our_migrations_split_into_what_executescript_makes(folder):
    schemas = []
    for run in (
        lambda c, sql: c.executescript(sql),
        lambda c, sql: [c.execute(statement) for statement in statements(sql)],
    ):
        with closing(sqlite3.connect(":memory:")) as connection:
            for migration in read_migrations(folder):
                run(connection, migration.sql)
            schemas.append(list(connection.iterdump()))
    assert schemas[0] == schemas[1]


def test_a_gap_in_the_numbers_is_refused(folder, version):
    (folder / f"{version + 1:04}_too_far.sql").write_text("SELECT 1;")
    with pytest.raises(ValueError, match="gap"):
        read_migrations(folder)
