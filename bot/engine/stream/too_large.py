"""Refusals of what the budget has no room for: each says what would have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bot.engine.child.references import SizesOf, vae_size
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

if TYPE_CHECKING:
    from bot.engine.stream.budget import Work

_GIB: Final = 2**30
_SHARES: Final = tuple(share / 20 for share in range(19, 3, -1))
"""Of a side's length, from 95 down to 20 per cent."""
_SIDES: Final = 32
LEAST_SIDE: Final = 256
"""No request may ask for less (`SIZE_MIN` of bot/domain/request.py)."""


def too_large(
    work: Work,
    working: int,
    overhead: int,
    budget: int,
    fits: Callable[[Work], bool],
    sizes: SizesOf | None = None,
) -> EngineError:
    """Return the refusal (`OUT_OF_MEMORY`) of `work`, which needs more bytes than `budget` has.

    It needs `working` bytes for itself, and `overhead` whatever is drawn; `fits` tells whether
    other work has room. For a batch the sentence says how many pictures at once have, if any; with
    references how many of them, in their order, or else at which size of the picture all of them
    do, in the `sizes` that the model sees them in then (None: always the same).
    """
    values = {
        "count": str(work.pictures),
        "size": f"{work.width}x{work.height}",
        "needed": f"{(working + overhead) / _GIB:.1f}",
        "budget": f"{budget / _GIB:.1f}",
    }
    fewer = (count for count in range(work.pictures - 1, 0, -1))
    found = next((count for count in fewer if fits(replace(work, pictures=count))), None)
    if found is not None:
        values["fewer"] = str(found)
    if work.references:
        values["references"] = ", ".join(f"{width}x{height}" for width, height in work.references)
        sentence, fitting = _with_references(work, found, fits, sizes)
        values |= fitting
    elif found is not None:
        sentence = mark(
            "{count} x {size} needs about {needed} GiB of GPU memory and the budget is "
            "{budget} GiB; {fewer} x {size} fits."
        )
    else:
        sentence = mark(
            "{count} x {size} needs about {needed} GiB of GPU memory and the budget is "
            "{budget} GiB; a smaller picture fits."
        )
    return EngineError(
        EngineErrorKind.OUT_OF_MEMORY,
        f"budget {budget}, activations {working}, fixed {overhead}",
        sentence=sentence,
        values=values,
    )


def for_others(error: EngineError, foreign: int) -> EngineError:
    """Return the refusal of a plan with its true cause: `foreign` bytes belong to others."""
    sentence = mark(
        "{count} x {size} needs about {needed} GiB of GPU memory. Other programs hold "
        "{foreign} GiB of the card, so that {budget} GiB are left."
    )
    if "references" in error.values:
        sentence = mark(
            "{count} x {size} with reference pictures of {references} needs about {needed} "
            "GiB of GPU "
            "memory. Other programs hold {foreign} GiB of the card, so that {budget} GiB are left."
        )
    if "fewer" in error.values:
        sentence = (
            mark(
                "{count} x {size} with reference pictures of {references} needs about {needed} "
                "GiB of GPU "
                "memory. Other programs hold {foreign} GiB of the card, so that {budget} GiB are "
                "left; {fewer} x {size} fits."
            )
            if "references" in error.values
            else mark(
                "{count} x {size} needs about {needed} GiB of GPU memory. Other programs hold "
                "{foreign} GiB of the card, so that {budget} GiB are left; {fewer} x {size} fits."
            )
        )
    elif "fitting" in error.values:
        sentence = mark(
            "{count} x {size} with reference pictures of {references} needs about {needed} "
            "GiB of GPU "
            "memory. Other programs hold {foreign} GiB of the card, so that {budget} GiB are left; "
            "with at most {fitting} of these pictures it fits."
        )
    elif "smaller" in error.values:
        sentence = mark(
            "{count} x {size} with reference pictures of {references} needs about {needed} "
            "GiB of GPU "
            "memory. Other programs hold {foreign} GiB of the card, so that {budget} GiB are left; "
            "{count} x {smaller} fits."
        )
    return EngineError(
        error.kind,
        f"{error.detail}, others hold {foreign}",
        sentence=sentence,
        values={**error.values, "foreign": f"{foreign / _GIB:.1f}"},
    )


def _with_references(
    work: Work, fewer: int | None, fits: Callable[[Work], bool], sizes: SizesOf | None
) -> tuple[str, dict[str, str]]:
    """Return the sentence for work with references, and what fits, if something does.

    `fewer` pictures at once fit, unless it is None.
    """
    if fewer is not None:
        return mark(
            "{count} x {size} with reference pictures of {references} needs about "
            "{needed} GiB of GPU "
            "memory and the budget is {budget} GiB; {fewer} x {size} fits."
        ), {}
    for count in range(len(work.references) - 1, 0, -1):
        if fits(replace(work, references=work.references[:count])):
            return mark(
                "{count} x {size} with reference pictures of {references} needs about "
                "{needed} GiB of GPU "
                "memory and the budget is {budget} GiB; with at most {fitting} of these pictures "
                "it fits."
            ), {"fitting": str(count)}
    for smaller in _smaller(work, sizes):
        if fits(smaller):
            return mark(
                "{count} x {size} with reference pictures of {references} needs about "
                "{needed} GiB of GPU "
                "memory and the budget is {budget} GiB; {count} x {smaller} fits."
            ), {"smaller": f"{smaller.width}x{smaller.height}"}
    return mark(
        "{count} x {size} with reference pictures of {references} needs about {needed} GiB "
        "of GPU memory "
        "and the budget is {budget} GiB; fewer and smaller pictures fit."
    ), {}


def _smaller(work: Work, sizes: SizesOf | None) -> Iterator[Work]:
    """Return the same work at smaller sizes of about its ratio, the largest first.

    Its references follow where a model sees them in another size then.
    """
    seen = None if sizes is None else sizes(work.width, work.height)
    for share in _SHARES:
        width, height = (int(side * share) // _SIDES * _SIDES for side in (work.width, work.height))
        if min(width, height) < LEAST_SIDE:
            continue
        references = work.references
        if sizes is not None and sizes(width, height) != seen:
            now = sizes(width, height)
            references = tuple(vae_size(one, now) for one in references)
        yield replace(work, width=width, height=height, references=references)
