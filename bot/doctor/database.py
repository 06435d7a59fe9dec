"""Checks of SQLite and the database, all of them reading only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level
from storage.backup import connect_read_only
from storage.migrate import read_migrations

_STRICT_TABLES: Final = (3, 37, 0)
_FIXED: Final = (3, 51, 3)
_FIXED_BRANCHES: Final = ((3, 50, 7), (3, 44, 6))


def sqlite_version(_settings: Settings) -> Iterator[Finding]:
    """Name SQLite's version, and whether it has the WAL-reset bug that this bot works around."""
    found, version = sqlite3.sqlite_version, sqlite3.sqlite_version_info
    if version < _STRICT_TABLES:
        yield Finding("SQLite", Level.ERROR, f"{found} is too old", "use a newer Python build")
    elif version >= _FIXED or any(
        version[:2] == branch[:2] and version >= branch for branch in _FIXED_BRANCHES
    ):
        yield Finding("SQLite", Level.OK, found)
    else:
        # https://sqlite.org/wal.html#walresetbug
        yield Finding(
            "SQLite",
            Level.OK,
            f"{found}; it has the WAL-reset bug, which one writing connection avoids: let no other "
            "program write to the database while the bot runs",
        )


def integrity(settings: Settings) -> Iterator[Finding]:
    """Have SQLite look through the whole file."""
    path = settings.database_path
    if not path.exists():
        yield Finding("database", Level.OK, f"{path} is made at the first start")
        return
    step = "stop the bot and put a backup in its place (docs/backup.md)"
    try:
        with closing(connect_read_only(path)) as connection:
            rows = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    except sqlite3.OperationalError as error:
        yield Finding("database", Level.ERROR, f"{path} cannot be read: {error}", step)
        return
    except sqlite3.DatabaseError as error:
        rows = [str(error)]
    if rows == ["ok"]:
        yield Finding("database", Level.OK, f"{path} is sound")
        return
    for row in rows:
        yield Finding("database", Level.ERROR, f"{path}: {' '.join(row.split())}", step)


def schema(settings: Settings) -> Iterator[Finding]:
    """Compare the database's schema with what this version knows."""
    known = len(read_migrations())
    if not settings.database_path.exists():
        yield Finding("schema", Level.OK, f"version {known} at the first start")
        return
    with closing(connect_read_only(settings.database_path)) as connection:
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > known:
        yield Finding(
            "schema",
            Level.ERROR,
            f"version {found}, but this bot knows only {known}",
            "update the bot, or put back a backup from before",
        )
    elif found < known:
        yield Finding(
            "schema",
            Level.WARNING,
            f"version {found}; the next start brings it to {known}",
            "nothing: a copy is kept beside it first",
        )
    else:
        yield Finding("schema", Level.OK, f"version {found}")
