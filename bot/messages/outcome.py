"""The cards of a job, as it waits, runs or has ended: embed, buttons, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import discord

from bot.domain.job import ImageRecord, Job, JobState
from bot.messages.card import CANCEL, DELETE, DETAILS, EDIT, REROLL, RETRY, UPSCALE, VARY, Card
from bot.messages.details import own_loras
from bot.messages.text import safe
from bot.messages.upload import Upload
from bot.words import _, ngettext

WAITING: Final = discord.Colour(0x5865F2)
DONE: Final = discord.Colour(0x3BA55D)
FAILED: Final = discord.Colour(0xED4245)
STOPPED: Final = discord.Colour(0x80848E)
# A finished picture is what people look at; the whole prompt is in Details.
_FOLDED: Final = 300
_PREVIEW_NAME: Final = "preview.jpg"


def _embed(
    job: Job, colour: discord.Colour, status: str, *, limit: int = 1000, model: str = ""
) -> discord.Embed:
    parts = [safe(job.request.prompt, limit), "", status] if status else [safe(job.request.prompt)]
    embed = discord.Embed(description="\n".join(parts), colour=colour)
    embed.set_footer(text=_footer(job, model=model))
    return embed


def _footer(
    job: Job, *, size: tuple[int, int] | None = None, seed: int | None = None, model: str = ""
) -> str:
    request = job.request
    width, height = size or (request.width, request.height)
    parts = [
        f"{width}x{height}",
        ngettext("{count} step", "{count} steps", request.steps).format(count=request.steps),
        _("seed {seed}").format(seed=request.seed if seed is None else seed),
    ]
    if request.count > 1 and seed is None:
        parts.insert(0, _("{count} pictures").format(count=request.count))
    if model:
        parts.insert(0, model)
    if job.state is JobState.GENERATED and "total" in job.timings:
        parts.append(_("{seconds} s").format(seconds=f"{job.timings['total']:.1f}"))
    return f"{' · '.join(parts)} · {job.id}"


def _byline(job: Job) -> str:
    """Say who it is for (a mention in an embed pings nobody), and what it was made from."""
    parts = [f"<@{job.user_id}>"]
    if job.request.style:
        parts.append(_("style {style}").format(style=safe(job.request.style, 50)))
    parts += [
        _("LoRA {name}").format(name=safe(name, 50)) for name, _strength in own_loras(job.request)
    ]
    if job.parent_id:
        parts.append(_("made from `{job}`").format(job=job.parent_id))
    return f"-# {' · '.join(parts)}"


def progress(job: Job, status: str, preview: bytes | None = None, *, model: str = "") -> Card:
    """Return the card of a job that has not ended; `preview` is a JPEG of how far it got.

    `model` is the name that is shown of what draws it; "" shows none.
    """
    embed = _embed(job, WAITING, status, model=model)
    if preview is None:
        return Card(job.id, embed, (CANCEL,))
    embed.set_image(url=f"attachment://{_PREVIEW_NAME}")
    upload = Upload(_PREVIEW_NAME, preview, _("The unfinished picture"))
    return Card(job.id, embed, (CANCEL,), (upload,))


def outcome(
    job: Job,
    uploads: Sequence[Upload],
    *,
    made: int | None = None,
    grid: bool = False,
    hidden: str = "",
    model: str = "",
) -> Card:
    """Return the card of a job that has ended; see `progress` for `model`.

    `made` pictures were drawn, if more than shown; with `grid` the one upload shows them all.
    `hidden` says why they come behind spoilers.
    """
    if job.deleted_at is not None:
        return Card(job.id, _bare(job, STOPPED, _("🗑️ Deleted")), (RETRY,), answer=True)
    if job.state is JobState.GENERATED and uploads:
        gone = 0 if grid else max(0, (made or 0) - len(uploads))
        status = [_byline(job)]
        if gone:
            lost = _("⚠️ {gone} of {made} pictures: the file is gone from the disk.")
            status.append(lost.format(gone=gone, made=made))
        if hidden:
            status.insert(0, hidden)
            uploads = [replace(upload, spoiler=True) for upload in uploads]
        embed = _embed(job, DONE, "\n".join(status), limit=_FOLDED, model=model)
        # An embed's picture cannot be covered, a file beside it can.
        if len(uploads) == 1 and not hidden:
            embed.set_image(url=f"attachment://{uploads[0].name}")
        buttons = (REROLL, VARY, EDIT, UPSCALE, DETAILS, DELETE)
        picks = 0
        if (made or 0) > 1:
            buttons, picks = (REROLL, EDIT, DETAILS, DELETE), made or 0
        return Card(job.id, embed, buttons, tuple(uploads), answer=True, picks=picks)
    if job.state is JobState.GENERATED:
        missing = _("The picture was made, but its file is gone from the disk.")
        return _without_picture(job, FAILED, f"⚠️ {missing}", model)
    if job.state is JobState.CANCELLED:
        if not job.error:
            return _without_picture(job, STOPPED, _("✖️ Cancelled"), model)
        reason = _("✖️ Cancelled: {reason}").format(reason=_(job.error))
        return _without_picture(job, STOPPED, reason, model)
    sentence = job.error or _("The picture could not be made.")
    return _without_picture(job, FAILED, f"⚠️ {sentence}", model)


def withheld(job: Job, sentence: str) -> Card:
    """Return the answer of a job whose pictures may not be shown there."""
    buttons = (RETRY, EDIT, DETAILS, DELETE)
    return Card(job.id, _told(job, sentence), buttons, answer=True)


def elsewhere(job: Job, sentence: str) -> Card:
    """Return what a job's message shows when its pictures go to a direct message."""
    return Card(job.id, _told(job, sentence))


