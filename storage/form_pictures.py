"""The pictures of open forms: kept until the form comes back, for an hour at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from storage.durable_files import checked_id, write_durably
from storage.input_pictures import INPUT_BYTES
from storage.plain_files import read_plain

_KEPT: Final = "kept"
_KEPT_A_USER: Final = 5
_OPEN_FORM_S: Final = 3600
_BYTES_IN_ALL: Final = 2**30


class FormPictures:
    """Pictures for forms that their users have open, as `root/kept/<user id>_<key>`.

    They are written in the folder `staged` first, on the same file system. How old one is, is
    measured by `timer` (seconds) from when this process first saw it: the files' own times are of a
    clock that may have been wrong then, or be wrong now.
    """

    def __init__(self, root: Path, staged: Path, timer: Callable[[], float]) -> None:
        self._root = root
        self._folder = root / _KEPT
        self._staged = staged
        self._timer = timer
        self._first_seen: dict[Path, float] = {}

    def _path(self, user_id: int, key: str) -> Path:
        return self._folder / f"{user_id:d}_{checked_id(key)}"

    async def keep(self, user_id: int, key: str, data: bytes) -> None:
        """Keep a picture for a form that its user has open: five per user, for an hour.

        Of all users' together the newest that fit into a gibibyte are kept.
        """

        def keep() -> None:
            path = self._path(user_id, key)
            write_durably((data,), self._staged / path.name, path)
            self._first_seen[path] = self._timer()
            ages = {other: self._age(other) for other in path.parent.glob(f"{user_id:d}_*")}
            # Within one process by age; of what was here before it, the names begin with a time.
            newest_first = sorted(ages, key=lambda other: other.name, reverse=True)
            newest_first.sort(key=ages.__getitem__)
            for unused in set(newest_first[_KEPT_A_USER:]) - {path}:
                unused.unlink(missing_ok=True)
            self._drop_oldest()

        await asyncio.to_thread(keep)
        await self.sweep()

    def _drop_oldest(self) -> None:
        # Keys begin with the time at which they were made.
        newest_first = sorted(
            self._folder.glob("*"), key=lambda path: path.name.partition("_")[2], reverse=True
        )
        total = 0
        for path in newest_first:
            with suppress(FileNotFoundError):
                total += path.stat().st_size
            if total > _BYTES_IN_ALL:
                path.unlink(missing_ok=True)

    async def sweep(self) -> None:
        """Delete the pictures of forms that were opened more than an hour ago."""

        def sweep() -> None:
            there = set(self._folder.glob("*"))
            for path in there:
                if self._age(path) > _OPEN_FORM_S:
                    path.unlink(missing_ok=True)
            for path in set(self._first_seen) - there:
                self._first_seen.pop(path, None)

        await asyncio.to_thread(sweep)

    def _age(self, path: Path) -> float:
        return self._timer() - self._first_seen.setdefault(path, self._timer())

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
