"""What the bot keeps is its user's alone: what is new, and what an earlier version left open."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bot.cli.main import main
from bot.logs.file import FILE_NAME, JsonFormatter, log_file_handler
from storage.images import ImageStore
from storage.migrate import prepare, read_migrations
from storage.private_files import kept_places, make_private, open_to_others

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")


@pytest.fixture(autouse=True)
def _usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, int]:
    return {
        path.relative_to(root).as_posix(): stat.S_IMODE(path.lstat().st_mode)
        for path in (root, *root.rglob("*"))
        if not path.is_symlink()
    }


def is_private(root: Path) -> bool:
    return not [name for name, mode in modes(root).items() if mode & 0o077]


def an_old_installation(data: Path) -> None:
    """Files as versions made them that did not think of other users."""
    for name in ("images/2026/01/02", "images/inputs", "backups/20260101/images", "models"):
        (data / name).mkdir(parents=True)
    for name in (
        "bot.sqlite3.before-v5.bak", "images/2026/01/02/a_0.png", "images/inputs/a.input",
        "backups/20260101/bot.sqlite3", "models/weights",
    ):  # fmt: skip
        (data / name).write_bytes(b"x")
    with closing(sqlite3.connect(data / "bot.sqlite3")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE a (b)")
        (data / "kept").write_bytes((data / "bot.sqlite3-wal").read_bytes())
    (data / "kept").replace(data / "bot.sqlite3-wal")


def mended(data: Path, logs: Path | None = None, **options) -> int:
    return make_private(kept_places(data, logs, FILE_NAME), **options)


def test_what_an_earlier_version_left_open_is_closed(tmp_path):
    data, logs = tmp_path / "data", tmp_path / "logs"
    an_old_installation(data)
    logs.mkdir()
    (logs / FILE_NAME).write_text("{}")
    (logs / f"{FILE_NAME}.1").write_text("{}")
    assert not is_private(data)
    assert mended(data, logs) > 10
    open_ones = {name for name, mode in modes(data).items() if mode & 0o077}
    # Nobody's secret, and behind a closed door all the same.
    assert open_ones == {"models", "models/weights"}
    assert is_private(logs)
    assert mended(data, logs) == 0


def test_what_is_cut_off_goes_on_at_the_next_start(tmp_path):
    an_old_installation(tmp_path)
    steps = iter(range(100))
    mended(tmp_path, stopped=lambda: next(steps) > 4)
    assert not is_private(tmp_path / "images")
    mended(tmp_path)
    assert is_private(tmp_path / "images")


def test_a_link_leads_nowhere(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    an_old_installation(data)
    outside.mkdir()
    (outside / "file").write_text("mine")
    (data / "images" / "file").symlink_to(outside / "file")
    (data / "images" / "folder").symlink_to(outside)
    mended(data)
    assert {name for name, mode in modes(outside).items() if mode & 0o077} == {".", "file"}


def test_a_folder_that_is_used_for_something_else_keeps_its_rights(tmp_path, monkeypatch):
    an_old_installation(tmp_path)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE_NAME).write_text("{}")
    mended(Path(), Path())
    assert modes(tmp_path)["."] & 0o077
    assert not any(open_to_others(tmp_path / name) for name in ("images", "bot.sqlite3", FILE_NAME))


def test_what_is_refused_is_said_once(tmp_path, monkeypatch, caplog):
    an_old_installation(tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    assert mended(tmp_path) == 0
    assert caplog.text.count("stays open to other users (Operation not permitted)") == 1


def test_every_command_makes_files_for_its_user_alone(tmp_path, monkeypatch, capsys):
    main(["settings"])
    (tmp_path / "data" / "images").mkdir(parents=True)
    prepare(tmp_path / "data" / "bot.sqlite3", read_migrations())
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert main(["backup", "copy", "--images"]) == 0
    handler = log_file_handler(tmp_path / "logs", JsonFormatter(str, str))
    handler.handle(logging.makeLogRecord({"msg": "a line"}))
    handler.close()
    ImageStore(tmp_path / "data" / "images").work_dir("job")
    child = "open('by-child', 'w').close()"
    subprocess.run([sys.executable, "-c", child], check=True, timeout=50)
    for place in ("copy", "logs", "data"):
        assert is_private(tmp_path / place), modes(tmp_path / place)
    assert stat.S_IMODE((tmp_path / "by-child").stat().st_mode) == 0o600
    capsys.readouterr()


async def test_the_database_is_private_whoever_opens_it(tmp_path, opened):
    database = await opened(tmp_path / "bot.sqlite3")
    await database.write(lambda tx: tx.execute("INSERT INTO facts VALUES ('a', 'b')"))
    found = {name: mode for name, mode in modes(tmp_path).items() if name.startswith("bot.")}
    assert len(found) >= 4
    assert not [name for name, mode in found.items() if mode & 0o077]
