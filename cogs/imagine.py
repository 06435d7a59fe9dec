"""`/imagine`: a picture from a description; `/compose`: the same, written in a form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.catalogue.loras import STRENGTH_MAX
from bot.catalogue.offered import short_name
from bot.catalogue.styles import BUILT_IN
from bot.client.asking import (
    STRENGTH_MIN,
    choice_for,
    compose_here,
    loras_of,
    models_for,
    surroundings,
)
from bot.client.attachments import check_attachment
from bot.client.bot import ImageBot
from bot.client.command_options import leave_out, model_choices
from bot.client.forms import Form, FormValues, text_field
from bot.domain.request import (
    COUNT_MAX,
    GUIDANCE_MAX,
    GUIDANCE_MIN,
    PROMPT_LIMIT,
    SEED_LIMIT,
    STEPS_MAX,
)
from bot.errors import InvalidRequest, UserError
from bot.jobs.compose import (
    DEFAULT_STRENGTH,
    Asked,
    chosen_lora,
    default_negative,
    no_transparency,
)
from bot.messages.discord_limits import CHOICE_LENGTH, CHOICES
from bot.messages.names import ASPECT_NAMES, QUALITY_NAMES
from bot.words import _, mark


class PromptForm(Form, name="new"):
    """A new prompt, of many lines if need be. The state is the command's other options."""

    # Before the others in the state, which begins with an aspect: forms that were opened by an
    # earlier version know nothing of it.
    _TRANSPARENT: Final = "transparent|"
    # The style last: it is the one whose name may have the separator in it.
    _NAMES: Final = (
        *("aspect", "quality", "count", "seed", "guidance", "steps", "private"),
        *("lora", "lora_strength", "style"),
    )
    _MODEL: Final = "model="

    def __init__(self, state: str = "", negative: str = "") -> None:
        super().__init__(state)
        self._negative = negative

    @classmethod
    def about(cls, asked: Asked) -> PromptForm:
        """Return a form that remembers what was asked."""
        values = [getattr(asked, name) for name in cls._NAMES]
        state = "|".join("" if value is None else str(value) for value in values)
        # Before the rest, which forms of earlier versions have alone.
        model = f"{cls._MODEL}{asked.model}|" if asked.model else ""
        clear = cls._TRANSPARENT if asked.transparent else ""
        return cls(f"{model}{clear}{state}", asked.negative or "")

    def asked(self, prompt: str, negative: str | None) -> Asked:
        """Return what was asked, with the words that were filled in."""
        state, model = self.state, None
        if state.startswith(self._MODEL):
            model, _bar, state = state.removeprefix(self._MODEL).partition("|")
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
        return Asked(prompt, negative=negative, model=model, transparent=transparent, **known)

    @override
    def title(self) -> str:
        return _("A new picture")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        about = _("Put words that are to be written in the picture into quotes.")
        return [
            text_field("prompt", _("Prompt"), about=about),
            text_field("negative", _("What it should not show"), self._negative, required=False),
        ]

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        try:
            asked = self.asked(values.texts["prompt"], values.texts.get("negative"))
        except ValueError:
            raise InvalidRequest(
                _("This form can no longer be read; please open it anew.")
            ) from None
        wish = await compose_here(interaction, bot, asked)
        await bot.services.intake.from_interaction(interaction, wish.request, model=wish.model)


_ASPECTS: Final = [app_commands.Choice(name=n, value=v) for v, n in ASPECT_NAMES.items()]
_QUALITIES: Final = [app_commands.Choice(name=n, value=v) for v, n in QUALITY_NAMES.items()]
_ABOUT: Final = {
    "aspect": mark("The picture's shape."),
    "quality": mark("More steps take longer and show finer detail."),
    "style": mark("Words that are added to the prompt."),
    "count": mark("How many pictures."),
    "seed": mark("The same seed and settings draw the same picture again."),
    "steps": mark("Denoising steps, instead of the quality's."),
    "guidance": mark("How closely to follow the prompt (4 is usual)."),
    "private": mark("Show the picture to you alone."),
    "lora": mark("A LoRA to add: a style or subject that the model was taught besides."),
    "lora_strength": mark("How strongly to add the LoRA (1 is usual)."),
    "model": mark("Which model draws it."),
    "transparent": mark("Leave out the background: a sticker, a logo."),
}
"""What the options are for that `/imagine` and `/compose` share."""

# The same for both, so that what one takes the other takes.
Style = app_commands.Range[str, 1, CHOICE_LENGTH]
Count = app_commands.Range[int, 1, COUNT_MAX]
Seed = app_commands.Range[int, 0, SEED_LIMIT - 1]
Steps = app_commands.Range[int, 1, STEPS_MAX]
Guidance = app_commands.Range[float, GUIDANCE_MIN, GUIDANCE_MAX]
Lora = app_commands.Range[str, 1, CHOICE_LENGTH]
LoraStrength = app_commands.Range[float, -STRENGTH_MAX, STRENGTH_MAX]
Model = app_commands.Range[str, 1, CHOICE_LENGTH]


