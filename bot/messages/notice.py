"""The notice: the short message that tells an author of an answer which an edit has brought."""

from __future__ import annotations

from bot.domain.job import Job, JobState
from bot.messages.text import message_url
from bot.words import _, ngettext


def notice(job: Job, channel_id: int | None, message_id: int | None) -> str:
    """Return the line that mentions a job's author and leads to the answer in that message."""
    url = message_url(job.guild_id, channel_id, message_id)
    if job.state is JobState.GENERATED and not job.request.writes:
        line = ngettext(
            "{user} Your picture is ready: {url}",
            "{user} Your pictures are ready: {url}",
            job.request.count,
        )
    else:
        line = _("{user} Your request has an answer: {url}")
    return line.format(user=f"<@{job.user_id}>", url=url)
