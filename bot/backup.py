"""`python -m bot backup`: a copy of the data folder that a bot can be started on."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.errors import BotError
from bot.settings import Settings
from storage.backup import connect_read_only, copy_database, sync_file, sync_folder

_PARTIAL: Final = ".partial"


@dataclass(slots=True)
class Backup:
    """What was copied. `unusable` names pictures that are missing or differ from their hash."""

    folder: Path
    jobs: int = 0
    pictures: int = 0
    unusable: list[str] = field(default_factory=list[str])


def back_up(settings: Settings, target: Path | None, *, images: bool) -> Backup:
    """Copy the database, and with `images` the pictures it names, to the new folder `target`.

    Takes no lock and changes nothing, so the bot may run meanwhile. The folder appears under its
    name when it is complete. Raises `BotError` with one sentence.
    """
    source = settings.database_path
    if not source.is_file():
        raise BotError(f"There is no database {source}: nothing to back up.")
    folder = target or settings.data_dir / "backups" / time.strftime("%Y%m%d-%H%M%S")
    if folder.exists():
        raise BotError(f"{folder} exists already: name a new folder.")
    partial = folder.with_name(folder.name + _PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        # The database first: pictures that it names were written before their rows.
        copy_database(source, partial / source.name)
        backup = _fill(Backup(folder), settings, partial, images=images)
        sync_folder(partial)
        partial.rename(folder)
        sync_folder(folder.parent)
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise BotError(f"The backup to {folder} failed: {error}.") from error
    return backup


def report(backup: Backup, *, images: bool) -> str:
    """Return what the user reads about a backup, in lines."""
    lines = [f"Backed up {backup.jobs} jobs to {backup.folder}."]
    if images:
        lines.append(f"Pictures copied: {backup.pictures}.")
        lines += [f"Not copied, missing or changed: {file}" for file in backup.unusable]
    else:
        lines.append("The pictures were not copied (--images does that).")
    lines.append("To restore: stop the bot, and start it with a copy of this folder as DATA_DIR.")
    return "\n".join(lines) + "\n"


def _fill(backup: Backup, settings: Settings, partial: Path, *, images: bool) -> Backup:
    with closing(connect_read_only(partial / settings.database_path.name)) as connection:
        backup.jobs = int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])
        rows = connection.execute("SELECT file, sha256 FROM images ORDER BY file").fetchall()
    for file, sha256 in rows if images else ():
        copied = partial / settings.images_dir.name / file
        if _copy_picture(settings.images_dir / file, copied, sha256):
            backup.pictures += 1
        else:
            backup.unusable.append(file)
    return backup


def _copy_picture(source: Path, target: Path, sha256: str) -> bool:
    """Copy one picture durably; return False, and leave no copy, if it is not the recorded one."""
    try:
        data = source.read_bytes()
    except FileNotFoundError:
        return False
    if hashlib.sha256(data).hexdigest() != sha256:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    sync_file(target)
    return True
