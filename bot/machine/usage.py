"""Usage of the machine: its disk, the database and graphics memory; nothing of it needs torch."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.machine import nvidia

_PATIENCE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes in bytes; `cards` are the NVIDIA cards, with their used and total memory."""

    disk_free: int
    disk_total: int
    database_bytes: int
    cards: tuple[nvidia.Gpu, ...]


async def look(data_dir: Path, database: Path) -> Machine:
    """Look at the machine; takes up to three seconds where the card's driver is slow."""
    free, total, size = await asyncio.to_thread(_sizes, data_dir, database)
    return Machine(free, total, size, await nvidia.memory(_PATIENCE_S))


def _sizes(data_dir: Path, database: Path) -> tuple[int, int, int]:
    usage = shutil.disk_usage(data_dir)
    size = 0
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            size += database.with_name(f"{database.name}{suffix}").stat().st_size
    return usage.free, usage.total, size
