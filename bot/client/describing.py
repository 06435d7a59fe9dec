"""Pictures that are to be described: what is asked of which model, and what their files say."""

from __future__ import annotations

import asyncio
from typing import Any

import discord

from bot.client.accept import Gathered
from bot.client.asking import defaults_of, models_for
from bot.client.bot import ImageBot
from bot.client.edit_sources import Source
from bot.domain.request import PROMPT_LIMIT, ImageRequest, random_seed
from bot.domain.writing import Writing
from bot.jobs.enhancing import require_writer
from bot.pictures.parameters_read import told_by_itself
from bot.words import _
from storage.input_pictures import GivenInputs


async def describe_here(
    interaction: discord.Interaction[Any],
    bot: ImageBot,
    source: Source,
    *,
    private: bool | None = None,
) -> None:
    """Accept a picture that is to be described; raise `UserError` where that is refused."""
    models = await models_for(interaction, bot)
    defaults = await defaults_of(bot, interaction.user.id, interaction.guild_id)
    chosen = models.choose(None, defaults).spec
    spec = require_writer(models.allowed, chosen, offered=models.offered)
    known = (private, *(default.private for default in defaults))
    hidden = source.job is not None and source.job.request.private
    request = ImageRequest(
        prompt=_("What is in this picture?"),
        seed=random_seed(),
        private=hidden or next((one for one in known if one is not None), False),
        parent=None if source.job is None else source.job.id,
        writes=Writing.DESCRIBE.value,
        references=("reference1",),
    )

    async def gather() -> Gathered:
        data = await source.fetch()
        said = (await asyncio.to_thread(told_by_itself, data))[:PROMPT_LIMIT]
        # Anybody can write anything into a file, which the answer would show to all.
        if await bot.services.queue.precheck.breaks_rule(interaction.guild_id, said):
            said = ""
        return Gathered(request.with_changes(parameters=said), GivenInputs(references=(data,)))

    await bot.services.intake.from_interaction(interaction, request, model=spec.name, gather=gather)
