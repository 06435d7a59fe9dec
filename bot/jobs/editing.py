"""Edits by instruction: which model makes them, and how large their pictures are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from bot.catalogue.models import ModelSpec
from bot.domain.request import SIZE_MIN, SIZE_MULTIPLE, ImageRequest
from bot.errors import InvalidRequest
from bot.words import _

_MULTIPLE: Final = 32
"""What sides of edits are multiples of: references are, too, and so lie pixel over pixel."""
_SUGGESTED: Final = "Qwen/Qwen-Image-Edit-2511"


def editor(models: Sequence[ModelSpec]) -> ModelSpec | None:
    """Return the first of the models that edits by instruction, None where none does."""
    return next((spec for spec in models if spec.references), None)


def require_editor(model: ModelSpec, count: int, offered: Sequence[ModelSpec]) -> None:
    """Raise `InvalidRequest` unless `model` makes edits with `count` references.

    `offered` are those that its sentence may name instead.
    """
    if not model.references:
        raise InvalidRequest(no_editing(model, offered))
    if count > model.references:
        raise InvalidRequest(
            _("{model} edits with at most {most} pictures; {count} came.").format(
                model=model.name, most=model.references, count=count
            )
        )


def no_editing(model: ModelSpec, offered: Sequence[ModelSpec]) -> str:
    """Return the sentence that `model` does not edit, and which of the `offered` does."""
    able = [spec.name for spec in offered if spec.references]
    if able:
        return _("{model} does not edit pictures by instruction; {models} can.").format(
            model=model.name, models=", ".join(able)
        )
    return _(
        "{model} does not edit pictures by instruction. Whoever runs this bot has to add a model "
        "that does to IMAGE_MODELS, such as {suggested}."
    ).format(model=model.name, suggested=_SUGGESTED)


def edit_size(shape: tuple[int, int], model: ModelSpec) -> tuple[int, int]:
    """Return the width and height of an edit for which nobody asked a size, in pixels.

    It has the ratio of `shape` (width and height of the first reference, above 0) and the area of
    the model's default size, in multiples of 32 (of 16 for a model that is part of the bot), as far
    as its sides stay within what the model draws.
    """
    multiple = SIZE_MULTIPLE if model.built_in else _MULTIPLE
    width, height = model.sizes[model.default_aspect]
    longest = min(model.largest_side, model.largest_asked)
    ratio = math.sqrt(shape[0] / shape[1])
    longer = max(ratio, 1 / ratio)
    # A long one is smaller, or larger, rather than distorted, as far as both ends allow.
    side = max(min(math.sqrt(width * height), longest / longer), SIZE_MIN * longer)
    wide, high = (
        min(longest, max(SIZE_MIN, round(exact / multiple) * multiple))
        for exact in (side * ratio, side / ratio)
    )
    return wide, high


def kept_size(shape: tuple[int, int], model: ModelSpec) -> tuple[int, int]:
    """Return width and height of an edit that leaves a part of the picture as it is, in pixels.

    A picture that the model can draw as it is keeps its size: so what stays of it stays to the
    pixel. Another one gets `edit_size`, and is scaled as a whole.
    """
    longest = min(model.largest_side, model.largest_asked)
    whole = all(SIZE_MIN <= side <= longest and not side % SIZE_MULTIPLE for side in shape)
    return shape if whole else edit_size(shape, model)


def sized_after(
    request: ImageRequest, shape: tuple[int, int], model: ModelSpec, *, kept: bool
) -> ImageRequest:
    """Return the request in the size of an edit whose first reference has this shape.

    `kept` says that a part of it stays as it is (`kept_size`).
    """
    width, height = kept_size(shape, model) if kept else edit_size(shape, model)
    return request.with_changes(width=width, height=height, aspect=None)
