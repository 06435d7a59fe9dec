"""A drawn picture as another kind of file, with the parameters that its PNG carries."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final, Literal

from PIL import Image

from bot.pictures.grid import has_alpha
from bot.pictures.parameters_written import exif_of
from bot.pictures.texts import read_texts

# A JPEG's Exif is one segment, whose length is two bytes and counts them.
_JPEG_EXIF_LIMIT: Final = 0xFFFF - 2


def reencoded(png: bytes, kind: Literal["jpeg", "webp"], quality: int) -> bytes:
    """Return a PNG's picture as JPEG or WebP; `quality` is 0 to 100, at WebP's 100 still lossy.

    Where a JPEG has no room for both texts, it carries AUTOMATIC1111's alone; where not even for
    that, none. WebP keeps an alpha channel, in a JPEG white shows behind it. Blocking (run it in a
    thread). Raises what Pillow does for a damaged file.
    """
    with Image.open(io.BytesIO(png)) as image:
        picture = image.convert("RGBA" if has_alpha(image) else "RGB")
    if kind == "jpeg" and has_alpha(picture):
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    texts = read_texts(png).found
    options: dict[str, Any] = {"quality": quality, "exif": exif_of(texts)}
    if kind == "jpeg":
        options["exif"] = _fitting(texts)
        options["subsampling"] = 0  # Written words and thin lines keep their colours.
    buffer = io.BytesIO()
    picture.save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def _fitting(texts: Mapping[str, str]) -> bytes:
    parameters = {name: text for name, text in texts.items() if name == "parameters"}
    for found in (texts, parameters):
        if len(exif := exif_of(found)) <= _JPEG_EXIF_LIMIT:
            return exif
    return b""
