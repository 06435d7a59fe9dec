"""Landlock: a process's own, lasting limits on files, TCP and signals (Linux 5.13 and newer).

Numbers are of include/uapi/linux/landlock.h; the system calls have the same ones on all
architectures. What an ABI does not know yet is left out.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import IntFlag
from pathlib import Path
from typing import Final

from bot.engine.confinement.kernel import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_ALL_TCP: Final = 0b11
_ALL_SCOPES: Final = 0b11
LEAST: Final = 2
"""Before ABI 2 no file can be moved to another folder at all, which Triton's cache does."""
TCP, DEVICES, SIGNALS = 4, 5, 6
"""The ABIs from which TCP, ioctls of devices, and signals can be denied."""


class Access(IntFlag):
    """What may be done with the files beneath a folder, or with one file."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_OF_FILES: Final = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class NoLandlock(Exception):
    """The system has no Landlock that would do; the message says why, in a few words."""


def abi() -> int:
    """Return the kernel's ABI of Landlock, at least `LEAST`; raise `NoLandlock`."""
    if sys.platform != "linux":
        raise NoLandlock("this system is not Linux")
    try:
        found = syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise NoLandlock("Landlock is switched off at boot (lsm=)") from None
        if error.errno == errno.ENOSYS:
            raise NoLandlock("the kernel was built without Landlock") from None
        raise NoLandlock(f"the system refuses Landlock ({error.strerror})") from None
    if found < LEAST:
        raise NoLandlock("the kernel's Landlock is too old (Linux 5.19 or newer has it)")
    return found


def known_access(version: int) -> Access:
    """Return all kinds of access that ABI `version` can deny."""
    last = {1: Access.MAKE_SYM, 2: Access.REFER, 3: Access.TRUNCATE, 4: Access.TRUNCATE}
    return Access(2 * last.get(version, Access.IOCTL_DEV) - 1)


def restrict(
    version: int, rules: Mapping[Path, Access], pinned: Iterable[tuple[int, Access]] = ()
) -> None:
    """Deny this thread, and whatever it starts, all files but those of `rules`, for ever.

    So are, from the ABIs `TCP` and `SIGNALS` on, TCP, and signals and abstract sockets to others.
    A path that is not there is left out. `pinned` are open descriptors in the place of paths.
    Needs `renounce_privileges`. Raises `OSError`.
    """
    known = known_access(version)
    attributes = _RulesetAttributes(known, _ALL_TCP, _ALL_SCOPES)
    size = 24 if version >= SIGNALS else 16 if version >= TCP else 8
    ruleset = syscall(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    try:
        for path, access in rules.items():
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    _allow(ruleset, descriptor, access & known)
                finally:
                    os.close(descriptor)
        for descriptor, access in pinned:
            _allow(ruleset, descriptor, access & known)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, descriptor: int, access: Access) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        access &= _OF_FILES
    if access:
        rule = _PathBeneath(access, descriptor)
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
