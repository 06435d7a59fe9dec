"""`/privacy`: one's own data, handed out or deleted."""

from __future__ import annotations

import asyncio
import io
import logging
import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import discord
from discord import app_commands
from discord.ext import commands
from typing_extensions import override

from bot.archive.export import Exported
from bot.archive.privacy import Deleted, Place
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.delivery.errors import FORESEEN, explain
from bot.errors import InvalidRequest
from bot.messages.command_mentions import linked
from bot.messages.discord_limits import FILE_BYTES
from bot.words import _, mark, ngettext

log = logging.getLogger(__name__)

_PART_BYTES: Final = FILE_BYTES
# Some 400 MB, which take minutes; the next command goes on from there.
_MOST_PARTS: Final = 40
# Each holds a part in memory, and copies of it while it is sent.
_AT_ONCE: Final = 2


class WipeButton(Control, template=r"wipe:mine"):
    """Deletes the presser's own data, after the question."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        # In place of the question, which is answered now.
        await interaction.response.edit_message(content=_("Deleting…"), view=None)
        deleted = await bot.services.privacy.delete(interaction.user.id)
        gone = await _delete_messages(bot, deleted.messages)
        await _tell(interaction, bot, _told(deleted, gone, _backup_days(bot)))


async def _tell(interaction: discord.Interaction[Any], bot: ImageBot, sentence: str) -> None:
    """Say what came of something long in its answer, or else in whatever way is left."""

    async def by_direct_message() -> None:
        channel = await bot.create_dm(discord.Object(interaction.user.id))
        await channel.send(sentence)

    for way in (
        lambda: interaction.edit_original_response(content=sentence),
        # The answer was dismissed meanwhile, or went with the rest of what was deleted.
        lambda: interaction.followup.send(sentence, ephemeral=True),
        # It took longer than the token lives.
        by_direct_message,
    ):
        try:
            await way()
        except FORESEEN as error:
            log.info("what came of it is to be told in another way: %s", explain(error))
        else:
            return


def _backup_days(bot: ImageBot) -> int:
    """Return for how many days the backups that the bot makes by itself are kept."""
    settings = bot.services.settings
    return math.ceil(settings.backup_every_hours * settings.backup_keep / 24)


def _told(deleted: Deleted, gone: int, backup_days: int) -> str:
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
    lines.append(_("What you used still counts for eight days, so that limits keep working."))
    if backup_days:
        lines.append(
            ngettext(
                "Backups that the bot makes by itself hold it for up to {count} more day.",
                "Backups that the bot makes by itself hold it for up to {count} more days.",
                backup_days,
            ).format(count=backup_days)
        )
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


@dataclass
class _Sending:
    """How far an export was sent."""

    reached: Place | None
    files: int = 0
    left_out: int = 0
    aside: bool = False
    """Whether its first file stands in the answer itself, where no other does."""

    def add(self, part: Exported) -> None:
        """Count a part that was sent."""
        self.files += 1
        self.reached = part.reached
        self.left_out += part.left_out

    def told(self, left: int | None) -> str:
        """Return what is said at the end; `left` jobs are not in it, None if all was sent."""
        if not self.files:
            return _("Discord did not take the first file. Please try again later.")
        lines = [
            ngettext(
                "Sent: {count} file, in our direct messages.",
                "Sent: {count} files, in our direct messages.",
                self.files,
            ).format(count=self.files)
        ]
        if self.aside:
            lines = [_("I cannot write to you, so here is the first file.")]
        if left is not None and self.reached is not None:
            lines.append(
                ngettext(
                    "⚠️ {count} of your jobs is not in it, or in part only. To go on: "
                    "`/privacy export after:{place}`",
                    "⚠️ {count} of your jobs are not in it, or in part only. To go on: "
                    "`/privacy export after:{place}`",
                    left,
                ).format(count=left, place=self.reached)
            )
        elif left is not None:
            lines.append(_("⚠️ Not everything could be sent. Please try again later."))
        if self.left_out:
            left_out = linked(
                ngettext(
                    "⚠️ {count} picture is in none of the files, since its own is gone or too "
                    "large; README.txt names it. `/show` brings large ones made smaller.",
                    "⚠️ {count} pictures are in none of the files, since their own are gone or too "
                    "large; README.txt names them. `/show` brings large ones made smaller.",
                    self.left_out,
                )
            )
            lines.append(left_out.format(count=self.left_out))
        return "\n".join(lines)


@app_commands.allowed_installs(guilds=True, users=True)
@app_commands.allowed_contexts(guilds=True, dms=True, private_channels=True)
class PrivacyCog(commands.GroupCog, group_name="privacy", group_description=mark("Your own data.")):
    """What is stored about a user belongs to them."""

    def __init__(self, bot: ImageBot) -> None:
        self.bot = bot
        self._exporting: set[int] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)

    @app_commands.command(description=mark("Get all that is stored about you, by direct message."))
    @app_commands.describe(after=mark("Go on where the last export ended: the word it named."))
    async def export(
        self,
        interaction: discord.Interaction[ImageBot],
        after: app_commands.Range[str, 1, 40] | None = None,
    ) -> None:
        """Send ZIP files with the user's rows and pictures; say what is not in them."""
        user_id = interaction.user.id
        if user_id in self._exporting:
            raise InvalidRequest(_("An export of your data is on its way already."))
        privacy = self.bot.services.privacy
        self._exporting.add(user_id)
        try:
            place = await privacy.place(user_id, after) if after is not None else None
            await interaction.response.defer(ephemeral=True, thinking=True)
            async with self._room, aclosing(privacy.export(user_id, _PART_BYTES, place)) as parts:
                sending = _Sending(place)
                async for part in parts:
                    full = sending.aside or sending.files == _MOST_PARTS
                    if full or not await self._send(interaction, part, sending):
                        left = await privacy.jobs_left(user_id, sending.reached)
                        break
                else:
                    left = None
        finally:
            self._exporting.discard(user_id)
        await _tell(interaction, self.bot, sending.told(left))

    async def _send(
        self, interaction: discord.Interaction[ImageBot], part: Exported, sending: _Sending
    ) -> bool:
        """Send a part by direct message, or where that is closed the first one in the answer."""
        number = sending.files + 1
        try:
            channel = await self.bot.create_dm(discord.Object(interaction.user.id))
            await channel.send(file=_file(part.data, number))
        except FORESEEN as error:
            log.info("file %d of an export could not be sent: %s", number, explain(error))
            if sending.files:
                return False
            try:
                await interaction.edit_original_response(attachments=[_file(part.data, number)])
            except FORESEEN as refused:
                log.info("nor in the answer: %s", explain(refused, by_token=True))
                return False
            sending.aside = True
        sending.add(part)
        return True

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
