"""Copies of a live database, made by SQLite's own backup API."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

_PAGES_A_STEP: Final = 512
_TOUCH: Final = "SELECT count(*) FROM sqlite_master"


def file_uri(path: Path, mode: str = "rw") -> str:
    """Return SQLite's URI of an existing file; the modes are `rw` and `ro`."""
    return f"{path.absolute().as_uri()}?mode={mode}"


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open `path` so that nothing can be written to it, not even by a checkpoint.

    What a killed process left half done there is undone first: SQLite refuses to read before that,
    with "attempt to write a readonly database".
    """
    connection = _connect(path, "ro")
    try:
        connection.execute(_TOUCH)
    except sqlite3.Error as error:
        if (error.sqlite_errorcode or 0) & 0xFF == sqlite3.SQLITE_READONLY:
            with closing(_connect(path, "rw")) as recovering:
                recovering.execute(_TOUCH)
        # Any other error meets the caller at its own first statement.
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(file_uri(path, mode), uri=True, isolation_level=None)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable; Windows has no call for it and needs none."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    with path.open("rb+") as file:  # Windows syncs only what is open for writing.
        os.fsync(file.fileno())


def forget_expired_tokens(path: Path, now: float) -> None:
    """Blank the interactions' tokens that open nothing any more, in a database that nobody uses.

    No byte of them stays. Those that live stay for a restore at once, and are void 15 minutes
    later. Raises `sqlite3.Error`.
    """
    with closing(_connect(path, "rw")) as database:
        database.execute("PRAGMA secure_delete = ON")
        database.execute(
            "UPDATE deliveries SET token = NULL WHERE token IS NOT NULL AND token_expires_at <= ?",
            (now,),
        )
    sync_file(path)


def copy_database(source: Path, target: Path) -> None:
    """Copy the database `source` as it stands now to `target`, which appears whole or not at all.

    Blocks its thread; readers and writers of `source` go on meanwhile, in this process or another.
    Raises `sqlite3.Error` or `OSError`.
    """
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        # Prompts and Discord's short-lived tokens stand in it.
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            closing(connect_read_only(source)) as reader,
            closing(sqlite3.connect(partial)) as writer,
        ):
            # One read transaction around all steps: a commit in between would otherwise make
            # SQLite begin again, under constant load for ever.
            reader.execute("BEGIN")
            reader.execute(_TOUCH).fetchone()
            reader.backup(writer, pages=_PAGES_A_STEP)
            reader.execute("COMMIT")
            # The copy is one plain file: no -wal beside it that a mere `cp` would miss.
            writer.execute("PRAGMA journal_mode = DELETE")
        sync_file(partial)
        partial.replace(target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)
