"""The backups that the bot makes by itself: when, how many, what is said of them, and the drill."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from bot.archive.backup import back_up, newest_backup
from bot.archive.backups import HOUR_S, PREFIX, BackupSchedule
from bot.config.settings import load_settings
from bot.errors import BotError
from bot.sandbox.server import Sandbox
from storage.migrate import prepare, read_migrations
from tests.process.kit import bot_process, logged
from tests.process.test_backup import command
from tests.wire.conftest import _route, judge, sandbox
from tests.wire.kit import PATIENCE_S, is_outcome, job_id_of, staged

__all__ = ["_route", "judge", "sandbox"]


def settings_of(folder: Path, **values):
    prepare(folder / "bot.sqlite3", read_migrations())
    return load_settings(data_dir=folder, discord_token=None, _env_file=None, **values)


@pytest.fixture
def seconds(monkeypatch):
    """Each backup has a second of its own, as it would where hours lie between them."""
    names = iter(f"20261129-1200{second:02}" for second in range(60))
    # Logging has dates too, by the same function.
    own = SimpleNamespace(
        time=time.time, perf_counter=time.perf_counter, strftime=lambda _format: next(names)
    )
    monkeypatch.setattr("bot.archive.backups.time", own)


def age(backup: Path, hours: float) -> None:
    then = time.time() - hours * HOUR_S
    os.utime(backup / "bot.sqlite3", (then, then))


async def test_one_is_made_when_it_is_due_and_the_last_few_stay(tmp_path, seconds):
    settings = settings_of(tmp_path, backup_every_hours=6, backup_keep=2)
    schedule = BackupSchedule(settings)
    back_up(settings, settings.backups_dir / "by-hand", images=False)
    age(settings.backups_dir / "by-hand", 5.5)
    assert await schedule.look() == pytest.approx(HOUR_S / 2, abs=60)
    assert newest_backup(settings.backups_dir, time.time()).name == "by-hand"
    age(settings.backups_dir / "by-hand", 100)
    # What a killed process left, and one of a clock that was years ahead.
    (settings.backups_dir / f"{PREFIX}x.partial").mkdir()
    for number in range(3):
        assert await schedule.look() == HOUR_S
        newest = newest_backup(settings.backups_dir, time.time())
        assert newest.name == f"{PREFIX}20261129-1200{number:02}"
        assert await schedule.look() > 0, "not due again"
        age(newest, 50 - number)
    names = {path.name for path in settings.backups_dir.iterdir()}
    assert names == {"by-hand", f"{PREFIX}20261129-120001", f"{PREFIX}20261129-120002"}


async def test_one_of_the_future_hinders_no_other_and_none_is_deleted_for_its_age(
    tmp_path, seconds
):
    settings = settings_of(tmp_path, backup_keep=2)
    schedule = BackupSchedule(settings)
    await schedule.look()
    (ahead,) = settings.backups_dir.iterdir()
    age(ahead, -9000)
    await schedule.look()
    assert len(list(settings.backups_dir.iterdir())) == 2
    assert await schedule.look() == HOUR_S
    assert len(list(settings.backups_dir.iterdir())) == 2


async def test_without_room_or_wish_none_is_made_and_the_bot_goes_on(tmp_path, monkeypatch, caplog):
    settings = settings_of(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    assert await BackupSchedule(settings).look() == HOUR_S
    assert "set BACKUP_DIR to another disk" in caplog.text
    assert not list(settings.backups_dir.iterdir())
    none = settings.model_copy(update={"backup_every_hours": 0.0})
    monkeypatch.undo()
    await BackupSchedule(none).look()
    assert not list(settings.backups_dir.iterdir())


def test_the_doctor_tells_how_old_the_newest_is(tmp_path, look, monkeypatch, seconds):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert look("backups")[0][0] == "ok"  # there is nothing to keep yet
    settings = settings_of(tmp_path)
    asyncio.run(BackupSchedule(settings).look())
    (made,) = settings.backups_dir.iterdir()
    ((level, text, _),) = look("backups")
    assert (level, "the newest is 0.0 h old" in text) == ("ok", True)
    assert "on the same disk as the data" in text
    age(made, 49)
    ((level, text, step),) = look("backups")
    assert (level, "49.0 h old" in text, "python -m bot backup" in step) == ("warning", True, True)
    content = (made / "bot.sqlite3").read_bytes()
    (made / "bot.sqlite3").write_bytes(content[:5000])
    ((level, text, _),) = look("backups")
    assert (level, "it is damaged" in text) == ("error", True)


async def test_a_stop_in_the_middle_leaves_no_half_of_one(sandbox, tmp_path):
    data = tmp_path / "data"
    async with staged(sandbox, data) as stage:
        outcome = await stage.outcome(await stage.imagine("bob", "a moon"))
        await stage.delivered(job_id_of(outcome))
        with pytest.raises(BotError, match="stopped"):
            back_up(
                stage.app.settings, tmp_path / "copies" / "one", images=True, stopped=lambda: True
            )
    assert not list((tmp_path / "copies").iterdir())


@pytest.mark.slow
async def test_the_drill_a_disk_is_lost_and_the_last_backup_takes_over(tmp_path):
    """Killed with jobs done and waiting; the disk of its data is gone, that of its backups not."""
    data, copies = tmp_path / "data", tmp_path / "copies"
    data.mkdir()
    own = {"BACKUP_DIR": str(copies), "BACKUP_IMAGES": "true", "LIMIT_OPEN_JOBS": "100"}
    async with Sandbox() as sandbox:
        invocations = {}
        async with bot_process(sandbox, data, "painter", **own) as process:
            await sandbox.ready(PATIENCE_S)
            for number in range(8):
                asked = await sandbox.user("alice").slash("art", "imagine", prompt=f"moon {number}")
                invocations[job_id_of(await asked.answer())] = asked
            async with asyncio.timeout(PATIENCE_S):
                await next(iter(invocations.values())).until(is_outcome, PATIENCE_S)
            process.kill()
            await process.wait()
        # Long ago somebody made one by hand: the next is due at once.
        back_up(load_settings(data_dir=data, _env_file=None), copies / "old", images=False)
        age(copies / "old", 100)
        async with bot_process(sandbox, data, "painter", **own) as process:
            line = await logged(process, "backed up 8 jobs")
            process.kill()
            await process.wait()
        shutil.rmtree(data)
        newest = newest_backup(copies, time.time())
        assert newest.name.startswith(PREFIX)
        assert (newest / "bot.sqlite3").stat().st_mode & 0o077 == 0
        began = time.perf_counter()
        shutil.copytree(newest, data)
        async with bot_process(sandbox, data, "painter", **own):
            await sandbox.ready(PATIENCE_S)
            online = time.perf_counter() - began
            async with asyncio.timeout(PATIENCE_S):
                for asked in invocations.values():
                    await asked.until(is_outcome, PATIENCE_S)
            findings = json.loads(await command(sandbox, data, "doctor", "--json"))
        assert {one["level"] for one in findings} == {"ok"}
    with closing(sqlite3.connect(data / "bot.sqlite3")) as database:
        states = dict(database.execute("SELECT id, state FROM jobs"))
        files = list(database.execute("SELECT file, sha256 FROM images"))
    assert states == dict.fromkeys(invocations, "generated")
    assert len(files) == len(invocations)
    for file, sha256 in files:
        assert hashlib.sha256((data / "images" / file).read_bytes()).hexdigest() == sha256
    seconds = line.split(" in ")[-1].strip()
    told = f"{len(states)} jobs, none lost; made in {seconds}, online in {online:.1f} s"
    sys.stdout.write(told)
