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
ALL_RESIDENT_GIB: Final[Mapping[str, float]] = {"qwen-image": 14.9, "qwen-image-21": 9.4}
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
    """Tell the budget on `card`, of which the largest model's need counts, if any is `wanted`."""
    now, alone = budgets(settings, card)
    text = f"{card.free / _GIB:.1f} GiB free; "
    text += f"the budget is {now.bytes / _GIB:.1f} GiB (by {now.bound})"
    wants = {
        spec.name: spec.published.vram_gib for spec in settings.models if spec.published and wanted
    }
    least = max(wants.values(), default=0.0)
    needs = "; " + ", ".join(f"{name} wants {gib:g} GiB" for name, gib in wants.items())
    if alone.bytes < least * _GIB:
        several = len(settings.models) > 1
        names = "IMAGE_MODEL_NAME and IMAGE_MODELS" if several else "IMAGE_MODEL_NAME"
        smaller = f"set {names} to {'smaller models' if several else 'a smaller model'}"
        smaller += " (docs/models.md)"
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
        if len(settings.models) > 1 and wants:
            text += needs
        yield Finding("graphics memory", Level.OK, text)


def pinned_wanted(settings: Settings) -> int | None:
    """Return the most bytes that the engine pins for a model now; None without a card."""
    cards = nvidia.cards(SMI_S)
    if isinstance(cards, str):
        return None
    now, _ = budgets(settings, min(cards, key=lambda card: card.free))
    families = [spec.family for spec in settings.models if spec.streamed]
    resident = max((ALL_RESIDENT_GIB.get(family, 0.0) for family in families), default=0.0)
    streamed = max(0, int(resident * _GIB) - now.bytes)
    most = most_pinned(total_memory())
    return streamed if most is None else min(streamed, most)


def _users() -> str:
    lines = nvidia.programs(SMI_S)[:5]
    if not lines:
        return ""
    return "; in use by " + ", ".join(re.sub(r"\s+", " ", line)[:80] for line in lines)
