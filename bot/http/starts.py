"""What a request starts from: its pictures, and what of them stays or goes on."""

from __future__ import annotations

from dataclasses import dataclass

from bot.catalogue.models import ModelSpec
from bot.domain.canvas import SIDES
from bot.domain.request import ImageRequest
from bot.http.errors import Problem
from bot.http.schemas import ALL_SIDES, OUTPAINT_FACTOR, GenerateBody
from bot.http.uploads import decoded, require_over
from bot.jobs.compose import DEFAULT_STRENGTH, shaped_like
from bot.jobs.editing import sized_after
from bot.jobs.widen import Around, surrounded
from bot.pictures.headers import picture_shape
from storage.input_pictures import GivenInputs


@dataclass(frozen=True, slots=True)
class Start:
    """The files that a job starts from, what of the mask is redrawn, what is drawn around."""

    files: GivenInputs
    mask_inverted: bool = False
    around: Around | None = None


def start_of(body: GenerateBody) -> Start | None:
    """Return what a body's pictures start from; raise `Problem`. Blocking."""
    files = GivenInputs(
        None if body.image is None else decoded("image", body.image),
        tuple(decoded("references", text) for text in body.references),
        None if body.mask is None else decoded("mask", body.mask),
    )
    return checked(body, files)


def checked(body: GenerateBody, files: GivenInputs) -> Start | None:
    """Return the files where they, and what is said of them, make sense; raise `Problem`."""
    over = next(iter(files.references), files.image)
    if files.image is not None and files.references:
        raise Problem(
            422,
            "Send image, to draw over it, or references, to edit them, not both.",
            param="image",
        )
    if body.strength is not None and files.image is None:
        raise Problem(
            422, "The strength is of an image to draw over; leave it out.", param="strength"
        )
    if files.mask is None and body.mask_inverted:
        raise Problem(422, "mask_inverted is of use with a mask only.", param="mask_inverted")
    if files.mask is not None:
        if over is None:
            raise Problem(422, "A mask lies over image, or over references.", param="mask")
        require_over(files.mask, over)
    around = _around(body, files)
    if over is None:
        return None
    return Start(files, mask_inverted=body.mask_inverted, around=around)


def _around(body: GenerateBody, files: GivenInputs) -> Around | None:
    """Return on which sides the picture goes on, and how far; raise `Problem`."""
    amounts = {"outpaint_factor": body.outpaint_factor, "outpaint_pixels": body.outpaint_pixels}
    said = [name for name, value in amounts.items() if value is not None]
    if body.outpaint is None:
        if said:
            raise Problem(422, f"{said[0]} is of use with outpaint only.", param=said[0])
        return None
    if files.image is None and not files.references:
        sentence = "outpaint goes on around image, or around the first of the references."
        raise Problem(422, sentence, param="outpaint")
    others = {
        "mask": files.mask is not None,
        "strength": body.strength is not None,
        "width": body.width is not None,
        "height": body.height is not None,
    }
    if other := next((name for name, sent in others.items() if sent), None):
        raise Problem(422, f"{other} and outpaint do not go together.", param=other)
    if len(said) > 1:
        raise Problem(422, "Send outpaint_factor or outpaint_pixels, not both.", param=said[1])
    sides = SIDES if body.outpaint == ALL_SIDES else tuple(dict.fromkeys(body.outpaint.split(",")))
    factor = body.outpaint_factor
    if not said:
        factor = OUTPAINT_FACTOR
    return Around(sides, factor, body.outpaint_pixels)


def strength_of(asked: float | None, start: Start | None) -> float | None:
    """Return how far what a job starts from is drawn anew: all of what a mask marks, if not said.

    None where nothing is drawn over.
    """
    if start is None or start.files.image is None or start.around is not None:
        return None
    if asked is not None:
        return asked
    return DEFAULT_STRENGTH if start.files.mask is None else 1.0


def shaped(request: ImageRequest, start: Start, spec: ModelSpec) -> ImageRequest:
    """Return the request in a size after what it starts from. Blocking.

    Raises `InvalidRequest` where what is around it cannot be drawn.
    """
    files = start.files
    first = next(iter(files.references), files.image)
    shape = None if first is None else picture_shape(first)
    if shape is None:
        return request
    if start.around is not None:
        return surrounded(request, shape, start.around, spec)
    if files.references or files.mask is not None:
        # As near to its own ratio as can be: nothing of it is cut off.
        return sized_after(request, shape, spec, kept=files.mask is not None)
    return shaped_like(request, shape, spec.sizes)
