"""The check of the backups: how old the newest is, and whether it could be started from."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from bot.archive.backup import made_at, newest_backup
from bot.config.settings import Settings
from bot.doctor.disk import existing
from bot.doctor.finding import Finding, Level
from storage.backup import connect_read_only

_HOUR_S: Final = 3600.0
# The bot tries again each hour, and may have been off for a night.
_LATE: Final = 2
_STEP: Final = "python -m bot backup makes one now; why the bot makes none stands in its log"


def backups(settings: Settings) -> Iterator[Finding]:
    """Tell the age of the newest backup, and have SQLite look through its database."""
    name, folder, every = "backups", settings.backups_dir, settings.backup_every_hours
    newest = newest_backup(folder, time.time())
    if newest is None:
        off = "none, and BACKUP_EVERY_HOURS=0 makes none"
        text = f"none yet in {folder.absolute()}" if every else off
        late = bool(every) and _age_of_data(settings) > _LATE * every * _HOUR_S
        yield Finding(name, Level.WARNING if late else Level.OK, text, _STEP if late else "")
        return
    age_h = max(0.0, time.time() - made_at(newest)) / _HOUR_S
    text = f"the newest is {age_h:.1f} h old: {newest.absolute()}"
    if folder.stat().st_dev == existing(settings.data_dir).stat().st_dev:
        text += ", on the same disk as the data (BACKUP_DIR names another)"
    if (damage := _damage(newest / settings.database_path.name)) is not None:
        step = f"delete {newest}; {_STEP}"
        yield Finding(name, Level.ERROR, f"{text}; it is damaged: {damage}", step)
    elif every and age_h > _LATE * every:
        yield Finding(name, Level.WARNING, f"{text}; one is due each {every:g} h", _STEP)
    else:
        yield Finding(name, Level.OK, text)


def _damage(path: Path) -> str | None:
    try:
        with closing(connect_read_only(path)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else " ".join(str(found).split())


def _age_of_data(settings: Settings) -> float:
    """Return for how many seconds there has been something to keep."""
    if not settings.database_path.exists():
        return 0.0
    try:
        with closing(connect_read_only(settings.database_path)) as connection:
            (first,) = connection.execute("SELECT min(created_at) FROM jobs").fetchone()
    except sqlite3.DatabaseError:  # The check of the database says it.
        return 0.0
    return 0.0 if first is None else time.time() - float(first)
