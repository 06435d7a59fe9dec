"""Options of commands: what `/imagine` and `/compose` share, and what depends on the settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import discord
from discord import app_commands

from bot.catalogue.loras import STRENGTH_MAX
from bot.catalogue.models import ModelSpec
from bot.catalogue.offered import short_name
from bot.catalogue.styles import BUILT_IN
from bot.catalogue.writers import writer
from bot.client.asking import STRENGTH_MIN, choice_for, loras_of, models_for
from bot.client.bot import ImageBot
from bot.domain.request import (
    COUNT_MAX,
    GUIDANCE_MAX,
    GUIDANCE_MIN,
    PROMPT_LIMIT,
    SEED_LIMIT,
    STEPS_MAX,
)
from bot.errors import UserError
from bot.messages.discord_limits import CHOICE_LENGTH, CHOICES
from bot.messages.names import ASPECT_NAMES, ENHANCE_NAMES, QUALITY_NAMES
from bot.words import mark

ASPECTS: Final = [app_commands.Choice(name=n, value=v) for v, n in ASPECT_NAMES.items()]
QUALITIES: Final = [app_commands.Choice(name=n, value=v) for v, n in QUALITY_NAMES.items()]
ENHANCE_CHOICES: Final = [
    app_commands.Choice(name=name, value=mode) for mode, name in ENHANCE_NAMES.items()
]
"""What can become of a prompt before it is drawn."""
ABOUT: Final = {
    "aspect": mark("The picture's shape."),
    "quality": mark("More steps take longer and show finer detail."),
    "style": mark("Words that are added to the prompt."),
    "count": mark("How many pictures."),
    "strength": mark("How much to change the picture: 0.05 is hardly at all, 1 is completely."),
    "negative": mark("The negative prompt: what the picture should not show."),
    "seed": mark("The same seed and settings draw the same picture again."),
    "steps": mark("Denoising steps, instead of the quality's."),
    "guidance": mark("How closely to follow the prompt (4 is usual)."),
    "private": mark("Show the picture to you alone."),
    "lora": mark("A LoRA to add: a style or subject that the model was taught besides."),
    "lora_strength": mark("How strongly to add the LoRA (1 is usual)."),
    "model": mark("Which model draws it."),
    "transparent": mark("Leave out the background: a sticker, a logo."),
    "draft": mark("Four pictures in few steps; Finish draws one of them with all."),
    "enhance": mark("Have the prompt rewritten: shown first, or drawn at once."),
}
"""What the options are for that `/imagine` and `/compose` share."""

# The same for both, so that what one takes the other takes.
Style = app_commands.Range[str, 1, CHOICE_LENGTH]
Count = app_commands.Range[int, 1, COUNT_MAX]
Strength = app_commands.Range[float, STRENGTH_MIN, 1.0]
Negative = app_commands.Range[str, 1, PROMPT_LIMIT]
Seed = app_commands.Range[int, 0, SEED_LIMIT - 1]
Steps = app_commands.Range[int, 1, STEPS_MAX]
Guidance = app_commands.Range[float, GUIDANCE_MIN, GUIDANCE_MAX]
Lora = app_commands.Range[str, 1, CHOICE_LENGTH]
LoraStrength = app_commands.Range[float, -STRENGTH_MAX, STRENGTH_MAX]
Model = app_commands.Range[str, 1, CHOICE_LENGTH]


def leave_out(command: app_commands.Command[Any, ..., Any], option: str) -> None:
    """Register a cog's command without one of its options, whose default then always counts.

    `command` has to be of a cog's instance, not of its class: each instance has a copy.
    """
    # discord.py makes the options from the signature alone, and has no public way to hide one.
    command._params.pop(option)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def leave_out_unused(command: app_commands.Command[Any, ..., Any], bot: ImageBot) -> None:
    """Register `/imagine` or `/compose` without the options that no offered model has."""
    if len(bot.services.models) == 1:
        leave_out(command, "model")
    if not any(model.alpha for model in bot.services.settings.models):
        leave_out(command, "transparent")
    if writer(bot.services.models) is None:
        leave_out(command, "enhance")


def model_choices(models: Iterable[ModelSpec], current: str) -> list[app_commands.Choice[str]]:
    """Return the completions of an option that names one of the models."""
    wanted = "-".join(current.split()).casefold()
    return [
        app_commands.Choice(name=short_name(spec.name)[:CHOICE_LENGTH], value=spec.name)
        for spec in models
        if wanted in spec.name.casefold()
    ][:CHOICES]


async def complete_style(
    interaction: discord.Interaction[ImageBot], current: str
) -> list[app_commands.Choice[str]]:
    """Return the styles whose name has these words, a server's own first."""
    own = await interaction.client.services.preferences.styles(interaction.guild_id)
    wanted = current.strip().casefold()
    return [
        app_commands.Choice(name=style.title[:CHOICE_LENGTH], value=style.name)
        for style in (*own, *BUILT_IN)
        if wanted in style.name.casefold() or wanted in style.title.casefold()
    ][:CHOICES]


async def complete_lora(
    interaction: discord.Interaction[ImageBot], current: str
) -> list[app_commands.Choice[str]]:
    """Return the LoRAs of the model that is chosen, by the words in their names."""
    bot = interaction.client
    try:
        choice = await choice_for(interaction, bot, interaction.namespace.model)
    except UserError:  # A model that is not to be had has no LoRAs.
        return []
    loras = await loras_of(bot, choice.spec)
    return [
        app_commands.Choice(name=choice.name[:CHOICE_LENGTH], value=choice.name)
        for choice in loras.like(current)
    ][:CHOICES]


async def complete_model(
    interaction: discord.Interaction[ImageBot], current: str
) -> list[app_commands.Choice[str]]:
    """Return the models that the user may use there."""
    return model_choices((await models_for(interaction, interaction.client)).allowed, current)
