"""Processes that die in the middle of a migration, or of keeping a picture."""

from __future__ import annotations

import hashlib
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from storage.images import ImageStore
from storage.migrate import MIGRATIONS, read_migrations

ROOT = Path(__file__).parent.parent.parent
JOB = "01abcdefghjkmnpqrs"

MIGRATE = """
import os, pathlib, signal, sqlite3, sys
point = sys.argv[3]
when, _, words = point.partition(" ")
migrating = when == "copying"
class Deadly(sqlite3.Connection):
    def execute(self, sql, *rest):
        global migrating
        migrating = migrating or "EXCLUSIVE" in sql
        if when != "after" and migrating and words in sql:
            os.kill(os.getpid(), signal.SIGKILL)
        found = super().execute(sql, *rest)
        if when == "after" and migrating and words in sql:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
from storage.migrate import prepare, read_migrations
connect = sqlite3.connect
sqlite3.connect = lambda *a, **k: connect(*a, **k, factory=Deadly)
prepare(pathlib.Path(sys.argv[1]), read_migrations(pathlib.Path(sys.argv[2])))
"""

KEEP = """
import asyncio, os, pathlib, signal, sys
from storage.images import ImageStore
name, number = sys.argv[2], int(sys.argv[3])
calls = 0
def deadly(module, name):
    real = getattr(module, name)
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(module, name, call)
store = ImageStore(pathlib.Path(sys.argv[1]), clock=lambda: 1_800_000_000.0)
source = store.work_dir("01abcdefghjkmnpqrs") / "0.png"
source.write_bytes(b"picture" * 100_000)
deadly({"os": os, "path": pathlib.Path}[name.partition(".")[0]], name.partition(".")[2])
asyncio.run(store.keep("01abcdefghjkmnpqrs", 0, source, width=1, height=1, seed=0))
"""


def run(code: str, *arguments: object) -> int:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=30).returncode


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [*connection.iterdump(), str(connection.execute("PRAGMA user_version").fetchone())]


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "copying COMMIT",
        "before BEGIN EXCLUSIVE",
        "before CREATE TABLE moods",
        "after INSERT INTO moods",
        "before PRAGMA user_version =",
        "after PRAGMA user_version =",
        "before COMMIT",
        "after COMMIT",
    ],
)
async def test_a_migration_killed_anywhere_is_all_or_nothing(tmp_path, opened, point):
    path, folder = tmp_path / "bot.sqlite3", tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    version = len(read_migrations(folder)) + 1
    database = await opened(path)
    await database.write(lambda tx: tx.execute("INSERT INTO facts VALUES ('colour', 'blue')"))
    await database.close()
    before = dump(path)
    # More rows than the page cache holds: a part of them is in the file when the process dies.
    (folder / f"{version:04}_moods.sql").write_text(
        "CREATE TABLE moods (name TEXT); INSERT INTO moods WITH RECURSIVE n(i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " SELECT hex(zeroblob(1000)) FROM n; UPDATE facts SET value = 'red';"
    )
    assert run(MIGRATE, path, folder, point) == -signal.SIGKILL
    if point != "after COMMIT":
        assert dump(path) == before
        backup = tmp_path / f"bot.sqlite3.before-v{version}.bak"
        assert backup.exists() is (point != "copying COMMIT")
        assert not backup.exists() or dump(backup) == before
    database = await opened(path, migrations=folder)
    for sql, value in {
        "SELECT count(*) FROM moods": 5000,
        "SELECT value FROM facts WHERE name = 'colour'": "red",
        "PRAGMA user_version": version,
        "PRAGMA integrity_check": "ok",
    }.items():
        assert await database.read(lambda tx, sql=sql: tx.value(sql)) == value


@pytest.mark.parametrize(
    ("call", "number"),
    # The syncs of two folders for what is half written and of the day's three, the file's, the
    # move, the sync after it.
    [("os.fsync", 1), ("os.fsync", 4), ("os.fsync", 6), ("path.replace", 1), ("os.fsync", 7)],
)
async def test_a_picture_killed_while_kept_is_whole_or_absent(tmp_path, call, number):
    root = tmp_path / "images"
    assert run(KEEP, root, call, number) == -signal.SIGKILL
    content = b"picture" * 100_000
    kept = root / "2027" / "01" / "15" / f"{JOB}_0.png"
    assert kept.exists() is (number == 7)
    if kept.exists():
        assert kept.read_bytes() == content
    # The next start clears what is half written, the next attempt takes the same name, and its hash
    # is the file's.
    store = ImageStore(root, clock=lambda: 1_800_000_000.0)
    await store.clear()
    source = store.work_dir(JOB) / "0.png"
    source.write_bytes(b"drawn again")
    record = await store.keep(JOB, 0, source, width=1, height=1, seed=0)
    assert hashlib.sha256(store.path(record).read_bytes()).hexdigest() == record.sha256
    assert [path.name for path in root.rglob("*.png")] == [kept.name]
