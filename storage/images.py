"""The picture files: made in a work folder, kept under a name made of the job's id alone."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Final

from bot.domain.job import ImageRecord
from storage.backup import sync_folder

_WORK: Final = ".work"
_INPUTS: Final = "inputs"
_KEPT: Final = "kept"
_KEPT_A_USER: Final = 5
_OPEN_FORM_S: Final = 3600
_PROBE: Final = "probe.partial"
# More than the pictures of a job at its largest; less room would only be used up again.
_PROBE_MIB: Final = 32
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")


def _written_at(path: Path) -> float:
    """Return when a file was written, Unix seconds; 0 if another thread has deleted it by now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class ImageStore:
    """Finished pictures as `root/YYYY/MM/DD/<job id>_<n>.png` (the day in UTC)."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self._clock = clock

    def work_dir(self, job_id: str) -> Path:
        """Return the folder for the engine's output, made if it is missing."""
        folder = self.root / _WORK / _checked(job_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def keep(
        self, job_id: str, position: int, source: Path, *, width: int, height: int, seed: int
    ) -> ImageRecord:
        """Make the file `source` durable, and move it to its final name in one step.

        `source` must lie on the same file system as the root. Raises `OSError`.
        """
        name = f"{self._day()}/{_checked(job_id)}_{position:d}.png"
        digest, size = await asyncio.to_thread(_move_durably, source, self.root / name)
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

    def input_path(self, job_id: str) -> Path:
        """Return where the picture lies that a job starts from."""
        return self.root / _INPUTS / f"{_checked(job_id)}.input"

    async def keep_input(self, job_id: str, data: bytes) -> str:
        """Make the picture durable that a job starts from, before the job is; return its name.

        Whoever fails to commit the job deletes it with `forget_input`. Raises `OSError`.
        """
        target = self.input_path(job_id)
        source = self.work_dir(job_id) / target.name
        await asyncio.to_thread(source.write_bytes, data)
        await asyncio.to_thread(_move_durably, source, target)
        return target.name

    async def forget_input(self, job_id: str) -> None:
        """Delete the picture that a job starts from, if there is one."""
        await asyncio.to_thread(self.input_path(job_id).unlink, missing_ok=True)

    def _kept_path(self, user_id: int, key: str) -> Path:
        return self.root / _KEPT / f"{user_id:d}_{_checked(key)}"

    async def keep_for_user(self, user_id: int, key: str, data: bytes) -> None:
        """Keep a picture for a form that its user has open: five a user, for an hour."""

        def keep() -> None:
            path = self._kept_path(user_id, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            newest_first = sorted(path.parent.glob(f"{user_id:d}_*"), key=_written_at, reverse=True)
            for unused in set(newest_first[_KEPT_A_USER:]) - {path}:
                unused.unlink(missing_ok=True)

        await asyncio.to_thread(keep)
        await self.sweep_kept()

    async def sweep_kept(self) -> None:
        """Delete the pictures of forms that were opened more than an hour ago."""
        before = self._clock() - _OPEN_FORM_S

        def sweep() -> None:
            for path in (self.root / _KEPT).glob("*"):
                if _written_at(path) < before:
                    path.unlink(missing_ok=True)

        await asyncio.to_thread(sweep)

    async def kept_for_user(self, user_id: int, key: str) -> bytes:
        """Return a picture that `keep_for_user` keeps; raise `OSError` when it is gone."""
        return await asyncio.to_thread(self._kept_path(user_id, key).read_bytes)

    async def forget_kept(self, user_id: int) -> None:
        """Delete the pictures that are kept for a user's forms."""

        def forget() -> None:
            for path in (self.root / _KEPT).glob(f"{user_id:d}_*"):
                path.unlink(missing_ok=True)

        await asyncio.to_thread(forget)

    def inputs(self) -> set[str]:
        """Return the jobs whose picture to start from is here. Blocking."""
        return {path.stem for path in (self.root / _INPUTS).glob("*.input")}

    async def sweep_inputs(self, known: Container[str]) -> int:
        """Delete the pictures to start from that no job in `known` has; return how many."""

        def sweep() -> int:
            unknown = [
                path for path in (self.root / _INPUTS).glob("*.input") if path.stem not in known
            ]
            for path in unknown:
                path.unlink(missing_ok=True)
            return len(unknown)

        return await asyncio.to_thread(sweep)

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
            folder /= _checked(job_id)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _checked(job_id: str) -> str:
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError("not a job id")
    return job_id


def _move_durably(source: Path, target: Path) -> tuple[str, int]:
    with source.open("rb+") as file:  # Windows syncs only what is open for writing.
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        os.fsync(file.fileno())
    _make_folders(target.parent)
    source.replace(target)
    sync_folder(target.parent)
    return digest, size


def _make_folders(folder: Path) -> None:
    if not folder.exists():
        _make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _try_writing(source: Path, target: Path) -> None:
    _make_folders(source.parent)
    block = os.urandom(2**20)  # Zeros cost nothing on a file system that compresses.
    try:
        with source.open("wb") as file:
            for _ in range(_PROBE_MIB):
                file.write(block)
        _move_durably(source, target)
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
