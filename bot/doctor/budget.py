"""The memory budget that the engine would take on this card by now, and what it pins for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level
from bot.engine.card_budget import Bound, CardBudget, CardMemory, card_budget
from bot.engine.host_memory import most_pinned, total_memory
from bot.machine import nvidia

SMI_S: Final = 15.0
_GIB: Final = 2**30
ALL_RESIDENT_GIB: Final[Mapping[str, float]] = {"qwen-image": 14.9, "qwen-image-21": 9.5}
"""From these budgets on every block of a family stays on the card; below it each missing GiB of
blocks waits in main memory (docs/performance.md; that of Qwen-Image-2.1 is the plan's)."""


def budgets(settings: Settings, card: nvidia.Gpu) -> tuple[CardBudget, CardBudget]:
    """Return the budget by now, and the one if nothing else used the card."""

    def of(free: int) -> CardBudget:
        return card_budget(
            CardMemory(card.total, free),
            settings.image_vram_gb,
            settings.image_gpu_memory_utilization,
        )

    return of(card.free), of(card.total)


def graphics_memory(settings: Settings, card: nvidia.Gpu, *, wanted: bool) -> Iterator[Finding]:
    """Tell the budget on `card`; `wanted`: the model needs it."""
    now, alone = budgets(settings, card)
    text = f"{card.free / _GIB:.1f} GiB free; "
    text += f"the budget is {now.bytes / _GIB:.1f} GiB (by {now.bound})"
    published = settings.model.published
    least = 0.0 if published is None or not wanted else published.vram_gib
    needs = f"; {settings.image_model_name} wants {least:g} GiB"
    if alone.bytes < least * _GIB:
        smaller = "set IMAGE_MODEL_NAME to a smaller model (docs/models.md)"
        step = smaller if alone.bound is Bound.FREE else f"raise {alone.bound}, or {smaller}"
        yield Finding("graphics memory", Level.ERROR, f"{text}{needs}", step)
    elif now.bytes < least * _GIB:
        yield Finding(
            "graphics memory",
            Level.WARNING,
            f"{text}{needs}{_users()}",
            "close other programs that use the card (nvidia-smi -l 1 shows them); a running bot's "
            "own engine counts as one",
        )
    else:
        if now.bytes < alone.bytes:
            text += f", and {alone.bytes / _GIB:.1f} GiB when nothing else uses it{_users()}"
        yield Finding("graphics memory", Level.OK, text)


def pinned_wanted(settings: Settings) -> int | None:
    """Return the bytes that the engine pins at the present budget; None without a card."""
    cards = nvidia.cards(SMI_S)
    if isinstance(cards, str):
        return None
    now, _ = budgets(settings, min(cards, key=lambda card: card.free))
    resident = ALL_RESIDENT_GIB.get(settings.model.family, 0.0)
    streamed = max(0, int(resident * _GIB) - now.bytes)
    most = most_pinned(total_memory())
    return streamed if most is None else min(streamed, most)


def _users() -> str:
    lines = nvidia.programs(SMI_S)[:5]
    if not lines:
        return ""
    return "; in use by " + ", ".join(re.sub(r"\s+", " ", line)[:80] for line in lines)
