"""Buttons and menus whose `custom_id` is all their state, so that they work after a restart."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self, cast

import discord
from typing_extensions import override

from bot.client.answers import answer_error, use_language
from bot.client.bot import ImageBot


class Control(discord.ui.DynamicItem[discord.ui.Item[Any]], template=r"$^"):
    """A button or menu; a subclass gives its `template` and says what using it does."""

    def __init__(self, item: discord.ui.Item[Any], match: re.Match[str]) -> None:
        super().__init__(item)
        self.state = match
        """What the `custom_id` says, by the template's groups."""

    @classmethod
    @override
    async def from_custom_id(
        cls,
        interaction: discord.Interaction[Any],
        item: discord.ui.Item[Any],
        match: re.Match[str],
        /,
    ) -> Self:
        return cls(item, match)

    @property
    def chosen(self) -> Sequence[str]:
        """The values chosen in a menu."""
        return cast("discord.ui.Select[Any]", self.item).values

    @override
    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        await use_language(interaction)
        # discord.py only logs what a dynamic item raises, and the user would see no answer.
        try:
            await self.used(interaction, interaction.client)
        except Exception as error:  # noqa: BLE001 - answered, and logged where unforeseen
            await answer_error(interaction, error)

    @abstractmethod
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        """Do what the control is for."""
        raise NotImplementedError
