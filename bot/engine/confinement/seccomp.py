"""A seccomp filter: no sockets to elsewhere, and none of the calls that go around other limits.

It needs nothing but `renounce_privileges`, and holds where the kernel has no Landlock too, or one
without TCP; Landlock never denies UDP. Numbers are of the kernel's system call tables, and the
program's codes of include/uapi/linux/{filter,seccomp,audit}.h.
"""

from __future__ import annotations

import ctypes
import errno
import platform
from dataclasses import dataclass
from typing import Final

from bot.engine.confinement.kernel import PR_SET_SECCOMP, prctl

_MODE_FILTER: Final = 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE = 0, 4
_FIRST, _SECOND = 16, 24  # the arguments' lower halves, on little-endian machines
_X32: Final = 0x40000000
_AF_UNIX: Final = 1
_SOCK_TYPE, _SOCK_DGRAM = 0xF, 2
_CLONE_NEWUSER: Final = 0x10000000


@dataclass(frozen=True, slots=True)
class _Table:
    architecture: int
    socket: int
    connect: int
    clone: int
    clone3: int
    denied: tuple[int, ...]
    """ptrace, process_vm_readv, process_vm_writev, pidfd_getfd, kcmp; io_uring_setup; bpf,
    perf_event_open, userfaultfd; add_key, request_key, keyctl; unshare, setns;
    open_by_handle_at."""


_TABLES: Final = {
    "x86_64": _Table(
        0xC000003E,
        socket=41,
        connect=42,
        clone=56,
        clone3=435,
        denied=(101, 310, 311, 438, 312, 425, 321, 298, 323, 248, 249, 250, 272, 308, 304),
    ),
    "aarch64": _Table(
        0xC00000B7,
        socket=198,
        connect=203,
        clone=220,
        clone3=435,
        denied=(117, 270, 271, 438, 272, 425, 280, 241, 282, 217, 218, 219, 97, 268, 265),
    ),
}


class NoSeccomp(Exception):
    """The filter cannot be used; the message says why, in a few words."""


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def filter_process(*, connect: bool = False) -> None:
    """Filter this thread's system calls, and those of whatever it starts, for ever.

    Sockets within the machine (AF_UNIX, not datagrams) may be made, which pairs and pools need, but
    connect to nothing unless `connect` allows it. Raises `NoSeccomp`.
    """
    table = _TABLES.get(platform.machine())
    if table is None:
        raise NoSeccomp(f"no filter is written for {platform.machine()}")
    lines = _filter(table, connect=connect)
    instructions = (_Instruction * len(lines))(*lines)
    program = _Program(len(lines), instructions)
    try:
        prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program))
    except OSError as error:
        raise NoSeccomp(f"the system refuses it ({error.strerror})") from None


def _filter(table: _Table, *, connect: bool) -> list[tuple[int, int, int, int]]:
    """Return the program: (code, lines to skip if so, lines to skip if not, operand) a line."""
    permission, access, unknown = (
        _REFUSE | code for code in (errno.EPERM, errno.EACCES, errno.ENOSYS)
    )
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, table.architecture),
        (_RETURN, 0, 0, _KILL),  # another architecture's numbers
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, unknown),
        (_EQUAL, 0, 7, table.socket),
        (_LOAD, 0, 0, _FIRST),
        (_EQUAL, 0, 3, _AF_UNIX),
        (_LOAD, 0, 0, _SECOND),
        (_AND, 0, 0, _SOCK_TYPE),
        (_EQUAL, 0, 1, _SOCK_DGRAM),
        (_RETURN, 0, 0, access),
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 3, table.clone),
        (_LOAD, 0, 0, _FIRST),
        (_ANY_BIT, 0, 1, _CLONE_NEWUSER),
        (_RETURN, 0, 0, permission),
        (_LOAD, 0, 0, _NUMBER),
        # Its flags lie in memory, where no filter looks; libraries go on with clone.
        (_EQUAL, 0, 1, table.clone3),
        (_RETURN, 0, 0, unknown),
    ]
    if not connect:
        lines += [(_EQUAL, 0, 1, table.connect), (_RETURN, 0, 0, access)]
    for number in table.denied:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, permission)]
    return [*lines, (_RETURN, 0, 0, _ALLOW)]
