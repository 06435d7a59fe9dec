"""Numbered plain-SQL migrations, recorded in `PRAGMA user_version`."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.errors import DatabaseError
from storage.backup import connect_read_only, copy_database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: `NNNN_name.sql` leads from version N-1 to N."""

    version: int
    name: str
    sql: str


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations of `folder`; raise `ValueError` where a number is missing."""
    found = [
        Migration(int(match[1]), path.name, path.read_text("utf-8"))
        for path in sorted(folder.glob("*.sql"))
        if (match := _NAME.fullmatch(path.name))
    ]
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations in {folder} are not numbered 0001, 0002, … without a gap")
    return found


def statements(sql: str) -> Iterator[str]:
    """Split a script where SQLite would: not within strings, comments or triggers.

    `executescript` cannot be used, since it commits before it begins.
    """
    start = 0
    for semicolon in re.finditer(";", sql):
        if sqlite3.complete_statement(sql[start : semicolon.end()]):
            yield sql[start : semicolon.end()]
            start = semicolon.end()
    if sql[start:].strip():
        yield sql[start:]


def prepare(path: Path, migrations: Sequence[Migration]) -> None:
    """Check the database at `path` and bring it to the newest schema; make it if it is missing.

    Before the first pending migration of a database that has one already, a copy is made beside it
    as `<name>.before-vN.bak`. Blocks its thread. Raises `DatabaseError`; a database that is
    damaged, foreign or newer is left as it was.
    """
    version = _check(path, migrations)
    pending = migrations[version:]
    backup: Path | None = None
    if pending and version:
        backup = path.with_name(f"{path.name}.before-v{version + 1}.bak")
        copy_database(path, backup)
    # SQLite gives the log beside it the same rights.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if not version:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for migration in pending:
            _apply(connection, path, migration, backup)
        if pending and (problem := _problem(connection)):
            kept = f"; a copy from before is {backup}" if backup else ""
            raise DatabaseError(f"{path} is damaged after its update ({problem}){kept}.")


def _check(path: Path, migrations: Sequence[Migration]) -> int:
    if not path.exists() or not path.stat().st_size:
        return 0
    with closing(connect_read_only(path)) as connection:
        if problem := _problem(connection):
            raise DatabaseError(
                f"{path} is damaged ({problem}); it was left untouched. Put a backup in its place, "
                "or move it away to start afresh."
            )
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version > len(migrations):
        raise DatabaseError(
            f"{path} was written by a newer version of this bot (its schema is {version}, this "
            f"version knows {len(migrations)}); it was left untouched. Update the bot."
        )
    if tables and not version:
        raise DatabaseError(
            f"{path} is a database of another program; it was left untouched. Set DATA_DIR to "
            "another folder."
        )
    return version


def _problem(connection: sqlite3.Connection) -> str | None:
    """Return the first damage that SQLite finds, in one line."""
    try:
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        raise  # Busy, unreadable …: not the file's fault.
    except sqlite3.DatabaseError as error:
        found = str(error)
    return None if found == "ok" else " ".join(found.split())


def _apply(
    connection: sqlite3.Connection, path: Path, migration: Migration, backup: Path | None
) -> None:
    try:
        connection.execute("BEGIN EXCLUSIVE")
        for statement in statements(migration.sql):
            connection.execute(statement)
        if connection.execute("PRAGMA foreign_key_check").fetchone():
            raise sqlite3.IntegrityError("rows without their parent")
        connection.execute(f"PRAGMA user_version = {migration.version:d}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.rollback()
        kept = f" A copy from before is {backup}." if backup else ""
        raise DatabaseError(
            f"The database {path} could not be brought up to date ({migration.name}: {error}); "
            f"that step was undone.{kept}"
        ) from error
