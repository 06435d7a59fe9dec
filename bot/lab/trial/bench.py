"""The bench on which the parts of a trial lay what later ones need, and the clock they share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

from bot.engine.card_budget import CardBudget
from bot.engine.stream.device import Device
from bot.engine.stream.pinned import HostBuffer
from bot.engine.stream.transformer import StreamedDiT
from bot.lab.trial.projection import Pace
from bot.lab.trial.whole import Share, Whole
from bot.lab.trial.wish import Wish

BLOCKS: Final = 3
"""Blocks that are loaded: of two in the streamer's two slots none would be copied again."""
Figures = dict[str, Any]
_TIMES: Final = 3


class Bench:
    """What the parts share; each attribute is there once the part that sets it has ended well."""

    budget: CardBudget
    whole: Whole
    share: Share
    dit: StreamedDiT
    pace: Pace
    single: Pace
    """Without guidance: one branch."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.held: list[HostBuffer] = []
        """Main memory that is pinned in the place of blocks that were not loaded."""
        self.fetch_bytes_s: float | None = None
        """Bytes a second at which streamed blocks reach the card while nothing is computed."""
        self.pageable_bytes_s: float | None = None
        """The same from pageable memory."""
        self.decode_s = 0.0


def timed(device: Device, work: Callable[[], Any]) -> float:
    """Return the median seconds of `work`, after one that is not counted."""
    runs: list[float] = []
    for _ in range(_TIMES + 1):
        device.synchronise()
        started = time.perf_counter()
        work()
        device.synchronise()
        runs.append(time.perf_counter() - started)
    return statistics.median(runs[1:])
