"""The files that jobs start from, made durable before their job is: picture, references, mask."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from storage.durable_files import checked_id, write_durably
from storage.plain_files import UntrustedFileError, read_plain

log: Final = logging.getLogger(__name__)

_INPUTS: Final = "inputs"
INPUT_BYTES: Final = 2**26
"""More than any upload that is taken may have: what is larger was put there by somebody else."""
# Names of earlier versions have no hash, and are all of the kind `input`.
_NAME: Final = re.compile(
    r"(?P<job>[A-Za-z0-9_-]{1,20})\.(?P<kind>input|mask|reference(?P<number>[1-9][0-9]?))"
    r"(?:\.(?P<sha256>[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class GivenInputs:
    """The files of one job as bytes: a picture to start from, references in order, a mask."""

    image: bytes | None = None
    references: tuple[bytes, ...] = ()
    mask: bytes | None = None


@dataclass(frozen=True, slots=True)
class KeptInputs:
    """The names of one job's files, as `ImageRequest` has them."""

    input_image: str | None = None
    references: tuple[str, ...] = ()
    mask: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Each file once."""
        names = (self.input_image, *self.references, self.mask)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def pictures(self) -> list[tuple[str, str]]:
        """Each picture once, without the mask: its name and the SHA-256 in hex that it says."""
        names = dict.fromkeys(name for name in (self.input_image, *self.references) if name)
        return [(name, name.rpartition(".")[2]) for name in names]


class InputFile(NamedTuple):
    """What the name of a file says; `sha256` is None in names of earlier versions."""

    name: str
    job_id: str
    kind: str
    order: int
    """In which order a job's files come: the picture, the mask, the references."""
    sha256: str | None

    @property
    def plain_name(self) -> str:
        """The name without the hash."""
        return f"{self.job_id}.{self.kind}"


class InputPictures:
    """The files that jobs start from, as `root/inputs/<job id>.<kind>.<SHA-256 in hex>`.

    The kinds are `input`, `mask`, and `reference1`, `reference2`, … What is read has the hash of
    its name, which the job's row holds. They are written in the folder `staged` first, on the same
    file system.
    """

    def __init__(self, root: Path, staged: Path) -> None:
        self._root = root
        self._folder = root / _INPUTS
        self._staged = staged

    def path(self, name: str) -> Path:
        """Return where a file lies."""
        return self._folder / name

    async def keep(self, job_id: str, given: GivenInputs) -> KeptInputs:
        """Make the files of a job durable, before the job is; return their names.

        Whoever fails to commit the job deletes them with `forget`. Raises `OSError`.
        """

        def keep() -> KeptInputs:
            image = None if given.image is None else self._write(job_id, "input", given.image)
            references = tuple(
                self._write(job_id, f"reference{number}", data)
                for number, data in enumerate(given.references, 1)
            )
            mask = None if given.mask is None else self._write(job_id, "mask", given.mask)
            return KeptInputs(image, references, mask)

        return await asyncio.to_thread(keep)

    def _write(self, job_id: str, kind: str, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        name = f"{checked_id(job_id)}.{kind}.{digest}"
        write_durably((data,), self._staged / name, self.path(name), digest)
        return name

    async def read(self, job_id: str, kept: KeptInputs) -> GivenInputs:
        """Return the files of a job; raise `OSError` when one is gone, a link, or another."""

        def read() -> GivenInputs:
            found = {name: self.load(job_id, name) for name in kept.names}
            image = None if kept.input_image in kept.references else kept.input_image
            return GivenInputs(
                None if image is None else found[image],
                tuple(found[name] for name in kept.references),
                None if kept.mask is None else found[kept.mask],
            )

        return await asyncio.to_thread(read)

    def load(self, job_id: str, name: str) -> bytes:
        """Return a file of a job; raise `OSError` when it is gone, a link, or another. Blocking."""
        file = _named(name)
        if file is None or file.job_id != job_id:
            raise UntrustedFileError("the file is not the job's")
        return read_plain(self._root, Path(_INPUTS, name), INPUT_BYTES, file.sha256)

    def lend(self, job_id: str, name: str, target: Path) -> None:
        """Copy a file of a job to `target`, for whoever draws. Blocking.

        Not a link: they may change it. And through none that they put there. Where the file is gone
        or another one, none is made. Raises `OSError`.
        """
        try:
            data = self.load(job_id, name)
        except (FileNotFoundError, UntrustedFileError) as error:
            log.warning("an input of the job %s cannot be used: %s", job_id, error.strerror)
            return
        target.unlink(missing_ok=True)
        with target.open("xb") as file:
            file.write(data)

    async def forget(self, job_ids: Iterable[str]) -> None:
        """Delete all files of jobs."""
        wanted = frozenset(job_ids)
        await self._drop(lambda file: file.job_id in wanted)

    def holders(self, sha256s: Collection[str]) -> set[str]:
        """Return the jobs that have a file with one of these hashes. Blocking.

        A file of an earlier version, whose name has no hash, is not found.
        """
        return {file.job_id for file in self.files() if file.sha256 in sha256s}

    async def drop_copies(self, sha256s: Collection[str], job_ids: Collection[str]) -> int:
        """Delete those files of jobs that have one of these hashes; return how many."""
        return await self._drop(lambda file: file.sha256 in sha256s and file.job_id in job_ids)

    def job_ids(self) -> set[str]:
        """Return the jobs whose files are here. Blocking."""
        return {file.job_id for file in self.files()}

    def of(self, job_ids: Collection[str]) -> dict[str, list[InputFile]]:
        """Return the files of jobs that are here, in their order. Blocking."""
        found: dict[str, list[InputFile]] = {job_id: [] for job_id in job_ids}
        for file in sorted(self.files(), key=lambda file: file.order):
            if file.job_id in found:
                found[file.job_id].append(file)
        return found

    async def sweep(self, known: Collection[str]) -> int:
        """Delete the files of jobs that are not in `known`; return of how many jobs."""
        dropped = await asyncio.to_thread(self.job_ids) - set(known)
        await self.forget(dropped)
        return len(dropped)

    def files(self) -> Iterator[InputFile]:
        """Yield what is here, in no order. Blocking."""
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if (file := _named(entry.name)) is not None:
                    yield file

    async def _drop(self, which: Callable[[InputFile], bool]) -> int:
        def drop() -> int:
            found = [file.name for file in self.files() if which(file)]
            for name in found:
                self.path(name).unlink(missing_ok=True)
            return len(found)

        return await asyncio.to_thread(drop)


def _named(name: str) -> InputFile | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    kind = match["kind"]
    order = 0 if kind == "input" else int(match["number"] or 0) + 1
    return InputFile(name, match["job"], kind, order, match["sha256"])
