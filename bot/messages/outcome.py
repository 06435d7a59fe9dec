"""The cards of a job, as it waits, runs or has ended: words, pictures, buttons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import discord

from bot.domain.job import ImageRecord, Job, JobState
from bot.jobs.derive import Offers, made_by
from bot.messages.card import (
    CANCEL,
    DELETE,
    DETAILS,
    EDIT,
    FINISH,
    REMIX,
    REMOVE,
    REROLL,
    RETRY,
    UPSCALE,
    VARY,
    Button,
    Card,
)
from bot.messages.command_mentions import linked
from bot.messages.details import own_loras
from bot.messages.more import more_of
from bot.messages.names import MADE_BY
from bot.messages.rewriting import rewriting_line
from bot.messages.text import message_url, safe
from bot.messages.upload import Upload
from bot.words import _

WAITING: Final = discord.Colour(0x5865F2)
DONE: Final = discord.Colour(0x3BA55D)
FAILED: Final = discord.Colour(0xED4245)
STOPPED: Final = discord.Colour(0x80848E)
# A finished picture is what people look at; the whole prompt is in Details.
_FOLDED: Final = 300
_PLAIN: Final = Offers()
_PREVIEW_NAME: Final = "preview.jpg"


def _byline(job: Job, *, image: ImageRecord | None = None, model: str = "") -> str:
    """Say for whom it is, and what it is: of a job, or of one picture of its batch.

    Seed, steps and ids are in Details. The engine counts the time of a batch as a whole, whose
    pictures go through each step together: one has its share of it.
    """
    request = job.request
    if request.writes:
        return " · ".join([f"<@{job.user_id}>", *([safe(model, 100)] if model else [])])
    width, height = (image.width, image.height) if image else (request.width, request.height)
    parts = [f"<@{job.user_id}>"]
    if image and request.count > 1:
        of = _("{number} of {count}")
        parts.append(of.format(number=image.position + 1, count=request.count))
    elif request.count > 1:
        parts.append(_("{count} pictures").format(count=request.count))
    if made := made_by(request):
        parts.append(_(MADE_BY[made]))
    if job.readable:
        parts.append(f"{width}x{height}")
    if request.style:
        parts.append(_("style {style}").format(style=safe(request.style, 50)))
    parts += [
        _("LoRA {name}").format(name=safe(name, 50)) for name, _strength in own_loras(request)
    ]
    if model:
        parts.append(safe(model, 100))
    if job.state is JobState.GENERATED and "total" in job.timings:
        seconds = job.timings["total"] / (request.count if image else 1)
        parts.append(_("{seconds} s").format(seconds=f"{seconds:.1f}"))
    return " · ".join(parts)


def progress(job: Job, status: str, preview: bytes | None = None, *, model: str = "") -> Card:
    """Return the card of a job that has not ended; `preview` is a JPEG of how far it got.

    `model` is the name that is shown of what draws it; "" shows none.
    """
    card = _card(job, WAITING, status, model=model, buttons=(CANCEL,))
    if preview is None:
        return card
    return replace(card, uploads=(Upload(_PREVIEW_NAME, preview, _("The unfinished picture")),))


def _card(
    job: Job,
    colour: discord.Colour,
    status: str,
    *,
    limit: int = 1000,
    model: str = "",
    buttons: tuple[Button, ...] = (),
) -> Card:
    """Return a card with at most `limit` characters of the prompt."""
    prompt, byline = safe(job.request.prompt, limit), _byline(job, model=model)
    return Card(job.id, colour, status, prompt, byline, buttons)


def outcome(
    job: Job,
    uploads: Sequence[Upload],
    *,
    made: int | None = None,
    hidden: str = "",
    model: str = "",
    offers: Offers = _PLAIN,
) -> Card:
    """Return the card of a job that has ended; see `progress` for `model`.

    `made` pictures were drawn, if more than shown. `hidden` says why they come behind spoilers,
    `offers` what the pictures can become.
    """
    if job.deleted_at is not None:
        return Card(job.id, STOPPED, _("🗑️ Deleted"), buttons=(RETRY,), answer=True)
    if job.state is JobState.GENERATED and uploads:
        count = made or 0
        gone = max(0, count - len(uploads))
        status = [line for line in (hidden, rewriting_line(job.request)) if line]
        if gone:
            lost = _("⚠️ {gone} of {made} pictures: the file is gone from the disk.")
            status.append(lost.format(gone=gone, made=made))
        card = replace(
            _card(job, DONE, "\n".join(status), limit=_FOLDED, model=model),
            uploads=tuple(replace(upload, spoiler=bool(hidden)) for upload in uploads),
            answer=True,
            more=more_of(job, single=count <= 1),
        )
        if count > 1:
            rows = _grid_rows(count, offers)
            return replace(card, buttons=(REROLL, REMIX, DETAILS, DELETE), rows=rows)
        buttons = (EDIT, REROLL, VARY, REMIX, *_becoming(offers), DETAILS, DELETE)
        return replace(card, buttons=buttons)
    if job.state is JobState.GENERATED:
        missing = _("The picture was made, but its file is gone from the disk.")
        return _without_picture(job, FAILED, f"⚠️ {missing}", model)
    if job.state is JobState.CANCELLED:
        if not job.error:
            return _without_picture(job, STOPPED, _("✖️ Cancelled"), model)
        reason = _("✖️ Cancelled: {reason}").format(reason=_(job.error))
        return _without_picture(job, STOPPED, reason, model)
    failed = _("The text could not be written.") if job.request.writes else None
    sentence = job.error or failed or _("The picture could not be made.")
    return _without_picture(job, FAILED, f"⚠️ {sentence}", model)


def withheld(job: Job, sentence: str) -> Card:
    """Return the answer of a job whose pictures may not be shown there."""
    card = _card(job, STOPPED, sentence, limit=_FOLDED, buttons=(RETRY, REMIX, DETAILS, DELETE))
    return replace(card, answer=True)


def elsewhere(job: Job, sentence: str) -> Card:
    """Return what a job's message shows when its pictures go to a direct message."""
    # Others read it too: the line about who it is for says who "you" is.
    return _card(job, STOPPED, sentence, limit=_FOLDED)


