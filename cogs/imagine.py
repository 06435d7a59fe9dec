"""`/imagine`: a picture from a description."""

from __future__ import annotations

import discord
from discord import app_commands
from discord.ext import commands

from bot.client import ImageBot
from bot.jobs.request import (
    COUNT_MAX,
    GUIDANCE_MAX,
    GUIDANCE_MIN,
    PROMPT_LIMIT,
    SEED_LIMIT,
    ImageRequest,
    random_seed,
)
from bot.models import ModelSpec

ASPECT_NAMES = {
    "1:1": "1:1 square",
    "7:4": "7:4 wide",
    "16:9": "16:9 widescreen",
    "9:16": "9:16 phone",
    "4:3": "4:3 landscape",
    "3:4": "3:4 portrait",
    "3:2": "3:2 photo",
    "2:3": "2:3 poster",
}
QUALITY_NAMES = {"fast": "Fast", "standard": "Standard", "high": "High"}


def build_request(
    model: ModelSpec,
    prompt: str,
    *,
    aspect: str | None = None,
    quality: str | None = None,
    count: int = 1,
    seed: int | None = None,
    negative: str | None = None,
    guidance: float | None = None,
    private: bool = False,
) -> ImageRequest:
    """Fill in what the user left out from the model's defaults; raise `InvalidRequest`."""
    aspect = aspect if aspect and aspect in model.sizes else model.default_aspect
    quality = quality if quality and quality in model.qualities else model.default_quality
    width, height = model.sizes[aspect]
    level = model.qualities[quality]
    return ImageRequest(
        prompt=prompt,
        negative_prompt=negative or "",
        width=width,
        height=height,
        steps=level.steps,
        guidance=level.guidance if guidance is None else guidance,
        seed=random_seed() if seed is None else seed,
        count=count,
        aspect=aspect,
        quality=quality,
        private=private,
    )


class Imagine(commands.Cog):
    """The main command."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description="Draw a picture from a description.")
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    @app_commands.describe(
        prompt="What the picture shows; put words to be written in it into quotes.",
        aspect="The picture's shape.",
        quality="More steps take longer and show finer detail.",
        count="How many pictures.",
        seed="The same seed and settings draw the same picture again.",
        negative="What the picture should not show.",
        guidance="How closely to follow the prompt (4 is usual).",
        private="Show the picture to you alone.",
    )
    @app_commands.choices(
        aspect=[app_commands.Choice(name=n, value=v) for v, n in ASPECT_NAMES.items()],
        quality=[app_commands.Choice(name=n, value=v) for v, n in QUALITY_NAMES.items()],
    )
    async def imagine(
        self,
        interaction: discord.Interaction[ImageBot],
        prompt: app_commands.Range[str, 1, PROMPT_LIMIT],
        aspect: str | None = None,
        quality: str | None = None,
        count: app_commands.Range[int, 1, COUNT_MAX] = 1,
        seed: app_commands.Range[int, 0, SEED_LIMIT - 1] | None = None,
        negative: app_commands.Range[str, 1, PROMPT_LIMIT] | None = None,
        guidance: app_commands.Range[float, GUIDANCE_MIN, GUIDANCE_MAX] | None = None,
        private: bool = False,
    ) -> None:
        """Accept the request; the courier brings the picture."""
        request = build_request(
            self.bot.services.model,
            prompt,
            aspect=aspect,
            quality=quality,
            count=count,
            seed=seed,
            negative=negative,
            guidance=guidance,
            private=private,
        )
        await self.bot.services.reception.from_interaction(interaction, request)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Imagine(bot))
