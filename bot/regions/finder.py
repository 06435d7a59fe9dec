"""What somebody drew on a copy of a picture, and which region of the picture that means.

The copy comes back as any app sends it: smaller or larger, compressed, perhaps both. What differs
from the original by more than that explains is drawn.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageChops, ImageFilter

from bot.regions.shapes import (
    Component,
    area,
    components,
    dilated,
    half_width,
    mask_of,
    surrounded,
)

LONGEST: Final = 512
"""Pixels of the longer side at which both are compared; a smaller copy is compared as it is."""
SMALLEST: Final = 48
"""Pixels on a side, below which nothing can be told."""
# How far the ratios of the copy and the original may differ: sides were rounded when it was scaled.
_TOLERANCE: Final = 0.02
# Compression is tried on the original itself, more strongly than apps compress.
_QUALITY: Final = 60
# Levels of 255 by which a channel has to differ, beyond what compression changes: so much is surely
# drawn, and so much where it touches what surely is.
_SURE, _LIKELY = 56, 24
# Drawn pixels that touch, of all: fewer are specks.
_SPECK: Final = 0.0003
_SPECK_PIXELS: Final = 8
# More than this of the picture is no mark on it: it is another picture.
_MOST: Final = 0.7
# Of the shorter side: what is thicker is a filled area, not a stroke; how far around an open stroke
# is meant; the gaps that are closed in a stroke that goes around something.
_BRUSH: Final = 0.05
AROUND: Final = 0.06
_GAPS: Final = (0.0, 0.015, 0.03, 0.06, 0.1)
# What a stroke goes around is so much larger than itself, at least.
_ENCLOSED: Final = 0.7
# Length over width, below which a mark is a blob: an area that was filled, however small.
_BLOB: Final = 3.0


# A mask: so much of it is so near to black or white, and nothing has more colour than JPEG adds.
_TWO_LEVELS, _BLACK, _GREY = 0.97, 32, 24


@dataclass(frozen=True, slots=True)
class Found:
    """A region that was found: `mask` (`L`, 255 is meant) has the original's size."""

    mask: Image.Image
    marks: int
    """How many separate marks were drawn."""
    share: float
    """How much of the picture is meant, from 0 to 1."""


def find_region(original: Image.Image, copy: Image.Image) -> Found | None:
    """Return the region that is marked on a copy of a picture; None for an unmarked copy.

    None too where it is not a copy of it at all: another shape, another picture. A closed stroke
    means what is inside, an open one its neighbourhood (`AROUND` of the shorter side), a filled
    area itself. A black and white picture of that shape is a mask: its white part is
    meant. Both pictures are upright; transparent parts count as white.
    """
    if not _same_shape(original.size, copy.size):
        return None
    size = _working_size(original.size, copy.size)
    if min(size) < SMALLEST:
        return None
    ours, theirs = _fitted(original, size), _fitted(copy, size)
    if _is_mask(theirs) and not _is_mask(ours):
        return _masked(theirs, original.size)
    drawn = _drawn(ours, theirs)
    if area(drawn) > _MOST * size[0] * size[1]:
        return None
    marks = _marks(drawn)
    if not marks:
        return None
    meant = _meaning(marks, size)
    share = area(meant) / (size[0] * size[1])
    mask = meant.resize(original.size, Image.Resampling.BILINEAR)
    return Found(mask.point(_HALF), len(marks), share)


def _is_mask(picture: Image.Image) -> bool:
    """Tell whether a picture is all but black and white, and both of them."""
    grey = picture.convert("L").convert("RGB")
    if any(_loudest(ImageChops.difference(picture, grey)).histogram()[_GREY:]):
        return False
    levels = picture.convert("L").histogram()
    black, white = sum(levels[:_BLACK]), sum(levels[-_BLACK:])
    pixels = picture.width * picture.height
    return min(black, white) > 0 and black + white >= _TWO_LEVELS * pixels


def _masked(mask: Image.Image, size: tuple[int, int]) -> Found:
    whole = mask.convert("L").resize(size, Image.Resampling.BILINEAR).point(_HALF)
    return Found(whole, len(components(whole)), area(whole) / (size[0] * size[1]))


_HALF: Final = [255 * (level > 127) for level in range(256)]  # noqa: PLR2004 - half of 255
_SURELY: Final = [255 * (level > _SURE) for level in range(256)]
_LIKELY_SO: Final = [255 * (level > _LIKELY) for level in range(256)]


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    # A pixel of rounding weighs more the smaller a copy is.
    slack = _TOLERANCE + 1 / min(*one, *other)
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= slack


