"""Edits by words: `/edit`, the button under a picture, "Edit this picture" in a message's menu."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.catalogue.writers import writer
from bot.client.asking import models_for, require_room
from bot.client.attachments import check_attachment
from bot.client.bot import ImageBot
from bot.client.command_options import ENHANCE_CHOICES, leave_out, model_choices
from bot.client.controls import Control
from bot.client.edit_sources import attached, job_picture, last_picture, message_source
from bot.client.editing import Instruction, Source, edit_here, require_editor
from bot.client.forms import Form, FormValues, text_field, unreadable
from bot.client.jobs import known_job
from bot.domain.ids import JOB_ID_PATTERN, is_job_id
from bot.domain.request import COUNT_MAX, PROMPT_LIMIT, SEED_LIMIT
from bot.messages.discord_limits import CHOICE_LENGTH
from bot.messages.names import QUALITY_NAMES, REGION_NAMES
from bot.words import _, mark

_MORE_PICTURES: Final = 2
_QUALITIES: Final = [app_commands.Choice(name=n, value=v) for v, n in QUALITY_NAMES.items()]
_REGIONS: Final = [app_commands.Choice(name=n, value=v) for v, n in REGION_NAMES.items()]
_KEPT: Final = "kept"


class InstructionForm(Form, name="instruct"):
    """What is to be done to a picture.

    The state is the job's id and the picture's position, or `kept` and the id that a message's
    picture is kept under.
    """

    @classmethod
    def of_job(cls, job_id: str, position: int) -> InstructionForm:
        """Return the form for a picture of the bot's."""
        return cls(f"{job_id}.{position}")

    @classmethod
    def of_kept(cls, key: str, whose: int) -> InstructionForm:
        """Return the form for a picture that is kept for it; `whose` is a `Whose`."""
        return cls(f"{_KEPT}.{key}.{whose}")

    @override
    def title(self) -> str:
        return _("Edit the picture")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        options = [
            discord.SelectOption(label=_(label), value=name) for name, label in REGION_NAMES.items()
        ]
        region = discord.ui.Select[Any](
            custom_id="region", options=options, required=False, placeholder=_("The whole picture")
        )
        pictures = discord.ui.FileUpload[Any](
            custom_id="pictures", required=False, min_values=0, max_values=_MORE_PICTURES
        )
        about = _("What to change, such as: make it night; put the hat of picture 2 on her.")
        return [
            text_field("instruction", _("Instruction"), about=about),
            discord.ui.Label(
                text=_("Only this part"),
                description=_("To mark a part yourself, draw on a copy and reply with that."),
                component=region,
            ),
            discord.ui.Label(
                text=_("Further pictures"),
                description=_("The instruction can speak of them as picture 2 and picture 3."),
                component=pictures,
            ),
        ]

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        first = await self._source(interaction, bot)
        further = [attached(bot, file) for file in values.files.get("pictures", ())]
        region = next(iter(values.choices.get("region", ())), None)
        if region is not None and region not in REGION_NAMES:
            raise unreadable()
        text = values.texts["instruction"]
        await edit_here(interaction, bot, Instruction(text, [first, *further], region))

    async def _source(self, interaction: discord.Interaction[Any], bot: ImageBot) -> Source:
        match self.state.split("."):
            case [job_id, position] if is_job_id(job_id) and position in set("0123456789"):
                job = await known_job(bot, job_id, interaction.user.id, interaction.channel_id)
                return await job_picture(bot, job, int(position), interaction.user.id)
            case [kept, key, whose] if kept == _KEPT and whose in set("012"):
                fetch = partial(bot.services.gallery.kept, interaction.user.id, key)
                return Source.of_kept(fetch, int(whose))
            case _:
                raise unreadable()


