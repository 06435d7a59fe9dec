"""The lifeline between parent and child: no orphan may hold the GPU, however its parent ends.

Linux: the kernel sends SIGKILL (`PR_SET_PDEATHSIG`). Windows: the child is put into a job object
that its parent's end closes, which kills the child; this was written from Microsoft's documentation
and has not been run. Everywhere (and on macOS this is all): the child exits when its stdin ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, Final

from bot.engine.confinement.kernel import PR_SET_PDEATHSIG, prctl

_JOB_OBJECT_EXTENDED_LIMIT_INFORMATION: Final = 9
_JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE: Final = 0x2000
_PROCESS_SET_QUOTA_AND_TERMINATE: Final = 0x0100 | 0x0001


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` (its process id) ends.

    The signal comes when the parent's thread that started this process ends. Exits at
    once when the parent is gone already: no signal comes for a death in the past.
    """
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if sys.platform != "win32" and os.getppid() != parent:
        os._exit(0)


def leave_signals_to_parent() -> None:
    """Let no signal to a whole group of processes end this one: its parent decides what ends.

    Ctrl-C in a terminal is one, and what service managers send to all of a service.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not ignored: the compilers that are started here would inherit that.
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, _go_on)


def _go_on(number: int, frame: object) -> None:
    """Do nothing about a signal."""


class JobObject:
    """A Windows job object that kills its processes when its last handle closes.

    On other systems it does nothing. Keep it for as long as the child may live.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        if sys.platform == "win32":
            self._handle = _make_job()

    def add(self, pid: int) -> None:
        """Put the process `pid` under this job."""
        if sys.platform == "win32":
            kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
            kernel32.OpenProcess.restype = ctypes.c_void_p
            process = kernel32.OpenProcess(_PROCESS_SET_QUOTA_AND_TERMINATE, False, pid)
            if not process:
                raise ctypes.WinError(ctypes.get_last_error())
            try:
                if not kernel32.AssignProcessToJobObject(
                    ctypes.c_void_p(self._handle), ctypes.c_void_p(process)
                ):
                    raise ctypes.WinError(ctypes.get_last_error())
            finally:
                kernel32.CloseHandle(ctypes.c_void_p(process))


if sys.platform == "win32":

    class _BasicLimits(ctypes.Structure):
        _fields_ = (
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", ctypes.c_uint32),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", ctypes.c_uint32),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", ctypes.c_uint32),
            ("SchedulingClass", ctypes.c_uint32),
        )

    class _ExtendedLimits(ctypes.Structure):
        _fields_ = (
            ("BasicLimitInformation", _BasicLimits),
            ("IoInfo", ctypes.c_uint64 * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        )

    def _make_job() -> Any:
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.CreateJobObjectW.restype = ctypes.c_void_p
        job = kernel32.CreateJobObjectW(None, None)
        limits = _ExtendedLimits()
        limits.BasicLimitInformation.LimitFlags = _JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
        if not job or not kernel32.SetInformationJobObject(
            ctypes.c_void_p(job),
            _JOB_OBJECT_EXTENDED_LIMIT_INFORMATION,
            ctypes.byref(limits),
            ctypes.sizeof(limits),
        ):
            raise ctypes.WinError(ctypes.get_last_error())
        return job
