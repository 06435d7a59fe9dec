"""What of a download is there, arrives and is still to come; where it lies meanwhile."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bot.engine.files.stages import DOWNLOADING_AND_CONVERTING
from bot.words import mark


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A published file: its path in the repository, bytes, SHA-256 (None: small, not hashed)."""

    path: str
    size: int
    sha256: str | None


class Taker(Protocol):
    """Makes something else of files as they arrive, after which they are gone."""

    @property
    def counted(self) -> int:
        """Bytes of files that it is done with; it grows while one is taken."""
        ...

    def takes(self, path: str) -> bool:
        """Tell whether it is to be given the file."""
        ...

    def take(self, path: str) -> None:
        """Take a file that is complete; raise `EngineError`, `OSError`."""
        ...

    def room(self, files: Sequence[RemoteFile], present: Container[str]) -> int:
        """Return how many bytes of disk it takes at most that `files` arrive and are taken.

        `present` are the paths of those that lie there already.
        """
        ...


class Tally:
    """What of a download is done and what is still to be: `total` and `done` in bytes."""

    def __init__(
        self, root: Path, files: Sequence[RemoteFile], taken: frozenset[str], taker: Taker | None
    ) -> None:
        self.arrived: set[str] = set(taken)
        self.stage = mark("downloading the model")
        self.total = sum(file.size for file in files)
        self._root, self._files, self._taker = root, files, taker
        self._there = {file.path for file in files if is_complete(root, file)}
        missing = [f for f in files if f.path not in taken and f.path not in self._there]
        self.todo = missing
        if taker is not None:
            self.stage = DOWNLOADING_AND_CONVERTING
            self.total += sum(file.size for file in files if taker.takes(file.path))
            # What tells which weight is in which file comes before the first of those.
            self.todo = sorted(
                (
                    file
                    for file in files
                    if file in missing or (file.path in self._there and taker.takes(file.path))
                ),
                key=lambda file: taker.takes(file.path),
            )

    def room(self) -> int:
        """Return how many bytes of disk are wanted, those of unfinished files included."""
        if self._taker is not None:
            return self._taker.room(self.todo, self._there)
        return sum(file.size for file in self.todo)

    def done(self) -> int:
        """Return how many bytes are there, or were taken."""
        arrived = sum(
            file.size
            for file in self._files
            if file.path in self.arrived or is_complete(self._root, file)
        )
        counted = 0 if self._taker is None else self._taker.counted
        return arrived + partial_bytes(self._root) + counted


def partial_place(root: Path, path: str) -> Path:
    """Return where a file lies until it is complete and its hash compared."""
    return root / ".download" / path.replace("/", "--")


def is_complete(root: Path, file: RemoteFile) -> bool:
    """Tell whether a file lies in its place, in its size."""
    path = root / file.path
    return path.is_file() and path.stat().st_size == file.size


def partial_files(root: Path) -> list[Path]:
    """Return the unfinished files of a download to `root`."""
    return sorted(path for path in partial_place(root, "").glob("*") if path.is_file())


def partial_bytes(root: Path) -> int:
    """Return how many bytes the unfinished files hold."""
    total = 0
    for path in partial_place(root, "").glob("*"):
        # It may have been completed and moved to its place meanwhile.
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
