"""The lock of a database, for one process: the kernel releases it when its holder dies."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Final

from bot.errors import DatabaseError

_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class InstanceLock:
    """The right to be the one process on a database.

    Raises `DatabaseError` when another process holds it, `OSError` when the lock file cannot be
    made. The file stays after the release: deleting it would let two processes hold "the" lock.
    Somebody may delete it all the same, so its folder is locked too, where the system can do that.
    (Not the database's own file: closing any descriptor of it would end SQLite's locks.)
    """

    def __init__(self, path: Path) -> None:
        self._descriptors = [os.open(path, os.O_RDWR | os.O_CREAT, 0o600)]
        try:
            _lock(self._descriptors[0])
            self._lock_folder(path.parent)
        except OSError:
            self.release()
            raise DatabaseError(
                f"Another process of this bot already uses {path.parent}: stop it first, or set "
                "DATA_DIR to another folder."
            ) from None

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _lock_folder(self, folder: Path) -> None:
        """Raise `OSError` where another process has locked the folder."""
        if sys.platform == "win32":  # Nobody deletes a file that is open there.
            return
        self._descriptors.append(os.open(folder, os.O_RDONLY))
        try:
            _lock(self._descriptors[-1])
        except OSError as error:
            # Network file systems want a descriptor that is open for writing (EBADF), or know none.
            if error.errno in _HELD:
                raise
