"""The picture files: made in a work folder, kept under a name made of the job's id alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bot.domain.job import ImageRecord
from storage.durable_files import checked_id, make_folders, move_durably
from storage.form_pictures import FormPictures
from storage.input_pictures import InputPictures

_WORK: Final = ".work"
_PROBE: Final = "probe.partial"
# More than the pictures of a job at its largest; less room would only be used up again.
_PROBE_MIB: Final = 32


class ImageStore:
    """Finished pictures as `root/YYYY/MM/DD/<job id>_<n>.png` (the day in UTC).

    Beside them lie the pictures that jobs start from (`inputs`) and those of open forms
    (`form_pictures`).
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
        self.inputs = InputPictures(root, self.work_dir)
        self.form_pictures = FormPictures(root, timer)

    def work_dir(self, job_id: str) -> Path:
        """Return the folder for the engine's output, made if it is missing."""
        folder = self.root / _WORK / checked_id(job_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def keep(
        self, job_id: str, position: int, source: Path, *, width: int, height: int, seed: int
    ) -> ImageRecord:
        """Make the file `source` durable, and move it to its final name in one step.

        `source` must lie on the same file system as the root. Raises `OSError`.
        """
        name = f"{self._day()}/{checked_id(job_id)}_{position:d}.png"
        digest, size = await asyncio.to_thread(move_durably, source, self.root / name)
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
        """Return where the picture lies."""
        return self.root / record.file

    def _day(self) -> str:
        return time.strftime("%Y/%m/%d", time.gmtime(self._clock()))

    async def try_writing(self) -> None:
        """Keep and delete a file as large as a job's pictures; raise `OSError` if that fails."""
        source = self.root / _WORK / _PROBE
        await asyncio.to_thread(_try_writing, source, self.root / self._day() / _PROBE)

    async def clear(self, job_id: str | None = None) -> None:
        """Delete what the engine left in the work folder of one job, or of all."""
        folder = self.root / _WORK
        if job_id is not None:
            folder /= checked_id(job_id)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _try_writing(source: Path, target: Path) -> None:
    make_folders(source.parent)
    block = os.urandom(2**20)  # Zeros cost nothing on a file system that compresses.
    try:
        with source.open("wb") as file:
            for _ in range(_PROBE_MIB):
                file.write(block)
        move_durably(source, target)
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
