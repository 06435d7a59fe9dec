"""The pictures of open forms: kept until the form comes back, for an hour at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from storage.durable_files import checked_id, write_durably
from storage.input_pictures import INPUT_BYTES
from storage.plain_files import read_plain

_KEPT: Final = "kept"
_KEPT_A_USER: Final = 5
_OPEN_FORM_S: Final = 3600


def _written_at(path: Path) -> float:
    """Return when a file was written, Unix seconds; 0 if another thread has deleted it by now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class FormPictures:
    """Pictures for forms that their users have open, as `root/kept/<user id>_<key>`.

    They are written in the folder `staged` first, on the same file system.
    """

    def __init__(self, root: Path, staged: Path, clock: Callable[[], float]) -> None:
        self._root = root
        self._folder = root / _KEPT
        self._staged = staged
        self._clock = clock

    def _path(self, user_id: int, key: str) -> Path:
        return self._folder / f"{user_id:d}_{checked_id(key)}"

    async def keep(self, user_id: int, key: str, data: bytes) -> None:
        """Keep a picture for a form that its user has open: five per user, for an hour."""

        def keep() -> None:
            path = self._path(user_id, key)
            write_durably((data,), self._staged / path.name, path)
            newest_first = sorted(path.parent.glob(f"{user_id:d}_*"), key=_written_at, reverse=True)
            for unused in set(newest_first[_KEPT_A_USER:]) - {path}:
                unused.unlink(missing_ok=True)

        await asyncio.to_thread(keep)
        await self.sweep()

    async def sweep(self) -> None:
        """Delete the pictures of forms that were opened more than an hour ago."""
        before = self._clock() - _OPEN_FORM_S

        def sweep() -> None:
            for path in self._folder.glob("*"):
                if _written_at(path) < before:
                    path.unlink(missing_ok=True)

        await asyncio.to_thread(sweep)

    async def read(self, user_id: int, key: str) -> bytes:
        """Return a picture that `keep` keeps; raise `OSError` when it is gone."""
        name = self._path(user_id, key).relative_to(self._root)
        return await asyncio.to_thread(read_plain, self._root, name, INPUT_BYTES)

    async def forget(self, user_id: int) -> None:
        """Delete the pictures that are kept for a user's forms."""

        def forget() -> None:
            for path in self._folder.glob(f"{user_id:d}_*"):
                path.unlink(missing_ok=True)

        await asyncio.to_thread(forget)
