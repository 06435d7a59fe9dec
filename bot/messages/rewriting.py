"""What is said of a prompt that was rewritten before it was drawn, or was not."""

from __future__ import annotations

from typing import Final

from bot.domain.request import ImageRequest
from bot.jobs.rewriting import Reason
from bot.messages.text import safe
from bot.words import _, mark

_WHY: Final = {
    Reason.EMPTY: mark("nothing of use was written"),
    Reason.LENGTH: mark("the rewritten prompt was longer than is of use"),
    Reason.QUOTES: mark("the rewritten prompt changed the quoted text"),
    Reason.NUMBERS: mark("the rewritten prompt lost or changed a number"),
    Reason.LANGUAGE: mark("the rewritten prompt was in another language"),
    Reason.SENSE: mark("the rewritten prompt was about something else"),
    Reason.RULES: mark("the rewritten prompt broke a rule of this server"),
    Reason.UNAVAILABLE: mark("it could not be rewritten just now"),
}
_TYPED_SHOWN: Final = 500


def why_not(request: ImageRequest) -> str:
    """Return why a prompt is drawn as it was typed, "" where it was not to be rewritten."""
    if not request.unrewritten:
        return ""
    known = {reason.value: sentence for reason, sentence in _WHY.items()}
    return _(known.get(request.unrewritten, _WHY[Reason.UNAVAILABLE]))


def rewriting_line(request: ImageRequest) -> str:
    """Return a quiet line under a picture about its prompt; "" where nothing was rewritten."""
    if request.rewritten:
        return _("-# ✨ Drawn from a rewritten prompt; Details has it")
    if request.unrewritten:
        return _("-# ✨ Drawn from your own words: {reason}").format(reason=why_not(request))
    return ""


def rewriting_details(request: ImageRequest) -> list[str]:
    """Return the lines of Details about what was typed, and what became of it."""
    if request.rewritten:
        return [_("What was typed: {text}").format(text=safe(request.prompt, _TYPED_SHOWN))]
    if request.unrewritten:
        return [_("Not rewritten: {reason}").format(reason=why_not(request))]
    return []
