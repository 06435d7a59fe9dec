"""Backups that the bot makes by itself, and how many of them stay."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from bot.archive.backup import back_up, made_at, newest_backup
from bot.config.settings import Settings
from bot.errors import BotError
from storage.backup import connect_read_only

log = logging.getLogger(__name__)

PREFIX: Final = "auto-"
"""Begins the names of the folders that may be deleted again; others were made by hand."""
HOUR_S: Final = 3600.0
# Where there is none yet: a start has other things to do, and often nothing to keep.
_FIRST_S: Final = 600.0
# The database's own files, and what other programs write meanwhile.
_SPARE_BYTES: Final = 256 * 2**20


class BackupSchedule:
    """Makes a backup each BACKUP_EVERY_HOURS, and deletes those past BACKUP_KEEP."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._every_s = settings.backup_every_hours * HOUR_S
        self._folder = settings.backups_dir
        self._clock = clock

    async def run(self) -> None:
        """Make them until cancelled; one that fails is logged, and tried again in an hour."""
        wait = 0.0 if await asyncio.to_thread(self._newest) else _FIRST_S
        while True:
            await asyncio.sleep(wait)
            try:
                wait = await self.look()
            except Exception:
                log.exception("no backup was made; tried again in an hour")
                wait = HOUR_S

    async def look(self) -> float:
        """Make a backup if one is due; return in how many seconds to look again, an hour at most.

        Cancelled, it leaves no half of one.
        """
        if not self._every_s:
            return HOUR_S
        newest = await asyncio.to_thread(self._newest)
        age = self._every_s if newest is None else self._clock() - made_at(newest)
        if age < self._every_s:
            return min(HOUR_S, self._every_s - age)
        stopped = threading.Event()
        work = asyncio.create_task(asyncio.to_thread(self._make, stopped.is_set))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            stopped.set()
            await asyncio.wait({work})
            raise
        except BotError as error:
            log.error("no backup was made; tried again in an hour: %s", error)
            return HOUR_S
        return min(HOUR_S, self._every_s)

    def _newest(self) -> Path | None:
        return newest_backup(self._folder, self._clock())

    def _make(self, stopped: Callable[[], bool]) -> None:
        settings, images = self._settings, self._settings.backup_images
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(f"{PREFIX}*.partial"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        needed, free = _bytes(settings, images=images), shutil.disk_usage(self._folder).free
        if free < needed + _SPARE_BYTES:
            raise BotError(
                f"{self._folder} has {free / 1e9:.1f} GB free and a backup takes "
                f"{needed / 1e9:.1f}: make room, or set BACKUP_DIR to another disk."
            )
        began = time.perf_counter()
        # Local time, as in the names of those made by hand; a second has one at most.
        target = self._folder / f"{PREFIX}{time.strftime('%Y%m%d-%H%M%S')}"
        made = back_up(settings, target, images=images, stopped=stopped)
        seconds = time.perf_counter() - began
        log.info("backed up %d jobs to %s in %.1f s", made.jobs, target, seconds)
        if made.unusable:
            log.warning("%d pictures are missing or changed", len(made.unusable))
        for old in _past(self._folder, settings.backup_keep):
            shutil.rmtree(old, ignore_errors=True)


def _past(folder: Path, keep: int) -> list[Path]:
    """Return the backups of the schedule's own that are too many, by their number alone.

    Not by their age: a clock that leaps ahead deletes nothing that way.
    """
    own = [path for path in folder.glob(f"{PREFIX}*") if path.is_dir() and not path.suffix]
    return sorted(own, key=made_at, reverse=True)[keep:]


def _bytes(settings: Settings, *, images: bool) -> int:
    """Return about how many bytes a backup takes."""
    size = settings.database_path.stat().st_size
    if images:
        with closing(connect_read_only(settings.database_path)) as connection:
            total = connection.execute("SELECT sum(size_bytes) FROM images").fetchone()[0]
        size += int(total or 0)
    return size
