"""Calls to the Linux kernel that Python has no names for; nothing but ctypes."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
# include/uapi/linux/capability.h
_CAPABILITY_VERSION_3: Final = 0x20080522
_DAC_OVERRIDE, _IPC_LOCK = 1 << 1, 1 << 14
_KEPT: Final = _DAC_OVERRIDE | _IPC_LOCK
# Out of 1000; 0 is usual, and browsers give their tabs 300. The engine's tens of GB are what helps.
_OOM_SCORE: Final = 500


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: Any) -> None:
    """Make the system call of that name, on Linux; raise `OSError`."""
    padded = [*arguments, *[0] * (4 - len(arguments))]
    values = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in padded]
    if _libc().prctl(option, *values) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def syscall(number: int, *arguments: Any) -> int:
    """Make the system call `number` and return what it does; raise `OSError`."""
    values = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = _libc().syscall(ctypes.c_long(number), *values)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def keep_memory_private() -> None:
    """Keep this process's memory and environment from others of the same user, and from core dumps.

    On Linux `/proc/PID/{mem,environ,…}` then belong to root, and nobody else's debugger may attach.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - Unix only

    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0 if hard else hard))
    if sys.platform == "linux":
        with suppress(OSError):
            prctl(_PR_SET_DUMPABLE, 0)


def renounce_privileges() -> None:
    """Keep setuid programs from giving this process and its children rights; raise `OSError`."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up root's rights, but that to files, which other limits bound; raise `OSError`.

    With them a process reads the memory of others, whatever limits it has put on itself.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable, in two halves each.
    sets = (ctypes.c_uint32 * 6)()
    if _libc().capget(header, sets) == 0:
        if not any(sets):  # As for any user but root; a service's filter may refuse the next call.
            return
        kept = (sets[0] & _KEPT, sets[1] & _KEPT, 0, 0, 0, 0)
        if _libc().capset(header, (ctypes.c_uint32 * 6)(*kept)) == 0:
            return
    number = ctypes.get_errno()
    raise OSError(number, f"capset: {os.strerror(number)}")


def be_killed_first() -> None:
    """Have the kernel end this process before others when memory is short.

    To be called before `keep_memory_private`, after which the file is root's.
    """
    file = Path("/proc/self/oom_score_adj")
    with suppress(OSError, ValueError):
        if int(file.read_text("ascii")) < _OOM_SCORE:
            file.write_text(f"{_OOM_SCORE}\n", "ascii")
