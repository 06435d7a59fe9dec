"""The lock of a database, for one process: the kernel releases it when its holder dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bot.errors import DatabaseError

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
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._descriptor)
        except OSError:
            self.release()
            raise DatabaseError(
                f"Another process of this bot already uses {path.parent}: stop it first, or set "
                "DATA_DIR to another folder."
            ) from None

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
