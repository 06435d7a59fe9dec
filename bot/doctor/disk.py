"""Checks of the data folder: it can be written, has room, and holds no left-overs."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level
from bot.logs.file import FILE_NAME
from storage.private_files import kept_places, open_to_others

_GIB: Final = 2**30
# A picture of 1344x768 takes about 2 MB: room for some hundreds before anything stops.
_LOW_BYTES: Final = _GIB
_NO_BYTES: Final = 64 * 2**20
_STALE_S: Final = 24 * 3600


def data_folder(settings: Settings) -> Iterator[Finding]:
    """Write a nameless file to the data folder, or to the folder that it will be made in."""
    folder = existing(settings.data_dir)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        yield Finding(
            "data folder",
            Level.ERROR,
            f"{folder} cannot be written ({error.strerror})",
            "give the bot's user the right to write there, or set DATA_DIR to another folder",
        )
    else:
        yield Finding("data folder", Level.OK, f"{folder.absolute()} can be written")


def free_disk(settings: Settings) -> Iterator[Finding]:
    """Tell how much room the data folder has."""
    folder = existing(settings.data_dir)
    free = shutil.disk_usage(folder).free
    text = f"{free / _GIB:.1f} GiB free at {folder.absolute()}"
    step = "make room, or set DATA_DIR to a larger disk; nothing is lost meanwhile, jobs wait"
    if free < _NO_BYTES:
        yield Finding("free disk", Level.ERROR, text, step)
    elif free < _LOW_BYTES:
        yield Finding("free disk", Level.WARNING, text, step)
    else:
        yield Finding("free disk", Level.OK, text)


def temporary_files(settings: Settings) -> Iterator[Finding]:
    """List unfinished files that nothing has touched for a day."""
    before = time.time() - _STALE_S
    stale: list[Path] = []
    for pattern in ("*.partial", "backups/*.partial", "images/.work/*", "images/.work/engine-*/*"):
        found = (path for path in settings.data_dir.glob(pattern) if not _engines_own(path))
        stale += [path for path in found if _changed_at(path) < before]
    for path in stale:
        yield Finding("temporary files", Level.WARNING, f"{path} was left unfinished", "delete it")
    if not stale:
        yield Finding("temporary files", Level.OK, "none left over")


def private_files(settings: Settings) -> Iterator[Finding]:
    """Look who else may read what the bot keeps."""
    places = kept_places(settings.data_dir, settings.log_folder, FILE_NAME)
    found = sorted(str(path.absolute()) for path in places if open_to_others(path))
    if sys.platform == "win32":
        text = "the rights of the folder count, which files inherit"
        yield Finding("private files", Level.OK, text)
    elif found:
        text = f"other users of this machine can read {found[0]}"
        if len(found) > 1:
            text += f" and {len(found) - 1} more"
        step = "start the bot, which mends it, or: chmod -R go= "
        yield Finding("private files", Level.WARNING, text, step + found[0])
    else:
        yield Finding("private files", Level.OK, "what is kept is yours alone")


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _engines_own(path: Path) -> bool:
    """Tell whether a folder stays as long as its engine: its work folder, its temporary one."""
    return path.name.startswith("engine-") or path.name == "tmp"


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # The running bot has just finished it.
        return time.time()
