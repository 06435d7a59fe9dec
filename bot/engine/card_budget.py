"""The memory budget of a card: what torch may take of it, by the settings and by what is free."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GIB: Final = 2**30
SHARE: Final = 0.9
"""Of the card, where `IMAGE_GPU_MEMORY_UTILIZATION` is not set."""
# The CUDA context, libraries' own buffers, and what a desktop takes from one moment to the next;
# Windows draws more of it through the card.
_RESERVE_GIB: Final = 1.2 if sys.platform == "win32" else 0.6


@dataclass(frozen=True, slots=True)
class CardMemory:
    """A card's memory in bytes: all of it, what is free, and what torch holds of it here."""

    total: int
    free: int
    own: int = 0

    @property
    def foreign(self) -> int:
        """What other programs hold, and the driver, in bytes."""
        return max(0, self.total - self.free - self.own)


class Bound(StrEnum):
    """What a budget is bounded by."""

    CEILING = "IMAGE_VRAM_GB"
    SHARE = "IMAGE_GPU_MEMORY_UTILIZATION"
    FREE = "what is free"


@dataclass(frozen=True, slots=True)
class CardBudget:
    """How many bytes torch may reserve, and why not more."""

    bytes: int
    bound: Bound
    foreign: int
    """What other programs hold of the card, in bytes."""

    @property
    def held_by_others(self) -> int:
        """What other programs hold, where that is why there is not more, in bytes; else 0."""
        return self.foreign if self.bound is Bound.FREE else 0


def card_budget(memory: CardMemory, ceiling_gib: float | None, share: float | None) -> CardBudget:
    """Return the least of the ceiling, the share of the card, and what is free with our own.

    `ceiling_gib` is IMAGE_VRAM_GB in GiB (None: auto), `share` IMAGE_GPU_MEMORY_UTILIZATION from 0
    to 1 (None: not set). From what is free a reserve is left to others.
    """
    limits = {
        Bound.SHARE: int((SHARE if share is None else share) * memory.total),
        Bound.FREE: max(0, memory.free + memory.own - int(_RESERVE_GIB * GIB)),
    }
    if ceiling_gib is not None:
        limits[Bound.CEILING] = int(ceiling_gib * GIB)
    bound = min(limits, key=lambda each: limits[each])
    return CardBudget(limits[bound], bound, memory.foreign)
