"""Masks: which part of a picture is redrawn. Anyone may have made the file, as with the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image, ImageChops, ImageOps

from bot.engine.child.inputs import has_alpha, unpacked, upright_size
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

# Levels that count as black and as white: JPEG leaves such shades beside an edge, and each of them
# would let a pixel change that was to stay.
_BLACK: Final = 16
_WHITE: Final = 239
_LEVELS: Final = [
    min(255, max(0, round(255 * (level - _BLACK) / (_WHITE - _BLACK)))) for level in range(256)
]
_OPAQUE: Final = 255
# How far the ratios of mask and picture may differ: sides were rounded when one was made smaller.
_TOLERANCE: Final = 0.02


def read_mask(
    path: Path, over: Path, size: tuple[int, int], *, inverted: bool = False
) -> Image.Image:
    """Return the mask at `path` (`L`, 255 is redrawn, 0 stays), cut and scaled to `size`.

    `over` is the picture that it belongs to, which `read_input` took: of another size perhaps, but
    of the same shape, so that both are cut alike. `inverted` is that of `redrawn`.

    Raises `EngineError` (`REFUSED`) for what is not a picture, is broken, has more than 50
    megapixels or another shape, and where nothing is to be redrawn.
    """
    try:
        picture = unpacked(path)
        shape = upright_size(over)
    except Exception as error:
        # Decoders raise whatever they like on a crafted file.
        raise _refused(mark("The mask is broken."), type(error).__name__) from error
    if picture is None:
        raise _refused(mark("The mask has too many pixels."), "its size")
    ratio = picture.width * shape[1] / (picture.height * shape[0])
    if abs(ratio - 1) > _TOLERANCE:
        raise _refused(
            mark("The mask has another shape than the picture; it must lie over all of it."),
            "its shape",
        )
    # The mean of what a pixel covers: other filters look beyond it, and black would not stay black.
    fitted = ImageOps.fit(redrawn(picture, inverted=inverted), size, Image.Resampling.BOX)
    levelled = fitted.point(_LEVELS)
    if levelled.getbbox() is None:
        raise _refused(
            mark("The mask marks nothing to redraw: its transparent part is what changes.")
            if inverted
            else mark("The mask marks nothing to redraw: its white part is what changes."),
            "it is empty",
        )
    return levelled


def redrawn(mask: Image.Image, *, inverted: bool = False) -> Image.Image:
    """Return what a mask says, as `L`: 255 is redrawn, 0 stays.

    Where it has transparent parts its opaque ones are redrawn, otherwise its white ones. OpenAI's
    edits say it the other way: with `inverted` the transparent parts are redrawn, and nothing else.
    """
    alpha = mask.getchannel("A") if has_alpha(mask) else None
    if inverted:
        return Image.new("L", mask.size, 0) if alpha is None else ImageChops.invert(alpha)
    # Many programs give every picture an alpha channel, whether they need it or not.
    if alpha is not None and alpha.getextrema() != (_OPAQUE, _OPAQUE):
        return alpha
    return mask.convert("RGB").convert("L")


def _refused(sentence: str, detail: str) -> EngineError:
    return EngineError(EngineErrorKind.REFUSED, f"the mask: {detail}", sentence=sentence)
