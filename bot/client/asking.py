"""Requests as people make them: composed with what holds where they ask, or made from a job."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import discord

from bot.client.accept import PictureSource, Sizes
from bot.client.bot import ImageBot
from bot.domain.job import Job
from bot.domain.request import (
    ImageRequest,
)
from bot.jobs import derive
from bot.jobs.compose import (
    Asked,
    Surroundings,
    compose,
)

STRENGTH_MIN: Final = 0.05


async def surroundings(bot: ImageBot, user_id: int, guild_id: int | None) -> Surroundings:
    """Return what holds where something is asked."""
    services = bot.services
    return Surroundings(
        model=services.model,
        user=await services.preferences.user(user_id),
        guild=await services.preferences.guild(guild_id),
        styles=await services.preferences.styles(guild_id),
        suffix=services.settings.image_prompt_suffix,
        loras=await services.loras.known(),
        offered=services.settings.models,
    )


async def compose_here(
    interaction: discord.Interaction[Any], bot: ImageBot, asked: Asked
) -> ImageRequest:
    """Return the request that was asked for by an interaction; raise `InvalidRequest`."""
    around = await surroundings(bot, interaction.user.id, interaction.guild_id)
    return compose(asked, around)


def sizes_to_choose(bot: ImageBot, asked: Asked) -> Sizes | None:
    """Return the sizes of which a picture to start from takes that of its own shape.

    None where an aspect was asked for.
    """
    return bot.services.model.sizes if asked.aspect is None else None


async def reroll(interaction: discord.Interaction[Any], bot: ImageBot, job: Job) -> None:
    """Ask for a job's picture again with a new seed."""
    await ask(interaction, bot, derive.again(job), source_of(bot, job))


async def ask(
    interaction: discord.Interaction[Any],
    bot: ImageBot,
    request: ImageRequest,
    picture: PictureSource | None,
) -> None:
    """Accept a request that was made from a job, unless its LoRAs are no longer there."""
    (await bot.services.loras.known()).require(request)
    await bot.services.intake.from_interaction(interaction, request, picture=picture)


def source_of(bot: ImageBot, job: Job) -> PictureSource | None:
    """Return what fetches the picture that a job started from, if there was one."""
    if job.request.input_image is None:
        return None
    return partial(bot.services.gallery.read_input, job)
