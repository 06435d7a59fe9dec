"""A job as a Discord message: embed, buttons, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import discord

from bot.delivery.fit import Upload
from bot.delivery.text import safe
from bot.jobs.feed import JobUpdate
from bot.jobs.model import Job, JobState
from bot.jobs.queue import Place

WAITING: Final = discord.Colour(0x5865F2)
DONE: Final = discord.Colour(0x3BA55D)
FAILED: Final = discord.Colour(0xED4245)
STOPPED: Final = discord.Colour(0x80848E)
_BAR_CELLS: Final = 12


@dataclass(frozen=True, slots=True)
class Button:
    """A button whose `custom_id` is `action:job id`; the cogs' dynamic items answer it."""

    action: str
    label: str
    emoji: str
    style: discord.ButtonStyle = discord.ButtonStyle.secondary


@dataclass(frozen=True, slots=True)
class Card:
    """What a message shows; files are built afresh from `uploads` for every attempt to send."""

    job_id: str
    embed: discord.Embed
    buttons: tuple[Button, ...] = ()
    uploads: tuple[Upload, ...] = field(default=(), repr=False)
    answer: bool = False
    """Whether this is the job's one answer, and not news on the way to it."""

    def view(self) -> discord.ui.View:
        """Return the buttons; stopped, so that discord.py does not keep the view in memory."""
        view = discord.ui.View(timeout=None)
        for button in self.buttons:
            view.add_item(
                discord.ui.Button[discord.ui.View](
                    style=button.style,
                    label=button.label,
                    emoji=button.emoji,
                    custom_id=f"{button.action}:{self.job_id}",
                )
            )
        view.stop()
        return view

    def custom_ids(self) -> set[str]:
        """Return the buttons' ids."""
        return {f"{button.action}:{self.job_id}" for button in self.buttons}

    def files(self) -> list[discord.File]:
        """Return new `discord.File`s: one that was sent once would upload nothing again."""
        return [upload.file() for upload in self.uploads]


CANCEL: Final = Button("cancel", "Cancel", "🛑", discord.ButtonStyle.danger)
REROLL: Final = Button("reroll", "Reroll", "🔁")
RETRY: Final = Button("reroll", "Try again", "🔁")


def _embed(job: Job, colour: discord.Colour, status: str) -> discord.Embed:
    prompt = safe(job.request.prompt)
    embed = discord.Embed(description=f"{prompt}\n\n{status}" if status else prompt, colour=colour)
    embed.set_footer(text=_footer(job))
    return embed


def _footer(job: Job) -> str:
    request = job.request
    parts = [f"{request.width}x{request.height}", f"{request.steps} steps", f"seed {request.seed}"]
    if request.count > 1:
        parts.insert(0, f"{request.count} pictures")
    if job.state is JobState.GENERATED and "total" in job.timings:
        parts.append(f"{job.timings['total']:.1f} s")
    return f"{' · '.join(parts)} · {job.id}"


def bar(done: int, total: int) -> str:
    """Return a progress bar of a fixed width with the percentage."""
    share = done / total if total else 0.0
    filled = round(share * _BAR_CELLS)
    return f"`{'▰' * filled}{'▱' * (_BAR_CELLS - filled)}` {share:.0%}"


def waiting_status(place: Place, paused: str | None) -> str:
    """Say where the job stands in the queue."""
    if place.ahead == 0:
        line = "⏳ Next: starts as soon as the graphics card is free"
    else:
        line = f"⏳ {place.ahead} {'job' if place.ahead == 1 else 'jobs'} ahead in the queue"
    if paused is not None:
        return f"{line} · ⏸️ the queue is paused: {safe(paused, 200)}"
    if place.starts_at is not None and place.ahead:
        line += f" · starts <t:{place.starts_at:.0f}:R>"
    return line


def progress_status(update: JobUpdate) -> str:
    """Say what the running job is doing."""
    if update.kind == "loading":
        share = f" {update.fraction:.0%}" if update.fraction is not None else ""
        return f"📦 Loading the model: {safe(update.stage, 300)}{share}"
    if update.kind in {"step", "preview"} and update.total:
        return f"🎨 Step {update.step} of {update.total} {bar(update.step, update.total)}"
    return "🎨 Starting"


def progress(job: Job, status: str) -> Card:
    """Return the card of a job that has not ended."""
    return Card(job.id, _embed(job, WAITING, status), (CANCEL,))


def outcome(job: Job, uploads: Sequence[Upload], *, made: int | None = None) -> Card:
    """Return the card of a job that has ended; `made` pictures were drawn, if more than shown."""
    if job.state is JobState.GENERATED and uploads:
        gone = max(0, (made or 0) - len(uploads))
        status = f"⚠️ {gone} of {made} pictures: the file is gone from the disk." if gone else ""
        embed = _embed(job, DONE, status)
        if len(uploads) == 1:
            embed.set_image(url=f"attachment://{uploads[0].name}")
        return Card(job.id, embed, (REROLL,), tuple(uploads), answer=True)
    if job.state is JobState.GENERATED:
        missing = "The picture was made, but its file is gone from the disk."
        return _without_picture(job, FAILED, f"⚠️ {missing}")
    if job.state is JobState.CANCELLED:
        reason = f": {job.error}" if job.error else ""
        return _without_picture(job, STOPPED, f"✖️ Cancelled{reason}")
    sentence = job.error or "The picture could not be made."
    return _without_picture(job, FAILED, f"⚠️ {sentence}")


def _without_picture(job: Job, colour: discord.Colour, status: str) -> Card:
    return Card(job.id, _embed(job, colour, status), (RETRY,), answer=True)


def broken(job_id: str, error_id: str) -> Card:
    """Return the answer where the proper one cannot be made; `error_id` is in the log too."""
    sentence = (
        "⚠️ Something went wrong while this was sent. `/show` may still bring it; if not, tell the "
        f"server's admins the id `{error_id}`."
    )
    embed = discord.Embed(description=sentence, colour=FAILED).set_footer(text=job_id)
    return Card(job_id, embed, (RETRY,), answer=True)


def moved(job: Job, channel_id: int | None, message_id: int | None) -> Card:
    """Return what the old message shows when the answer came by a new one; without buttons."""
    status = "➡️ Answered in a direct message"
    if channel_id == job.channel_id:
        place = f"{job.guild_id or '@me'}/{channel_id}/{message_id}"
        status = f"➡️ Answered in [a new message](https://discord.com/channels/{place})"
    return Card(job.id, _embed(job, STOPPED, status))
