"""The export of a user's data: ZIP files of a bounded size, made one after the other.

However much there is, about one file and one page of rows are in memory at a time.
"""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Final

from bot.domain.job import ImageRecord
from storage import exports
from storage.database import Database
from storage.exports import ExportPage, Place
from storage.images import ImageStore
from storage.input_pictures import InputFile

_README: Final = (
    "What this bot stores about you: the data files hold the rows of its database, pictures/ your "
    "pictures, inputs/ the pictures and masks that you started from. /privacy delete removes all "
    "but the ledger of what was used, which limits need for eight days.\n"
)
# More than a ZIP file's headers of an entry take (names here have 30 characters at most), and its
# end with the README.
_ENTRY_BYTES: Final = 300
_END_BYTES: Final = 2048
# The index of a job's mask less one; its references come after.
_AFTER_PICTURES: Final = 9


@dataclass(frozen=True, slots=True)
class Exported:
    """One ZIP file of an export.

    `reached` is how far it and those before it go, None before the first job; `left_out` pictures
    of its jobs are in none: their files are gone, or larger than a ZIP file may be.
    """

    data: bytes
    reached: Place | None
    left_out: int


@dataclass(frozen=True, slots=True)
class _File:
    """A job's file, in one of the two folders. `read` raises `OSError`.

    Their indexes rise: 0 is the picture that it starts from, then come its own pictures from 1 on,
    its mask and its references from 10 on.
    """

    index: int
    folder: str
    name: str
    read: Callable[[], bytes]


class _Part:
    """A ZIP file that is being made. Its methods block."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._archive = zipfile.ZipFile(self._buffer, "w", zipfile.ZIP_DEFLATED)
        self._missing: list[str] = []
        self._headers = _END_BYTES
        self._empty = True

    def has_room(self, size: int, limit: int) -> bool:
        """Tell whether it stays within `limit` bytes with `size` more, however badly they pack."""
        used = self._buffer.tell() + self._headers
        return self._empty or used + _ENTRY_BYTES + size <= limit

    def add_text(self, name: str, text: bytes) -> None:
        """Add a file of text."""
        self._archive.writestr(name, text)
        self._headers += _ENTRY_BYTES
        self._empty = False

    def add_file(self, file: _File, limit: int) -> bool:
        """Add a job's file, or note why it is not here; False: another part has room for it."""
        name = f"{file.folder}/{file.name}"
        try:
            data = file.read()
        except OSError:
            self._leave_out(f"{name}: its file is gone, or another one has its name")
            return True
        if _END_BYTES + _ENTRY_BYTES + len(data) > limit:
            self._leave_out(f"{name}: {len(data)} bytes are too many for one of these files")
        elif not self.has_room(len(data), limit):
            return False
        else:
            # A picture is compressed already.
            self._archive.writestr(name, data, zipfile.ZIP_STORED)
            self._headers += _ENTRY_BYTES
            self._empty = False
        return True

    def close(self, reached: Place | None) -> Exported:
        """Return what it has become."""
        text = (
            "\n".join([_README, "Not in here:", *self._missing, ""]) if self._missing else _README
        )
        self._archive.writestr("README.txt", text)
        self._archive.close()
        return Exported(self._buffer.getvalue(), reached, len(self._missing))

    def _leave_out(self, line: str) -> None:
        self._missing.append(line)
        self._headers += len(line)


async def export(
    database: Database, store: ImageStore, user_id: int, limit: int, after: Place | None
) -> AsyncGenerator[Exported]:
    """Yield a user's rows and pictures as ZIP files of at most `limit` bytes, oldest job first.

    With `after` it goes on there, without the rows that are no job's.
    """
    part, reached, number = _Part(), after, 0
    page: ExportPage | None = exports.first_page(after)
    while page is not None:
        rows, page = await database.read(partial(exports.read_page, user_id=user_id, page=page))
        number += 1
        if number == 1 or any(rows.values()):
            text = await asyncio.to_thread(_dumped, rows)
            if not part.has_room(len(text), limit):
                yield await asyncio.to_thread(part.close, reached)
                part = _Part()
            name = "data.json" if number == 1 else f"data-{number}.json"
            await asyncio.to_thread(part.add_text, name, text)
        inputs = await asyncio.to_thread(store.inputs.of, [job["id"] for job in rows["jobs"]])
        for job in rows["jobs"]:
            whole = Place(job["created_at"], job["id"])
            for file in _files(store, rows, job["id"], inputs[job["id"]]):
                if after is not None and _came(after, job["id"], file.index):
                    continue
                if not await asyncio.to_thread(part.add_file, file, limit):
                    yield await asyncio.to_thread(part.close, reached)
                    part = _Part()
                    await asyncio.to_thread(part.add_file, file, limit)
                reached = replace(whole, index=file.index)
            reached = whole
    yield await asyncio.to_thread(part.close, reached)


def _came(after: Place, job_id: str, index: int) -> bool:
    """Tell whether an export that came to `after` has held a file of that job."""
    return after.job_id == job_id and after.index is not None and index <= after.index


def _files(
    store: ImageStore,
    rows: dict[str, list[dict[str, Any]]],
    job_id: str,
    inputs: Sequence[InputFile],
) -> list[_File]:
    """Return the files of a job, by their indexes."""
    columns = [one.name for one in fields(ImageRecord)]
    images = [
        ImageRecord(**{name: row[name] for name in columns})
        for row in rows["pictures"]
        if row["job_id"] == job_id
    ]
    files = [
        _File(i.position + 1, "pictures", store.path(i).name, partial(store.read, i))
        for i in images
    ]
    for given in inputs:
        index = _AFTER_PICTURES + given.order if given.order else 0
        read = partial(store.inputs.load, job_id, given.name)
        files.append(_File(index, "inputs", given.plain_name, read))
    return sorted(files, key=lambda file: file.index)


def _dumped(rows: dict[str, list[dict[str, Any]]]) -> bytes:
    return json.dumps(rows, indent=1, ensure_ascii=False).encode()