def _working_size(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    width, height = min(one, other)
    scale = min(1.0, LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.mode != "RGB":
        clear = picture.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        picture = Image.alpha_composite(white, clear).convert("RGB")
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def _drawn(original: Image.Image, copy: Image.Image) -> Image.Image:
    """Return the mask of what differs by more than scaling and compression explain."""
    # Scaling by another filter moves an edge by a pixel: the levels around count as well.
    lows = original.filter(ImageFilter.MinFilter(3))
    highs = original.filter(ImageFilter.MaxFilter(3))
    beyond = _beyond(copy, lows, highs)
    buffer = io.BytesIO()
    original.save(buffer, "JPEG", quality=_QUALITY)
    with Image.open(buffer) as compressed:
        noise = _loudest(ImageChops.difference(compressed.convert("RGB"), original))
    # The blocks of a scaled copy lie elsewhere: its noise may be a few pixels off.
    differing = ImageChops.subtract(beyond, noise.filter(ImageFilter.MaxFilter(5)))
    likely = differing.point(_LIKELY_SO)
    sure = differing.point(_SURELY)
    kept = [part for part in components(likely) if _has_any(part, sure)]
    return mask_of(kept, original.size)


def _beyond(copy: Image.Image, lows: Image.Image, highs: Image.Image) -> Image.Image:
    over = ImageChops.subtract(copy, highs)
    under = ImageChops.subtract(lows, copy)
    return _loudest(ImageChops.lighter(over, under))


def _loudest(picture: Image.Image) -> Image.Image:
    red, green, blue = picture.split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


def _has_any(part: Component, sure: Image.Image) -> bool:
    least = max(_SPECK_PIXELS, _SPECK * sure.width * sure.height)
    if part.area < least:
        return False
    inside = ImageChops.darker(mask_of([part], sure.size), sure)
    return area(inside) >= least / 2


def _marks(drawn: Image.Image) -> list[Image.Image]:
    """Return each mark by itself: what is closer together than a pen's gaps is one."""
    near = max(1, round(min(drawn.size) * _GAPS[1]))
    return [
        ImageChops.darker(mask_of([part], drawn.size), drawn)
        for part in components(dilated(drawn, near))
    ]


def _meaning(marks: list[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Return the region that all marks together mean."""
    meant, loose = Image.new("L", size), list[Image.Image]()
    for mark in marks:
        whole = _whole(mark)
        if whole is None:
            loose.append(mark)
        else:
            meant = ImageChops.lighter(meant, whole)
    if loose:
        together = loose[0]
        for mark in loose[1:]:
            together = ImageChops.lighter(together, mark)
        # A stroke that was lost here and there still goes around something.
        whole = _enclosed(together) if len(loose) > 1 else None
        if whole is None:
            whole = dilated(together, max(2, int(min(size) * AROUND)))
        meant = ImageChops.lighter(meant, whole)
    return meant


def _whole(mark: Image.Image) -> Image.Image | None:
    """Return the area that a mark fills or goes around; None for an open stroke."""
    own, thick = area(mark), half_width(mark)
    length = own / (2 * thick)
    if thick > min(mark.size) * _BRUSH or length < _BLOB * 2 * thick:
        # Hatching and the seams of a brush are filled.
        return _surrounded(mark, _GAPS[1])
    return _enclosed(mark)


def _enclosed(mark: Image.Image) -> Image.Image | None:
    own = area(mark)
    for gap in _GAPS:
        whole = _surrounded(mark, gap)
        # Letters, crossings and sharp bends have small holes too.
        if area(whole) - own > own * (_ENCLOSED if gap else _ENCLOSED / 2):
            return whole
    return None


def _surrounded(mark: Image.Image, gap: float) -> Image.Image:
    """Do as `surrounded` with a gap that is a share of the shorter side."""
    radius = round(min(mark.size) * gap)
    left, top, right, bottom = mark.getbbox() or (0, 0, *mark.size)
    # The rest of the picture takes time and changes nothing.
    edge = radius + 1
    box = (
        max(0, left - edge),
        max(0, top - edge),
        min(mark.width, right + edge),
        min(mark.height, bottom + edge),
    )
    whole = Image.new("L", mark.size)
    whole.paste(surrounded(mark.crop(box), radius), box)
    return whole
