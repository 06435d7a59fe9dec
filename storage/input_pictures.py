"""The pictures that jobs start from: one per job, made durable before its job is."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Final

from storage.durable_files import checked_id, write_durably
from storage.plain_files import read_plain

_INPUTS: Final = "inputs"
INPUT_BYTES: Final = 2**26
"""More than any upload that is taken may have: what is larger was put there by somebody else."""


class InputPictures:
    """The pictures to start from, as `root/inputs/<job id>.input`.

    They are written in the folder `staged` first, on the same file system.
    """

    def __init__(self, root: Path, staged: Path) -> None:
        self._root = root
        self._folder = root / _INPUTS
        self._staged = staged

    def path(self, job_id: str) -> Path:
        """Return where the picture lies that a job starts from."""
        return self._folder / f"{checked_id(job_id)}.input"

    async def keep(self, job_id: str, data: bytes) -> str:
        """Make the picture durable that a job starts from, before the job is; return its name.

        Whoever fails to commit the job deletes it with `forget`. Raises `OSError`.
        """
        target = self.path(job_id)
        await asyncio.to_thread(write_durably, (data,), self._staged / target.name, target)
        return target.name

    async def read(self, job_id: str) -> bytes:
        """Do as `load` on another thread."""
        return await asyncio.to_thread(self.load, job_id)

    def load(self, job_id: str) -> bytes:
        """Return the picture that a job starts from; raise `OSError` when it is gone or a link.

        Blocking.
        """
        name = self.path(job_id).relative_to(self._root)
        return read_plain(self._root, name, INPUT_BYTES)

    def lend(self, job_id: str, target: Path) -> None:
        """Copy the picture that a job starts from to `target`, for whoever draws. Blocking.

        Not a link: they may change it. And through none that they put there. Where there is no
        picture, none is made. Raises `OSError`.
        """
        with suppress(FileNotFoundError):
            data = self.load(job_id)
            target.unlink(missing_ok=True)
            with target.open("xb") as file:
                file.write(data)

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
