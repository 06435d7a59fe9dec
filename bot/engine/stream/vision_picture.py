"""Pictures as a vision tower takes them: in patches, normalised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from PIL import Image
from torch import Tensor

from bot.engine.stream.vision_kind import VISION25, VisionKind

_MERGED: Final = 2


@dataclass(frozen=True, slots=True)
class VisionPicture:
    """A picture for the vision tower.

    `patches` [4 * tokens, 6 * patch**2] are float32, the four of a token behind one another, each
    with two equal frames; `rows` and `columns` count tokens. `digest` names the content.
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

    `states` [rows * columns, width] are rows of the language model's input, in main memory; where
    some of its layers read more, each one's [rows * columns, width] lies beside it.
    """

    rows: int
    columns: int
    states: Tensor


def vision_picture(picture: Image.Image, kind: VisionKind = VISION25) -> VisionPicture:
    """Cut a picture (RGB), each side scaled to the next multiple of two patches.

    Raises `ValueError` where it is more than 200 times as long as it is wide.
    """
    made = _processor(kind)(images=[picture], return_tensors="pt")
    _, high, wide = made["image_grid_thw"][0].tolist()
    content = hashlib.sha256(f"{picture.mode} {picture.size}".encode())
    content.update(picture.tobytes())
    return VisionPicture(
        made["pixel_values"], high // _MERGED, wide // _MERGED, content.hexdigest()
    )


@cache
def _processor(kind: VisionKind) -> Any:
    """Return transformers' own."""
    from transformers import Qwen2VLImageProcessor  # noqa: PLC0415 - slow to import

    least, most = kind.areas
    return Qwen2VLImageProcessor(
        patch_size=kind.patch,
        image_mean=list(kind.mean),
        image_std=list(kind.deviation),
        size={"shortest_edge": least, "longest_edge": most},
    )
