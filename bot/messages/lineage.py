"""The steps that led to a picture, as Details shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.archive.lineage import StepBefore
from bot.messages.text import safe
from bot.words import _

_PROMPT_SHOWN: Final = 60


def steps_text(steps: Sequence[tuple[StepBefore, bool]]) -> str:
    """Return the steps as lines with links, the nearest last; "" where there are none.

    They come the nearest first, each with whether the reader may see it: of another's private
    picture nothing is told.
    """
    if not steps:
        return ""
    lines, hidden = [_("Made step by step:")], _("a private picture")
    for number, (step, seen) in enumerate(reversed(steps), 1):
        lines.append(f"{number}. {_step(step) if seen else hidden}")
    return "\n".join(lines)


def _step(step: StepBefore) -> str:
    if step.job.deleted_at is not None:
        return _("a deleted picture")
    prompt = " ".join(safe(step.job.request.prompt, _PROMPT_SHOWN).split())
    # What one alone was shown has no address.
    if step.message_id is None or step.channel_id is None or step.job.request.private:
        return f"{prompt} · `{step.job.id}`"
    place = f"{step.job.guild_id or '@me'}/{step.channel_id}/{step.message_id}"
    link = _("[the message]({url})").format(url=f"https://discord.com/channels/{place}")
    return f"{prompt} · {link}"
