"""The details of a job together with the steps that led to it, for one reader."""

from __future__ import annotations

from bot.archive.lineage import steps_before
from bot.client.bot import ImageBot
from bot.client.jobs import may_see_step
from bot.domain.job import Job
from bot.messages.details import details
from bot.messages.lineage import steps_text


async def details_for(
    bot: ImageBot, job: Job, position: int | None, user_id: int, channel_id: int | None
) -> str:
    """Return the details of a job that a user may see, in a channel, as markdown."""
    services = bot.services
    steps = await steps_before(services.database, job)
    told = steps_text([(step, may_see_step(step.job, job, user_id, channel_id)) for step in steps])
    return details(job, job.model or services.model.name, position, told)
