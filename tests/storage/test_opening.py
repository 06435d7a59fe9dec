"""What `Database.open` refuses, and that it changes nothing then."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from bot.errors import DatabaseError
from storage.migrate import read_migrations

OPEN_AND_WAIT = """
import asyncio, pathlib, sys
from storage.database import Database
async def main():
    database = await Database.open(pathlib.Path(sys.argv[1]))
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await database.close()
asyncio.run(main())
"""
OPEN_ONLY = """
import asyncio, os, pathlib, sys
from bot.errors import StartupError
from storage.database import Database
if len(sys.argv) > 2:
    os.seteuid(int(sys.argv[2]))
try:
    asyncio.run(Database.open(pathlib.Path(sys.argv[1])))
except StartupError as error:
    print(error)
    sys.exit(78)
"""
ROOT = Path(__file__).parent.parent.parent


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


async def make_database(opened, path: Path) -> None:
    database = await opened(path)
    for number in range(200):
        sql = "INSERT INTO users VALUES (?, ?, 0, 0, NULL, '{}')"
        await database.write(lambda tx, n=number, sql=sql: tx.execute(sql, (n, "x" * 500)))
    await database.close()


async def test_what_a_killed_process_left_half_done_is_undone(tmp_path, opened):
    path, left = tmp_path / "bot.sqlite3", tmp_path / "left.sqlite3"
    await make_database(opened, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA cache_size = 1")  # Pages reach the file before the commit.
        connection.execute("BEGIN")
        connection.execute("DELETE FROM users")
        connection.execute("CREATE TABLE half_done AS SELECT * FROM jobs")
        for suffix in ("", "-journal"):
            shutil.copy(f"{path}{suffix}", f"{left}{suffix}")
    assert left.read_bytes() != path.read_bytes()
    database = await opened(left)
    assert await database.read(lambda tx: tx.value("SELECT count(*) FROM users")) == 200


async def test_a_fresh_database_has_the_newest_schema(tmp_path, opened):
    database = await opened(tmp_path / "new" / "bot.sqlite3")
    version = await database.read(lambda tx: tx.value("PRAGMA user_version"))
    assert version == len(read_migrations())
    for pragma, value in {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}.items():
        rows = await database._writer.execute_fetchall(f"PRAGMA {pragma}")
        assert next(iter(rows))[0] == value
    await database.close()
    assert not list(tmp_path.rglob("*.bak"))


@pytest.mark.parametrize(
    "deleted",
    [
        False,
        # Tidied away while the bot runs: another one may be started nevertheless.
        pytest.param(True, marks=pytest.mark.skipif(sys.platform == "win32", reason="it is open")),
    ],
)
async def test_a_second_process_is_refused_and_the_lock_dies_with_its_holder(
    tmp_path, opened, deleted
):
    path = tmp_path / "bot.sqlite3"
    with start(OPEN_AND_WAIT, path) as first:
        assert first.stdout.readline() == "open\n"
        if deleted:
            (tmp_path / "bot.sqlite3.lock").unlink()
        with start(OPEN_ONLY, path) as second:
            output, _ = second.communicate(timeout=30)
        assert second.returncode == 78
        assert str(tmp_path) in output
        assert "already uses" in output
        with pytest.raises(DatabaseError, match="already uses"):
            await opened(path)
        first.kill()
    await (await opened(path)).close()


def zeroed(content: bytes) -> bytes:
    return bytes(len(content))


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_short(content: bytes) -> bytes:
    return content[:60]


def another_format(content: bytes) -> bytes:
    return b"not a database at all\n" * 1000


def broken_page(content: bytes) -> bytes:
    return content[:8192] + os.urandom(4096) + content[12288:]


@pytest.mark.parametrize("damage", [zeroed, cut, cut_short, another_format, broken_page])
async def test_a_damaged_file_is_refused_and_left_untouched(tmp_path, damage, opened):
    path = tmp_path / "bot.sqlite3"
    await make_database(opened, path)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(DatabaseError, match="untouched") as caught:
        await opened(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == damaged
    path.unlink()
    await (await opened(path)).close()  # The lock was given up.


async def test_a_newer_schema_is_refused_and_left_untouched(tmp_path, opened):
    path = tmp_path / "bot.sqlite3"
    await make_database(opened, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    with pytest.raises(DatabaseError, match=r"newer version.*999"):
        await opened(path)
    assert path.read_bytes() == before


async def test_the_database_of_another_program_is_refused(tmp_path, opened):
    path = tmp_path / "bot.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(DatabaseError, match="another program"):
        await opened(path)
    assert path.read_bytes() == before


async def test_a_file_where_the_folder_should_be(tmp_path, opened):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DatabaseError, match="cannot be opened"):
        await opened(tmp_path / "data" / "bot.sqlite3")


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not made read-only there")
def test_a_folder_that_cannot_be_written():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        path = folder / "bot.sqlite3"
        # Root may write anywhere, so the child becomes somebody else first.
        arguments = (path, 65534) if os.geteuid() == 0 else (path,)
        with start(OPEN_ONLY, *arguments) as process:
            output, _ = process.communicate(timeout=30)
        assert process.returncode == 78
        assert output.startswith(f"The database {path} cannot be opened")
        assert not list(folder.iterdir())
        folder.chmod(0o755)
