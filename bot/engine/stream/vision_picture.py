"""Pictures as Qwen2.5-VL's vision tower takes them: patches of 14x14 pixels, normalised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from PIL import Image
from torch import Tensor

_MERGED: Final = 2

MOST_TOKENS: Final = 240
"""Of a picture of `vision_size`, whatever its ratio; a square one has 196."""


@dataclass(frozen=True, slots=True)
class VisionPicture:
    """A picture for the vision tower.

    `patches` [4 * tokens, 1176] are float32, the four of a token behind one another; `rows` and
    `columns` count tokens. `digest` names the content.
    """

    patches: Tensor
    rows: int
    columns: int
    digest: str

    @property
    def tokens(self) -> int:
        """How many tokens of the language model it becomes."""
        return self.rows * self.columns


@dataclass(frozen=True, slots=True)
class SeenPicture:
    """What the vision tower made of a picture.

    `states` [rows * columns, width] are rows of the language model's input, in main memory.
    """

    rows: int
    columns: int
    states: Tensor


def vision_picture(picture: Image.Image) -> VisionPicture:
    """Cut a picture (RGB), scaled to the multiple of 28 that is next to each of its sides.

    Raises `ValueError` where it is more than 200 times as long as it is wide.
    """
    made = _processor()(images=[picture], return_tensors="pt")
    _, high, wide = made["image_grid_thw"][0].tolist()
    content = hashlib.sha256(f"{picture.mode} {picture.size}".encode())
    content.update(picture.tobytes())
    return VisionPicture(
        made["pixel_values"], high // _MERGED, wide // _MERGED, content.hexdigest()
    )


@cache
def _processor() -> Any:
    """Return transformers' own; its defaults are what Qwen-Image-Edit's files say."""
    from transformers import Qwen2VLImageProcessor  # noqa: PLC0415 - slow to import

    return Qwen2VLImageProcessor()
