"""Names of shapes, qualities, regions and notices, as people choose them."""

from __future__ import annotations

from typing import Final

from bot.words import mark

ASPECT_NAMES: Final = {
    "1:1": mark("1:1 square"),
    "7:4": mark("7:4 wide"),
    "16:9": mark("16:9 widescreen"),
    "9:16": mark("9:16 phone"),
    "4:3": mark("4:3 landscape"),
    "3:4": mark("3:4 portrait"),
    "3:2": mark("3:2 photo"),
    "2:3": mark("2:3 poster"),
}


REGION_NAMES: Final = {
    "left": mark("Left half"),
    "right": mark("Right half"),
    "top": mark("Upper half"),
    "bottom": mark("Lower half"),
    "middle": mark("Middle"),
    "background": mark("Background"),
}
"""By the names of `bot.regions.named.NAMES`."""

QUALITY_NAMES: Final = {
    "fast": mark("Fast"),
    "balanced": mark("Balanced"),
    "standard": mark("Standard"),
    "high": mark("High"),
}

MADE_BY: Final = {
    "edit": mark("edited"),
    "vary": mark("varied"),
    "upscale": mark("enlarged"),
    "image": mark("from a picture"),
}
"""By what `bot.jobs.derive.made_by` returns."""
NOTICE_NAMES: Final = {
    "reply": mark("New message that mentions you"),
    "direct": mark("Direct message"),
    "quiet": mark("Quiet edit"),
}
"""By the values of `bot.rules.notice.Notice`."""
ENHANCE_NAMES: Final = {
    "off": mark("off: as you wrote it"),
    "ask": mark("ask: rewritten, and shown to you first"),
    "always": mark("always: rewritten, then drawn"),
}
"""What becomes of a prompt before it is drawn (`bot.domain.writing.Enhance`)."""
