"""Pictures to PNG files that carry their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo


def save_png(image: Image.Image, path: Path, texts: Mapping[str, str]) -> None:
    """Write `image` with `texts` as text chunks (iTXt where Latin-1 is not enough).

    The file appears under its name only when it is complete.
    """
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    part = path.with_name(path.name + ".part")
    image.save(part, format="PNG", pnginfo=info)
    part.replace(path)
