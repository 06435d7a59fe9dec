"""Lines about how an engine uses its card: the budget and why, pinned memory, compiled blocks."""

from __future__ import annotations

from typing import Final

from bot.engine.card_budget import Bound
from bot.engine.protocol import CardUse
from bot.messages.text import safe
from bot.words import _, mark

_GIB: Final = 2**30
_WHY_LIMIT: Final = 120
_BOUNDS: Final = {
    Bound.CEILING.value: "IMAGE_VRAM_GB",
    Bound.SHARE.value: mark("IMAGE_GPU_MEMORY_UTILIZATION, 0.9 where it is not set"),
    Bound.FREE.value: mark("what is free; other programs hold {foreign} GiB"),
}


def card_lines(use: CardUse) -> list[str]:
    """Return lines about what an engine said of its card; none where it draws without a budget."""
    if use.budget is None:
        return []
    if (bound := _BOUNDS.get(use.bound)) is None:
        budget = _("Memory budget: {size} GiB").format(size=_gib(use.budget))
    else:
        why = _(bound).format(foreign=_gib(use.foreign))
        budget = _("Memory budget: {size} GiB ({bound})").format(size=_gib(use.budget), bound=why)
    lines = [budget]
    blocks = (
        _("Blocks: {resident} of {blocks} stay on the card, compiled")
        if use.uncompiled is None
        else _(
            "Blocks: {resident} of {blocks} stay on the card, not compiled ({why}): a step takes "
            "about 1.4 times as long"
        )
    )
    why = safe(use.uncompiled or "", _WHY_LIMIT)
    lines.append(blocks.format(resident=use.resident, blocks=use.blocks, why=why))
    if use.precision is not None:
        lines.append(_("Precision: {precision}").format(precision=safe(use.precision, _WHY_LIMIT)))
    if use.pinned < use.pin_wanted:
        pinned = (
            _(
                "Pinned memory: {pinned} of {wanted} GiB, the driver refuses more. The rest is "
                "copied through small buffers, which cost a step 2 % where that was measured"
            )
            if use.pin_refused
            else _(
                "Pinned memory: {pinned} of {wanted} GiB, as much as Windows bears. The rest is "
                "copied through small buffers, which cost a step 2 % where that was measured"
            )
        )
        lines.append(pinned.format(pinned=_gib(use.pinned), wanted=_gib(use.pin_wanted)))
    return lines


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f}"
