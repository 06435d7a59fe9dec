"""`/imagine`: a picture from a description."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import discord
from discord import app_commands
from discord.ext import commands

from bot.client.asking import accept_wish, compose_here
from bot.client.attachments import check_attachment
from bot.client.bot import ImageBot
from bot.client.command_options import (
    ABOUT,
    ASPECTS,
    ENHANCE_CHOICES,
    QUALITIES,
    Count,
    Guidance,
    Lora,
    LoraStrength,
    Model,
    Negative,
    Seed,
    Steps,
    Strength,
    Style,
    complete_lora,
    complete_model,
    complete_style,
    leave_out_unused,
)
from bot.domain.request import PROMPT_LIMIT
from bot.errors import InvalidRequest
from bot.jobs.compose import DEFAULT_STRENGTH, Asked
from bot.words import _, mark


class Imagine(commands.Cog):
    """The main command."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot
        leave_out_unused(self.imagine, bot)

    @app_commands.command(description=mark("Draw a picture from a description."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    @app_commands.describe(
        prompt=mark("What the picture shows."),
        image=mark("A picture to start from."),
        **ABOUT,
    )
    @app_commands.choices(aspect=ASPECTS, quality=QUALITIES, enhance=ENHANCE_CHOICES)
    @app_commands.autocomplete(style=complete_style, lora=complete_lora, model=complete_model)
    async def imagine(
        self,
        interaction: discord.Interaction[ImageBot],
        prompt: app_commands.Range[str, 1, PROMPT_LIMIT],
        aspect: str | None = None,
        quality: str | None = None,
        style: Style | None = None,
        count: Count | None = None,
        image: discord.Attachment | None = None,
        strength: Strength | None = None,
        negative: Negative | None = None,
        seed: Seed | None = None,
        steps: Steps | None = None,
        guidance: Guidance | None = None,
        private: bool | None = None,
        lora: Lora | None = None,
        lora_strength: LoraStrength | None = None,
        model: Model | None = None,
        transparent: bool | None = None,
        draft: bool | None = None,
        enhance: str | None = None,
    ) -> None:
        """Accept the request; the courier brings the picture.

        The prompt is required, and first: so Discord's clients put what is typed after the
        command's name into it, and do not drop it.
        """
        asked = Asked(
            prompt,
            aspect=aspect,
            quality=quality,
            count=count,
            seed=seed,
            negative=negative,
            guidance=guidance,
            steps=steps,
            style=style,
            private=private,
            lora=lora,
            lora_strength=lora_strength,
            model=model,
            transparent=transparent,
            draft=draft is True,
            enhance=enhance,
        )
        if image is None and strength is not None:
            raise InvalidRequest(_("Add an image to use a strength."))
        fetch = None
        if image is not None:
            check_attachment(image)
            fetch = partial(self.bot.services.fetcher.fetch, image)
            asked = replace(asked, strength=DEFAULT_STRENGTH if strength is None else strength)
        wish = await compose_here(interaction, self.bot, asked)
        await accept_wish(interaction, self.bot, wish, fetch)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Imagine(bot))
