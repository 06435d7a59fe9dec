"""Jobs that a control or a message speaks of, who may use them, and lists of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import discord

from bot.client.bot import ImageBot
from bot.domain.ids import JOB_ID_PATTERN
from bot.domain.job import Job
from bot.errors import JobNotFound, NotAllowed
from bot.jobs.queue import CancelOutcome, JobQueue
from bot.messages.command_mentions import linked
from bot.messages.components import custom_ids
from bot.messages.queue_lines import MOST_SHOWN, describe
from bot.messages.text import message_url
from bot.words import _, mark
from storage import deliveries
from storage.database import Database
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
        raise JobNotFound(
            linked(_("I can't find this job any more. Please start again with /imagine."))
        )
    if job.deleted_at is not None:
        raise JobNotFound(_("This picture was deleted."))
    if user_id is not None and not may_see(job, user_id, channel_id):
        raise NotAllowed(_("This picture is private: only the one who asked for it can use it."))
    return job


def may_see(job: Job, user_id: int, channel_id: int | None) -> bool:
    """Tell whether a user may see a job in a channel; see `known_job`."""
    elsewhere = job.guild_id is None and (channel_id is None or job.channel_id != channel_id)
    return job.user_id == user_id or not (job.request.private or elsewhere)


def may_see_step(step: Job, job: Job, user_id: int, channel_id: int | None) -> bool:
    """Tell whether a user who sees `job` in a channel may see a step that led to it.

    One of another server was shown to that one's members, and stays its user's here.
    """
    shared = step.guild_id == job.guild_id or step.user_id == user_id
    return shared and may_see(step, user_id, channel_id)


_CONTROL: Final = re.compile(rf"\w+:(?P<job>{JOB_ID_PATTERN})(\.(?P<position>\d))?")


def job_of(message: discord.Message) -> tuple[str, int | None] | None:
    """Return which job's answer a message of this bot's shows; if one of its pictures, which.

    Under a grid stand the controls of each picture, and those of the batch.
    """
    found: list[tuple[str, int | None]] = []
    for custom_id in custom_ids(message.components):
        if match := _CONTROL.fullmatch(custom_id):
            position = match["position"]
            found.append((match["job"], None if position is None else int(position)))
    return next((one for one in found if one[1] is None), found[0] if found else None)


def own_job(message: discord.Message, bot: ImageBot) -> tuple[str, int | None] | None:
    """Return the job of a message, as `job_of` does, if the message is the bot's own."""
    own = bot.user is not None and message.author.id == bot.user.id
    return job_of(message) if own else None


async def link_of(database: Database, job: Job) -> str | None:
    """Return the address of a job's message; None where there is none that a link opens."""
    delivery = await database.read(partial(deliveries.get, job_id=job.id))
    if delivery is None or delivery.message_id is None or job.request.private:
        return None
    return message_url(job.guild_id, delivery.channel_id or job.channel_id, delivery.message_id)


async def list_open(
    queue: JobQueue,
    mine: Callable[[Unfinished], bool],
    reader_id: int,
    skip: int = 0,
    *,
    database: Database | None = None,
) -> OpenList:
    """Return the open jobs that `mine` picks, in the order in which they run, after `skip`.

    With a `database` each line has a link to the job's message.
    """
    standing = await queue.standing.now()
    picked = [entry.id for entry in standing.order if mine(entry)]
    found = [await queue.job(job_id) for job_id in picked[skip : skip + MOST_SHOWN]]
    shown = [job for job in found if job is not None]
    lines: list[str] = []
    for number, job in enumerate(shown, skip + 1):
        place, model = standing.places.get(job.id), queue.models.shown(job)
        url = None if database is None else await link_of(database, job)
        lines.append(describe(number, job, place, reader_id, model, url))
    more = len(picked) - skip - len(found)
    if more > 0:
        lines.append(_("… and {count} more").format(count=more))
    return OpenList(shown, "\n".join(lines), max(0, more), len(picked), len(standing.order))
