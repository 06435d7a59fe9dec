"""Files moved durably into place, and the names that job ids may give them."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from storage.backup import sync_folder

_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")


def checked_id(job_id: str) -> str:
    """Return `job_id`, which may be part of a path; raise `ValueError` for anything else."""
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError("not a job id")
    return job_id


def move_durably(source: Path, target: Path) -> tuple[str, int]:
    """Move a file into a folder, made if missing; return its SHA-256 in hex, and its bytes.

    Blocking. Raises `OSError`.
    """
    with source.open("rb+") as file:  # Windows syncs only what is open for writing.
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        os.fsync(file.fileno())
    make_folders(target.parent)
    source.replace(target)
    sync_folder(target.parent)
    return digest, size


def make_folders(folder: Path) -> None:
    """Make a folder and its parents, each durably; raise `OSError`."""
    if not folder.exists():
        make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
