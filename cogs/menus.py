"""The menus of a message (right-click, Apps): its picture as input, its parameters."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import discord
from discord import app_commands
from typing_extensions import override

from bot.client.asking import STRENGTH_MIN, accept_wish, compose_here, require_room
from bot.client.bot import ImageBot
from bot.client.forms import Form, FormValues, text_field
from bot.client.jobs import known_job, own_job
from bot.client.lineage import details_for
from bot.client.message_pictures import first_picture
from bot.errors import InvalidRequest
from bot.jobs.compose import DEFAULT_STRENGTH, Asked
from bot.messages.details import code_block
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.pictures.exif import TooLongError
from bot.pictures.parameters_read import read_parameters
from bot.words import _, mark


class UseForm(Form, name="use"):
    """What to make of a picture. The state is the id it is kept under."""

    @override
    def title(self) -> str:
        return _("Make something of this picture")

    @override
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        about = _("How much to change the picture: 0.05 is hardly at all, 1 is completely.")
        return [
            text_field("prompt", _("Prompt")),
            text_field("strength", _("Strength"), f"{DEFAULT_STRENGTH:g}", about=about, longest=6),
        ]

    @override
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        # Forms of earlier versions say its size besides.
        kept = self.state.partition(",")[0]
        asked = Asked(values.texts["prompt"], strength=_strength(values.texts["strength"]))
        wish = await compose_here(interaction, bot, asked)
        fetch = partial(bot.services.gallery.kept, interaction.user.id, kept)
        await accept_wish(interaction, bot, wish, fetch)


def _strength(text: str) -> float:
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        value = 0.0
    if not STRENGTH_MIN <= value <= 1.0:
        raise InvalidRequest(_("The strength is a number from 0.05 to 1, such as 0.6."))
    return value


@app_commands.context_menu(name=mark("Use as input"))
@app_commands.allowed_installs(guilds=True, users=True)
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
async def use_as_input(
    interaction: discord.Interaction[ImageBot], message: discord.Message
) -> None:
    """Open a form for what to make of a message's picture."""
    bot = interaction.client
    services = bot.services
    await require_room(interaction, bot)
    own = own_job(message, bot)
    if own is not None:
        job = await known_job(bot, own[0], interaction.user.id, interaction.channel_id)
        image = await services.gallery.picture(job, own[1] or 0)
        fetch = partial(services.gallery.read, image)
    else:
        fetch = first_picture(message, services.fetcher)
    # The form cannot carry the picture's address, and only this interaction tells it: without the
    # message intent Discord hides other people's attachments. So it is fetched while they type.
    user_id = interaction.user.id
    slot = services.fetch_slots.reserve(user_id)
    kept = services.gallery.keep_for_later(user_id, fetch, slot)
    await UseForm(kept).open(interaction)


@app_commands.context_menu(name=mark("Show parameters"))
@app_commands.allowed_installs(guilds=True, users=True)
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
async def show_parameters(
    interaction: discord.Interaction[ImageBot], message: discord.Message
) -> None:
    """Show how a message's picture was made, by what the file says or what the bot remembers."""
    bot = interaction.client
    own = own_job(message, bot)
    if own is not None:
        job = await known_job(bot, own[0], interaction.user.id, interaction.channel_id)
        text = await details_for(bot, job, own[1], interaction.user.id, interaction.channel_id)
        await _send_long(interaction, text)
        return
    await bot.services.blocks.require_unblocked(interaction.user.id, interaction.guild_id)
    fetch = first_picture(message, bot.services.fetcher)
    await interaction.response.defer(ephemeral=True, thinking=True)
    try:
        async with bot.services.fetch_slots.reserve(interaction.user.id):
            found = await asyncio.to_thread(read_parameters, await fetch())
    except TooLongError:
        raise InvalidRequest(
            _("What this picture's file says about how it was made is too long to be read.")
        ) from None
    if found is None:
        raise InvalidRequest(_("This picture's file says nothing about how it was made."))
    head = _("Made with {program}:").format(program=found.program) if found.program else ""
    await _send_long(interaction, f"{head}\n{code_block(found.text)}".strip())


async def _send_long(interaction: discord.Interaction[Any], text: str) -> None:
    """Answer privately, with a file where the text is too long for a message."""
    content, files = text, list[discord.File]()
    if len(text) > MESSAGE_LENGTH:
        content = _("The parameters are long, so they come as a file.")
        files = [discord.File(io.BytesIO(text.encode()), "parameters.txt")]
    if interaction.response.is_done():
        await interaction.edit_original_response(content=content, attachments=files)
    else:
        await interaction.response.send_message(content, files=files, ephemeral=True)


MENUS: Final = (use_as_input, show_parameters)


async def setup(bot: ImageBot) -> None:
    """Add the menus."""
    for menu in MENUS:
        bot.tree.add_command(menu)
