"""The grid: the pictures of a batch as one, numbered."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

COLUMNS: Final = 2
# Discord shows a picture at most about 550 pixels wide; more serves those who open it.
LONGEST_SIDE: Final = 2048
_GAP: Final = 8
_SMALLEST: Final = 64
_BACKGROUND: Final = (43, 45, 49)
_CLEAR: Final = (0, 0, 0, 0)
_LABEL_SHARE: Final = 0.07


def has_alpha(image: Image.Image) -> bool:
    """Tell whether a picture has an alpha channel."""
    return "A" in image.getbands()


def make_grid(
    files: Iterable[bytes | None],
    *,
    columns: int = COLUMNS,
    first: int = 1,
    longest: int = LONGEST_SIDE,
) -> bytes:
    """Return a PNG of the picture files in rows, each with its number from `first` on.

    Each file is unpacked before the next one is taken. Pictures of other shapes are centred in
    their cells; None leaves a cell empty. Where a picture has an alpha channel the grid has one
    too, and nothing behind the pictures. `longest` is the most pixels on a side. Blocking (run it
    in a thread). Raises what Pillow does for a damaged file.
    """
    pictures: list[Image.Image | None] = []
    for file in files:
        if file is None:
            pictures.append(None)
            continue
        with Image.open(io.BytesIO(file)) as image:
            image.thumbnail((longest, longest))
            pictures.append(image.convert("RGBA" if has_alpha(image) else "RGB"))
    width = max((picture.width for picture in pictures if picture), default=_SMALLEST)
    height = max((picture.height for picture in pictures if picture), default=_SMALLEST)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    scale = min(1.0, longest / max(columns * width, rows * height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    size = (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP)
    clear = any(picture is not None and has_alpha(picture) for picture in pictures)
    grid = Image.new("RGBA", size, _CLEAR) if clear else Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(grid)
    label = max(18, round(min(width, height) * _LABEL_SHARE))
    font = ImageFont.load_default(label)
    for index, picture in enumerate(pictures):
        x = index % columns * (width + _GAP)
        y = index // columns * (height + _GAP)
        if picture is not None:
            fitted = ImageOps.contain(picture, (width, height), Image.Resampling.LANCZOS)
            grid.paste(fitted, (x + (width - fitted.width) // 2, y + (height - fitted.height) // 2))
        box = (x, y, x + label * 3 // 2, y + label * 3 // 2)
        draw.rounded_rectangle(box, label // 3, fill=(0, 0, 0))
        centre = (x + label * 3 / 4, y + label * 3 / 4)
        draw.text(centre, str(index + first), fill=(255, 255, 255), font=font, anchor="mm")
    buffer = io.BytesIO()
    grid.save(buffer, "PNG")
    return buffer.getvalue()
