"""The table of docs/cards.md: what cards of people should do. `python -m bot.lab.trial.cards`.

Memory and blocks are the engine's own plan. Seconds are projections by the formula of
`projection`, from what NVIDIA publishes of each card; nobody has run any of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.catalogue.lightning import SERIES
from bot.engine.card_budget import CardMemory, card_budget
from bot.engine.options import EngineOptions
from bot.engine.stream.budget import GIB, Work
from bot.engine.stream.layout import Geometry
from bot.lab.trial.projection import LORA_COST, Pace, picture_seconds, step_seconds
from bot.lab.trial.whole import Whole

DESKTOP_GIB: Final = 1.2
"""What a desktop and its browser hold of the card."""
STANDARD_STEPS: Final = 40
FAST_STEPS: Final = 8
# The share of the peak that a step reaches. An H100 reaches half (docs/performance.md), held back
# by its power limit; in products alone consumer cards reach 0.85 to 0.9 of their smaller peak.
_SHARES: Final = (0.85, 0.5)
# Operations a core and cycle: each of the tensor cores of a multiprocessor with 128 cores does 4 a
# core in bfloat16 with float32 sums, without sparsity (NVIDIA's GA102, Ada and RTX Blackwell
# whitepapers: 71 TFLOP/s for the 3090, 165 for the 4090, 210 for the 5090).
_OPERATIONS: Final = 4
# INT8 products have four times the rate of bfloat16 on these cards (the same whitepapers: 284, 660
# and 838 TOP/s). What they reach of it, rounding of tokens included, against bfloat16 in the same
# run: an H200, where the rate is twice that of bfloat16, took 0.197 s a step instead of 0.258 s
# (docs/performance.md): 1.31 times as fast; attention, which stays, leaves 0.65 of the rate.
_INT8_RATE: Final = 4 * 0.65
# Gigabytes a second that pinned memory reaches by the kind of slot: of 16 lanes of PCIe 4 the 25
# of docs/performance.md, the others in proportion. Pageable memory: through the processor.
_PCIE4_X16: Final = 25.0
_PAGEABLE: Final = 8.0
# Decoding takes 0.46 s on the H100 and is bound by memory: 3,350 GB/s against some 300 to 1,800.
_DECODE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Card:
    """A card by NVIDIA's data sheet: memory in GiB, cores, boost clock in GHz, its slot in GB/s."""

    name: str
    gib: int
    cores: int
    ghz: float
    bus: float = _PCIE4_X16

    @property
    def peak(self) -> float:
        """Operations a second in bfloat16, dense."""
        return _OPERATIONS * self.cores * self.ghz * 1e9


CARDS: Final = (
    Card("RTX 3060 8 GB", 8, 3584, 1.78),
    Card("RTX 4060", 8, 3072, 2.46, _PCIE4_X16 / 2),
    Card("RTX 3080 10 GB", 10, 8704, 1.71),
    Card("RTX 3060 12 GB", 12, 3584, 1.78),
    Card("RTX 3080 12 GB", 12, 8960, 1.71),
    Card("RTX 4070", 12, 5888, 2.48),
    Card("RTX 5070", 12, 6144, 2.51, 2 * _PCIE4_X16),
    Card("RTX 4060 Ti 16 GB", 16, 4352, 2.54, _PCIE4_X16 / 2),
    Card("RTX 5060 Ti 16 GB", 16, 4608, 2.57),
    Card("RTX 4070 Ti Super", 16, 8448, 2.61),
    Card("RTX 4080", 16, 9728, 2.51),
    Card("RTX 5070 Ti", 16, 8960, 2.45, 2 * _PCIE4_X16),
    Card("RTX 5080", 16, 10752, 2.62, 2 * _PCIE4_X16),
    Card("RTX 3090", 24, 10496, 1.70),
    Card("RTX 4090", 24, 16384, 2.52),
    Card("RTX 5090", 32, 21760, 2.41, 2 * _PCIE4_X16),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What is to be expected of a card: sizes in bytes, seconds from the faster to the slower."""

    card: Card
    budget: int
    blocks: int
    resident: int
    streamed: int
    """Bytes that cross the bus at each step."""
    main_memory: int
    standard_s: tuple[float, float]
    int8_s: tuple[float, float]
    """As `standard_s`, with INT8 products (`int8-fast`)."""
    fast_s: tuple[float, float]


def block_operations(geometry: Geometry, work: Work, *, product_rate: float = 1.0) -> float:
    """Return the multiplications and additions of one block: products and attention.

    Products that run at `product_rate` times the peak count for as much less.
    """
    dim = geometry.dim
    products = 24.0 * dim * dim * work.tokens
    attention = sum(4.0 * dim * (work.image_tokens + text) ** 2 for text in work.text_tokens)
    return products / product_rate + attention


def expected(whole: Whole, card: Card) -> Expected:
    """Return what the engine plans on `card` beside a desktop, and what that projects to."""
    memory = CardMemory(card.gib * GIB, int((card.gib - DESKTOP_GIB) * GIB))
    budget = card_budget(memory, None, None).bytes
    usual = whole.usual
    alone = Work(usual.width, usual.height, 1, usual.text_tokens[:1])
    share = whole.share(budget, compiled=True)
    lora_bytes = SERIES["Qwen/Qwen-Image"].file_bytes
    with_file = whole.share(budget, compiled=True, work=alone, lora_bytes=lora_bytes)
    copy_s = whole.block_bytes / (card.bus * 1e9)
    once_s = _DECODE_S + (whole.text_bytes + whole.modulation_bytes) / (_PAGEABLE * 1e9)

    def seconds(
        steps: int, work: Work, streamed: int, *, cost: float = 1.0, rate: float = 1.0
    ) -> tuple[float, float]:
        found: list[float] = []
        operations = cost * block_operations(whole.geometry, work, product_rate=rate)
        for reached in _SHARES:
            block_s = operations / (reached * card.peak)
            pace = Pace(block_s, max(block_s, copy_s))
            step_s = step_seconds(whole.geometry.layers, streamed, pace)
            found.append(picture_seconds(steps, step_s, once_s))
        return found[0], found[1]

    return Expected(
        card,
        budget,
        share.blocks,
        share.resident,
        share.streamed_bytes,
        whole.pageable_bytes + share.streamed_bytes,
        seconds(STANDARD_STEPS, usual, share.streamed),
        seconds(STANDARD_STEPS, usual, share.streamed, rate=_INT8_RATE),
        seconds(FAST_STEPS, alone, with_file.streamed, cost=LORA_COST),
    )


def table(whole: Whole) -> Iterator[str]:
    """Yield the lines of the table in Markdown."""
    yield (
        "| card | budget, GiB | blocks that stay | streams a step, GB | main memory, GiB "
        "| 40 steps, s | the same, `int8-fast`, s | `fast`, 8 steps, s |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for one in (expected(whole, card) for card in CARDS):
        yield (
            f"| {one.card.name} | {one.budget / GIB:.1f} | {one.resident} of {one.blocks} "
            f"| {one.streamed / 1e9:.1f} | {one.main_memory / GIB:.0f} "
            f"| {_range(one.standard_s)} | {_range(one.int8_s)} | {_range(one.fast_s)} |"
        )


def _range(seconds: tuple[float, float]) -> str:
    low, high = (round(s) for s in seconds)
    return f"{low} to {high}" if low != high else f"{low}"


if __name__ == "__main__":
    whole_engine = Whole.of(EngineOptions(Path("models")), toy=False)
    sys.stdout.write("\n".join(table(whole_engine)) + "\n")
