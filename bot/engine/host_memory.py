"""Main memory: how much this machine has, and how much of it the engine may pin."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Final

MIB: Final = 2**20
# ComfyUI's share on Windows, above which its users' machines begin to swap.
_WINDOWS_SHARE: Final = 0.4
# Registering was seen to fail from 0.75 GiB on, under WSL 2 on a machine with 63 GiB.
_WSL_BYTES: Final = 512 * MIB


def total_memory() -> int | None:
    """Return the machine's main memory in bytes; None where it cannot be told."""
    if sys.platform == "win32":
        return _windows_total()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _windows_total() -> int | None:
    import ctypes  # noqa: PLC0415

    kilobytes = ctypes.c_ulonglong(0)
    kernel32 = getattr(ctypes, "windll").kernel32  # noqa: B009 - Windows only
    if not kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)):
        return None
    return kilobytes.value * 1024


def available_memory() -> int | None:
    """Return how much of it programs may take without swapping, in bytes; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith("MemAvailable:"))
    return next((int(kilobytes) * 1024 for _name, kilobytes, *_ in found), None)


def under_wsl() -> bool:
    """Tell whether this Linux runs inside of Windows."""
    return sys.platform == "linux" and "microsoft" in platform.uname().release.lower()


def most_pinned(total: int | None) -> int | None:
    """Return how many bytes of `total` the engine pins at most; None: as many as it streams."""
    if under_wsl():
        return _WSL_BYTES
    if sys.platform == "win32":
        return None if total is None else int(_WINDOWS_SHARE * total)
    return None
