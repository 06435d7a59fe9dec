"""The pictures of a batch as one, numbered."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

COLUMNS: Final = 2
# Discord shows a picture at most about 550 pixels wide; more serves those who open it.
LONGEST_SIDE: Final = 2048
_GAP: Final = 8
_LABEL_SHARE: Final = 0.05


def make_grid(paths: Sequence[Path]) -> bytes:
    """Return a PNG of the pictures side by side in rows of two, each with its number from 1.

    Blocking (run it in a thread). Raises OSError when a file cannot be read.
    """
    pictures: list[Image.Image] = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(image.convert("RGB"))
    width = max(picture.width for picture in pictures)
    height = max(picture.height for picture in pictures)
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    scale = min(1.0, LONGEST_SIDE / max(columns * width, rows * height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    size = (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP)
    grid = Image.new("RGB", size, (43, 45, 49))
    draw = ImageDraw.Draw(grid)
    label = max(12, round(min(width, height) * _LABEL_SHARE))
    font = ImageFont.load_default(label)
    for number, picture in enumerate(pictures):
        x = number % columns * (width + _GAP)
        y = number // columns * (height + _GAP)
        grid.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (x, y))
        box = (x, y, x + label * 3 // 2, y + label * 3 // 2)
        draw.rounded_rectangle(box, label // 3, fill=(0, 0, 0))
        centre = (x + label * 3 / 4, y + label * 3 / 4)
        draw.text(centre, str(number + 1), fill=(255, 255, 255), font=font, anchor="mm")
    buffer = io.BytesIO()
    grid.save(buffer, "PNG")
    return buffer.getvalue()
