"""Requests as people make them: composed with what holds where they ask, or made from a job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import discord

from bot.catalogue.loras import Loras
from bot.catalogue.models import MODELS, ModelSpec
from bot.client.accept import PictureSource, Sizes, roles_of
from bot.client.answers import reply_privately
from bot.client.bot import ImageBot
from bot.domain.job import Job
from bot.domain.request import ImageRequest
from bot.jobs import derive
from bot.jobs.chosen_model import ModelChoice, Models
from bot.jobs.compose import Asked, Surroundings, compose, no_transparency
from bot.rules.preferences import Defaults
from bot.words import _

STRENGTH_MIN: Final = 0.05


@dataclass(frozen=True, slots=True)
class Wish:
    """A composed request.

    `model` is what its job is submitted with. Of `sizes`, if any, a picture to start from takes
    that of its own shape.
    """

    request: ImageRequest
    model: str | None = None
    sizes: Sizes | None = None


async def models_for(interaction: discord.Interaction[Any], bot: ImageBot) -> Models:
    """Return the models with what the user of an interaction may use of them there."""
    return await _models(bot, interaction.guild_id, roles_of(interaction))


async def _models(bot: ImageBot, guild_id: int | None, roles: frozenset[int]) -> Models:
    services = bot.services
    rules = await services.preferences.model_rules(guild_id)
    return Models(services.models, rules, roles | {guild_id or 0})


async def choice_for(
    interaction: discord.Interaction[Any], bot: ImageBot, text: str | None
) -> ModelChoice:
    """Return the model that `text` means, else the user's default, the server's, the configured.

    Raises `InvalidRequest` or `ModelRefused`.
    """
    models = await models_for(interaction, bot)
    return await _choice(bot, models, text, interaction.user.id, interaction.guild_id)


async def _choice(
    bot: ImageBot, models: Models, text: str | None, user_id: int, guild_id: int | None
) -> ModelChoice:
    return models.choose(text, await _defaults(bot, user_id, guild_id))


async def _defaults(bot: ImageBot, user_id: int, guild_id: int | None) -> list[Defaults]:
    preferences = bot.services.preferences
    return [await preferences.user(user_id), await preferences.guild(guild_id)]


async def loras_of(bot: ImageBot, model: ModelSpec) -> Loras:
    """Return the LoRAs that a model can have."""
    return await bot.services.loras_by_model[model.name].known()


async def surroundings(
    bot: ImageBot, model: ModelSpec, user_id: int, guild_id: int | None
) -> Surroundings:
    """Return what holds where something is asked of a model."""
    services = bot.services
    return Surroundings(
        model=model,
        user=await services.preferences.user(user_id),
        guild=await services.preferences.guild(guild_id),
        styles=await services.preferences.styles(guild_id),
        suffix=services.settings.image_prompt_suffix,
        loras=await loras_of(bot, model),
        offered=services.settings.models,
    )


async def compose_here(interaction: discord.Interaction[Any], bot: ImageBot, asked: Asked) -> Wish:
    """Return what was asked for by an interaction; raise `InvalidRequest` or `ModelRefused`."""
    choice = await choice_for(interaction, bot, asked.model)
    return await _wish(bot, asked, choice, interaction.user.id, interaction.guild_id)


async def compose_directly(bot: ImageBot, asked: Asked, user_id: int) -> Wish:
    """Return what was asked for by a direct message; raise `InvalidRequest`."""
    models = await _models(bot, None, frozenset())
    choice = await _choice(bot, models, asked.model, user_id, None)
    return await _wish(bot, asked, choice, user_id, None)


async def _wish(
    bot: ImageBot, asked: Asked, choice: ModelChoice, user_id: int, guild_id: int | None
) -> Wish:
    around = await surroundings(bot, choice.spec, user_id, guild_id)
    sizes = choice.spec.sizes if asked.aspect is None else None
    return Wish(compose(asked, around), choice.name, sizes)


async def reroll(interaction: discord.Interaction[Any], bot: ImageBot, job: Job) -> None:
    """Ask for a job's picture again with a new seed."""
    await ask(interaction, bot, job, derive.again(job), source_of(bot, job))


async def model_of(interaction: discord.Interaction[Any], bot: ImageBot, job: Job) -> ModelChoice:
    """Return the model that draws what is made from a job: its own while that is offered.

    Raises `ModelRefused`.
    """
    models = await models_for(interaction, bot)
    defaults = await _defaults(bot, interaction.user.id, interaction.guild_id)
    return models.again(job.model, defaults)


async def ask(
    interaction: discord.Interaction[Any],
    bot: ImageBot,
    job: Job,
    request: ImageRequest,
    picture: PictureSource | None,
) -> None:
    """Accept a request that was made from a job, by the job's model.

    Raises `ModelRefused`, and `InvalidRequest` where its LoRAs are no longer there. Where its model
    is no longer offered another one draws, and its user is told.
    """
    choice = await model_of(interaction, bot, job)
    gone = None if job.model in {None, choice.spec.name} else job.model
    clear = request.transparent
    if gone is not None:
        request = derive.drawn_by(request, choice.spec, MODELS.get(gone))
    (await loras_of(bot, choice.spec)).require(request)
    accepted = await bot.services.intake.from_interaction(
        interaction, request, model=choice.name, picture=picture
    )
    if accepted and gone is not None:
        sentence = _("{gone} is no longer offered; this is drawn by {model}.")
        told = [sentence.format(gone=gone, model=choice.spec.name)]
        if clear and not request.transparent:
            told.append(no_transparency(choice.spec, (await models_for(interaction, bot)).allowed))
        await reply_privately(interaction, " ".join(told))


def source_of(bot: ImageBot, job: Job) -> PictureSource | None:
    """Return what fetches the picture that a job started from, if there was one."""
    if job.request.input_image is None:
        return None
    return partial(bot.services.gallery.read_input, job)