class Imagine(commands.Cog):
    """The main command, and its form."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot
        if len(bot.services.models) == 1:
            for command in (self.imagine, self.compose):
                leave_out(command, "model")
        if not any(model.alpha for model in bot.services.settings.models):
            for command in (self.imagine, self.compose):
                leave_out(command, "transparent")

    @app_commands.command(description=mark("Draw a picture from a description."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    @app_commands.describe(
        prompt=mark("What the picture shows."),
        image=mark("A picture to start from."),
        strength=mark("How far to leave that picture: 0.05 hardly, 1 altogether."),
        negative=mark("What the picture should not show."),
        **_ABOUT,
    )
    @app_commands.choices(aspect=_ASPECTS, quality=_QUALITIES)
    async def imagine(
        self,
        interaction: discord.Interaction[ImageBot],
        prompt: app_commands.Range[str, 1, PROMPT_LIMIT],
        aspect: str | None = None,
        quality: str | None = None,
        style: Style | None = None,
        count: Count = 1,
        image: discord.Attachment | None = None,
        strength: app_commands.Range[float, STRENGTH_MIN, 1.0] | None = None,
        negative: app_commands.Range[str, 1, PROMPT_LIMIT] | None = None,
        seed: Seed | None = None,
        steps: Steps | None = None,
        guidance: Guidance | None = None,
        private: bool | None = None,
        lora: Lora | None = None,
        lora_strength: LoraStrength | None = None,
        model: Model | None = None,
        transparent: bool | None = None,
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
        )
        if image is None and strength is not None:
            raise InvalidRequest(_("A strength is only of use together with an image."))
        fetch = None
        if image is not None:
            check_attachment(image)
            fetch = partial(self.bot.services.fetcher.fetch, image)
            asked = replace(asked, strength=DEFAULT_STRENGTH if strength is None else strength)
        wish = await compose_here(interaction, self.bot, asked)
        await self.bot.services.intake.from_interaction(
            interaction, wish.request, model=wish.model, picture=fetch, sizes=wish.sizes
        )

    @app_commands.command(description=mark("Write a prompt of many lines in a form."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    @app_commands.describe(**_ABOUT)
    @app_commands.choices(aspect=_ASPECTS, quality=_QUALITIES)
    async def compose(
        self,
        interaction: discord.Interaction[ImageBot],
        aspect: str | None = None,
        quality: str | None = None,
        style: Style | None = None,
        count: Count = 1,
        seed: Seed | None = None,
        steps: Steps | None = None,
        guidance: Guidance | None = None,
        private: bool | None = None,
        lora: Lora | None = None,
        lora_strength: LoraStrength | None = None,
        model: Model | None = None,
        transparent: bool | None = None,
    ) -> None:
        """Open a form for the prompt and the negative prompt, which keeps the options."""
        asked = Asked(
            "",
            aspect=aspect,
            quality=quality,
            count=count,
            seed=seed,
            guidance=guidance,
            steps=steps,
            style=style,
            private=private,
            lora=lora,
            lora_strength=lora_strength,
            model=model,
            transparent=transparent,
        )
        choice = await choice_for(interaction, self.bot, model)
        around = await surroundings(
            self.bot, choice.spec, interaction.user.id, interaction.guild_id
        )
        if model is not None:
            asked = replace(asked, model=short_name(choice.spec.name))
        # A wrong name is told at once; a file's name has no separator of the form's in it.
        if (chosen := chosen_lora(asked, around)) is not None:
            asked = replace(asked, lora=chosen.file)
        if transparent and not around.model.alpha:
            raise InvalidRequest(no_transparency(around.model, around.offered))
        form = PromptForm.about(replace(asked, negative=default_negative(around)))
        if not form.fits:
            raise InvalidRequest(
                _("With so many options the form cannot open; please use /imagine with them.")
            )
        await form.open(interaction)

    @imagine.autocomplete("style")
    @compose.autocomplete("style")
    async def _styles(
        self, interaction: discord.Interaction[ImageBot], current: str
    ) -> list[app_commands.Choice[str]]:
        own = await self.bot.services.preferences.styles(interaction.guild_id)
        wanted = current.strip().casefold()
        return [
            app_commands.Choice(name=style.title[:CHOICE_LENGTH], value=style.name)
            for style in (*own, *BUILT_IN)
            if wanted in style.name.casefold() or wanted in style.title.casefold()
        ][:CHOICES]

    @imagine.autocomplete("lora")
    @compose.autocomplete("lora")
    async def _loras(
        self, interaction: discord.Interaction[ImageBot], current: str
    ) -> list[app_commands.Choice[str]]:
        try:
            choice = await choice_for(interaction, self.bot, interaction.namespace.model)
        except UserError:  # A model that is not to be had has no LoRAs.
            return []
        loras = await loras_of(self.bot, choice.spec)
        return [
            app_commands.Choice(name=choice.name[:CHOICE_LENGTH], value=choice.name)
            for choice in loras.like(current)
        ][:CHOICES]

    @imagine.autocomplete("model")
    @compose.autocomplete("model")
    async def _models(
        self, interaction: discord.Interaction[ImageBot], current: str
    ) -> list[app_commands.Choice[str]]:
        return model_choices((await models_for(interaction, self.bot)).allowed, current)


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    await bot.add_cog(Imagine(bot))
