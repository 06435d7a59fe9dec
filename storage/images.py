"""The picture files: made in a work folder, kept under a name made of the job's id alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Final

from bot.domain.job import ImageRecord
from storage.durable_files import checked_id, write_durably
from storage.form_pictures import FormPictures
from storage.input_pictures import InputPictures
from storage.plain_files import blocks, open_plain, read_plain

_WORK: Final = ".work"
_STAGED: Final = ".staged"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_PROBE: Final = "probe.partial"
# More than the pictures of a job at its largest; less room would only be used up again.
_PROBE_MIB: Final = 32
_PICTURE_BYTES: Final = 2**28


class ImageStore:
    """Finished pictures as `root/YYYY/MM/DD/<job id>_<n>.png` (the day in UTC).

    Beside them lie the files that jobs start from (`inputs`) and those of open forms
    (`form_pictures`). What the engine writes lies in a work folder and is copied from there: files
    under their final names are this process's own. `root` may be a link; below it, none is
    followed.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self._clock = clock
        self._work = root / _WORK
        # This store's own: what another left there has no use any more.
        self._staged = root / _STAGED / secrets.token_hex(4)
        self.inputs = InputPictures(root, self._staged)
        self.form_pictures = FormPictures(root, self._staged, timer)

    def of_engine(self, name: str) -> ImageStore:
        """Return the same store with a work folder that only the engine `name` may enter."""
        same = copy(self)
        same._work = engine_folder(self.root, name)  # noqa: SLF001 - another of this class
        return same

    def work_dir(self, job_id: str) -> Path:
        """Return the folder for the engine's output, made if it is missing."""
        folder = self._work / checked_id(job_id)
        for each in (self._work, folder):
            if each.is_symlink():
                each.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def keep(
        self,
        job_id: str,
        position: int,
        source: Path,
        *,
        width: int,
        height: int,
        seed: int,
        sha256: str | None = None,
    ) -> ImageRecord:
        """Copy the file `source`, below the root, to its final name, durably; then delete it.

        `sha256` is its hash in hex, where it was checked before. Raises `OSError`, and
        `UntrustedFileError` where it is a link, another's, or has another hash.
        """
        name = f"{self._day()}/{checked_id(job_id)}_{position:d}.png"

        def take() -> tuple[str, int]:
            target = self.root / name
            with open_plain(self.root, source.relative_to(self.root), own=True) as file:
                content = blocks(file, _PICTURE_BYTES)
                found = write_durably(content, self._staged / target.name, target, sha256)
            with contextlib.suppress(OSError):  # The work folder is cleared after the job anyway.
                source.unlink()
            return found

        digest, size = await asyncio.to_thread(take)
        return ImageRecord(
            job_id=job_id,
            position=position,
            file=name,
            sha256=digest,
            size_bytes=size,
            width=width,
            height=height,
            seed=seed,
        )

    def path(self, record: ImageRecord) -> Path:
        """Return where the picture lies. What is there may have been exchanged: see `read`."""
        return self.root / record.file

    def read(self, record: ImageRecord) -> bytes:
        """Return a picture's file as it was recorded. Blocking.

        Raises `OSError`, and `UntrustedFileError` where a link or another file has its name.
        """
        return read_plain(self.root, record.file, record.size_bytes, record.sha256)

    async def drop(self, records: Sequence[ImageRecord]) -> None:
        """Delete the files of pictures."""
        for record in records:
            await asyncio.to_thread(self.path(record).unlink, missing_ok=True)

    def _day(self) -> str:
        return time.strftime("%Y/%m/%d", time.gmtime(self._clock()))

    async def try_writing(self) -> None:
        """Keep and delete a file as large as a job's pictures; raise `OSError` if that fails."""
        target = self.root / self._day() / _PROBE

        def probe() -> None:
            try:
                write_durably(_noise(), self._staged / _PROBE, target)
            finally:
                target.unlink(missing_ok=True)

        await asyncio.to_thread(probe)

    async def clear(self, job_id: str | None = None) -> None:
        """Delete what the engine left in the work folder of one job, or of all.

        Of all: also what a killed process had only half written.
        """
        folder = self._work
        if job_id is not None:
            folder /= checked_id(job_id)
        await asyncio.to_thread(_remove, folder)
        if job_id is None:
            for left in await asyncio.to_thread(list, self._staged.parent.glob("*")):
                if left != self._staged:
                    await asyncio.to_thread(_remove, left)


def engine_folder(root: Path, name: str) -> Path:
    """Return the folder in which the engine `name` writes its jobs' pictures, and no other does."""
    return root / _WORK / f"engine-{_UNSAFE.sub('_', name)}"


def _remove(folder: Path) -> None:
    """Delete a folder with all that is in it, or the link that somebody put in its place."""
    if folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _noise() -> Iterator[bytes]:
    block = os.urandom(2**20)  # Zeros cost nothing on a file system that compresses.
    for _ in range(_PROBE_MIB):
        yield block
