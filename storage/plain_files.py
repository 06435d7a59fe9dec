"""Plain files: opened without following links, judged by what was opened, read in blocks.

The engine's child writes into the folder of pictures, and its code is not trusted: a name there may
be a link to any file of this machine by the time that it is read. So nothing below the folder is
opened through a link, and what is opened is judged by its descriptor, which no rename changes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final

BLOCK: Final = 2**16
"""Bytes that are read at a time."""
# What open() says of a link that it was told not to follow; the second where a folder was expected.
_LINKS: Final = frozenset({errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", errno.ELOOP)})
_BY_FOLDER: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# Without O_NONBLOCK, a FIFO under a picture's name would hold the thread for ever.
_READ: Final = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOINHERIT", 0)
)
_REPARSE_POINT: Final = 0x400  # FILE_ATTRIBUTE_REPARSE_POINT: Windows' links and junctions


class UntrustedFileError(OSError):
    """The file is not what was recorded or asked for: a link, a device, another's, too large."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EINVAL, reason)


def open_plain(root: Path, name: str | PurePath, *, own: bool = False) -> io.BufferedReader:
    """Open the regular file `root / name` for reading; `root` itself may be a link.

    `own`: it must also belong to the owner of its folder and have no second name (a hard link may
    be to any file of this user). Raises `UntrustedFileError`, and `OSError` where it can't be read.

    Windows has neither O_NOFOLLOW nor opening by folder: there each part of the name is looked at
    first, and the opened file must be the very one that was seen.
    """
    parts = PurePath(name).parts
    if not parts or PurePath(name).is_absolute() or ".." in parts:
        raise UntrustedFileError("the file lies outside of its folder")
    try:
        descriptor, folder = (_by_folder if _BY_FOLDER else _by_path)(root, parts)
    except OSError as error:
        if error.errno in _LINKS and not isinstance(error, UntrustedFileError):
            raise UntrustedFileError("the file is a link") from error
        raise
    try:
        _judge(os.fstat(descriptor), folder, own=own)
        return io.BufferedReader(io.FileIO(descriptor), BLOCK)
    except BaseException:
        os.close(descriptor)
        raise


def blocks(file: io.BufferedReader, limit: int) -> Iterator[bytes]:
    """Yield the rest of a file in blocks; raise `UntrustedFileError` past `limit` bytes."""
    while block := file.read(BLOCK):
        limit -= len(block)
        if limit < 0:
            raise UntrustedFileError("the file is too large")
        yield block


def read_plain(root: Path, name: str | PurePath, limit: int, sha256: str | None = None) -> bytes:
    """Return what is in a plain file of at most `limit` bytes.

    With `sha256` (hex) it must have this hash. Raises as `open_plain` and `blocks`.
    """
    with open_plain(root, name) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise UntrustedFileError("the file is too large")
        data = b"".join(blocks(file, limit))
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise UntrustedFileError("the file is not the one that was recorded")
    return data


def _judge(found: os.stat_result, folder: os.stat_result, *, own: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UntrustedFileError("the file is no regular one")
    if own and found.st_nlink > 1:
        raise UntrustedFileError("the file has a second name")
    if own and found.st_uid != folder.st_uid:
        raise UntrustedFileError("the file is another's")


def _by_folder(root: Path, parts: tuple[str, ...]) -> tuple[int, os.stat_result]:
    """Open a file by the descriptors of its folders; return what its own folder is, too."""
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], _READ | os.O_NOFOLLOW, dir_fd=folder), os.fstat(folder)
    finally:
        os.close(folder)


def _by_path(root: Path, parts: tuple[str, ...]) -> tuple[int, os.stat_result]:
    """Do as `_by_folder` where the system cannot."""
    path, seen, folder = root, root.stat(), root.stat()
    for part in parts:
        path, folder, seen = path / part, seen, (path / part).lstat()
        if stat.S_ISLNK(seen.st_mode) or getattr(seen, "st_file_attributes", 0) & _REPARSE_POINT:
            raise UntrustedFileError("the file is a link")
    descriptor = os.open(path, _READ)
    if os.path.samestat(seen, os.fstat(descriptor)):
        return descriptor, folder
    os.close(descriptor)
    raise UntrustedFileError("the file is a link")
