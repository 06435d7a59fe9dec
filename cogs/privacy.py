"""`/privacy`: one's own data, handed out or deleted."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Sequence
from typing import Any, Final

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.archive.privacy import Deleted
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.delivery.errors import FORESEEN, explain
from bot.messages.discord_limits import FILE_BYTES
from bot.words import _, mark, ngettext

log = logging.getLogger(__name__)

# A part may come out somewhat larger than it is asked to be.
_PART_BYTES: Final = FILE_BYTES - 2**20
_MOST_PARTS: Final = 40


class WipeButton(Control, template=r"wipe:mine"):
    """Deletes the presser's own data, after the question."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        # In place of the question, which is answered now.
        await interaction.response.edit_message(content=_("Deleting…"), view=None)
        deleted = await bot.services.privacy.delete(interaction.user.id)
        gone = await _delete_messages(bot, deleted.messages)
        await interaction.edit_original_response(content=_told(deleted, gone))


def _told(deleted: Deleted, gone: int) -> str:
    lines = [
        ngettext(
            "Deleted: {count} job with its pictures, and your settings.",
            "Deleted: {count} jobs with their pictures, and your settings.",
            deleted.jobs,
        ).format(count=deleted.jobs)
    ]
    if left := len(deleted.messages) - gone:
        lines.append(
            ngettext(
                "{count} message could not be deleted; you may do that yourself.",
                "{count} messages could not be deleted; you may do that yourself.",
                left,
            ).format(count=left)
        )
    if deleted.still_open:
        lines.append(
            ngettext(
                "{count} job is not done yet and stays; cancel it, or try again afterwards.",
                "{count} jobs are not done yet and stay; cancel them, or try again afterwards.",
                deleted.still_open,
            ).format(count=deleted.still_open)
        )
    lines.append(_("What you used stays counted for eight days, so that limits hold."))
    return "\n".join(lines)


async def _delete_messages(bot: ImageBot, places: Sequence[tuple[int, int]]) -> int:
    """Delete the bot's own answers where it may; return how many are gone."""
    gone = 0
    for channel_id, message_id in places:
        message = bot.get_partial_messageable(channel_id).get_partial_message(message_id)
        try:
            await message.delete()
        except discord.NotFound:
            gone += 1
        except FORESEEN as error:
            log.info("an answer could not be deleted: %s", explain(error))
        else:
            gone += 1
    return gone


@app_commands.allowed_installs(guilds=True, users=True)
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
class PrivacyCog(commands.GroupCog, group_name="privacy", group_description=mark("Your own data.")):
    """What is stored about a user belongs to them."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot

    @app_commands.command(description=mark("Get all that is stored about you, by direct message."))
    async def export(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Send ZIP files with the user's rows and pictures."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        parts = await self.bot.services.privacy.export(interaction.user.id, _PART_BYTES)
        first = await asyncio.to_thread(next, parts)
        try:
            channel = await self.bot.create_dm(discord.Object(interaction.user.id))
            await channel.send(file=_file(first, 1))
        except FORESEEN as error:
            log.info("an export could not be sent: %s", explain(error))
            sentence = _("I cannot write to you, so here are the first pictures and all the data.")
            await interaction.edit_original_response(
                content=sentence, attachments=[_file(first, 1)]
            )
            return
        number = 1
        while number < _MOST_PARTS and (part := await asyncio.to_thread(next, parts, None)):
            number += 1
            await channel.send(file=_file(part, number))
        sentence = ngettext(
            "Sent: {count} file, in our direct messages.",
            "Sent: {count} files, in our direct messages.",
            number,
        )
        await interaction.edit_original_response(content=sentence.format(count=number))

    @app_commands.command(description=mark("Delete all that is stored about you."))
    async def delete(self, interaction: discord.Interaction[ImageBot]) -> None:
        """Ask first."""
        view = discord.ui.View(timeout=None)
        view.add_item(
            discord.ui.Button[discord.ui.View](
                style=discord.ButtonStyle.danger,
                label=_("Delete everything"),
                emoji="🗑️",
                custom_id="wipe:mine",
            )
        )
        view.stop()
        await interaction.response.send_message(
            _(
                "Delete all your pictures, prompts and settings, and the bot's messages with "
                "them? **Nothing is deleted until you press the button.** It cannot be undone."
            ),
            view=view,
            ephemeral=True,
        )


def _file(data: bytes, number: int) -> discord.File:
    return discord.File(io.BytesIO(data), f"my-data-{number}.zip")


async def setup(bot: ImageBot) -> None:
    """Add the cog."""
    bot.add_dynamic_items(WipeButton)
    await bot.add_cog(PrivacyCog(bot))
