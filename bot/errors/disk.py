"""Refusals of a disk or database that takes nothing more, in words fit for users."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from bot.errors import StorageRefused
from bot.words import _, mark

log = logging.getLogger(__name__)

_FULL: Final = mark("the bot's disk is full")
_READ_ONLY: Final = mark("the bot's data folder cannot be written")
_FAILING: Final = mark("the bot's disk reports errors")
_BUSY: Final = mark("the bot's database is held by another program")
_MANY: Final = mark("the bot has too many files open")

HELD: Final = {
    _FULL: mark("the bot's disk is full; drawing goes on by itself once that is mended"),
    _READ_ONLY: mark(
        "the bot's data folder cannot be written; drawing goes on by itself once that is mended"
    ),
    _MANY: mark("the bot has too many files open; drawing goes on by itself once that is mended"),
    _FAILING: mark("the bot's disk reports errors; drawing goes on by itself once that is mended"),
    _BUSY: mark(
        "the bot's database is held by another program; drawing goes on by itself once that is "
        "mended"
    ),
}
"""Why nothing is drawn for now, by what `refusal` returns."""

_BY_ERRNO: Final = {
    errno.ENOSPC: _FULL,
    errno.EFBIG: _FULL,  # RLIMIT_FSIZE, or a file system's own limit.
    getattr(errno, "EDQUOT", errno.ENOSPC): _FULL,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EIO: _FAILING,
    errno.EMFILE: _MANY,
    errno.ENFILE: _MANY,
}
_BY_SQLITE: Final = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_IOERR: _FAILING,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
}


def refusal(error: BaseException) -> str | None:
    """Return why nothing can be stored (a clause without a full stop); None for another error."""
    if isinstance(error, sqlite3.Error):
        # The primary code is the lowest byte of the extended one (https://sqlite.org/rescode.html).
        code = getattr(error, "sqlite_errorcode", None)
        return None if code is None else _BY_SQLITE.get(code & 0xFF)
    if isinstance(error, OSError) and error.errno is not None:
        return _BY_ERRNO.get(error.errno)
    return None


@contextmanager
def refused_politely() -> Generator[None]:
    """Turn a refusal of the disk or database into `StorageRefused`, which its user reads."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if (reason := refusal(error)) is None:
            raise
        log.error("a request was refused: %s", error)
        raise StorageRefused(
            _("Not accepted: {reason}. Please try again later.").format(reason=_(reason))
        ) from error
