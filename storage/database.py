"""SQLite behind two calls: `write` in one transaction at a time, `read` beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import aiosqlite

from bot.errors import DatabaseError
from storage.backup import copy_database, file_uri
from storage.lock import InstanceLock
from storage.migrate import MIGRATIONS, prepare, read_migrations
from storage.turns import Turns

T = TypeVar("T")
Params = Sequence[Any] | Mapping[str, Any]

_READERS: Final = 2
_PATIENCE: Final = "busy_timeout = 5000"
# What is deleted (a token, a prompt) is overwritten, not only unlinked.
_WRITER_PRAGMAS: Final = (
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    _PATIENCE,
)
# A reader that checkpoints could collide with the writer's checkpoint, which SQLite before 3.51.3
# may answer with a damaged file (https://sqlite.org/wal.html#walresetbug).
_READER_PRAGMAS: Final = ("query_only = ON", "wal_autocheckpoint = 0", _PATIENCE)


class Transaction:
    """SQL within one transaction; valid only inside the function that got it."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Run a statement and return how many rows it changed."""
        async with self._connection.execute(sql, params) as cursor:
            return cursor.rowcount

    async def all(self, sql: str, params: Params = ()) -> list[sqlite3.Row]:
        """Return every row."""
        return list(await self._connection.execute_fetchall(sql, params))

    async def one(self, sql: str, params: Params = ()) -> sqlite3.Row | None:
        """Return the first row, or None."""
        rows = await self.all(sql, params)
        return rows[0] if rows else None

    async def value(self, sql: str, params: Params = ()) -> Any:
        """Return the first column of the first row, or None."""
        row = await self.one(sql, params)
        return row[0] if row else None


async def _connect(uri: str, pragmas: Sequence[str]) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(uri, uri=True, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        for pragma in pragmas:
            await connection.execute_fetchall(f"PRAGMA {pragma}")
    except BaseException:
        await connection.close()
        raise
    return connection


class Database:
    """The one owner of a SQLite file: a connection that writes, and a few that only read.

    Functions given to `write` and `read` run SQL and await nothing else: every other transaction
    waits for a write to end. They must not call `write` or `read` themselves.
    """

    def __init__(
        self,
        path: Path,
        lock: InstanceLock,
        writer: aiosqlite.Connection,
        readers: Sequence[aiosqlite.Connection],
    ) -> None:
        self.path = path
        self._lock = lock
        self._writer = writer
        self._writing = Turns()
        self._readers = tuple(readers)
        self._free: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        for reader in readers:
            self._free.put_nowait(reader)
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.commits = 0
        """Write transactions committed since the opening."""

    @classmethod
    async def open(cls, path: Path, *, migrations: Path = MIGRATIONS) -> Self:
        """Lock, check, back up if need be, and migrate the database at `path`.

        Raises `DatabaseError` when another process has it, or it is damaged, newer than this code,
        or not writable.
        """
        lock: InstanceLock | None = None
        connections: list[aiosqlite.Connection] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = InstanceLock(path.with_name(f"{path.name}.lock"))
            await asyncio.to_thread(prepare, path, read_migrations(migrations))
            connections.append(await _connect(file_uri(path), _WRITER_PRAGMAS))
            for _ in range(_READERS):
                reader = await _connect(file_uri(path, "ro"), _READER_PRAGMAS)
                connections.append(reader)
            return cls(path, lock, connections[0], connections[1:])
        except BaseException as error:
            for connection in reversed(connections):
                await connection.close()
            if lock:
                lock.release()
            if isinstance(error, OSError | sqlite3.Error):
                raise DatabaseError(f"The database {path} cannot be opened: {error}.") from error
            raise

    async def write(
        self,
        fn: Callable[[Transaction], Awaitable[T]],
        *,
        then: Callable[[T], None] | None = None,
        first: bool = False,
    ) -> T:
        """Run `fn` in a transaction of its own and return what it returned, once committed.

        If it raises, nothing of it stays. Cancelling the caller ends the wait, not the transaction,
        which commits or rolls back by itself. `then` gets the result right after the commit, also
        when nobody waits any more: for what the rest of the process must not miss. What is `first`
        goes before all that is not: it is for accepted work, which new requests must not hold up.
        """
        return await self._to_its_end(self._write(fn, then, first=first))

    @property
    def crowded(self) -> bool:
        """Whether anybody waits for another one's `write` to end."""
        return self._writing.crowded

    async def read(self, fn: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `fn` on one unchanging snapshot of the database; it cannot write."""
        return await self._to_its_end(self._read(fn))

    async def scrub(self) -> bool:
        """Empty the write-ahead log, where older versions of changed pages still lie.

        Returns False where a reader, or another process's backup, is in the way: try again later.
        """
        return await self._to_its_end(self._scrub())

    async def backup(self, target: Path) -> None:
        """Copy the database as it stands now to `target`, while reads and writes go on.

        Raises `DatabaseError` when the copy cannot be written.
        """
        try:
            await asyncio.to_thread(copy_database, self.path, target)
        except (OSError, sqlite3.Error) as error:
            raise DatabaseError(f"The backup to {target} failed: {error}.") from error

    async def close(self) -> None:
        """Let what runs end, then close everything and give up the lock. Idempotent."""
        if self._closed:
            return
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        for connection in (*self._readers, self._writer):
            await connection.close()
        self._lock.release()

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise RuntimeError("the database is closed")
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _write(
        self,
        fn: Callable[[Transaction], Awaitable[T]],
        then: Callable[[T], None] | None,
        *,
        first: bool,
    ) -> T:
        async with self._writing.taken(first=first):
            result = await _transact(self._writer, "BEGIN IMMEDIATE", fn)
            self.commits += 1
            if then:
                then(result)
        return result

    async def _scrub(self) -> bool:
        async with self._writing.taken():
            # Nobody is to wait for a backup's long look.
            await self._writer.execute_fetchall("PRAGMA busy_timeout = 0")
            try:
                rows = await self._writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                await self._writer.execute_fetchall(f"PRAGMA {_PATIENCE}")
        return next(iter(rows))[0] == 0

    async def _read(self, fn: Callable[[Transaction], Awaitable[T]]) -> T:
        reader = await self._free.get()
        try:
            return await _transact(reader, "BEGIN", fn)
        finally:
            self._free.put_nowait(reader)


async def _transact(
    connection: aiosqlite.Connection, begin: str, fn: Callable[[Transaction], Awaitable[T]]
) -> T:
    try:
        await connection.execute_fetchall(begin)
        result = await fn(Transaction(connection))
        await connection.execute_fetchall("COMMIT")
    except BaseException:
        # Does nothing when SQLite has already rolled back by itself (a full disk, for one).
        await connection.rollback()
        raise
    return result
