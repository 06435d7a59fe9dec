"""What the machine says of itself: disk, database, graphics memory; nothing of it needs torch."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MIB: Final = 2**20
_PATIENCE_S: Final = 3.0
_QUERY: Final = ("--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes in bytes; `cards` has (used, total) memory of each NVIDIA card."""

    disk_free: int
    disk_total: int
    database_bytes: int
    cards: tuple[tuple[int, int], ...]


async def look(data_dir: Path, database: Path) -> Machine:
    """Look at the machine; takes up to three seconds where the card's driver is slow."""
    free, total, size = await asyncio.to_thread(_sizes, data_dir, database)
    return Machine(free, total, size, await _cards())


def _sizes(data_dir: Path, database: Path) -> tuple[int, int, int]:
    usage = shutil.disk_usage(data_dir)
    size = 0
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            size += database.with_name(f"{database.name}{suffix}").stat().st_size
    return usage.free, usage.total, size


async def _cards() -> tuple[tuple[int, int], ...]:
    """Ask `nvidia-smi`; nothing where there is none, or it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        child = await asyncio.create_subprocess_exec(
            program, *_QUERY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return ()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            output, _errors = await child.communicate()
    except TimeoutError:
        return ()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return read_cards(output.decode(errors="replace"))


def read_cards(text: str) -> tuple[tuple[int, int], ...]:
    """Read `used, total` lines in MiB; a line that says something else is left out."""
    cards: list[tuple[int, int]] = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            used, total = (int(part) * _MIB for part in line.split(","))
            cards.append((used, total))
    return tuple(cards)
