"""Regions by name: a side, the middle, the background."""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageChops, ImageDraw

from bot.regions.shapes import area, components, dilated, eroded, mask_of

NAMES: Final = ("left", "right", "top", "bottom", "middle", "background")
# Where each begins and ends, as shares of width and height: left, top, right, bottom.
_BOXES: Final = {
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.5, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.5, 1.0, 1.0),
    "middle": (0.25, 0.25, 0.75, 0.75),
}
_LONGEST: Final = 256
# The colours that a picture is counted in; those that make up so much of its edge are the
# background's; parts of other colours below this share of the picture are specks in it.
_COLOURS: Final = 16
_OF_EDGE: Final = 0.06
_SPECK: Final = 0.002
# Below and above these shares of the picture there is nothing to tell apart.
_LEAST, _MOST = 0.05, 0.97


def named_region(picture: Image.Image, name: str) -> Image.Image | None:
    """Return the mask (`L`, 255 is meant) of one of `NAMES` in a picture.

    None where a picture has no background that can be told from the rest. Raises `KeyError` for
    another name.
    """
    if name == "background":
        return background(picture)
    width, height = picture.size
    left, top, right, bottom = _BOXES[name]
    mask = Image.new("L", picture.size)
    box = (
        round(left * width),
        round(top * height),
        round(right * width) - 1,
        round(bottom * height) - 1,
    )
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


def background(picture: Image.Image) -> Image.Image | None:
    """Return the mask of what has the colours of the picture's edge and reaches it.

    None where that is next to nothing, or all. It looks at colours alone: what stands before
    something of its own colour is taken for background too.
    """
    small = picture.convert("RGB")
    small.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BOX)
    size = width, height = small.size
    counted = small.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    edge = Image.new("L", size, 255)
    ImageDraw.Draw(edge).rectangle((1, 1, width - 2, height - 2), fill=0)
    numbers = Image.frombytes("L", size, counted.tobytes())
    on_edge = numbers.histogram(edge)
    least = _OF_EDGE * 2 * (width + height)
    of_background = {number for number, count in enumerate(on_edge) if count >= least}
    alike = numbers.point([255 * (number in of_background) for number in range(256)])
    reaching = [part for part in components(alike, diagonal=False) if part.touches_edge(size)]
    mask = mask_of(reaching, size)
    least_part = _SPECK * width * height
    specks = [part for part in components(ImageChops.invert(mask)) if part.area < least_part]
    mask.paste(255, mask=mask_of(specks, size))
    # A subject's soft edge belongs to the subject.
    mask = dilated(eroded(mask, 2), 1)
    if not _LEAST * width * height <= area(mask) <= _MOST * width * height:
        return None
    whole = mask.resize(picture.size, Image.Resampling.BILINEAR)
    return whole.point([255 * (level > 127) for level in range(256)])  # noqa: PLR2004 - half