def kept(job: Job, sentence: str) -> Card:
    """Return what a job's message shows when no way was open and its answer waits for `/show`.

    Without the prompt, which may be what was refused.
    """
    return Card(job.id, STOPPED, sentence, byline=_byline(job))


def _becoming(offers: Offers) -> list[Button]:
    return [FINISH] * offers.finish + [UPSCALE] * offers.upscale


def _grid_rows(count: int, offers: Offers) -> tuple[tuple[Button, ...], ...]:
    """Return a row a deed, each with a button a picture: enlarge or finish, vary, take out.

    Their short labels are Midjourney's, so that four fit into a phone's width.
    """
    rows = [("vary", "V{number}", None), ("pick", "{number}", "🖼️")]
    if offers.finish:
        # Whoever drew drafts wants one of them well before wanting it large.
        rows.insert(0, ("finish", "{number}", "✨"))
    elif offers.upscale:
        rows.insert(0, ("upscale", "U{number}", None))
    return tuple(
        tuple(
            Button(action, label.format(number=position + 1), emoji, position=position)
            for position in range(count)
        )
        for action, label, emoji in rows
    )


def picked(
    job: Job,
    image: ImageRecord,
    upload: Upload,
    *,
    hidden: str = "",
    model: str = "",
    offers: Offers = _PLAIN,
) -> Card:
    """Return the card of one picture of a batch, taken out; see `outcome` for the rest."""
    return Card(
        job.id,
        DONE,
        hidden,
        safe(job.request.prompt, _FOLDED),
        _byline(job, image=image, model=model),
        (EDIT, REROLL, VARY, REMIX, *_becoming(offers), DETAILS, REMOVE),
        (replace(upload, spoiler=bool(hidden)),),
        position=image.position,
        more=more_of(job, single=True),
    )


def _without_picture(job: Job, colour: discord.Colour, status: str, model: str) -> Card:
    buttons = (RETRY,) if job.request.writes else (RETRY, REMIX)
    card = _card(job, colour, status, model=model, buttons=buttons)
    return replace(card, answer=True)


def broken(job_id: str, error_id: str) -> Card:
    """Return the answer where the proper one cannot be made; `error_id` is in the log too."""
    sentence = _(
        "⚠️ Something went wrong while this was sent. `/show` may still bring it; if not, tell the "
        "server's admins the id `{error}`."
    )
    sentence = linked(sentence).format(error=error_id)
    return Card(job_id, FAILED, sentence, buttons=(RETRY,), answer=True)


def moved(job: Job, channel_id: int | None, message_id: int | None) -> Card:
    """Return what the old message shows when the answer came by a new one; without buttons."""
    status = _("➡️ Answered in a direct message")
    if channel_id == job.channel_id:
        url = message_url(job.guild_id, channel_id, message_id)
        status = _("➡️ Answered in [a new message]({url})").format(url=url)
    return _card(job, STOPPED, status)
