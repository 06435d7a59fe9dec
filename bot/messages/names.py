"""Names of shapes and qualities, as people choose them."""

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


QUALITY_NAMES: Final = {
    "fast": mark("Fast"),
    "balanced": mark("Balanced"),
    "standard": mark("Standard"),
    "high": mark("High"),
}
