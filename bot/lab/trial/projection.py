"""The projection of a picture's seconds from a block's: the one formula for every card.

docs/performance.md says what it rests on. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LORA_COST: Final = 1.18
"""A step with a Lightning file against one without: 0.16 s and half of 0.272 s (docs/loras.md).

Measured with Qwen-Image; what the file takes of the card is in bot/catalogue/lightning.py.
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of one block with one picture: where it stays, and where each one is streamed.

    `around_s` is what a step takes besides: the layers around the blocks.
    """

    resident_s: float
    streamed_s: float
    around_s: float = 0.0


def step_seconds(blocks: int, streamed: int, pace: Pace) -> float:
    """Return a step's seconds, of which `streamed` blocks of all `blocks` come over the bus.

    Copies hide behind the blocks that compute meanwhile, those that stay among them. So a step
    takes as long as all the arithmetic, or as all the copies, whichever is longer.
    """
    return pace.around_s + max(blocks * pace.resident_s, streamed * pace.streamed_s)


def picture_seconds(steps: int, step_s: float, once_s: float) -> float:
    """Return a picture's seconds; `once_s` is what comes once: prompt, schedule, decoding."""
    return steps * step_s + once_s
