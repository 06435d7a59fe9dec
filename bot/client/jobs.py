"""Jobs that a control or a message speaks of, who may use them, and lists of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import discord

from bot.client.bot import ImageBot
from bot.domain.ids import JOB_ID_PATTERN
from bot.domain.job import Job
from bot.errors import JobNotFound, NotAllowed
from bot.jobs.queue import CancelOutcome, JobQueue
from bot.messages.queue_lines import MOST_SHOWN, describe
from bot.words import _, mark
from storage.jobs import Unfinished

CANCEL_SENTENCES: Final = {
    CancelOutcome.CANCELLED: mark("Cancelled."),
    CancelOutcome.CANCELLING: mark("Cancelling: it stops at the next step."),
    CancelOutcome.ALREADY_DONE: mark("This job is already done."),
}


@dataclass(frozen=True, slots=True)
class OpenList:
    """A part of the open jobs, a line on each, and how many there are."""

    jobs: list[Job]
    """Those that are shown."""
    text: str
    more: int
    """How many come after them."""
    picked: int
    everyones: int


async def known_job(
    bot: ImageBot, job_id: str, user_id: int | None = None, channel_id: int | None = None
) -> Job:
    """Return the job of a control that a user uses in a channel.

    Raises `JobNotFound` when it is gone or deleted, `NotAllowed` when it is private and not the
    user's own. Outside of servers a job is for those who share its very channel: its user alone in
    direct messages with the bot, the members of a group.
    """
    job = await bot.services.queue.job(job_id)
    if job is None:
        raise JobNotFound(_("This job is no longer known; please ask anew with /imagine."))
    if job.deleted_at is not None:
        raise JobNotFound(_("This picture was deleted."))
    elsewhere = job.guild_id is None and (channel_id is None or job.channel_id != channel_id)
    private = job.request.private or elsewhere
    if user_id is not None and private and job.user_id != user_id:
        raise NotAllowed(_("This picture is private: only the one who asked for it can use it."))
    return job


_CONTROL: Final = re.compile(rf"\w+:(?P<job>{JOB_ID_PATTERN})(\.(?P<position>\d))?")


def job_of(message: discord.Message) -> tuple[str, int | None] | None:
    """Return which job's answer a message of this bot's shows; if one of its pictures, which."""
    for row in message.components:
        for item in getattr(row, "children", ()):
            if match := _CONTROL.fullmatch(str(getattr(item, "custom_id", ""))):
                position = match["position"]
                return match["job"], None if position is None else int(position)
    return None


def own_job(message: discord.Message, bot: ImageBot) -> tuple[str, int | None] | None:
    """Return the job of a message, as `job_of` does, if the message is the bot's own."""
    own = bot.user is not None and message.author.id == bot.user.id
    return job_of(message) if own else None


async def list_open(
    queue: JobQueue, mine: Callable[[Unfinished], bool], reader_id: int, skip: int = 0
) -> OpenList:
    """Return the open jobs that `mine` picks, in the order in which they run, after `skip`."""
    standing = await queue.standing.now()
    picked = [entry.id for entry in standing.order if mine(entry)]
    found = [await queue.job(job_id) for job_id in picked[skip : skip + MOST_SHOWN]]
    shown = [job for job in found if job is not None]
    lines = [
        describe(number, job, standing.places.get(job.id), reader_id, queue.models.shown(job))
        for number, job in enumerate(shown, skip + 1)
    ]
    more = len(picked) - skip - len(found)
    if more > 0:
        lines.append(_("… and {count} more").format(count=more))
    return OpenList(shown, "\n".join(lines), max(0, more), len(picked), len(standing.order))
