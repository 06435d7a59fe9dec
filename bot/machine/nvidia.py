"""Which graphics cards an engine each can have; asks NVIDIA's driver, imports no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_PATIENCE_S: Final = 10.0
_QUERY: Final = ("--query-gpu=uuid,name", "--format=csv,noheader")
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card: what CUDA_VISIBLE_DEVICES calls it, and its name where that is known."""

    id: str
    name: str | None


def visible(environment: Mapping[str, str] | None = None) -> list[Gpu]:
    """Return the cards that this process may use, first to last; blocks up to ten seconds.

    Without CUDA_VISIBLE_DEVICES these are all that the driver tells of, by their UUIDs: CUDA's own
    numbers put the fastest card first, nvidia-smi's go by the slot. With it they are its entries,
    up to the first that names no card, as CUDA reads it.
    """
    chosen = (os.environ if environment is None else environment).get(VISIBLE)
    known = _known()
    if chosen is None:
        return known
    found: list[Gpu] = []
    for entry in (part.strip() for part in chosen.split(",")):
        if not entry or entry.startswith("-"):
            break
        found.append(Gpu(entry, _name(entry, known)))
    return found


def _name(entry: str, known: list[Gpu]) -> str | None:
    for card in known:
        # A UUID may be cut off, as long as it is one card's alone.
        if card.id.lower().startswith(entry.lower()):
            return card.name
    names = {card.name for card in known}
    return names.pop() if len(names) == 1 else None


def _known() -> list[Gpu]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603 - NVIDIA's own program
            [program, *_QUERY],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return []
    cards: list[Gpu] = []
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        uuid, comma, name = line.partition(",")
        if comma and uuid.startswith("GPU-"):
            cards.append(Gpu(uuid.strip(), name.strip()))
    return cards
