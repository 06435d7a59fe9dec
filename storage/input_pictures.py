"""The pictures that jobs start from: one per job, made durable before its job is."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path
from typing import Final

from storage.durable_files import checked_id, move_durably

_INPUTS: Final = "inputs"


class InputPictures:
    """The pictures to start from, as `root/inputs/<job id>.input`.

    `work_dir` gives the folder, on the same file system, where a job's files are written first.
    """

    def __init__(self, root: Path, work_dir: Callable[[str], Path]) -> None:
        self._folder = root / _INPUTS
        self._work_dir = work_dir

    def path(self, job_id: str) -> Path:
        """Return where the picture lies that a job starts from."""
        return self._folder / f"{checked_id(job_id)}.input"

    async def keep(self, job_id: str, data: bytes) -> str:
        """Make the picture durable that a job starts from, before the job is; return its name.

        Whoever fails to commit the job deletes it with `forget`. Raises `OSError`.
        """
        target = self.path(job_id)
        source = self._work_dir(job_id) / target.name
        await asyncio.to_thread(source.write_bytes, data)
        await asyncio.to_thread(move_durably, source, target)
        return target.name

    def lend(self, job_id: str, target: Path) -> None:
        """Copy the picture that a job starts from to `target`, for whoever draws. Blocking.

        Not a link: they may change it. Where there is none, none is made. Raises `OSError`.
        """
        with suppress(FileNotFoundError):
            shutil.copyfile(self.path(job_id), target)

    async def forget(self, job_id: str) -> None:
        """Delete the picture that a job starts from, if there is one."""
        await asyncio.to_thread(self.path(job_id).unlink, missing_ok=True)

    def job_ids(self) -> set[str]:
        """Return the jobs whose picture to start from is here. Blocking."""
        return {path.stem for path in self._folder.glob("*.input")}

    async def sweep(self, known: Container[str]) -> int:
        """Delete the pictures to start from that no job in `known` has; return how many."""

        def sweep() -> int:
            unknown = [path for path in self._folder.glob("*.input") if path.stem not in known]
            for path in unknown:
                path.unlink(missing_ok=True)
            return len(unknown)

        return await asyncio.to_thread(sweep)
