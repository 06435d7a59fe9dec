"""Input images, which jobs start from: read with care, since anyone may have made the file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from PIL import ExifTags, Image, ImageOps

from bot.engine.child.colour import eight_bits, to_srgb
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

log = logging.getLogger(__name__)

T = TypeVar("T")

PIXELS_LIMIT: Final = 50_000_000
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
# How a picture is to be turned by its Exif orientation (Exif 2.32, 4.6.4).
_TURNED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_CHANGED: Final = tuple(_TURNED[key] for key in (5, 6, 7, 8))


def read_input(path: Path, size: tuple[int, int], *, alpha: bool = False) -> Image.Image:
    """Return the picture at `path` as sRGB, upright, cut and scaled to `size` (width, height).

    Its transparency is kept with `alpha` (`RGBA`, where it has any), else laid on white (`RGB`).

    Raises `EngineError` (`REFUSED`) for what is not a picture, is broken, or would have more than
    50 megapixels once unpacked, which its header tells beforehand.
    """

    def finish(upright: Image.Image) -> Image.Image:
        # Scaled first: the rest would take a gigabyte for 50 transparent megapixels.
        picture = to_srgb(ImageOps.fit(upright, size, Image.Resampling.LANCZOS))
        return picture.convert("RGBA") if alpha and has_alpha(picture) else flattened(picture)

    return read_picture(path, finish)


def read_picture(path: Path, finish: Callable[[Image.Image], T]) -> T:
    """Return what `finish` makes of the picture at `path`, which is upright as `eight_bits` has it.

    Raises `EngineError` (`REFUSED`) as `read_input` does, and what `finish` refuses.
    """
    try:
        made = _opened(path, finish)
    except EngineError:
        raise
    except Exception as error:
        # Decoders raise whatever they like on a crafted file.
        raise refused(mark("The picture to start from is broken."), type(error).__name__) from error
    if made is None:
        raise refused(mark("The picture has too many pixels to start from."), "its size")
    return made


def _opened(path: Path, finish: Callable[[Image.Image], T]) -> T | None:
    upright = unpacked(path)
    return None if upright is None else finish(upright)


def unpacked(path: Path) -> Image.Image | None:
    """Return the picture at `path` upright, in eight bits; None where it has too many pixels.

    On a crafted file it raises whatever the decoder likes.
    """
    with warnings.catch_warnings():
        # Pillow's own guard against decompression bombs; the limit here is lower.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > PIXELS_LIMIT:
                return None
            image.load()
            return _upright(eight_bits(image))


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels of a picture that `unpacked` takes, as it is seen."""
    with Image.open(path, formats=_FORMATS) as image:
        turned = _turn(image) in _SIDES_CHANGED
        return (image.height, image.width) if turned else image.size


def _upright(image: Image.Image) -> Image.Image:
    """Return the picture as it is to be seen; one whose Exif is broken stays as it is."""
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNED.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # noqa: BLE001
        # Whatever a crafted block brings Pillow to raise: the pixels are whole.
        log.info("a picture's Exif is left out: %s", type(error).__name__)
        return None


def has_alpha(image: Image.Image) -> bool:
    """Tell whether a picture has an alpha channel."""
    return "A" in image.getbands()


def flattened(image: Image.Image) -> Image.Image:
    """Return the picture on white where it is transparent."""
    if has_alpha(image):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def cut(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the middle of a picture, of `size` (width, height); the same picture if it has it."""
    if image.size == size:
        return image
    left, top = ((have - want) // 2 for have, want in zip(image.size, size, strict=True))
    return image.crop((left, top, left + size[0], top + size[1]))


def refused(sentence: str, detail: str) -> EngineError:
    """Return an `EngineError` (`REFUSED`) with a `sentence` for whoever gave the picture."""
    return EngineError(EngineErrorKind.REFUSED, f"the input picture: {detail}", sentence=sentence)
