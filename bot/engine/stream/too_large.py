"""Refusals of what the budget has no room for: each says what would have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

if TYPE_CHECKING:
    from bot.engine.stream.budget import Work

_GIB: Final = 2**30
_SHARES: Final = tuple(share / 20 for share in range(19, 3, -1))
"""Of a side's length, from 95 down to 20 per cent."""
_SIDES: Final = 32


def too_large(
    work: Work, working: int, overhead: int, budget: int, fits: Callable[[Work], bool]
) -> EngineError:
    """Return the refusal (`OUT_OF_MEMORY`) of `work`, which needs more bytes than `budget` has.

    It needs `working` bytes for itself, and `overhead` whatever is drawn; `fits` tells whether
    other work has room. With references the sentence says how many of them have, in their order,
    or else at which size of the picture all of them do.
    """
    values = {
        "count": str(work.pictures),
        "size": f"{work.width}x{work.height}",
        "needed": f"{(working + overhead) / _GIB:.1f}",
        "budget": f"{budget / _GIB:.1f}",
    }
    sentence = mark(
        "{count} x {size} needs about {needed} GiB of GPU memory and the budget is "
        "{budget} GiB; a smaller picture fits."
    )
    if work.references:
        values["references"] = ", ".join(f"{width}x{height}" for width, height in work.references)
        sentence, fitting = _with_references(work, fits)
        values |= fitting
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
    if "fitting" in error.values:
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


def _with_references(work: Work, fits: Callable[[Work], bool]) -> tuple[str, dict[str, str]]:
    """Return the sentence for work with references, and what fits, if something does."""
    for count in range(len(work.references) - 1, 0, -1):
        if fits(replace(work, references=work.references[:count])):
            return mark(
                "{count} x {size} with reference pictures of {references} needs about "
                "{needed} GiB of GPU "
                "memory and the budget is {budget} GiB; with at most {fitting} of these pictures "
                "it fits."
            ), {"fitting": str(count)}
    for smaller in _smaller(work):
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


def _smaller(work: Work) -> Iterator[Work]:
    """Return the same work at smaller sizes of about its ratio, the largest first."""
    for share in _SHARES:
        width, height = (int(side * share) // _SIDES * _SIDES for side in (work.width, work.height))
        if width and height:
            yield replace(work, width=width, height=height)
