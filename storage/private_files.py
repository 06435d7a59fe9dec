"""Files for the bot's own user alone: prompts, pictures and short-lived tokens stand in them.

What is made from now on is private by the umask, also what a child process makes. What an earlier
version made is mended at the start. On Windows both do nothing: there the rights of the folder
count, which files inherit.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

UMASK: Final = 0o077
_POSIX: Final = sys.platform != "win32"
# Everything that the bot keeps in its data folder; what else lies there is somebody else's.
_FILES: Final = ("bot.sqlite3*",)
_TREES: Final = ("images", "backups")


def make_new_files_private() -> None:
    """Have this process and its children make files and folders for this user alone."""
    if _POSIX:
        os.umask(UMASK)


def open_to_others(path: Path) -> bool:
    """Tell whether another user may do anything with a file or folder; a link counts as closed."""
    if not _POSIX:
        return False
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return not stat.S_ISLNK(mode) and bool(mode & UMASK)


def kept_places(data: Path, logs: Path | None, log_name: str) -> Iterator[Path]:
    """Yield the files and folders that hold what people asked for, as far as they are there.

    The folders themselves come too, unless they are used for something else as well.
    """
    for pattern in _FILES:
        yield from data.glob(pattern)
    yield from (tree for name in _TREES if (tree := data / name).is_dir())
    if data.is_dir() and _is_of_its_own(data):
        yield data
    if logs is not None and logs.is_dir():
        yield from logs.glob(f"{log_name}*")
        if _is_of_its_own(logs) and all(
            entry.name.startswith(log_name) for entry in logs.iterdir()
        ):
            yield logs


def _is_of_its_own(folder: Path) -> bool:
    """Whether a folder is no place where people work, as their home is, or a checkout."""
    resolved, here = folder.resolve(), Path.cwd()
    return resolved not in {here, *here.parents, Path.home()}


def make_private(places: Iterator[Path], *, stopped: Callable[[], bool] = lambda: False) -> int:
    """Take from others what they may do; return of how many files and folders. Blocking.

    What is in a folder comes before it, so that a folder which is private holds nothing that is
    not: the next start has nothing to do there, and goes on where this one was `stopped`.
    """
    if not _POSIX:
        return 0
    count, refused = 0, None
    for place in places:
        if not open_to_others(place):
            continue
        for path in _bottom_up(place):
            if stopped():
                return count
            if not open_to_others(path):
                continue
            try:
                _close_to_others(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                refused = refused or (path, error)
            else:
                count += 1
    if refused:
        log.warning("%s stays open to other users (%s)", refused[0], refused[1].strerror)
    return count


def _bottom_up(place: Path) -> Iterator[Path]:
    # A data folder's own content is named piece by piece; what else lies in it is not touched.
    if place.is_dir() and place.name in _TREES:
        for folder, _, names in os.walk(place, topdown=False):
            yield from (Path(folder, name) for name in names)
            yield Path(folder)
    else:
        yield place


def _close_to_others(path: Path) -> None:
    # By a descriptor that follows no link: an engine's process may write there, too.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & ~UMASK)
    finally:
        os.close(descriptor)
