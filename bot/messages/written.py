"""The cards of what was written: a rewritten prompt to choose, a picture's description."""

from __future__ import annotations

from typing import Final

import discord

from bot.domain.job import Job
from bot.domain.writing import Writing
from bot.jobs.descriptions import read_description
from bot.messages.card import DELETE, Button, Card
from bot.messages.details import code_block
from bot.messages.rewriting import why_not
from bot.messages.text import safe, tidied
from bot.words import _, language, mark

DRAW: Final = Button("draw", mark("Draw this"), "🎨", discord.ButtonStyle.primary)
CHANGE: Final = Button("change", mark("Change"), "✏️")
OWN: Final = Button("own", mark("Draw mine"), "🙋")
IMAGINE: Final = Button("imagine", mark("Imagine this"), "🎨", discord.ButtonStyle.primary)

_COLOUR: Final = discord.Colour(0x3BA55D)
# With what escaping adds, all of it has to fit into a layout's 4,000 characters.
_REWRITTEN_SHOWN: Final = 1600
_TYPED_SHOWN: Final = 300
_PARAMETERS_SHOWN: Final = 700
_CONTENT_SHOWN: Final = 700
_PROMPT_SHOWN: Final = 400


def written(job: Job, *, model: str = "") -> Card:
    """Return the answer of a job that wrote; `model` is the name that is shown of what did."""
    if job.request.writes == Writing.ALT:
        # It has its place in a picture's message: here is what somebody finds by the job's id.
        lines, buttons = [_("**Alternative text**"), safe(job.text or "", _CONTENT_SHOWN)], ()
    elif job.request.writes == Writing.DESCRIBE:
        lines, buttons = _described(job)
    else:
        lines, buttons = _rewritten(job)
    byline = " · ".join([f"<@{job.user_id}>", *([safe(model, 100)] if model else [])])
    return Card(job.id, _COLOUR, "", "\n".join(lines), byline, buttons, answer=True)


def _rewritten(job: Job) -> tuple[list[str], tuple[Button, ...]]:
    request = job.request
    typed = _("-# You wrote: {text}").format(text=safe(request.prompt, _TYPED_SHOWN))
    if not job.text:
        why = _("✨ This prompt is better drawn as you wrote it: {reason}.")
        return [why.format(reason=why_not(request)), typed], (OWN, CHANGE)
    head = _("**✨ The prompt, rewritten**")
    return [head, safe(job.text, _REWRITTEN_SHOWN), typed], (DRAW, CHANGE, OWN)


def _described(job: Job) -> tuple[list[str], tuple[Button, ...]]:
    found = read_description(job.text or "")
    lines: list[str] = []
    if job.request.parameters:
        lines += [
            _("**What its file says of itself**"),
            code_block(tidied(job.request.parameters, _PARAMETERS_SHOWN)),
        ]
    lines += [_("**What is in the picture**"), safe(found.content, _CONTENT_SHOWN)]
    prompts = [
        (_("**A prompt in English**"), found.english),
        (_("**A prompt in Chinese**"), found.chinese),
    ]
    for head, text in sorted(prompts, key=lambda one: one[1] != found.prompt(chinese=_chinese())):
        if text and text != found.content:
            lines += [head, safe(text, _PROMPT_SHOWN)]
    return lines, (IMAGINE, DELETE)


def _chinese() -> bool:
    return language() != "en"
