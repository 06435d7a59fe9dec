"""Requests for what lies around a picture: zoomed out, panned, in another shape (outpainting)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bot.catalogue.models import ModelSpec
from bot.domain.canvas import SIDES, Canvas, enlarged, outpainted
from bot.domain.job import ImageRecord, Job
from bot.domain.request import (
    SIZE_MAX,
    SIZE_MIN,
    SIZE_MULTIPLE,
    ImageRequest,
    random_seed,
)
from bot.errors import InvalidRequest
from bot.jobs.derive import request_of
from bot.jobs.editing import edit_size
from bot.words import _

ZOOMS: Final[Mapping[str, float]] = {"zoom15": 1.5, "zoom20": 2.0}
"""How many times as wide and as high a view each shows."""
SHAPES: Final[Mapping[str, str]] = {"square": "1:1", "wide": "16:9", "tall": "9:16"}
"""The aspects, among a model's sizes, that a picture is brought to."""
PANS: Final[Mapping[str, str]] = {
    "panleft": "left",
    "panright": "right",
    "panup": "top",
    "pandown": "bottom",
}
"""The side on which each goes on."""
WAYS: Final = (*ZOOMS, *SHAPES, *PANS)
PAN_FACTOR: Final = 1.5
"""How many times as wide, or as high, a picture is that goes on at one side."""
_ALIKE: Final = 1.05
"""Up to so many times its ratio a picture has a shape already: the squares of latents do less."""


@dataclass(frozen=True, slots=True)
class Around:
    """How much is drawn around a picture, as `outpainted` has it."""

    sides: tuple[str, ...]
    factor: float | None = None
    pixels: int | None = None


def widened(job: Job, picture: ImageRecord, way: str, model: ModelSpec) -> ImageRequest:
    """Return the request for what is around a picture; `way` is one of `WAYS`.

    It is about as large as the model's own pictures are, and the picture shrinks in it if it must,
    so that it takes no longer than others and can be widened again. Of a picture that an
    instruction made it is an edit, since its prompt says nothing of what it shows: the picture has
    to come as the reference then, else as the input. Raises `InvalidRequest`.
    """
    _require_around(model)
    canvas = _canvas((picture.width, picture.height), way, model)
    request = request_of(job)
    if request.references:
        sentence = _("Continue the picture beyond its edges. What is there stays as it is.")
        request = request.with_changes(prompt=sentence, rewritten="", unrewritten="", enhance=False)
    return request.without_inputs().with_changes(
        seed=random_seed(),
        count=1,
        width=canvas.width,
        height=canvas.height,
        aspect=None,
        strength=None,
        place=canvas.place,
        parent=job.id,
    )


def surrounded(
    request: ImageRequest, size: tuple[int, int], around: Around, model: ModelSpec
) -> ImageRequest:
    """Return the request for what is around a picture of `size` (width, height in pixels).

    The picture has to come as the input, or as the first reference. Raises `InvalidRequest`.
    """
    _require_around(model)
    canvas = _canvas_around(size, around, model)
    return request.with_changes(
        width=canvas.width, height=canvas.height, aspect=None, strength=None, place=canvas.place
    )


def _require_around(model: ModelSpec) -> None:
    if not model.streamed:
        raise InvalidRequest(_("{model} cannot draw around a picture.").format(model=model.name))


def _canvas_around(size: tuple[int, int], around: Around, model: ModelSpec) -> Canvas:
    """Return a canvas that is about as large as the model's own pictures are."""
    sides, factor, pixels = around.sides, around.factor, around.pixels
    width, height = enlarged(size, sides, factor=factor, pixels=pixels)
    # The shorter side has to have what models draw at least, whatever squares it falls on.
    longer = max(width / height, height / width)
    least = math.ceil(SIZE_MIN * longer / SIZE_MULTIPLE) * SIZE_MULTIPLE
    largest = min(max(*edit_size((round(width), round(height)), model), least), SIZE_MAX)
    return outpainted(size, sides, factor=factor, pixels=pixels, largest=largest)


def _canvas(size: tuple[int, int], way: str, model: ModelSpec) -> Canvas:
    if way in ZOOMS:
        return _canvas_around(size, Around(SIDES, ZOOMS[way]), model)
    if way in PANS:
        return _canvas_around(size, Around((PANS[way],), PAN_FACTOR), model)
    shape = model.sizes[SHAPES[way]]
    # How many times as wide the shape is as this picture, at the same height.
    wider = shape[0] / shape[1] / (size[0] / size[1])
    if (
        1 / _ALIKE < wider < _ALIKE
        or (way == "wide" and wider < 1)
        or (way == "tall" and wider > 1)
    ):
        raise InvalidRequest(_("This picture has that shape already."))
    sides = ("left", "right") if wider > 1 else ("top", "bottom")
    return outpainted(size, sides, factor=max(wider, 1 / wider), largest=max(shape))
