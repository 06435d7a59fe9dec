"""Locks between engines that share a model folder: what is made once is made by one of them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from bot.engine.options import LoadProgress
from bot.words import mark

# The parent takes silence for a hang. Whoever holds the lock is watched by a parent of its own,
# and the system ends the lock with its holder.
_TELL_S: Final = 5.0


@contextmanager
def folder_lock(folder: Path, name: str, progress: LoadProgress) -> Generator[None]:
    """Be the only process that prepares `name` in `folder`; say so while another one is.

    In a folder where nothing can be locked (read-only, or a file system without locks) nobody
    waits: what is to be made there fails or is done twice, each under its own name.
    """
    lock = FileLock(folder / f".{name}.lock")
    held = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not held:
            try:
                lock.acquire(timeout=_TELL_S)
                held = True
            except Timeout:
                progress(mark("another engine prepares the model's files"), None)
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        if held:
            lock.release()
