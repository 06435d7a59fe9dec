"""A part of a picture only, in pixels: what stays of the source is set into what was drawn.

A VAE gives no pixel back as it was. So what is outside of the mask comes from the source itself,
and within the mask's edge one becomes the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bot.engine.child.inputs import flattened, has_alpha, read_input
from bot.engine.child.masks import read_mask
from bot.engine.protocol import EngineRequest

FEATHER: Final = 8
"""Pixels from the mask's edge inwards in which the source becomes what was drawn."""
_REDRAWN: Final = 255


@dataclass(frozen=True)
class Region:
    """The `source` (`RGB` or `RGBA`) and the `mask` over it (`L`, 255 is redrawn, 0 stays)."""

    source: Image.Image
    mask: Image.Image

    @classmethod
    def read(cls, request: EngineRequest, *, alpha: bool = False) -> Region | None:
        """Return the region of a request, as large as was asked for; None: all of it is redrawn.

        With `alpha` the source keeps its transparency. Raises what `read_input` and `read_mask` do.
        """
        picture, size = request.input_image, (request.width, request.height)
        if picture is None:
            return None
        if request.mask is not None:
            source = read_input(picture, size, alpha=alpha)
            return cls(
                source, read_mask(request.mask, picture, size, inverted=request.mask_inverted)
            )
        if request.place is None:
            return None
        left, top, width, height = request.place
        return around(read_input(picture, (width, height), alpha=alpha), (left, top), size)

    def within(self, size: tuple[int, int]) -> Region:
        """Return it in the middle of a larger `size` (width, height), where `cut` takes it out.

        Nothing is scaled: the outermost pixels go on, those of the mask too. Were the mask 0 there,
        what is redrawn at a border would be half held to the source by the latents that cover both.
        """
        if self.source.size == size:
            return self
        left, top = ((new - old) // 2 for new, old in zip(size, self.source.size, strict=True))
        return Region(
            _padded(self.source, (left, top), size), _padded(self.mask, (left, top), size)
        )

    @cached_property
    def _weight(self) -> Image.Image:
        return feathered(self.mask)

    def paste(self, drawn: Image.Image) -> Image.Image:
        """Return what was drawn with the source's own pixels outside of the mask.

        They are the same to the bit, but for the alpha channel that a picture without one lacks.
        """
        opaque = not has_alpha(drawn)
        source = flattened(self.source) if opaque else self.source.convert("RGBA")
        weight = self._weight
        if opaque:
            return Image.composite(drawn, source, weight)
        # By how opaque they are: the colour of what is transparent does not shine through.
        mixed = Image.composite(drawn.convert("RGBa"), source.convert("RGBa"), weight)
        result = mixed.convert("RGBA")
        # There and back they are not the same to the bit.
        for picture, level in ((source, 0), (drawn, _REDRAWN)):
            result.paste(picture, mask=weight.point([_REDRAWN * (v == level) for v in range(256)]))
        return result


def around(source: Image.Image, corner: tuple[int, int], size: tuple[int, int]) -> Region:
    """Return the region around a source, which stands at `corner` (left, top) in `size`.

    The source's outermost pixels go on to the borders: beside nothing its edge would be encoded as
    one. All but the source is redrawn.
    """
    (left, top), (width, height) = corner, source.size
    mask = Image.new("L", size, _REDRAWN)
    mask.paste(0, (left, top, left + width, top + height))
    return Region(_padded(source, corner, size), mask)


def _padded(picture: Image.Image, corner: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """Return a picture at `corner` in `size`; its outermost pixels go on to the borders."""
    (left, top), (width, height) = corner, picture.size
    sides = ((top, size[1] - top - height), (left, size[0] - left - width), (0, 0))
    values = np.asarray(picture)
    return Image.fromarray(np.pad(values, sides[: values.ndim], mode="edge"))


def feathered(mask: Image.Image, feather: int = FEATHER) -> Image.Image:
    """Return the share of the drawn picture in each pixel: 0 outside of the mask, rising inwards.

    It is a straight line of `feather` pixels from the edge on; where the mask is less than twice as
    thick, a shorter one, so that its middle is drawn all the same. The picture's borders are none
    of the mask's.
    """
    values = np.asarray(mask, np.uint8)
    share, eroded = values, values
    total = np.zeros(values.shape, np.uint16)
    for width in range(1, feather + 1):
        total += eroded
        if width == feather or width & (width - 1) == 0:
            # The line of this width, wherever a square fits in that has its end in the middle.
            opened = eroded
            for _ in range(width - 1):
                opened = _spread(opened, np.maximum)
            share = np.where(opened > 0, total // width, share)
        eroded = _spread(eroded, np.minimum)
    return Image.fromarray(share.astype(np.uint8))


_Choose = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.uint8]]


def _spread(values: NDArray[np.uint8], choose: _Choose) -> NDArray[np.uint8]:
    """Return what `choose` takes of each pixel and its neighbours, as far as there are any."""
    rows = values.copy()
    rows[1:] = choose(rows[1:], values[:-1])
    rows[:-1] = choose(rows[:-1], values[1:])
    columns = rows.copy()
    columns[:, 1:] = choose(columns[:, 1:], rows[:, :-1])
    columns[:, :-1] = choose(columns[:, :-1], rows[:, 1:])
    return columns
