"""A copy of the data folder that a bot can be started from, and how old the newest one is."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, Final, cast

from bot.config.settings import Settings
from bot.errors import BotError
from storage.backup import connect_read_only, copy_database, forget_expired_tokens, sync_folder
from storage.durable_files import write_durably
from storage.images import ImageStore
from storage.input_pictures import INPUT_BYTES
from storage.plain_files import UntrustedFileError, blocks, open_plain

DATABASE: Final = "bot.sqlite3"
_PARTIAL: Final = ".partial"
# Each job, and the names of the files that it still needs; older schemas know these columns too.
_INPUTS: Final = """
    SELECT id, CASE WHEN json_valid(request) AND state IN ('queued', 'running')
        THEN json_extract(request, '$.input_image', '$.mask', '$.references') ELSE '[]' END
    FROM jobs
"""


@dataclass(slots=True)
class Backup:
    """What was copied. `unusable` names pictures that are missing or differ from their hash.

    `inputs` counts the pictures and masks that jobs start, or started, from.
    """

    folder: Path
    jobs: int = 0
    pictures: int = 0
    inputs: int = 0
    unusable: list[str] = field(default_factory=list[str])


def _new_folder(home: Path) -> Path:
    """Return a folder named by the time, which no other backup of the same second has."""
    name = time.strftime("%Y%m%d-%H%M%S")
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(
        home / one
        for one in names
        if not (home / one).exists() and not (home / (one + _PARTIAL)).exists()
    )


def newest_backup(folder: Path, now: float) -> Path | None:
    """Return the complete backup in `folder` that was made last, by its files' time; None: none.

    One that is from later than `now` (Unix seconds) was made while the clock was wrong, and left
    out.
    """
    made = [path.parent for path in folder.glob(f"*/{DATABASE}") if path.parent.suffix != _PARTIAL]
    return max((one for one in made if made_at(one) <= now), key=made_at, default=None)


def made_at(backup: Path) -> float:
    """Return when a backup was made, in Unix seconds; 0 where it is gone."""
    try:
        return (backup / DATABASE).stat().st_mtime
    except OSError:
        return 0.0


def back_up(
    settings: Settings,
    target: Path | None,
    *,
    images: bool,
    stopped: Callable[[], bool] = lambda: False,
) -> Backup:
    """Copy the database, and with `images` the pictures it names, to the new folder `target`.

    What jobs start from that are not done is copied without `images`, too: they could not be drawn.

    Takes no lock and changes nothing, so the bot may run meanwhile. The folder appears under its
    name when it is complete. Raises `BotError` with one sentence, between two pictures also where
    it is `stopped`. Blocking.
    """
    source = settings.database_path
    if not source.is_file():
        raise BotError(f"There is no database {source}: nothing to back up.")
    folder = target or _new_folder(settings.backups_dir)
    if folder.exists():
        raise BotError(f"{folder} exists already: name a new folder.")
    partial = folder.with_name(folder.name + _PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        # The database first: pictures that it names were written before their rows.
        copy_database(source, partial / source.name)
        forget_expired_tokens(partial / source.name, time.time())
        backup = _fill(Backup(folder), settings, partial, images=images, stopped=stopped)
        sync_folder(partial)
        partial.rename(folder)
        sync_folder(folder.parent)
    except BotError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else error
        raise BotError(
            f"The backup to {folder} failed ({reason}): name a folder that can be written, or make "
            "room there."
        ) from error
    return backup


def report(backup: Backup, *, images: bool) -> str:
    """Return what the user reads about a backup, in lines."""
    lines = [f"Backed up {backup.jobs} jobs to {backup.folder}."]
    if images:
        lines.append(f"Pictures copied: {backup.pictures}.")
    else:
        lines.append("The pictures were not copied (--images does that).")
    if backup.inputs:
        lines.append(f"Pictures to start from copied: {backup.inputs}.")
    lines += [f"Not copied, missing or changed: {file}" for file in backup.unusable]
    lines.append("To restore: stop the bot, and start it with a copy of this folder as DATA_DIR.")
    return "\n".join(lines) + "\n"


def _fill(
    backup: Backup,
    settings: Settings,
    partial: Path,
    *,
    images: bool,
    stopped: Callable[[], bool],
) -> Backup:
    with closing(connect_read_only(partial / settings.database_path.name)) as connection:
        backup.jobs = int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])
        rows = connection.execute(
            "SELECT file, size_bytes, sha256 FROM images ORDER BY file"
        ).fetchall()
        needed = {job_id: _names(text) for job_id, text in connection.execute(_INPUTS)}
    store, folder = ImageStore(settings.images_dir), partial / settings.images_dir.name
    for given in sorted(store.inputs.files()):
        if given.job_id not in needed or not (images or given.name in needed[given.job_id]):
            continue
        name = store.inputs.path(given.name).relative_to(store.root)
        if _copy_file(store.root, name, folder, INPUT_BYTES, given.sha256):
            backup.inputs += 1
            needed[given.job_id].discard(given.name)
        elif given.name not in needed[given.job_id]:
            backup.unusable.append(str(name))
    backup.unusable += [f"the start of job {job_id}" for job_id in needed if needed[job_id]]
    for file, size, sha256 in rows if images else ():
        if stopped():
            raise BotError("The backup was stopped before its end.")
        if _copy_file(store.root, file, folder, size, sha256):
            backup.pictures += 1
        else:
            backup.unusable.append(file)
    return backup


def _names(text: str) -> set[str]:
    """Return the names in a JSON list of names, lists of them and nulls."""
    found: set[str] = set()
    for one in cast("list[Any]", json.loads(text)):
        names = cast("list[Any]", one) if isinstance(one, list) else [one]
        found.update(str(name) for name in names if name is not None)
    return found


def _copy_file(
    root: Path, name: str | Path, folder: Path, limit: int, sha256: str | None = None
) -> bool:
    """Copy a picture durably; return False, and leave no copy, if it is not the recorded one."""
    target = folder / name
    try:
        with open_plain(root, name) as file:
            content = blocks(file, limit)
            write_durably(content, target.with_name(target.name + _PARTIAL), target, sha256)
    except (FileNotFoundError, UntrustedFileError):
        return False
    return True