def kept(job: Job, sentence: str) -> Card:
    """Return what a job's message shows when no way was open and its answer waits for `/show`.

    Without the prompt, which may be what was refused.
    """
    return Card(job.id, _bare(job, STOPPED, f"{sentence}\n{_byline(job)}"))


def _told(job: Job, sentence: str) -> discord.Embed:
    # Others read it too: the line about who it is for says who "you" is.
    return _embed(job, STOPPED, f"{sentence}\n{_byline(job)}", limit=_FOLDED)


def picked(
    job: Job, image: ImageRecord, upload: Upload, *, hidden: str = "", model: str = ""
) -> Card:
    """Return the card of one picture of a batch, taken out; see `outcome` for the rest."""
    status = f"{hidden}\n{_byline(job)}" if hidden else _byline(job)
    embed = discord.Embed(
        description=f"{safe(job.request.prompt, _FOLDED)}\n\n{status}", colour=DONE
    )
    size = image.width, image.height
    embed.set_footer(text=_footer(job, size=size, seed=image.seed, model=model))
    if hidden:
        upload = replace(upload, spoiler=True)
    else:
        embed.set_image(url=f"attachment://{upload.name}")
    buttons = (VARY, UPSCALE, DETAILS)
    return Card(job.id, embed, buttons, (upload,), position=image.position)


def _bare(job: Job, colour: discord.Colour, status: str) -> discord.Embed:
    return discord.Embed(description=status, colour=colour).set_footer(text=job.id)


def _without_picture(job: Job, colour: discord.Colour, status: str, model: str) -> Card:
    embed = _embed(job, colour, status, model=model)
    return Card(job.id, embed, (RETRY, EDIT), answer=True)


def broken(job_id: str, error_id: str) -> Card:
    """Return the answer where the proper one cannot be made; `error_id` is in the log too."""
    sentence = _(
        "⚠️ Something went wrong while this was sent. `/show` may still bring it; if not, tell the "
        "server's admins the id `{error}`."
    ).format(error=error_id)
    embed = discord.Embed(description=sentence, colour=FAILED).set_footer(text=job_id)
    return Card(job_id, embed, (RETRY,), answer=True)


def moved(job: Job, channel_id: int | None, message_id: int | None) -> Card:
    """Return what the old message shows when the answer came by a new one; without buttons."""
    status = _("➡️ Answered in a direct message")
    if channel_id == job.channel_id:
        place = f"{job.guild_id or '@me'}/{channel_id}/{message_id}"
        url = f"https://discord.com/channels/{place}"
        status = _("➡️ Answered in [a new message]({url})").format(url=url)
    return Card(job.id, _embed(job, STOPPED, status))
