"""Outpainting: the larger picture around a source, in whole squares of the model's latents."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from bot.domain.request import SIZE_MAX, SIZE_MIN, SIZE_MULTIPLE
from bot.errors import InvalidRequest
from bot.words import _

SIDES: Final = ("left", "right", "top", "bottom")
FACTOR_MAX: Final = 4.0
PIXELS_MAX: Final = SIZE_MAX
SOURCE_MIN: Final = 64
"""Pixels on a side that are to be left of the source, at least."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """A picture and the source's `place` in it (left, top, width, height), in pixels.

    All of them are multiples of what the model asks for, so that the source's edge is one of its
    latent pixels'. The source is scaled and cut to its place, as any input picture to its size; one
    whose sides are such multiples stays as it is where nothing has to shrink or grow.
    """

    width: int
    height: int
    place: tuple[int, int, int, int]


def outpainted(
    size: tuple[int, int],
    sides: Collection[str],
    *,
    factor: float | None = None,
    pixels: int | None = None,
    multiple: int = SIZE_MULTIPLE,
    smallest: int = SIZE_MIN,
    largest: int = SIZE_MAX,
) -> Canvas:
    """Return the canvas around a source of `size` (width, height) that is larger on `sides`.

    `sides` are some of `SIDES`. By `factor`, width or height grows to so much of the source's,
    shared evenly by the sides that are named of left and right, or of top and bottom; `pixels` are
    the source's own, and added on each side. A canvas with a side above `largest` is scaled down
    with the source in it, one below `smallest` up.
    Raises `InvalidRequest` with a sentence where that cannot be drawn.
    """
    wanted, added = _grown(size, sides, factor, pixels)
    scale = min(max(1.0, smallest / min(wanted)), largest / max(wanted))
    if round(scale * min(wanted), 6) < smallest:
        raise InvalidRequest(
            _(
                "The enlarged picture would be too long and narrow: its sides have to be from "
                "{low} to {high} pixels."
            ).format(low=smallest, high=largest)
        )
    if scale * min(size) < SOURCE_MIN:
        raise InvalidRequest(_("The picture itself would become too small in it: add less."))
    low, high = -(-smallest // multiple), largest // multiple
    along = [
        _squares(scale * length / multiple, [scale * one / multiple for one in grown], low, high)
        for length, grown in zip(size, added, strict=True)
    ]
    (left, width, across), (top, height, down) = along
    place = (left * multiple, top * multiple, width * multiple, height * multiple)
    return Canvas(across * multiple, down * multiple, place)


def enlarged(
    size: tuple[int, int],
    sides: Collection[str],
    *,
    factor: float | None = None,
    pixels: int | None = None,
) -> tuple[float, float]:
    """Return width and height of the canvas before it is scaled, in the source's pixels.

    Its arguments are those of `outpainted`, and it raises `InvalidRequest` for the same.
    """
    (width, height), _each = _grown(size, sides, factor, pixels)
    return width, height


def _grown(
    size: tuple[int, int], sides: Collection[str], factor: float | None, pixels: int | None
) -> tuple[list[float], list[tuple[float, float]]]:
    """Return the canvas's lengths, and what each gains at its beginning and its end."""
    _check(sides, factor, pixels)
    added = [_added(length, factor, pixels, sides, pair) for length, pair in _axes(size)]
    return [length + sum(grown) for length, grown in zip(size, added, strict=True)], added


def _axes(size: tuple[int, int]) -> tuple[tuple[int, tuple[str, str]], ...]:
    return (size[0], ("left", "right")), (size[1], ("top", "bottom"))


def _check(sides: Collection[str], factor: float | None, pixels: int | None) -> None:
    if not sides or not set(sides) <= set(SIDES):
        raise InvalidRequest(_("Name the sides to enlarge: left, right, top, bottom."))
    if (factor is None) == (pixels is None):
        raise InvalidRequest(_("Say how much to add: either a factor or pixels."))
    if factor is not None and not 1.0 < factor <= FACTOR_MAX:
        raise InvalidRequest(
            _("The factor must be above 1 and at most {high}.").format(high=f"{FACTOR_MAX:g}")
        )
    if pixels is not None and not 1 <= pixels <= PIXELS_MAX:
        raise InvalidRequest(
            _("The pixels to add must be from 1 to {high}.").format(high=f"{PIXELS_MAX:,}")
        )


def _added(
    length: int,
    factor: float | None,
    pixels: int | None,
    sides: Collection[str],
    pair: tuple[str, str],
) -> tuple[float, float]:
    """Return what is added to a length at its beginning and its end, in the source's pixels."""
    named = [side in sides for side in pair]
    each = float(pixels or 0)
    if factor is not None:
        each = length * (factor - 1) / max(1, sum(named))
    return each * named[0], each * named[1]


def _squares(length: float, added: list[float], low: int, high: int) -> tuple[int, int, int]:
    """Return what is before the source, the source and the whole, in squares; each side has one."""
    sides = sum(one > 0 for one in added)
    whole = min(max(round(length + sum(added)), low), high)
    source = min(max(round(length), 1), whole - sides) if sides else whole
    before = (whole - source) // sides if added[0] > 0 else 0
    return before, source, whole
