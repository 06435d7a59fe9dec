"""What a form of `POST /v1/images/edits` starts from: an edit by instruction, or a redraw."""

from __future__ import annotations

from typing import Final

from bot.http.context import ApiContext
from bot.http.errors import Problem
from bot.http.openai_schemas import OpenAIEdit
from bot.http.starts import Start
from bot.http.uploads import require_over
from bot.jobs.editing import editor, no_editing
from storage.input_pictures import GivenInputs

_FIRST: Final = "Send the pictures to edit as the file image, several as image[]."


def start_of(
    context: ApiContext,
    body: OpenAIEdit,
    model: str | None,
    images: list[bytes],
    mask: bytes | None,
) -> Start:
    """Return what a form starts from; raise `Problem`. Blocking.

    `model` is the name of the one that is asked for, None where any will do. It is an edit where
    that one edits, or any that is offered does; with `strength`, or a mask without such a model,
    the picture is drawn over.
    """
    if not images:
        raise Problem(422, _FIRST, param="image", code="missing_required_parameter")
    if mask is not None:
        require_over(mask, images[0])
    if body.input_fidelity == "low":
        raise Problem(
            422,
            'Pictures are always read with the input_fidelity "high": send that, or leave it out.',
            param="input_fidelity",
        )
    if body.style is not None:
        raise Problem(422, 'Edits have no "style".', param="style", code="unknown_parameter")
    spec = context.offered(model)
    edits = spec if model is not None else editor(context.models) or spec
    if body.strength is None and edits.references:
        return Start(GivenInputs(None, tuple(images), mask), mask_inverted=mask is not None)
    if body.strength is None and mask is None:
        raise Problem(
            422,
            f'{no_editing(spec, context.models)} Else send "strength" (above 0, at most 1) to draw '
            "over the picture, or a mask of what is to be drawn anew.",
            param="model",
        )
    if len(images) > 1:
        raise Problem(
            422,
            f'With "strength" one picture is drawn over; {len(images)} came.'
            if body.strength is not None
            else no_editing(spec, context.models),
            param="image",
        )
    return Start(GivenInputs(images[0], (), mask), mask_inverted=mask is not None)
