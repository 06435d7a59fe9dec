"""Digests of what a model's networks are made of: models with equal ones share a network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from bot.engine.files.cache_index import CacheIndex


def cache_digest(index: CacheIndex) -> str | None:
    """Return a digest of what a weights cache holds, by its checksums; None while it is not whole.

    The same published files, packed alike, give the same one.
    """
    if not index.complete:
        return None
    digest = hashlib.sha256()
    for key, item in sorted(index.items.items()):
        digest.update(f"{key} {item.form} {item.crc32}\n".encode())
    return digest.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """Return a digest of files' bytes, each read once unless it changes; raise OSError."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(_file_digest(path, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _file_digest(path: Path, size: int, mtime_ns: int) -> bytes:
    del size, mtime_ns
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
