"""Input images, which jobs start from: read with care, since anyone may have made the file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

PIXELS_LIMIT: Final = 50_000_000
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")


def read_input(path: Path, size: tuple[int, int]) -> Image.Image:
    """Return the picture at `path` as RGB, upright, cut and scaled to `size` (width, height).

    Raises `EngineError` (`REFUSED`) for what is not a picture, is broken, or would have more than
    50 megapixels once unpacked, which its header tells beforehand.
    """
    try:
        picture = _opened(path, size)
    except Exception as error:
        # Decoders raise whatever they like on a crafted file.
        raise _refused(
            mark("The picture to start from is broken."), type(error).__name__
        ) from error
    if picture is None:
        raise _refused(mark("The picture has too many pixels to start from."), "its size")
    return picture


def _opened(path: Path, size: tuple[int, int]) -> Image.Image | None:
    with warnings.catch_warnings():
        # Pillow's own guard against decompression bombs; the limit here is lower.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > PIXELS_LIMIT:
                return None
            upright = ImageOps.exif_transpose(image)
            if upright.mode not in {"RGB", "RGBA", "L"}:
                upright = flattened(upright)
            # Scaled first: laying 50 transparent megapixels on white would take a gigabyte.
            return flattened(ImageOps.fit(upright, size, Image.Resampling.LANCZOS))


def flattened(image: Image.Image) -> Image.Image:
    """Return the picture on white where it is transparent."""
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _refused(sentence: str, detail: str) -> EngineError:
    return EngineError(EngineErrorKind.REFUSED, f"the input picture: {detail}", sentence=sentence)
