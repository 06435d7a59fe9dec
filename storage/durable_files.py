"""Files written durably: whole under their name or not there, and the names that job ids give."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from storage.backup import sync_folder
from storage.plain_files import UntrustedFileError

_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")


def checked_id(job_id: str) -> str:
    """Return `job_id`, which may be part of a path; raise `ValueError` for anything else."""
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError("not a job id")
    return job_id


def write_durably(
    blocks: Iterable[bytes], partial: Path, target: Path, sha256: str | None = None
) -> tuple[str, int]:
    """Write a file, its folders made if missing; return its SHA-256 in hex, and its bytes.

    It is written as `partial`, on the same file system, and appears as `target` when it is on the
    disk: whole, or, whatever fails, not at all. Raises `OSError`, and `UntrustedFileError` where
    the bytes do not have the hash `sha256`. Blocking.
    """
    make_folders(partial.parent)
    make_folders(target.parent)
    partial.unlink(missing_ok=True)
    try:
        found, size = _write(blocks, partial, sha256)
        partial.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    try:
        sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink(missing_ok=True)
        raise
    return found, size


def _write(blocks: Iterable[bytes], path: Path, sha256: str | None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for block in blocks:
            digest.update(block)
            size += file.write(block)
        file.flush()
        os.fsync(file.fileno())
    found = digest.hexdigest()
    if sha256 not in {None, found}:
        raise UntrustedFileError("the file was changed after its check")
    return found, size


def make_folders(folder: Path) -> None:
    """Make a folder and its parents, each durably; raise `OSError`."""
    if not folder.exists():
        make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        try:
            sync_folder(folder.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # The next try is to make it durable, too.
                folder.rmdir()
            raise