class EditButton(Control, template=rf"instruct:(?P<job>{JOB_ID_PATTERN})(\.(?P<position>\d))?"):
    """Opens the form for an instruction about this picture."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        position = int(self.state["position"] or 0)
        job = await known_job(bot, self.state["job"], interaction.user.id, interaction.channel_id)
        source = await job_picture(bot, job, position, interaction.user.id)
        await require_editor(interaction, bot, source)
        await InstructionForm.of_job(job.id, position).open(interaction)


@app_commands.context_menu(name=mark("Edit this picture"))
@app_commands.allowed_installs(guilds=True, users=True)
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
async def edit_message(
    interaction: discord.Interaction[ImageBot], message: discord.Message
) -> None:
    """Open the form for an instruction about a message's picture."""
    bot = interaction.client
    services = bot.services
    await require_room(interaction, bot)
    source = await message_source(bot, message, interaction.user.id, interaction.channel_id)
    await require_editor(interaction, bot, source)
    if source.job is not None:
        form = InstructionForm.of_job(source.job.id, source.position)
    else:
        # See "Use as input": only this interaction tells the picture's address.
        user_id = interaction.user.id
        slot = services.fetch_slots.reserve(user_id)
        kept = services.gallery.keep_for_later(user_id, source.fetch, slot)
        form = InstructionForm.of_kept(kept, source.whose)
    await form.open(interaction)


class Edit(commands.Cog):
    """The command."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot
        if len(bot.services.models) == 1:
            leave_out(self.edit, "model")
        if writer(bot.services.models) is None:
            leave_out(self.edit, "enhance")

    @app_commands.command(description=mark("Change a picture by words."))
    @app_commands.allowed_installs(guilds=True, users=True)
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
    @app_commands.describe(
        instruction=mark("What to change, such as: make it night."),
        image=mark("The picture to edit; left out, your last one in this channel."),
        image2=mark("A second picture that the instruction speaks of."),
        image3=mark("A third picture that the instruction speaks of."),
        region=mark("Change only this part of the picture."),
        count=mark("How many pictures."),
        seed=mark("The same seed and settings draw the same picture again."),
        quality=mark("More steps take longer and show finer detail."),
        private=mark("Show the picture to you alone."),
        enhance=mark("Have the instruction rewritten: shown first, or drawn at once."),
        model=mark("Which model draws it."),
    )
    @app_commands.choices(quality=_QUALITIES, region=_REGIONS, enhance=ENHANCE_CHOICES)
    async def edit(
        self,
        interaction: discord.Interaction[ImageBot],
        instruction: app_commands.Range[str, 1, PROMPT_LIMIT],
        image: discord.Attachment | None = None,
        image2: discord.Attachment | None = None,
        image3: discord.Attachment | None = None,
        region: str | None = None,
        count: app_commands.Range[int, 1, COUNT_MAX] = 1,
        seed: app_commands.Range[int, 0, SEED_LIMIT - 1] | None = None,
        quality: str | None = None,
        private: bool | None = None,
        enhance: str | None = None,
        model: app_commands.Range[str, 1, CHOICE_LENGTH] | None = None,
    ) -> None:
        """Accept the edit; the courier brings the picture."""
        given = [one for one in (image, image2, image3) if one is not None]
        for one in given:
            check_attachment(one)
        sources = [attached(self.bot, one) for one in given]
        if image is None:
            sources.insert(0, await last_picture(interaction, self.bot))
        await edit_here(
            interaction,
            self.bot,
            Instruction(
                instruction,
                sources,
                region,
                count=count,
                seed=seed,
                quality=quality,
                private=private,
                enhance=enhance,
                model=model,
            ),
        )

    @edit.autocomplete("model")
    async def _models(
        self, interaction: discord.Interaction[ImageBot], current: str
    ) -> list[app_commands.Choice[str]]:
        allowed = (await models_for(interaction, self.bot)).allowed
        return model_choices([spec for spec in allowed if spec.references], current)


async def setup(bot: ImageBot) -> None:
    """Add the command, the button and the menu."""
    bot.add_dynamic_items(EditButton)
    bot.tree.add_command(edit_message)
    await bot.add_cog(Edit(bot))
