"""Pictures that an edit refers to, in the two sizes that a model sees them in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image

from bot.engine.child.colour import to_srgb
from bot.engine.child.inputs import flattened, read_picture, refused
from bot.words import mark

# Beyond it the shorter side in an area of 384x384 has fewer than 64 pixels, and rounding stretches
# the picture by more than a quarter.
_LONGEST_RATIO: Final = 36


@dataclass(frozen=True, slots=True)
class ReferenceSizes:
    """The areas that a model was taught with, in pixels, and what sides are multiples of.

    `vae_area` and `multiple` are of the picture that the VAE encodes, the others of the one that
    the vision tower looks at. With `alpha` the former keeps its transparency, and the latter is the
    same picture on white. Sides are made larger where the area would be below `least`.
    """

    vae_area: int
    vision_area: int
    multiple: int = 32
    vision_multiple: int = 32
    alpha: bool = False
    least: int = 0


SizesOf = Callable[[int, int], ReferenceSizes]
"""(width, height) of the picture that is drawn, in pixels -> those of its references."""


EDIT_SIZES: Final = ReferenceSizes(1024 * 1024, 384 * 384)
"""Qwen-Image-Edit's, as its authors resize pictures (`pipeline_qwenimage_edit_plus.py` in
diffusers)."""


def edit_sizes(_width: int, _height: int) -> ReferenceSizes:
    """Return `EDIT_SIZES`, whatever is drawn."""
    return EDIT_SIZES


TINY_SIZES: Final = ReferenceSizes(256 * 256, 224 * 224, 16, 28)
"""The toy model's: its own usual area, and what its vision tower was trained on."""


def tiny_sizes(_width: int, _height: int) -> ReferenceSizes:
    """Return `TINY_SIZES`, whatever is drawn."""
    return TINY_SIZES


def drawn_sizes(width: int, height: int) -> ReferenceSizes:
    """Return Qwen-Image-2.1's: references have the area of the picture that is drawn.

    As `QwenImage21Pipeline` has it; the vision tower's files ask for 256x256 at least.
    """
    area = width * height
    return ReferenceSizes(area, area, alpha=True, least=256 * 256)


class Reference(NamedTuple):
    """A picture twice: for the VAE (RGB, or RGBA with `alpha`), and for the vision tower (RGB)."""

    picture: Image.Image
    seen: Image.Image


def vae_size(size: tuple[int, int], sizes: ReferenceSizes = EDIT_SIZES) -> tuple[int, int]:
    """Return (width, height) in pixels that a picture of `size` is encoded in."""
    return _scaled(size, sizes.vae_area, sizes.multiple, sizes.least)


def vision_size(size: tuple[int, int], sizes: ReferenceSizes = EDIT_SIZES) -> tuple[int, int]:
    """Return (width, height) in pixels that a picture of `size` is looked at in."""
    return _scaled(size, sizes.vision_area, sizes.vision_multiple, sizes.least)


def read_reference(path: Path, sizes: ReferenceSizes = EDIT_SIZES) -> Reference:
    """Return the picture at `path` as sRGB, upright, on white where it is transparent.

    With `sizes.alpha` what the VAE gets stays transparent.

    Both sizes are of the whole picture, scaled from the original, as the model was taught.

    Raises `EngineError` (`REFUSED`) as `read_input` does, and for what is more than 36 times as
    long as it is wide.
    """
    return read_picture(path, partial(_both, sizes=sizes))


def _both(upright: Image.Image, sizes: ReferenceSizes) -> Reference:
    if max(upright.size) > _LONGEST_RATIO * min(upright.size):
        raise refused(mark("The picture is too long and narrow to be edited."), "its ratio")
    if sizes.alpha:
        size = vae_size(upright.size, sizes)
        picture = to_srgb(upright.resize(size, Image.Resampling.LANCZOS)).convert("RGBA")
        return Reference(picture, flattened(picture))
    both = vae_size(upright.size, sizes), vision_size(upright.size, sizes)
    # Scaled first: see `read_input`.
    return Reference(
        *(flattened(to_srgb(upright.resize(size, Image.Resampling.LANCZOS))) for size in both)
    )


def _scaled(size: tuple[int, int], area: int, multiple: int, least: int) -> tuple[int, int]:
    """Return the size of about `area` pixels at the ratio of `size`, in steps of `multiple`."""
    ratio = size[0] / size[1]
    width = math.sqrt(area * ratio)
    sides = (max(1, round(side / multiple)) * multiple for side in (width, width / ratio))
    wide, high = sides
    if wide * high < least:
        share = math.sqrt(least / (wide * high))
        wide, high = (math.ceil(side * share / multiple) * multiple for side in (wide, high))
    return wide, high
