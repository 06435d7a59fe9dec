"""`/compose`: a picture asked for in a form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.catalogue.styles import find_style, offered_styles
from bot.client.asking import accept_wish, choice_for, compose_here, models_for, surroundings
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
from bot.client.compose_form import ComposeForm, Offered
from bot.client.forms import Form, FormValues, text_field, unreadable
from bot.jobs.chosen_model import ModelChoice
from bot.jobs.compose import Asked, compose
from bot.messages.discord_limits import CHOICES
from bot.words import _, mark


class EarlierForm(Form, name="new"):
    """The form of earlier versions, which may still be open: prompt and negative prompt.

    The state is the command's other options.
    """

    _TRANSPARENT: Final = "transparent|"
    _DRAFT: Final = "draft|"
    # The style last: it is the one whose name may have the separator in it.
    _NAMES: Final = (
        *("aspect", "quality", "count", "seed", "guidance", "steps", "private"),
        *("lora", "lora_strength", "style"),
    )
    _MODEL: Final = "model="

    def asked(self, prompt: str, negative: str | None) -> Asked:
        """Return what was asked, with the words that were filled in; raise `ValueError`."""
        state, model = self.state, None
        if state.startswith(self._MODEL):
            model, _bar, state = state.removeprefix(self._MODEL).partition("|")
        draft = state.startswith(self._DRAFT)
        state = state.removeprefix(self._DRAFT)
        transparent = state.startswith(self._TRANSPARENT) or None
        state = state.removeprefix(self._TRANSPARENT)
        values = dict(zip(self._NAMES, state.split("|", len(self._NAMES) - 1), strict=False))
        kinds: dict[str, Any] = {
            "count": int,
            "seed": int,
            "guidance": float,
            "steps": int,
            "lora_strength": float,
        }
        known: dict[str, Any] = {
            name: kinds.get(name, str)(value) for name, value in values.items() if value
        }
        if "private" in known:
            known["private"] = known["private"] == str(True)
        return Asked(
            prompt, negative=negative, model=model, transparent=transparent, draft=draft, **known
        )

    @override
    def title(self) -> str:
        return _("A new picture")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        return [
            text_field("prompt", _("Prompt")),
            text_field("negative", _("Negative prompt"), required=False),
        ]

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        try:
            asked = self.asked(values.texts["prompt"], values.texts.get("negative"))
        except ValueError:
            raise unreadable() from None
        await accept_wish(interaction, bot, await compose_here(interaction, bot, asked))


class Compose(commands.Cog):
    """The command that opens the form."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot
        leave_out_unused(self.compose, bot)

    @app_commands.command(description=mark("Ask for a picture in a form."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    @app_commands.describe(**ABOUT)
    @app_commands.choices(aspect=ASPECTS, quality=QUALITIES, enhance=ENHANCE_CHOICES)
    @app_commands.autocomplete(style=complete_style, lora=complete_lora, model=complete_model)
    async def compose(
        self,
        interaction: discord.Interaction[ImageBot],
        aspect: str | None = None,
        quality: str | None = None,
        style: Style | None = None,
        count: Count | None = None,
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
        """Open the form; what is given here stands in its menus, or is kept for it."""
        asked = Asked(
            "",
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
            strength=strength,
            model=model,
            transparent=transparent,
            draft=draft is True,
            enhance=enhance,
        )
        choice = await choice_for(interaction, self.bot, model)
        form = ComposeForm.about(asked, await self._offered(interaction, asked, choice))
        await form.open(interaction)

    async def _offered(
        self, interaction: discord.Interaction[ImageBot], asked: Asked, choice: ModelChoice
    ) -> Offered:
        """Return what the form offers; raise `InvalidRequest` for options that can't be drawn."""
        models = await models_for(interaction, self.bot)
        around = await surroundings(
            self.bot, models, choice.spec, interaction.user.id, interaction.guild_id
        )
        # Wrong options are told at once; a prompt stands in for the one that comes.
        compose(replace(asked, prompt="-"), around)
        usual = compose(Asked("-"), around)
        chosen = find_style(asked.style, around.styles) if asked.style else None
        first = chosen.name if chosen else usual.style
        return Offered(
            models=models.allowed if models.several else (),
            spec=choice.spec,
            styles=offered_styles(around.styles, first, CHOICES - 1),
            chosen=asked,
            usual=usual,
        )


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Compose(bot))
