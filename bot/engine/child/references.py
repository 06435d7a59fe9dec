"""Pictures that an edit refers to, in the two sizes that Qwen-Image-Edit sees them in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image

from bot.engine.child.colour import to_srgb
from bot.engine.child.inputs import flattened, read_picture, refused
from bot.words import mark

_VAE_AREA: Final = 1024 * 1024
_VISION_AREA: Final = 384 * 384
_MULTIPLE: Final = 32
# Beyond it the shorter side in `_VISION_AREA` has fewer than 64 pixels, and rounding stretches
# the picture by more than a quarter.
_LONGEST_RATIO: Final = 36


class Reference(NamedTuple):
    """A picture twice, both RGB: for the VAE, and for the vision tower."""

    picture: Image.Image
    seen: Image.Image


def vae_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of about 1024x1024 pixels that a picture of `size` is encoded in."""
    return _scaled(size, _VAE_AREA)


def vision_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of about 384x384 pixels that a picture of `size` is looked at in."""
    return _scaled(size, _VISION_AREA)


def read_reference(path: Path) -> Reference:
    """Return the picture at `path` as sRGB, upright, on white where it is transparent.

    Both sizes are of the whole picture, scaled from the original, as the model was taught.

    Raises `EngineError` (`REFUSED`) as `read_input` does, and for what is more than 36 times as
    long as it is wide.
    """
    return read_picture(path, _both)


def _both(upright: Image.Image) -> Reference:
    if max(upright.size) > _LONGEST_RATIO * min(upright.size):
        raise refused(mark("The picture is too long and narrow to be edited."), "its ratio")
    sizes = vae_size(upright.size), vision_size(upright.size)
    # Scaled first: see `read_input`.
    return Reference(
        *(flattened(to_srgb(upright.resize(size, Image.Resampling.LANCZOS))) for size in sizes)
    )


def _scaled(size: tuple[int, int], area: int) -> tuple[int, int]:
    """Return the size of about `area` pixels at the ratio of `size`, in steps of 32 pixels."""
    ratio = size[0] / size[1]
    width = math.sqrt(area * ratio)
    sides = (max(1, round(side / _MULTIPLE)) * _MULTIPLE for side in (width, width / ratio))
    wide, high = sides
    return wide, high
