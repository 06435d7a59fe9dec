"""The buttons under a job's message; they work after a restart and weeks later.

A button's `custom_id` is `action:job id`, and that is all the state there is.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Any, Final, Self

import discord
from typing_extensions import override

from bot.client import ImageBot, answer_error, reply_privately
from bot.errors import InvalidRequest, JobNotFound
from bot.jobs.ids import JOB_ID_PATTERN
from bot.jobs.model import Job
from bot.jobs.queue import CancelOutcome
from bot.jobs.request import random_seed

CANCEL_SENTENCES: Final = {
    CancelOutcome.CANCELLED: "Cancelled.",
    CancelOutcome.CANCELLING: "Cancelling: it stops at the next step.",
    CancelOutcome.ALREADY_DONE: "This job is already done.",
}


async def known_job(bot: ImageBot, job_id: str) -> Job:
    """Return the job of a button; raise `JobNotFound` when its row is gone."""
    job = await bot.services.queue.job(job_id)
    if job is None:
        raise JobNotFound("This job is no longer known; please ask anew with /imagine.")
    return job


class JobButton(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"$^"):
    """A button about one job. Subclasses name their action in `template` and say what it does."""

    def __init__(self, item: discord.ui.Button[Any], job_id: str) -> None:
        super().__init__(item)
        self.job_id = job_id

    @classmethod
    @override
    async def from_custom_id(
        cls,
        interaction: discord.Interaction[Any],
        item: discord.ui.Item[Any],
        match: re.Match[str],
        /,
    ) -> Self:
        assert isinstance(item, discord.ui.Button)
        return cls(item, match["job"])

    @override
    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        # discord.py only logs what a dynamic item raises, and the user would see no answer.
        try:
            await self.pressed(interaction, interaction.client)
        except Exception as error:  # noqa: BLE001
            await answer_error(interaction, error)

    @abstractmethod
    async def pressed(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        """Do what the button is for."""
        raise NotImplementedError


class CancelButton(JobButton, template=rf"cancel:(?P<job>{JOB_ID_PATTERN})"):
    """Ends a waiting or running job of the user's own; moderators may end any of their server."""

    @override
    async def pressed(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.job_id)
        moderator = job.user_id != interaction.user.id and await bot.may_manage(interaction, job)
        outcome = await bot.services.queue.cancel(
            job.id, by=interaction.user.id, moderator=moderator
        )
        await reply_privately(interaction, CANCEL_SENTENCES[outcome])


class RerollButton(JobButton, template=rf"reroll:(?P<job>{JOB_ID_PATTERN})"):
    """Asks for the same picture with a new seed, at the presser's own cost."""

    @override
    async def pressed(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        job = await known_job(bot, self.job_id)
        if not job.readable:
            raise InvalidRequest("This request can no longer be read; please ask anew.")
        request = job.request.with_changes(seed=random_seed())
        await bot.services.reception.from_interaction(interaction, request)


async def setup(bot: ImageBot) -> None:
    """Register the buttons."""
    bot.add_dynamic_items(CancelButton, RerollButton)
