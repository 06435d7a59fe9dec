"""Main memory: how much this machine has, and how much of it the engine may pin."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Final

MIB: Final = 2**20
RESERVE: Final = 4 * 2**30
"""What models that wait in main memory leave free, in bytes: for the bot and the system's files."""
_GROUP: Final = Path("/sys/fs/cgroup")
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
    """Return how much of it programs may take without swapping, in bytes; None if unknown.

    A container's limit counts.
    """
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith("MemAvailable:"))
    free = next((int(kilobytes) * 1024 for _name, kilobytes, *_ in found), None)
    within = _left_in_group(_GROUP)
    return free if within is None or free is None else min(free, within)


def _left_in_group(group: Path) -> int | None:
    """Return what the control group leaves, in bytes; None where it sets no limit."""
    try:
        most = int((group / "memory.max").read_text("ascii"))
        taken = int((group / "memory.current").read_text("ascii"))
        lines = (group / "memory.stat").read_text("ascii").splitlines()
    except (OSError, ValueError):  # None, an older kind, or "max".
        return None
    files = (line.split() for line in lines if line.startswith("inactive_file "))
    return max(0, most - taken + next((int(size) for _name, size in files), 0))


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
