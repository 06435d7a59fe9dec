"""Contact sheets: pictures in a grid with their captions, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw

from bot.lab.tiny.train.scenes.letters import font

_MARGIN: Final = 8
_LINE: Final = 13
_LINES: Final = 3


def _wrapped(text: str, width: int) -> list[str]:
    face = font("hei", _LINE - 2)
    lines = [""]
    for character in text:
        if face.getlength(lines[-1] + character) > width:
            lines.append("")
        lines[-1] += character
    return lines[:_LINES]


def contact_sheet(
    pictures: Sequence[Image.Image], captions: Sequence[str], columns: int = 8, size: int = 160
) -> Image.Image:
    """Return the pictures `size` pixels wide at most, each above its caption, row by row."""
    cell, high = size + _MARGIN, size + _LINES * _LINE + _MARGIN
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell + _MARGIN, rows * high + _MARGIN), (250, 250, 248))
    draw = ImageDraw.Draw(sheet)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = _MARGIN + index % columns * cell, _MARGIN + index // columns * high
        small = picture.copy()
        small.thumbnail((size, size), Image.Resampling.LANCZOS)
        sheet.paste(small, (x, y))
        for number, line in enumerate(_wrapped(caption, size)):
            at = x, y + size + number * _LINE
            draw.text(at, line, font=font("hei", _LINE - 2), fill=(60, 60, 70))
    return sheet
